//! Certificates for agents of add-ons, with keys that are made for them: an agent's credentials are laid into its cluster
//! here, so that there is nobody who would ask for them with a key of their own.
//!
//! Guarantees:
//! - of the names that begin with `system:open-cluster-management:` an agent gets those of its own add-on on its own
//!   cluster alone (`an_agent_gets_the_names_of_its_add_on_on_its_cluster`);
//! - by somebody else's CA it gets what was asked for, and by no other (`somebody_elses_ca_signs_what_was_asked_for`).

use std::time::Duration;

use freewheel_link::names::ClusterName;
use rcgen::{DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;

use crate::add_on_subject::{given_for, group, group_of_all};
use crate::authority::{Authority, AuthorityError, LEAF_VALIDITY_SECONDS};
use crate::leaf::{COMMON_NAME, ORGANIZATION, ORGANIZATIONAL_UNIT, encoded_subject, leaf};
use crate::pem::encode;
use crate::spoke_subject::UID;
use crate::validity::Validity;

/// What the agent of an add-on on one cluster is to be known by at the hub.
#[derive(Clone, Copy, Debug)]
pub struct AgentRequest<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The add-on.
    pub add_on: &'a str,
    /// UID of the ManagedClusterAddOn.
    pub uid: &'a str,
    /// UID of the ManagedCluster.
    pub cluster_uid: &'a str,
    /// The key of the cluster's device, as the annotation of the ManagedCluster has it; empty where none has come.
    pub agent_key: &'a str,
    /// Its name.
    pub user: &'a str,
    /// Its groups.
    pub groups: &'a [String],
    /// How long it is to be valid.
    pub life: Duration,
}

/// What an agent is to be known by where somebody else's CA counts.
#[derive(Clone, Copy, Debug)]
pub struct ForeignRequest<'a> {
    /// The add-on.
    pub add_on: &'a str,
    /// Its name.
    pub user: &'a str,
    /// Its groups.
    pub groups: &'a [String],
    /// Its organisational units.
    pub units: &'a [String],
    /// How long it is to be valid.
    pub life: Duration,
}

/// A certificate and its key, both in PEM.
pub struct IssuedPair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for IssuedPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key inside is nobody's business.
        f.write_str("IssuedPair")
    }
}

impl Authority {
    /// A key and a client certificate for the agent of an add-on.
    ///
    /// # Errors
    /// When it asks for names that are not its add-on's on its cluster, or the CA cannot sign.
    pub fn issue_agent(
        &self,
        asked: &AgentRequest<'_>,
        now: i64,
    ) -> Result<IssuedPair, AuthorityError> {
        check_names(asked)?;
        let mut subject = subject(asked.user, asked.groups, &[]);
        let given_for = given_for(asked.uid, asked.cluster_uid, asked.agent_key);
        subject.push((UID, &given_for));
        let life = self.client_life(seconds(asked.life), now)?;
        let usages = [KeyUsagePurpose::DigitalSignature];
        let purposes = [ExtendedKeyUsagePurpose::ClientAuth];
        self.issue_pair(&encoded_subject(&subject), asked.add_on, (&usages, &purposes), life)
    }

    /// The same by somebody else's CA, with the usages that Open Cluster Management gives it.
    ///
    /// # Errors
    /// When the CA cannot sign.
    pub fn issue_foreign(
        &self,
        asked: &ForeignRequest<'_>,
        now: i64,
    ) -> Result<IssuedPair, AuthorityError> {
        let subject = subject(asked.user, asked.groups, asked.units);
        let life = self.client_life(seconds(asked.life), now)?;
        let usages = [KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let purposes = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue_pair(&encoded_subject(&subject), asked.add_on, (&usages, &purposes), life)
    }

    fn issue_pair(
        &self,
        subject: &[u8],
        add_on: &str,
        (usages, purposes): (&[KeyUsagePurpose], &[ExtendedKeyUsagePurpose]),
        life: Validity,
    ) -> Result<IssuedPair, AuthorityError> {
        let mut params = leaf(DistinguishedName::new(), ExtendedKeyUsagePurpose::ClientAuth, life);
        params.key_usages = usages.to_vec();
        params.extended_key_usages = purposes.to_vec();
        // The host by which upstream's agents ask.
        let host = format!("{add_on}.addon.open-cluster-management.io");
        params.subject_alt_names = vec![SanType::DnsName(host.as_str().try_into()?)];
        let key = KeyPair::generate()?;
        let signed: CertificateDer<'static> = params.signed_by(&key, &self.issuer)?.der().clone();
        let certificate = encode("CERTIFICATE", &self.with_subject(&signed, subject)?);
        Ok(IssuedPair { certificate, key: key.serialize_pem() })
    }
}

fn seconds(life: Duration) -> i64 {
    i64::try_from(life.as_secs()).unwrap_or(LEAF_VALIDITY_SECONDS)
}

/// Groups first, as Go's encoder has them.
fn subject<'a>(
    user: &'a str,
    groups: &'a [String],
    units: &'a [String],
) -> Vec<(&'static [u64], &'a str)> {
    let groups = groups.iter().map(|group| (ORGANIZATION, &**group));
    let units = units.iter().map(|unit| (ORGANIZATIONAL_UNIT, &**unit));
    groups.chain(units).chain([(COMMON_NAME, user)]).collect()
}

fn check_names(asked: &AgentRequest<'_>) -> Result<(), AuthorityError> {
    let own = group(asked.cluster, asked.add_on);
    let refused = |name: &str| {
        let (add_on, cluster) = (asked.add_on, asked.cluster);
        let text = format!("{name:?} is no name of agents of the add-on {add_on:?} on {cluster}");
        Err(AuthorityError::Refused(text))
    };
    let agent = asked.user.strip_prefix(&own).and_then(|rest| rest.strip_prefix(":agent:"));
    if agent.is_none_or(str::is_empty) || asked.cluster.is_root() {
        return refused(asked.user);
    }
    if asked.uid.is_empty() || asked.cluster_uid.is_empty() {
        return refused(asked.user);
    }
    let all = group_of_all(asked.add_on);
    match asked.groups.iter().find(|group| ![&own, &all].contains(group)) {
        Some(other) => refused(other),
        None if asked.groups.contains(&own) => Ok(()),
        None => refused(asked.user),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa};
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;
    use crate::add_on_subject::AddOnSubject;
    use crate::certificate::Certificate;
    use crate::leaf;
    use crate::spoke_subject::SpokeSubject;

    /// 2027-01-01T00:00:00Z
    const NOW: i64 = 1_798_761_600;
    const DAY: Duration = Duration::from_secs(86_400);

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = leaf::subject("test-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Validity::new(NOW, 5 * LEAF_VALIDITY_SECONDS, 3600).unwrap().put(&mut params);
        let ca = params.self_signed(&key).unwrap().der().clone();
        Authority::new(ca, PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap()
    }

    fn issue(
        authority: &Authority,
        user: &str,
        groups: &[&str],
    ) -> Result<IssuedPair, AuthorityError> {
        let groups: Vec<String> = groups.iter().map(|it| (*it).to_owned()).collect();
        let cluster = ClusterName::try_from("pi-7").unwrap();
        let asked = AgentRequest {
            cluster: &cluster,
            add_on: "web",
            uid: "u-1",
            cluster_uid: "u-2",
            agent_key: "sha256:ab",
            user,
            groups: &groups,
            life: 30 * DAY,
        };
        authority.issue_agent(&asked, NOW)
    }

    const OWN: &str = "system:open-cluster-management:cluster:pi-7:addon:web";
    const ALL: &str = "system:open-cluster-management:addon:web";

    #[test]
    fn an_agent_gets_the_names_of_its_add_on_on_its_cluster() {
        let authority = authority();
        let agent = format!("{OWN}:agent:web-agent");
        let issued = issue(&authority, &agent, &[OWN, ALL]).unwrap();
        assert_eq!(format!("{issued:?}"), "IssuedPair");
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let certificate = Certificate::read(&der).unwrap();
        assert!(authority.has_signed(&certificate));
        assert!(certificate.is_of(&KeyPair::from_pem(&issued.key).unwrap()));
        assert_eq!(certificate.groups().collect::<Vec<_>>(), [OWN, ALL]);
        assert_eq!(certificate.validity().to, NOW + 30 * 86_400 - 300);
        assert!(!certificate.may_serve());
        let cluster = ClusterName::try_from("pi-7").unwrap();
        let (add_on, uid, cluster_uid) = ("web".to_owned(), "u-1".to_owned(), "u-2".to_owned());
        let agent_key = "sha256:ab".to_owned();
        let expected = AddOnSubject { cluster, add_on, uid, cluster_uid, agent_key };
        assert_eq!(AddOnSubject::read(&certificate), Some(expected));
        assert_eq!(SpokeSubject::read(&certificate), None);
        let elsewhere = "system:open-cluster-management:cluster:pi-8:addon:web";
        let device = "system:open-cluster-management:pi-7";
        for (user, groups) in [
            (&*format!("{elsewhere}:agent:web-agent"), &[OWN][..]),
            (&*agent, &[OWN, elsewhere]),
            (&*agent, &[OWN, "system:masters"]),
            (&*agent, &[OWN, device]),
            (&*agent, &[ALL]),
            (&*format!("{OWN}-2:agent:a"), &[OWN]),
            (&*format!("{OWN}:agent:"), &[OWN]),
            (&*format!("{device}:agent"), &[OWN]),
            ("jane", &[OWN]),
        ] {
            let refused = issue(&authority, user, groups);
            assert!(matches!(refused, Err(AuthorityError::Refused(_))), "{user} {groups:?}");
        }
    }

    #[test]
    fn somebody_elses_ca_signs_what_was_asked_for() {
        let authority = authority();
        let (groups, units) = (["g1".to_owned(), "g2".to_owned()], ["o1".to_owned()]);
        let asked = ForeignRequest {
            add_on: "web",
            user: "user1",
            groups: &groups,
            units: &units,
            life: DAY,
        };
        let issued = authority.issue_foreign(&asked, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let certificate = Certificate::read(&der).unwrap();
        assert!(authority.has_signed(&certificate) && certificate.may_serve());
        assert_eq!(certificate.name(), Some("user1"));
        assert_eq!(certificate.groups().collect::<Vec<_>>(), ["g1", "g2"]);
        assert_eq!(certificate.attribute(ORGANIZATIONAL_UNIT), Some("o1"));
        assert_eq!(AddOnSubject::read(&certificate), None);
    }

    #[test]
    fn an_agent_is_of_one_add_on_on_one_cluster() {
        let read = |name: &str, group: &str, uid: Option<&str>| {
            let mut attributes = vec![(ORGANIZATION, group), (COMMON_NAME, name)];
            attributes.extend(uid.map(|uid| (UID, uid)));
            let authority = authority();
            let life = authority.client_life(86_400, NOW).unwrap();
            let params = leaf(DistinguishedName::new(), ExtendedKeyUsagePurpose::ClientAuth, life);
            let key = KeyPair::generate().unwrap();
            let signed = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
            let signed = authority.with_subject(&signed, &encoded_subject(&attributes)).unwrap();
            AddOnSubject::read(&Certificate::read(&signed).unwrap()).map(|it| it.add_on)
        };
        let name = format!("{OWN}:agent:a");
        assert_eq!(read(&name, OWN, Some("u/c/k")).as_deref(), Some("web"));
        assert_eq!(read(&name, OWN, Some("u/c/")).as_deref(), Some("web"));
        assert_eq!(read(&name, OWN, None), None);
        assert_eq!(read(&name, OWN, Some("u")), None, "it is not said of which cluster");
        assert_eq!(read(&name, OWN, Some("u/c")), None, "nor of which device");
        assert_eq!(read(&name, ALL, Some("u/c/k")), None);
        assert_eq!(read(&format!("{OWN}:agent:"), OWN, Some("u/c/k")), None);
        assert_eq!(read("jane", OWN, Some("u/c/k")), None);
    }
}

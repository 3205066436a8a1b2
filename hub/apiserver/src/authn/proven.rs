//! Whom the certificate of a connection names.
//!
//! Guarantees:
//! - a spoke's certificate names its cluster and the UID that this had, that of an add-on's agent its add-on with the UID
//!   that this had, a person's a name and groups (`a_certificate_names_a_spoke_an_agent_or_a_person`).

use std::sync::Arc;

use freewheel_hub_pki::{AddOnSubject, Certificate, SpokeSubject, is_of_add_ons};
use rustls_pki_types::CertificateDer;

use super::agent::{Agent, AgentOf};
use super::user::{AUTHENTICATED, User};
use crate::tls::Tls;

/// Whom a certificate names that one of our authorities has signed. It is read once for all requests of its
/// connection: a signature costs more than a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// The agent of a cluster.
    Spoke(Arc<User>),
    /// The agent of an add-on.
    AddOn(Arc<User>, AddOnSubject),
    /// Anybody else.
    Person(Arc<User>),
}

impl Proven {
    /// Of a connection's certificates; `None` for none and for what we do not trust.
    #[must_use]
    pub fn of(tls: &Tls, chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let chain = chain?;
        if !tls.trusts(chain) {
            return None;
        }
        Self::read(&Certificate::read(chain.first()?)?)
    }

    fn read(certificate: &Certificate<'_>) -> Option<Self> {
        let name = certificate.name().filter(|name| !name.is_empty())?.to_owned();
        let groups = certificate.groups().map(str::to_owned);
        let groups = groups.chain([AUTHENTICATED.to_owned()]).collect();
        let user = User { name, groups, until: Some(certificate.validity().to), ..User::default() };
        // It is told first: a cluster may be called as what agents' names begin with.
        if let Some(agent) = SpokeSubject::read(certificate) {
            let uid = agent.uid.clone();
            let of = AgentOf::Cluster(agent, certificate.fingerprint());
            let agent = Some(Arc::new(Agent { name: user.name.clone(), of }));
            return Some(Self::Spoke(Arc::new(User { uid, agent, ..user })));
        }
        if is_of_add_ons(&user.name) {
            // One of these names that is not wholly an agent's is nobody's.
            let of = AddOnSubject::read(certificate)?;
            let agent =
                Some(Arc::new(Agent { name: user.name.clone(), of: AgentOf::AddOn(of.clone()) }));
            return Some(Self::AddOn(Arc::new(User { agent, ..user }), of));
        }
        Some(Self::Person(Arc::new(user)))
    }

    /// Who that is.
    #[must_use]
    pub fn user(&self) -> &Arc<User> {
        let (Self::Spoke(user) | Self::AddOn(user, _) | Self::Person(user)) = self;
        user
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_pki::{agent_group, agent_name};
    use freewheel_link::names::ClusterName;
    use http::HeaderMap;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;
    use crate::authn::{Authenticators, People, Shown};

    fn proven(name: &str, group: &str, uid: &str) -> Option<Proven> {
        let mut params = CertificateParams::default();
        let subject = &mut params.distinguished_name;
        *subject = rcgen::DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        subject.push(DnType::OrganizationName, group);
        subject.push(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]), uid);
        let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Proven::read(&Certificate::read(signed.der()).unwrap())
    }

    async fn caller(name: &str, group: &str, uid: &str) -> Arc<User> {
        let proven = proven(name, group, uid).unwrap();
        let shown = Shown { certificate: Some(&proven), headers: &HeaderMap::new(), cluster: None };
        Authenticators::of(vec![Box::new(People)]).user(&shown, 0).await.unwrap()
    }

    #[tokio::test]
    async fn a_certificate_names_a_spoke_an_agent_or_a_person() {
        let pi = ClusterName::try_from("pi-7").unwrap();
        let spoke = proven(&agent_name(&pi), &agent_group(&pi), "u-1").unwrap().user().clone();
        assert_eq!((&*spoke.name, &*spoke.uid), (&*agent_name(&pi), "u-1"));
        assert_eq!(spoke.groups, [agent_group(&pi), AUTHENTICATED.to_owned()]);
        // Who is not in the group of its name is no spoke.
        let person = caller(&agent_name(&pi), "people", "u-1").await;
        assert_eq!((&*person.uid, person.is_stranger()), ("", false));
        assert!(person.until.is_some());
        let group = "system:open-cluster-management:cluster:pi-7:addon:web";
        for odd in ["cluster", "addon"] {
            let odd = ClusterName::try_from(odd).unwrap();
            let spoke = proven(&agent_name(&odd), &agent_group(&odd), "u-1");
            assert!(matches!(&spoke, Some(Proven::Spoke(_))), "{odd} is a name as any other");
        }
        let agent = proven(&format!("{group}:agent:web-agent"), group, "u-2/u-1/k").unwrap();
        let (add_on, uid, cluster_uid) = ("web".to_owned(), "u-2".to_owned(), "u-1".to_owned());
        let agent_key = "k".to_owned();
        let of = AddOnSubject { cluster: pi, add_on, uid, cluster_uid, agent_key };
        assert!(matches!(&agent, Proven::AddOn(_, own) if *own == of), "{agent:?}");
        assert_eq!(agent.user().groups, [group, AUTHENTICATED]);
        assert_eq!(proven(&format!("{group}:agent:web-agent"), "people", "u-2/u-1/k"), None);
    }
}

//! Certificates for people, by the rules of the signer `kubernetes.io/kube-apiserver-client`.
//!
//! Guarantees:
//! - a certificate has the subject and other names that were asked for, byte by byte, for as long as was asked for
//!   (`a_persons_certificate_has_the_subject_and_the_time_that_were_asked_for`);
//! - it is never a spoke's, an administrator's or that of an add-on's agent
//!   (`nobody_becomes_an_administrator_or_a_spoke_by_a_signature`), and nobody reads more in it than was looked at
//!   (`a_subject_that_others_read_more_in_is_not_signed`), or another name (`a_subject_of_several_names_is_not_signed`);
//! - it is for clients alone (`usages_are_those_of_a_client`) and never outlives the CA
//!   (`a_certificate_never_outlives_the_ca`).

use freewheel_link::identities::MASTERS;
use rcgen::{DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose, SigningKey as _};
use rustls_pki_types::CertificateDer;

use crate::add_on_subject::is_of_add_ons;
use crate::authority::{Authority, AuthorityError, LEAF_VALIDITY_SECONDS};
use crate::leaf::leaf;
use crate::request::{Request, VerifiedRequest};
use crate::spoke_subject::SPOKES;
use crate::validity::{HOUR_SECONDS, Validity};

/// How far back the time of a person's certificate reaches, for clocks that are behind; as
/// kube-controller-manager does it.
const CLIENT_BACKDATE_SECONDS: i64 = 5 * 60;
/// A certificate that lives shorter than this ends when it was asked to, though it begins earlier.
const SHORT_VALIDITY_SECONDS: i64 = 8 * HOUR_SECONDS;
/// version, serial, algorithm, issuer, validity, subject, key, extensions (RFC 5280, 4.1)
const CERTIFICATE_PARTS: usize = 8;
const SUBJECT_PART: usize = 5;

/// What a person asks to have signed.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// The request, in PEM.
    pub pem: &'a [u8],
    /// What the certificate is for, in the words of certificates.k8s.io.
    pub usages: &'a [String],
    /// How long it is wanted to be valid.
    pub life: std::time::Duration,
}

impl Authority {
    /// A client certificate with the request's subject and key, by the rules of
    /// `kubernetes.io/kube-apiserver-client`.
    ///
    /// # Errors
    /// When the request is malformed, or asks for what nobody gets this way.
    pub fn sign_client(
        &self,
        wanted: &ClientRequest<'_>,
        now: i64,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let csr = Request::in_pem(wanted.pem)?;
        let asked = VerifiedRequest::read(&csr)?;
        check_claims(&asked)?;
        let usages = client_usages(wanted.usages)?;
        let other_names = asked.alternative_names()?;
        let life = self.client_life(
            i64::try_from(wanted.life.as_secs()).unwrap_or(LEAF_VALIDITY_SECONDS),
            now,
        )?;
        let mut params = leaf(DistinguishedName::new(), ExtendedKeyUsagePurpose::ClientAuth, life);
        (params.key_usages, params.subject_alt_names) = (usages, other_names);
        let leaf = self.sign(&params, &asked)?;
        self.with_subject(&leaf, asked.subject())
    }

    /// So long from now on, and no longer than the CA.
    pub(crate) fn client_life(&self, seconds: i64, now: i64) -> Result<Validity, AuthorityError> {
        let end = self.validity().to;
        if end <= now {
            return Err(AuthorityError::Expired);
        }
        let seconds = if seconds < SHORT_VALIDITY_SECONDS {
            seconds
        } else {
            seconds - CLIENT_BACKDATE_SECONDS
        };
        let life = Validity::new(now, seconds, CLIENT_BACKDATE_SECONDS)?;
        Ok(Validity { to: life.to.min(end), ..life })
    }

    /// The same certificate for this subject, byte by byte: rcgen keeps one value of each kind, and
    /// somebody in several groups has several organisations.
    pub(crate) fn with_subject(
        &self,
        leaf: &CertificateDer<'_>,
        subject: &[u8],
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let (mut parts, algorithm) =
            parts(leaf).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        subject.clone_into(&mut parts[SUBJECT_PART]);
        let tbs = sequence(|tbs| {
            for part in &parts {
                tbs.next().write_der(part);
            }
        });
        let signature = self.issuer.key().sign(&tbs)?;
        let signed = sequence(|certificate| {
            certificate.next().write_der(&tbs);
            certificate.next().write_der(&algorithm);
            certificate.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
        Ok(signed.into())
    }
}

fn sequence(write: impl FnOnce(&mut yasna::DERWriterSeq<'_>)) -> Vec<u8> {
    yasna::construct_der(|der| der.write_sequence(write))
}

/// What the CA signs in a certificate, element by element, and the algorithm that it signs with.
fn parts(leaf: &[u8]) -> yasna::ASN1Result<([Vec<u8>; CERTIFICATE_PARTS], Vec<u8>)> {
    yasna::parse_der(leaf, |certificate| {
        certificate.read_sequence(|certificate| {
            let tbs = certificate.next().read_sequence(|tbs| {
                let mut parts = <[Vec<u8>; CERTIFICATE_PARTS]>::default();
                for part in &mut parts {
                    *part = tbs.next().read_der()?;
                }
                Ok(parts)
            })?;
            let algorithm = certificate.next().read_der()?;
            let _signature = certificate.next().read_der()?;
            Ok((tbs, algorithm))
        })
    })
}

/// Nobody becomes an administrator or a spoke by a signature alone.
fn check_claims(asked: &VerifiedRequest<'_>) -> Result<(), AuthorityError> {
    let (names, groups) = asked.claims()?;
    if groups.contains(&MASTERS) {
        let text = format!("the group {MASTERS:?} is not given to anybody by a signing request");
        return Err(AuthorityError::Refused(text));
    }
    if 1 < names.len() {
        let text = "its subject has several common names, of which readers take one or another";
        return Err(AuthorityError::Refused(text.to_owned()));
    }
    let ours = names.iter().chain(&groups).find(|name| name.starts_with(SPOKES));
    let Some(name) = ours else { return Ok(()) };
    Err(AuthorityError::Refused(if is_of_add_ons(name) {
        format!(
            "{name:?} is the name of an add-on's agent, which gets its certificate in a Secret of its own cluster, by the \
             registration of its add-on"
        )
    } else {
        format!(
            "{name:?} is the name of a spoke: a device gets its certificate when it joins, see \
             `hub token create`"
        )
    }))
}

/// Which bits of a key's usage were asked for; the words are kube-controller-manager's.
fn client_usages(usages: &[String]) -> Result<Vec<KeyUsagePurpose>, AuthorityError> {
    let mut bits = Vec::new();
    let mut client = false;
    for usage in usages {
        match usage.as_str() {
            "digital signature" => bits.push(KeyUsagePurpose::DigitalSignature),
            "key encipherment" => bits.push(KeyUsagePurpose::KeyEncipherment),
            "client auth" => client = true,
            other => {
                let text = format!("invalid usage for client certificate: {other}");
                return Err(AuthorityError::Refused(text));
            }
        }
    }
    if !client {
        let text = "missing required usage for client certificate: client auth";
        return Err(AuthorityError::Refused(text.to_owned()));
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freewheel_link::names::ClusterName;
    use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, KeyPair};
    use rustls_pki_types::PrivateKeyDer;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;
    use crate::certificate::Certificate;
    use crate::leaf::subject;
    use crate::request::RequestError;
    use crate::spoke_subject::{agent_group, agent_name};

    /// 2027-01-01T00:00:00Z
    const NOW: i64 = 1_798_761_600;
    const CA: Validity = Validity { from: NOW - HOUR_SECONDS, to: NOW + 5 * LEAF_VALIDITY_SECONDS };

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CA.put(&mut params);
        let ca = params.self_signed(&key).unwrap().der().clone();
        let ca_key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Authority::new(ca, ca_key).unwrap()
    }

    fn request(name: &str, group: &str) -> String {
        let mut params = CertificateParams::new(["jane.example".to_owned()]).unwrap();
        params.distinguished_name = subject(name, Some(group));
        // rcgen takes another kind for another attribute: two groups in one subject.
        let organisation = DnType::CustomDnType(vec![2, 5, 4, 10]);
        params.distinguished_name.push(organisation, "ops");
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    fn sign(
        pem: &str,
        usages: &[&str],
        life: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let wanted = ClientRequest { pem: pem.as_bytes(), usages: &usages, life };
        let authority = authority();
        let signed = authority.sign_client(&wanted, NOW)?;
        let (_, parsed) = X509Certificate::from_der(&signed).unwrap();
        let (_, ca) = X509Certificate::from_der(authority.ca()).unwrap();
        parsed.verify_signature(Some(ca.public_key())).unwrap();
        Ok(signed)
    }

    const SHORTLY: Duration = Duration::from_secs(3600);

    #[test]
    fn a_persons_certificate_has_the_subject_and_the_time_that_were_asked_for() {
        let signed = sign(&request("jane", "dev"), &["client auth", "digital signature"], SHORTLY);
        let signed = signed.unwrap();
        let (_, parsed) = X509Certificate::from_der(&signed).unwrap();
        let groups: Vec<_> =
            parsed.subject().iter_organization().map(|o| o.as_str().unwrap()).collect();
        assert_eq!(groups, ["dev", "ops"]);
        assert_eq!(parsed.subject().iter_common_name().next().unwrap().as_str(), Ok("jane"));
        assert_eq!(parsed.validity().not_before.timestamp(), NOW - 300);
        assert_eq!(parsed.validity().not_after.timestamp(), NOW + 3600);
        assert!(!parsed.is_ca());
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_encipherment() && !usage.key_cert_sign());
        let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.client_auth && !purposes.server_auth);
        let names = parsed.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 1);
    }

    #[test]
    fn a_certificate_never_outlives_the_ca() {
        let signed =
            sign(&request("jane", "dev"), &["client auth"], SHORTLY * 24 * 365 * 9).unwrap();
        assert_eq!(Certificate::read(&signed).unwrap().validity().to, CA.to);
    }

    #[track_caller]
    fn refused(name: &str, group: &str, usages: &[&str], why: &str) {
        match sign(&request(name, group), usages, SHORTLY) {
            Err(AuthorityError::Refused(text)) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nobody_becomes_an_administrator_or_a_spoke_by_a_signature() {
        refused("jane", MASTERS, &["client auth"], MASTERS);
        let spoke = ClusterName::try_from("pi-7").unwrap();
        refused(&agent_name(&spoke), "dev", &["client auth"], "hub token create");
        refused("jane", &agent_group(&spoke), &["client auth"], "hub token create");
        let group = "system:open-cluster-management:cluster:pi-7:addon:web";
        let agent = format!("{group}:agent:web-agent");
        for (name, group) in [(&*agent, "dev"), ("jane", group)] {
            refused(name, group, &["client auth"], "registration of its add-on");
        }
        let all = "system:open-cluster-management:addon:web";
        refused("jane", all, &["client auth"], "registration of its add-on");
    }

    #[test]
    fn a_subject_that_others_read_more_in_is_not_signed() {
        let texts = [
            DnValue::BmpString(MASTERS.try_into().unwrap()),
            DnValue::TeletexString(MASTERS.try_into().unwrap()),
            DnValue::UniversalString(MASTERS.try_into().unwrap()),
        ];
        for text in texts {
            for kind in [DnType::OrganizationName, DnType::CommonName, DnType::LocalityName] {
                let mut params = CertificateParams::default();
                params.distinguished_name = subject("jane", Some("dev"));
                params.distinguished_name.push(kind, text.clone());
                let asked = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
                let signed = sign(&asked.pem().unwrap(), &["client auth"], SHORTLY);
                let unread = matches!(signed, Err(AuthorityError::Request(RequestError::Unread)));
                assert!(unread, "{text:?}: {signed:?}");
            }
        }
    }

    #[test]
    fn a_subject_of_several_names_is_not_signed() {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("jane", Some("dev"));
        // rcgen takes another kind for another attribute.
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "admin");
        let asked = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        match sign(&asked.pem().unwrap(), &["client auth"], SHORTLY) {
            Err(AuthorityError::Refused(text)) => assert!(text.contains("several common names")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn usages_are_those_of_a_client() {
        let text = "invalid usage for client certificate: server auth";
        refused("jane", "dev", &["client auth", "server auth"], text);
        let text = "missing required usage for client certificate: client auth";
        refused("jane", "dev", &["digital signature"], text);
    }
}

//! A certificate signing request (PKCS #10): made, read, judged.

use std::net::IpAddr;

use freewheel_link::digest::Digest;
use freewheel_link::message::bounded;
use rcgen::{KeyPair, PublicKeyData as _, SanType, SigningKey as _, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use yasna::Tag;
use yasna::models::ObjectIdentifier;

use crate::leaf::{COMMON_NAME, ORGANIZATION, encoded_subject};
use crate::pem::encode;

/// Why a request is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It cannot be made.
    #[error("no request can be made")]
    Unmade(#[source] rcgen::Error),
    /// No PEM block of one.
    #[error("{0}")]
    Pem(String),
    /// Not its form.
    #[error("{0}")]
    Malformed(String),
    /// More than one request.
    #[error("something follows it")]
    Followed,
    /// Somebody else may have written it.
    #[error(
        "its own key has not signed it, or is of a kind that is not taken (RSA of 2048 to 8192 bits, ECDSA P-256 or \
         P-384, Ed25519)"
    )]
    Unsigned,
    /// Others may read more in it than is read here.
    #[error(
        "an attribute of its subject is of a kind that is not read (UTF8String, PrintableString, IA5String and \
         NumericString are)"
    )]
    Unread,
}

/// Whose signature a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Its own key's: its sender has it.
    Own,
    /// Of an algorithm that is not known here; somebody else may know it.
    Unknown,
    /// Nobody's, or of a key of a size that is not taken.
    Wrong,
}

/// A request of the right form. Nothing in it is proven.
#[derive(Debug)]
pub struct Request<'a> {
    parsed: X509CertificationRequest<'a>,
    /// Nothing follows it.
    alone: bool,
}

impl<'a> Request<'a> {
    /// The first request in a PEM text, in DER.
    ///
    /// # Errors
    /// When there is none.
    pub fn in_pem(pem: &[u8]) -> Result<CertificateSigningRequestDer<'static>, RequestError> {
        CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|error| RequestError::Pem(error.to_string()))
    }

    /// Reads DER.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(der: &'a [u8]) -> Result<Self, RequestError> {
        let (rest, parsed) = X509CertificationRequest::from_der(der).map_err(malformed)?;
        Ok(Self { parsed, alone: rest.is_empty() })
    }

    /// Whether its sender has the key.
    #[must_use]
    pub fn signature(&self) -> Signature {
        match self.parsed.verify_signature() {
            Ok(()) => Signature::Own,
            Err(X509Error::SignatureUnsupportedAlgorithm) => Signature::Unknown,
            Err(_) => Signature::Wrong,
        }
    }

    /// Every common name and every organisation of its subject.
    ///
    /// # Errors
    /// When there is an attribute that others may read and we do not.
    pub fn claims(&self) -> Result<(Vec<&str>, Vec<&str>), RequestError> {
        let subject = &self.parsed.certification_request_info.subject;
        if subject.iter_attributes().any(|attribute| attribute.as_str().is_err()) {
            return Err(RequestError::Unread);
        }
        let names = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
        Ok((names.collect(), groups.collect()))
    }
}

/// A whole request that was signed by its own key. Nothing in it is true but that its sender has the key.
#[derive(Debug)]
pub struct VerifiedRequest<'a>(Request<'a>);

impl<'a> VerifiedRequest<'a> {
    /// Reads DER and checks its signature.
    ///
    /// # Errors
    /// When it is malformed or not signed by its own key.
    pub fn read(der: &'a [u8]) -> Result<Self, RequestError> {
        let request = Request::read(der)?;
        if !request.alone {
            return Err(RequestError::Followed);
        }
        match request.signature() {
            Signature::Own => Ok(Self(request)),
            Signature::Unknown | Signature::Wrong => Err(RequestError::Unsigned),
        }
    }

    /// Digest of its key's bits, which a certificate of the same key has, too.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        let info = &self.0.parsed.certification_request_info;
        Digest::of(&info.subject_pki.subject_public_key.data)
    }

    /// The subject as the sender has encoded it.
    pub(crate) fn subject(&self) -> &[u8] {
        self.0.parsed.certification_request_info.subject.as_raw()
    }

    /// See [`Request::claims`].
    pub(crate) fn claims(&self) -> Result<(Vec<&str>, Vec<&str>), RequestError> {
        self.0.claims()
    }

    /// The public key with its algorithm.
    pub(crate) fn key(&self) -> Result<SubjectPublicKeyInfo, RequestError> {
        let raw = self.0.parsed.certification_request_info.subject_pki.raw;
        SubjectPublicKeyInfo::from_der(raw).map_err(malformed)
    }

    /// Other names that it asks for: hosts, addresses, mailboxes, URIs.
    pub(crate) fn alternative_names(&self) -> Result<Vec<SanType>, RequestError> {
        let mut names = Vec::new();
        for extension in self.0.parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(asked) = extension else { continue };
            for name in &asked.general_names {
                names.extend(alternative(name)?);
            }
        }
        Ok(names)
    }
}

/// What is of another form is left out, as kube-controller-manager does.
fn alternative(name: &GeneralName<'_>) -> Result<Option<SanType>, RequestError> {
    Ok(Some(match name {
        GeneralName::DNSName(host) => SanType::DnsName((*host).try_into().map_err(malformed)?),
        GeneralName::RFC822Name(mail) => {
            SanType::Rfc822Name((*mail).try_into().map_err(malformed)?)
        }
        GeneralName::URI(uri) => SanType::URI((*uri).try_into().map_err(malformed)?),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            SanType::IpAddress(
                address.map_err(|_| malformed("an address has neither 4 nor 16 bytes"))?,
            )
        }
        _ => return Ok(None),
    }))
}

fn malformed(error: impl std::fmt::Display) -> RequestError {
    RequestError::Malformed(bounded(error.to_string(), 200))
}

/// A request for this name and these groups, and its new key, both in PEM.
///
/// # Errors
/// When there is no randomness.
pub fn signing_request(name: &str, groups: &[&str]) -> Result<(String, String), RequestError> {
    make(name, groups).map_err(RequestError::Unmade)
}

/// By hand, for a subject of several groups.
fn make(name: &str, groups: &[&str]) -> Result<(String, String), rcgen::Error> {
    const ECDSA_WITH_SHA256: [u64; 7] = [1, 2, 840, 10045, 4, 3, 2];
    let key = KeyPair::generate()?;
    let organizations = groups.iter().map(|group| (ORGANIZATION, *group));
    let subject: Vec<_> = organizations.chain([(COMMON_NAME, name)]).collect();
    let info = yasna::construct_der(|info| {
        info.write_sequence(|info| {
            info.next().write_u8(0);
            info.next().write_der(&encoded_subject(&subject));
            info.next().write_der(&key.subject_public_key_info());
            info.next().write_tagged_implicit(Tag::context(0), |none| none.write_set(|_| {}));
        });
    });
    let signature = key.sign(&info)?;
    let request = yasna::construct_der(|request| {
        request.write_sequence(|request| {
            request.next().write_der(&info);
            request.next().write_sequence(|algorithm| {
                algorithm.next().write_oid(&ObjectIdentifier::from_slice(&ECDSA_WITH_SHA256));
            });
            request.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok((encode("CERTIFICATE REQUEST", &request), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_may_be_in_several_groups() {
        let (pem, key) = signing_request("jane", &["dev", "ops", "qa"]).unwrap();
        let csr = Request::in_pem(pem.as_bytes()).unwrap();
        let request = VerifiedRequest::read(&csr).unwrap();
        assert_eq!(request.claims(), Ok((vec!["jane"], vec!["dev", "ops", "qa"])));
        assert!(KeyPair::from_pem(&key).is_ok());
    }

    #[test]
    fn a_request_that_its_key_has_not_signed_is_none() {
        let (pem, _) = signing_request("jane", &["dev"]).unwrap();
        let mut csr = Request::in_pem(pem.as_bytes()).unwrap().to_vec();
        assert!(VerifiedRequest::read(&csr).is_ok());
        for end in 0..csr.len() {
            assert!(VerifiedRequest::read(&csr[..end]).is_err(), "{end}");
        }
        let longer = [&csr[..], &[0]].concat();
        assert_eq!(VerifiedRequest::read(&longer).unwrap_err(), RequestError::Followed);
        let at = csr.windows(4).position(|text| text == b"jane").unwrap();
        csr[at] = b'J';
        assert_eq!(VerifiedRequest::read(&csr).unwrap_err(), RequestError::Unsigned);
        assert_eq!(Request::read(&csr).unwrap().signature(), Signature::Wrong);
    }
}

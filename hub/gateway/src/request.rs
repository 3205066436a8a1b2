//! A certificate signing request (PKCS #10) that was signed by its own key.

use freewheel_link::message::bounded;
use rcgen::{SanType, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use crate::authority::AuthorityError;

const UNSIGNED: &str = "its own key has not signed it, or is of a kind that is not taken (RSA of 2048 to 8192 bits, \
                        ECDSA P-256 or P-384, Ed25519)";

/// The request. Nothing in it is true but that its sender has the key.
pub(crate) struct Request<'a>(X509CertificationRequest<'a>);

impl<'a> Request<'a> {
    /// Reads a request in DER and checks its signature.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, AuthorityError> {
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(AuthorityError::Request("something follows it".to_owned()));
        }
        let signed = request.verify_signature();
        signed.map_err(|_| AuthorityError::Request(UNSIGNED.to_owned()))?;
        Ok(Self(request))
    }

    /// The subject as the sender has encoded it.
    pub(crate) fn subject(&self) -> &[u8] {
        self.0.certification_request_info.subject.as_raw()
    }

    /// Every common name and organisation of the subject.
    pub(crate) fn claims(&self) -> (Vec<&str>, Vec<&str>) {
        let subject = &self.0.certification_request_info.subject;
        let names = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
        (names.collect(), groups.collect())
    }

    /// The bits of the public key.
    pub(crate) fn key_bits(&self) -> &[u8] {
        &self.0.certification_request_info.subject_pki.subject_public_key.data
    }

    /// The public key with its algorithm.
    pub(crate) fn key(&self) -> Result<SubjectPublicKeyInfo, AuthorityError> {
        let raw = self.0.certification_request_info.subject_pki.raw;
        SubjectPublicKeyInfo::from_der(raw).map_err(malformed)
    }

    /// Other names that it asks for: hosts, addresses, mailboxes, URIs.
    pub(crate) fn alternative_names(&self) -> Result<Vec<SanType>, AuthorityError> {
        let mut names = Vec::new();
        for extension in self.0.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(asked) = extension else { continue };
            for name in &asked.general_names {
                names.extend(alternative(name)?);
            }
        }
        Ok(names)
    }
}

/// What is of another form is left out, as kube-controller-manager does.
fn alternative(name: &GeneralName<'_>) -> Result<Option<SanType>, AuthorityError> {
    Ok(Some(match name {
        GeneralName::DNSName(host) => SanType::DnsName((*host).try_into().map_err(malformed)?),
        GeneralName::RFC822Name(mail) => {
            SanType::Rfc822Name((*mail).try_into().map_err(malformed)?)
        }
        GeneralName::URI(uri) => SanType::URI((*uri).try_into().map_err(malformed)?),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let address =
                four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            SanType::IpAddress(address.map_err(|_| {
                AuthorityError::Request("an address has neither 4 nor 16 bytes".to_owned())
            })?)
        }
        _ => return Ok(None),
    }))
}

fn malformed(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Request(bounded(error.to_string(), 200))
}

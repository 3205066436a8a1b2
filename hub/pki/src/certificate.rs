//! A certificate, read. Who has signed it, its reader asks.

use freewheel_link::digest::Digest;
use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::der_parser::Oid;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::validity::Validity;

/// What stands between a certificate and its signature: ecdsa-with-SHA256, and the tag of a bit string.
const ECDSA_FRAME: [u8; 13] =
    [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 0x03];

/// The certificate.
#[derive(Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
    /// Nothing follows it.
    alone: bool,
}

impl<'a> Certificate<'a> {
    /// Reads DER.
    #[must_use]
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self { der, parsed, alone: rest.is_empty() })
    }

    /// The subject's common name. Of several the last one, as everybody reads it whose program is made with Go: nobody is
    /// one user here and another there.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.parsed.subject().iter_common_name().last()?.as_str().ok()
    }

    /// The subject's organisations, which Kubernetes takes for groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.parsed.subject().iter_organization().filter_map(|group| group.as_str().ok())
    }

    /// The subject's first attribute of this kind.
    pub(crate) fn attribute(&self, kind: &[u64]) -> Option<&str> {
        let kind = Oid::from(kind).ok()?;
        self.parsed.subject().iter_by_oid(&kind).next()?.as_str().ok()
    }

    /// From when to when it holds.
    #[must_use]
    pub fn validity(&self) -> Validity {
        let validity = self.parsed.validity();
        Validity { from: validity.not_before.timestamp(), to: validity.not_after.timestamp() }
    }

    /// Whether it may show who a TLS server is: one that names no purposes is for all of them.
    #[must_use]
    pub fn may_serve(&self) -> bool {
        match self.parsed.extended_key_usage() {
            Ok(Some(purposes)) => purposes.value.server_auth || purposes.value.any,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Digest of its key's bits, which a request of the same key has, too.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.parsed.public_key().subject_public_key.data)
    }

    /// Whether the owner of that certificate has signed this one, whatever the time.
    #[must_use]
    pub fn is_signed_by(&self, ca: &Certificate<'_>) -> bool {
        self.alone
            && self.parsed.issuer().as_raw() == ca.parsed.subject().as_raw()
            && self.parsed.verify_signature(Some(ca.parsed.public_key())).is_ok()
    }

    /// Whether a signed certificate of this hub's making is as it was written, to the last bit: the signature does not
    /// cover its own frame, and the parser takes one for another there.
    pub(crate) fn is_unchanged(&self) -> bool {
        let signed = self.parsed.tbs_certificate.as_ref();
        let frame = self.der.split_at_checked(4 + signed.len()).map(|(_, frame)| frame);
        self.parsed.signature_value.unused_bits == 0
            && frame.is_some_and(|frame| frame.starts_with(&ECDSA_FRAME))
    }

    /// Whether it is for this key.
    pub(crate) fn is_of(&self, key: &KeyPair) -> bool {
        self.parsed.public_key().raw == key.subject_public_key_info()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue};

    use super::*;

    /// A certificate whose subject has these common names.
    fn named(names: &[DnValue]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // rcgen takes another kind for another attribute.
        let kinds = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
        for (kind, name) in kinds.into_iter().zip(names) {
            params.distinguished_name.push(kind, name.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn of_several_names_the_last_is_whose_it_is() {
        let text = |text: &str| DnValue::Utf8String(text.to_owned());
        let name = |names: &[DnValue]| {
            let der = named(names);
            Certificate::read(&der).unwrap().name().map(str::to_owned)
        };
        assert_eq!(name(&[text("jane")]).as_deref(), Some("jane"));
        assert_eq!(name(&[text("jane"), text("admin")]).as_deref(), Some("admin"));
        // Who cannot be read is nobody, and not somebody else.
        assert_eq!(name(&[text("jane"), DnValue::BmpString("admin".try_into().unwrap())]), None);
        assert_eq!(name(&[]), None);
    }
}

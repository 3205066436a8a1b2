//! What all certificates that the CA gives have in common.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SerialNumber,
};

use yasna::models::ObjectIdentifier;

use crate::validity::Validity;

pub(crate) const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
pub(crate) const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
pub(crate) const ORGANIZATIONAL_UNIT: &[u64] = &[2, 5, 4, 11];

/// A subject of one name and at most one group.
pub(crate) fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// A subject of these attributes in their order, encoded: rcgen keeps one value of each kind, and somebody in several
/// groups has several organisations (RFC 2986).
pub(crate) fn encoded_subject(attributes: &[(&[u64], &str)]) -> Vec<u8> {
    yasna::construct_der(|names| {
        names.write_sequence(|names| {
            for (kind, text) in attributes {
                names.next().write_set(|parts| {
                    parts.next().write_sequence(|part| {
                        part.next().write_oid(&ObjectIdentifier::from_slice(kind));
                        part.next().write_utf8_string(text);
                    });
                });
            }
        });
    })
}

/// For this subject and purpose, and so long.
pub(crate) fn leaf(
    subject: DistinguishedName,
    purpose: ExtendedKeyUsagePurpose,
    life: Validity,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    // One key may get many certificates, so the number cannot come from the key.
    let mut serial = uuid::Uuid::new_v4().into_bytes();
    // Positive, and of the same length every time.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    life.put(&mut params);
    params
}

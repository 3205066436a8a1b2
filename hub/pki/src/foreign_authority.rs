//! Somebody else's CA, as a Secret of type `kubernetes.io/tls` holds it.
//!
//! Guarantees:
//! - its key is taken in each form that tools write: PKCS #8, PKCS #1 and SEC 1
//!   (`keys_are_taken_in_each_form_that_tools_write`).

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use yasna::models::ObjectIdentifier;

use crate::authority::{Authority, AuthorityError};

const RSA: [u64; 7] = [1, 2, 840, 113_549, 1, 1, 1];
const EC: [u64; 6] = [1, 2, 840, 10_045, 2, 1];
const P256: [u64; 7] = [1, 2, 840, 10_045, 3, 1, 7];
const P384: [u64; 5] = [1, 3, 132, 0, 34];
/// The same in DER: a key names its curve itself.
const P384_DER: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

impl Authority {
    /// Of a certificate and its key in PEM.
    ///
    /// # Errors
    /// When they are none, or not of each other.
    pub fn in_pem(certificate: &[u8], key: &[u8]) -> Result<Self, AuthorityError> {
        let none = |what: &str| AuthorityError::Refused(format!("failed to decode ca {what}"));
        let ca = CertificateDer::from_pem_slice(certificate).map_err(|_| none("cert"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| none("key"))?;
        Self::new(ca, in_pkcs8(key))
    }
}

/// The one form that is signed with.
fn in_pkcs8(key: PrivateKeyDer<'static>) -> PrivateKeyDer<'static> {
    let wrapped = if let PrivateKeyDer::Pkcs1(rsa) = &key {
        wrap(&RSA, None, rsa.secret_pkcs1_der())
    } else if let PrivateKeyDer::Sec1(ec) = &key {
        let der = ec.secret_sec1_der();
        let is_p384 = der.windows(P384_DER.len()).any(|bytes| bytes == P384_DER);
        let curve: &[u64] = if is_p384 { &P384 } else { &P256 };
        wrap(&EC, Some(curve), der)
    } else {
        return key;
    };
    PrivatePkcs8KeyDer::from(wrapped).into()
}

fn wrap(algorithm: &[u64], curve: Option<&[u64]>, inner: &[u8]) -> Vec<u8> {
    yasna::construct_der(|key| {
        key.write_sequence(|key| {
            key.next().write_u8(0);
            key.next().write_sequence(|kind| {
                kind.next().write_oid(&ObjectIdentifier::from_slice(algorithm));
                match curve {
                    Some(curve) => kind.next().write_oid(&ObjectIdentifier::from_slice(curve)),
                    None => kind.next().write_null(),
                }
            });
            key.next().write_bytes(inner);
        });
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;
    use crate::leaf::subject;

    #[track_caller]
    fn is_taken(key: &str) {
        let pair = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let pair = KeyPair::try_from(&in_pkcs8(pair)).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("test-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&pair).unwrap().pem();
        assert!(Authority::in_pem(ca.as_bytes(), key.as_bytes()).is_ok());
        let other = KeyPair::generate().unwrap().serialize_pem();
        let pair = Authority::in_pem(ca.as_bytes(), other.as_bytes());
        assert!(matches!(pair, Err(AuthorityError::Pair)));
    }

    #[test]
    fn keys_are_taken_in_each_form_that_tools_write() {
        is_taken(include_str!("../testdata/rsa-pkcs1.pem"));
        is_taken(include_str!("../testdata/p256-sec1.pem"));
        is_taken(include_str!("../testdata/p384-sec1.pem"));
        is_taken(&KeyPair::generate().unwrap().serialize_pem());
        for (ca, key) in [("", "x"), ("-----BEGIN CERTIFICATE-----", "")] {
            let none = Authority::in_pem(ca.as_bytes(), key.as_bytes());
            assert!(matches!(none, Err(AuthorityError::Refused(_))));
        }
    }
}

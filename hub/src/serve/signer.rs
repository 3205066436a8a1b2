//! The fleet's CA as the controller that signs people's requests sees it.

use std::fmt;

use freewheel_hub_controllers::signing::{Asked, Authority, Unsigned};
use freewheel_hub_gateway::{self as gateway, AuthorityError, ClientRequest};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The CA.
pub struct Signer(pub gateway::Authority);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key inside is nobody's business.
        f.write_str("Signer")
    }
}

impl Authority for Signer {
    fn sign(&self, asked: &Asked<'_>) -> Result<Vec<u8>, Unsigned> {
        let request = ClientRequest { pem: asked.pem, usages: asked.usages, life: asked.life };
        match self.0.sign_client(&request, asked.now.as_second()) {
            Ok(certificate) => Ok(gateway::pem("CERTIFICATE", &certificate).into_bytes()),
            Err(error @ (AuthorityError::Request(_) | AuthorityError::Refused(_))) => {
                Err(Unsigned::Refused(error.to_string()))
            }
            Err(error) => Err(Unsigned::Failed(error.to_string())),
        }
    }

    fn ends(&self, pem: &[u8]) -> Option<Timestamp> {
        let certificate = CertificateDer::from_pem_slice(pem).ok()?;
        Timestamp::from_second(gateway::expires(&certificate)?).ok()
    }
}

//! Keys and certificates as text.

use ::pem::{EncodeConfig, LineEnding, Pem, encode_config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::pem::Pem as Block;

use crate::certificate::Certificate;

/// DER as PEM.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    encode_config(&Pem::new(label, der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// The certificates in a PEM text; `None` where there is none, or something that is no certificate.
#[must_use]
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty())
}

/// What keeps a text from being certificates.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// Something else is among them.
    #[error("only CERTIFICATE PEM blocks are allowed, found {0:?}")]
    Label(String),
    /// One cannot be read.
    #[error("x509: malformed certificate")]
    Malformed,
    /// There is none.
    #[error("must contain at least one CERTIFICATE PEM block")]
    Empty,
}

/// Whether a text is of certificates alone, whoever signed them.
///
/// # Errors
/// What is wrong with it.
pub fn check_chain(pem: &[u8]) -> Result<(), ChainFault> {
    let mut found = false;
    // What cannot be read as a block ends the text, as it does in Go.
    for block in Block::iter_from_buffer(pem).map_while(Result::ok) {
        if block.label != "CERTIFICATE" {
            return Err(ChainFault::Label(block.label));
        }
        Certificate::read(&block.contents).ok_or(ChainFault::Malformed)?;
        found = true;
    }
    if found { Ok(()) } else { Err(ChainFault::Empty) }
}

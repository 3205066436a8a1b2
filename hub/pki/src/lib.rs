//! The fleet's certificates: who gets which, what is asked for, what one says, and where the hub keeps its own.
//!
//! ```text
//! keys         DIR/pki: the CA and the administrator's certificate; renewed
//!   file         a file that is there whole or not at all
//! authority    the CA at work: certificates of the API, the link, spokes
//!   client_certificate  certificates for people, by the rules of kubernetes.io/kube-apiserver-client
//!   leaf         what all of them have in common
//! request      a signing request: read, judged, made
//! certificate  a certificate, read
//!   spoke_subject  whom a spoke's certificate names
//!   validity     from when to when it holds, and when a new one is due
//! pem          all of these as text
//! secret       letters of tokens
//! ```
//!
//! In the hub only this crate names rcgen and x509-parser.

mod authority;
mod certificate;
mod client_certificate;
mod file;
mod keys;
mod leaf;
mod pem;
mod request;
mod secret;
mod spoke_subject;
mod validity;

pub use authority::{Authority, AuthorityError};
pub use certificate::Certificate;
pub use client_certificate::ClientRequest;
pub use file::write;
pub use keys::{Pki, PkiError};
pub use leaf::MASTERS;
pub use pem::{ChainFault, certificates, check_chain, encode};
pub use request::{Request, RequestError, Signature, VerifiedRequest, ask};
pub use secret::{NoRandomness, letters};
pub use spoke_subject::{SPOKES, SpokeSubject, agent_group, agent_name};
pub use validity::{Validity, now};

//! The fleet's certificates: who gets which, what is asked for, what one says, and where the hub keeps its own.
//!
//! ```text
//! keys         DIR/pki: the CA and the administrator's certificate; renewed
//!   file         a file that is there whole or not at all
//! authority    the CA at work: certificates of the API, the link, spokes
//!   person       certificates for people, by the rules of kubernetes.io/kube-apiserver-client
//!   leaf         what all of them have in common
//! request      a signing request: read, judged, made
//! certificate  a certificate, read
//!   agent        whom a spoke's certificate names
//!   life         from when to when it holds, and when a new one is due
//! pem          all of these as text
//! secret       letters of tokens
//! ```
//!
//! In the hub only this crate names rcgen and x509-parser.

mod agent;
mod authority;
mod certificate;
mod file;
mod keys;
mod leaf;
mod life;
mod pem;
mod person;
mod request;
mod secret;

pub use agent::{Agent, SPOKES, agent_group, agent_name};
pub use authority::{Authority, AuthorityError};
pub use certificate::Certificate;
pub use file::write;
pub use keys::{Pki, PkiError};
pub use leaf::MASTERS;
pub use life::{Life, now};
pub use pem::{ChainFault, certificates, check_chain, encode};
pub use person::ClientRequest;
pub use request::{Asked, Request, RequestError, Signature, ask};
pub use secret::{NoRandomness, letters};

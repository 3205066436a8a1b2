//! The fleet's certificates: who gets which, what is asked for, what one says, and where the hub keeps its own.
//!
//! ```text
//! keys         DIR/pki: the CA and the administrator's certificate; renewed
//!   file         a file that is there whole or not at all
//!   pki_error    why there are none
//! authority    the CA at work: certificates of the API, the link, spokes
//!   client_certificate  certificates for people, by the rules of kubernetes.io/kube-apiserver-client
//!   agent_certificate   certificates with their keys for agents of add-ons, by this CA or somebody else's
//!   foreign_authority   somebody else's CA, as a Secret holds it
//!   leaf         what all of them have in common
//! request      a signing request: read, judged, made
//! certificate  a certificate, read
//!   spoke_subject  whom a spoke's certificate names
//!   add_on_subject whom that of an add-on's agent names
//!   validity     from when to when it holds, when a new one is due, and by which clock none is made
//! pem          all of these as text
//! secret       letters of tokens
//! sealing_key  keys that seal what is stored, and the form of what is sealed
//!   sealing_file  DIR/pki/sealing.keys: those of the hub's own
//! jwk_set      keys of somebody else who signs tokens
//! token_key    keys that sign tokens of service accounts, and the form of these
//! ```
//!
//! In the hub only this crate names rcgen and x509-parser.

mod add_on_subject;
mod agent_certificate;
mod authority;
mod certificate;
mod client_certificate;
mod file;
mod foreign_authority;
mod jwk_set;
mod keys;
mod leaf;
mod pem;
mod pki_error;
mod request;
mod sealing_file;
mod sealing_key;
mod secret;
mod spoke_subject;
mod token_key;
mod validity;

pub use add_on_subject::{AddOnSubject, is_of_add_ons};
pub use agent_certificate::{AgentRequest, ForeignRequest, IssuedPair};
pub use authority::{Authority, AuthorityError};
pub use certificate::Certificate;
pub use client_certificate::ClientRequest;
pub use file::{check_regular, read_text, write};
pub use freewheel_link::identities::MASTERS;
pub use jwk_set::{ForeignToken, JwkSet};
pub use keys::Pki;
pub use pem::{ChainFault, certificates, check_chain, encode};
pub use pki_error::PkiError;
pub use request::{Request, RequestError, Signature, VerifiedRequest, signing_request};
pub use sealing_file::SealingFile;
pub use sealing_key::{KeyId, SealingKey};
pub use secret::{NoRandomness, letters};
pub use spoke_subject::{SPOKES, SpokeSubject, agent_group, agent_name};
pub use token_key::{Jwk, ShownToken, TOKEN_ALGORITHM, TokenKey, TokenKeyError, jwk};
pub use validity::{UnsetClock, Validity, check_clock, now};

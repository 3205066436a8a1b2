//! Tokens of service accounts: who signs them, what they say, and how they are asked for.
//!
//! ```text
//! issuer   keys of each logical cluster; signs, and finds the key of what is shown
//! claims   what a token says, and whether that still holds
//! request  TokenRequest: serviceaccounts/NAME/token
//! pod      a token for a pod, which its device gets with its plan
//! openid   what others need to verify them: /.well-known/openid-configuration, /openid/v1/jwks
//! ```
//!
//! Guarantees:
//! - a token is good in the cluster that it was made in, and in no other, nor in the next one of its name
//!   (`a_token_of_one_cluster_is_none_in_another`);
//! - it ends with what it is bound to, by UID (`a_token_ends_with_what_it_is_bound_to`);
//! - a key that is old signs no more, and what it has signed stays good (`old_keys_verify_and_new_ones_sign`).

mod claims;
mod issuer;
mod openid;
mod pod;
mod request;

pub(crate) use claims::AccountToken;
pub use issuer::Issuer;
pub(crate) use openid::openid;
pub use pod::PodToken;
pub(crate) use request::create;

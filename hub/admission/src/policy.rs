//! Admission policies: what is written, compiled, and what it says of a write.
//!
//! ```text
//! definition   a policy and its bindings
//! job          one policy by one binding for one parameter (params), about one write
//! validating   conditions ─▶ decisions          mutating   conditions ─▶ patch: an object after its changes
//! ```

mod definition;
mod job;
mod mutating;
mod params;
mod patch;
mod validating;

pub(crate) use definition::{Binding, Hook, Policy, Purpose};
pub(crate) use job::{Job, Seen, Selected};
pub(crate) use mutating::MutatingPolicies;
pub(crate) use patch::Form;
pub(crate) use validating::ValidatingPolicies;

//! Webhooks: servers that are asked about writes (admission.k8s.io AdmissionReview).
//!
//! ```text
//! hook        one of a configuration                 wanted   whether it is asked
//! client_config  where its owner says that it is     address  where it is called
//! permits     how many calls at a time
//! calls       in turn, in time ─ Caller: HTTPS ─▶ review: what was answered
//!             or ─▶ unsuccessful: what is told of an answer that is no success
//! invocation  one is asked about one write           failures   what is logged of one that does not answer
//! validating  all at the same time                   mutating   one after the other, with what those before have made
//! ```

mod address;
mod calls;
mod client_config;
mod failures;
mod hook;
mod invocation;
mod mutating;
mod patching;
mod permits;
mod review;
mod unsuccessful;
mod validating;
mod wanted;

pub use address::{Address, ServicePort};
pub(crate) use calls::Calls;
pub use calls::{CallError, Caller};
pub use client_config::ClientConfig;
pub(crate) use hook::Webhook;
pub use invocation::UNANSWERED;
pub(crate) use mutating::MutatingWebhooks;
pub use permits::{CALL_WAIT, CallPermit, CallPermits, ClusterCalls, OWN_CALLS_OF_ONE_MAX};
pub use unsuccessful::Unsuccessful;
pub(crate) use validating::ValidatingWebhooks;

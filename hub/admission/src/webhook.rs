//! Webhooks: servers that are asked about writes (admission.k8s.io AdmissionReview).
//!
//! ```text
//! hook        one of a configuration                 wanted   whether it is asked
//! permits     how many calls at a time
//! calls       in turn, in time ─ Caller: HTTPS ─▶ review: what was answered
//! invocation  one is asked about one write
//! validating  all at the same time                   mutating   one after the other, with what those before have made
//! ```

mod calls;
mod hook;
mod invocation;
mod mutating;
mod patching;
mod permits;
mod review;
mod validating;
mod wanted;

pub(crate) use calls::Calls;
pub use calls::{Address, CallError, Caller, ServicePort, refusal_of};
pub(crate) use hook::Webhook;
pub use invocation::UNANSWERED;
pub(crate) use mutating::MutatingWebhooks;
pub use permits::{CALL_WAIT, CallPermit, CallPermits, ClusterCalls};
pub(crate) use validating::ValidatingWebhooks;

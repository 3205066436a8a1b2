//! Why a request has no answer of the guest's.

/// Why a request has no answer of the guest's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("too many requests wait for this pod")]
    Busy,
    /// What it needs is there, and others have it.
    #[error("no memory is left for it at the moment: {0}")]
    NoRoom(String),
    #[error("the handler failed: {0}")]
    Trap(String),
    #[error("out of memory: {0}")]
    Memory(String),
    #[error("the handler returned without an answer")]
    Silent,
    #[error("the handler answered with an error: {0}")]
    Code(String),
    #[error("the handler was ended, it did not begin to answer in time")]
    Late,
    #[error("the pod was stopped")]
    Stopped,
}

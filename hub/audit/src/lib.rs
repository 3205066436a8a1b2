//! Who did what through the API, as audit.k8s.io/v1 tells it: what a policy asks for, events, and the file they go to.
//!
//! ```text
//! policy   rules: whose requests are told of, how much of them, at which stages
//! event    one event, as one line of JSON
//! log      lines on their way to the disk: a bounded buffer, one writer
//!   log_file  the file, which is put aside when it is large
//! ```
//!
//! Knows no HTTP and no logical cluster: the API server says what happened.

mod event;
mod level;
mod log;
mod log_file;
mod policy;

pub use event::{Event, ObjectRef, Stage, UserInfo};
pub use level::Level;
pub use log::{AuditLog, Counts};
pub use log_file::{LogDestination, LogOptions};
pub use policy::{Asked, Policy, PolicyError, RequestAudit, What};

/// A policy, and where events go.
pub struct Audit {
    /// What is told of.
    pub policy: Policy,
    /// Where.
    pub log: AuditLog,
}

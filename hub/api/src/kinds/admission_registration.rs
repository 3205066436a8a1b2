//! Kinds of admissionregistration.k8s.io: who is to be asked about writes. Who asks them is `hub-admission`.
//!
//! ```text
//! webhooks   both configurations of webhooks
//! policies   both policies, and their bindings
//! rules      which writes they are about
//! expressions  what is wrong with an expression
//! ```

mod bindings;
mod expressions;
pub(super) mod policies;
mod rules;
pub(super) mod webhooks;

pub(super) use bindings::{mutating as mutating_binding, validating as validating_binding};

const GROUP: &str = "admissionregistration.k8s.io";

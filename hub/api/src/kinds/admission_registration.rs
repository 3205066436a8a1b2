//! Kinds of admissionregistration.k8s.io: who is to be asked about writes. Nobody is asked yet.
//!
//! ```text
//! webhooks   both configurations of webhooks
//! policies   both policies, and their bindings
//! rules      which writes they are about
//! ```

mod bindings;
pub(super) mod policies;
mod rules;
pub(super) mod webhooks;

pub(super) use bindings::{mutating as mutating_binding, validating as validating_binding};

const GROUP: &str = "admissionregistration.k8s.io";
/// Why nothing comes of them.
const UNASKED: &str = "it is NOT enforced yet: writes are let in without asking it";

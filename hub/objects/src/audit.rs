//! Who learns of what was written.

use freewheel_hub_store::{Revision, Stored};

use super::Actor;

/// What was done, for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A new object.
    Create,
    /// A change.
    Update,
    /// A removal, or the mark that leads to one.
    Delete,
}

impl Verb {
    /// `create`, `update`, `delete`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Learns of every commit that changed something, after it is durable.
pub trait Audit: Send + Sync {
    /// `stored` is the object after it, or before it when it was removed.
    fn committed(&self, actor: &Actor, verb: Verb, revision: Revision, stored: &Stored);
}

//! What a watch tells: one change of one key.

use std::sync::Arc;

use freewheel_hub_schema::object::Key;

use crate::{Revision, Stored};

/// What happened to one key.
#[derive(Clone, Debug)]
pub struct Event {
    /// Revision it happened at.
    pub revision: Revision,
    /// The object after it, or `None` when it was deleted.
    pub now: Option<Arc<Stored>>,
    /// The object before it, or `None` when it was created.
    pub before: Option<Arc<Stored>>,
}

impl Event {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.now.as_ref().or(self.before.as_ref()).map(|stored| &stored.key)
    }
}

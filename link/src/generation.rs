//! Which plan: ordered within one incarnation of the store, incomparable across a restore.

use serde::{Deserialize, Serialize};

/// The store's life and the revision within it. A restored backup is a new incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Random per life of the store; never 0 for a real plan.
    pub incarnation: u64,
    /// The store's revision that the plan reflects.
    pub revision: u64,
}

impl Generation {
    /// Before any plan.
    pub const NONE: Self = Self { incarnation: 0, revision: 0 };

    /// Whether `self` includes everything that `other` does.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation && other.revision <= self.revision
    }
}

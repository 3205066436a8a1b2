//! How much work it may make to look at expressions before they are evaluated.

use std::cell::Cell;

/// Steps for what somebody writes at a time: each takes less than a microsecond.
const STEPS_MAX: u64 = 2_000_000;

/// What may still be looked at. When it is over, nothing more is known of anything, and nothing more is wrong.
#[derive(Debug)]
pub struct Work {
    left: Cell<Option<u64>>,
}

impl Default for Work {
    /// For what somebody writes at a time.
    fn default() -> Self {
        Self::of(STEPS_MAX)
    }
}

impl Work {
    /// So many steps.
    #[must_use]
    pub const fn of(steps: u64) -> Self {
        Self { left: Cell::new(Some(steps)) }
    }

    /// Takes so many steps; whether they were there.
    pub fn take(&self, steps: usize) -> bool {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        let left = self.left.get().and_then(|left| left.checked_sub(steps));
        self.left.set(left);
        left.is_some()
    }

    /// Whether more was asked for than there was.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left.get().is_none()
    }
}

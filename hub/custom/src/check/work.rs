//! How much work the check of one object may make: a schema may have as many values, alternatives and fields as an object
//! has elements, and each of these is looked at for each of those.

use std::cell::Cell;

/// Steps of a check: an object of 3 MiB has 1.5 million parts at most.
const STEPS_MAX: usize = 2_000_000;
/// Bytes of text that are looked at, and names that are looked for, in a step.
const IN_A_STEP: usize = 64;

/// What a check may still do.
#[derive(Debug)]
pub(super) struct Work {
    left: Cell<Option<usize>>,
}

impl Default for Work {
    fn default() -> Self {
        Self::of(STEPS_MAX)
    }
}

impl Work {
    /// So many steps.
    pub(super) const fn of(steps: usize) -> Self {
        Self { left: Cell::new(Some(steps)) }
    }

    /// Takes a step, and one for each so many bytes or names; whether there is work left.
    pub(super) fn step(&self, size: usize) -> bool {
        let left = self.left.get().and_then(|left| left.checked_sub(1 + size / IN_A_STEP));
        self.left.set(left);
        left.is_some()
    }

    /// Whether it was ended before all was looked at.
    pub(super) fn is_over(&self) -> bool {
        self.left.get().is_none()
    }
}

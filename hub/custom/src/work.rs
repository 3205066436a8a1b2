//! How much work a check may make, of an object or of a definition: a schema may have as many values, alternatives and fields
//! as an object has elements, and each of these is looked at for each of those.

use std::cell::Cell;

/// Steps of a check: an object of 3 MiB has 1.5 million parts at most.
const STEPS_MAX: usize = 2_000_000;
/// Bytes of text that are looked at, and names that are looked for, in a step.
const LOOKS_PER_STEP: usize = 64;
/// Units of work of an expression or a pattern ([`freewheel_hub_cel::UNITS_MAX`]) in a step.
const UNITS_PER_STEP: u64 = 4;

/// What a check may still do.
#[derive(Debug)]
pub(crate) struct Work {
    left: Cell<Option<usize>>,
}

impl Default for Work {
    fn default() -> Self {
        Self::of(STEPS_MAX)
    }
}

impl Work {
    /// So many steps.
    pub(crate) const fn of(steps: usize) -> Self {
        Self { left: Cell::new(Some(steps)) }
    }

    /// Takes a step, and one for each so many bytes or names; whether there is work left.
    pub(crate) fn step(&self, size: usize) -> bool {
        self.take(1 + size / LOOKS_PER_STEP)
    }

    /// Takes the work of so many units; whether there is work left.
    pub(crate) fn units(&self, units: u64) -> bool {
        self.take(usize::try_from(units / UNITS_PER_STEP).unwrap_or(usize::MAX))
    }

    fn take(&self, steps: usize) -> bool {
        let left = self.left.get().and_then(|left| left.checked_sub(steps));
        self.left.set(left);
        left.is_some()
    }

    /// Whether it was ended before all was looked at.
    pub(crate) fn is_over(&self) -> bool {
        self.left.get().is_none()
    }
}

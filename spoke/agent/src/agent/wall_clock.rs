//! The wall clock is set while pods run: what was read from it before is moved with it.
//!
//! A device without a clock of its own begins in the past, and learns the time when its network is up. A pod that it
//! started before that would be years old at the agent's next start.
//!
//! Guarantees:
//! - a pod is no older for a clock that was set (`a_clock_that_is_set_makes_no_pod_older`).
//!
//! Not held: one that was started in an earlier life of the agent, by a clock that looked set and was not (it went on
//! from the last time that it knew), is as old as the clock says.

use std::time::Duration;

use freewheel_link::report::UnixMillis;

/// Steps that are smaller are how clocks are kept right.
const CLOCK_STEP_MIN: Duration = Duration::from_secs(5);

/// What both clocks said at the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    now: Duration,
    unix: UnixMillis,
}

impl WallClock {
    pub(super) const fn new((now, unix): (Duration, UnixMillis)) -> Self {
        Self { now, unix }
    }

    /// Looks at both clocks again. When the wall clock was set: what it would say now, had nobody set it.
    pub(super) fn observe(&mut self, (now, unix): (Duration, UnixMillis)) -> Option<UnixMillis> {
        let since = now.saturating_sub(self.now).as_millis();
        let expected = self.unix.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
        *self = Self::new((now, unix));
        (CLOCK_STEP_MIN.as_millis() <= u128::from(unix.abs_diff(expected))).then_some(expected)
    }
}

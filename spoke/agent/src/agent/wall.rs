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
use tracing::info;

use super::Agent;

/// Steps that are smaller are how clocks are kept right.
const STEP: Duration = Duration::from_secs(5);

/// What both clocks said at the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall {
    now: Duration,
    unix: UnixMillis,
}

impl Wall {
    pub(super) const fn new((now, unix): (Duration, UnixMillis)) -> Self {
        Self { now, unix }
    }

    /// What the wall clock would say now, had nobody set it.
    fn expected(&self, now: Duration) -> UnixMillis {
        let since = now.saturating_sub(self.now).as_millis();
        self.unix.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

impl Agent {
    pub(super) fn look_at_the_clock(&mut self) {
        let (now, unix) = self.time();
        let expected = self.wall.expected(now);
        self.wall = Wall::new((now, unix));
        if u128::from(unix.abs_diff(expected)) < STEP.as_millis() {
            return;
        }
        info!(from = expected, to = unix, "the wall clock was set");
        for (uid, pod) in &mut self.pods {
            if pod.move_start(expected, unix) {
                self.dirty.insert(uid.clone());
            }
        }
    }
}

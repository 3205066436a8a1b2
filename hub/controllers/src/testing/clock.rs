//! Time in tests of this crate and in its tests of all controllers together.

use freewheel_hub_objects::clock::Clock;
use jiff::Timestamp;
use tokio::time::Instant;

/// A wall clock that follows tokio's from a given moment: for paused time.
pub(crate) struct SimulatedClock {
    origin: i128,
    since: Instant,
}

impl SimulatedClock {
    /// It is `origin` now.
    pub(crate) fn starting_at(origin: Timestamp) -> Self {
        Self { origin: origin.as_nanosecond(), since: Instant::now() }
    }
}

impl Clock for SimulatedClock {
    fn unix_nanos(&self) -> i128 {
        let passed = i128::try_from(self.since.elapsed().as_nanos()).unwrap_or_default();
        self.origin.saturating_add(passed)
    }
}

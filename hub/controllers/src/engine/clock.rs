//! The pipeline's clock as controllers use it: one time stamps and judges everything.

use std::sync::Arc;

use freewheel_hub_objects::clock;
use jiff::Timestamp;

/// Tells the wall time. Waiting is always done with tokio's timers.
#[derive(Clone)]
pub struct Clock(Arc<dyn clock::Clock>);

impl Clock {
    /// The clock of the pipeline.
    #[must_use]
    pub fn new(clock: Arc<dyn clock::Clock>) -> Self {
        Self(clock)
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.0.unix_nanos()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// RFC 3339 in whole seconds, as metav1.Time is written.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    freewheel_hub_schema::time::seconds(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::clock::SimulatedClock;

    #[tokio::test(start_paused = true)]
    async fn simulated_time_follows_tokio() {
        let origin = Timestamp::from_second(1_000_000).unwrap();
        let clock = Clock::new(Arc::new(SimulatedClock::starting_at(origin)));
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        assert_eq!(clock.now().as_second(), 1_000_005);
        assert_eq!(rfc3339(clock.now()), "1970-01-12T13:46:45Z");
    }
}

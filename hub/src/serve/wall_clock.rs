//! Tells the log when the hub's clock is set while it runs: ages, the order of Events and the ends of tokens and
//! certificates go by it, and nobody sees there why they are odd.
//!
//! Guarantees:
//! - a clock that is set is told of once, with by how much, and one that is kept right by small steps is not
//!   (`a_clock_that_is_set_is_told_of_once`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_objects::clock::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Steps that are smaller are how clocks are kept right.
const STEP_MILLIS_MIN: i128 = 5_000;

/// What it said at the last look.
struct WallClock {
    unix_millis: u64,
    at: Instant,
}

impl WallClock {
    /// Looks again. When it was set since: by how many seconds, back when they are negative.
    fn look(&mut self, unix_millis: u64, at: Instant) -> Option<i64> {
        let passed = i128::try_from((at - self.at).as_millis()).unwrap_or(i128::MAX);
        let expected = i128::from(self.unix_millis).saturating_add(passed);
        let step = i128::from(unix_millis).saturating_sub(expected);
        *self = Self { unix_millis, at };
        (STEP_MILLIS_MIN <= step.abs()).then(|| i64::try_from(step / 1000).unwrap_or(i64::MAX))
    }
}

/// Looks again and again until `stop`.
pub async fn watch(clock: Arc<dyn Clock>, stop: CancellationToken) -> io::Result<()> {
    let mut last = WallClock { unix_millis: clock.unix_millis(), at: Instant::now() };
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Some(seconds) = last.look(clock.unix_millis(), Instant::now()) {
            warn!(
                seconds,
                "the hub's clock was set, or its machine has slept: ages, Events and the ends of tokens and certificates go by it; \
                 keep it right by a time service, such as chrony"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_of_once() {
        let (start, begun) = (Instant::now(), 1_795_176_000_000);
        let mut clock = WallClock { unix_millis: begun, at: start };
        let mut look = |seconds: u64, unix_millis: u64| {
            clock.look(unix_millis, start + Duration::from_secs(seconds))
        };
        assert_eq!(look(10, begun + 10_400), None, "it is kept right");
        let year = 365 * 86_400;
        assert_eq!(look(20, begun + 20_400 + year * 1000), Some(31_536_000));
        assert_eq!(look(30, begun + 30_400 + year * 1000), None, "that is told");
        assert_eq!(look(40, begun + 40_400), Some(-31_536_000));
        assert_eq!(look(40, 0), Some(-1_795_176_040));
    }
}

//! How long a disk that refused is left alone.
//!
//! redb opens again by reading every page, for what a batch that failed came to; a full disk would be read through for
//! each write that somebody tries. So the first time it is opened at once, and then after longer and longer pauses, in
//! which everybody gets the answer of the last try.
//!
//! Guarantees:
//! - who fails again and again is tried after longer and longer pauses, up to ten seconds, also when something
//!   succeeds in between (`pauses_grow_and_a_quiet_time_ends_them`).

use std::time::{Duration, Instant};

/// Between one try and the next, from the third on, and at most.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Who failed last so long ago begins anew. On a disk that is nearly full small writes find a gap while large ones do
/// not: that one succeeded says little.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// What is known of the disk's last failure.
#[derive(Debug, Default)]
pub(super) struct RetryDelay(Option<Failed>);

#[derive(Debug)]
struct Failed {
    at: Instant,
    pause: Duration,
    why: String,
}

impl RetryDelay {
    /// It failed just now.
    pub(super) fn failed(&mut self, now: Instant, why: &str) {
        let before =
            self.0.take().filter(|last| now < last.at + last.pause + FAILURES_FORGOTTEN_AFTER);
        let pause = before
            .map_or(Duration::ZERO, |last| (last.pause * 2).clamp(RETRY_PAUSE.0, RETRY_PAUSE.1));
        self.0 = Some(Failed { at: now, pause, why: why.to_owned() });
    }

    /// Why it is not tried yet.
    pub(super) fn waits(&self, now: Instant) -> Option<&str> {
        let last = self.0.as_ref().filter(|last| now < last.at + last.pause)?;
        Some(&last.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_a_quiet_time_ends_them() {
        let (mut retry_delay, mut now) = (RetryDelay::default(), Instant::now());
        let mut pauses = Vec::new();
        for round in 0..10 {
            assert_eq!(retry_delay.waits(now), None);
            retry_delay.failed(now, &round.to_string());
            let mut pause = Duration::ZERO;
            while retry_delay.waits(now + pause).is_some() {
                assert_eq!(retry_delay.waits(now + pause), Some(&*round.to_string()));
                pause += Duration::from_millis(100);
            }
            pauses.push(u64::try_from(pause.as_millis()).unwrap());
            now += pause;
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        now += FAILURES_FORGOTTEN_AFTER;
        retry_delay.failed(now, "again");
        assert_eq!(retry_delay.waits(now), None, "as at first");
    }
}

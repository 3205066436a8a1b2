//! How long to wait before the next try: exponential with full jitter.
//!
//! Full jitter (anything between nothing and the bound) spreads a fleet that lost its hub at one moment
//! evenly over the bound; a fixed part would bring all of it back in one wave. The first bound is wide
//! enough for 10,000 spokes whose hub was restarted, and a hub that was there a moment ago is looked for
//! more often than one that has been away for long.

use std::time::Duration;

/// The hub is looked for all the time for this long after it was there: it restarts, or the link has a gap. Its
/// node is called silent after 10 s without a session.
pub const HUB_GONE_JUST_NOW: Duration = Duration::from_secs(120);
/// And eagerly for this long.
pub const HUB_GONE_RECENTLY: Duration = Duration::from_secs(600);

/// Waits between 0 and a bound that doubles from `first` to `most` with each failure.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    /// While the other side was there just now, recently, and else.
    most: [Duration; 3],
    failures: u32,
}

impl Backoff {
    /// Back-off with these bounds.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most: [most; 3], failures: 0 }
    }

    /// What a spoke waits between tries to reach its hub.
    #[must_use]
    pub const fn uplink() -> Self {
        let most = [Duration::from_secs(4), Duration::from_secs(15), Duration::from_secs(60)];
        Self { first: Duration::from_secs(2), most, failures: 0 }
    }

    /// It worked.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed, and last worked `since` ago, if ever: how long to wait.
    pub fn wait(&mut self, since: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let [just_now, recent, most] = self.most;
        let most = match since {
            Some(since) if since < HUB_GONE_JUST_NOW => just_now,
            Some(since) if since < HUB_GONE_RECENTLY => recent,
            _ => most,
        };
        let bound = self.first.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rng.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(backoff: &mut Backoff, since: Option<Duration>) -> Duration {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..1000).map(|_| backoff.wait(since, &mut rng)).max().unwrap()
    }

    #[test]
    fn waits_grow_to_the_bound_and_start_small_again() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::uplink();
        assert!(backoff.wait(None, &mut rng) <= Duration::from_secs(2));
        let longest = longest(&mut backoff, None);
        assert!(Duration::from_secs(50) < longest && longest <= Duration::from_secs(60));
        backoff.reset();
        assert!(backoff.wait(None, &mut rng) <= Duration::from_secs(2));
    }

    #[test]
    fn a_hub_that_was_there_a_moment_ago_is_looked_for_more_often() {
        let mut backoff = Backoff::uplink();
        let just_now = longest(&mut backoff, Some(Duration::from_secs(60)));
        assert!(Duration::from_secs(3) < just_now && just_now <= Duration::from_secs(4));
        let recently = longest(&mut backoff, Some(HUB_GONE_JUST_NOW));
        assert!(Duration::from_secs(12) < recently && recently <= Duration::from_secs(15));
        let long_ago = longest(&mut backoff, Some(HUB_GONE_RECENTLY));
        assert!(Duration::from_secs(50) < long_ago && long_ago <= Duration::from_secs(60));
    }
}

//! How long to wait before the next try: exponential with full jitter.
//!
//! Full jitter (anything between nothing and the bound) spreads a fleet that lost its hub at one moment
//! evenly over the bound; a fixed part would bring all of it back in one wave.

use std::time::Duration;

/// Waits between 0 and a bound that doubles from `first` to `most` with each failure.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Back-off with these bounds.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// What a spoke waits between tries to reach its hub.
    #[must_use]
    pub const fn uplink() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// It worked.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait.
    pub fn wait(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let bound = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rng.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_small_again() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::uplink();
        assert!(backoff.wait(&mut rng) <= Duration::from_secs(1));
        let longest = (0..1000).map(|_| backoff.wait(&mut rng)).max().unwrap();
        assert!(Duration::from_secs(50) < longest && longest <= Duration::from_secs(60));
        backoff.reset();
        assert!(backoff.wait(&mut rng) <= Duration::from_secs(1));
    }
}

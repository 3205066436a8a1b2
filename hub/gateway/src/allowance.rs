//! How much somebody may say: a burst, and so much per second after it.

use std::time::Duration;

use tokio::time::Instant;

/// What is left.
#[derive(Debug)]
pub(crate) struct Allowance {
    burst: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    /// Full.
    pub(crate) fn new(burst: u32, per_second: f64) -> Self {
        let burst = f64::from(burst);
        Self { burst, per_second, left: burst, at: Instant::now() }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        self.wait().is_zero() && {
            self.left -= 1.0;
            true
        }
    }

    /// How long until there is one.
    pub(crate) fn wait(&mut self) -> Duration {
        let passed = self.at.elapsed();
        self.at += passed;
        self.left = (self.left + passed.as_secs_f64() * self.per_second).min(self.burst);
        // A whole microsecond more, so that who waits does not come a moment too early.
        let short = (1.0 - self.left) / self.per_second;
        if short <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(short + 1e-6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_the_burst_it_comes_at_its_pace() {
        let mut allowance = Allowance::new(3, 2.0);
        assert_eq!((0..10).filter(|_| allowance.take()).count(), 3);
        let wait = allowance.wait();
        assert!(
            Duration::from_millis(499) < wait && wait <= Duration::from_millis(501),
            "{wait:?}"
        );
        tokio::time::sleep(wait).await;
        assert!(allowance.take());
        assert!(!allowance.take());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!((0..10).filter(|_| allowance.take()).count(), 3, "no more than the burst");
    }
}

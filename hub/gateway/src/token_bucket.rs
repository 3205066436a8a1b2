//! How much somebody may say: a burst, and so much per second after it.
//!
//! Guarantees:
//! - after the burst it comes at its pace, and what was not used adds up to no more than a burst
//!   (`after_the_burst_it_comes_at_its_pace`);
//! - of many, each has an allowance of its own, and nothing is kept of those who have all of theirs
//!   (`who_has_all_of_it_is_not_remembered`).

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A line of the log about what a spoke says and cannot be, and one in so many seconds after it.
pub(crate) const COMPLAINT_RATE: (u32, f64) = (1, 1.0 / 60.0);

/// What is left.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    burst: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl TokenBucket {
    /// Full.
    pub(crate) fn new(burst: u32, per_second: f64) -> Self {
        let burst = f64::from(burst);
        Self { burst, per_second, left: burst, at: Instant::now() }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        self.take_many(1)
    }

    /// Takes so many, if there is one; what it lacks comes back before there is another.
    fn take_many(&mut self, count: u32) -> bool {
        self.wait().is_zero() && {
            self.left -= f64::from(count);
            true
        }
    }

    /// How long until there is one.
    pub(crate) fn wait(&mut self) -> Duration {
        self.refill();
        // A whole microsecond more, so that who waits does not come a moment too early.
        let short = (1.0 - self.left) / self.per_second;
        if short <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(short + 1e-6) }
    }

    fn refill(&mut self) {
        let passed = self.at.elapsed();
        self.at += passed;
        self.left = (self.left + passed.as_secs_f64() * self.per_second).min(self.burst);
    }

    fn is_full(&mut self) -> bool {
        self.refill();
        self.burst <= self.left
    }
}

/// buckets of this many are kept before it is looked which of them are full again.
const BUCKETS_SWEPT_FROM: usize = 1024;

/// What is left to each of many, by a name of theirs.
#[derive(Debug)]
pub(crate) struct TokenBuckets {
    burst: u32,
    per_second: f64,
    /// With the number of them at which those that are full go.
    left: Mutex<(BTreeMap<String, TokenBucket>, usize)>,
}

impl TokenBuckets {
    /// Full for everybody.
    pub(crate) fn new(burst: u32, per_second: f64) -> Self {
        Self { burst, per_second, left: Mutex::new((BTreeMap::new(), BUCKETS_SWEPT_FROM)) }
    }

    /// How long until there is one of theirs.
    pub(crate) fn wait(&self, whose: &str) -> Duration {
        self.left.lock().0.get_mut(whose).map_or(Duration::ZERO, TokenBucket::wait)
    }

    /// Takes one of theirs, if there is one.
    pub(crate) fn take(&self, whose: &str) -> bool {
        self.take_many(whose, 1)
    }

    /// Takes so many of theirs, if there is one; what is lacking comes back before there is another.
    pub(crate) fn take_many(&self, whose: &str, count: u32) -> bool {
        let mut left = self.left.lock();
        let (all, many) = &mut *left;
        if *many <= all.len() {
            all.retain(|_, bucket| !bucket.is_full());
            // Looking at all of them is paid for by as many new ones.
            *many = BUCKETS_SWEPT_FROM.max(2 * all.len());
        }
        let new = || TokenBucket::new(self.burst, self.per_second);
        all.entry(whose.to_owned()).or_insert_with(new).take_many(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_the_burst_it_comes_at_its_pace() {
        let mut bucket = TokenBucket::new(3, 2.0);
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 3);
        let wait = bucket.wait();
        assert!(
            Duration::from_millis(499) < wait && wait <= Duration::from_millis(501),
            "{wait:?}"
        );
        tokio::time::sleep(wait).await;
        assert!(bucket.take());
        assert!(!bucket.take());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 3, "no more than the burst");
        tokio::time::sleep(Duration::from_millis(501)).await;
        assert!(bucket.take_many(4), "what is short is owed");
        tokio::time::sleep(Duration::from_millis(1900)).await;
        assert!(!bucket.take());
        tokio::time::sleep(Duration::from_millis(110)).await;
        assert!(bucket.take());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_all_of_it_is_not_remembered() {
        let buckets = TokenBuckets::new(2, 1.0);
        let take = |who: usize| buckets.take(&format!("spoke-{who}"));
        assert_eq!([take(0), take(0), take(0)], [true, true, false]);
        assert!((1..BUCKETS_SWEPT_FROM).all(take), "each has its own");
        assert_eq!(buckets.left.lock().0.len(), BUCKETS_SWEPT_FROM);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(take(BUCKETS_SWEPT_FROM), "by now all but the first have all of it");
        assert_eq!(buckets.left.lock().0.len(), 2);
        assert_eq!([take(0), take(0)], [true, false]);
    }
}

//! How long something took, in a histogram of atomics.
//!
//! Guarantees:
//! - a time counts in the first bucket that it does not exceed, the last one taking all
//!   (`a_time_counts_in_the_first_bucket_that_holds_it`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds in seconds of requests' times: kube-apiserver's, whose dashboards and alerts name them.
pub const REQUEST_SECONDS_BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// Bounds in seconds of what is quick: 0.1 ms to 26 s, in steps of four.
pub const QUICK_SECONDS_BUCKETS: &[f64] =
    &[0.0001, 0.0004, 0.0016, 0.0064, 0.0256, 0.1024, 0.4096, 1.6384, 6.5536, 26.2144];

/// A histogram of times.
#[derive(Debug)]
pub struct DurationHistogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is beyond the last.
    counts: Box<[AtomicU64]>,
    /// Together; full after 584 years.
    nanos: AtomicU64,
}

impl DurationHistogram {
    /// Over these bounds, in seconds, ascending.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, nanos: AtomicU64::default() }
    }

    /// One more, which took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The sum in seconds, and how many are in each bucket alone.
    pub(crate) fn read(&self) -> (f64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let nanos = self.nanos.load(Ordering::Relaxed);
        (Duration::from_nanos(nanos).as_secs_f64(), bounds.zip(counts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_that_holds_it() {
        let times = DurationHistogram::new(&[0.5, 1.0]);
        for millis in [0, 500, 501, 1000, 1001, 60_000] {
            times.observe(Duration::from_millis(millis));
        }
        let (sum, counts) = times.read();
        assert_eq!(counts, [(0.5, 2), (1.0, 2), (f64::INFINITY, 2)]);
        assert!((sum - 63.002).abs() < 1e-9, "{sum}");
        for bounds in [REQUEST_SECONDS_BUCKETS, QUICK_SECONDS_BUCKETS] {
            assert!(bounds.is_sorted());
        }
    }
}

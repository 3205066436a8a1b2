//! Latencies and what is told of them.

use std::time::Duration;

use serde_json::{Value, json};

/// Times of one kind of thing, in the order they were taken.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Count, p50, p99 and max in microseconds.
    pub fn figures(mut self) -> Value {
        self.0.sort_unstable();
        let at = |share: usize| {
            // The smallest time that `share` percent do not exceed.
            let place = (self.0.len() * share).div_ceil(100).saturating_sub(1);
            self.0.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        json!({"count": self.0.len(), "p50": at(50), "p99": at(99), "max": at(100)})
    }
}

/// CPU seconds that this process has used.
pub fn own_cpu() -> f64 {
    // utime and stime are the 14th and 15th field; the second one may hold spaces.
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit(") ").next().unwrap_or_default();
    let ticks =
        |at: usize| after.split(' ').nth(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let mut times = Times::default();
        for n in (1..=200).rev() {
            times.push(Duration::from_micros(n));
        }
        let figures = times.figures();
        assert_eq!(figures["p50"], 100.0);
        assert_eq!(figures["p99"], 198.0);
        assert_eq!(figures["max"], 200.0);
    }
}

//! How many seats a level could have used of late.
//!
//! Guarantees:
//! - a peak counts at once and is forgotten slowly (`a_peak_counts_at_once_and_is_forgotten_slowly`).

use std::time::Duration;

/// How much of what was there before stays with each look.
const SMOOTHING_COEFFICIENT: f64 = 0.977;

/// Seats in use or waited for, over time.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    now: f64,
    since: Duration,
    began: Duration,
    /// Seat-seconds since it began, and the same of squares.
    sum: f64,
    squares: f64,
    /// The most since it began.
    peak: f64,
    /// Over the looks.
    pub(crate) smoothed: f64,
}

impl Demand {
    /// It is this from now on.
    pub(crate) fn set(&mut self, now: Duration, seats: f64) {
        let lasted = now.saturating_sub(self.since).as_secs_f64();
        self.sum += lasted * self.now;
        self.squares += lasted * self.now * self.now;
        (self.since, self.now) = (now, seats);
        self.peak = self.peak.max(seats);
    }

    /// Looks at what was since the last look: answers the most of it.
    pub(crate) fn take_peak(&mut self, now: Duration) -> f64 {
        self.set(now, self.now);
        let lasted = now.saturating_sub(self.began).as_secs_f64();
        let (mean, squares) =
            if 0.0 < lasted { (self.sum / lasted, self.squares / lasted) } else { (0.0, 0.0) };
        let deviation = (squares - mean * mean).max(0.0).sqrt();
        let envelope = mean + deviation;
        self.smoothed = envelope
            .max(SMOOTHING_COEFFICIENT * self.smoothed + (1.0 - SMOOTHING_COEFFICIENT) * envelope);
        let peak = std::mem::replace(&mut self.peak, self.now);
        (self.began, self.sum, self.squares) = (now, 0.0, 0.0);
        peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let (mut demand, second) = (Demand::default(), Duration::from_secs);
        demand.set(second(0), 40.0);
        demand.set(second(10), 0.0);
        assert!((demand.take_peak(second(10)) - 40.0).abs() < 1e-9);
        assert!((demand.smoothed - 40.0).abs() < 1e-9, "{}", demand.smoothed);
        assert!(demand.take_peak(second(20)).abs() < 1e-9);
        assert!(
            (demand.smoothed - 40.0 * SMOOTHING_COEFFICIENT).abs() < 1e-9,
            "{}",
            demand.smoothed
        );
        demand.set(second(25), 10.0);
        demand.take_peak(second(30));
        assert!(30.0 < demand.smoothed, "{}", demand.smoothed);
    }
}

//! Medians, ranges, and figures as text.

use serde_json::Value;

/// The ratios of the rounds.
pub struct Ratios(Vec<f64>);

impl Ratios {
    /// Ours divided by theirs, one per round.
    pub fn of(ours: &[f64], theirs: &[f64]) -> Self {
        let mut all: Vec<f64> =
            ours.iter().zip(theirs).filter(|(_, b)| 0.0 < **b).map(|(a, b)| a / b).collect();
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    pub fn median(&self) -> f64 {
        median(&self.0)
    }
}

impl std::fmt::Display for Ratios {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.first(), self.0.last()) {
            (Some(low), Some(high)) => write!(f, "{:.2} × ({low:.2} to {high:.2})", self.median()),
            _ => f.write_str("no ratio"),
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    let half = all.len() / 2;
    match (all.get(half), all.get(half.wrapping_sub(1))) {
        (Some(high), Some(low)) if all.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (Some(middle), _) => *middle,
        (None, _) => f64::NAN,
    }
}

/// This field of every round; `a.b` looks into objects.
pub fn column(rounds: &[Value], path: &str) -> Vec<f64> {
    let pointer = format!("/{}", path.replace('.', "/"));
    rounds.iter().filter_map(|round| round.pointer(&pointer)?.as_f64()).collect()
}

/// Microseconds as a person reads them.
pub fn time(micros: f64) -> String {
    if micros.is_nan() {
        "?".to_owned()
    } else if micros < 1000.0 {
        format!("{micros:.0} µs")
    } else if micros < 1e6 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

/// p50, p99 and max of several rounds: medians of the rounds, and the largest of the maxima.
pub fn spread(rounds: &[Value], prefix: &str) -> String {
    let at = |name: &str| column(rounds, &format!("{prefix}{name}"));
    let max = at("max").into_iter().fold(f64::NAN, f64::max);
    format!("p50 {}, p99 {}, max {}", time(median(&at("p50"))), time(median(&at("p99"))), time(max))
}

/// p50, p99 and max of times in microseconds.
pub fn percentiles(times: &[f64]) -> (f64, f64, f64) {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let at = |share: usize| {
        let place = (times.len() * share).div_ceil(100).saturating_sub(1);
        times.get(place).copied().unwrap_or(f64::NAN)
    };
    (at(50), at(99), at(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratios = Ratios::of(&[2.0, 9.0, 4.0], &[1.0, 3.0, 4.0]);
        assert_eq!(ratios.to_string(), "2.00 × (1.00 to 3.00)");
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentiles(&times), (50.0, 99.0, 100.0));
    }
}

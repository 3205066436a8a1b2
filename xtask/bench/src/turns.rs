//! How long the turns of a controller took, as a hub's metrics tell it.

use serde_json::{Value, json};

/// How long the turns of a controller took.
#[derive(Debug, Default, PartialEq)]
pub struct Turns {
    pub count: f64,
    sum: f64,
    /// Seconds, and how many took at most so long.
    buckets: Vec<(f64, f64)>,
}

impl Turns {
    /// From the text of all metrics.
    pub fn read(text: &str, controller: &str) -> Self {
        let mut all = Self::default();
        let name = format!("name=\"{controller}\"");
        let own =
            text.lines().filter_map(|line| line.strip_prefix("workqueue_work_duration_seconds_"));
        for line in own.filter(|line| line.contains(&name)) {
            let Some(value) = line.rsplit(' ').next().and_then(|value| value.parse().ok()) else {
                continue;
            };
            if line.starts_with("count") {
                all.count = value;
            } else if line.starts_with("sum") {
                all.sum = value;
            } else if let Some((_, rest)) = line.split_once("le=\"")
                && let Some((bound, _)) = rest.split_once('"')
            {
                all.buckets.push((bound.parse().unwrap_or(f64::INFINITY), value));
            }
        }
        all
    }

    /// Those that came after these.
    pub fn since(&self, before: &Self) -> Self {
        let then = |bound: f64| {
            let same = before.buckets.iter().find(|(other, _)| other.total_cmp(&bound).is_eq());
            same.map_or(0.0, |(_, count)| *count)
        };
        Self {
            count: self.count - before.count,
            sum: self.sum - before.sum,
            buckets: self.buckets.iter().map(|(at, count)| (*at, count - then(*at))).collect(),
        }
    }

    /// Seconds.
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The bound of the bucket in which it lies, in seconds.
    pub fn p99(&self) -> f64 {
        let reached = self.buckets.iter().find(|(_, count)| self.count * 0.99 <= *count);
        reached.map_or(f64::NAN, |(bound, _)| *bound)
    }

    /// All figures.
    pub fn raw(&self) -> Value {
        json!({"count": self.count, "sum": self.sum, "buckets": self.buckets})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_a_controller_are_those_between_two_looks() {
        let page = |count: u32, fast: u32| {
            format!(
                "workqueue_work_duration_seconds_bucket{{le=\"0.01\",name=\"p\"}} {fast}\n\
                 workqueue_work_duration_seconds_bucket{{le=\"0.1\",name=\"p\"}} {count}\n\
                 workqueue_work_duration_seconds_bucket{{le=\"+Inf\",name=\"p\"}} {count}\n\
                 workqueue_work_duration_seconds_sum{{name=\"p\"}} {count}\n\
                 workqueue_work_duration_seconds_count{{name=\"p\"}} {count}\n\
                 workqueue_work_duration_seconds_count{{name=\"other\"}} 7\n"
            )
        };
        let read = |text: String| Turns::read(&text, "p");
        let turns = read(page(110, 109)).since(&read(page(10, 10)));
        assert_eq!((turns.count, turns.mean(), turns.p99()), (100.0, 1.0, 0.01));
        let slow = read(page(110, 60)).since(&read(page(10, 10)));
        assert_eq!(slow.p99(), 0.1);
        assert!(Turns::default().p99().is_nan());
    }
}

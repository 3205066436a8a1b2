//! Clusters on which something of an add-on could not be done, each with a back-off of its own: one that resists is tried
//! again by itself, and nobody else is looked at for it.
//!
//! Guarantees:
//! - what fails is tried again, less and less often, and at once when something of it changes
//!   (`what_fails_is_tried_again_less_and_less_often`).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::known::Touched;
use crate::engine::queue::backoff;

/// A cluster that waits.
struct Wait {
    due: Instant,
    failures: u32,
}

/// All of an add-on.
#[derive(Default)]
pub(super) struct Waits(HashMap<String, Wait>);

impl Waits {
    /// What was touched is tried now.
    pub fn wake(&mut self, touched: &Touched, now: Instant) {
        let all = touched.everything || touched.choice;
        for (cluster, wait) in &mut self.0 {
            if all || touched.clusters.contains(cluster) {
                wait.due = wait.due.min(now);
            }
        }
    }

    /// Whether a cluster is not to be tried yet.
    pub fn is_put_off(&self, cluster: &str, now: Instant) -> bool {
        self.0.get(cluster).is_some_and(|wait| now < wait.due)
    }

    /// Those whose time has come.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &String> {
        self.0.iter().filter(move |(_, wait)| wait.due <= now).map(|(cluster, _)| cluster)
    }

    /// It has failed there; how long it waits.
    pub fn put_off(&mut self, cluster: &str, now: Instant) -> Duration {
        let wait = self.0.entry(cluster.to_owned()).or_insert(Wait { due: now, failures: 0 });
        let delay = backoff(wait.failures);
        (wait.due, wait.failures) = (now + delay, wait.failures.saturating_add(1));
        delay
    }

    /// It is done there, or nothing is to be done.
    pub fn end(&mut self, cluster: &str) {
        self.0.remove(cluster);
    }

    /// When the first of them is to be tried, after a look that began then: whose time had come and who was not put off
    /// again has nothing to be done.
    pub fn after(&mut self, began: Instant) -> Option<Duration> {
        self.0.retain(|_, wait| began < wait.due);
        self.0.values().map(|wait| wait.due.saturating_duration_since(began)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_less_and_less_often() {
        let (mut waits, mut now) = (Waits::default(), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..8 {
            delays.push(waits.put_off("pi-1", now));
            assert!(waits.is_put_off("pi-1", now) && waits.due(now).next().is_none());
            assert_eq!(waits.after(now), delays.last().copied());
            now += delays[delays.len() - 1];
            assert!(!waits.is_put_off("pi-1", now) && waits.due(now).eq(["pi-1"]));
        }
        assert!(delays.windows(2).all(|two| two[0] < two[1]), "{delays:?}");
        let delay = waits.put_off("pi-1", now);
        let other = Touched { clusters: ["pi-2".to_owned()].into(), ..Touched::default() };
        waits.wake(&other, now);
        assert_eq!(waits.after(now), Some(delay));
        let own = Touched { clusters: ["pi-1".to_owned()].into(), ..Touched::default() };
        waits.wake(&own, now);
        assert!(!waits.is_put_off("pi-1", now));
        assert_eq!(waits.after(now), None, "it was due, and is not put off again");
    }
}

//! Clusters on which something of an add-on could not be done, each with a back-off of its own: one that resists is tried
//! again by itself, and nobody else is looked at for it.
//!
//! Guarantees:
//! - what fails is tried again, less and less often, and at once when something of it changes
//!   (`what_fails_is_tried_again_less_and_less_often`).

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use freewheel_hub_store::Stored;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::engine::Error;
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
    /// These are tried now, or all.
    pub fn wake(&mut self, all: bool, clusters: &BTreeSet<String>, now: Instant) {
        for (cluster, wait) in &mut self.0 {
            if all || clusters.contains(cluster) {
                wait.due = wait.due.min(now);
            }
        }
    }

    /// Whether something could not be done on this cluster.
    pub fn has(&self, cluster: &str) -> bool {
        self.0.contains_key(cluster)
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

/// Remembers what came of a try at a cluster; whether it is done. What is not is tried again later, there alone.
pub(super) fn note(
    waits: &mut Waits,
    (add_on, cluster): (&Stored, &str),
    outcome: Result<(), Error>,
    now: Instant,
) -> bool {
    let Err(failed) = outcome else {
        waits.end(cluster);
        return true;
    };
    let (delay, add_on, error) = (waits.put_off(cluster, now), &*add_on.key.name, failed.chain());
    if failed.is_race() {
        debug!(cluster, add_on, ?delay, %error, "an add-on is not there yet; will try again");
    } else {
        warn!(cluster, add_on, ?delay, %error, "an add-on resists on a cluster; will try again");
    }
    false
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
        waits.wake(false, &["pi-2".to_owned()].into(), now);
        assert_eq!(waits.after(now), Some(delay));
        waits.wake(false, &["pi-1".to_owned()].into(), now);
        assert!(!waits.is_put_off("pi-1", now));
        assert_eq!(waits.after(now), None, "it was due, and is not put off again");
    }
}

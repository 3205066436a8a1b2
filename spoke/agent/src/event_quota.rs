//! How many events each pod may tell: one whose probes fail all the time leaves its neighbours, and the hub, theirs.
//!
//! Guarantees:
//! - a pod tells no more than kubelet's spam filter lets through: 25 at once, and one more each five minutes
//!   (`a_pod_tells_some_events_at_once_and_then_one_each_five_minutes`);
//! - nothing is kept of a pod that is gone (`of_a_pod_that_is_gone_nothing_is_kept`).

use std::collections::BTreeMap;

use freewheel_link::report::UnixMillis;

/// Time by which one event more may be told.
const EVENT_EVERY_MILLIS: UnixMillis = 300_000;

/// What is saved up at most, in that time: so many events at once.
const SAVED_MILLIS_MAX: UnixMillis = 25 * EVENT_EVERY_MILLIS;

/// What each pod may still tell, and the device under no name.
#[derive(Debug, Default)]
pub(crate) struct EventQuota(BTreeMap<String, Saved>);

/// Time that was saved up, until when.
#[derive(Debug)]
struct Saved(UnixMillis, UnixMillis);

impl EventQuota {
    /// Whether the pod with this UID may tell one more event at this time.
    pub(crate) fn take(&mut self, uid: &str, at: UnixMillis) -> bool {
        let Some(Saved(saved, until)) = self.0.get_mut(uid) else {
            self.0.insert(uid.to_owned(), Saved(SAVED_MILLIS_MAX - EVENT_EVERY_MILLIS, at));
            return true;
        };
        // A clock that was set back saves nothing, and goes on from there.
        *saved = saved.saturating_add(at.saturating_sub(*until)).min(SAVED_MILLIS_MAX);
        *until = at;
        let left = saved.checked_sub(EVENT_EVERY_MILLIS);
        *saved = left.unwrap_or(*saved);
        left.is_some()
    }

    /// The pod is gone.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_tells_some_events_at_once_and_then_one_each_five_minutes() {
        let mut quota = EventQuota::default();
        let told = |quota: &mut EventQuota, from: UnixMillis, seconds: UnixMillis| {
            (0..seconds).filter(|second| quota.take("a", from + second * 1000)).count()
        };
        assert_eq!(told(&mut quota, 1_000_000, 60), 25);
        assert_eq!(told(&mut quota, 1_060_000, 3600), 12);
        assert!(quota.take("b", 1_000_000), "another pod has its own");
        assert_eq!(told(&mut quota, 5_000, 60), 0, "a clock that was set back makes none");
        assert_eq!(told(&mut quota, 100_000_000_000, 60), 25);
    }

    #[test]
    fn of_a_pod_that_is_gone_nothing_is_kept() {
        let mut quota = EventQuota::default();
        assert!(quota.take("a", 1));
        quota.forget("a");
        assert!(quota.0.is_empty());
    }
}

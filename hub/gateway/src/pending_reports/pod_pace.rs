//! How often the states of one spoke's pods are written: each pod's at its own pace, and all of them at the spoke's.
//!
//! Guarantees:
//! - after its burst a pod has one state written each second, whatever others do
//!   (`a_pod_has_its_burst_and_then_its_pace`), and nothing is kept of pods that have all of their burst
//!   (`pods_that_are_quiet_are_not_remembered`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// States of one pod that are written in a row. The start of a container is told in some four (it waits, its module is
/// fetched, it runs, it is ready), so that a pod of a dozen containers starts, and is told to end, without a wait.
const POD_STATE_BURST: u32 = 64;
/// One more after each of these. Who says more has the newest written: a pod that comes and goes more often than that
/// is seen to do so once in a second.
const POD_STATE_EVERY: Duration = Duration::from_secs(1);
/// What the wait for its turn must have come down to.
const POD_STATE_BURST_TIME: Duration = POD_STATE_EVERY.saturating_mul(POD_STATE_BURST - 1);
/// States of a spoke's pods that are written in a row. A hundred and ten pods that start at once, or are all replaced,
/// are told in some fifteen hundred; five thousand pods that a hub has forgotten, in one each.
pub(crate) const SPOKE_STATE_BURST: u32 = 4096;
/// And per second after that: as many as a full device has pods, and a hundredth of what one hub writes.
pub(crate) const SPOKE_STATES_PER_SECOND: f64 = 100.0;
/// A state counts once for each of these bytes that it has. Those of most pods are of less.
const COUNTED_BYTES: usize = 8 << 10;
/// Pods that are remembered before it is looked which of them are quiet.
const PODS_SWEPT_FROM: usize = 64;

/// For how many a state of so many bytes counts.
pub(super) fn count(bytes: usize) -> u32 {
    u32::try_from(bytes / COUNTED_BYTES).unwrap_or(u32::MAX).saturating_add(1)
}

/// The pods of one session.
#[derive(Debug)]
pub(super) struct PodPace {
    /// When each has all of its burst again, by its UID.
    full: BTreeMap<String, Instant>,
    /// At so many of them those that have it go.
    swept_from: usize,
}

impl Default for PodPace {
    fn default() -> Self {
        Self { full: BTreeMap::new(), swept_from: PODS_SWEPT_FROM }
    }
}

impl PodPace {
    /// When this pod may be written; `None`: now.
    pub(super) fn due(&self, pod: &str, now: Instant) -> Option<Instant> {
        let full = self.full.get(pod)?;
        full.checked_sub(POD_STATE_BURST_TIME).filter(|due| now < *due)
    }

    /// This pod is written now.
    pub(super) fn note(&mut self, pod: &str, now: Instant) {
        if self.swept_from <= self.full.len() {
            self.full.retain(|_, full| now < *full);
            // Looking at all of them is paid for by as many new ones.
            self.swept_from = PODS_SWEPT_FROM.max(2 * self.full.len());
        }
        let full = self.full.get(pod).map_or(now, |full| now.max(*full)) + POD_STATE_EVERY;
        self.full.insert(pod.to_owned(), full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_its_burst_and_then_its_pace() {
        let (mut pace, start) = (PodPace::default(), Instant::now());
        let mut written = |pod: &str, after: Duration| {
            let now = start + after;
            let mut count = 0;
            while pace.due(pod, now).is_none() {
                pace.note(pod, now);
                count += 1;
            }
            count
        };
        let second = Duration::from_secs(1);
        for pod in ["a", "b"] {
            assert_eq!(written(pod, Duration::ZERO), POD_STATE_BURST);
        }
        assert_eq!(written("a", second / 2), 0);
        assert_eq!(written("a", second), 1);
        assert_eq!(written("a", 3 * second), 2);
        assert_eq!(written("a", 3600 * second), POD_STATE_BURST, "no more than the burst");
    }

    #[test]
    fn pods_that_are_quiet_are_not_remembered() {
        let (mut pace, start) = (PodPace::default(), Instant::now());
        for number in (0..).take(10 * PODS_SWEPT_FROM) {
            pace.note(&number.to_string(), start + 2 * POD_STATE_EVERY * number);
        }
        assert!(pace.full.len() <= PODS_SWEPT_FROM, "{}", pace.full.len());
    }

    #[test]
    fn a_long_state_counts_for_several() {
        assert_eq!([count(0), count(COUNTED_BYTES - 1), count(1 << 20)], [1, 1, 129]);
    }
}

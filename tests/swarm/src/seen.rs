//! What a spoke has seen of its hub, and when: greetings, and plans that it holds durably.
//!
//! Guarantees:
//! - when a revision was first held is known while few newer ones are
//!   (`when_a_revision_was_first_held_is_known_while_few_are_newer`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use freewheel_link::digest::SetDigest;
use freewheel_link::generation::Generation;
use freewheel_link::report::{NodeStatusV1, Report, ReportStamp};
use freewheel_spoke_agent::ports::Uplink;
use freewheel_spoke_agent::uplink::Handle;
use parking_lot::Mutex;

/// Microseconds since 1970: whoever changes something at the hub reads the same clock.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What one spoke has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    plans: Mutex<Plans>,
    /// When the hub greeted last; zero: never.
    greeted: AtomicU64,
}

/// The newest plans: revision, and since when it is held.
#[derive(Debug, Default)]
struct Plans {
    newest: [(u64, u64); 4],
    next: usize,
}

/// What all spokes have done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Greetings.
    pub(crate) greetings: AtomicU64,
    /// Times that the hub took a spoke for none of its own.
    pub(crate) turned_away: AtomicU64,
    /// Reports that were given to a session.
    pub(crate) reports: AtomicU64,
    /// Plans that were acknowledged.
    pub(crate) plans: AtomicU64,
    /// Containers that were started.
    pub(crate) starts: AtomicU64,
    /// Containers that have ended.
    pub(crate) ends: AtomicU64,
}

impl Seen {
    pub(crate) fn greet(&self) {
        self.greeted.store(now(), Relaxed);
    }

    /// When the hub greeted last; zero: never.
    pub(crate) fn greeted(&self) -> u64 {
        self.greeted.load(Relaxed)
    }

    /// A plan is held; whether it is newer than those before.
    fn hold(&self, revision: u64, at: u64) -> bool {
        let mut plans = self.plans.lock();
        let is_news = plans.newest.iter().all(|(held, _)| *held < revision);
        if is_news {
            let next = plans.next;
            plans.newest[next] = (revision, at);
            plans.next = (next + 1) % plans.newest.len();
        }
        is_news
    }

    /// The newest revision that is held.
    pub(crate) fn held(&self) -> u64 {
        self.plans.lock().newest.iter().map(|(revision, _)| *revision).max().unwrap_or_default()
    }

    /// Since when this revision or a newer one is held.
    pub(crate) fn held_since(&self, revision: u64) -> Option<u64> {
        let plans = self.plans.lock();
        plans.newest.iter().filter(|(held, _)| revision.max(1) <= *held).map(|(_, at)| *at).min()
    }
}

/// A spoke's uplink, watched.
pub(crate) struct Watched {
    pub(crate) uplink: Handle,
    pub(crate) seen: Arc<Seen>,
    pub(crate) counts: Arc<Counts>,
}

impl Uplink for Watched {
    fn report(&self, session: u64, stamp: ReportStamp, report: Report) {
        self.counts.reports.fetch_add(1, Relaxed);
        self.uplink.report(session, stamp, report);
    }

    fn took(&self, generation: Generation, digest: SetDigest) {
        if self.seen.hold(generation.revision, now()) {
            self.counts.plans.fetch_add(1, Relaxed);
        }
        self.uplink.took(generation, digest);
    }

    fn runs(&self, generation: Generation, digest: SetDigest) {
        self.uplink.runs(generation, digest);
    }

    fn device(&self, status: &NodeStatusV1) {
        self.uplink.device(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_revision_was_first_held_is_known_while_few_are_newer() {
        let seen = Seen::default();
        assert_eq!((seen.held(), seen.held_since(0)), (0, None));
        assert!(seen.hold(10, 1));
        assert!(!seen.hold(10, 2), "it was held before");
        assert!(seen.hold(20, 3) && seen.hold(30, 4));
        assert_eq!(
            (seen.held_since(10), seen.held_since(11), seen.held_since(31)),
            (Some(1), Some(3), None)
        );
        assert!(seen.hold(40, 5) && seen.hold(50, 6));
        assert_eq!((seen.held(), seen.held_since(40)), (50, Some(5)));
        assert_eq!(seen.held_since(10), Some(3), "the first of those that are known");
    }
}

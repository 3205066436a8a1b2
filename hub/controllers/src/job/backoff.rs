//! How long a Job waits before it tries again: ten seconds, doubled with each failure since the last success, up to
//! ten minutes.
//!
//! Guarantees:
//! - a device whose clock is wrong does not make its Jobs wait for ever, nor not at all
//!   (`the_hubs_clock_says_when_a_failure_was_seen`);
//! - a hub that was started anew goes on where the finished pods say that it was
//!   (`who_remembers_nothing_counts_what_has_ended`);
//! - whom the Job itself has sent away, as it rests or runs fewer, has not failed
//!   (`whom_the_job_has_sent_away_has_not_failed`).

use std::collections::HashMap;
use std::time::Duration;

use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::observe::{JobPod, Wanted};

/// After the first failure.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// At most.
pub const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// How often pods have failed since one succeeded, and when that was seen last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureRecord {
    failures: u32,
    last: Option<Timestamp>,
}

impl FailureRecord {
    /// The record when these pods are found to have ended since.
    #[must_use]
    pub fn after(self, succeeded: &[&JobPod], failed: &[&JobPod], now: Timestamp) -> Self {
        let (before, failed) = match succeeded.iter().map(|pod| pod.ended()).max() {
            None => (self, failed.len()),
            Some(success) => {
                let later = failed.iter().filter(|pod| success < pod.ended());
                (Self::default(), later.count())
            }
        };
        if failed == 0 {
            return before;
        }
        let failed = u32::try_from(failed).unwrap_or(u32::MAX);
        Self { failures: before.failures.saturating_add(failed), last: Some(now) }
    }

    /// The record of who remembers nothing, from the pods that were counted before. Whoever is on its way out without
    /// the finalizer was mostly sent away by the Job, and says nothing of failures, not even when its end is one.
    #[must_use]
    pub fn of(pods: &[JobPod], wanted: &Wanted, now: Timestamp) -> Self {
        let counted = |ended: &dyn Fn(&JobPod) -> bool| -> Vec<&JobPod> {
            let stays = |pod: &&JobPod| !pod.tracked && !pod.facts.is_deleting();
            pods.iter().filter(stays).filter(|pod| ended(pod)).collect()
        };
        let failed = counted(&|pod| pod.has_failed(wanted));
        let last = failed.iter().map(|pod| pod.ended()).max().map_or(now, |last| last.min(now));
        Self::default().after(&counted(&JobPod::has_succeeded), &failed, last)
    }

    /// How much longer no pod is made.
    #[must_use]
    pub fn remaining(self, now: Timestamp) -> Duration {
        self.last.map_or(Duration::ZERO, |last| remaining(self.failures, last, now))
    }
}

/// How much longer no pod is made after so many failures, the last one then.
#[must_use]
pub fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let doubled = BACKOFF_FIRST.saturating_mul(1 << (failures - 1).min(16));
    // A failure of the future is one of now.
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    doubled.min(BACKOFF_MAX).saturating_sub(passed)
}

/// The records of all Jobs that have failures. The objects do not say when a failure was seen.
#[derive(Debug, Default)]
pub struct FailureRecords(Mutex<HashMap<Key, (Uid, FailureRecord)>>);

impl FailureRecords {
    /// What is remembered of this very Job.
    #[must_use]
    pub fn get(&self, key: &Key, uid: &Uid) -> Option<FailureRecord> {
        let records = self.0.lock();
        records.get(key).filter(|(whose, _)| whose == uid).map(|(_, record)| *record)
    }

    /// Remembers it.
    pub fn put(&self, key: &Key, uid: &Uid, record: FailureRecord) {
        self.0.lock().insert(key.clone(), (uid.clone(), record));
    }

    /// The Job is over or gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::testing::{self, job};
    use crate::testing::pod;

    fn ended(second: i64, phase: &str) -> JobPod {
        let facts = pod("p").phase(phase).created(second).facts();
        JobPod { facts, index: None, tracked: true }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_failure_doubles_it_and_a_success_ends_it() {
        let waits = |failures| remaining(failures, at(0), at(0)).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 99].map(waits), [0, 10, 20, 40, 320, 600, 600]);
        let failed = ended(5, "Failed");
        let twice = FailureRecord::default().after(&[], &[&failed, &failed], at(6));
        assert_eq!(twice.remaining(at(10)), Duration::from_secs(16));
        let success = ended(7, "Succeeded");
        assert_eq!(twice.after(&[&success], &[], at(8)), FailureRecord::default());
        let later = ended(8, "Failed");
        let mixed = twice.after(&[&success], &[&failed, &later], at(8));
        assert_eq!(mixed.remaining(at(8)), Duration::from_secs(10));
    }

    #[test]
    fn the_hubs_clock_says_when_a_failure_was_seen() {
        for second in [-1_000_000, 1_000_000_000] {
            let failed = ended(second, "Failed");
            let record = FailureRecord::default().after(&[], &[&failed], at(100));
            assert_eq!(record.remaining(at(104)), Duration::from_secs(6));
        }
        assert_eq!(remaining(1, at(1_000_000), at(100)), BACKOFF_FIRST);
    }

    #[test]
    fn who_remembers_nothing_counts_what_has_ended() {
        let counted = |second, phase| JobPod { tracked: false, ..ended(second, phase) };
        let pods = [
            counted(3, "Failed"),
            counted(5, "Succeeded"),
            counted(7, "Failed"),
            ended(9, "Failed"),
        ];
        let record = FailureRecord::of(&pods, &job(&json!({})), at(10));
        assert_eq!(record, FailureRecord { failures: 1, last: Some(at(7)) });
    }

    #[test]
    fn whom_the_job_has_sent_away_has_not_failed() {
        let sent_away = |phase| testing::pod("p").counted().phase(phase).deleting(30).done();
        let pods = ["Running", "Pending", "Failed"].map(sent_away);
        let record = FailureRecord::of(&pods, &job(&json!({})), at(10));
        assert_eq!(record, FailureRecord::default());
    }

    #[test]
    fn a_record_is_of_one_job() {
        let (records, uid) = (FailureRecords::default(), Uid::from("u"));
        let key = ended(1, "Failed").facts.key().clone();
        assert_eq!(records.get(&key, &uid), None);
        let record = FailureRecord::default().after(&[], &[&ended(1, "Failed")], at(2));
        records.put(&key, &uid, record);
        assert_eq!(records.get(&key, &uid), Some(record));
        assert_eq!(records.get(&key, &Uid::from("v")), None, "another one of this name");
        records.forget(&key);
        assert_eq!(records.get(&key, &uid), None);
    }
}

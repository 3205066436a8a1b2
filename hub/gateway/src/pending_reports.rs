//! Reports that have come and are not written yet: of each thing the newest.
//!
//! A store may stand still for hours. What else the spoke says meanwhile comes behind its reports on the same stream,
//! so they are taken off it as they come.
//!
//! Guarantees:
//! - a newer report takes the place of an older one of the same thing, and they are given in the order of their stamps,
//!   so that whoever has written one has written all before it or will write a newer one
//!   (`the_newest_of_each_thing_waits_in_the_order_of_the_stamps`);
//! - one that is put back stands behind a newer one of the same thing
//!   (`what_is_put_back_takes_no_newer_one_s_place`);
//! - what waits is bounded, and who is beyond that waits (`who_reports_on_more_than_there_is_room_for_waits`).

use std::collections::BTreeMap;

use freewheel_link::report::{Report, ReportStamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::events;

/// Bytes of reports that may wait: the states of some thousand pods.
const PENDING_REPORT_BYTES_MAX: usize = 4 << 20;
/// Reports that are written side by side.
const REPORT_WRITES_AT_ONCE: usize = 256;

/// What a report is about, where a newer one says all that an older one did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Device,
    Pod(String),
    /// What happened again is one event.
    Event(String, u64),
}

impl Subject {
    fn of(report: &Report) -> Self {
        match report {
            Report::Pod(pod) => Self::Pod(pod.uid.clone()),
            Report::PodGone { uid, .. } => Self::Pod(uid.clone()),
            Report::Node(_) => Self::Device,
            Report::Event(event) => Self::Event(event.uid.clone(), events::mark(event)),
            Report::NodeEvent(event) => Self::Event(String::new(), events::mark_of_own(event)),
        }
    }
}

/// One session's.
#[derive(Default)]
pub(crate) struct PendingReports {
    waiting: Mutex<Waiting>,
    came: Notify,
    went: Notify,
}

#[derive(Default)]
struct Waiting {
    reports: BTreeMap<ReportStamp, (Report, usize)>,
    newest: BTreeMap<Subject, ReportStamp>,
    bytes: usize,
}

impl Waiting {
    /// Gives it back when there is no room.
    fn put(&mut self, stamp: ReportStamp, report: Report) -> Option<Report> {
        let subject = Subject::of(&report);
        let weight = weight(&report);
        let older = self.newest.get(&subject).copied();
        if older.is_none()
            && !self.reports.is_empty()
            && PENDING_REPORT_BYTES_MAX < self.bytes + weight
        {
            return Some(report);
        }
        if let Some((_, freed)) = older.and_then(|older| self.reports.remove(&older)) {
            self.bytes -= freed;
        }
        self.insert(stamp, report);
        None
    }

    fn insert(&mut self, stamp: ReportStamp, report: Report) {
        let weight = weight(&report);
        self.bytes += weight;
        self.newest.insert(Subject::of(&report), stamp);
        self.reports.insert(stamp, (report, weight));
    }

    fn oldest(&mut self) -> Option<(ReportStamp, Report)> {
        let (stamp, (report, weight)) = self.reports.pop_first()?;
        self.bytes -= weight;
        self.newest.remove(&Subject::of(&report));
        Some((stamp, report))
    }
}

fn weight(report: &Report) -> usize {
    postcard::to_stdvec(report).map_or(0, |bytes| bytes.len())
}

impl PendingReports {
    /// One more. Waits while there is no room for it.
    pub(crate) async fn put(&self, stamp: ReportStamp, mut report: Report) {
        loop {
            let back = self.waiting.lock().put(stamp, report);
            let Some(back) = back else { return self.came.notify_one() };
            report = back;
            self.went.notified().await;
        }
    }

    /// Puts back what was given and could not be written, unless a newer one of the same thing waits. There is always
    /// room for it: there was, and those who come wait.
    pub(crate) fn put_back(&self, stamp: ReportStamp, report: Report) {
        let mut waiting = self.waiting.lock();
        if waiting.newest.contains_key(&Subject::of(&report)) {
            return;
        }
        waiting.insert(stamp, report);
        drop(waiting);
        self.came.notify_one();
    }

    /// The oldest that wait, at least one, in the order of their stamps. Cancel safe.
    pub(crate) async fn next(&self) -> Vec<(ReportStamp, Report)> {
        loop {
            let next: Vec<_> = {
                let mut waiting = self.waiting.lock();
                std::iter::from_fn(|| waiting.oldest()).take(REPORT_WRITES_AT_ONCE).collect()
            };
            if !next.is_empty() {
                self.went.notify_one();
                return next;
            }
            self.came.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;
    use freewheel_link::report::NodeEventV1;
    use futures::FutureExt as _;

    use super::*;

    fn gone(uid: &str) -> Report {
        Report::PodGone { realm: ClusterName::root(), uid: uid.into() }
    }

    fn event(message: &str) -> Report {
        let (reason, message) = ("Rebooted".into(), message.into());
        Report::NodeEvent(NodeEventV1 { warning: true, reason, message, at: 1 })
    }

    fn stamp(sequence: u64) -> ReportStamp {
        ReportStamp { boot_epoch: 1, sequence }
    }

    #[tokio::test]
    async fn the_newest_of_each_thing_waits_in_the_order_of_the_stamps() {
        let pending_reports = PendingReports::default();
        let all = [gone("a"), event("x"), gone("b"), event("y"), gone("a"), event("x")];
        for (sequence, report) in (1..).zip(all) {
            pending_reports.put(stamp(sequence), report).await;
        }
        let next: Vec<_> =
            pending_reports.next().await.into_iter().map(|(at, it)| (at.sequence, it)).collect();
        assert_eq!(next, [(3, gone("b")), (4, event("y")), (5, gone("a")), (6, event("x"))]);
        assert!(pending_reports.next().now_or_never().is_none());
        let waiting = pending_reports.waiting.lock();
        assert!(waiting.newest.is_empty() && waiting.bytes == 0);
    }

    #[tokio::test]
    async fn what_is_put_back_takes_no_newer_one_s_place() {
        let pending_reports = PendingReports::default();
        pending_reports.put(stamp(3), gone("a")).await;
        pending_reports.put_back(stamp(1), gone("a"));
        pending_reports.put_back(stamp(2), gone("b"));
        assert_eq!(pending_reports.next().await, [(stamp(2), gone("b")), (stamp(3), gone("a"))]);
        assert!(pending_reports.next().now_or_never().is_none());
        assert_eq!(pending_reports.waiting.lock().bytes, 0);
    }

    #[tokio::test]
    async fn who_reports_on_more_than_there_is_room_for_waits() {
        let pending_reports = PendingReports::default();
        let large = |number: u64| event(&format!("{number}{}", "x".repeat(64 << 10)));
        let mut number = 0;
        while pending_reports.put(stamp(number), large(number)).now_or_never().is_some() {
            number += 1;
        }
        assert!((60..=64).contains(&number), "{number}");
        let newer = pending_reports.put(stamp(number + 1), large(number - 1)).now_or_never();
        assert!(newer.is_some(), "it takes no more room than the one before it");
        let mut waits = Box::pin(pending_reports.put(stamp(number + 2), large(number + 2)));
        assert!((&mut waits).now_or_never().is_none());
        let taken = pending_reports.next().await.len();
        assert!(waits.now_or_never().is_some());
        assert_eq!((taken as u64, pending_reports.next().await.len()), (number, 1));
    }
}

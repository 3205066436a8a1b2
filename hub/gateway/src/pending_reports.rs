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
//! - what waits, is being written or is to be tried again has a bound in bytes of memory, and who is beyond that waits
//!   (`who_reports_on_more_than_there_is_room_for_waits`, `what_is_being_written_takes_its_room_until_it_is`), also who
//!   has more to say of something than before (`a_longer_report_of_the_same_thing_waits_for_its_room`) and who has
//!   little to say of much (`a_report_of_few_bytes_has_the_weight_of_its_place`).

use std::collections::BTreeMap;

use freewheel_link::report::{ConditionV1, ContainerStatusV1, Report, ReportStamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::events;

/// Bytes of memory that reports may take: the states of some two thousand pods.
const PENDING_REPORT_BYTES_MAX: usize = 4 << 20;
/// What each takes beside its texts and lists: two places, in trees whose nodes may be half empty.
const PLACE_BYTES: usize =
    2 * (size_of::<(ReportStamp, (Report, usize))>() + size_of::<(Subject, ReportStamp)>());
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
    /// What waits.
    bytes: usize,
    /// What was given and has not come to an end.
    given: usize,
}

impl Waiting {
    /// Gives it back when there is no room.
    fn put(&mut self, stamp: ReportStamp, report: Report) -> Option<Report> {
        let weight = weight(&report);
        let older = self.newest.get(&Subject::of(&report)).copied();
        let freed = older.and_then(|older| self.reports.get(&older)).map_or(0, |(_, freed)| *freed);
        let held = self.bytes + self.given;
        // One that is larger than all of the room comes alone.
        if freed < weight && 0 < held && PENDING_REPORT_BYTES_MAX < held - freed + weight {
            return Some(report);
        }
        if let Some(older) = older {
            self.reports.remove(&older);
            self.bytes -= freed;
        }
        self.insert(stamp, report, weight);
        None
    }

    fn insert(&mut self, stamp: ReportStamp, report: Report, weight: usize) {
        self.bytes += weight;
        self.newest.insert(Subject::of(&report), stamp);
        self.reports.insert(stamp, (report, weight));
    }

    fn oldest(&mut self) -> Option<(ReportStamp, Report)> {
        let (stamp, (report, weight)) = self.reports.pop_first()?;
        self.bytes -= weight;
        self.given += weight;
        self.newest.remove(&Subject::of(&report));
        Some((stamp, report))
    }
}

/// About how many bytes of memory a report takes here.
fn weight(report: &Report) -> usize {
    let lists = match report {
        Report::Pod(pod) => {
            pod.conditions.len() * size_of::<ConditionV1>()
                + (pod.init.len() + pod.containers.len()) * size_of::<ContainerStatusV1>()
        }
        Report::Node(node) => {
            node.labels.len() * size_of::<(String, String)>()
                + node.pressure.len() * size_of::<String>()
        }
        Report::PodGone { .. } | Report::Event(_) | Report::NodeEvent(_) => 0,
    };
    // Texts are on the wire as they are.
    let texts = postcard::serialize_with_flavor(report, postcard::ser_flavors::Size::default());
    PLACE_BYTES + lists + texts.unwrap_or_default()
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

    /// Puts back what was given and could not be written, unless a newer one of the same thing waits. Its room was
    /// never anybody else's.
    pub(crate) fn put_back(&self, stamp: ReportStamp, report: Report) {
        let mut waiting = self.waiting.lock();
        if waiting.newest.contains_key(&Subject::of(&report)) {
            drop(waiting);
            return self.done(&report);
        }
        let weight = weight(&report);
        waiting.given = waiting.given.saturating_sub(weight);
        waiting.insert(stamp, report, weight);
        drop(waiting);
        self.came.notify_one();
    }

    /// What was given is written, or will not be: its room is free.
    pub(crate) fn done(&self, report: &Report) {
        let mut waiting = self.waiting.lock();
        waiting.given = waiting.given.saturating_sub(weight(report));
        drop(waiting);
        self.went.notify_one();
    }

    /// The oldest that wait, at least one, in the order of their stamps: each is to be [`PendingReports::done`] with, or
    /// put back. Cancel safe.
    pub(crate) async fn next(&self) -> Vec<(ReportStamp, Report)> {
        loop {
            let next: Vec<_> = {
                let mut waiting = self.waiting.lock();
                std::iter::from_fn(|| waiting.oldest()).take(REPORT_WRITES_AT_ONCE).collect()
            };
            if !next.is_empty() {
                return next;
            }
            self.came.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;
    use freewheel_link::part::Parts;
    use freewheel_link::report::{NodeEventV1, PhaseV1, PodStatusV1};
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

    /// A pod with so much to say.
    fn pod(uid: &str, bytes: usize) -> Report {
        Report::Pod(PodStatusV1 {
            realm: ClusterName::root(),
            namespace: "default".into(),
            name: "p".into(),
            uid: uid.into(),
            phase: PhaseV1::Running,
            ip: None,
            started: None,
            reason: String::new(),
            message: "x".repeat(bytes),
            conditions: Vec::new(),
            init: Vec::new(),
            containers: Vec::new(),
            parts: Parts::default(),
        })
    }

    /// Puts reports in until one waits; how many there are then.
    fn fill(pending_reports: &PendingReports, of: impl Fn(u64) -> Report) -> u64 {
        let puts = (1..1 << 20).take_while(|number| {
            pending_reports.put(stamp(*number), of(*number)).now_or_never().is_some()
        });
        puts.count() as u64
    }

    #[tokio::test]
    async fn a_longer_report_of_the_same_thing_waits_for_its_room() {
        let pending_reports = PendingReports::default();
        let few = fill(&pending_reports, |number| gone(&number.to_string()));
        let longer = (1..few.min(10)).take_while(|number| {
            let report = pod(&number.to_string(), 1 << 20);
            pending_reports.put(stamp(1 << 30 | number), report).now_or_never().is_some()
        });
        assert_eq!(longer.count(), 0, "behind {few} that wait");
        let shorter = pending_reports.put(stamp(1 << 31), gone("1")).now_or_never();
        assert!(shorter.is_some(), "it takes no more room than the one before it");
    }

    #[tokio::test]
    async fn a_report_of_few_bytes_has_the_weight_of_its_place() {
        let pending_reports = PendingReports::default();
        let few = fill(&pending_reports, |number| gone(&number.to_string()));
        assert!((2_000..16_000).contains(&few), "{few}");
    }

    #[tokio::test]
    async fn what_is_being_written_takes_its_room_until_it_is() {
        let pending_reports = PendingReports::default();
        let few = fill(&pending_reports, |number| pod(&number.to_string(), 512 << 10));
        let given = pending_reports.next().await;
        assert_eq!(given.len() as u64, few);
        let mut more = Box::pin(pending_reports.put(stamp(99), pod("99", 512 << 10)));
        assert!((&mut more).now_or_never().is_none(), "all of it is in the writer's hands");
        let [first, second, ..] = &given[..] else { panic!("{}", given.len()) };
        pending_reports.put_back(second.0, second.1.clone());
        assert!((&mut more).now_or_never().is_none(), "it waits again");
        pending_reports.done(&first.1);
        assert!(more.now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_is_put_back_takes_no_newer_one_s_place() {
        let pending_reports = PendingReports::default();
        pending_reports.put(stamp(1), gone("a")).await;
        pending_reports.put(stamp(2), gone("b")).await;
        let given = pending_reports.next().await;
        pending_reports.put(stamp(3), gone("a")).await;
        given.into_iter().for_each(|(stamp, report)| pending_reports.put_back(stamp, report));
        let next = pending_reports.next().await;
        assert_eq!(next, [(stamp(2), gone("b")), (stamp(3), gone("a"))]);
        assert!(pending_reports.next().now_or_never().is_none());
        next.iter().for_each(|(_, report)| pending_reports.done(report));
        let waiting = pending_reports.waiting.lock();
        assert_eq!((waiting.bytes, waiting.given), (0, 0));
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
        let taken = pending_reports.next().await;
        taken.iter().for_each(|(_, report)| pending_reports.done(report));
        assert!(waits.now_or_never().is_some());
        assert_eq!((taken.len() as u64, pending_reports.next().await.len()), (number, 1));
    }
}

//! Reports that have come and are not written yet: of each thing the newest.
//!
//! A store may stand still for hours. What else the spoke says meanwhile comes behind its reports on the same stream,
//! so they are taken off it as they come.
//!
//! ```text
//! put ─▶ others ───────────────────────┐
//!   └──▶ early ─ its pod's turn ─▶ pods ┴─ the spoke's turn ─▶ next ─▶ done, or put back
//! ```
//!
//! Guarantees:
//! - a newer report takes the place of an older one of the same thing, and those whose turn it is are given in the order
//!   of their stamps (`the_newest_of_each_thing_waits_in_the_order_of_the_stamps`); whoever has written what he was given
//!   has written all before the oldest that waits, or will write a newer one
//!   (`a_state_that_comes_too_soon_waits_and_the_newest_is_given`);
//! - states of pods have a pace, each pod's and the spoke's, which is the same in all of its sessions; what comes sooner
//!   is held back until a newer one takes its place or its turn comes, and holds up nothing else
//!   (`a_state_that_comes_too_soon_waits_and_the_newest_is_given`,
//!   `a_spoke_that_has_said_too_much_of_its_pods_waits_with_them_and_with_nothing_else`);
//! - one that is put back stands behind a newer one of the same thing
//!   (`what_is_put_back_takes_no_newer_one_s_place`);
//! - what waits, is being written or is to be tried again has a bound in bytes of memory, and who is beyond that waits
//!   (`who_reports_on_more_than_there_is_room_for_waits`, `what_is_being_written_takes_its_room_until_it_is`), also who
//!   has more to say of something than before (`a_longer_report_of_the_same_thing_waits_for_its_room`) and who has
//!   little to say of much (`a_report_of_few_bytes_has_the_weight_of_its_place`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::report::{ConditionV1, ContainerStatusV1, Report, ReportStamp};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::events;
use crate::token_bucket::TokenBuckets;
use pod_pace::{PodPace, count};

pub(crate) mod pod_pace;

/// Bytes of memory that reports may take: the states of some two thousand pods.
const PENDING_REPORT_BYTES_MAX: usize = 4 << 20;
/// What each takes beside its texts and lists: three places, in trees whose nodes may be half empty.
const PLACE_BYTES: usize = 2
    * (size_of::<(ReportStamp, Entry)>()
        + size_of::<(Subject, ReportStamp)>()
        + size_of::<(Instant, ReportStamp)>());
/// Reports that are written side by side, where what they are about leaves room for that ([`crate::write_room`]).
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

/// When a report may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// As soon as there is somebody to write it.
    Other,
    /// The same, where its spoke may have one more state of a pod written.
    Pod,
    /// Its pod has had too much written: not before then.
    Early(Instant),
}

struct Entry {
    report: Report,
    weight: usize,
    turn: Turn,
}

/// One session's.
pub(crate) struct PendingReports {
    waiting: Mutex<Waiting>,
    came: Notify,
    went: Notify,
    /// States of its pods that the spoke may still have written, with others, by the UID of its ManagedCluster.
    pace: (Arc<TokenBuckets>, String),
}

#[derive(Default)]
struct Waiting {
    reports: BTreeMap<ReportStamp, Entry>,
    newest: BTreeMap<Subject, ReportStamp>,
    /// Which of them have which turn.
    others: BTreeSet<ReportStamp>,
    pods: BTreeSet<ReportStamp>,
    early: BTreeSet<(Instant, ReportStamp)>,
    pod_pace: PodPace,
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
        let freed = older.and_then(|older| self.reports.get(&older)).map_or(0, |old| old.weight);
        let held = self.bytes + self.given;
        // One that is larger than all of the room comes alone.
        if freed < weight && 0 < held && PENDING_REPORT_BYTES_MAX < held - freed + weight {
            return Some(report);
        }
        if let Some(older) = older {
            self.remove(older);
        }
        self.insert(stamp, report, weight);
        None
    }

    fn insert(&mut self, stamp: ReportStamp, report: Report, weight: usize) {
        let turn = match &report {
            Report::Pod(pod) => {
                self.pod_pace.due(&pod.uid, Instant::now()).map_or(Turn::Pod, Turn::Early)
            }
            Report::PodGone { .. } | Report::Node(_) | Report::Event(_) | Report::NodeEvent(_) => {
                Turn::Other
            }
        };
        match turn {
            Turn::Other => self.others.insert(stamp),
            Turn::Pod => self.pods.insert(stamp),
            Turn::Early(due) => self.early.insert((due, stamp)),
        };
        self.bytes += weight;
        self.newest.insert(Subject::of(&report), stamp);
        self.reports.insert(stamp, Entry { report, weight, turn });
    }

    fn remove(&mut self, stamp: ReportStamp) -> Option<Entry> {
        let entry = self.reports.remove(&stamp)?;
        match entry.turn {
            Turn::Other => self.others.remove(&stamp),
            Turn::Pod => self.pods.remove(&stamp),
            Turn::Early(due) => self.early.remove(&(due, stamp)),
        };
        self.bytes -= entry.weight;
        self.newest.remove(&Subject::of(&entry.report));
        Some(entry)
    }

    /// Those whose pods may be written by now have their turn.
    fn call(&mut self, now: Instant) {
        while let Some((due, stamp)) = self.early.first().copied()
            && due <= now
        {
            self.early.pop_first();
            self.pods.insert(stamp);
            if let Some(entry) = self.reports.get_mut(&stamp) {
                entry.turn = Turn::Pod;
            }
        }
    }

    /// The oldest whose turn it is. Of pods only while the spoke `may` have so many more of their states written.
    fn oldest(&mut self, now: Instant, may: impl Fn(u32) -> bool) -> Option<(ReportStamp, Report)> {
        let other = self.others.first().copied();
        let before = |stamp: &ReportStamp| other.is_none_or(|other| *stamp < other);
        let pod =
            self.pods.first().copied().filter(before).filter(|stamp| {
                self.reports.get(stamp).is_some_and(|entry| may(count(entry.weight)))
            });
        let stamp = pod.or(other)?;
        let Entry { report, weight, .. } = self.remove(stamp)?;
        if let Report::Pod(pod) = &report {
            self.pod_pace.note(&pod.uid, now);
        }
        self.given += weight;
        Some((stamp, report))
    }
}

/// About how many bytes of memory a report takes here.
pub(crate) fn weight(report: &Report) -> usize {
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
    /// Of a spoke, which has this to use up, with others, by this name.
    pub(crate) fn new(pace: Arc<TokenBuckets>, spoke: &str) -> Self {
        let (waiting, came, went) = Default::default();
        Self { waiting, came, went, pace: (pace, spoke.to_owned()) }
    }

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

    /// The oldest that wait, but for those whose turn has not come; at least one, in the order of their stamps: each is to
    /// be [`PendingReports::done`] with, or put back. Cancel safe.
    pub(crate) async fn next(&self) -> Vec<(ReportStamp, Report)> {
        loop {
            let (next, wait) = self.look();
            if !next.is_empty() {
                return next;
            }
            match wait {
                None => self.came.notified().await,
                // Whether something has come or a turn has, it is looked again.
                Some(wait) => drop(timeout(wait, self.came.notified()).await),
            }
        }
    }

    /// Those whose turn it is, and how long until there are more of them, where nothing comes.
    fn look(&self) -> (Vec<(ReportStamp, Report)>, Option<Duration>) {
        let (buckets, spoke) = &self.pace;
        let (mut waiting, now) = (self.waiting.lock(), Instant::now());
        waiting.call(now);
        let may = |count: u32| buckets.take_many(spoke, count);
        let next = std::iter::from_fn(|| waiting.oldest(now, may)).take(REPORT_WRITES_AT_ONCE);
        let mut next: Vec<_> = next.collect();
        // The spoke's turn may come between two of them.
        next.sort_unstable_by_key(|(stamp, _)| *stamp);
        let pods = (!waiting.pods.is_empty()).then(|| buckets.wait(spoke));
        let early = waiting.early.first().map(|(due, _)| due.duration_since(now));
        (next, pods.into_iter().chain(early).min())
    }

    /// The oldest that waits, whatever it waits for: nothing before it is anybody's to write any more.
    pub(crate) fn oldest(&self) -> Option<ReportStamp> {
        self.waiting.lock().reports.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;
    use freewheel_link::part::Parts;
    use freewheel_link::report::{NodeEventV1, PhaseV1, PodStatusV1};
    use futures::FutureExt as _;

    use super::*;

    /// Of a spoke whose pods may have so many states in a row.
    fn pending_with(burst: u32) -> PendingReports {
        PendingReports::new(Arc::new(TokenBuckets::new(burst, 2.0)), "pi-7")
    }

    fn pending() -> PendingReports {
        pending_with(1000)
    }

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
        let pending_reports = pending();
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
        let pending_reports = pending();
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
        let pending_reports = pending();
        let few = fill(&pending_reports, |number| gone(&number.to_string()));
        assert!((2_000..16_000).contains(&few), "{few}");
    }

    #[tokio::test]
    async fn what_is_being_written_takes_its_room_until_it_is() {
        let pending_reports = pending();
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
        let pending_reports = pending();
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
        let pending_reports = pending();
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

    /// The numbers of what is given next, which is written then.
    async fn written(pending_reports: &PendingReports) -> Vec<u64> {
        let next = pending_reports.next().await;
        next.iter().for_each(|(_, report)| pending_reports.done(report));
        next.into_iter().map(|(stamp, _)| stamp.sequence).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_comes_too_soon_waits_and_the_newest_is_given() {
        let pending_reports = pending();
        let (mut last, mut given) = (0, 0);
        loop {
            last += 1;
            pending_reports.put(stamp(last), pod("a", 10)).await;
            match written(&pending_reports).now_or_never() {
                Some(now) => given += now.len(),
                None => break,
            }
        }
        assert_eq!(given, 64);
        for (sequence, report) in [(last + 1, gone("b")), (last + 2, pod("c", 10))] {
            pending_reports.put(stamp(sequence), report).await;
        }
        assert_eq!(written(&pending_reports).await, [last + 1, last + 2], "others have their turn");
        assert_eq!(pending_reports.oldest(), Some(stamp(last)));
        pending_reports.put(stamp(last + 3), pod("a", 20)).await;
        assert_eq!(pending_reports.oldest(), Some(stamp(last + 3)), "nothing older is anybody's");
        let waits = Instant::now();
        assert_eq!(written(&pending_reports).await, [last + 3]);
        assert!((1..=2).contains(&waits.elapsed().as_secs()), "{:?}", waits.elapsed());
        pending_reports.put(stamp(last + 4), pod("a", 10)).await;
        pending_reports.put(stamp(last + 5), gone("a")).await;
        assert_eq!(written(&pending_reports).now_or_never().unwrap(), [last + 5], "it is gone");
        assert_eq!(pending_reports.oldest(), None);
        let waiting = pending_reports.waiting.lock();
        assert!(waiting.early.is_empty() && waiting.pods.is_empty() && waiting.others.is_empty());
        assert_eq!((waiting.bytes, waiting.given), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spoke_that_has_said_too_much_of_its_pods_waits_with_them_and_with_nothing_else() {
        let pending_reports = pending_with(4);
        let uids = ["a", "b", "c", "d", "e", "f"];
        for (sequence, uid) in (1..).zip(uids) {
            pending_reports.put(stamp(sequence), pod(uid, 10)).await;
        }
        pending_reports.put(stamp(7), gone("x")).await;
        assert_eq!(written(&pending_reports).await, [1, 2, 3, 4, 7]);
        pending_reports.put(stamp(8), event("x")).await;
        assert_eq!(written(&pending_reports).now_or_never().unwrap(), [8]);
        let waits = Instant::now();
        assert_eq!(written(&pending_reports).await, [5], "each half a second");
        assert_eq!(written(&pending_reports).await, [6]);
        assert!(waits.elapsed().as_millis().abs_diff(1000) < 100, "{:?}", waits.elapsed());
        // A session after it has no more.
        let (pace, spoke) = pending_reports.pace;
        let next_session = PendingReports::new(pace, &spoke);
        next_session.put(stamp(1), pod("a", 10)).await;
        assert!(next_session.next().now_or_never().is_none());
        // A long one counts for what it is.
        tokio::time::sleep(Duration::from_secs(60)).await;
        next_session.put(stamp(2), pod("a", 40 << 10)).await;
        next_session.put(stamp(3), pod("b", 10)).await;
        let waits = Instant::now();
        assert_eq!(written(&next_session).await, [2]);
        assert_eq!(written(&next_session).await, [3]);
        assert!((1000..2000).contains(&waits.elapsed().as_millis()), "{:?}", waits.elapsed());
    }
}

//! What a session writes into the store: reports, itself, and whether its spoke takes plans at all.
//!
//! Guarantees:
//! - a report is answered when it is durable, but for what a device says of itself, which is written as often as it may
//!   and repeated in each greeting; a store that cannot write makes it wait and ends nothing
//!   (`a_full_disk_ends_no_session_and_reports_are_taken_when_there_is_room_again`,
//!   `what_a_device_says_of_itself_all_the_time_is_written_now_and_then`), nor does it hold back what else the spoke
//!   says (`reports_that_wait_for_the_disk_hold_nothing_else_back`);
//! - of a pod whose state changes all the time the newest is written now and then, and answered when it is
//!   (`what_a_device_says_of_a_pod_all_the_time_is_written_now_and_then`,
//!   `a_flood_about_one_pod_ends_with_its_newest_state_and_is_answered_then`);
//! - a pod that others write to so often that each write of it loses holds up no other report: it is tried again beside
//!   them, and is not durable meanwhile (`a_pod_whose_writes_always_lose_holds_up_no_report_of_another`);
//! - what cannot be kept is answered with the reason, and of what is durable the hub says no more than is
//!   (`a_report_that_the_store_has_no_room_for_is_refused_and_told_at_the_pod`,
//!   `a_newer_report_makes_good_what_could_not_be_kept`);
//! - an event that cannot be written makes no state come again
//!   (`an_event_that_cannot_be_written_makes_no_status_come_again`).

use freewheel_hub_objects::internal::Reported;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use freewheel_link::message::RefusalV1;
use freewheel_link::report::{NodeStatusV1, Report, ReportStamp};
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use crate::device::DeviceReports;
use crate::live_session::Session;
use crate::session_end::End;
use crate::session_records::WRITE_RETRY_EVERY;
use crate::sync_signal::SyncSignal;
use crate::write_room::WritePermit;
use crate::{device_labels, node, reported, reports, session_records};

/// What waits for less time for its room needs no word.
const ROOM_WAIT_UNTOLD: Duration = Duration::from_secs(10);

type Outcome = Result<(), ApiError>;

/// A report as it has come.
pub(crate) type StampedReport = (ReportStamp, Report);

/// Up to where there are all, where there are those up to `last` but for some from `missing` on.
fn before(last: ReportStamp, missing: Option<ReportStamp>) -> ReportStamp {
    let before =
        |first: ReportStamp| ReportStamp { sequence: first.sequence.saturating_sub(1), ..first };
    missing.map_or(last, |first| last.min(before(first)))
}

/// Reports of pods that could not be kept and that no newer one has made good, by the pod's UID.
#[derive(Default)]
struct Unkept(BTreeMap<String, ReportStamp>);

impl Unkept {
    /// All up to `last` are answered, these of them with a refusal. Up to where all are durable.
    fn note(
        &mut self,
        reports: &[StampedReport],
        refused: &[&StampedReport],
        last: ReportStamp,
    ) -> ReportStamp {
        for uid in reports.iter().filter_map(|(_, report)| pod_of(report)) {
            self.0.remove(uid);
        }
        let news = refused.iter().filter_map(|(stamp, it)| Some((pod_of(it)?.to_owned(), *stamp)));
        self.0.extend(news);
        before(last, self.0.values().min().copied())
    }

    /// Whether no newer report has come since this one was not kept. What happened has nothing newer.
    fn misses(&self, stamp: ReportStamp, report: &Report) -> bool {
        pod_of(report).is_none_or(|uid| self.0.get(uid) == Some(&stamp))
    }
}

/// The pod whose state a report is. What happened once is told once: no state has to be repeated for an event.
const fn pod_of(report: &Report) -> Option<&String> {
    match report {
        Report::Pod(pod) => Some(&pod.uid),
        Report::PodGone { uid, .. } => Some(uid),
        Report::Node(_) | Report::Event(_) | Report::NodeEvent(_) => None,
    }
}

/// Whether the same may be written in a moment. Nothing else gets better by itself, and the next report must not wait
/// for it.
pub(crate) fn passes(error: &ApiError) -> bool {
    matches!(error.code, 429 | 503 | 507)
}

/// Whether others were faster each time. They may go on so for ever, and only with this object.
fn lost(error: &ApiError) -> bool {
    error.code == 409 && error.reason == "Conflict"
}

/// What came of reports that are answered.
#[derive(Default)]
struct Done<'r> {
    /// These cannot be kept.
    refused: Vec<&'r StampedReport>,
    /// Others were faster with these, each time.
    lost: Vec<&'r StampedReport>,
}

/// Reports that are tried again beside those that come.
#[derive(Default)]
struct Again {
    reports: Vec<StampedReport>,
    at: Option<Instant>,
}

impl Again {
    fn note(&mut self, lost: &[&StampedReport]) {
        if !lost.is_empty() {
            self.reports.extend(lost.iter().map(|stamped| (*stamped).clone()));
            self.at.get_or_insert_with(|| Instant::now() + WRITE_RETRY_EVERY);
        }
    }

    /// Resolves when it is time for them. Cancel safe.
    async fn due(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

impl Session<'_> {
    /// What a device says of itself. Each greeting says it again, and its people hear what of it is not done.
    async fn write_own(&self, device: &mut DeviceReports) {
        let Some(own) = device.take() else { return };
        let own = [own];
        let done = self.taken_for_sure(device.address(), &own).await;
        if !done.lost.is_empty() {
            device.lost();
        }
        let notice = device_labels::notice(&self.inner.objects, self.identity, device.newest());
        if let Some(notice) = device.news(notice) {
            self.answers.notice(notice);
            self.news.notify_one();
        }
    }

    /// Writes reports, many at a time, and answers when they are durable.
    pub(crate) async fn write(
        &self,
        own: NodeStatusV1,
        signal: &SyncSignal,
    ) -> Result<Infallible, End> {
        let mut device = DeviceReports::new(own, self.link.peer().address.ip());
        let (mut unkept, mut again) = (Unkept::default(), Again::default());
        let (mut newest, mut answered) = (ReportStamp::default(), ReportStamp::default());
        loop {
            let next = select! {
                biased;
                () = device.due() => {
                    Box::pin(self.write_own(&mut device)).await;
                    continue;
                }
                () = again.due() => {
                    self.try_again(std::mem::take(&mut again), &unkept);
                    continue;
                }
                () = signal.node_changed() => {
                    let has = node::has(&self.inner.objects, self.identity, device.newest());
                    if !Box::pin(has).await {
                        device.lost();
                    }
                    continue;
                }
                next = self.pending_reports.next() => next,
            };
            newest = next.last().map_or(newest, |(last, _)| newest.max(*last));
            let mut reports = Vec::with_capacity(next.len());
            for (stamp, report) in next {
                if matches!(report, Report::Node(_)) {
                    self.pending_reports.done(&report);
                }
                match report {
                    Report::Node(status) => device.note(stamp, status),
                    report => reports.push((stamp, report)),
                }
            }
            let taken = Box::pin(self.taken_for_sure(device.address(), &reports));
            let Done { mut refused, lost } = taken.await;
            self.free_room(&reports, &lost);
            again.note(&lost);
            refused.extend(lost);
            // What comes too often of a pod waits for its turn.
            let waits = self.pending_reports.oldest();
            let stamp = before(unkept.note(&reports, &refused, newest), waits);
            let (uid, instance) = (self.identity.uid.clone(), self.instance);
            self.inner.reported.note(Reported { uid, instance, stamp });
            // What is tried again was answered, and waits again.
            answered = before(newest, waits).max(answered);
            self.answers.took(answered);
            self.news.notify_one();
        }
    }

    /// Puts those back that others were faster with, but for those that something newer was said of since.
    fn try_again(&self, again: Again, unkept: &Unkept) {
        for (stamp, report) in again.reports {
            if unkept.misses(stamp, &report) {
                self.pending_reports.put_back(stamp, report);
            } else {
                self.pending_reports.done(&report);
            }
        }
    }

    /// What was answered takes no room any more, but for what is to be tried again.
    fn free_room(&self, reports: &[StampedReport], lost: &[&StampedReport]) {
        let is_lost = |stamp: &ReportStamp| lost.iter().any(|stamped| stamped.0 == *stamp);
        let done = reports.iter().filter(|(stamp, _)| !is_lost(stamp));
        done.for_each(|(_, report)| self.pending_reports.done(report));
    }

    /// Writes reports until the store has them. Its disk may be full for hours: pods' connections go on over
    /// this link meanwhile. The spoke is told of those that cannot be kept.
    async fn taken_for_sure<'r>(&self, host: IpAddr, reports: &'r [StampedReport]) -> Done<'r> {
        let mut left: Vec<&StampedReport> = reports.iter().collect();
        let (mut failed_before, mut done) = (false, Done::default());
        loop {
            let mut failure = None;
            let mut still = Vec::new();
            for (stamped, outcome) in self.write_all(host, left).await {
                match outcome {
                    Ok(()) => {}
                    Err(error) if lost(&error) => {
                        debug!(cluster = %self.cluster, %error, "others are faster with a report's object");
                        done.lost.push(stamped);
                    }
                    Err(error) if passes(&error) => {
                        failure = Some(error);
                        still.push(stamped);
                    }
                    Err(error) => {
                        self.refuse(stamped, &error).await;
                        done.refused.push(stamped);
                    }
                }
            }
            let Some(error) = failure else { return done };
            left = still;
            if !std::mem::replace(&mut failed_before, true) {
                warn!(cluster = %self.cluster, %error, "reports wait: the store cannot write");
            }
            sleep(WRITE_RETRY_EVERY).await;
        }
    }

    /// Tells the spoke that a report cannot be kept.
    async fn refuse(&self, (stamp, report): &StampedReport, error: &ApiError) {
        let pod = pod_of(report);
        if self.inner.complaints.take(self.cluster.as_str()) {
            warn!(cluster = %self.cluster, pod, %error, "a report cannot be kept");
        }
        // What came with the greeting has no number.
        if *stamp == ReportStamp::default() {
            return;
        }
        let why = RefusalV1::new(error.reason, &*error.message);
        self.news.notify_one();
        self.answers.refuse(*stamp, why).await;
        self.news.notify_one();
    }

    /// Writes reports side by side, so that they share the store's group commit, as far as there is room; but events of one
    /// subject in turn, as each is held against those that are there.
    async fn write_all<'r>(
        &self,
        host: IpAddr,
        reports: Vec<&'r StampedReport>,
    ) -> Vec<(&'r StampedReport, Outcome)> {
        let (mut alone, mut lines) = (Vec::new(), BTreeMap::<&str, Vec<&StampedReport>>::new());
        for stamped in reports {
            match &stamped.1 {
                Report::Event(event) => lines.entry(&event.uid).or_default().push(stamped),
                Report::NodeEvent(_) => lines.entry("").or_default().push(stamped),
                Report::Pod(_) | Report::PodGone { .. } | Report::Node(_) => {
                    alone.push(vec![stamped]);
                }
            }
        }
        let written = alone.into_iter().chain(lines.into_values()).map(async |line| {
            let mut outcomes = Vec::with_capacity(line.len());
            for stamped in line {
                let _room = self.room_for(&stamped.1).await;
                let outcome = reports::take(self.inner, self.identity, host, &stamped.1).await;
                outcomes.push((stamped, outcome));
            }
            outcomes
        });
        futures::future::join_all(written).await.into_iter().flatten().collect()
    }

    /// Room to write a report in. Whoever waits for it for long is told of.
    async fn room_for(&self, report: &Report) -> WritePermit<'_> {
        let bytes = reports::cost(self.inner, &self.identity.cluster, report);
        let mut room = pin!(self.write_room.take(bytes));
        if let Ok(room) = timeout(ROOM_WAIT_UNTOLD, room.as_mut()).await {
            return room;
        }
        if self.inner.complaints.take(self.cluster.as_str()) {
            let pod = pod_of(report);
            warn!(cluster = %self.cluster, pod, "reports wait: those that are being written take all the memory that they may");
        }
        room.await
    }

    /// Writes whether the spoke takes plans at all; before it the session itself, where the store could not when it
    /// opened. What it holds is not written: it says so itself whenever it comes, and proves it by the plan's digest.
    pub(crate) async fn remember(&self) -> Result<Infallible, End> {
        let store = self.inner.objects.store();
        let mut told_late = false;
        let begun = self.begun.lock().clone();
        if !begun.written {
            let write = || session_records::write_session(store, self.identity, &begun.session);
            while let Err(error) = Box::pin(write()).await {
                debug!(cluster = %self.cluster, %error, "cannot write that a session is up");
                sleep(WRITE_RETRY_EVERY).await;
            }
            self.begun.lock().written = true;
            // Until now its silence was all that was known. It was told that nothing has to be said again.
            if reported::spoke_for(&self.inner.fanout, &self.inner.objects, self.identity) {
                return Err(End::Unsaid);
            }
        }
        loop {
            let late = self.is_late();
            if late == told_late {
                self.lateness.changed.notified().await;
                continue;
            }
            if late {
                warn!(cluster = %self.cluster, "the spoke is connected and takes no plan");
            }
            let write = session_records::write_late(store, self.identity, self.epoch, late);
            match Box::pin(write).await {
                Ok(()) => told_late = late,
                Err(error) => {
                    debug!(cluster = %self.cluster, %error, "cannot write whether the spoke takes plans");
                    sleep(WRITE_RETRY_EVERY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;

    fn stamp(sequence: u64) -> ReportStamp {
        ReportStamp { boot_epoch: 1, sequence }
    }

    fn told(sequence: u64, uid: &str) -> StampedReport {
        (stamp(sequence), Report::PodGone { realm: ClusterName::root(), uid: uid.into() })
    }

    #[test]
    fn a_newer_report_makes_good_what_could_not_be_kept() {
        let mut unkept = Unkept::default();
        let reports = [told(4, "a"), told(5, "b"), told(6, "c")];
        assert_eq!(unkept.note(&reports, &[], stamp(6)), stamp(6));
        let reports = [told(8, "a"), told(9, "b"), told(10, "c")];
        let refused = [&reports[0], &reports[2]];
        assert_eq!(unkept.note(&reports, &refused, stamp(10)), stamp(7));
        assert_eq!(unkept.note(&[told(11, "a")], &[], stamp(11)), stamp(9), "c's is missing still");
        let again = [told(12, "c")];
        assert_eq!(unkept.note(&again, &[&again[0]], stamp(12)), stamp(11));
        assert_eq!(unkept.note(&[told(13, "c")], &[], stamp(20)), stamp(20));
    }

    #[test]
    fn what_gets_better_by_itself_is_tried_again() {
        for (code, reason, again) in [
            (503, "ServiceUnavailable", (true, false)),
            (507, "InsufficientStorage", (true, false)),
            (429, "TooManyRequests", (true, false)),
            (409, "Conflict", (false, true)),
            (409, "AlreadyExists", (false, false)),
            (413, "RequestEntityTooLarge", (false, false)),
            (422, "Invalid", (false, false)),
            (500, "InternalError", (false, false)),
        ] {
            let error = ApiError::new(code, reason, "");
            assert_eq!((passes(&error), lost(&error)), again, "{code} {reason}");
        }
    }
}

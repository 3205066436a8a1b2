//! What a session writes into the store: reports, itself, and whether its spoke takes plans at all.
//!
//! Guarantees:
//! - a report is answered when it is durable, but for what a device says of itself, which is written as often as it may and
//!   repeated in each greeting; a store that cannot write makes it wait and ends nothing
//!   (`a_full_disk_ends_no_session_and_reports_are_taken_when_there_is_room_again`,
//!   `what_a_device_says_of_itself_all_the_time_is_written_now_and_then`), nor does it hold back what else the spoke says
//!   (`reports_that_wait_for_the_disk_hold_nothing_else_back`);
//! - an event that cannot be written makes no state come again
//!   (`an_event_that_cannot_be_written_makes_no_status_come_again`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;

use freewheel_hub_schema::error::ApiError;
use freewheel_link::report::{NodeStatusV1, Report};
use tokio::select;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::bell::Bell;
use crate::device::Device;
use crate::end::End;
use crate::records::{AGAIN, Reported};
use crate::talk::Talk;
use crate::{records, reports};

type Outcome = Result<(), ApiError>;

impl Talk<'_> {
    /// Writes reports, many at a time, and answers when they are durable.
    pub(crate) async fn write(&self, own: NodeStatusV1, bell: &Bell) -> Result<Infallible, End> {
        let mut device = Device::new(own);
        // Whether every report up to the last one is durable.
        let mut whole = true;
        loop {
            let next = select! {
                biased;
                () = device.due() => {
                    if let Some(own) = device.take() {
                        // Each greeting says it again.
                        let _ = self.taken_for_sure(device.address(), &[own]).await;
                    }
                    continue;
                }
                () = bell.node_missed() => {
                    device.lost();
                    continue;
                }
                next = self.untaken.next() => next,
            };
            let last = next.last().map(|(stamp, _)| *stamp);
            let mut reports = Vec::with_capacity(next.len());
            for (_, report) in next {
                match report {
                    Report::Node(status) => device.says(status),
                    report => reports.push(report),
                }
            }
            whole &= self.taken_for_sure(device.address(), &reports).await;
            if let Some(stamp) = last.filter(|_| whole) {
                let (uid, instance) = (self.papers.uid.clone(), self.instance);
                self.inner.reported.note(Reported { uid, instance, stamp });
            }
            *self.taken.lock() = last;
            self.news.notify_one();
        }
    }

    /// Writes reports until the store has them. Its disk may be full for hours: pods' connections go on over
    /// this link meanwhile. Whether all of them have found their place, or have none any more.
    async fn taken_for_sure(&self, host: IpAddr, reports: &[Report]) -> bool {
        let mut left: Vec<&Report> = reports.iter().collect();
        let (mut failed_before, mut all) = (false, true);
        loop {
            let mut failure = None;
            let mut still = Vec::new();
            for (report, outcome) in self.write_all(host, left).await {
                match outcome {
                    Ok(()) => {}
                    Err(error) if matches!(error.code, 503 | 507) => {
                        failure = Some(error);
                        still.push(report);
                    }
                    // No second try would end otherwise, and the next report must not wait for it.
                    Err(error) => {
                        warn!(cluster = %self.cluster, %error, "a report cannot be written and is dropped");
                        // What happened once is told once: no state has to be repeated for it.
                        all &= matches!(report, Report::Event(_) | Report::NodeEvent(_));
                    }
                }
            }
            let Some(error) = failure else { return all };
            left = still;
            if !std::mem::replace(&mut failed_before, true) {
                warn!(cluster = %self.cluster, %error, "reports wait: the store cannot write");
            }
            sleep(AGAIN).await;
        }
    }

    /// Writes reports side by side, so that they share the store's group commit; but events of one subject in turn, as
    /// each is held against those that are there.
    async fn write_all<'r>(
        &self,
        host: IpAddr,
        reports: Vec<&'r Report>,
    ) -> Vec<(&'r Report, Outcome)> {
        let (mut alone, mut lines) = (Vec::new(), BTreeMap::<&str, Vec<&Report>>::new());
        for report in reports {
            match report {
                Report::Event(event) => lines.entry(&event.uid).or_default().push(report),
                Report::NodeEvent(_) => lines.entry("").or_default().push(report),
                Report::Pod(_) | Report::PodGone { .. } | Report::Node(_) => {
                    alone.push(vec![report]);
                }
            }
        }
        let written = alone.into_iter().chain(lines.into_values()).map(async |line| {
            let mut outcomes = Vec::with_capacity(line.len());
            for report in line {
                let outcome = reports::take(self.inner, self.papers, host, report).await;
                outcomes.push((report, outcome));
            }
            outcomes
        });
        futures::future::join_all(written).await.into_iter().flatten().collect()
    }

    /// Writes whether the spoke takes plans at all; before it the session itself, where the store could not when it
    /// opened. What it holds is not written: it says so itself whenever it comes, and proves it by the plan's digest.
    pub(crate) async fn remember(&self) -> Result<Infallible, End> {
        let store = self.inner.objects.store();
        let mut told_late = false;
        let begun = self.begun.lock().clone();
        if !begun.written {
            while let Err(error) = records::write_session(store, self.papers, &begun.session).await
            {
                debug!(cluster = %self.cluster, %error, "cannot write that a session is up");
                sleep(AGAIN).await;
            }
            self.begun.lock().written = true;
        }
        loop {
            let late = self.state.lock().is_late();
            if late == told_late {
                self.remembered.notified().await;
                continue;
            }
            if late {
                warn!(cluster = %self.cluster, "the spoke is connected and takes no plan");
            }
            match records::write_late(store, self.papers, self.epoch, late).await {
                Ok(()) => told_late = late,
                Err(error) => {
                    debug!(cluster = %self.cluster, %error, "cannot write whether the spoke takes plans");
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

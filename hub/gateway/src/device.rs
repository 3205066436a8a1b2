//! What a spoke says of its device: the newest of it, and whether that is to be written.
//!
//! It is kept for as long as the session lasts, because nobody else has it: the spoke says it once, and somebody may
//! delete its Node. That is one report for each session, of at most some 45 KiB ([`Report::bound_pods`]), in place of
//! its greeting.
//!
//! Guarantees:
//! - a spoke that says something new of itself all the time is written now and then
//!   (`what_a_device_says_of_itself_all_the_time_is_written_now_and_then`);
//! - what it has said is written again when its Node is gone, another one, or says something else, now and then
//!   (`a_node_that_is_deleted_or_made_anew_has_all_that_its_device_said`,
//!   `what_somebody_writes_into_a_node_s_status_is_as_its_device_said_again`,
//!   `a_node_that_is_deleted_again_and_again_is_written_now_and_then`).

use std::net::IpAddr;

use freewheel_link::report::{NodeStatusV1, Report, ReportStamp};

use crate::token_bucket::TokenBucket;

/// Times in a row that a device may have something new to say of itself, and per second after that.
const NODE_STATUS_BURST: u32 = 6;
const NODE_STATUSES_PER_SECOND: f64 = 0.2;

/// One session's.
pub(crate) struct DeviceReports {
    newest: NodeStatusV1,
    stamp: ReportStamp,
    /// It is to be written.
    unwritten: bool,
    bucket: TokenBucket,
}

impl DeviceReports {
    /// With what it greeted with.
    pub(crate) fn new(own: NodeStatusV1) -> Self {
        let bucket = TokenBucket::new(NODE_STATUS_BURST, NODE_STATUSES_PER_SECOND);
        Self { newest: own, stamp: ReportStamp::default(), unwritten: true, bucket }
    }

    /// It is so now.
    pub(crate) fn note(&mut self, stamp: ReportStamp, status: NodeStatusV1) {
        (self.newest, self.stamp, self.unwritten) = (status, stamp, true);
    }

    /// The newest that it has said.
    pub(crate) const fn newest(&self) -> &NodeStatusV1 {
        &self.newest
    }

    /// Somebody has taken away what was written.
    pub(crate) const fn lost(&mut self) {
        self.unwritten = true;
    }

    /// Its address, as its pods' status has it.
    pub(crate) const fn address(&self) -> IpAddr {
        self.newest.address
    }

    /// Resolves when something may be written. Cancel safe.
    pub(crate) async fn due(&mut self) {
        if !self.unwritten {
            std::future::pending::<()>().await;
        }
        let wait = self.bucket.wait();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// What is to be written.
    pub(crate) fn take(&mut self) -> Option<(ReportStamp, Report)> {
        let may = self.unwritten && self.bucket.take();
        self.unwritten &= !may;
        may.then(|| (self.stamp, Report::Node(self.newest.clone())))
    }
}

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
//!   `a_node_that_is_deleted_again_and_again_is_written_now_and_then`);
//! - an address that can be no node's is none (`an_address_that_is_no_node_s_is_none`).

use std::net::{IpAddr, Ipv4Addr};

use freewheel_link::report::{NodeStatusV1, Report, ReportStamp};
use tracing::warn;

use crate::token_bucket::{COMPLAINT_RATE, TokenBucket};

/// Times in a row that a device may have something new to say of itself, and per second after that.
const NODE_STATUS_BURST: u32 = 6;
const NODE_STATUSES_PER_SECOND: f64 = 0.2;

/// One session's.
pub(crate) struct DeviceReports {
    /// Where the device comes from.
    peer: IpAddr,
    newest: NodeStatusV1,
    stamp: ReportStamp,
    /// It is to be written.
    unwritten: bool,
    bucket: TokenBucket,
    /// How often the log still has it that it says what cannot be.
    complaints: TokenBucket,
    /// What its people were told of it last.
    noticed: Option<String>,
}

impl DeviceReports {
    /// With what it greeted with.
    pub(crate) fn new(own: NodeStatusV1, peer: IpAddr) -> Self {
        let bucket = TokenBucket::new(NODE_STATUS_BURST, NODE_STATUSES_PER_SECOND);
        let complaints = TokenBucket::new(COMPLAINT_RATE.0, COMPLAINT_RATE.1);
        let stamp = ReportStamp::default();
        let (newest, unwritten, noticed) = (own, true, None);
        let mut all = Self { peer, newest, stamp, unwritten, bucket, complaints, noticed };
        all.check();
        all
    }

    /// It is so now.
    pub(crate) fn note(&mut self, stamp: ReportStamp, status: NodeStatusV1) {
        (self.newest, self.stamp, self.unwritten) = (status, stamp, true);
        self.check();
    }

    /// Keeps of it what can be so.
    fn check(&mut self) {
        self.newest.bound();
        let address = self.newest.address;
        if is_a_nodes(address, self.peer) {
            return;
        }
        if self.complaints.take() {
            warn!(%address, "a device calls an address its own that is no node's");
        }
        self.newest.address = Ipv4Addr::UNSPECIFIED.into();
    }

    /// The newest that it has said.
    pub(crate) const fn newest(&self) -> &NodeStatusV1 {
        &self.newest
    }

    /// What its people are to be told of it, where they were told something else before.
    pub(crate) fn news(&mut self, notice: Option<String>) -> Option<String> {
        if self.noticed == notice {
            return None;
        }
        self.noticed.clone_from(&notice);
        notice
    }

    /// Somebody has taken away what was written.
    pub(crate) const fn lost(&mut self) {
        self.unwritten = true;
    }

    /// Its address, as its pods' status has it; unspecified: it has none.
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

/// kubelet's rule for its own address. Loopback leads to a device on the hub's own machine and to no other.
fn is_a_nodes(address: IpAddr, peer: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let elsewhere = address.is_loopback() && !peer.to_canonical().is_loopback();
    !(address.is_unspecified() || address.is_multicast() || link_local || elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn holds(address: &str, peer: &str) -> bool {
        is_a_nodes(address.parse().unwrap(), peer.parse().unwrap())
    }

    #[test]
    fn an_address_that_is_no_node_s_is_none() {
        for good in ["192.168.1.7", "203.0.113.9", "2001:db8::1", "fd00::1"] {
            assert!(holds(good, "198.51.100.1"), "{good}");
        }
        let bad =
            ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "169.254.1.1", "fe80::1"];
        for bad in bad.into_iter().chain(["127.0.0.1", "127.9.9.9", "::1"]) {
            assert!(!holds(bad, "198.51.100.1"), "{bad}");
        }
        assert!(holds("127.0.0.11", "127.0.0.1") && holds("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!holds("0.0.0.0", "127.0.0.1"));
    }
}

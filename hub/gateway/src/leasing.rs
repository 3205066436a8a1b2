//! Leases the addresses that a spoke's pods need, beside its looks: a lease is a write, and the disk may stand still.
//!
//! ```text
//! look ─ranges are missing─▶ asked ─▶ leased ─▶ answered, and the store's event rings
//!   └ waits for the answer, for a moment: one plan holds the pods and their range then, and not two
//! ```
//!
//! Guarantees:
//! - a disk that stands still holds up no plan (`pods_land_while_their_addresses_wait_for_the_disk`), and no end
//!   (`who_is_not_accepted_any_more_is_cut_off_while_its_addresses_wait_for_the_disk`);
//! - what could not be leased is tried again, whatever else happens
//!   (`addresses_come_when_there_is_room_again_though_nothing_else_happens`);
//! - a network without a free range is told of at the spoke's Node, and asked less and less often
//!   (`a_full_network_is_told_of_at_the_node_and_asked_less_and_less_often`).

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use freewheel_link::report::EventV1;
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use crate::events;
use crate::live_session::Session;
use crate::object_refs::{NODES, object_ref};
use crate::pod_cidr_leases::{self, LeaseError};
use crate::session_end::End;
use crate::session_records::WRITE_RETRY_EVERY;
use crate::sync_signal::SyncSignal;

/// Longest time that plans wait for a range from when it is first missing: many times what a disk takes that works.
const RANGE_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often at least a full network is asked for a range: one that comes back has rested for minutes.
const FULL_RETRY_EVERY_MAX: Duration = Duration::from_secs(60);

impl Session<'_> {
    /// Asks for the addresses that pods need, and waits for them for a moment.
    pub(crate) async fn addresses(&self, signal: &SyncSignal) -> Result<(), End> {
        if self.missing().next().is_none() {
            return Ok(());
        }
        let until = *self.leasing.since.lock().get_or_insert_with(Instant::now) + RANGE_WAIT_MAX;
        let mut answered = pin!(self.leasing.answered.notified());
        self.leasing.asked.notify_one();
        loop {
            select! {
                biased;
                () = &mut answered => return Ok(()),
                // It may have been for the spoke's acceptance. For what else it was, a look follows.
                () = signal.raised() => self.in_force(signal)?,
                () = sleep_until(until) => return Ok(()),
            }
        }
    }

    /// Leases what is missing, each time that it is asked.
    pub(crate) async fn lease(&self) -> Infallible {
        loop {
            self.leasing.asked.notified().await;
            let mut pause = WRITE_RETRY_EVERY;
            let mut reported = Vec::new();
            loop {
                let failed = Box::pin(self.lease_missing()).await;
                if failed.is_empty() {
                    break;
                }
                // Pods without an address wait; everything else goes on.
                self.leasing.answered.notify_waiters();
                Box::pin(self.report_failed(&failed, &mut reported)).await;
                let is_full = |(_, error): &(_, LeaseError)| match error {
                    LeaseError::NetworkFull => true,
                    LeaseError::Commit(_) => false,
                };
                sleep(pause).await;
                pause = if failed.iter().all(is_full) {
                    (2 * pause).min(FULL_RETRY_EVERY_MAX)
                } else {
                    WRITE_RETRY_EVERY
                };
            }
            *self.leasing.since.lock() = None;
            self.leasing.answered.notify_waiters();
        }
    }

    /// Realms in which the spoke has fewer ranges than its pods need, and how many they need.
    fn missing(&self) -> impl Iterator<Item = (ClusterName, usize)> {
        let fanout = &self.inner.fanout;
        [ClusterName::root(), self.cluster.clone()].into_iter().filter_map(|realm| {
            let needed = pod_cidr_leases::needed(fanout.count(self.cluster, &realm));
            let has = fanout.ranges.usable(&realm, self.cluster).len();
            (has < needed).then_some((realm, needed))
        })
    }

    /// In every realm, whatever happens in the other. Answers where it failed.
    async fn lease_missing(&self) -> Vec<(ClusterName, LeaseError)> {
        let store = self.inner.objects.store();
        let mut failed = Vec::new();
        for (realm, needed) in self.missing() {
            let holder = (self.cluster, &[self.identity.hold(&*store.snapshot())][..]);
            let leased = self.inner.fanout.ranges.lease(store, &realm, holder, needed).await;
            failed.extend(leased.err().map(|error| (realm, error)));
        }
        failed
    }

    /// Tells of each realm once why its pods wait: a full network where its people look, all of it in the log.
    async fn report_failed(
        &self,
        failed: &[(ClusterName, LeaseError)],
        reported: &mut Vec<ClusterName>,
    ) {
        for (realm, error) in failed {
            if !reported.contains(realm) {
                reported.push(realm.clone());
                warn!(cluster = %self.cluster, %realm, %error, "cannot lease addresses; trying again");
            }
            if matches!(error, LeaseError::NetworkFull)
                && let Err(error) = self.record_full(realm, error.to_string()).await
            {
                debug!(cluster = %self.cluster, %realm, %error, "cannot tell that the network is full");
            }
        }
    }

    /// An Event at the spoke's Node, called as upstream's allocator calls it; what is told again counts up.
    async fn record_full(&self, realm: &ClusterName, why: String) -> Result<(), ApiError> {
        let objects = &self.inner.objects;
        let node = objects.get(&object_ref(NODES, realm, "", self.cluster.as_str())?)?;
        let event = EventV1 {
            realm: realm.clone(),
            namespace: "default".to_owned(),
            pod: self.cluster.to_string(),
            uid: node.object.header.uid.to_string(),
            field_path: String::new(),
            warning: true,
            reason: "CIDRNotAvailable".to_owned(),
            message: format!("{why}: pods of this node wait for their addresses"),
            at: u64::try_from(objects.clock().unix_seconds()).unwrap_or_default() * 1000,
        };
        events::about(objects, self.identity, NODES, &event).await
    }
}

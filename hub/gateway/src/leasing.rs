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
//!   (`addresses_come_when_there_is_room_again_though_nothing_else_happens`).

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use freewheel_hub_store::CommitError;
use freewheel_link::names::ClusterName;
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use crate::live_session::Session;
use crate::pod_cidr_leases;
use crate::session_end::End;
use crate::session_records::WRITE_RETRY_EVERY;
use crate::sync_signal::SyncSignal;

/// Longest time that plans wait for a range from when it is first missing: many times what a disk takes that works.
const MOMENT: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Asks for the addresses that pods need, and waits for them for a moment.
    pub(crate) async fn addresses(&self, signal: &SyncSignal) -> Result<(), End> {
        if self.missing().next().is_none() {
            return Ok(());
        }
        let until = *self.leasing.since.lock().get_or_insert_with(Instant::now) + MOMENT;
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
            let mut failed_before = false;
            while let Err((realm, error)) = self.lease_missing().await {
                // Pods without an address wait; everything else goes on.
                self.leasing.answered.notify_waiters();
                if !std::mem::replace(&mut failed_before, true) {
                    warn!(cluster = %self.cluster, %realm, %error, "cannot lease addresses; trying again");
                }
                sleep(WRITE_RETRY_EVERY).await;
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

    /// In every realm, whatever happens in the other.
    async fn lease_missing(&self) -> Result<(), (ClusterName, CommitError)> {
        let store = self.inner.objects.store();
        let mut outcome = Ok(());
        for (realm, needed) in self.missing() {
            let holder = (self.cluster, &[self.identity.hold(&*store.snapshot())][..]);
            let leased = self.inner.fanout.ranges.lease(store, &realm, holder, needed).await;
            outcome = leased.map_err(|error| (realm, error)).and(outcome);
        }
        outcome
    }
}

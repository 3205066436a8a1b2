//! Which reports of a spoke are durable here: the welcome says so, and it repeats none of them.
//!
//! ```text
//! written ─▶ note ─▶ memory ─▶ Welcome.durable_reports
//!                      └ the session ends ─▶ its record, for the next start of this hub
//! ```
//!
//! A stamp says more than a fingerprint of all states would: who has one new state repeats that one. It is worth
//! what the process that gave it is worth: another start of the agent begins anew. The record lies beside the objects
//! that the reports went to: a store that is put back from a copy forgets both.
//!
//! Guarantees:
//! - a process that comes back is told what of its reports is durable, and nobody else is
//!   (`who_comes_back_is_told_which_of_its_reports_are_durable`), also where a device could not count its starts
//!   (`an_epoch_that_comes_twice_hides_no_report`);
//! - a device that has another address says everything again, because its pods' status has it
//!   (`who_comes_back_is_told_which_of_its_reports_are_durable`);
//! - so does one of whose pods somebody else has spoken while it was silent
//!   (`who_was_called_not_ready_while_it_was_silent_says_everything_again`), also where the store knew of its session
//!   too late (`who_is_called_not_ready_before_its_session_is_written_comes_again`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_objects::Objects;
use freewheel_hub_objects::internal::{Reported, SessionRecord};
use freewheel_link::message::HelloV1;
use freewheel_link::report::ReportStamp;
use parking_lot::Mutex;

use crate::change_fanout::ChangeFanout;
use crate::deleted_clusters::DeletedClusters;
use crate::node;
use crate::pending_reports::{PendingReports, pod_pace};
use crate::spoke_identity::SpokeIdentity;
use crate::token_bucket::TokenBuckets;

/// What is durable of the spokes' reports, one process each, by the UID of their ManagedCluster.
pub(crate) struct AllReported {
    known: Mutex<BTreeMap<String, Reported>>,
    /// States of its pods that each may still have written, in all of its sessions.
    pace: Arc<TokenBuckets>,
}

impl Default for AllReported {
    fn default() -> Self {
        let (burst, per_second) = (pod_pace::SPOKE_STATE_BURST, pod_pace::SPOKE_STATES_PER_SECOND);
        Self { known: Mutex::default(), pace: Arc::new(TokenBuckets::new(burst, per_second)) }
    }
}

impl AllReported {
    /// Where reports of a session of this spoke's wait.
    pub(crate) fn pending(&self, identity: &SpokeIdentity) -> PendingReports {
        PendingReports::new(self.pace.clone(), &identity.uid)
    }

    /// Everything up to here is durable.
    pub(crate) fn note(&self, new: Reported) {
        let mut all = self.known.lock();
        // A session that was superseded may say so late.
        let news = |old: &Reported| old.instance != new.instance || old.stamp < new.stamp;
        if all.get(&new.uid).is_none_or(news) {
            all.insert(new.uid.clone(), new);
        }
    }

    /// What is known of this ManagedCluster's.
    pub(crate) fn of(&self, identity: &SpokeIdentity) -> Option<Reported> {
        self.known.lock().get(&identity.uid).cloned()
    }

    /// What to tell whoever greets like this. Nobody else speaks of its pods from when its session is written.
    pub(crate) fn durable(
        &self,
        fanout: &ChangeFanout,
        objects: &Objects,
        identity: &SpokeIdentity,
        hello: &HelloV1,
    ) -> ReportStamp {
        let recorded = || {
            let session =
                SessionRecord::of(&*objects.store().snapshot(), identity.cluster.as_str())?;
            session.reported.filter(|known| known.uid == identity.uid)
        };
        let known = self.of(identity).or_else(recorded);
        let address = node::address(objects, &identity.cluster);
        let stays = address.is_some_and(|address| address == hello.node.address.to_string());
        known
            .filter(|known| {
                stays
                    && known.instance == hello.instance
                    && known.stamp.boot_epoch == hello.boot_epoch
                    && !spoke_for(fanout, objects, identity)
            })
            .map_or_else(ReportStamp::default, |known| known.stamp)
    }

    /// It goes with its cluster.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.known.lock());
    }
}

/// Whether the hub has spoken of this spoke's pods in its place.
pub(crate) fn spoke_for(
    fanout: &ChangeFanout,
    objects: &Objects,
    identity: &SpokeIdentity,
) -> bool {
    fanout.spoke_for(&identity.cluster, &*objects.store().snapshot())
}

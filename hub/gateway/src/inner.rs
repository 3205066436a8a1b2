//! What the whole gateway shares.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use freewheel_hub_api::images::Images;
use freewheel_hub_objects::Objects;
use freewheel_hub_pki::Authority;
use freewheel_hub_plan::SpokeMembers;
use freewheel_link::record_set::Held;
use freewheel_link::tls::Serving;
use parking_lot::Mutex;

use crate::change_fanout::ChangeFanout;
use crate::deleted_clusters::DeletedClusters;
use crate::duplicates::DuplicateIdentities;
use crate::epochs::Epochs;
use crate::events::EventBuckets;
use crate::incarnation::RollbackGuard;
use crate::joins::Joins;
use crate::links::Links;
use crate::own_api::OwnApi;
use crate::pending_sessions::PendingSessions;
use crate::plan_metrics::PlanMetrics;
use crate::pod_tokens::TokenCache;
use crate::relays::Relays;
use crate::reported::AllReported;
use crate::session_ends::SessionEnds;
use crate::token_bucket::TokenBuckets;
use crate::write_room::WriteRoom;

/// One gateway's. Each file is handed this where it needs much of it, and otherwise the part that it works on.
pub(crate) struct Inner {
    pub(crate) objects: Objects,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) fleet_root: [u8; 32],
    pub(crate) hub: String,
    pub(crate) fanout: ChangeFanout,
    pub(crate) links: Links,
    /// What spokes held when they were last seen, by the UID of their ManagedCluster.
    pub(crate) known: Mutex<BTreeMap<String, Held<SpokeMembers>>>,
    /// Which of the spokes' reports are durable.
    pub(crate) reported: AllReported,
    /// Memory that is taken while reports are written.
    pub(crate) write_room: WriteRoom,
    /// Identities that more than one device uses.
    pub(crate) duplicates: DuplicateIdentities,
    /// Events that each spoke may still tell.
    pub(crate) events: EventBuckets,
    /// The certificate of the link, exchanged before it ends.
    pub(crate) serving: OnceLock<Arc<Serving>>,
    /// Pods' datagrams that were not relayed.
    pub(crate) lost: AtomicU64,
    /// Messages of spokes that are not known here.
    pub(crate) skipped: AtomicU64,
    pub(crate) rollback_guard: RollbackGuard,
    pub(crate) epochs: Epochs,
    /// Told once, before devices join; a hub that is never told leaves it to its people.
    pub(crate) own_api: OnceLock<OwnApi>,
    pub(crate) joins: Joins,
    /// Connections with certificates that are not let in yet.
    pub(crate) pending_sessions: PendingSessions,
    /// Connections between spokes.
    pub(crate) relays: Arc<Relays>,
    /// Certificates that each device may still have anew.
    pub(crate) renewals: TokenBuckets,
    /// Sessions that each spoke may still open.
    pub(crate) sessions: TokenBuckets,
    /// Openings for which the process in session may still be asked whether it is there, by the UID of its ManagedCluster.
    pub(crate) holders_asked: TokenBuckets,
    /// How often each spoke may still hold something else than was sent.
    pub(crate) drifts: TokenBuckets,
    /// How often each spoke may still come back with nothing known and have all of its plan at once.
    pub(crate) returns: TokenBuckets,
    /// How often the log still has it that a spoke says what cannot be.
    pub(crate) complaints: TokenBuckets,
    /// How often the log still has it that a device is not let in, by its key, or by where it comes from.
    pub(crate) turned_away: TokenBuckets,
    /// Addresses that each spoke may still ask for by datagrams.
    pub(crate) datagram_leases: TokenBuckets,
    /// Ends of sessions that are not written yet.
    pub(crate) session_ends: SessionEnds,
    pub(crate) meters: PlanMetrics,
    /// Tokens of pods' service accounts.
    pub(crate) tokens: TokenCache,
}

impl Inner {
    /// What is remembered of a ManagedCluster goes with it.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.known.lock());
        self.duplicates.forget(gone);
        self.events.forget(gone);
        self.epochs.forget(gone);
        self.reported.forget(gone);
        self.session_ends.forget(gone);
        self.tokens.forget(gone);
    }
}

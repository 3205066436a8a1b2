//! Connections of spokes that are in force, one of each spoke.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_api::streams::SpokeFigures;
use freewheel_hub_plan::SpokeSet;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Revision;
use freewheel_link::hub_session::HubSession;
use freewheel_link::names::ClusterName;
use freewheel_link::report::UnixMillis;
use freewheel_link::stream_budget::Budget;
use freewheel_link::transport::Transport;
use futures::future::{BoxFuture, WeakShared};
use parking_lot::Mutex;

/// The hub's half of a session, with plans as spokes are told them.
pub(crate) type PlanSession = HubSession<SpokeSet>;

/// Figures that are being told.
pub(crate) type FiguresRequest =
    Arc<Mutex<Option<WeakShared<BoxFuture<'static, Result<SpokeFigures, ApiError>>>>>>;

/// A spoke's connection that is in force.
pub(crate) struct Link {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) state: Arc<Mutex<PlanSession>>,
    /// Places of the streams that the hub opens on it.
    pub(crate) opened: Arc<Budget>,
    pub(crate) figures_request: FiguresRequest,
    /// What its spoke said in its greeting that it can do.
    pub(crate) abilities: u64,
    /// UID of the ManagedCluster whose session it carries, and which of its sessions that is.
    pub(crate) uid: String,
    pub(crate) epoch: u64,
    /// Which process of its device has it.
    pub(crate) instance: u64,
}

/// By their spokes' names. Who opens a session holds them while it looks at what is known of its spoke and joins the
/// fanout, so that of two that open at the same time one is first in all three: whoever holds one of those may not ask
/// for links.
pub(crate) type Links = Mutex<BTreeMap<ClusterName, Link>>;

/// Who has a spoke's session: which process, by which of the sessions and over what; since when it has it, and when it
/// was last heard.
pub(crate) struct Holder {
    pub(crate) instance: u64,
    pub(crate) epoch: u64,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) since: UnixMillis,
    pub(crate) heard: UnixMillis,
}

/// Who has the session of the ManagedCluster with this UID, if anybody.
pub(crate) fn holder(links: &Links, spoke: &ClusterName, uid: &str) -> Option<Holder> {
    // Not under the lock of all: a session holds its state while it hears what its spoke says.
    let (instance, epoch, transport, state) = {
        let links = links.lock();
        let link = links.get(spoke).filter(|link| link.uid == uid)?;
        (link.instance, link.epoch, link.transport.clone(), link.state.clone())
    };
    let (since, heard) = state.lock().seen();
    Some(Holder { instance, epoch, transport, since, heard })
}

/// The revision that a spoke in session is known to have come up to.
pub(crate) fn reached(links: &Links, spoke: &ClusterName) -> Revision {
    // Not under the lock of all: a session holds its state while it hears what its spoke says.
    let state = links.lock().get(spoke).map(|link| link.state.clone());
    state.map_or(0, |state| state.lock().reached().revision)
}

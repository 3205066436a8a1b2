//! A session at work: what all of its parts share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freewheel_hub_plan::Refused;
use freewheel_link::names::ClusterName;
use freewheel_link::transport::Transport;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::answers::Answers;
use crate::datagrams::WaitingDatagrams;
use crate::inner::Inner;
use crate::links::PlanSession;
use crate::observed::Unobserved;
use crate::pending_reports::PendingReports;
use crate::session_records::Begun;
use crate::spoke_identity::SpokeIdentity;
use crate::write_room::SpokeWriteRoom;

/// Addresses that the spoke's pods lack, between the looks and who leases.
#[derive(Default)]
pub(crate) struct Leasing {
    /// Since when.
    pub(crate) since: Mutex<Option<Instant>>,
    pub(crate) asked: Notify,
    /// They are leased, or cannot be now.
    pub(crate) answered: Notify,
}

/// What there is to write of whether plans land.
#[derive(Default)]
pub(crate) struct Lateness {
    /// It may be something else now.
    pub(crate) changed: Notify,
    /// The spoke reads nothing of what it is told.
    pub(crate) stands: AtomicBool,
}

/// A session at work.
pub(crate) struct Session<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) link: &'a Arc<dyn Transport>,
    pub(crate) cluster: &'a ClusterName,
    pub(crate) identity: &'a Arc<SpokeIdentity>,
    pub(crate) epoch: u64,
    /// Which process speaks.
    pub(crate) instance: u64,
    pub(crate) state: Arc<Mutex<PlanSession>>,
    /// There may be something to say.
    pub(crate) news: Notify,
    /// No plan is on its way any more.
    pub(crate) landed: Notify,
    /// A look has asked for tokens of pods.
    pub(crate) tokens_looked_at: Notify,
    pub(crate) lateness: Lateness,
    pub(crate) answers: Answers,
    pub(crate) leasing: Leasing,
    /// Reports that wait to be written.
    pub(crate) pending_reports: PendingReports,
    /// Memory that is taken while they are.
    pub(crate) write_room: SpokeWriteRoom,
    /// When the first part of the plan that is on its way was sent.
    pub(crate) pushed: Mutex<Option<Instant>>,
    /// What the last look had to leave out of the plan.
    pub(crate) refused: watch::Sender<Vec<Refused>>,
    /// Pods of which the spoke may have seen more than is written.
    pub(crate) unobserved: Unobserved,
    /// Datagrams that wait for an address of the spoke's own.
    pub(crate) waiting_datagrams: WaitingDatagrams,
    /// What the store is to know of this session.
    pub(crate) begun: Mutex<Begun>,
    pub(crate) started: Instant,
}

impl<'a> Session<'a> {
    /// One that begins now, of this process.
    pub(crate) fn new(
        inner: &'a Inner,
        link: &'a Arc<dyn Transport>,
        identity: &'a Arc<SpokeIdentity>,
        instance: u64,
        (state, epoch, begun): (Arc<Mutex<PlanSession>>, u64, Begun),
    ) -> Self {
        Self {
            inner,
            link,
            cluster: &identity.cluster,
            identity,
            epoch,
            instance,
            state,
            news: Notify::new(),
            landed: Notify::new(),
            tokens_looked_at: Notify::new(),
            lateness: Lateness::default(),
            answers: Answers::default(),
            leasing: Leasing::default(),
            pending_reports: inner.reported.pending(identity),
            write_room: inner.write_room.of_spoke(),
            pushed: Mutex::new(None),
            refused: watch::Sender::default(),
            unobserved: Unobserved::default(),
            waiting_datagrams: WaitingDatagrams::default(),
            begun: Mutex::new(begun),
            started: Instant::now(),
        }
    }

    /// Since its beginning.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether plans do not land.
    pub(crate) fn is_late(&self) -> bool {
        self.lateness.stands.load(Ordering::Relaxed) || self.state.lock().is_late()
    }
}

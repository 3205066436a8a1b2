//! What the ledger remembers, entry by entry. Frozen: a variant's position is its number in the file,
//! and a struct's change is a new variant at the end.

use std::net::Ipv4Addr;

use freewheel_link::generation::Generation;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Record, RecordKey};
use freewheel_link::report::{PhaseV1, TerminatedV1, UnixMillis};
use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The agent has started for the n-th time.
    Epoch(u64),
    /// A plan part was taken over, whole.
    Plan(PlanEntryV1),
    /// State of one pod, in place of what was there.
    Pod(PodStateV1),
    /// The pod with this UID is gone.
    Forget(String),
}

/// A plan part as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanEntryV1 {
    /// What holds after it.
    pub(crate) to: Generation,
    /// Replaces everything before.
    pub(crate) snapshot: bool,
    /// Records put, bytes as they came.
    pub(crate) put: Vec<Record>,
    /// Records removed.
    pub(crate) remove: Vec<RecordKey>,
}

/// What outlives the agent of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStateV1 {
    /// Realm of the pod.
    pub realm: ClusterName,
    /// metadata.uid
    pub uid: String,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// When the agent first took it on.
    pub started: Option<UnixMillis>,
    /// Its last phase, once it has one that stays: (phase, reason, message).
    pub done: Option<(PhaseV1, String, String)>,
    /// Init containers then containers.
    pub containers: Vec<ContainerStateV1>,
}

/// What outlives the agent of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStateV1 {
    /// name
    pub name: String,
    /// restartCount
    pub restarts: u32,
    /// Image of the current start, else empty.
    pub image: String,
    /// What it was doing.
    pub doing: DoingV1,
    /// How the start before the current one ended.
    pub last: Option<TerminatedV1>,
}

/// What a container was doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoingV1 {
    /// Never started.
    Nothing,
    /// Running since.
    Running(UnixMillis),
    /// Ended.
    Ended(TerminatedV1),
}

//! What the ledger remembers, entry by entry. A variant's position is its number in the file. Until 0.1.0 is released
//! entries change in place; from then on they are frozen, and a struct's change is a new variant at the end.

use std::net::IpAddr;

use freewheel_link::generation::Generation;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Record, RecordKey};
use freewheel_link::report::{PhaseV1, TerminatedV1, UnixMillis};
use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The agent has started, or ended.
    AgentRun(AgentRunV1),
    /// A piece of a plan part; the part holds with its last piece.
    Plan(PlanEntryV1),
    /// State of one pod, in place of what was there.
    Pod(PodStateV1),
    /// The pod with this UID is gone.
    Forget(String),
    /// Everything before this offset of the file was durable when this was written: a hole there is rot, not what a
    /// power cut leaves.
    Synced(u64),
}

/// How the agent's own life goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentRunV1 {
    /// How often it has started.
    pub(crate) epoch: u64,
    /// Starts in a row before this one that came to no good end.
    pub(crate) crashes: u32,
    /// It has started and not yet ended in order.
    pub(crate) running: bool,
    /// What was brought back last after bad ends.
    pub(crate) trying: Option<TryingV1>,
    /// Pods that were brought back last when it came to no good end, the latest last.
    pub(crate) suspects: Vec<String>,
    /// How often one was blamed that was suspected already: what it takes to kill the agent is longer than the others
    /// were waited for.
    pub(crate) blamed_again: u32,
    /// All but the suspects were brought back together, and that came to no good end either: there is one more.
    pub(crate) more: bool,
    /// The boot of the machine that it has started in, else empty.
    pub(crate) boot: String,
    /// Boots in a row that ended while it ran.
    pub(crate) cuts: u32,
}

/// What is to blame, should it come to no good end now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TryingV1 {
    /// The pod with this UID.
    Pod(String),
    /// Any that is not suspected.
    Rest,
}

/// A piece of a plan part, records as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanEntryV1 {
    /// What holds after it.
    pub(crate) to: Generation,
    /// Replaces everything before.
    pub(crate) snapshot: bool,
    /// More pieces of the same part follow.
    pub(crate) more: bool,
    /// Records put, bytes as they came.
    pub(crate) put: Vec<Record>,
    /// Records removed.
    pub(crate) remove: Vec<RecordKey>,
}

/// Where a pod comes from. Its source says what it is to be, and whether it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodSource {
    /// The hub's plan.
    Plan,
}

/// What outlives the agent of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStateV1 {
    /// Realm of the pod.
    pub realm: ClusterName,
    /// metadata.uid
    pub uid: String,
    /// Who wants it.
    pub source: PodSource,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// Its address.
    pub ip: Option<IpAddr>,
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
    /// Why the current start was stopped, so that it starts again whatever it has ended with.
    pub stopped: Option<StoppedV1>,
}

/// Why a container was stopped whose pod goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoppedV1 {
    /// Its record has changed, or its pod's sandbox.
    Changed,
    /// It has failed its startup or liveness probe.
    Unhealthy,
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

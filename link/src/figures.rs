//! What a spoke counts, as it tells the hub that asks ([`Open::Figures`](crate::message::Open::Figures)): messages, each in a
//! frame, until the stream's end.
//!
//! Numbers travel, and no texts of Prometheus': the hub knows how they are called, and a thin uplink carries a tenth.
//!
//! A variant's position is its number on the wire: add at the end, never remove. Structs are frozen. What is not known is
//! skipped.

use serde::{Deserialize, Serialize};

use crate::names::ClusterName;
use crate::report::UnixMillis;

/// One message of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figures {
    /// The device and its agent; the first.
    Device(DeviceV1),
    /// What goes through one gate of the pod network.
    Gate(GateV1),
    /// One pod that has containers.
    Pod(PodUseV1),
}

impl Figures {
    /// How much of [`limits::FIGURE_MEMBERS`](crate::limits::FIGURE_MEMBERS) it is.
    #[must_use]
    pub fn members(&self) -> usize {
        match self {
            Self::Device(_) => 1,
            Self::Gate(gate) => 1 + gate.refused.len() + gate.lost.len(),
            Self::Pod(pod) => 1 + pod.containers.len(),
        }
    }
}

/// The device and its agent. Frozen bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceV1 {
    /// Version of the agent.
    pub version: String,
    /// When the agent's process started.
    pub started: UnixMillis,
    /// Processor time of the agent's process, guests included, in milliseconds.
    pub cpu_ms: u64,
    /// Its memory that is in use, in bytes.
    pub resident: u64,
    /// Its open files.
    pub files: u64,
    /// How many may be open.
    pub most_files: u64,
    /// Memory of the machine that is in use and cannot be given to somebody else at once, in bytes.
    pub working_set: u64,
    /// Processor time of the machine that was not idle, in milliseconds.
    pub busy_ms: u64,
    /// Bytes that the host holds for all guests together.
    pub guests: u64,
    /// The most that it may be.
    pub most_guests: u64,
    /// Size of the file system with the agent's data, in bytes.
    pub disk: u64,
    /// What is free of it.
    pub disk_free: u64,
    /// Pods that have containers.
    pub pods: u64,
    /// Running containers.
    pub containers: u64,
    /// Sessions with the hub since the agent's start.
    pub sessions: u64,
    /// Pods' datagrams that the link did not take.
    pub datagrams_lost: u64,
    /// Messages of a newer hub that were skipped.
    pub messages_skipped: u64,
}

/// What goes through one gate of the pod network. Frozen bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateV1 {
    /// `pod`, `service`, `node_port`, `node_port_udp`, `link`.
    pub gate: String,
    /// Connections that came through.
    pub accepted: u64,
    /// Those that are open now.
    pub open: u64,
    /// Those that did not come through, by the reason.
    pub refused: Vec<LossV1>,
    /// Bytes that they carried.
    pub bytes: BothV1,
    /// Datagrams that came through.
    pub datagrams: BothV1,
    /// Those that got lost, by the reason.
    pub lost: Vec<LossV1>,
}

/// Why something did not get through, and how often. Frozen bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossV1 {
    /// `refused`, `full`, `too_many`, `unreachable`, `denied`, `timeout`, `other`.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Both ways of a connection. Frozen bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BothV1 {
    /// To who serves.
    pub inward: u64,
    /// To who has asked.
    pub outward: u64,
}

impl From<[u64; 2]> for BothV1 {
    fn from([inward, outward]: [u64; 2]) -> Self {
        Self { inward, outward }
    }
}

/// One pod. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUseV1 {
    /// Its realm.
    pub realm: ClusterName,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// Its containers that run.
    pub containers: Vec<ContainerUseV1>,
}

/// One start of a container. Frozen bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUseV1 {
    /// Its name.
    pub name: String,
    /// When it was started.
    pub started: UnixMillis,
    /// Processor time in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in bytes, with what the host holds for it.
    pub memory: u64,
    /// How often its quota made it wait.
    pub throttled: u64,
    /// How often it moved to the hogs' lane.
    pub demoted: u64,
    /// Requests that ended because memory was refused.
    pub out_of_memory: u64,
}

//! What a spoke counts, as it tells the hub that asks ([`Open::Figures`](crate::message::Open::Figures)): messages, each in a
//! frame, until the stream's end.
//!
//! Numbers travel, and no texts of Prometheus': the hub knows how they are called, and a thin uplink carries a tenth.
//!
//! A variant's position is its number on the wire: add at the end, never remove. Structs are frozen. What is not known is
//! skipped.
//!
//! Guarantees:
//! - each text is cut to what a name has, and each gate and each reason is one that is known
//!   (`what_a_spoke_counts_is_cut_to_what_an_honest_one_has`).

use serde::{Deserialize, Serialize};

use crate::message::bounded;
use crate::names::ClusterName;
use crate::report::UnixMillis;

/// [`GateV1::gate`] is one of these.
pub const GATES: [&str; 5] = ["pod", "service", "node_port", "node_port_udp", "link"];
/// [`LossV1::reason`] is one of these.
pub const REASONS: [&str; 7] =
    ["refused", "full", "too_many", "unreachable", "denied", "timeout", OTHER];
/// Stands for a name that is not known here.
const OTHER: &str = "other";

/// Of a namespace or a container, a DNS label.
const LABEL_BYTES_MAX: usize = 63;
/// Of a pod, a DNS subdomain.
const SUBDOMAIN_BYTES_MAX: usize = 253;

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
    /// How much of [`limits::FIGURES_MEMBERS_MAX`](crate::limits::FIGURES_MEMBERS_MAX) it is.
    #[must_use]
    pub fn members(&self) -> usize {
        match self {
            Self::Device(_) => 1,
            Self::Gate(gate) => 1 + gate.refused.len() + gate.lost.len(),
            Self::Pod(pod) => 1 + pod.containers.len(),
        }
    }

    /// Cuts every text to a length that an honest spoke does not reach, and every name of a list that is known here to
    /// one of it: each is written many times where figures are shown.
    pub fn bound(&mut self) {
        match self {
            Self::Device(device) => cut(&mut device.version, LABEL_BYTES_MAX),
            Self::Gate(gate) => gate.bound(),
            Self::Pod(pod) => pod.bound(),
        }
    }
}

impl GateV1 {
    fn bound(&mut self) {
        known(&mut self.gate, &GATES);
        for losses in [&mut self.refused, &mut self.lost] {
            *losses = by_reason(losses);
        }
    }

    /// Counts what went through another gate of its name, too.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in [
            (&mut self.accepted, other.accepted),
            (&mut self.open, other.open),
            (&mut self.bytes.inward, other.bytes.inward),
            (&mut self.bytes.outward, other.bytes.outward),
            (&mut self.datagrams.inward, other.datagrams.inward),
            (&mut self.datagrams.outward, other.datagrams.outward),
        ] {
            *own = own.saturating_add(more);
        }
        for (own, more) in [(&mut self.refused, &other.refused), (&mut self.lost, &other.lost)] {
            own.extend_from_slice(more);
            *own = by_reason(own);
        }
    }
}

impl PodUseV1 {
    fn bound(&mut self) {
        cut(&mut self.namespace, LABEL_BYTES_MAX);
        cut(&mut self.name, SUBDOMAIN_BYTES_MAX);
        self.containers.iter_mut().for_each(|one| cut(&mut one.name, LABEL_BYTES_MAX));
    }
}

/// Each reason once, in the order of [`REASONS`].
fn by_reason(losses: &[LossV1]) -> Vec<LossV1> {
    let of = |reason: &str| {
        let is_it = |loss: &&LossV1| match REASONS.contains(&&*loss.reason) {
            true => loss.reason == reason,
            false => reason == OTHER,
        };
        let mut counts = losses.iter().filter(is_it).map(|loss| loss.count).peekable();
        counts.peek()?;
        let count = counts.fold(0, u64::saturating_add);
        Some(LossV1 { reason: reason.to_owned(), count })
    };
    REASONS.into_iter().filter_map(of).collect()
}

fn known(name: &mut String, names: &[&str]) {
    if !names.contains(&&**name) {
        OTHER.clone_into(name);
        name.shrink_to_fit();
    }
}

fn cut(text: &mut String, most: usize) {
    if most < text.len() {
        *text = bounded(std::mem::take(text), most);
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
    /// One of [`GATES`].
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
    /// One of [`REASONS`].
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
    /// Memory in bytes, with what the host holds for it, its part of what is kept of its module included.
    pub memory: u64,
    /// How often its quota made it wait.
    pub throttled: u64,
    /// How often it moved to the hogs' lane.
    pub demoted: u64,
    /// Requests that ended because memory was refused.
    pub out_of_memory: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(reason: &str, count: u64) -> LossV1 {
        LossV1 { reason: reason.to_owned(), count }
    }

    #[test]
    fn what_a_spoke_counts_is_cut_to_what_an_honest_one_has() {
        let long = || "ä".repeat(1 << 20);
        let container = ContainerUseV1 { name: long(), ..ContainerUseV1::default() };
        let pod = PodUseV1 {
            realm: ClusterName::root(),
            namespace: long(),
            name: long(),
            containers: vec![container; 2],
        };
        let mut pod = Figures::Pod(pod);
        pod.bound();
        assert!(postcard::to_stdvec(&pod).unwrap().len() < 600);
        let mut device = Figures::Device(DeviceV1 { version: long(), ..DeviceV1::default() });
        device.bound();
        assert!(postcard::to_stdvec(&device).unwrap().len() < 100);

        let refused = vec![loss("full", 1), loss("x", 2), loss(&long(), 3), loss("full", u64::MAX)];
        let mut gate = Figures::Gate(GateV1 { gate: long(), refused, ..GateV1::default() });
        gate.bound();
        let Figures::Gate(mut gate) = gate else { panic!("no gate") };
        assert_eq!(gate.gate, "other");
        assert_eq!(gate.refused, [loss("full", u64::MAX), loss("other", 5)]);
        let other = GateV1 { accepted: 7, refused: vec![loss("denied", 1)], ..GateV1::default() };
        gate.add(&other);
        let all = [loss("full", u64::MAX), loss("denied", 1), loss("other", 5)];
        assert_eq!((gate.accepted, gate.refused), (7, all.to_vec()));

        for name in GATES {
            let refused = REASONS.map(|reason| loss(reason, 1)).to_vec();
            let gate = GateV1 { gate: name.to_owned(), refused, ..GateV1::default() };
            let mut same = Figures::Gate(gate.clone());
            same.bound();
            assert_eq!(same, Figures::Gate(gate), "an honest one is left as it is");
        }
    }
}

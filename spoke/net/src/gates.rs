//! What goes through the gates of the pod network: counted as it goes, read when somebody looks.
//!
//! ```text
//! pod         connections to a port of a pod here, whoever asks
//! service     those that ask for a Service
//! node port   those from outside through a port of the node, and a UDP node port's clients
//! link        those to and from other nodes, and those that lead nowhere
//! ```
//!
//! A connection counts at each gate that it goes through, and is open there until both of its ends have gone. Of
//! datagrams the link does not know which are answers: those that come from other nodes count as to who serves, those
//! that go there as to who has asked. Who waits at a node port for a full pod asks again and again, and each time counts
//! as refused at the gates behind it. Counts are relaxed atomics: no lock, and bytes in lots ([`LOT_BYTES`]).
//!
//! Guarantees:
//! - a connection is counted at every gate on its way, with its bytes, and open while it lasts
//!   (`a_connection_is_counted_at_every_gate_on_its_way`);
//! - who is refused is counted by the reason (`who_is_refused_is_counted_by_the_reason`), at the link once
//!   (`what_comes_over_the_link_is_counted_once`);
//! - datagrams that get lost here are counted by the reason (`datagrams_that_get_lost_are_counted_by_the_reason`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use freewheel_link::figures::{GateV1, LossV1};

use crate::error::NetError;

/// Bytes of one direction that are told together: what a connection carries costs no atomic of its own.
const LOT_BYTES: u64 = 64 << 10;

/// Where connections go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Pod,
    Service,
    NodePort,
    NodePortUdp,
    Link,
}

impl Gate {
    const ALL: [Self; 5] =
        [Self::Pod, Self::Service, Self::NodePort, Self::NodePortUdp, Self::Link];

    const fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::NodePort => "node_port",
            Self::NodePortUdp => "node_port_udp",
            Self::Link => "link",
        }
    }
}

/// A set of [`Gate`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gates(u8);

impl Gates {
    pub(crate) const NONE: Self = Self(0);

    /// These, and this one.
    #[must_use]
    pub(crate) const fn and(self, gate: Gate) -> Self {
        Self(self.0 | 1 << gate as u8)
    }

    const fn has(self, gate: Gate) -> bool {
        self.0 & 1 << gate as u8 != 0
    }
}

/// Why something did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nobody listens there, or a Service has no ready endpoint.
    Refused,
    /// Too many wait there already.
    Full,
    /// The pod has all the sockets that it may have, or the way there all connections.
    TooMany,
    /// No way leads there.
    Unreachable,
    /// It lies outside of the cluster.
    Denied,
    /// No answer in time.
    TimedOut,
    /// Anything else.
    Other,
}

impl Loss {
    const ALL: [Self; 7] = [
        Self::Refused,
        Self::Full,
        Self::TooMany,
        Self::Unreachable,
        Self::Denied,
        Self::TimedOut,
        Self::Other,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Full => "full",
            Self::TooMany => "too_many",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::TimedOut => "timeout",
            Self::Other => "other",
        }
    }
}

impl From<NetError> for Loss {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Refused => Self::Refused,
            NetError::TooMany | NetError::Full(_) | NetError::WayFull(_) => Self::TooMany,
            NetError::Unreachable => Self::Unreachable,
            NetError::Denied => Self::Denied,
            NetError::Timeout => Self::TimedOut,
            NetError::InUse
            | NetError::NotBindable
            | NetError::Reset
            | NetError::Invalid
            | NetError::NameUnknown => Self::Other,
        }
    }
}

/// To whom something goes: to who serves, or to who has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Server,
    Client,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
    refused: [AtomicU64; Loss::ALL.len()],
    bytes: [AtomicU64; 2],
    datagrams: [AtomicU64; 2],
    lost: [AtomicU64; Loss::ALL.len()],
}

/// The counts of a node.
#[derive(Debug, Default)]
pub(crate) struct Counters([Counts; Gate::ALL.len()]);

impl Counters {
    fn at(&self, gate: Gate) -> &Counts {
        let [pod, service, node_port, node_port_udp, link] = &self.0;
        match gate {
            Gate::Pod => pod,
            Gate::Service => service,
            Gate::NodePort => node_port,
            Gate::NodePortUdp => node_port_udp,
            Gate::Link => link,
        }
    }

    fn each(&self, gates: Gates) -> impl Iterator<Item = &Counts> {
        Gate::ALL.into_iter().filter(move |gate| gates.has(*gate)).map(|gate| self.at(gate))
    }

    /// A connection goes through these gates; it is open until what is returned goes.
    pub(crate) fn open(self: &Arc<Self>, gates: Gates) -> Arc<Passing> {
        for counts in self.each(gates) {
            counts.open.fetch_add(1, Relaxed);
        }
        Arc::new(Passing { counters: self.clone(), gates })
    }

    /// One was not let through.
    pub(crate) fn refused(&self, gate: Gate, why: impl Into<Loss>) {
        add(&self.at(gate).refused, why.into() as usize, 1);
    }

    /// A datagram has gone through.
    pub(crate) fn datagram(&self, gate: Gate, to: Toward) {
        add(&self.at(gate).datagrams, to as usize, 1);
    }

    /// One has got lost.
    pub(crate) fn lost(&self, gate: Gate, why: impl Into<Loss>) {
        add(&self.at(gate).lost, why.into() as usize, 1);
    }

    /// All of it, as it is now.
    pub(crate) fn read(&self) -> Vec<GateV1> {
        let one = |gate: Gate| {
            let counts = self.at(gate);
            let get = |count: &AtomicU64| count.load(Relaxed);
            let [bytes, datagrams] =
                [&counts.bytes, &counts.datagrams].map(|both| both.each_ref().map(get).into());
            let losses = |counts: &[AtomicU64]| {
                let all = Loss::ALL.iter().zip(counts.iter().map(get));
                let seen = all.filter(|(_, count)| *count != 0);
                seen.map(|(why, count)| LossV1 { reason: why.name().to_owned(), count }).collect()
            };
            GateV1 {
                gate: gate.name().to_owned(),
                accepted: get(&counts.accepted),
                open: get(&counts.open),
                refused: losses(&counts.refused),
                bytes,
                datagrams,
                lost: losses(&counts.lost),
            }
        };
        Gate::ALL.map(one).into()
    }
}

fn add(counts: &[AtomicU64], at: usize, by: u64) {
    if let Some(count) = counts.get(at) {
        count.fetch_add(by, Relaxed);
    }
}

/// A connection that is on its way through some gates, or open.
#[derive(Debug)]
pub(crate) struct Passing {
    counters: Arc<Counters>,
    gates: Gates,
}

impl Passing {
    /// It has come through.
    pub(crate) fn accepted(&self) {
        for counts in self.counters.each(self.gates) {
            counts.accepted.fetch_add(1, Relaxed);
        }
    }

    /// It has carried so much.
    pub(crate) fn carried(&self, to: Toward, bytes: u64) {
        self.counters.each(self.gates).for_each(|counts| add(&counts.bytes, to as usize, bytes));
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        for counts in self.counters.each(self.gates) {
            counts.open.fetch_sub(1, Relaxed);
        }
    }
}

/// What one direction of a connection has carried.
pub(crate) struct Tally {
    passing: Arc<Passing>,
    to: Toward,
    /// Not told yet.
    bytes: u64,
}

impl Tally {
    pub(crate) const fn new(passing: Arc<Passing>, to: Toward) -> Self {
        Self { passing, to, bytes: 0 }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if LOT_BYTES <= self.bytes {
            self.passing.carried(self.to, std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.bytes != 0 {
            self.passing.carried(self.to, self.bytes);
        }
    }
}

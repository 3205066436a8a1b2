//! A UDP port of a pod, with the flow table that makes Services work for datagrams.
//!
//! A flow sticks to the endpoint that its first datagram went to, and answers come back from the Service's
//! address: without that a connected socket would wait for ever.
//!
//! Guarantees:
//! - what waits on all UDP ports of a pod is within one budget and on the pod's account; what is beyond gets
//!   lost, as UDP may (`datagrams_that_nobody_reads_are_within_one_budget_for_all_ports_of_a_pod`);
//! - flows are on it too (`flows_of_datagrams_count_too`);
//! - what was read, and flows that were forgotten, leave no places behind
//!   (`a_port_that_was_full_holds_nothing_when_it_was_read`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use freewheel_spoke_account::Queue;
use parking_lot::Mutex;
use tokio::task::coop::cooperative;

use crate::gates::Loss;
use crate::receive_memory::{PIECE_OVERHEAD_BYTES, ReceiveMemory};
use crate::sockets::{Lender, Slot};

/// Largest payload of a datagram over IPv4.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Datagrams that wait on one port. More are dropped, as UDP may.
const QUEUED_DATAGRAMS_MAX: usize = 1024;

/// What a flow costs: its place in two tables, which have at most two for each flow and a little more.
const FLOW_BYTES: usize = 320;

/// Bytes that wait on one port.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// Flows through Services that one socket keeps apart. The table starts anew when it is full: flows then
/// choose an endpoint again.
const FLOWS_PER_SOCKET_MAX: usize = 1024;

#[derive(Default)]
struct UdpState {
    queue: Queue<(Bytes, SocketAddr)>,
    bytes: usize,
    waker: Option<Waker>,
    /// Service address to the endpoint that serves the flow.
    chosen: HashMap<SocketAddr, SocketAddr>,
    /// Endpoint to the Service address that the guest knows.
    shown: HashMap<SocketAddr, SocketAddr>,
    /// Where everything has to come from; what others send gets lost.
    only: Option<SocketAddr>,
}

/// A bound UDP port. Dropping it frees the port.
pub struct UdpPort {
    state: Mutex<UdpState>,
    address: SocketAddr,
    lender: Weak<dyn Lender<Self>>,
    waiting: Arc<ReceiveMemory>,
    _slot: Slot,
}

impl UdpPort {
    pub(crate) fn new(
        address: SocketAddr,
        lender: Weak<dyn Lender<Self>>,
        slot: Slot,
        waiting: Arc<ReceiveMemory>,
    ) -> Self {
        Self { state: Mutex::default(), address, lender, waiting, _slot: slot }
    }

    /// Where it is bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing but what this peer sends is taken.
    pub(crate) fn hear_only(&self, peer: SocketAddr) {
        self.state.lock().only = Some(peer);
    }

    /// The endpoint of the flow to a Service's address, if one was chosen.
    pub(crate) fn endpoint(&self, service: SocketAddr) -> Option<SocketAddr> {
        self.state.lock().chosen.get(&service).copied()
    }

    /// Remembers the endpoint of a flow.
    pub(crate) fn choose(&self, service: SocketAddr, endpoint: SocketAddr) {
        let mut state = self.state.lock();
        // A flow that comes back to another endpoint takes its former place.
        let known = state.chosen.contains_key(&service);
        if !known
            && (FLOWS_PER_SOCKET_MAX <= state.chosen.len() || !self.waiting.try_add(FLOW_BYTES))
        {
            self.waiting.sub(state.forget_flows());
            if !self.waiting.try_add(FLOW_BYTES) {
                return;
            }
        }
        if let Some(former) = state.chosen.insert(service, endpoint) {
            state.shown.remove(&former);
        }
        state.shown.insert(endpoint, service);
    }

    /// A datagram arrives; when it gets lost, why.
    pub(crate) fn deliver(&self, bytes: Bytes, from: SocketAddr) -> Result<(), Loss> {
        let waker = {
            let mut state = self.state.lock();
            if state.only.is_some_and(|only| only != from) {
                return Err(Loss::Refused);
            }
            if QUEUED_DATAGRAMS_MAX <= state.queue.len()
                || QUEUED_BYTES_MAX < state.bytes + bytes.len()
                || !self.waiting.try_add(bytes.len() + PIECE_OVERHEAD_BYTES)
            {
                return Err(Loss::Full);
            }
            let from = state.shown.get(&from).copied().unwrap_or(from);
            state.bytes += bytes.len();
            let places = state.queue.bytes();
            state.queue.push_back((bytes, from));
            self.waiting.changed(places, state.queue.bytes());
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The next datagram and its sender, if one waits.
    pub fn try_recv(&self) -> Option<(Bytes, SocketAddr)> {
        let mut state = self.state.lock();
        let places = state.queue.bytes();
        let (bytes, from) = state.queue.pop_front()?;
        state.bytes -= bytes.len();
        self.waiting.sub(bytes.len() + PIECE_OVERHEAD_BYTES);
        self.waiting.changed(places, state.queue.bytes());
        Some((bytes, from))
    }

    /// Waits until a datagram is there.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.queue.is_empty() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next datagram and its sender.
    pub async fn recv(&self) -> (Bytes, SocketAddr) {
        loop {
            cooperative(std::future::poll_fn(|cx| self.poll_ready(cx))).await;
            if let Some(datagram) = self.try_recv() {
                return datagram;
            }
        }
    }
}

impl UdpState {
    /// Forgets all flows; what they cost.
    fn forget_flows(&mut self) -> usize {
        self.shown = HashMap::new();
        std::mem::take(&mut self.chosen).len() * FLOW_BYTES
    }

    /// What is counted for its queue.
    fn queued(&self) -> usize {
        self.bytes + self.queue.len() * PIECE_OVERHEAD_BYTES + self.queue.bytes()
    }
}

impl Drop for UdpPort {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        self.waiting.sub(state.queued() + state.forget_flows());
        if let Some(lender) = self.lender.upgrade() {
            lender.release(self.address.port(), self);
        }
    }
}

//! A pod as others meet it: its address, its loopback and its ports, shared by all of its containers.
//!
//! Guarantees:
//! - what listens on loopback is reached from inside of the pod only (`loopback_stays_inside_of_the_pod`);
//! - what waits in its network is on its account
//!   (`datagrams_that_nobody_reads_are_within_one_budget_for_all_ports_of_a_pod`,
//!   `what_waits_for_another_node_is_on_the_sender_s_account_and_in_no_buffer_of_ours`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use freewheel_spoke_account::{Level, MemoryAccount, give_back};
use freewheel_spoke_agent::ports::PodNetwork;
use parking_lot::Mutex;

use crate::conn::{Conn, Side};
use crate::error::NetError;
use crate::gates::{Counters, Gate, Gates, Loss, Toward};
use crate::listener::Listener;
use crate::receive_memory::ReceiveMemory;
use crate::route::Source;
use crate::shared::Shared;
use crate::sockets::{Lender, Slot, Sockets};
use crate::udp::UdpPort;

/// Most files and directories that the containers of one pod have open, mounts included: each is a descriptor of the
/// agent's process.
pub const MAX_FILES: u64 = 256;
/// Those that a pod gets whatever its neighbours have. Beyond them it has no more than it leaves: where a process may open
/// few, two pods would have them all.
pub const FILES_LEAST: usize = 16;

/// Most mappings of memory that a pod's instances have: a thousand of the usual, or many of several memories each.
const MAX_MAPPINGS: u64 = 4096;

/// First of the ports that are given out to those who ask for none, as Linux has it.
const FIRST_EPHEMERAL: u16 = 32_768;

#[derive(Default)]
struct Taken {
    tcp: HashMap<u16, Weak<Listener>>,
    udp: HashMap<u16, Weak<UdpPort>>,
    next: u16,
}

/// A socket of a pod that is a client's, and who listens there.
pub(crate) struct Admission {
    listener: Arc<Listener>,
    slot: Slot,
}

/// A pod's ports, and what the host holds for it.
pub struct Ports {
    who: PodNetwork,
    taken: Mutex<Taken>,
    sockets: Sockets,
    account: Arc<MemoryAccount>,
    files: Arc<MemoryAccount>,
    mappings: Arc<MemoryAccount>,
    waiting: Arc<ReceiveMemory>,
    datagrams: Arc<ReceiveMemory>,
    gates: Arc<Counters>,
}

impl Ports {
    pub(crate) fn new(who: PodNetwork, node: &Shared) -> Arc<Self> {
        let account = MemoryAccount::within(&node.account, Level::Pod, who.memory_limit);
        Arc::new(Self {
            who,
            taken: Mutex::default(),
            sockets: Sockets::new(account.limit()),
            waiting: ReceiveMemory::new(account.clone()),
            datagrams: ReceiveMemory::new(account.clone()),
            account,
            files: MemoryAccount::within(&node.files, Level::Pod, Some(MAX_FILES)),
            mappings: MemoryAccount::within(&node.mappings, Level::Pod, Some(MAX_MAPPINGS)),
            gates: node.gates.clone(),
        })
    }

    /// What the host holds for the pod.
    #[must_use]
    pub const fn account(&self) -> &Arc<MemoryAccount> {
        &self.account
    }

    /// The pod's place in the network, as the agent gave it.
    #[must_use]
    pub const fn who(&self) -> &PodNetwork {
        &self.who
    }

    /// The files and directories that its containers have open.
    #[must_use]
    pub const fn files(&self) -> &Arc<MemoryAccount> {
        &self.files
    }

    /// The mappings of memory that its instances have.
    #[must_use]
    pub const fn mappings(&self) -> &Arc<MemoryAccount> {
        &self.mappings
    }

    /// The pod's address.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.who.ip
    }

    /// How many sockets it has.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.sockets.count()
    }

    /// Takes a place for one more socket.
    ///
    /// # Errors
    /// When the pod has all that it may have.
    pub fn slot(&self) -> Result<Slot, NetError> {
        self.sockets.slot(0)
    }

    /// How many sockets it may have.
    #[must_use]
    pub const fn sockets_max(&self) -> usize {
        self.sockets.most()
    }

    /// The pod, as it asks for a way.
    pub(crate) const fn source(&self) -> Source {
        Source::Pod(self.who.ip)
    }

    fn bindable(&self, ip: IpAddr) -> Result<(), NetError> {
        let may = ip.is_unspecified() || self.source().owns(ip);
        if may { Ok(()) } else { Err(NetError::NotBindable) }
    }

    /// Where a socket that asks for this address will be: the port chosen when it asks for none.
    ///
    /// # Errors
    /// When the address is not the pod's, or the port is taken.
    pub fn reserve(&self, address: SocketAddr) -> Result<SocketAddr, NetError> {
        self.bindable(address.ip())?;
        let mut taken = self.taken.lock();
        let port = if address.port() == 0 { taken.ephemeral() } else { address.port() };
        if taken.tcp_taken(port) {
            return Err(NetError::InUse);
        }
        Ok(SocketAddr::new(address.ip(), port))
    }

    /// Listens.
    ///
    /// # Errors
    /// When the address is not the pod's, the port is taken, or the pod has too many sockets.
    pub fn listen(
        self: &Arc<Self>,
        address: SocketAddr,
        backlog: usize,
    ) -> Result<Arc<Listener>, NetError> {
        self.bindable(address.ip())?;
        let slot = self.slot()?;
        let mut taken = self.taken.lock();
        let port = if address.port() == 0 { taken.ephemeral() } else { address.port() };
        if taken.tcp_taken(port) {
            return Err(NetError::InUse);
        }
        let address = SocketAddr::new(address.ip(), port);
        let listener =
            Arc::new(Listener::new(address, backlog, Arc::<Self>::downgrade(self), slot));
        taken.tcp.insert(port, Arc::downgrade(&listener));
        Ok(listener)
    }

    /// Binds a UDP port.
    ///
    /// # Errors
    /// When the address is not the pod's, the port is taken, or the pod has too many sockets.
    pub fn bind_udp(self: &Arc<Self>, address: SocketAddr) -> Result<Arc<UdpPort>, NetError> {
        self.bindable(address.ip())?;
        let slot = self.slot()?;
        let mut taken = self.taken.lock();
        let port = if address.port() == 0 { taken.ephemeral() } else { address.port() };
        if taken.udp.get(&port).is_some_and(|bound| 0 < bound.strong_count()) {
            return Err(NetError::InUse);
        }
        let address = SocketAddr::new(address.ip(), port);
        let waiting = self.datagrams.clone();
        let bound = Arc::new(UdpPort::new(address, Arc::<Self>::downgrade(self), slot, waiting));
        taken.udp.insert(port, Arc::downgrade(&bound));
        Ok(bound)
    }

    /// A client's end in this pod, on the way to `to`.
    pub(crate) fn client(
        &self,
        local: Option<SocketAddr>,
        to: SocketAddr,
    ) -> Result<Side, NetError> {
        let slot = self.slot()?;
        let port = match local {
            Some(local) if local.port() != 0 => local.port(),
            _ => self.taken.lock().ephemeral(),
        };
        let address = SocketAddr::new(self.seen_from(to.ip()), port);
        Ok(self.side(address, slot))
    }

    /// An end in this pod.
    fn side(&self, address: SocketAddr, slot: Slot) -> Side {
        let waiting = Some(self.waiting.clone());
        Side { address, waiting, slot: Some(slot), gates: Gates::NONE, kept: 0 }
    }

    /// The address that the pod has for who is there.
    pub(crate) fn seen_from(&self, there: IpAddr) -> IpAddr {
        if there.is_loopback() { there } else { IpAddr::V4(self.who.ip) }
    }

    /// Lets a client in: `seen` is the address that it asked for, `to` the pod's own.
    pub(crate) fn take(
        &self,
        client: Side,
        seen: SocketAddr,
        to: SocketAddr,
    ) -> Result<Conn, NetError> {
        let admission = self.admit(client.kept, to)?;
        self.let_in(admission, client, seen, to)
    }

    /// Takes a socket for a client of this address of the pod's, who may take so many of those that are kept.
    pub(crate) fn admit(&self, kept: usize, to: SocketAddr) -> Result<Admission, NetError> {
        let refused = |why| {
            self.gates.refused(Gate::Pod, why);
            NetError::Refused
        };
        let listener = {
            let taken = self.taken.lock();
            taken.tcp.get(&to.port()).and_then(Weak::upgrade)
        };
        let listener = listener.filter(|found| hears(found.address().ip(), to.ip()));
        let listener = listener.ok_or_else(|| refused(Loss::Refused))?;
        let slot = self.sockets.slot(kept).map_err(|_| {
            refused(Loss::TooMany);
            NetError::Full(self.who.ip)
        })?;
        Ok(Admission { listener, slot })
    }

    /// Lets the client in whom this is for.
    pub(crate) fn let_in(
        &self,
        Admission { listener, slot }: Admission,
        client: Side,
        seen: SocketAddr,
        to: SocketAddr,
    ) -> Result<Conn, NetError> {
        let passing = self.gates.open(client.gates.and(Gate::Pod));
        let (near, far) = Conn::pair(client, seen, self.side(to, slot), &self.waiting);
        near.counted(&passing);
        listener.offer(far).map_err(|_| {
            self.gates.refused(Gate::Pod, Loss::Full);
            NetError::Refused
        })?;
        passing.accepted();
        Ok(near)
    }

    pub(crate) fn deliver_udp(&self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let bound = {
            let taken = self.taken.lock();
            taken.udp.get(&to.port()).and_then(Weak::upgrade)
        };
        let gates = &self.gates;
        let bound = bound.filter(|found| hears(found.address().ip(), to.ip()));
        let delivered = bound.ok_or(Loss::Refused).and_then(|bound| bound.deliver(bytes, from));
        match delivered {
            Ok(()) => gates.datagram(Gate::Pod, Toward::Server),
            Err(why) => gates.lost(Gate::Pod, why),
        }
    }

    /// Graceful stop: nothing listens any more, accepting fails once what waits is served.
    pub fn close_listeners(&self) {
        let listeners: Vec<_> = self.taken.lock().tcp.values().filter_map(Weak::upgrade).collect();
        for listener in listeners {
            listener.close();
        }
    }

    /// Whether something listens on this port for others.
    #[must_use]
    pub fn listens(&self, port: u16) -> bool {
        let taken = self.taken.lock();
        taken.tcp.get(&port).is_some_and(|bound| 0 < bound.strong_count())
    }
}

impl Lender<Listener> for Ports {
    fn release(&self, port: u16, of: &Listener) {
        let mut taken = self.taken.lock();
        if taken.tcp.get(&port).is_some_and(|bound| std::ptr::eq(bound.as_ptr(), of)) {
            taken.tcp.remove(&port);
            give_back(&mut taken.tcp);
        }
    }
}

impl Lender<UdpPort> for Ports {
    fn release(&self, port: u16, of: &UdpPort) {
        let mut taken = self.taken.lock();
        if taken.udp.get(&port).is_some_and(|bound| std::ptr::eq(bound.as_ptr(), of)) {
            taken.udp.remove(&port);
            give_back(&mut taken.udp);
        }
    }
}

impl Taken {
    fn tcp_taken(&self, port: u16) -> bool {
        self.tcp.get(&port).is_some_and(|bound| 0 < bound.strong_count())
    }

    /// The next port that nobody listens on. There are more such ports than sockets in a pod, so one is free.
    fn ephemeral(&mut self) -> u16 {
        loop {
            self.next = match self.next {
                last if last < FIRST_EPHEMERAL || last == u16::MAX => FIRST_EPHEMERAL,
                last => last + 1,
            };
            if !self.tcp.contains_key(&self.next) && !self.udp.contains_key(&self.next) {
                return self.next;
            }
        }
    }
}

/// Whether a socket bound to one of the pod's addresses hears what is sent to another. `[::]` and `[::1]` stand for
/// the same as `0.0.0.0` and `127.0.0.1`: the pod network is IPv4, and servers that bind the former by default
/// mean both.
fn hears(bound: IpAddr, to: IpAddr) -> bool {
    bound.is_unspecified() || bound == to || (bound.is_loopback() && to.is_loopback())
}

//! One pod's network: its address, its loopback and its ports, shared by all of its containers.
//!
//! Guarantees:
//! - what listens on loopback is reached from inside of the pod only (`loopback_stays_inside_of_the_pod`);
//! - a pod never has more than [`MAX_SOCKETS`] sockets, whoever opens them
//!   (`a_pod_has_a_bounded_number_of_sockets`);
//! - and fewer when it has little memory (`a_pod_of_little_memory_has_few_sockets_and_a_small_budget`);
//! - what waits in its network is on its account
//!   (`datagrams_that_nobody_reads_are_within_one_budget_for_all_ports_of_a_pod`,
//!   `what_waits_for_another_node_is_on_the_sender_s_account_and_in_no_buffer_of_ours`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use freewheel_spoke_account::{Account, Level};
use freewheel_spoke_agent::ports::PodNetwork;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::conn::{Conn, Side};
use crate::error::NetError;
use crate::listener::Listener;
use crate::realm::Realm;
use crate::udp::{MAX_DATAGRAM, UdpPort};
use crate::waiting::{NARROWEST, Waiting};

/// Most sockets of one pod: listeners, connections' ends and UDP ports. An end costs at most 600 bytes
/// when idle, so a pod's share of the host's memory stays below its budget of waiting bytes.
pub const MAX_SOCKETS: usize = 4096;

/// Memory of a pod that gives it one socket more: eight times what a connection may hold when the budget is used up.
const MEMORY_PER_SOCKET: usize = 8 * NARROWEST;

/// Sockets of a pod that has hardly any memory.
const FEWEST_SOCKETS: usize = 64;

/// Most files and directories that the containers of one pod have open, mounts included: each is a descriptor of the
/// agent's process.
pub const MAX_FILES: u64 = 256;

/// Most mappings of memory that a pod's instances have: a thousand of the usual, or many of several memories each.
const MAX_MAPPINGS: u64 = 4096;

/// First of the ports that are given out to those who ask for none, as Linux has it.
const FIRST_EPHEMERAL: u16 = 32_768;

/// A place in a pod's count of sockets; dropping it frees the place.
pub struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A connection in the making.
pub enum Connecting {
    /// Both ends are on this node: it is decided.
    Now(Result<Conn, NetError>),
    /// The other end is on another node.
    Later(BoxFuture<'static, Result<Conn, NetError>>),
}

impl Connecting {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// When there will be no connection.
    pub async fn done(self) -> Result<Conn, NetError> {
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(outcome) => outcome.await,
        }
    }
}

#[derive(Default)]
struct Ports {
    tcp: HashMap<u16, Weak<Listener>>,
    udp: HashMap<u16, Weak<UdpPort>>,
    next: u16,
}

/// One pod's network.
pub struct PodNet {
    who: PodNetwork,
    ports: Mutex<Ports>,
    sockets: Arc<AtomicUsize>,
    most_sockets: usize,
    account: Arc<Account>,
    files: Arc<Account>,
    mappings: Arc<Account>,
    waiting: Arc<Waiting>,
    datagrams: Arc<Waiting>,
    realm: Arc<Realm>,
}

impl PodNet {
    pub(crate) fn new(who: PodNetwork, realm: Arc<Realm>) -> Arc<Self> {
        let account = Account::within(&realm.shared().account, Level::Pod, who.memory_limit);
        let sockets = |limit: usize| (limit / MEMORY_PER_SOCKET).clamp(FEWEST_SOCKETS, MAX_SOCKETS);
        Arc::new(Self {
            who,
            ports: Mutex::default(),
            sockets: Arc::default(),
            most_sockets: account.limit().map_or(MAX_SOCKETS, sockets),
            waiting: Waiting::new(account.clone()),
            datagrams: Waiting::new(account.clone()),
            account,
            files: Account::within(&realm.shared().files, Level::Pod, Some(MAX_FILES)),
            mappings: Account::within(&realm.shared().mappings, Level::Pod, Some(MAX_MAPPINGS)),
            realm,
        })
    }

    /// What the host holds for the pod.
    #[must_use]
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The pod's place in the network, as the agent gave it.
    #[must_use]
    pub const fn who(&self) -> &PodNetwork {
        &self.who
    }

    /// The files and directories that its containers have open.
    #[must_use]
    pub const fn files(&self) -> &Arc<Account> {
        &self.files
    }

    /// The mappings of memory that its instances have.
    #[must_use]
    pub const fn mappings(&self) -> &Arc<Account> {
        &self.mappings
    }

    /// The pod's address.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.who.ip
    }

    /// The realm that the pod is in.
    #[must_use]
    pub const fn realm(&self) -> &Arc<Realm> {
        &self.realm
    }

    /// How many sockets it has.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.sockets.load(Relaxed)
    }

    /// Takes a place for one more socket.
    ///
    /// # Errors
    /// When the pod has all that it may have.
    pub fn slot(&self) -> Result<Slot, NetError> {
        let slot = |count: usize| (count < self.most_sockets).then_some(count + 1);
        match self.sockets.fetch_update(Relaxed, Relaxed, slot) {
            Ok(_) => Ok(Slot(self.sockets.clone())),
            Err(_) => Err(NetError::TooMany),
        }
    }

    fn owns(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip == IpAddr::V4(self.who.ip)
    }

    fn bindable(&self, ip: IpAddr) -> Result<(), NetError> {
        if ip.is_unspecified() || self.owns(ip) { Ok(()) } else { Err(NetError::NotBindable) }
    }

    /// Where a socket that asks for this address will be: the port chosen when it asks for none.
    ///
    /// # Errors
    /// When the address is not the pod's, or the port is taken.
    pub fn reserve(&self, address: SocketAddr) -> Result<SocketAddr, NetError> {
        self.bindable(address.ip())?;
        let mut ports = self.ports.lock();
        let port = if address.port() == 0 { ports.ephemeral() } else { address.port() };
        if ports.tcp_taken(port) {
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
        let mut ports = self.ports.lock();
        let port = if address.port() == 0 { ports.ephemeral() } else { address.port() };
        if ports.tcp_taken(port) {
            return Err(NetError::InUse);
        }
        let address = SocketAddr::new(address.ip(), port);
        let listener = Arc::new(Listener::new(address, backlog, Arc::downgrade(self), slot));
        ports.tcp.insert(port, Arc::downgrade(&listener));
        Ok(listener)
    }

    /// Binds a UDP port.
    ///
    /// # Errors
    /// When the address is not the pod's, the port is taken, or the pod has too many sockets.
    pub fn bind_udp(self: &Arc<Self>, address: SocketAddr) -> Result<Arc<UdpPort>, NetError> {
        self.bindable(address.ip())?;
        let slot = self.slot()?;
        let mut ports = self.ports.lock();
        let port = if address.port() == 0 { ports.ephemeral() } else { address.port() };
        if ports.udp.get(&port).is_some_and(|bound| 0 < bound.strong_count()) {
            return Err(NetError::InUse);
        }
        let address = SocketAddr::new(address.ip(), port);
        let waiting = self.datagrams.clone();
        let bound = Arc::new(UdpPort::new(address, Arc::downgrade(self), slot, waiting));
        ports.udp.insert(port, Arc::downgrade(&bound));
        Ok(bound)
    }

    /// Connects from a container of this pod: to itself, to a pod or a Service of its realm.
    pub fn connect(&self, local: Option<SocketAddr>, to: SocketAddr) -> Connecting {
        if to.port() == 0 || to.ip().is_unspecified() {
            return Connecting::Now(Err(NetError::Invalid));
        }
        let slot = match self.slot() {
            Ok(slot) => slot,
            Err(error) => return Connecting::Now(Err(error)),
        };
        let ip = if to.ip().is_loopback() { to.ip() } else { IpAddr::V4(self.who.ip) };
        let port = match local {
            Some(local) if local.port() != 0 => local.port(),
            _ => self.ports.lock().ephemeral(),
        };
        let address = SocketAddr::new(ip, port);
        let client = Side { address, waiting: Some(self.waiting.clone()), slot: Some(slot) };
        if self.owns(to.ip()) {
            return Connecting::Now(self.take(client, to, to));
        }
        self.realm.connect(client, to)
    }

    /// Lets a client in: `seen` is the address that it asked for, `to` the pod's own.
    pub(crate) fn take(
        &self,
        client: Side,
        seen: SocketAddr,
        to: SocketAddr,
    ) -> Result<Conn, NetError> {
        let listener = {
            let ports = self.ports.lock();
            ports.tcp.get(&to.port()).and_then(Weak::upgrade)
        };
        let listener = listener.filter(|found| hears(found.address().ip(), to.ip()));
        let listener = listener.ok_or(NetError::Refused)?;
        let slot = self.slot().map_err(|_| NetError::Refused)?;
        let server = Side { address: to, waiting: Some(self.waiting.clone()), slot: Some(slot) };
        let (near, far) = Conn::pair(client, seen, server, &self.waiting);
        listener.offer(far).map_err(|_| NetError::Refused)?;
        Ok(near)
    }

    /// Sends a datagram. Nobody there is not an error, as with UDP everywhere.
    ///
    /// # Errors
    /// When the address cannot be reached from this pod at all, or the datagram is too large.
    pub fn send_udp(&self, from: &UdpPort, to: SocketAddr, bytes: Bytes) -> Result<(), NetError> {
        if to.port() == 0 || to.ip().is_unspecified() || MAX_DATAGRAM < bytes.len() {
            return Err(NetError::Invalid);
        }
        if self.owns(to.ip()) {
            self.deliver_udp(SocketAddr::new(to.ip(), from.address().port()), to, bytes);
            return Ok(());
        }
        let source = SocketAddr::new(self.who.ip.into(), from.address().port());
        let Some(service) = self.realm.service_at(to.ip()) else {
            return self.realm.send_udp(source, to, bytes);
        };
        let former = from.endpoint(to);
        let endpoint = self.realm.next_of_flow(&service, to.port(), source.ip(), former)?;
        if former != Some(endpoint) {
            from.choose(to, endpoint);
        }
        self.realm.send_udp(source, endpoint, bytes)
    }

    pub(crate) fn deliver_udp(&self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let bound = {
            let ports = self.ports.lock();
            ports.udp.get(&to.port()).and_then(Weak::upgrade)
        };
        if let Some(bound) = bound.filter(|found| hears(found.address().ip(), to.ip())) {
            bound.deliver(bytes, from);
        }
    }

    /// Addresses behind a name, as a container of this pod sees it.
    ///
    /// # Errors
    /// When nobody in the realm has the name.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        self.realm.resolve(&self.who, name)
    }

    /// Graceful stop: nothing listens any more, accepting fails once what waits is served.
    pub fn close_listeners(&self) {
        let listeners: Vec<_> = self.ports.lock().tcp.values().filter_map(Weak::upgrade).collect();
        for listener in listeners {
            listener.close();
        }
    }

    /// Whether something listens on this port for others.
    #[must_use]
    pub fn listens(&self, port: u16) -> bool {
        let ports = self.ports.lock();
        ports.tcp.get(&port).is_some_and(|bound| 0 < bound.strong_count())
    }

    /// Frees the port of this listener, unless another one has it by now.
    pub(crate) fn release_tcp(&self, port: u16, of: &Listener) {
        let mut ports = self.ports.lock();
        if ports.tcp.get(&port).is_some_and(|bound| std::ptr::eq(bound.as_ptr(), of)) {
            ports.tcp.remove(&port);
        }
    }

    /// Frees the port of this socket, unless another one has it by now.
    pub(crate) fn release_udp(&self, port: u16, of: &UdpPort) {
        let mut ports = self.ports.lock();
        if ports.udp.get(&port).is_some_and(|bound| std::ptr::eq(bound.as_ptr(), of)) {
            ports.udp.remove(&port);
        }
    }
}

impl Ports {
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

//! A TCP node port: connections from outside, each bridged to a pod.
//!
//! Guarantees:
//! - a node port whose places are all taken stays open: the connection that has been silent longest makes room, those
//!   that never got a byte first (`the_one_that_was_silent_longest_makes_room_and_strangers_go_first`,
//!   `a_node_port_full_of_silent_clients_serves_the_next`); also where it is the pod that has no more sockets
//!   (`a_pod_full_of_silent_clients_serves_the_next`), here or on another node
//!   (`a_pod_elsewhere_that_has_no_more_sockets_serves_the_next`);
//! - for a full pod one client is sent away, and no other before that has let one in, or for some seconds
//!   (`one_who_was_sent_away_in_vain_is_the_last_for_a_while`), by all node ports of a node that lead there together
//!   (`node_ports_of_one_pod_send_one_away_together`): a pod that lets nobody go loses one of each node in
//!   [`IN_VAIN_FOR`](crate::made_room::IN_VAIN_FOR) at most, and only while somebody comes there
//!   (`a_pod_that_lets_nobody_go_loses_one_client_at_a_time`), and it shuts nobody out
//!   (`a_place_that_somebody_else_takes_keeps_nobody_out_for_long`); nobody goes while another pod has room
//!   (`nobody_is_sent_away_while_another_pod_has_room`), also on another node if that is reached
//!   (`nobody_is_sent_away_while_a_pod_elsewhere_has_room`);
//! - it is one that has a socket there (`who_has_no_socket_in_a_full_pod_any_more_does_not_go_for_it`), also one whom the
//!   pod does not hear any more (`who_is_not_heard_any_more_and_has_a_socket_goes_for_a_full_pod`), and one for each that
//!   comes, however many pods are full (`one_client_sends_one_away_however_many_pods_are_full`);
//! - of a node port's clients few wait for full pods, and the others are refused
//!   (`few_wait_for_a_full_pod_and_the_others_are_refused_at_once`);
//! - what broke off is reset for the client, also what this process carried when it is killed
//!   (`a_node_port_resets_its_client_when_the_pod_ends_before_its_time`,
//!   `a_killed_device_breaks_its_connections_off_wherever_their_clients_are`), from the moment it is taken
//!   (`a_client_that_was_only_just_taken_is_reset`), and the client has all that was said before
//!   (`a_client_has_all_that_its_pod_said_before_it_broke_off`), also one that its pod does not listen to any more
//!   (`a_client_that_still_talks_has_the_whole_answer`);
//! - all node ports together have no more connections than the node has descriptors for, also while their pods are
//!   being reached, and each may have a few whatever the others have
//!   (`a_door_that_has_taken_all_descriptors_leaves_the_others_a_few`,
//!   `who_waits_for_a_silent_node_makes_room_like_any_other`).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_spoke_account::{Held, MemoryAccount};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bridge::{self, Ended};
use crate::conn::Conn;
use crate::error::NetError;
use crate::gates::{Gate, Loss};
use crate::kernel_buffers;
use crate::link_places::SILENT_AFTER;
use crate::made_room::MadeRoom;
use crate::node_port_listener::{BIND_RETRY_FIRST_AND_MAX, NodePortListener};
use crate::pipe::Pipe;
use crate::send_queue;
use crate::watched_stream::{Watched, Watcher};

/// Connections that one node port carries at a time. Tests open more than that, twice, with the files of one process.
const CONNECTIONS_PER_PORT_MAX: usize = if cfg!(test) { 64 } else { 4096 };

/// Connections that every node port may have, whatever the others have.
const CONNECTIONS_PER_PORT_MIN: usize = 16;

/// How long a client waits until a pod that has no more sockets has one again.
const FULL_POD_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients of a node port that wait for a place in a full pod. Each of them asks again and again, also over the link.
const FULL_POD_WAITERS_MAX: usize = 16;

/// How often a full node port looks again, when nobody was silent. A client whose pod was full tries again so soon, and
/// each time later.
const FULL_PORT_RETRY_EVERY: Duration = Duration::from_millis(50);

/// One connection from outside.
struct InboundConnection {
    number: u64,
    /// When its last byte came or went, in milliseconds of the node port's time.
    last: AtomicU64,
    /// It got something from its pod.
    served: AtomicBool,
    /// Once it is connected.
    pod: OnceLock<Reached>,
    leave: CancellationToken,
    /// Its place among those of all node ports.
    _place: Option<Held>,
}

/// The pod that a client is connected to.
struct Reached {
    pod: IpAddr,
    from: Arc<Pipe>,
    /// `None`: it is on another node, and its end is all that is heard of it.
    toward: Option<Arc<Pipe>>,
}

impl InboundConnection {
    /// A pod has let it in.
    fn came_in(&self, reached: Reached, made_room: &MadeRoom) {
        made_room.came_in(reached.pod);
        let _ = self.pod.set(reached);
    }

    /// Whether it has a socket in this pod. Its client may stay after that has closed it.
    fn is_in(&self, pod: IpAddr) -> bool {
        let is_open = |it: &Reached| {
            it.from.has_writer() || it.toward.as_ref().is_some_and(|toward| toward.has_reader())
        };
        self.pod.get().is_some_and(|it| it.pod == pod && is_open(it))
    }
}

/// All connections of a node port.
struct InboundConnections {
    opened: Instant,
    most: usize,
    /// Those of all node ports.
    node: Arc<MemoryAccount>,
    all: Mutex<BTreeMap<u64, Arc<InboundConnection>>>,
    /// Somebody has left.
    freed: Notify,
    /// Turns to wait for a place in a full pod.
    waiting: Semaphore,
}

impl InboundConnections {
    fn new(most: usize, node: Arc<MemoryAccount>) -> Arc<Self> {
        let (opened, freed) = (Instant::now(), Notify::new());
        let waiting = Semaphore::new(FULL_POD_WAITERS_MAX);
        Arc::new(Self { opened, most, node, all: Mutex::default(), freed, waiting })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A place, if one is free; else somebody is on the way out who makes it, or nobody was silent for long enough.
    fn enter(&self) -> Option<Arc<InboundConnection>> {
        let mut all = self.all.lock();
        let place = if all.len() < self.most { self.node.take(1).ok() } else { None };
        if place.is_none() && CONNECTIONS_PER_PORT_MIN.min(self.most) <= all.len() {
            self.send_one_away(&all, None);
            return None;
        }
        let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
        let visit = Arc::new(InboundConnection {
            number,
            last: AtomicU64::new(self.now()),
            served: AtomicBool::new(false),
            pod: OnceLock::new(),
            leave: CancellationToken::new(),
            _place: place,
        });
        all.insert(number, visit.clone());
        Some(visit)
    }

    /// Waits for a place.
    async fn place(&self) -> Arc<InboundConnection> {
        loop {
            if let Some(visit) = self.enter() {
                return visit;
            }
            let _ = timeout(FULL_PORT_RETRY_EVERY, self.freed.notified()).await;
        }
    }

    /// Ends that one of these connections, or of those to this pod, which has been silent longest, one at a time: it has
    /// its place until it is gone. Whether one goes.
    fn send_one_away(
        &self,
        all: &BTreeMap<u64, Arc<InboundConnection>>,
        pod: Option<IpAddr>,
    ) -> bool {
        let these = || all.values().filter(|visit| pod.is_none_or(|pod| visit.is_in(pod)));
        if these().any(|visit| visit.leave.is_cancelled()) {
            return true;
        }
        let now = self.now();
        let silent = these().filter(|visit| {
            SILENT_AFTER.as_millis() <= u128::from(now.saturating_sub(visit.last.load(Relaxed)))
        });
        let rank = |visit: &&Arc<InboundConnection>| {
            (visit.served.load(Relaxed), visit.last.load(Relaxed), visit.number)
        };
        silent.min_by_key(rank).is_some_and(|oldest| {
            oldest.leave.cancel();
            true
        })
    }

    /// Sends one away that this full pod has, if the last one was not in vain. Whether one goes.
    fn make_room_in(&self, pod: IpAddr, made_room: &MadeRoom) -> bool {
        made_room.send_away(pod, || self.send_one_away(&self.all.lock(), Some(pod)))
    }

    fn left(&self, visit: Arc<InboundConnection>) {
        self.all.lock().remove(&visit.number);
        drop(visit);
        self.freed.notify_one();
    }
}

/// Opens a node port. Its connections have no linger from their first moment, which Linux hands on to them: what ends
/// without a word of ours (this process is killed, the node port closes while a client waits for its place) is a reset;
/// a plain end would say that this was all.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    SockRef::from(&listener).set_linger(Some(Duration::ZERO))?;
    kernel_buffers::bound(&listener)?;
    Ok(listener)
}

/// Carries connections until the node port closes; those that are there by then go on.
pub(crate) async fn serve(way: &Arc<NodePortListener>, listener: &TcpListener) {
    let visits = InboundConnections::new(CONNECTIONS_PER_PORT_MAX, way.shared.visits.clone());
    loop {
        let accept = async {
            let accepted = listener.accept().await?;
            // It waits here, and all later ones in the kernel.
            Ok((accepted, visits.place().await))
        };
        let accepted = tokio::select! {
            () = way.closed.cancelled() => return,
            accepted = accept => accepted,
        };
        match accepted {
            Ok(((stream, peer), visit)) => {
                let carry = carry(way.clone(), stream, peer, visits.clone(), visit);
                way.shared.tasks.spawn_on(carry, &way.shared.runtime);
            }
            Err(error) => {
                // Out of file descriptors, or a client that was gone already: the node port itself is sound.
                warn!(port = way.node_port.port, %error, "connection could not be taken");
                if is_out_of_files(&error) {
                    visits.send_one_away(&visits.all.lock(), None);
                }
                tokio::time::sleep(BIND_RETRY_FIRST_AND_MAX.0).await;
            }
        }
    }
}

/// `EMFILE` and `ENFILE`, which have no kind of their own.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

async fn carry(
    way: Arc<NodePortListener>,
    stream: TcpStream,
    peer: SocketAddr,
    visits: Arc<InboundConnections>,
    visit: Arc<InboundConnection>,
) {
    // Small answers go out at once; failing to say so costs latency only.
    let _ = stream.set_nodelay(true);
    let traffic = Traffic { visits: visits.clone(), visit: visit.clone() };
    let mut stream = Watched::new(traffic, stream);
    // Who has to go does not wait for a node that does not answer.
    let connected = tokio::select! {
        biased;
        () = visit.leave.cancelled() => {
            way.shared.gates.refused(Gate::NodePort, Loss::Full);
            Err(NetError::Timeout)
        }
        connected = connect(&way, peer, (&visits, &visit)) => {
            connected.inspect_err(|error| way.shared.gates.refused(Gate::NodePort, *error))
        }
    };
    let ended = match connected {
        // What waits in it is the kernel's.
        Ok(conn) => {
            bridge::carry(&conn.into_tunnel(), &mut stream, 0, visit.leave.cancelled()).await
        }
        Err(error) => {
            debug!(port = way.node_port.port, %peer, %error, "no pod for it");
            Ended::Broken
        }
    };
    if ended != Ended::Whole {
        // What follows is a reset, which takes away what the client does not have yet.
        tokio::select! {
            () = visit.leave.cancelled() => {}
            () = send_queue::taken(stream.stream()) => {}
        }
    }
    if ended != Ended::Broken {
        let _ = SockRef::from(stream.stream()).set_linger(None);
    }
    // The place is free when the descriptor is.
    drop(stream);
    visits.left(visit);
}

/// Connects a client to its pod. One that has no socket more gets one back: of the node port's own connections to it
/// the one that was silent longest makes room, once.
async fn connect(
    way: &NodePortListener,
    peer: SocketAddr,
    (visits, visit): (&InboundConnections, &InboundConnection),
) -> Result<Conn, NetError> {
    let begun = Instant::now();
    let (mut turn, mut made_room, mut pause) = (None, false, FULL_PORT_RETRY_EVERY);
    loop {
        let target = way.target.read().clone();
        match target.connect(peer).done().await {
            Err(error @ NetError::Full(pod)) if begun.elapsed() < FULL_POD_TIMEOUT => {
                if turn.is_none() {
                    turn = Some(visits.waiting.try_acquire().map_err(|_| error)?);
                }
                // Who waits has asked a few pods, and others may have room.
                made_room = made_room
                    || (!target.may_have_room(peer.ip())
                        && visits.make_room_in(pod.into(), target.realm.made_room()));
            }
            connected => {
                return connected.inspect(|conn| {
                    let (pod, from) = (conn.peer.ip(), conn.rx.clone());
                    let toward = target.realm.pod_at(pod).map(|_| conn.tx.clone());
                    visit.came_in(Reached { pod, from, toward }, target.realm.made_room());
                });
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(SILENT_AFTER);
    }
}

/// Remembers when a client's stream was last used.
struct Traffic {
    visits: Arc<InboundConnections>,
    visit: Arc<InboundConnection>,
}

impl Traffic {
    fn used(&self) {
        self.visit.last.store(self.visits.now(), Relaxed);
    }
}

impl Watcher for Traffic {
    fn heard(&self, _: usize) -> io::Result<()> {
        self.used();
        Ok(())
    }

    fn wrote(&self, waits: bool) {
        if !waits {
            self.used();
            self.visit.served.store(true, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::made_room::IN_VAIN_FOR;
    use crate::receive_memory::ReceiveMemory;

    #[tokio::test]
    async fn a_client_that_was_only_just_taken_is_reset() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().await.unwrap());
        let end = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_silent_longest_makes_room_and_strangers_go_first() {
        let visits = InboundConnections::new(3, MemoryAccount::node());
        let enter = || visits.enter().unwrap();
        let served = enter();
        served.served.store(true, Relaxed);
        tokio::time::advance(SILENT_AFTER * 2).await;
        let (stranger, later) = (enter(), enter());
        assert!(visits.enter().is_none(), "it has its place until it is gone");
        assert!(served.leave.is_cancelled(), "nobody else was silent long enough");
        visits.left(served);
        let third = enter();
        assert!(visits.enter().is_none() && !stranger.leave.is_cancelled(), "all have just come");
        tokio::time::advance(SILENT_AFTER * 2).await;
        third.last.store(visits.now(), Relaxed);
        for _ in 0..2 {
            assert!(visits.enter().is_none());
        }
        assert!(stranger.leave.is_cancelled() && !later.leave.is_cancelled(), "one at a time");
        visits.left(stranger);
        later.served.store(true, Relaxed);
        let fourth = enter();
        tokio::time::advance(SILENT_AFTER * 2).await;
        assert!(visits.enter().is_none());
        assert!(
            third.leave.is_cancelled()
                && !later.leave.is_cancelled()
                && !fourth.leave.is_cancelled()
        );
    }

    /// A node port, and what is known of the pods of its realm.
    fn node_port() -> (Arc<InboundConnections>, MadeRoom) {
        (InboundConnections::new(100, MemoryAccount::node()), MadeRoom::default())
    }

    fn reached(pod: IpAddr) -> Reached {
        let memory = ReceiveMemory::new(MemoryAccount::node());
        Reached { pod, from: Pipe::new(memory.clone(), memory), toward: None }
    }

    #[tokio::test(start_paused = true)]
    async fn node_ports_of_one_pod_send_one_away_together() {
        let ((one, made_room), (other, _)) = (node_port(), node_port());
        let pod = IpAddr::from([10, 64, 0, 1]);
        let come = |port: &InboundConnections| {
            let visit = port.enter().unwrap();
            visit.came_in(reached(pod), &made_room);
            visit
        };
        let there = [come(&one), come(&other), come(&other)];
        tokio::time::advance(SILENT_AFTER).await;
        let gone = || there.iter().filter(|visit| visit.leave.is_cancelled()).count();
        assert!(one.make_room_in(pod, &made_room) && !other.make_room_in(pod, &made_room));
        assert_eq!(gone(), 1, "the pod lets nobody in");
        come(&one);
        assert!(other.make_room_in(pod, &made_room));
        assert_eq!(gone(), 2, "it has let one in");
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_was_sent_away_in_vain_is_the_last_for_a_while() {
        let (visits, made_room) = node_port();
        let pods = [IpAddr::from([10, 64, 0, 1]), IpAddr::from([10, 64, 0, 2])];
        let there: Vec<_> = (0..8).map(|_| visits.enter().unwrap()).collect();
        let come_in = |visit: &InboundConnection, pod| visit.came_in(reached(pod), &made_room);
        there.iter().zip(pods.iter().cycle()).for_each(|(visit, pod)| come_in(visit, *pod));
        tokio::time::advance(SILENT_AFTER).await;
        let full = |pod: usize| {
            visits.make_room_in(pods[pod], &made_room);
            let gone = there.iter().filter(|visit| visit.leave.is_cancelled()).cloned();
            gone.inspect(|visit| visits.left(visit.clone())).count()
        };
        assert_eq!([full(0), full(0), full(1), full(0)], [1, 1, 2, 2], "each pod for itself");
        tokio::time::advance(IN_VAIN_FOR / 2).await;
        assert_eq!(full(0), 2);
        come_in(&visits.enter().unwrap(), pods[0]);
        assert_eq!([full(0), full(0), full(1)], [3, 3, 3], "it was not in vain");
        tokio::time::advance(IN_VAIN_FOR / 2).await;
        assert_eq!([full(1), full(1)], [4, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_that_has_taken_all_descriptors_leaves_the_others_a_few() {
        let node = MemoryAccount::node();
        node.set_limit(100);
        let (greedy, modest) = (
            InboundConnections::new(4096, node.clone()),
            InboundConnections::new(4096, node.clone()),
        );
        let taken: Vec<_> = std::iter::from_fn(|| greedy.enter()).collect();
        assert_eq!(taken.len(), 100);
        let few: Vec<_> = std::iter::from_fn(|| modest.enter()).take(50).collect();
        assert_eq!(few.len(), CONNECTIONS_PER_PORT_MIN);
        tokio::time::advance(SILENT_AFTER * 2).await;
        assert!(greedy.enter().is_none() && node.used() == 100, "nobody has left yet");
        taken.into_iter().for_each(|visit| greedy.left(visit));
        assert_eq!(node.used(), 0, "places go with their connections");
        assert!(modest.enter().is_some());
    }
}

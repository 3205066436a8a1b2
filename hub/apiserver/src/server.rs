//! The listener: TLS, HTTP/1.1 and HTTP/2, with a bound on everything a client can make grow.
//!
//! Guarantees:
//! - a client that is slow to shake hands, to say something or to send its headers is cut off, and so is one that
//!   asks nothing for long (`whoever_connects_and_asks_nothing_is_sent_away`); a watch is not
//!   (`a_watch_outlives_every_idle_connection`);
//! - a request that comes while its idle connection is being ended is served to its end
//!   (`a_request_that_comes_with_the_farewell_is_served`);
//! - a client that is gone without a word is noticed about [`Limits::lost`] later
//!   (`a_client_that_is_gone_without_a_word_is_noticed`);
//! - strangers never take a place of the known (`strangers_take_no_place_of_those_whom_the_hub_knows`), and however
//!   many come, those whom the hub knows get in soon (`a_flood_of_strangers_keeps_nobody_waiting`);
//! - on stop, watches end and `serve` returns (`a_server_that_stops_ends_its_watches_and_returns`).

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::authn::Proven;
use crate::connection_slots::unread_window::{OF_STRANGERS, OF_THE_KNOWN};
use crate::connection_slots::{ConnectionPermit, ConnectionSlot, ConnectionSlots};
use crate::context::{Hub, Server};
use crate::edge;
use crate::flow::shares::Sharer;
use crate::flow::{Bounds, Flows};
use crate::memory_account::{ALL_CONNECTIONS_BYTES_MAX, TotalMemory};
use crate::shutdown::Begun;
use crate::shutdown::own_waker::SeldomReady;
use crate::socket::{Socket, heads};
use crate::stream::Streams;
use crate::tls::Tls;

/// Bounds of the listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of those whom we know, at a time.
    pub known: usize,
    /// Connections of all others; more wait in the kernel's backlog until some of them have to go.
    pub strangers: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// How long a connection may ask nothing. Watches and logs that are followed ask all the time.
    pub idle: Duration,
    /// The same for a stranger, who is also to have sent the headers of a request by then.
    pub stranger_idle: Duration,
    /// After which time a client counts as gone whose machine answers nothing, neither what it is sent nor a probe
    /// when there is nothing to send.
    pub lost: Duration,
    /// How long a client may take nothing of an answer, of a log [`Limits::lost`]; all of a large answer twice as
    /// long, and so many seconds as its size warrants.
    pub unread: Duration,
    /// Bytes of headers of one request.
    pub header_bytes: u32,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// The same for a stranger.
    pub stranger_streams: u32,
    /// Requests under way, of all connections.
    pub flows: Bounds,
    /// Bytes that all connections may make the hub hold together.
    pub held_bytes: usize,
    /// For running requests to finish on stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            known: 20_000,
            strangers: 1_024,
            handshake: Duration::from_secs(10),
            // As kube-apiserver: what clients keep open for the next request they close earlier.
            idle: Duration::from_secs(90),
            stranger_idle: Duration::from_secs(15),
            // TCP alone gives up after a quarter of an hour, and never while there is nothing to send. Less than
            // this would also cut off people whose pager has stopped reading a log for a moment.
            lost: Duration::from_secs(120),
            unread: Duration::from_secs(30),
            header_bytes: 64 * 1024,
            // client-go multiplexes all its watches over one connection.
            streams: 1_000,
            stranger_streams: 16,
            flows: Bounds::default(),
            held_bytes: ALL_CONNECTIONS_BYTES_MAX,
            drain: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The most that so many open files allow, of which the hub's own get a part.
    #[must_use]
    pub fn within(self, files: usize) -> Self {
        // The store, modules on their way in and out, the link, a compiler's pipes.
        let slots = files.saturating_sub(256.min(files / 2)).max(8);
        let strangers = self.strangers.min(slots / 4);
        Self { strangers, known: self.known.min(slots - strangers), ..self }
    }
}

/// For an idle client to take leave.
const IDLE_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until `stop`.
///
/// # Errors
/// When the listener itself fails for good.
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    limits: Limits,
    server: Server,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let all = Arc::new(TotalMemory::of(limits.held_bytes));
    let flows = Flows::new(&limits.flows, limits.unread, &server.metrics)?;
    let hub = Arc::new(Hub::new(server, flows, all.clone()));
    let slots = ConnectionSlots::new(limits.known, limits.strangers, all);
    let limits = Arc::new(limits);
    let mut connections = JoinSet::new();
    let mut keepers = keepers(&hub, &slots);
    if let Ok(address) = listener.local_addr() {
        info!(%address, known = limits.known, strangers = limits.strangers, "API server listens");
    }
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, place) = tokio::select! {
            () = stop.cancelled() => break,
            // None of them ends by itself.
            Some(_) = keepers.join_next() => {
                return Err(std::io::Error::other("what all connections need has ended"));
            }
            accepted = accept(&listener, &slots) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let slot = place.slot.clone();
        let connection = Connection { tls: tls.clone(), limits: limits.clone(), hub: hub.clone() };
        slot.served_by(connections.spawn(connection.run(stream, place)));
    }
    drop(listener);
    hub.stop.begin();
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// What goes on beside the connections, each in a task of its own: what one of them has to do keeps nobody out.
fn keepers(hub: &Arc<Hub>, slots: &Arc<ConnectionSlots>) -> JoinSet<()> {
    let mut keepers = JoinSet::new();
    let tenants = hub.clone();
    keepers.spawn(async move { tenants.tenants.follow(&**tenants.server.objects.store()).await });
    let agents = hub.clone();
    keepers.spawn(async move { agents.agents.follow(&**agents.server.objects.store()).await });
    let flows = hub.clone();
    keepers.spawn(async move { flows.flows.follow(&**flows.server.objects.store()).await });
    let rights = hub.server.access.rights.clone();
    keepers.spawn(async move { rights.follow().await });
    let large_answers = hub.flows.large_answers.clone();
    keepers.spawn(async move { large_answers.cut_off_the_late().await });
    let slots = slots.clone();
    keepers.spawn(async move { slots.cut_off_the_greedy().await });
    keepers
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<ConnectionSlots>,
) -> Option<(TcpStream, ConnectionPermit)> {
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, slots.take(peer.ip()).await)),
        Err(error) => {
            // Out of descriptors, or a peer that left at once: the next accept may do better.
            warn!(%error, "cannot accept a connection");
            slots.make_room();
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

struct Connection {
    tls: Tls,
    limits: Arc<Limits>,
    hub: Arc<Hub>,
}

impl Connection {
    async fn run(self, stream: TcpStream, place: ConnectionPermit) {
        let peer = stream.peer_addr().ok();
        let from = peer.map(|peer| peer.ip());
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let _ = stream.set_nodelay(true);
        if let Err(error) = notice_loss(&stream, self.limits.lost) {
            return debug!(peer, %error, "nobody would notice when it is gone");
        }
        let acceptor = TlsAcceptor::from(self.tls.config.clone());
        let socket = Socket::new(stream, place.slot.clone());
        let stream = match timeout(self.limits.handshake, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(peer, %error, "TLS handshake failed"),
            Err(_) => return debug!(peer, "TLS handshake took too long"),
        };
        let tls = stream.get_ref().1;
        let proven = Proven::of(&self.tls, tls.peer_certificates());
        let is_http2 = tls.alpn_protocol() == Some(b"h2");
        let known = proven.is_some();
        if let Some(user) = proven.as_ref().map(Proven::user) {
            place.known(Sharer::from(&**user));
        }
        let name = proven.as_ref().map_or("a stranger", |proven| &proven.user().name);
        place.slot.taken_by(format!("{name} at {peer}"));
        let (place, hub) = (Arc::new(place), self.hub.clone());
        let at = place.clone();
        let service = service_fn(move |request| {
            let (hub, proven, place) = (hub.clone(), proven.clone(), at.clone());
            async move { Ok::<_, Infallible>(edge::answer(hub, proven, (place, from), request).await) }
        });
        let outcome = if is_http2 {
            let stream = TokioIo::new(stream);
            let connection = self.http2(known, &place.slot).serve_connection(stream, service);
            let end = http2::Connection::graceful_shutdown;
            attend(&self.limits, self.hub.stop.begun(), &place.slot, connection, end).await
        } else {
            let stream = TokioIo::new(heads(stream, place.slot.clone()));
            let connection = self.http1(known).serve_connection(stream, service).with_upgrades();
            let end = http1::UpgradeableConnection::graceful_shutdown;
            attend(&self.limits, self.hub.stop.begun(), &place.slot, connection, end).await
        };
        match outcome {
            Ok(()) => place.slot.upgrade.run().await,
            Err(error) => debug!(peer, %error, "connection ended early"),
        }
    }

    fn http1(&self, known: bool) -> http1::Builder {
        let limits = &self.limits;
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(if known { limits.idle } else { limits.stranger_idle })
            .max_header_size(limits.header_bytes as usize)
            .max_buf_size(limits.header_bytes as usize);
        builder
    }

    fn http2(&self, known: bool, slot: &ConnectionSlot) -> http2::Builder<Streams> {
        let limits = &self.limits;
        let windows = if known { OF_THE_KNOWN } else { OF_STRANGERS };
        slot.window.opens(windows);
        let mut builder = http2::Builder::new(Streams);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(if known { limits.streams } else { limits.stranger_streams })
            .max_header_list_size(limits.header_bytes)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .adaptive_window(false)
            .initial_stream_window_size(windows.body)
            .initial_connection_window_size(windows.connection);
        builder
    }
}

/// Stays with a connection until it ends, the hub stops, or nobody has asked anything for long.
async fn attend<C>(
    limits: &Limits,
    mut stop: Begun,
    slot: &ConnectionSlot,
    connection: C,
    mut ask_to_end: impl FnMut(Pin<&mut C>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut unread = pin!(slot.backlog.not_taken_for(limits.unread, limits.lost));
    let idle = {
        let idle = slot.idle_for(limits.idle, limits.stranger_idle);
        let ends = pin!(async {
            tokio::select! {
                biased;
                () = &mut stop => Some(false),
                () = &mut unread => None,
                () = idle => Some(true),
            }
        });
        tokio::select! {
            biased;
            outcome = connection.as_mut() => return outcome,
            // The connection is woken for all that is sent, and none of these is ready before the end.
            ends = SeldomReady::new(ends) => ends,
        }
    };
    let Some(idle) = idle else { return not_read() };
    ask_to_end(connection.as_mut());
    if idle {
        let farewell = async {
            sleep(IDLE_CLOSE_TIMEOUT).await;
            // Whatever was asked before the client has heard of the end is answered.
            slot.idle_for(IDLE_CLOSE_TIMEOUT, IDLE_CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            outcome = connection.as_mut() => return outcome,
            () = &mut stop => {}
            () = &mut unread => return not_read(),
            () = farewell => return Ok(()),
        }
    }
    timeout(limits.drain, connection).await.unwrap_or(Ok(()))
}

fn not_read() -> hyper::Result<()> {
    debug!("a client takes nothing of its answers; the connection is closed");
    Ok(())
}

/// Has TCP find out when the client's machine is gone.
fn notice_loss(stream: &TcpStream, lost: Duration) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    let pause = (lost / 4).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(pause).with_interval(pause))?;
    // For what is sent and for probes alike: it stands in for their number.
    socket.set_tcp_user_timeout(Some(lost))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_with_the_farewell_is_served() {
        let slots = ConnectionSlots::new(1, 1, Arc::default());
        let place = slots.take([127, 0, 0, 1].into()).await;
        let slot = place.slot.clone();
        let stop = Arc::new(Shutdown::default());
        let (asked, comes) = tokio::sync::oneshot::channel::<()>();
        let connection = Box::pin(async move {
            // The client asks something just when it is asked to leave, and reads for a while.
            let _ = comes.await;
            let busy = slot.busy();
            sleep(Duration::from_secs(30)).await;
            drop(busy);
            std::future::pending().await
        });
        let mut asked = Some(asked);
        let start = tokio::time::Instant::now();
        let limits = Limits::default();
        let ask = |_: Pin<&mut _>| {
            if let Some(asked) = asked.take() {
                asked.send(()).unwrap();
            }
        };
        attend(&limits, stop.begun(), &place.slot, connection, ask).await.unwrap();
        let idle = limits.stranger_idle.as_secs();
        assert_eq!(start.elapsed().as_secs(), idle + 30 + IDLE_CLOSE_TIMEOUT.as_secs());
    }

    #[test]
    fn places_leave_files_for_the_hub_and_most_of_them_to_the_known() {
        let slots = |files| {
            let limits = Limits::default().within(files);
            (limits.known, limits.strangers)
        };
        assert_eq!(slots(256), (96, 32));
        assert_eq!(slots(1024), (576, 192));
        assert_eq!(slots(1 << 20), (20_000, 1_024));
    }
}

//! The listener: TLS, HTTP/1.1 and HTTP/2, with a bound on everything a client can make grow.
//!
//! Guarantees: a client that is slow to shake hands, to say something or to send its headers is cut off,
//! and so is one that asks nothing for long; a watch is not. There are never more than
//! [`Limits::known`] and [`Limits::strangers`] connections, and strangers never take a place of the
//! known; on stop, watches end, running requests get [`Limits::drain`] to finish, and `serve` returns
//! when no connection is left.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_store::objects::Objects;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use freewheel_hub_api::streams::SpokeStreams;

use crate::authn::{self, User};
use crate::body::Body;
use crate::edge;
use crate::health::Check;
use crate::heavy::Heavy;
use crate::places::{Place, Places};
use crate::received::Received;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::tls::Tls;
use crate::watch::Frames;

/// A handler for `/v2/…`, the image registry's paths. It gets the caller, when the certificate names
/// one, and decides itself what strangers may do; to whom it lets in by a login, it says so with
/// [`LoggedIn`](crate::LoggedIn) among the answer's extensions.
pub type Extra = Arc<
    dyn Fn(Option<User>, Request<Received>) -> BoxFuture<'static, Response<Body>> + Send + Sync,
>;

/// What the API serves.
#[derive(Clone)]
pub struct Server {
    /// The commit pipeline, and the store beneath it.
    pub objects: Objects,
    /// The way to pods.
    pub streams: Arc<dyn SpokeStreams>,
    /// Serves `/v2/…`.
    pub extra: Option<Extra>,
    /// What `/readyz` asks beside itself.
    pub checks: Vec<Check>,
}

/// Bounds of the listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of those whom we know, at a time.
    pub known: usize,
    /// Connections of all others; more wait in the kernel's backlog until the oldest has to go.
    pub strangers: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// How long a connection may ask nothing. Watches and logs that are followed ask all the time.
    pub idle: Duration,
    /// The same for a stranger, who is also to have sent the headers of a request by then.
    pub stranger_idle: Duration,
    /// Bytes of headers of one request.
    pub header_bytes: u32,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// The same for a stranger.
    pub stranger_streams: u32,
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
            header_bytes: 64 * 1024,
            // client-go multiplexes all its watches over one connection.
            streams: 1_000,
            stranger_streams: 16,
            drain: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The most that so many open files allow, of which the hub's own get a part.
    #[must_use]
    pub fn within(self, files: usize) -> Self {
        // The store, modules on their way in and out, the link, a compiler's pipes.
        let places = files.saturating_sub(256.min(files / 2)).max(8);
        let strangers = self.strangers.min(places / 4);
        Self { strangers, known: self.known.min(places - strangers), ..self }
    }
}

/// What strangers may make us hold of a body on one HTTP/2 connection: it is never read.
const STRANGER_WINDOW: u32 = 64 * 1024;
/// For an idle client to take leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// What every request shares.
pub(crate) struct Hub {
    pub(crate) server: Server,
    pub(crate) frames: Frames,
    pub(crate) stop: Arc<Stop>,
    pub(crate) heavy: Heavy,
}

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
    let hub = Arc::new(Hub {
        server,
        frames: Frames::default(),
        stop: Arc::default(),
        heavy: Heavy::default(),
    });
    let places = Places::new(limits.known, limits.strangers);
    let limits = Arc::new(limits);
    let mut connections = JoinSet::new();
    if let Ok(address) = listener.local_addr() {
        info!(%address, known = limits.known, strangers = limits.strangers, "API server listens");
    }
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let seat = place.seat.clone();
        let connection = Connection { tls: tls.clone(), limits: limits.clone(), hub: hub.clone() };
        seat.served_by(connections.spawn(connection.run(stream, place)));
    }
    drop(listener);
    hub.stop.begin();
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn accept(listener: &TcpListener, places: &Arc<Places>) -> Option<(TcpStream, Place)> {
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, places.take().await)),
        Err(error) => {
            // Out of descriptors, or a peer that left at once: the next accept may do better.
            warn!(%error, "cannot accept a connection");
            places.make_room();
            tokio::time::sleep(Duration::from_millis(50)).await;
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
    async fn run(self, stream: TcpStream, place: Place) {
        let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(self.tls.config.clone());
        let socket = Socket::new(stream, place.seat.clone());
        let stream = match timeout(self.limits.handshake, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(peer, %error, "TLS handshake failed"),
            Err(_) => return debug!(peer, "TLS handshake took too long"),
        };
        let tls = stream.get_ref().1;
        let user = authn::identify(&self.tls, tls.peer_certificates()).map(Arc::new);
        let is_http2 = tls.alpn_protocol() == Some(b"h2");
        let known = user.is_some();
        if known {
            place.known();
        }
        let (place, hub) = (Arc::new(place), self.hub.clone());
        let at = place.clone();
        let service = service_fn(move |request| {
            let (hub, user, place) = (hub.clone(), user.clone(), at.clone());
            async move { Ok::<_, Infallible>(edge::answer(hub, user, place, request).await) }
        });
        let stream = TokioIo::new(stream);
        let outcome = if is_http2 {
            let connection = self.http2(known).serve_connection(stream, service);
            self.attend(&place, connection, http2::Connection::graceful_shutdown).await
        } else {
            let connection = self.http1(known).serve_connection(stream, service);
            self.attend(&place, connection, http1::Connection::graceful_shutdown).await
        };
        if let Err(error) = outcome {
            debug!(peer, %error, "connection ended early");
        }
    }

    /// Stays with a connection until it ends, the hub stops, or nobody has asked anything for long.
    async fn attend<C>(
        &self,
        place: &Place,
        connection: C,
        ask_to_end: fn(Pin<&mut C>),
    ) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let (limits, stop) = (&self.limits, self.hub.stop.begun());
        let mut connection = pin!(connection);
        let patience = tokio::select! {
            biased;
            outcome = connection.as_mut() => return outcome,
            () = stop => limits.drain,
            () = place.seat.idle_for(limits.idle, limits.stranger_idle) => FAREWELL,
        };
        ask_to_end(connection.as_mut());
        timeout(patience, connection).await.unwrap_or(Ok(()))
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

    fn http2(&self, known: bool) -> http2::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(if known { limits.streams } else { limits.stranger_streams })
            .max_header_list_size(limits.header_bytes)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .adaptive_window(false);
        if !known {
            builder
                .initial_stream_window_size(STRANGER_WINDOW)
                .initial_connection_window_size(STRANGER_WINDOW);
        }
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_leave_files_for_the_hub_and_most_of_them_to_the_known() {
        let places = |files| {
            let limits = Limits::default().within(files);
            (limits.known, limits.strangers)
        };
        assert_eq!(places(256), (96, 32));
        assert_eq!(places(1024), (576, 192));
        assert_eq!(places(1 << 20), (20_000, 1_024));
    }
}

//! The listener: TLS, HTTP/1.1 and HTTP/2, with a bound on everything a client can make grow.
//!
//! Guarantees: a client that is slow to shake hands or to send its headers is cut off; there are never
//! more than [`Limits::connections`] connections; on stop, watches end, running requests get
//! [`Limits::drain`] to finish, and `serve` returns when no connection is left.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_store::objects::Objects;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use freewheel_hub_api::streams::SpokeStreams;

use crate::authn::{self, User};
use crate::body::Body;
use crate::dispatch;
use crate::health::Check;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::tls::Tls;
use crate::watch::Frames;

/// A handler for `/v2/…`, the image registry's paths. It gets the caller, when the certificate names
/// one, and decides itself what strangers may do.
pub type Extra = Arc<
    dyn Fn(Option<User>, Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync,
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
    /// Connections at a time; more wait in the kernel's backlog.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the headers of an HTTP/1.1 request; also bounds an idle connection.
    pub headers: Duration,
    /// Bytes of headers of one request.
    pub header_bytes: u32,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// For running requests to finish on stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(60),
            header_bytes: 64 * 1024,
            // client-go multiplexes all its watches over one connection.
            streams: 1_000,
            drain: Duration::from_secs(10),
        }
    }
}

/// What every request shares.
pub(crate) struct Hub {
    pub(crate) server: Server,
    pub(crate) frames: Frames,
    pub(crate) stop: Arc<Stop>,
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
    let hub = Arc::new(Hub { server, frames: Frames::default(), stop: Arc::default() });
    let slots = Arc::new(Semaphore::new(limits.connections));
    let limits = Arc::new(limits);
    let mut connections = JoinSet::new();
    if let Ok(address) = listener.local_addr() {
        info!(%address, "API server listens");
    }
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, slot) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let connection = Connection { tls: tls.clone(), limits: limits.clone(), hub: hub.clone() };
        connections.spawn(connection.run(stream, slot));
    }
    drop(listener);
    hub.stop.begin();
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            // Out of descriptors, or a peer that left at once: the next accept may do better.
            warn!(%error, "cannot accept a connection");
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
    async fn run(self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let _slot = slot;
        let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(self.tls.config.clone());
        let stream = match timeout(self.limits.handshake, acceptor.accept(Socket(stream))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(peer, %error, "TLS handshake failed"),
            Err(_) => return debug!(peer, "TLS handshake took too long"),
        };
        let user = authn::identify(&self.tls, stream.get_ref().1.peer_certificates()).map(Arc::new);
        let stop = self.hub.stop.begun();
        let hub = self.hub.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (hub, user) = (hub.clone(), user.clone());
            async move { Ok::<_, Infallible>(dispatch::handle(hub, user, request).await) }
        });
        let builder = self.builder();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            biased;
            outcome = connection.as_mut() => outcome,
            () = stop => {
                connection.as_mut().graceful_shutdown();
                timeout(self.limits.drain, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = outcome {
            debug!(peer, %error, "connection ended early");
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_buf_size(limits.header_bytes as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .adaptive_window(false);
        builder
    }
}

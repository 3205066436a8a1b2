//! The pod's port: connections, requests, and a stop that loses none of them.
//!
//! ```text
//! serving ──stop──▶ lingering: still accepts, asks clients to leave ──quiet or half the grace──▶ draining ──▶ end
//! ```
//!
//! The linger is for clients on other nodes that have not heard yet that the pod is going.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use freewheel_spoke_net::{Conn, Listener};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::pool::{Failure, Pool};

/// The port of an HTTP container that declares none.
pub(crate) const DEFAULT_PORT: u16 = 8080;

/// A port without a new request for so long is quiet.
const QUIET: Duration = Duration::from_millis(500);

/// Longest linger, if the grace period is long.
const LINGER: Duration = Duration::from_secs(5);

/// Largest head of a request.
const MAX_HEAD: usize = 64 << 10;

struct Server {
    pool: Arc<Pool>,
    requests: AtomicU64,
    stopping: CancellationToken,
    draining: CancellationToken,
}

/// Serves until it was asked to stop and every request that came is answered.
pub(crate) async fn serve(pool: Arc<Pool>, listener: Arc<Listener>, stopping: CancellationToken) {
    let draining = CancellationToken::new();
    let server = Arc::new(Server { pool, requests: AtomicU64::new(0), stopping, draining });
    let mut connections = JoinSet::new();
    let linger = linger(&server);
    tokio::pin!(linger);
    let mut lingering = true;
    loop {
        tokio::select! {
            conn = listener.accept() => match conn {
                Ok(conn) => drop(connections.spawn(connection(server.clone(), conn))),
                Err(freewheel_spoke_net::Closed) => break,
            },
            Some(_) = connections.join_next() => {}
            () = &mut linger, if lingering => {
                lingering = false;
                listener.close();
            }
        }
    }
    server.draining.cancel();
    while connections.join_next().await.is_some() {}
}

/// Waits for the stop, and then until clients have found other pods.
async fn linger(server: &Server) {
    server.stopping.cancelled().await;
    let quiet = async {
        let mut before = server.requests.load(Relaxed);
        loop {
            tokio::time::sleep(QUIET).await;
            let now = server.requests.load(Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    };
    let _ = tokio::time::timeout(LINGER, quiet).await;
}

async fn connection(server: Arc<Server>, conn: Conn) {
    let service = service_fn(|request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(answer(&server, request).await) }
    });
    let io = TokioIo::new(conn.into_io());
    let connection = http1::Builder::new()
        .pipeline_flush(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = server.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "connection to an HTTP pod broke");
    }
}

async fn answer(server: &Server, request: Request<Incoming>) -> Response<HyperOutgoingBody> {
    server.requests.fetch_add(1, Relaxed);
    let named = request.uri().authority().is_some() || request.headers().contains_key(header::HOST);
    let mut response = if named {
        server.pool.handle(request).await.unwrap_or_else(|failure| failed(&failure))
    } else {
        text(StatusCode::BAD_REQUEST, "a request needs a Host")
    };
    if server.stopping.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn failed(failure: &Failure) -> Response<HyperOutgoingBody> {
    let status = match failure {
        Failure::Busy | Failure::Memory(_) | Failure::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Trap(_) | Failure::Silent | Failure::Code(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, &format!("freewheel: {failure}"))
}

fn text(status: StatusCode, text: &str) -> Response<HyperOutgoingBody> {
    let body = Full::new(Bytes::from(format!("{text}\n")));
    let mut response =
        Response::new(body.map_err(|never: Infallible| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

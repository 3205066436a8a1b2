//! The pod's port: connections, and a stop that loses none of them.
//!
//! ```text
//! serving ──stop──▶ lingering: still accepts, asks clients to leave ──quiet or half the grace──▶ draining ──▶ end
//! ```
//!
//! The linger is for clients on other nodes that have not heard yet that the pod is going.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use freewheel_spoke_net::{Conn, Listener};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::connection;
use super::connection_slots::ConnectionSlots;
use super::pool::Pool;
use super::request_heads::RequestHeads;
use super::server::Server;

/// The port of an HTTP container that declares none.
pub(crate) const DEFAULT_PORT: u16 = 8080;

/// A port without a new request for so long is quiet.
const QUIET_PORT_AFTER: Duration = Duration::from_millis(500);

/// Longest linger, if the grace period is long.
const STOP_LINGER_MAX: Duration = Duration::from_secs(5);

/// How often somebody looks at what has lasted too long, while there are connections.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Serves until it was asked to stop and every request that came is answered.
pub(crate) async fn serve(pool: Arc<Pool>, listener: Arc<Listener>, stopping: CancellationToken) {
    let slots = ConnectionSlots::new(pool.timeout_seconds(), pool.sockets());
    let (heads, draining) = (RequestHeads::new(pool.memory()), CancellationToken::new());
    let requests = AtomicU64::new(0);
    let server = Arc::new(Server { pool, slots, heads, requests, stopping, draining });
    let mut connections = JoinSet::new();
    let mut tick = interval(CHECK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let linger = linger(&server);
    tokio::pin!(linger);
    let mut lingering = true;
    loop {
        tokio::select! {
            conn = listener.accept() => match conn {
                Ok(conn) => take(&server, conn, &mut connections),
                Err(freewheel_spoke_net::Closed) => break,
            },
            Some(_) = connections.join_next() => {}
            _ = tick.tick(), if !server.slots.is_empty() => sweep(&server),
            () = &mut linger, if lingering => {
                lingering = false;
                listener.close();
            }
        }
    }
    server.draining.cancel();
    loop {
        tokio::select! {
            left = connections.join_next() => if left.is_none() { return },
            _ = tick.tick() => sweep(&server),
        }
    }
}

fn take(server: &Arc<Server>, conn: Conn, connections: &mut JoinSet<()>) {
    make_room(server);
    match server.slots.take() {
        Some(slot) => drop(connections.spawn(connection::serve(server.clone(), conn, slot))),
        // All places are taken by requests that are being served.
        None => conn.reset(),
    }
}

/// Ends what has lasted too long.
fn sweep(server: &Server) {
    let now = server.slots.tick();
    server.pool.tick(now);
    // Where all had just come nobody went, and a full pod lets no other in that would ask.
    make_room(server);
}

fn make_room(server: &Server) {
    server.slots.make_room(|| server.pool.sockets_left());
}

/// Waits for the stop, and then until clients have found other pods.
async fn linger(server: &Server) {
    server.stopping.cancelled().await;
    let quiet = async {
        let mut before = server.requests.load(Relaxed);
        loop {
            tokio::time::sleep(QUIET_PORT_AFTER).await;
            let now = server.requests.load(Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    };
    let _ = tokio::time::timeout(STOP_LINGER_MAX, quiet).await;
}

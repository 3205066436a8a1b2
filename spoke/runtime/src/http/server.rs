//! What the connections of an HTTP container's port share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio_util::sync::CancellationToken;

use super::heads::Heads;
use super::pool::Pool;
use super::seats::Seats;

/// Largest head of a request, and about as much of an answer waits in hyper.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// What the connections of a port share.
pub(super) struct Server {
    pub(super) pool: Arc<Pool>,
    pub(super) seats: Seats,
    pub(super) heads: Arc<Heads>,
    pub(super) requests: AtomicU64,
    pub(super) stopping: CancellationToken,
    pub(super) draining: CancellationToken,
}

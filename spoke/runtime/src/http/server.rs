//! What the connections of an HTTP container's port share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio_util::sync::CancellationToken;

use super::connection_slots::ConnectionSlots;
use super::pool::Pool;
use super::request_heads::RequestHeads;

/// What the connections of a port share.
pub(super) struct Server {
    pub(super) pool: Arc<Pool>,
    pub(super) slots: ConnectionSlots,
    pub(super) heads: Arc<RequestHeads>,
    pub(super) requests: AtomicU64,
    pub(super) stopping: CancellationToken,
    pub(super) draining: CancellationToken,
}

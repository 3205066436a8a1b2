//! Bytes that all connections together make the hub hold, and those that several of them hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes that all connections may make the hub hold together.
pub(crate) const ALL_CONNECTIONS_BYTES_MAX: usize = 256 << 20;

/// What all connections hold.
pub(crate) struct TotalMemory {
    held: AtomicUsize,
    most: usize,
    /// Somebody has found no room.
    short: AtomicBool,
    call: Notify,
}

/// Bytes that many connections may hold; they count once.
pub(crate) struct Shared {
    all: Arc<TotalMemory>,
    bytes: usize,
    /// So many pieces of connections they are.
    pieces: AtomicUsize,
}

impl Default for TotalMemory {
    fn default() -> Self {
        Self::of(ALL_CONNECTIONS_BYTES_MAX)
    }
}

impl TotalMemory {
    pub(crate) fn of(most: usize) -> Self {
        let (held, short) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { held, most, short, call: Notify::new() }
    }

    /// So many bytes that many connections are going to hold.
    pub(crate) fn share(self: &Arc<Self>, bytes: usize) -> Arc<Shared> {
        self.add(bytes);
        Arc::new(Shared { all: self.clone(), bytes, pieces: AtomicUsize::new(0) })
    }

    /// So many bytes more.
    pub(super) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::SeqCst);
    }

    /// So many less.
    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Whether so many bytes more are too many; whoever can change that is called.
    pub(super) fn lacks(&self, bytes: usize) -> bool {
        if self.held.load(Ordering::SeqCst).saturating_add(bytes) <= self.most {
            return false;
        }
        self.short.store(true, Ordering::SeqCst);
        self.call.notify_one();
        true
    }

    /// Ready when somebody finds no room.
    pub(crate) async fn short(&self) {
        self.call.notified().await;
    }

    /// Whether somebody has found no room since this was asked last.
    pub(crate) fn was_short(&self) -> bool {
        self.short.swap(false, Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// How much there is more than an eighth below the bound.
    pub(crate) fn excess(&self) -> usize {
        self.held.load(Ordering::SeqCst).saturating_sub(self.most - self.most / 8)
    }
}

impl Shared {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One piece more.
    pub(super) fn add_piece(&self) {
        self.pieces.fetch_add(1, Ordering::SeqCst);
    }

    /// One less.
    pub(super) fn forget_piece(&self) {
        self.pieces.fetch_sub(1, Ordering::SeqCst);
    }

    /// What of it each of its pieces counts as.
    pub(super) fn part(&self) -> usize {
        self.bytes / self.pieces.load(Ordering::SeqCst).max(1)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.all.give_back(self.bytes);
    }
}

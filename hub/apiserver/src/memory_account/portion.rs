//! What bytes of an account are for that nobody can take: they are told from answers when somebody has to go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes of one purpose, until this is dropped.
pub(crate) struct Portion {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Portion {
    pub(super) fn of(all: &Arc<AtomicUsize>, bytes: usize) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { all: all.clone(), bytes }
    }

    /// So many more.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }

    /// So many less.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let less = bytes.min(self.bytes);
        self.all.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

//! How a running container is told to stop.
//!
//! ```text
//! running ──stop──▶ stopping: its listeners are closed ──ends──▶ gone
//!    │                     └──grace is over──▶ killed
//!    └──stop, but nothing in it could hear──▶ ended at once, as SIGTERM ends a process that ignores nothing
//! ```

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use freewheel_spoke_net::Listener;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Why a container was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was asked to stop and could not hear it.
    Term,
    /// It did not stop in time.
    Kill,
}

/// A container's end, from outside.
#[derive(Default)]
pub(crate) struct Life {
    stopping: CancellationToken,
    kill: CancellationToken,
    cause: Mutex<Option<Cause>>,
    listeners: Mutex<Vec<Weak<Listener>>>,
    /// Something in it waits for its stop, or was told of it.
    hears: AtomicBool,
    deadline: Mutex<Option<Instant>>,
}

impl Life {
    /// Cancelled when the container is to stop.
    pub(crate) const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when the container is to be gone.
    pub(crate) const fn killed(&self) -> &CancellationToken {
        &self.kill
    }

    /// Why it was killed, if it was.
    pub(crate) fn cause(&self) -> Option<Cause> {
        *self.cause.lock()
    }

    /// The container listens: closing the port tells it to stop.
    pub(crate) fn listens(&self, listener: &Arc<Listener>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|known| 0 < known.strong_count());
        listeners.push(Arc::downgrade(listener));
        if self.stopping.is_cancelled() {
            listener.close();
        }
    }

    /// The container waits for its stop in another way.
    pub(crate) fn hears(&self) {
        self.hears.store(true, SeqCst);
    }

    /// What is left of the grace period, once it was asked to stop.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.deadline.lock().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks it to stop within `grace`; once more: at the latest then. Whether anything in it can hear that, or has.
    pub(crate) fn stop(&self, grace: Duration) -> bool {
        let until = Instant::now().checked_add(grace);
        {
            let mut deadline = self.deadline.lock();
            *deadline = [*deadline, until].into_iter().flatten().min();
        }
        self.stopping.cancel();
        let listeners = std::mem::take(&mut *self.listeners.lock());
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.close();
            self.hears.store(true, SeqCst);
        }
        self.hears.load(SeqCst)
    }

    /// Ends it. The first cause stands.
    pub(crate) fn kill(&self, cause: Cause) {
        self.cause.lock().get_or_insert(cause);
        self.kill.cancel();
    }
}

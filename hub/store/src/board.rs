//! What readers see: the newest durable state and the ring of how it came to be.
//!
//! Guarantees: a state and its events appear together; an older revision within the ring is exact,
//! rebuilt by undoing what came after it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::bell::Bell;
use crate::ring::{Calls, Limits, Reading, Ring, Stand};
use crate::state::State;
use crate::{Compacted, Event, Revision, Scope, Watch};

/// How many rebuilt states are kept: as many lists can be read page by page at the same time
/// without rebuilding.
const REBUILT: usize = 8;

pub(crate) struct Board {
    state: ArcSwap<State>,
    ring: RwLock<Ring>,
    rebuilt: Mutex<VecDeque<Arc<State>>>,
}

impl Board {
    pub(crate) fn new(state: State, limits: Limits) -> Arc<Self> {
        let ring = Ring::new(state.revision, limits);
        Arc::new(Self {
            state: ArcSwap::from_pointee(state),
            ring: RwLock::new(ring),
            rebuilt: Mutex::default(),
        })
    }

    /// The newest published state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Makes a state and the events that led to it visible at once; the watchers are still to be
    /// called.
    pub(crate) fn publish(&self, state: State, events: &[Event]) -> Calls {
        let revision = state.revision;
        let mut ring = self.ring.write();
        self.state.store(Arc::new(state));
        ring.publish(revision, events)
    }

    /// The state at a revision that the ring still reaches.
    pub(crate) fn state_at(&self, revision: Revision) -> Result<Arc<State>, Compacted> {
        let newest = self.state();
        if newest.revision == revision {
            return Ok(newest);
        }
        if let Some(known) = self.rebuilt.lock().iter().find(|state| state.revision == revision) {
            return Ok(Arc::clone(known));
        }
        let (newest, events) = {
            let ring = self.ring.read();
            (self.state(), ring.undo(revision)?)
        };
        let mut state = State::clone(&newest);
        for event in events {
            match (event.before, event.now) {
                (Some(before), _) => drop(state.insert(before)),
                (None, Some(now)) => drop(state.remove(&now.key)),
                (None, None) => {}
            }
        }
        state.revision = revision;
        let state = Arc::new(state);
        let mut rebuilt = self.rebuilt.lock();
        rebuilt.push_back(Arc::clone(&state));
        if REBUILT < rebuilt.len() {
            rebuilt.pop_front();
        }
        Ok(state)
    }

    /// Events after `after`; no scopes: of everything.
    pub(crate) fn watch(
        self: &Arc<Self>,
        scopes: Vec<Scope>,
        after: Revision,
    ) -> Result<Box<dyn Watch>, Compacted> {
        let readings: Vec<Reading> = if scopes.is_empty() {
            vec![Reading::ALL]
        } else {
            scopes.into_iter().map(Reading::from).collect()
        };
        let bell = Arc::new(Bell::default());
        let (number, stands) = self.ring.write().join(readings, after, &bell)?;
        let board = Arc::clone(self);
        let seen = AtomicU64::new(after);
        Ok(Box::new(Watcher { board, stands, number, bell, seen, caught_up: false }))
    }
}

/// A cursor into the ring: however slow its owner is, it costs the same.
struct Watcher {
    board: Arc<Board>,
    stands: Vec<Stand>,
    number: u64,
    bell: Arc<Bell>,
    seen: AtomicU64,
    /// It has read everything that was published. Whatever is published after that rings the bell.
    caught_up: bool,
}

impl Watch for Watcher {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Event>, Compacted>> {
        loop {
            if self.caught_up && !self.bell.heard(cx) {
                return Poll::Pending;
            }
            self.caught_up = false;
            let seen = *self.seen.get_mut();
            let read = {
                let ring = self.board.ring.read();
                let read = ring.read(&self.stands, seen)?;
                self.caught_up = ring.published() <= read.upto;
                read
            };
            *self.seen.get_mut() = read.upto;
            if !read.events.is_empty() {
                return Poll::Ready(Ok(read.events));
            }
        }
    }

    fn progress(&self) -> Revision {
        let seen = self.seen.load(Ordering::Relaxed);
        let ring = self.board.ring.read();
        if ring.waits(&self.stands, seen) {
            return seen;
        }
        let now = seen.max(ring.published());
        self.seen.store(now, Ordering::Relaxed);
        now
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.board.ring.write().leave(&self.stands, self.number);
    }
}

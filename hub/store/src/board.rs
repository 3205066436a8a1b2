//! What readers see: the newest durable state and the ring of how it came to be.
//!
//! Guarantees:
//! - a state and its events appear together (`what_a_watch_says_a_snapshot_shows`);
//! - an older revision that the history of a resource reaches is exact, rebuilt by undoing what came after it
//!   (`older_revisions_are_exact`, `a_rebuilt_state_goes_with_the_past_that_it_was_built_from`);
//! - whoever has seen one revision goes on from any later one, whether or not it was ours
//!   (`a_gap_between_revisions_is_no_loss`);
//! - whoever waits for a revision is called when it or a later one is there (`a_revision_ahead_is_waited_for`).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use freewheel_hub_schema::object::Resource;
use parking_lot::{Mutex, RwLock};

use crate::bell::Bell;
use crate::ring::{Calls, Limits, Ring, Stand};
use crate::state::State;
use crate::{Compacted, Event, Revision, Scope, Watch};

/// How many rebuilt states are kept: as many lists can be read page by page at the same time
/// without rebuilding.
const REBUILT: usize = 8;

pub(crate) struct Board {
    state: ArcSwap<State>,
    ring: RwLock<Ring>,
    /// As the ring's, to be looked at without its lock.
    published: AtomicU64,
    rebuilt: Mutex<VecDeque<(Resource, Arc<State>)>>,
}

impl Board {
    pub(crate) fn new(state: State, limits: Limits) -> Arc<Self> {
        let ring = Ring::new(state.revision, limits);
        let published = AtomicU64::new(state.revision);
        Arc::new(Self {
            state: ArcSwap::from_pointee(state),
            ring: RwLock::new(ring),
            published,
            rebuilt: Mutex::default(),
        })
    }

    /// The newest published state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// What is published next is beyond this revision, and nobody goes on from those in between.
    pub(crate) fn skip_to(&self, beyond: Revision) {
        self.ring.write().skip_to(beyond);
    }

    /// Makes a state and the events that led to it visible at once; the watchers are still to be
    /// called.
    pub(crate) fn publish(&self, state: State, events: &[Event]) -> Calls {
        let revision = state.revision;
        let mut ring = self.ring.write();
        self.state.store(Arc::new(state));
        let calls = ring.publish(revision, events);
        self.published.store(revision, Ordering::Release);
        self.forget_lost(&ring);
        calls
    }

    /// Gives back what of the past was there at the call before.
    pub(crate) fn rest(&self) {
        let mut ring = self.ring.write();
        ring.thin();
        self.forget_lost(&ring);
    }

    /// A state that was rebuilt holds every object of its time.
    fn forget_lost(&self, ring: &Ring) {
        let mut rebuilt = self.rebuilt.lock();
        rebuilt.retain(|(of, state)| ring.oldest(Some(of)) <= state.revision);
    }

    /// A resource at a revision that its history still reaches.
    pub(crate) fn state_at(
        &self,
        of: &Resource,
        revision: Revision,
    ) -> Result<Arc<State>, Compacted> {
        let newest = self.state();
        if newest.revision == revision {
            return Ok(newest);
        }
        let is_it =
            |(known, state): &&(Resource, Arc<State>)| known == of && state.revision == revision;
        if let Some((_, known)) = self.rebuilt.lock().iter().find(is_it) {
            return Ok(Arc::clone(known));
        }
        let (newest, events) = {
            let ring = self.ring.read();
            (self.state(), ring.undo(of, revision)?)
        };
        let mut state = newest.only(of);
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
        rebuilt.push_back((of.clone(), Arc::clone(&state)));
        if REBUILT < rebuilt.len() {
            rebuilt.pop_front();
        }
        Ok(state)
    }

    /// Events after `after`; no scopes: of all API objects.
    pub(crate) fn watch(
        self: &Arc<Self>,
        scopes: Vec<Scope>,
        after: Revision,
    ) -> Result<Box<dyn Watch>, Compacted> {
        let bell = Arc::new(Bell::default());
        let readings = scopes.into_iter().map(Into::into).collect();
        let (number, stands) = self.ring.write().join(readings, after, &bell)?;
        Ok(Box::new(Watcher { board: Arc::clone(self), stands, number, bell }))
    }

    /// The state at this revision or a later one, once there is one.
    pub(crate) async fn wait_for(self: &Arc<Self>, revision: Revision) -> Arc<State> {
        if self.published.load(Ordering::Acquire) < revision {
            let bell = Arc::new(Bell::default());
            let number = self.ring.write().join_everybody(&bell);
            // It leaves also when its caller has waited long enough.
            let waits = Watcher { board: Arc::clone(self), stands: Vec::new(), number, bell };
            poll_fn(|cx| waits.poll_for(revision, cx)).await;
        }
        self.state()
    }
}

/// A cursor into the ring: however slow its owner is, it costs the same.
struct Watcher {
    board: Arc<Board>,
    stands: Vec<Stand>,
    number: u64,
    /// It also says what was read.
    bell: Arc<Bell>,
}

impl Watcher {
    fn poll_for(&self, revision: Revision, cx: &Context<'_>) -> Poll<()> {
        loop {
            if revision <= self.board.published.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            if !self.bell.heard(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl Watch for Watcher {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Event>, Compacted>> {
        loop {
            let seen = self.bell.seen();
            // Who has read everything reads again when called. What is published is also found
            // before the call, which comes a moment later: whoever wrote it may be looking.
            let caught_up = self.board.published.load(Ordering::Acquire) <= seen;
            if caught_up && !self.bell.heard(cx) {
                return Poll::Pending;
            }
            let read = self.board.ring.read().read(&self.stands, seen)?;
            self.bell.saw(read.upto);
            if !read.events.is_empty() {
                return Poll::Ready(Ok(read.events));
            }
        }
    }

    fn progress(&self) -> Revision {
        let seen = self.bell.seen();
        let ring = self.board.ring.read();
        if ring.waits(&self.stands, seen) {
            return seen;
        }
        let now = seen.max(ring.published());
        self.bell.saw(now);
        now
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.board.ring.write().leave(&self.stands, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::Stored;
    use freewheel_hub_schema::object::{Key, Object};
    use freewheel_link::names::ClusterName;

    fn pods() -> Resource {
        Resource::new("", "pods")
    }

    #[test]
    fn a_rebuilt_state_goes_with_the_past_that_it_was_built_from() {
        let board = Board::new(State::default(), Limits { events: 3, bytes: 1 << 20 });
        let publish = |revision| {
            let mut state = State::default();
            state.revision = revision;
            let key = Key::new(&pods(), &ClusterName::root(), "d", "a");
            let object = Object { header: Default::default(), body: "{}".into() };
            let stored = Arc::new(Stored { key, object, revision, created: 1 });
            drop(board.publish(state, &[Event { revision, now: Some(stored), before: None }]));
        };
        publish(1);
        publish(2);
        let rebuilt = Arc::downgrade(&board.state_at(&pods(), 1).unwrap());
        publish(3);
        assert!(rebuilt.upgrade().is_some(), "a list may go on in it");
        publish(4);
        publish(5);
        assert!(rebuilt.upgrade().is_none());
    }

    #[test]
    fn a_gap_between_revisions_is_no_loss() {
        let board = Board::new(State::default(), Limits::default());
        for revision in [3, 10] {
            let mut state = State::default();
            state.revision = revision;
            let key = Key::new(&pods(), &ClusterName::root(), "d", "a");
            let object = Object { header: Default::default(), body: "{}".into() };
            let stored = Arc::new(Stored { key, object, revision, created: revision });
            drop(board.publish(state, &[Event { revision, now: Some(stored), before: None }]));
        }
        // Somebody else's transactions have the numbers in between.
        for between in 3..10 {
            assert!(board.watch(Vec::new(), between).is_ok(), "{between}");
        }
    }

    #[test]
    fn what_is_published_is_found_before_the_call() {
        let board = Board::new(State::default(), Limits::default());
        let mut watch = board.watch(Vec::new(), 0).unwrap();
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(watch.poll_next(&mut nobody).is_pending());
        let key = Key::new(&pods(), &ClusterName::root(), "default", "a");
        let body = serde_json::json!({"metadata": {"name": "a"}});
        let object = Object::from_value(body, std::collections::BTreeMap::new()).unwrap();
        let stored = Arc::new(Stored { key, object, revision: 1, created: 1 });
        let event = Event { revision: 1, now: Some(stored), before: None };
        let mut state = State::default();
        state.revision = 1;
        state.apply(&event);
        let calls = board.publish(state, &[event]);
        let found = watch.poll_next(&mut nobody);
        assert!(matches!(found, Poll::Ready(Ok(events)) if events.len() == 1));
        assert!(watch.poll_next(&mut nobody).is_pending());
        drop(calls);
        assert!(watch.poll_next(&mut nobody).is_pending(), "and not a second time");
    }
}

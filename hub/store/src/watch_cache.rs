//! What readers see: the newest durable state and the history of how it came to be.
//!
//! Guarantees:
//! - a state and its events appear together (`what_a_watch_says_a_snapshot_shows`);
//! - an older revision that the history of a scope reaches is exact, rebuilt by undoing what came after it
//!   (`older_revisions_are_exact`, `a_rebuilt_state_goes_with_the_past_that_it_was_built_from`);
//! - what was rebuilt for one cluster holds no other cluster's objects for longer than their own past does
//!   (`what_one_cluster_had_rebuilt_holds_no_other_s_past`);
//! - whoever has seen one revision goes on from any later one, whether or not it was ours
//!   (`a_gap_between_revisions_is_no_loss`);
//! - whoever waits for a revision is called when it or a later one is there (`a_revision_ahead_is_waited_for`).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::history::{Cursor, History, Limits, TopicKey, Wakeups};
use crate::store_state::StoreState;
use crate::waker::WatchWaker;
use crate::{Compacted, Event, Revision, Scope, Watch};

/// How many rebuilt states are kept: as many lists can be read page by page at the same time
/// without rebuilding.
const REBUILT_STATES_MAX: usize = 8;

/// Who holds the history may take `rebuilt`, as a publication does, which drops what its history has lost. Who holds
/// `rebuilt` must not ask for the history: a publication would wait for it, and it for the publication.
pub(crate) struct WatchCache {
    state: ArcSwap<StoreState>,
    history: RwLock<History>,
    /// As the history's, to be looked at without its lock.
    published: AtomicU64,
    rebuilt: Mutex<VecDeque<(TopicKey, Arc<StoreState>)>>,
}

impl WatchCache {
    pub(crate) fn new(state: StoreState, limits: Limits) -> Arc<Self> {
        let history = History::new(state.revision, limits);
        let published = AtomicU64::new(state.revision);
        Arc::new(Self {
            state: ArcSwap::from_pointee(state),
            history: RwLock::new(history),
            published,
            rebuilt: Mutex::default(),
        })
    }

    /// The newest published state.
    pub(crate) fn state(&self) -> Arc<StoreState> {
        self.state.load_full()
    }

    /// What is published next is beyond this revision, and nobody goes on from an earlier one.
    pub(crate) fn skip_to(&self, beyond: Revision) {
        self.history.write().skip_to(beyond);
    }

    /// What is published next is beyond this revision, and nobody has those between.
    pub(crate) fn leave_out(&self, beyond: Revision) {
        self.history.write().leave_out(beyond);
    }

    /// Those between.
    pub(crate) fn left_out(&self) -> Range<Revision> {
        self.history.read().left_out()
    }

    /// Makes a state and the events that led to it visible at once; the watchers are still to be
    /// called.
    pub(crate) fn publish(&self, state: StoreState, events: &[Event]) -> Wakeups {
        let revision = state.revision;
        let mut history = self.history.write();
        self.state.store(Arc::new(state));
        let wakeups = history.publish(revision, events);
        self.published.store(revision, Ordering::Release);
        self.forget_lost(&history);
        wakeups
    }

    /// Gives back what of the past was there at the call before.
    pub(crate) fn compact_idle(&self) {
        let mut history = self.history.write();
        history.trim();
        self.forget_lost(&history);
    }

    /// A state that was rebuilt holds every object of its resource and time, those of other clusters as well: it goes
    /// with the past of all of them, and a cluster whose own goes further back has it built again.
    fn forget_lost(&self, history: &History) {
        let mut rebuilt = self.rebuilt.lock();
        rebuilt.retain(|(of, state)| {
            let of_all = TopicKey::Resource(of.resource().clone());
            history.oldest_state(&of_all).max(history.oldest_state(of)) <= state.revision
        });
    }

    /// A scope at a revision that its history still reaches.
    pub(crate) fn state_at(
        &self,
        of: &Scope,
        revision: Revision,
    ) -> Result<Arc<StoreState>, Compacted> {
        let newest = self.state();
        if newest.revision == revision {
            return Ok(newest);
        }
        let of = &TopicKey::from(of);
        let is_it = |(known, state): &&(TopicKey, Arc<StoreState>)| {
            known == of && state.revision == revision
        };
        if let Some((_, known)) = self.rebuilt.lock().iter().find(is_it) {
            return Ok(Arc::clone(known));
        }
        let (newest, events) = {
            let history = self.history.read();
            (self.state(), history.undo(of, revision)?)
        };
        let state = Arc::new(newest.rebuilt(of.resource(), revision, events));
        let mut rebuilt = self.rebuilt.lock();
        rebuilt.push_back((of.clone(), Arc::clone(&state)));
        if REBUILT_STATES_MAX < rebuilt.len() {
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
        let waker = Arc::new(WatchWaker::default());
        let subscriptions = scopes.into_iter().map(Into::into).collect();
        let (number, cursors) = self.history.write().join(subscriptions, after, &waker)?;
        Ok(Box::new(Watcher { cache: Arc::clone(self), cursors, number, waker, waits: None }))
    }

    /// The state at this revision or a later one, once there is one.
    pub(crate) async fn wait_for(self: &Arc<Self>, revision: Revision) -> Arc<StoreState> {
        if self.published.load(Ordering::Acquire) < revision {
            let waker = Arc::new(WatchWaker::default());
            let number = self.history.write().join_all_topics(&waker);
            // It leaves also when its caller has waited long enough.
            let mut waits = Watcher {
                cache: Arc::clone(self),
                cursors: Vec::new(),
                number,
                waker,
                waits: None,
            };
            poll_fn(|cx| waits.poll_for(revision, cx)).await;
        }
        self.state()
    }
}

/// A cursor into the history: however slow its owner is, it costs the same.
struct Watcher {
    cache: Arc<WatchCache>,
    cursors: Vec<Cursor>,
    number: u64,
    /// It also says what was read.
    waker: Arc<WatchWaker>,
    /// The task that it wakes.
    waits: Option<Waker>,
}

impl Watcher {
    fn poll_for(&mut self, revision: Revision, cx: &Context<'_>) -> Poll<()> {
        loop {
            if revision <= self.cache.published.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            if !self.waker.take_woken(&mut self.waits, cx) {
                return Poll::Pending;
            }
        }
    }
}

impl Watch for Watcher {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Event>, Compacted>> {
        loop {
            let seen = self.waker.seen();
            // Who has read everything reads again when called. What is published is also found
            // before the call, which comes a moment later: whoever wrote it may be looking.
            let caught_up = self.cache.published.load(Ordering::Acquire) <= seen;
            if caught_up && !self.waker.take_woken(&mut self.waits, cx) {
                return Poll::Pending;
            }
            let read = self.cache.history.read().read(&self.cursors, seen)?;
            self.waker.set_seen(read.upto);
            if !read.events.is_empty() {
                return Poll::Ready(Ok(read.events));
            }
        }
    }

    fn progress(&self) -> Revision {
        let seen = self.waker.seen();
        let history = self.cache.history.read();
        if history.waits(&self.cursors, seen) {
            return seen;
        }
        let now = seen.max(history.published());
        self.waker.set_seen(now);
        now
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.cache.history.write().leave(&self.cursors, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::{Snapshot, Stored};
    use freewheel_hub_schema::object::{Key, Object, Resource};
    use freewheel_link::names::ClusterName;

    fn pods() -> Resource {
        Resource::new("", "pods")
    }

    #[test]
    fn a_rebuilt_state_goes_with_the_past_that_it_was_built_from() {
        let cache = WatchCache::new(StoreState::default(), Limits { events: 3, bytes: 1 << 20 });
        let publish = |revision| {
            let mut state = StoreState::default();
            state.revision = revision;
            let key = Key::new(&pods(), &ClusterName::root(), "d", "a");
            let object = Object { header: Default::default(), body: "{}".into() };
            let stored = Arc::new(Stored { key, object, revision, created: 1 });
            drop(cache.publish(state, &[Event { revision, now: Some(stored), before: None }]));
        };
        publish(1);
        publish(2);
        let all = Scope { resource: pods(), cluster: None, namespace: None };
        let rebuilt = Arc::downgrade(&cache.state_at(&all, 1).unwrap());
        publish(3);
        assert!(rebuilt.upgrade().is_some(), "a list may go on in it");
        publish(4);
        publish(5);
        assert!(rebuilt.upgrade().is_none());
    }

    #[test]
    fn what_one_cluster_had_rebuilt_holds_no_other_s_past() {
        let cache = WatchCache::new(StoreState::default(), Limits { events: 3, bytes: 8 << 10 });
        let of = |cluster: &str, revision| {
            let cluster = ClusterName::try_from(cluster).unwrap();
            let key = Key::new(&pods(), &cluster, "d", "a");
            let object = Object { header: Default::default(), body: "{}".into() };
            Arc::new(Stored { key, object, revision, created: 1 })
        };
        let quiet = Scope {
            resource: pods(),
            cluster: Some(ClusterName::try_from("quiet").unwrap()),
            namespace: None,
        };
        let mut state = StoreState::default();
        let mut publish = |stored: Arc<Stored>| {
            let before = state.insert(stored.clone());
            state.revision = stored.revision;
            let event = Event { revision: stored.revision, now: Some(stored), before };
            drop(cache.publish(state.clone(), &[event]));
        };
        publish(of("quiet", 1));
        let busy = of("busy", 2);
        let held = Arc::downgrade(&busy);
        publish(busy);
        publish(of("quiet", 3));
        drop(cache.state_at(&quiet, 2).unwrap());
        for revision in 4..40 {
            publish(of("busy", revision));
        }
        assert!(held.upgrade().is_none(), "the past of the busy one is over");
        let then = cache.state_at(&quiet, 2).expect("that of the quiet one is not");
        let key = Key::new(&pods(), quiet.cluster.as_ref().unwrap(), "d", "a");
        assert_eq!(Snapshot::get(&*then, &key).unwrap().revision, 1);
    }

    #[test]
    fn a_gap_between_revisions_is_no_loss() {
        let cache = WatchCache::new(StoreState::default(), Limits::default());
        for revision in [3, 10] {
            let mut state = StoreState::default();
            state.revision = revision;
            let key = Key::new(&pods(), &ClusterName::root(), "d", "a");
            let object = Object { header: Default::default(), body: "{}".into() };
            let stored = Arc::new(Stored { key, object, revision, created: revision });
            drop(cache.publish(state, &[Event { revision, now: Some(stored), before: None }]));
        }
        // Somebody else's transactions have the numbers in between.
        for between in 3..10 {
            assert!(cache.watch(Vec::new(), between).is_ok(), "{between}");
        }
    }

    #[test]
    fn what_is_published_is_found_before_the_call() {
        let cache = WatchCache::new(StoreState::default(), Limits::default());
        let mut watch = cache.watch(Vec::new(), 0).unwrap();
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(watch.poll_next(&mut nobody).is_pending());
        let key = Key::new(&pods(), &ClusterName::root(), "default", "a");
        let body = serde_json::json!({"metadata": {"name": "a"}});
        let object = Object::from_value(body, std::collections::BTreeMap::new()).unwrap();
        let stored = Arc::new(Stored { key, object, revision: 1, created: 1 });
        let event = Event { revision: 1, now: Some(stored), before: None };
        let mut state = StoreState::default();
        state.revision = 1;
        state.apply(&event);
        let wakeups = cache.publish(state, &[event]);
        let found = watch.poll_next(&mut nobody);
        assert!(matches!(found, Poll::Ready(Ok(events)) if events.len() == 1));
        assert!(watch.poll_next(&mut nobody).is_pending());
        drop(wakeups);
        assert!(watch.poll_next(&mut nobody).is_pending(), "and not a second time");
    }
}

//! Keys waiting for a worker.
//!
//! Guarantees:
//! - a key waits at most once; one that is added while it is worked on is worked on again afterwards, never at
//!   the same time by two workers (`a_key_waits_once_and_is_worked_on_by_one`);
//! - delays end with the earliest one asked for (`delays_end_with_the_earliest`), and whatever length an object says,
//!   within an hour, by which somebody may have set the clock that it is by (`a_delay_of_any_length_is_a_bounded_one`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_metrics::{DurationHistogram, QUICK_SECONDS_BUCKETS};
use freewheel_hub_schema::object::Key;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First delay after a failure (client-go's `DefaultControllerRateLimiter`).
pub const BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// Longest delay after failures.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1000);
/// Longest delay before a key is looked at again.
pub const DELAY_MAX: Duration = Duration::from_hours(1);

/// A queue of keys with delays and a back-off per key.
pub struct Queue {
    state: Mutex<QueueState>,
    wake: Notify,
    /// How long keys were worked on.
    pub(crate) work: Arc<DurationHistogram>,
}

impl Default for Queue {
    fn default() -> Self {
        let work = Arc::new(DurationHistogram::new(QUICK_SECONDS_BUCKETS));
        Self { state: Mutex::default(), wake: Notify::default(), work }
    }
}

#[derive(Default)]
struct QueueState {
    ready: VecDeque<Key>,
    /// In `ready`, or added while being worked on.
    dirty: HashSet<Key>,
    working: HashSet<Key>,
    later: BTreeSet<(Instant, Key)>,
    later_of: BTreeMap<Key, Instant>,
    failures: HashMap<Key, u32>,
    adds: u64,
    retries: u64,
    panics: u64,
}

/// What has become of a queue since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Keys that wait for a worker.
    pub depth: u64,
    /// Keys that were added, those that waited already left out.
    pub adds: u64,
    /// Keys that were added again after a failure.
    pub retries: u64,
    /// How often its controller panicked.
    pub panics: u64,
}

impl Queue {
    /// To be worked on as soon as a worker is free.
    pub fn add(&self, key: Key) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }

    /// To be worked on after a while, or sooner when that was asked for already; after [`DELAY_MAX`] at the latest.
    pub fn add_after(&self, key: Key, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay.min(DELAY_MAX);
        let mut state = self.state.lock();
        match state.later_of.get(&key).copied() {
            Some(sooner) if sooner <= at => return,
            Some(old) => {
                state.later.remove(&(old, key.clone()));
            }
            None => {}
        }
        state.later_of.insert(key.clone(), at);
        state.later.insert((at, key));
        drop(state);
        self.wake.notify_one();
    }

    /// To be worked on after this key's back-off, which doubles up to the longest.
    pub fn add_failed(&self, key: Key, longest: Duration) -> Duration {
        let delay = {
            let mut state = self.state.lock();
            let count = state.failures.entry(key.clone()).or_default();
            let delay = backoff(*count).min(longest);
            *count = count.saturating_add(1);
            state.retries += 1;
            delay
        };
        self.add_after(key, delay);
        delay
    }

    /// Counts that its controller panicked.
    pub(super) fn count_panic(&self) {
        self.state.lock().panics += 1;
    }

    /// Ends a key's back-off.
    pub fn forget(&self, key: &Key) {
        self.state.lock().failures.remove(key);
    }

    /// The next key, which stays this worker's until [`Queue::done`]. Cancel safe.
    pub async fn next(&self) -> Key {
        loop {
            let due = {
                let mut state = self.state.lock();
                let due = state.promote(Instant::now());
                if let Some(key) = state.take() {
                    let more = !state.ready.is_empty();
                    drop(state);
                    if more {
                        self.wake.notify_one();
                    }
                    return key;
                }
                due
            };
            match due {
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// This worker is done with the key.
    pub fn done(&self, key: &Key) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        } else {
            let waiting = !state.ready.is_empty() || !state.later.is_empty();
            drop(state);
            if waiting {
                self.wake.notify_one();
            }
        }
    }

    /// What has become of it so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.state.lock();
        let depth = u64::try_from(state.ready.len()).unwrap_or(u64::MAX);
        Counts { depth, adds: state.adds, retries: state.retries, panics: state.panics }
    }

    /// Keys that are ready or being worked on.
    #[must_use]
    pub fn busy(&self) -> usize {
        let state = self.state.lock();
        state.ready.len() + state.working.len()
    }
}

impl QueueState {
    fn add(&mut self, key: Key) {
        if let Some(at) = self.later_of.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        if !self.dirty.insert(key.clone()) {
            return;
        }
        self.adds += 1;
        if !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Makes ready what is due; when the next delay ends.
    fn promote(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let at = self.later.first().map(|(at, _)| *at)?;
            if now < at {
                return Some(at);
            }
            if let Some((_, key)) = self.later.pop_first() {
                self.later_of.remove(&key);
                self.add(key);
            }
        }
    }

    fn take(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

/// How long to wait after so many failures before the last one.
pub(crate) fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.checked_mul(1 << failures.min(20)).map_or(BACKOFF_MAX, |d| d.min(BACKOFF_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    fn key(name: &str) -> Key {
        Key::new(&Resource::new("", "pods"), &ClusterName::root(), "default", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_worked_on_by_one() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a"));
        let second = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(second.is_err(), "it is still being worked on");
        queue.done(&key("a"));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(queue.counts(), Counts { depth: 0, adds: 2, retries: 0, panics: 0 });
        queue.add_failed(key("b"), BACKOFF_MAX);
        assert_eq!(queue.counts().retries, 1);
        queue.done(&key("a"));
        assert_eq!(queue.busy(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_end_with_the_earliest() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(10));
        queue.add_after(key("a"), Duration::from_secs(3));
        queue.add_after(key("a"), Duration::from_secs(7));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&key("a"));
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_of_any_length_is_a_bounded_one() {
        let queue = Queue::default();
        queue.add_after(key("a"), Duration::MAX);
        let start = Instant::now();
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), DELAY_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay_up_to_the_limit() {
        let queue = Queue::default();
        let failed = |longest| queue.add_failed(key("a"), longest);
        let delays: Vec<u64> =
            (0..20).map(|_| u64::try_from(failed(BACKOFF_MAX).as_millis()).unwrap()).collect();
        assert_eq!(delays[..4], [5, 10, 20, 40]);
        assert_eq!(delays[19], 1_000_000);
        let patience = Duration::from_secs(30);
        assert_eq!(failed(patience), patience, "somebody waits for it");
        queue.forget(&key("a"));
        assert_eq!(failed(patience), BACKOFF_FIRST);
    }
}

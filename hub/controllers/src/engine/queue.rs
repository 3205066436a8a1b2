//! Keys waiting for a worker.
//!
//! Guarantees:
//! - a key waits at most once; one that is added while it is worked on is worked on again afterwards, never at
//!   the same time by two workers (`a_key_waits_once_and_is_worked_on_by_one`);
//! - delays end with the earliest one asked for (`delays_end_with_the_earliest`), and whatever length an object says,
//!   within an hour, by which somebody may have set the clock that it is by (`a_delay_of_any_length_is_a_bounded_one`);
//! - a key that failed rests for its back-off, of which a change saves what is beyond a second: a controller whose
//!   failures themselves change what it watches does not turn for ever (`a_key_that_failed_rests_whoever_adds_it`,
//!   `who_fails_and_writes_what_it_watches_rests_as_well`);
//! - clusters take turns (`one_cluster_keeps_no_other_waiting`), and of the workers each spoke's cluster has half at most
//!   at a time: how long a turn takes may be in its own hands, by webhooks of its own
//!   (`half_of_the_workers_are_left_to_others`);
//! - of a key that fails again and again a warning is due every ten seconds at most
//!   (`of_a_key_that_fails_all_the_time_is_told_now_and_then`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_metrics::{DurationHistogram, QUICK_SECONDS_BUCKETS};
use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::turns::Turns;

/// First delay after a failure (client-go's `DefaultControllerRateLimiter`).
pub const BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// Longest delay after failures.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1000);
/// Longest delay before a key is looked at again.
pub const DELAY_MAX: Duration = Duration::from_hours(1);
/// Longest rest after a failure that a change does not shorten: nobody tells whether it is of the failure's own making,
/// and who sets right what has failed does not wait for longer.
const REST_MAX: Duration = Duration::from_secs(1);
/// Between two warnings about one key.
const TELL_EVERY: Duration = Duration::from_secs(10);

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
    ready: Turns,
    /// In `ready`, or added while being worked on.
    dirty: HashSet<Key>,
    working: HashSet<Key>,
    /// How many keys of each spoke's cluster are worked on.
    working_of: HashMap<ClusterName, usize>,
    /// How many of one may be, where that is bounded.
    cluster_max: Option<usize>,
    later: BTreeSet<(Instant, Key)>,
    later_of: BTreeMap<Key, Instant>,
    failures: HashMap<Key, Failing>,
    adds: u64,
    retries: u64,
    panics: u64,
}

/// A key that has failed since it last came to its end.
struct Failing {
    /// How often.
    count: u32,
    /// Nothing wakes it before.
    rests_until: Instant,
    /// When somebody was last to be told.
    told: Instant,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// When it is tried again.
    pub delay: Duration,
    /// Whether that is worth a warning, or was told just before.
    pub is_news: bool,
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
    /// So many workers take from it. Of two or more, those of no spoke's cluster are all of them.
    pub(super) fn has_workers(&self, count: usize) {
        self.state.lock().cluster_max = Some((count / 2).max(1));
    }

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
        self.state.lock().put_off(key, at);
        self.wake.notify_one();
    }

    /// To be worked on after this key's back-off, which doubles up to the longest.
    pub fn add_failed(&self, key: Key, longest: Duration) -> Failed {
        let failed = self.state.lock().fail(key, longest, Instant::now());
        self.wake.notify_one();
        failed
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
        state.give_back(key);
        if state.dirty.contains(key) {
            match state.rests_until(key) {
                Some(at) => {
                    state.dirty.remove(key);
                    state.put_off(key.clone(), at);
                }
                None => state.ready.push(key.clone()),
            }
        }
        let waiting = !state.ready.is_empty() || !state.later.is_empty();
        drop(state);
        if waiting {
            self.wake.notify_one();
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
    /// To be worked on now, or when its rest ends.
    fn add(&mut self, key: Key) {
        match self.rests_until(&key) {
            // Only what waits is put off: of what is worked on nobody knows yet what becomes.
            Some(at) if !self.dirty.contains(&key) && !self.working.contains(&key) => {
                self.put_off(key, at);
            }
            Some(_) | None => self.make_ready(key),
        }
    }

    fn make_ready(&mut self, key: Key) {
        if let Some(at) = self.later_of.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        if !self.dirty.insert(key.clone()) {
            return;
        }
        self.adds += 1;
        if !self.working.contains(&key) {
            self.ready.push(key);
        }
    }

    /// The end of its rest, unless that is over.
    fn rests_until(&self, key: &Key) -> Option<Instant> {
        let until = self.failures.get(key)?.rests_until;
        (Instant::now() < until).then_some(until)
    }

    /// To be worked on then, or sooner when that was asked for already.
    fn put_off(&mut self, key: Key, at: Instant) {
        match self.later_of.get(&key).copied() {
            Some(sooner) if sooner <= at => return,
            Some(old) => {
                self.later.remove(&(old, key.clone()));
            }
            None => {}
        }
        self.later_of.insert(key.clone(), at);
        self.later.insert((at, key));
    }

    fn fail(&mut self, key: Key, longest: Duration, now: Instant) -> Failed {
        let is_first = !self.failures.contains_key(&key);
        let new = || Failing { count: 0, rests_until: now, told: now };
        let failing = self.failures.entry(key.clone()).or_insert_with(new);
        let delay = backoff(failing.count).min(longest);
        failing.count = failing.count.saturating_add(1);
        failing.rests_until = now + delay.min(REST_MAX);
        let is_news = is_first || failing.told + TELL_EVERY <= now;
        if is_news {
            failing.told = now;
        }
        self.retries += 1;
        self.put_off(key, now + delay.min(DELAY_MAX));
        Failed { delay, is_news }
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
                self.make_ready(key);
            }
        }
    }

    fn take(&mut self) -> Option<Key> {
        let (of, most) = (&self.working_of, self.cluster_max.unwrap_or(usize::MAX));
        let key = self.ready.pop(|cluster| of.get(cluster).is_none_or(|count| *count < most))?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        if !key.cluster.is_root() {
            *self.working_of.entry(key.cluster.clone()).or_default() += 1;
        }
        Some(key)
    }

    /// It is not worked on any more.
    fn give_back(&mut self, key: &Key) {
        if self.working.remove(key)
            && let Some(count) = self.working_of.get_mut(&key.cluster)
        {
            *count -= 1;
            if *count == 0 {
                self.working_of.remove(&key.cluster);
            }
        }
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
    async fn half_of_the_workers_are_left_to_others() {
        let queue = Queue::default();
        queue.has_workers(4);
        let of = |cluster: &str, name: &str| {
            let cluster = ClusterName::try_from(cluster).unwrap();
            Key { cluster, ..key(name) }
        };
        ["a", "b", "c", "d"].into_iter().for_each(|name| queue.add(of("pi-7", name)));
        assert_eq!(queue.next().await, of("pi-7", "a"));
        assert_eq!(queue.next().await, of("pi-7", "b"));
        let third = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(third.is_err(), "it has half of them");
        // Others are not behind it, and the root may have all that are left.
        ["a", "b", "c"].into_iter().for_each(|name| queue.add(of("root", name)));
        for name in ["a", "b", "c"] {
            assert_eq!(queue.next().await, of("root", name));
        }
        let mut next = Box::pin(queue.next());
        assert!(futures::poll!(next.as_mut()).is_pending());
        queue.done(&of("pi-7", "b"));
        assert_eq!(next.await, of("pi-7", "c"));
        queue.add(of("pi-8", "a"));
        assert_eq!(queue.next().await, of("pi-8", "a"));
        for key in [of("pi-7", "a"), of("pi-7", "c"), of("pi-8", "a")] {
            queue.done(&key);
        }
        assert!(queue.state.lock().working_of.is_empty());
        assert_eq!(queue.next().await, of("pi-7", "d"));
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
        let failed = |longest| queue.add_failed(key("a"), longest).delay;
        let delays: Vec<u64> =
            (0..20).map(|_| u64::try_from(failed(BACKOFF_MAX).as_millis()).unwrap()).collect();
        assert_eq!(delays[..4], [5, 10, 20, 40]);
        assert_eq!(delays[19], 1_000_000);
        let patience = Duration::from_secs(30);
        assert_eq!(failed(patience), patience, "somebody waits for it");
        queue.forget(&key("a"));
        assert_eq!(failed(patience), BACKOFF_FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_failed_rests_whoever_adds_it() {
        let queue = Queue::default();
        let (start, mut tries) = (Instant::now(), 0);
        queue.add(key("a"));
        // As where each failure is written down, and what is written down adds it.
        while start.elapsed() < Duration::from_secs(60) {
            assert_eq!(queue.next().await, key("a"));
            tries += 1;
            queue.add(key("a"));
            queue.add_failed(key("a"), BACKOFF_MAX);
            queue.done(&key("a"));
            queue.add(key("a"));
        }
        assert!((60..75).contains(&tries), "{tries}");
        let patient = tokio::time::timeout(Duration::from_millis(900), queue.next()).await;
        assert!(patient.is_err(), "it rests");
        queue.add(key("b"));
        assert_eq!(queue.next().await, key("b"), "and it alone");
        queue.forget(&key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"), "who has come to an end rests no more");
    }

    #[tokio::test(start_paused = true)]
    async fn one_cluster_keeps_no_other_waiting() {
        let queue = Queue::default();
        let of = |cluster: &str, number: usize| {
            let cluster = ClusterName::try_from(cluster).unwrap();
            Key::new(&Resource::new("", "pods"), &cluster, "default", &number.to_string())
        };
        (0..1000).for_each(|number| queue.add(of("pi-0", number)));
        queue.add(of("root", 0));
        assert_eq!(queue.next().await, of("pi-0", 0));
        assert_eq!(queue.next().await, of("root", 0));
        assert_eq!((queue.counts().depth, queue.busy()), (999, 1001));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_key_that_fails_all_the_time_is_told_now_and_then() {
        let queue = Queue::default();
        let (mut told, start) = (Vec::new(), Instant::now());
        while start.elapsed() < Duration::from_secs(25) {
            if queue.add_failed(key("a"), BACKOFF_MAX).is_news {
                told.push(start.elapsed().as_secs());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [0, 10, 20]);
        queue.forget(&key("a"));
        assert!(queue.add_failed(key("a"), BACKOFF_MAX).is_news, "another one");
    }
}

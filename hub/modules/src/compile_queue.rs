//! Who waits for the compiler, and whose turn it is.
//!
//! ```text
//! join ─▶ waiting ─ take (lane) ─▶ running ─ finish ─▶ one outcome, told to all who joined
//! ```
//!
//! Two lanes work at the same time. The quick one takes small modules only, so that none of them ever waits for
//! a large one; the other takes large ones first, so that small ones cannot starve them.
//!
//! Guarantees:
//! - one compilation per module and profile, however many ask (`everybody_who_asks_gets_the_one_outcome`);
//! - what somebody waits for comes before what is compiled ahead, and of those that a lane is for, the smaller first
//!   (`what_is_asked_for_comes_before_what_is_warmed_and_small_before_large`,
//!   `what_is_warmed_becomes_urgent_when_somebody_asks`);
//! - no small module waits for a large one (`a_large_module_that_runs_keeps_no_small_one_waiting`);
//! - what waits to be compiled ahead has a bound (`no_more_than_a_bound_waits_to_be_warmed`).

use std::collections::BTreeMap;

use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// A module of up to this many bytes is small: its compiler is stopped after less than a minute.
const SMALL_MODULE_BYTES: u64 = 2 << 20;

/// Most modules that wait to be compiled ahead of their use. Others are compiled when they are asked for.
const AHEAD_JOBS_MAX: usize = 10_000;

/// What is compiled, and for which engine profile.
pub(crate) type Job = (Digest, Profile);

/// Which jobs a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerLane {
    /// Small ones.
    Quick,
    /// All, large ones first.
    Any,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobState {
    /// Others come first.
    Waiting,
    /// It is its turn.
    Running,
}

struct Entry<T> {
    size: u64,
    asked: bool,
    stand: JobState,
    number: u64,
    outcome: watch::Sender<Option<T>>,
}

impl<T> Entry<T> {
    /// The least is next.
    fn rank(&self, lane: WorkerLane) -> (bool, bool, u64, u64) {
        let small_last = lane == WorkerLane::Any && self.size <= SMALL_MODULE_BYTES;
        (!self.asked, small_last, self.size, self.number)
    }
}

struct Entries<T> {
    all: BTreeMap<Job, Entry<T>>,
    numbers: u64,
}

/// The line; `T` is what comes out of a job.
pub(crate) struct CompileQueue<T> {
    entries: Mutex<Entries<T>>,
    changed: Notify,
}

impl<T: Clone> CompileQueue<T> {
    pub(crate) fn new() -> Self {
        let entries = Mutex::new(Entries { all: BTreeMap::new(), numbers: 0 });
        Self { entries, changed: Notify::new() }
    }

    /// Puts a job in line for somebody who waits for it; its outcome comes out here.
    pub(crate) fn ask(&self, job: Job, size: u64) -> watch::Receiver<Option<T>> {
        let outcome = self.enter(job, size, true);
        self.changed.notify_waiters();
        outcome
    }

    /// Puts a job in line that nobody waits for yet; whether there was room for it.
    pub(crate) fn ahead(&self, job: Job, size: u64) -> bool {
        if AHEAD_JOBS_MAX <= self.entries.lock().all.len() {
            return false;
        }
        drop(self.enter(job, size, false));
        self.changed.notify_waiters();
        true
    }

    fn enter(&self, job: Job, size: u64, asked: bool) -> watch::Receiver<Option<T>> {
        let mut entries = self.entries.lock();
        entries.numbers += 1;
        let number = entries.numbers;
        let outcome = || watch::Sender::new(None);
        let entry = entries.all.entry(job).or_insert_with(|| Entry {
            size,
            asked,
            stand: JobState::Waiting,
            number,
            outcome: outcome(),
        });
        entry.asked |= asked;
        entry.outcome.subscribe()
    }

    /// Somebody waits for a job after all, if it is in line.
    pub(crate) fn prioritize(&self, job: &Job) {
        if let Some(entry) = self.entries.lock().all.get_mut(job) {
            entry.asked = true;
        }
    }

    /// Where a job stands, if it is in line.
    pub(crate) fn stand(&self, job: &Job) -> Option<JobState> {
        self.entries.lock().all.get(job).map(|entry| entry.stand)
    }

    /// The next job of a lane, when there is one. From now on it runs.
    pub(crate) async fn next(&self, lane: WorkerLane) -> Job {
        loop {
            let changed = self.changed.notified();
            if let Some(job) = self.take(lane) {
                return job;
            }
            changed.await;
        }
    }

    fn take(&self, lane: WorkerLane) -> Option<Job> {
        let mut entries = self.entries.lock();
        let fits = |entry: &Entry<T>| {
            entry.stand == JobState::Waiting
                && (lane == WorkerLane::Any || entry.size <= SMALL_MODULE_BYTES)
        };
        let waiting = entries.all.iter_mut().filter(|(_, entry)| fits(entry));
        let (job, entry) = waiting.min_by_key(|(_, entry)| entry.rank(lane))?;
        entry.stand = JobState::Running;
        Some(*job)
    }

    /// Tells everybody who joined what came out.
    pub(crate) fn finish(&self, job: &Job, outcome: T) {
        if let Some(entry) = self.entries.lock().all.remove(job) {
            // Nobody may be waiting: it was compiled ahead, or who asked has gone.
            entry.outcome.send_replace(Some(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const LARGE: u64 = SMALL_MODULE_BYTES + 1;

    fn job(name: &str) -> Job {
        (Digest::of(name.as_bytes()), Profile::candidates()[0])
    }

    /// What a lane takes, one after the other, when nothing comes in between.
    fn order(queue: &CompileQueue<u8>, lane: WorkerLane, names: &[&str]) -> Vec<String> {
        let known: BTreeMap<Job, &str> = names.iter().map(|name| (job(name), *name)).collect();
        std::iter::from_fn(|| queue.take(lane)).map(|job| known[&job].to_owned()).collect()
    }

    #[test]
    fn what_is_asked_for_comes_before_what_is_warmed_and_small_before_large() {
        let names = ["warm", "asked", "small", "large", "larger", "warm large"];
        let queue = || {
            let queue = CompileQueue::new();
            assert!(queue.ahead(job("warm large"), LARGE));
            assert!(queue.ahead(job("warm"), 10));
            for (name, size) in
                [("larger", LARGE + 5), ("asked", 30), ("large", LARGE), ("small", 20)]
            {
                queue.ask(job(name), size);
            }
            queue
        };
        assert_eq!(order(&queue(), WorkerLane::Quick, &names), ["small", "asked", "warm"]);
        let any = ["large", "larger", "small", "asked", "warm large", "warm"];
        assert_eq!(order(&queue(), WorkerLane::Any, &names), any);
    }

    #[test]
    fn a_large_module_that_runs_keeps_no_small_one_waiting() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        queue.ask(job("bomb"), LARGE);
        assert_eq!(queue.next(WorkerLane::Any).now_or_never(), Some(job("bomb")));
        queue.ask(job("hello"), 200_000);
        assert_eq!(queue.next(WorkerLane::Quick).now_or_never(), Some(job("hello")));
        assert_eq!(queue.stand(&job("bomb")), Some(JobState::Running));
    }

    #[tokio::test]
    async fn everybody_who_asks_gets_the_one_outcome() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        assert!(queue.ahead(job("a"), 1));
        let mut first = queue.ask(job("a"), 1);
        let running = queue.next(WorkerLane::Quick).await;
        let mut second = queue.ask(job("a"), 1);
        assert_eq!(queue.take(WorkerLane::Any), None, "it runs already");
        queue.finish(&running, 7);
        for asker in [&mut first, &mut second] {
            assert_eq!(*asker.wait_for(Option::is_some).await.unwrap(), Some(7));
        }
        assert_eq!(queue.stand(&running), None);
    }

    #[test]
    fn what_is_warmed_becomes_urgent_when_somebody_asks() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        assert!(queue.ahead(job("one"), 1) && queue.ahead(job("two"), 2));
        queue.ask(job("two"), 2);
        assert_eq!(order(&queue, WorkerLane::Quick, &["one", "two"]), ["two", "one"]);
    }

    #[test]
    fn no_more_than_a_bound_waits_to_be_warmed() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        let taken = (0..=AHEAD_JOBS_MAX).filter(|n| queue.ahead(job(&n.to_string()), 1)).count();
        assert_eq!(taken, AHEAD_JOBS_MAX);
        queue.ask(job("urgent"), 9);
        assert_eq!(queue.take(WorkerLane::Quick), Some(job("urgent")));
    }
}

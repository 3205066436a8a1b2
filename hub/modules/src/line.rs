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
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// A module of up to this many bytes is small: its compiler is stopped after less than a minute.
const SMALL: u64 = 2 << 20;

/// Most modules that wait to be compiled ahead of their use. Others are compiled when they are asked for.
const MOST_AHEAD: usize = 10_000;

/// What is compiled, and for which engine profile.
pub(crate) type Job = (Digest, String);

/// Which jobs a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Small ones.
    Quick,
    /// All, large ones first.
    Any,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Others come first.
    Waiting,
    /// It is its turn.
    Running,
}

struct Entry<T> {
    size: u64,
    asked: bool,
    stand: Stand,
    number: u64,
    outcome: watch::Sender<Option<T>>,
}

impl<T> Entry<T> {
    /// The least is next.
    fn rank(&self, lane: Lane) -> (bool, bool, u64, u64) {
        let small_last = lane == Lane::Any && self.size <= SMALL;
        (!self.asked, small_last, self.size, self.number)
    }
}

struct Entries<T> {
    all: BTreeMap<Job, Entry<T>>,
    numbers: u64,
}

/// The line; `T` is what comes out of a job.
pub(crate) struct Line<T> {
    entries: Mutex<Entries<T>>,
    changed: Notify,
}

impl<T: Clone> Line<T> {
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
        if MOST_AHEAD <= self.entries.lock().all.len() {
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
            stand: Stand::Waiting,
            number,
            outcome: outcome(),
        });
        entry.asked |= asked;
        entry.outcome.subscribe()
    }

    /// Somebody waits for a job after all, if it is in line.
    pub(crate) fn urge(&self, job: &Job) {
        if let Some(entry) = self.entries.lock().all.get_mut(job) {
            entry.asked = true;
        }
    }

    /// Where a job stands, if it is in line.
    pub(crate) fn stand(&self, job: &Job) -> Option<Stand> {
        self.entries.lock().all.get(job).map(|entry| entry.stand)
    }

    /// The next job of a lane, when there is one. From now on it runs.
    pub(crate) async fn next(&self, lane: Lane) -> Job {
        loop {
            let changed = self.changed.notified();
            if let Some(job) = self.take(lane) {
                return job;
            }
            changed.await;
        }
    }

    fn take(&self, lane: Lane) -> Option<Job> {
        let mut entries = self.entries.lock();
        let fits = |entry: &Entry<T>| {
            entry.stand == Stand::Waiting && (lane == Lane::Any || entry.size <= SMALL)
        };
        let waiting = entries.all.iter_mut().filter(|(_, entry)| fits(entry));
        let (job, entry) = waiting.min_by_key(|(_, entry)| entry.rank(lane))?;
        entry.stand = Stand::Running;
        Some(job.clone())
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

    const LARGE: u64 = SMALL + 1;

    fn job(name: &str) -> Job {
        (Digest::of(name.as_bytes()), "p".to_owned())
    }

    /// What a lane takes, one after the other, when nothing comes in between.
    fn order(line: &Line<u8>, lane: Lane, names: &[&str]) -> Vec<String> {
        let known: BTreeMap<Job, &str> = names.iter().map(|name| (job(name), *name)).collect();
        std::iter::from_fn(|| line.take(lane)).map(|job| known[&job].to_owned()).collect()
    }

    #[test]
    fn what_is_asked_for_comes_before_what_is_warmed_and_small_before_large() {
        let names = ["warm", "asked", "small", "large", "larger", "warm large"];
        let line = || {
            let line = Line::new();
            assert!(line.ahead(job("warm large"), LARGE));
            assert!(line.ahead(job("warm"), 10));
            for (name, size) in
                [("larger", LARGE + 5), ("asked", 30), ("large", LARGE), ("small", 20)]
            {
                line.ask(job(name), size);
            }
            line
        };
        assert_eq!(order(&line(), Lane::Quick, &names), ["small", "asked", "warm"]);
        let any = ["large", "larger", "small", "asked", "warm large", "warm"];
        assert_eq!(order(&line(), Lane::Any, &names), any);
    }

    #[test]
    fn a_large_module_that_runs_keeps_no_small_one_waiting() {
        let line: Line<u8> = Line::new();
        line.ask(job("bomb"), LARGE);
        assert_eq!(line.next(Lane::Any).now_or_never(), Some(job("bomb")));
        line.ask(job("hello"), 200_000);
        assert_eq!(line.next(Lane::Quick).now_or_never(), Some(job("hello")));
        assert_eq!(line.stand(&job("bomb")), Some(Stand::Running));
    }

    #[tokio::test]
    async fn everybody_who_asks_gets_the_one_outcome() {
        let line: Line<u8> = Line::new();
        assert!(line.ahead(job("a"), 1));
        let mut first = line.ask(job("a"), 1);
        let running = line.next(Lane::Quick).await;
        let mut second = line.ask(job("a"), 1);
        assert_eq!(line.take(Lane::Any), None, "it runs already");
        line.finish(&running, 7);
        for asker in [&mut first, &mut second] {
            assert_eq!(*asker.wait_for(Option::is_some).await.unwrap(), Some(7));
        }
        assert_eq!(line.stand(&running), None);
    }

    #[test]
    fn what_is_warmed_becomes_urgent_when_somebody_asks() {
        let line: Line<u8> = Line::new();
        assert!(line.ahead(job("one"), 1) && line.ahead(job("two"), 2));
        line.ask(job("two"), 2);
        assert_eq!(order(&line, Lane::Quick, &["one", "two"]), ["two", "one"]);
    }

    #[test]
    fn no_more_than_a_bound_waits_to_be_warmed() {
        let line: Line<u8> = Line::new();
        let taken = (0..=MOST_AHEAD).filter(|n| line.ahead(job(&n.to_string()), 1)).count();
        assert_eq!(taken, MOST_AHEAD);
        line.ask(job("urgent"), 9);
        assert_eq!(line.take(Lane::Quick), Some(job("urgent")));
    }
}

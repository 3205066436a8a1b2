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
//! - but whoever has had a compiler for less time of late comes before whoever has had more, so that many modules of one
//!   keep nobody else's waiting (`many_modules_of_one_keep_nobody_elses_waiting`), and what several wait for is the turn
//!   of the one who has had least (`what_several_wait_for_comes_in_the_first_one_s_turn`);
//! - no small module waits for a large one (`a_large_module_that_runs_keeps_no_small_one_waiting`);
//! - what waits to be compiled ahead has a bound (`no_more_than_a_bound_waits_to_be_warmed`).

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_api::images::Tenant;
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::compile_shares::{Client, CompileShares, rank};

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
    /// In whose turn it comes, of those who wait for it; `None`: nobody does yet.
    asked: Option<Client>,
    /// Since when it runs.
    began: Option<Instant>,
    number: u64,
    outcome: watch::Sender<Option<T>>,
}

impl<T> Entry<T> {
    /// The least is next; `had`: for how long somebody has had a compiler.
    fn rank(
        &self,
        lane: WorkerLane,
        had: impl Fn(&Client) -> Duration,
    ) -> (bool, bool, u64, u64, u64) {
        let small_last = lane == WorkerLane::Any && self.size <= SMALL_MODULE_BYTES;
        let had = self.asked.as_ref().map_or(Duration::ZERO, had);
        (self.asked.is_none(), small_last, rank(had), self.size, self.number)
    }
}

struct Entries<T> {
    all: BTreeMap<Job, Entry<T>>,
    numbers: u64,
    shares: CompileShares,
}

impl<T> Entries<T> {
    /// For how long each has had a compiler, with what runs now.
    fn had(&self, now: Instant) -> impl Fn(&Client) -> Duration {
        let running = |entry: &Entry<T>| {
            let since = now.duration_since(entry.began?);
            Some((entry.asked.clone()?, since))
        };
        let running: Vec<_> = self.all.values().filter_map(running).collect();
        move |client| {
            let now_too = running.iter().filter(|(of, _)| of == client).map(|(_, since)| *since);
            self.shares.had(client, now) + now_too.sum::<Duration>()
        }
    }

    /// Puts a job in line, if it is not there.
    fn enter(&mut self, job: Job, size: u64) -> watch::Receiver<Option<T>> {
        self.numbers += 1;
        let (number, asked, began) = (self.numbers, None, None);
        let new = || Entry { size, asked, began, number, outcome: watch::Sender::new(None) };
        self.all.entry(job).or_insert_with(new).outcome.subscribe()
    }

    /// These wait for a job, too: it comes in the turn of the one who has had least.
    fn want(&mut self, job: &Job, clients: impl Iterator<Item = Client>) {
        let Some(entry) = self.all.get(job).filter(|entry| entry.began.is_none()) else { return };
        let had = self.had(Instant::now());
        let wanted = entry.asked.clone().into_iter().chain(clients).min_by_key(|one| had(one));
        drop(had);
        if let Some(entry) = self.all.get_mut(job) {
            entry.asked = wanted;
        }
    }
}

/// The line; `T` is what comes out of a job.
pub(crate) struct CompileQueue<T> {
    entries: Mutex<Entries<T>>,
    changed: Notify,
}

impl<T: Clone> CompileQueue<T> {
    pub(crate) fn new() -> Self {
        let shares = CompileShares::default();
        let entries = Mutex::new(Entries { all: BTreeMap::new(), numbers: 0, shares });
        Self { entries, changed: Notify::new() }
    }

    /// Puts a job in line for those who wait for it; its outcome comes out here.
    pub(crate) fn ask(
        &self,
        job: Job,
        size: u64,
        tenants: Vec<Tenant>,
    ) -> watch::Receiver<Option<T>> {
        let outcome = {
            let mut entries = self.entries.lock();
            let outcome = entries.enter(job, size);
            entries.want(&job, tenants.into_iter().map(Client::Pods));
            // Somebody waits, whoever it is.
            if entries.all.get(&job).is_some_and(|entry| entry.asked.is_none()) {
                entries.want(&job, std::iter::once(Client::Push));
            }
            outcome
        };
        self.changed.notify_waiters();
        outcome
    }

    /// Puts a job in line that nobody waits for yet; whether there was room for it.
    pub(crate) fn ahead(&self, job: Job, size: u64) -> bool {
        {
            let mut entries = self.entries.lock();
            if AHEAD_JOBS_MAX <= entries.all.len() {
                return false;
            }
            drop(entries.enter(job, size));
        }
        self.changed.notify_waiters();
        true
    }

    /// Whether it matters who else waits for a job: it may come sooner in the turn of one who has had less.
    pub(crate) fn asks_who_waits(&self, job: &Job) -> bool {
        let entries = self.entries.lock();
        let Some(entry) = entries.all.get(job) else { return true };
        let had = entries.had(Instant::now());
        let least = entry.asked.as_ref().is_some_and(|client| rank(had(client)) == 0);
        entry.began.is_none() && !least
    }

    /// Whoever pushed it waits for a job after all, if it is in line.
    pub(crate) fn prioritize(&self, job: &Job) {
        self.entries.lock().want(job, std::iter::once(Client::Push));
    }

    /// Where a job stands, if it is in line.
    pub(crate) fn state_of(&self, job: &Job) -> Option<JobState> {
        let running = self.entries.lock().all.get(job)?.began.is_some();
        Some(if running { JobState::Running } else { JobState::Waiting })
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
        let (mut entries, now) = (self.entries.lock(), Instant::now());
        let fits = |entry: &Entry<T>| {
            entry.began.is_none() && (lane == WorkerLane::Any || entry.size <= SMALL_MODULE_BYTES)
        };
        let next = {
            let had = entries.had(now);
            let waiting = entries.all.iter().filter(|(_, entry)| fits(entry));
            *waiting.min_by_key(|(_, entry)| entry.rank(lane, &had))?.0
        };
        entries.all.get_mut(&next)?.began = Some(now);
        Some(next)
    }

    /// Tells everybody who joined what came out.
    pub(crate) fn finish(&self, job: &Job, outcome: T) {
        let (mut entries, now) = (self.entries.lock(), Instant::now());
        let Some(entry) = entries.all.remove(job) else { return };
        if let (Some(client), Some(began)) = (&entry.asked, entry.began) {
            entries.shares.charge(client, now.duration_since(began), now);
        }
        // Nobody may be waiting: it was compiled ahead, or who asked has gone.
        entry.outcome.send_replace(Some(outcome));
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

    fn tenant(name: &str) -> Tenant {
        Tenant::Namespace(name.to_owned())
    }

    /// Somebody waits for this.
    fn ask(queue: &CompileQueue<u8>, name: &str, size: u64) -> watch::Receiver<Option<u8>> {
        queue.ask(job(name), size, vec![tenant("somebody")])
    }

    /// The numbers of the places at which these come, when each takes 20 s.
    async fn places(queue: &CompileQueue<u8>, jobs: [Job; 2]) -> [usize; 2] {
        let mut places = [usize::MAX; 2];
        for place in 0.. {
            let Some(next) = queue.take(WorkerLane::Quick) else { return places };
            tokio::time::advance(Duration::from_secs(20)).await;
            queue.finish(&next, 0);
            for (at, job) in places.iter_mut().zip(jobs) {
                if job == next {
                    *at = place;
                }
            }
        }
        places
    }

    #[tokio::test(start_paused = true)]
    async fn many_modules_of_one_keep_nobody_elses_waiting() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        for number in 0..50 {
            queue.ask(job(&format!("a{number}")), 1_000_000, vec![tenant("a")]);
        }
        queue.ask(job("b1"), 1_100_000, vec![tenant("b")]);
        queue.ask(job("b2"), 1_200_000, vec![tenant("b")]);
        let [first, second] = places(&queue, [job("b1"), job("b2")]).await;
        assert!(first <= 1, "it is at place {first}");
        assert!(second <= 4, "they take turns, and the next one is at place {second}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_several_wait_for_comes_in_the_first_one_s_turn() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        queue.ask(job("before"), 1, vec![tenant("a")]);
        assert_eq!(queue.take(WorkerLane::Quick), Some(job("before")));
        tokio::time::advance(Duration::from_secs(60)).await;
        queue.ask(job("a"), 10, vec![tenant("a")]);
        queue.ask(job("both"), 30, vec![tenant("a"), tenant("c")]);
        queue.ask(job("b"), 20, vec![tenant("b")]);
        let names = ["a", "both", "b"];
        assert_eq!(
            order(&queue, WorkerLane::Quick, &names),
            ["b", "both", "a"],
            "also while it runs"
        );
        queue.finish(&job("before"), 0);
        queue.finish(&job("both"), 0);
        queue.ask(job("both"), 30, vec![tenant("a")]);
        queue.ask(job("a2"), 10, vec![tenant("a")]);
        assert!(queue.asks_who_waits(&job("both")));
        queue.ask(job("both"), 30, vec![tenant("c")]);
        assert!(!queue.asks_who_waits(&job("both")), "nobody has had less");
        assert_eq!(order(&queue, WorkerLane::Quick, &["a2", "both"]), ["both", "a2"]);
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
                ask(&queue, name, size);
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
        ask(&queue, "bomb", LARGE);
        assert_eq!(queue.next(WorkerLane::Any).now_or_never(), Some(job("bomb")));
        ask(&queue, "hello", 200_000);
        assert_eq!(queue.next(WorkerLane::Quick).now_or_never(), Some(job("hello")));
        assert_eq!(queue.state_of(&job("bomb")), Some(JobState::Running));
    }

    #[tokio::test]
    async fn everybody_who_asks_gets_the_one_outcome() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        assert!(queue.ahead(job("a"), 1));
        let mut first = ask(&queue, "a", 1);
        let running = queue.next(WorkerLane::Quick).await;
        let mut second = ask(&queue, "a", 1);
        assert_eq!(queue.take(WorkerLane::Any), None, "it runs already");
        queue.finish(&running, 7);
        for asker in [&mut first, &mut second] {
            assert_eq!(*asker.wait_for(Option::is_some).await.unwrap(), Some(7));
        }
        assert_eq!(queue.state_of(&running), None);
    }

    #[test]
    fn what_is_warmed_becomes_urgent_when_somebody_asks() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        assert!(queue.ahead(job("one"), 1) && queue.ahead(job("two"), 2));
        ask(&queue, "two", 2);
        assert_eq!(order(&queue, WorkerLane::Quick, &["one", "two"]), ["two", "one"]);
    }

    #[test]
    fn no_more_than_a_bound_waits_to_be_warmed() {
        let queue: CompileQueue<u8> = CompileQueue::new();
        let taken = (0..=AHEAD_JOBS_MAX).filter(|n| queue.ahead(job(&n.to_string()), 1)).count();
        assert_eq!(taken, AHEAD_JOBS_MAX);
        ask(&queue, "urgent", 9);
        assert_eq!(queue.take(WorkerLane::Quick), Some(job("urgent")));
    }
}

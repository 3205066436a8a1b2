//! Threads for the file calls of guests: each pod has its own, so that who waits for a slow disk holds up nobody else.
//!
//! Upstream hands each call over to the runtime that it is polled in. So calls are polled inside of one that is nothing
//! but a team of threads: it drives no task, no timer and no socket, and whatever needs those is polled outside of it.
//!
//! All threads together are a small part of the device, whatever guests do: so there are so many teams, each for one pod.
//! Where there are more pods, those that come last share one. A team without calls is 4 KiB and no thread.
//!
//! When the last pod of a team goes, the team is closed: threads without work end, and those that a call still has count
//! where the next team stands, which has as many fewer.
//!
//! Not held: pods that share a team have its threads first come, first served. One that waits for a slow disk holds up
//! those that share with it, and no others.
//!
//! Guarantees:
//! - the calls of one pod take turns on its own threads, however many they are and whoever waits for them, and no other
//!   pod's waits behind them (`calls_of_one_pod_have_its_threads_and_no_others`,
//!   `slow_file_calls_of_one_pod_hold_up_no_other`);
//! - what a pod's calls hold goes with the pod, not with those who wait for them: a container that starts again and again
//!   gets no more threads (`a_pod_has_its_threads_until_it_is_forgotten`);
//! - however many pods come, go and leave calls behind that never end, they have no more threads than the device gives
//!   (`pods_without_number_have_no_more_threads_than_there_are`);
//! - no pod is given a team that another one has, or has left calls with, while there is a free one
//!   (`a_team_that_still_works_for_somebody_is_not_given_while_there_are_others`), and threads that have nothing to do are
//!   no calls (`threads_that_have_nothing_to_do_are_no_work`);
//! - a device of which all threads wait for its disk gives none to one more pod (`where_all_threads_wait_there_is_none`);
//! - what a guest holds for its calls is held until those have had their turns, also when it is killed before
//!   (`what_is_held_for_calls_goes_after_them`,
//!   `what_waits_for_a_thread_has_its_places_when_its_container_is_gone`);
//! - a pod that calls nothing has no thread, and threads go when they have nothing to do (`threads_come_with_calls_and_go`);
//! - the process is told of each thread before that does anything, so that it keeps for it what it is counted with and no
//!   more (`each_thread_begins_as_the_process_wants`).

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of a team: as many of its calls are under way at a time.
pub(crate) const TEAM_THREADS: usize = 4;

/// Bytes of such a thread's stack: a call goes no deeper than the system call that it makes.
const THREAD_STACK_BYTES: usize = 256 << 10;

/// What a thread takes of the machine, its piece of a file included (72 KiB, as measured), and the kernel's own stack for it.
/// What guests have it free is not kept for it.
const THREAD_BYTES: u64 = 96 << 10;

/// The part of the guests' memory that all of these threads may take of what the agent has beside it.
const THREADS_DIVISOR: u64 = 64;

/// Teams of the smallest device, and of the largest: 256 threads.
const TEAMS_MIN: usize = 8;
const TEAMS_MAX: usize = 64;

/// How long a thread waits for another call: a program that reads piece by piece needs no new one for each.
const THREAD_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A team.
#[derive(Debug)]
pub(crate) struct FileCalls {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    /// Threads that are there.
    threads: Arc<AtomicUsize>,
}

impl FileCalls {
    fn new(most: usize, begins: fn()) -> io::Result<Arc<Self>> {
        let threads = Arc::new(AtomicUsize::new(0));
        let (more, fewer) = (threads.clone(), threads.clone());
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(most)
            .thread_stack_size(THREAD_STACK_BYTES)
            .thread_keep_alive(THREAD_IDLE_TIMEOUT)
            .thread_name("files")
            .on_thread_start(move || {
                begins();
                more.fetch_add(1, Relaxed);
            })
            .on_thread_stop(move || {
                fewer.fetch_sub(1, Relaxed);
            })
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Arc::new(Self { runtime: Mutex::new(Some(runtime)), handle, threads }))
    }

    /// Begins calls on these threads.
    pub(crate) fn begin<T>(&self, call: impl FnOnce() -> T) -> T {
        let _inside = self.handle.enter();
        call()
    }

    /// Does all that it calls on these threads.
    pub(crate) async fn run<F: Future>(&self, calls: F) -> F::Output {
        within(&self.handle, calls).await
    }

    /// Lets go of what was held for calls, once those that were made before have had their turns. One that has a thread
    /// by then is not waited for: of these there are as many as threads.
    pub(crate) fn let_go(&self, held: impl Send + 'static) {
        // Calls have threads, or are about to have the first.
        if 0 < self.threads.load(Relaxed) {
            let later = AssertUnwindSafe(|| drop(self.handle.spawn_blocking(move || drop(held))));
            // Where the kernel gives no thread, it is with the calls that wait for one.
            let _ = catch_unwind(later);
        }
    }

    /// Ends it: no thread stays longer than its calls.
    fn close(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            // A call that waits for the disk may do so for long.
            runtime.shutdown_background();
        }
    }
}

impl Drop for FileCalls {
    fn drop(&mut self) {
        self.close();
    }
}

/// Polls it as if it ran in this runtime.
pub(crate) async fn within<F: Future>(runtime: &Handle, work: F) -> F::Output {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        let _inside = runtime.enter();
        work.as_mut().poll(cx)
    })
    .await
}

/// The teams of all pods.
#[derive(Debug)]
pub(crate) struct AllFileCalls {
    most: usize,
    /// What each thread does first.
    begins: fn(),
    teams: Mutex<Teams>,
}

#[derive(Debug, Default)]
struct Teams {
    all: Vec<Team>,
    /// Which of them a pod has.
    of: HashMap<String, usize>,
}

/// The place of a team.
#[derive(Debug, Default)]
struct Team {
    /// None while no pod has it, and before its first.
    calls: Option<Arc<FileCalls>>,
    /// How many pods have it.
    pods: usize,
    /// Threads of those that were closed.
    left: Vec<Arc<AtomicUsize>>,
}

impl Team {
    /// Threads that calls of pods have which are gone.
    fn left(&mut self) -> usize {
        self.left.retain(|threads| 0 < threads.load(Relaxed));
        self.left.iter().map(|threads| threads.load(Relaxed)).sum()
    }

    /// One more pod has it.
    fn join(&mut self, begins: fn()) -> io::Result<()> {
        if self.calls.is_none() {
            let most = TEAM_THREADS.saturating_sub(self.left());
            if most == 0 {
                return Err(io::Error::other("all threads wait for the disk"));
            }
            self.calls = Some(FileCalls::new(most, begins)?);
        }
        self.pods += 1;
        Ok(())
    }

    /// A pod has it no more.
    fn leave(&mut self) {
        self.pods -= 1;
        if self.pods == 0
            && let Some(calls) = self.calls.take()
        {
            calls.close();
            self.left.push(calls.threads.clone());
        }
    }
}

impl AllFileCalls {
    /// For a device on which guests have so much memory, with threads that do this first.
    pub(crate) fn new(memory: u64, begins: fn()) -> Self {
        let worth = memory / THREADS_DIVISOR / (TEAM_THREADS as u64 * THREAD_BYTES);
        let most = usize::try_from(worth).unwrap_or(TEAMS_MAX).clamp(TEAMS_MIN, TEAMS_MAX);
        Self { most, begins, teams: Mutex::default() }
    }

    /// The team of this pod.
    pub(crate) fn of(&self, pod: &str) -> io::Result<Arc<FileCalls>> {
        let mut teams = self.teams.lock();
        let place = match teams.of.get(pod) {
            Some(place) => *place,
            None => teams.give(pod, self.most, self.begins)?,
        };
        let calls = teams.all[place].calls.clone();
        calls.ok_or_else(|| io::Error::other("the pod's team is closed"))
    }

    /// The pod is gone. What it still waits for ends by itself.
    pub(crate) fn forget(&self, pod: &str) {
        let teams = &mut *self.teams.lock();
        if let Some(place) = teams.of.remove(pod) {
            teams.all[place].leave();
        }
    }
}

impl Teams {
    /// One that nobody uses; when there are no more to be made, the one that is used least.
    fn give(&mut self, pod: &str, most: usize, begins: fn()) -> io::Result<usize> {
        // What pods have left behind counts as they did: it may never end. Where it has all threads, nobody else works.
        let used = self.all.iter_mut().map(|team| match (team.pods, team.left()) {
            (0, TEAM_THREADS..) => usize::MAX,
            (pods, left) => pods + left,
        });
        let least = used.enumerate().min_by_key(|(_, used)| *used);
        let place = match least {
            Some((place, used)) if used == 0 || most <= self.all.len() => place,
            _ => {
                self.all.push(Team::default());
                self.all.len() - 1
            }
        };
        self.all[place].join(begins)?;
        self.of.insert(pod.to_owned(), place);
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::mpsc;

    use tokio::task::{JoinHandle, spawn_blocking};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn all() -> AllFileCalls {
        AllFileCalls::new(512 << 20, || {})
    }

    fn of_teams(most: usize) -> AllFileCalls {
        AllFileCalls { most, ..all() }
    }

    /// A call that waits until what is returned with it goes.
    fn slow(calls: &FileCalls) -> (mpsc::Sender<()>, JoinHandle<()>) {
        let (end, until) = mpsc::channel::<()>();
        let call = move || {
            let _ended = until.recv();
        };
        let call = calls.begin(|| spawn_blocking(call));
        (end, call)
    }

    async fn threads(calls: &FileCalls, wanted: usize) {
        let come = async {
            while calls.threads.load(Relaxed) != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, come).await.unwrap();
    }

    #[tokio::test]
    async fn calls_of_one_pod_have_its_threads_and_no_others() {
        let all = all();
        let (slow, other) = (all.of("slow").unwrap(), all.of("other").unwrap());
        let (begin, begun) = mpsc::channel();
        let (end, until) = mpsc::channel::<()>();
        let (until, most) = (Arc::new(Mutex::new(until)), Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (begin, until, most) = (begin.clone(), until.clone(), most.clone());
                let call = move || {
                    most.fetch_add(1, SeqCst);
                    begin.send(()).unwrap();
                    let _ = until.lock().recv();
                    most.fetch_sub(1, SeqCst);
                };
                slow.begin(|| spawn_blocking(call))
            })
            .collect();
        for _ in 0..TEAM_THREADS {
            begun.recv_timeout(SOON).unwrap();
        }
        assert!(begun.try_recv().is_err(), "no more of them are under way");
        // Who waits for a call here has its own timers and tasks all the same.
        let answer = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            other.run(async { spawn_blocking(|| "at once").await.unwrap() }).await
        };
        assert_eq!(tokio::time::timeout(SOON, answer).await, Ok("at once"));
        assert_eq!(most.load(SeqCst), TEAM_THREADS);
        drop(end);
        for call in calls {
            tokio::time::timeout(SOON, call).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_pod_has_its_threads_until_it_is_forgotten() {
        let all = all();
        let (first, again) = (all.of("pod").unwrap(), all.of("pod").unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        let waits: Vec<_> = (0..2 * TEAM_THREADS).map(|_| slow(&first)).collect();
        threads(&first, TEAM_THREADS).await;
        all.forget("pod");
        all.forget("pod");
        assert_eq!(all.teams.lock().all.iter().map(|team| team.pods).collect::<Vec<_>>(), [0]);
        let second = all.of("pod").unwrap();
        assert!(!Arc::ptr_eq(&first, &second), "what it has left has its threads until it ends");
        let (ends, calls): (Vec<_>, Vec<_>) = waits.into_iter().unzip();
        drop(ends);
        for call in calls {
            tokio::time::timeout(SOON, call).await.unwrap().unwrap();
        }
        tokio::time::timeout(THREAD_IDLE_TIMEOUT / 2, threads(&first, 0)).await.unwrap();
    }

    #[tokio::test]
    async fn pods_without_number_have_no_more_threads_than_there_are() {
        let all = all();
        let working = || -> Vec<usize> {
            let of = |team: &mut Team| {
                team.left() + team.calls.as_ref().map_or(0, |calls| calls.threads.load(Relaxed))
            };
            all.teams.lock().all.iter_mut().map(of).collect()
        };
        let all_work = async || {
            while working().iter().any(|threads| *threads != TEAM_THREADS) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut waiting = Vec::new();
        for pod in 0..500 {
            let pod = format!("pod{pod}");
            let calls = all.of(&pod).unwrap();
            waiting.extend((0..2 * TEAM_THREADS).map(|_| slow(&calls)));
            if waiting.len() % 3 == 0 {
                // A thread that has not begun when its team is closed does nothing, and counts for a moment all the same.
                tokio::time::timeout(SOON, all_work()).await.unwrap();
                all.forget(&pod);
            }
        }
        tokio::time::timeout(SOON, all_work()).await.unwrap();
        assert_eq!(all.teams.lock().all.len(), 21, "what 512 MiB are worth");
        let (ends, calls): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        drop(ends);
        for call in calls {
            tokio::time::timeout(SOON, call).await.unwrap().unwrap();
        }
        let most = |memory| AllFileCalls::new(memory, || {}).most;
        assert_eq!((most(0), most(u64::MAX)), (TEAMS_MIN, TEAMS_MAX));
    }

    #[tokio::test]
    async fn a_team_that_still_works_for_somebody_is_not_given_while_there_are_others() {
        let all = of_teams(2);
        let hung = all.of("hung").unwrap();
        let waits: Vec<_> = (0..TEAM_THREADS).map(|_| slow(&hung)).collect();
        threads(&hung, TEAM_THREADS).await;
        all.forget("hung");
        let next = all.of("next").unwrap();
        assert!(!Arc::ptr_eq(&hung, &next));
        // There are no others: better with one that works than with what hangs.
        assert!(Arc::ptr_eq(&next, &all.of("third").unwrap()));
        drop(waits);
        threads(&hung, 0).await;
        assert!(!Arc::ptr_eq(&next, &all.of("fourth").unwrap()), "it is free again");
    }

    #[tokio::test]
    async fn where_all_threads_wait_there_is_none() {
        let all = of_teams(1);
        let mut waits = Vec::new();
        for (pod, calls) in [("a", TEAM_THREADS - 1), ("b", TEAM_THREADS)] {
            let team = all.of(pod).unwrap();
            waits.extend((0..calls).map(|_| slow(&team)));
            threads(&team, if pod == "a" { calls } else { 1 }).await;
            all.forget(pod);
        }
        let refused = all.of("c").unwrap_err();
        assert_eq!(refused.to_string(), "all threads wait for the disk");
        let (ends, _calls): (Vec<_>, Vec<_>) = waits.into_iter().unzip();
        drop(ends);
        let freed = async {
            while all.of("c").is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, freed).await.unwrap();
    }

    #[tokio::test]
    async fn threads_that_have_nothing_to_do_are_no_work() {
        let all = of_teams(2);
        let first = all.of("first").unwrap();
        let calls: Vec<_> = (0..TEAM_THREADS).map(|_| slow(&first)).collect();
        threads(&first, TEAM_THREADS).await;
        for (end, call) in calls {
            drop(end);
            call.await.unwrap();
        }
        all.forget("first");
        let second = all.of("second").unwrap();
        tokio::time::sleep(THREAD_IDLE_TIMEOUT / 4).await;
        assert!(!Arc::ptr_eq(&second, &all.of("third").unwrap()), "nobody works for the first");
    }

    #[tokio::test]
    async fn what_is_held_for_calls_goes_after_them() {
        let calls = all().of("pod").unwrap();
        let places = Arc::new(());
        calls.let_go(places.clone());
        assert_eq!(Arc::strong_count(&places), 1, "there are no calls");
        let waits: Vec<_> = (0..=TEAM_THREADS).map(|_| slow(&calls)).collect();
        threads(&calls, TEAM_THREADS).await;
        calls.let_go(places.clone());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(Arc::strong_count(&places), 2, "one of them waits for a thread");
        drop(waits);
        let gone = async {
            while Arc::strong_count(&places) != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, gone).await.unwrap();
    }

    #[tokio::test]
    async fn threads_come_with_calls_and_go() {
        let calls = all().of("pod").unwrap();
        assert_eq!(calls.threads.load(Relaxed), 0);
        let (end, call) = slow(&calls);
        threads(&calls, 1).await;
        drop(end);
        call.await.unwrap();
        threads(&calls, 0).await;
    }

    #[tokio::test]
    async fn each_thread_begins_as_the_process_wants() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let begins = || {
            BEGUN.fetch_add(1, SeqCst);
        };
        let calls = AllFileCalls::new(512 << 20, begins).of("pod").unwrap();
        let waits: Vec<_> = (0..=TEAM_THREADS).map(|_| slow(&calls)).collect();
        threads(&calls, TEAM_THREADS).await;
        assert_eq!(BEGUN.load(SeqCst), TEAM_THREADS);
        drop(waits);
    }
}

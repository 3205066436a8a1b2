//! Threads for the file calls of guests: each pod has its own, so that who waits for a slow disk holds up nobody else.
//!
//! Upstream hands each call over to the runtime that it is polled in. So calls are polled inside of one that is nothing
//! but a team of threads: it drives no task, no timer and no socket, and whatever needs those is polled outside of it.
//!
//! All threads together are a small part of the device, whatever guests do: so there are so many teams, each for one pod.
//! Where there are more pods, those that come last share one. A team without calls is 4 KiB and no thread.
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
//!   (`a_team_that_still_works_for_somebody_is_not_given_while_there_are_others`);
//! - a pod that calls nothing has no thread, and threads go when they have nothing to do (`threads_come_with_calls_and_go`).

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of a team: as many of its calls are under way at a time.
pub(crate) const THREADS: usize = 4;

/// Bytes of such a thread's stack: a call goes no deeper than the system call that it makes.
const STACK: usize = 256 << 10;

/// What a thread takes of the machine, its piece of a file included, which the allocator keeps for it (72 KiB, as measured)
/// and the kernel's own stack for it.
const TOUCHED: u64 = 96 << 10;

/// The part of the guests' memory that all of these threads may take of what the agent has beside it.
const PART: u64 = 64;

/// Teams of the smallest device, and of the largest: 256 threads.
const FEWEST: usize = 8;
const MOST: usize = 64;

/// How long a thread waits for another call: a program that reads piece by piece needs no new one for each.
const IDLE: Duration = Duration::from_secs(2);

/// A team.
#[derive(Debug)]
pub(crate) struct FileCalls {
    runtime: Option<Runtime>,
    handle: Handle,
    /// Threads that are there.
    threads: Arc<AtomicUsize>,
}

impl FileCalls {
    fn new() -> io::Result<Arc<Self>> {
        let threads = Arc::new(AtomicUsize::new(0));
        let (more, fewer) = (threads.clone(), threads.clone());
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(THREADS)
            .thread_stack_size(STACK)
            .thread_keep_alive(IDLE)
            .thread_name("files")
            .on_thread_start(move || {
                more.fetch_add(1, Relaxed);
            })
            .on_thread_stop(move || {
                fewer.fetch_sub(1, Relaxed);
            })
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Arc::new(Self { runtime: Some(runtime), handle, threads }))
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
}

impl Drop for FileCalls {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A call that waits for the disk may do so for long.
            runtime.shutdown_background();
        }
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
    teams: Mutex<Teams>,
}

#[derive(Debug, Default)]
struct Teams {
    /// With the number of pods that have each. They stay: what a pod leaves behind may still have its threads.
    all: Vec<(Arc<FileCalls>, usize)>,
    /// Which of them a pod has.
    of: HashMap<String, usize>,
}

impl AllFileCalls {
    /// For a device on which guests have so much memory.
    pub(crate) fn new(memory: u64) -> Self {
        let worth = memory / PART / (THREADS as u64 * TOUCHED);
        let most = usize::try_from(worth).unwrap_or(MOST).clamp(FEWEST, MOST);
        Self { most, teams: Mutex::default() }
    }

    /// The team of this pod.
    pub(crate) fn of(&self, pod: &str) -> io::Result<Arc<FileCalls>> {
        let mut teams = self.teams.lock();
        let place = match teams.of.get(pod) {
            Some(place) => *place,
            None => teams.give(pod, self.most)?,
        };
        Ok(teams.all[place].0.clone())
    }

    /// The pod is gone. What it still waits for ends by itself.
    pub(crate) fn forget(&self, pod: &str) {
        let teams = &mut *self.teams.lock();
        if let Some(place) = teams.of.remove(pod) {
            teams.all[place].1 -= 1;
        }
    }
}

impl Teams {
    /// One that nobody uses; when there are no more to be made, the one that is used least.
    fn give(&mut self, pod: &str, most: usize) -> io::Result<usize> {
        // What pods have left behind counts as they did: it may never end.
        let used = self.all.iter().map(|(team, pods)| pods + team.threads.load(Relaxed));
        let least = used.enumerate().min_by_key(|(_, used)| *used);
        let place = match least {
            Some((place, used)) if used == 0 || most <= self.all.len() => place,
            _ => {
                self.all.push((FileCalls::new()?, 0));
                self.all.len() - 1
            }
        };
        self.all[place].1 += 1;
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
        AllFileCalls::new(512 << 20)
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
        for _ in 0..THREADS {
            begun.recv_timeout(SOON).unwrap();
        }
        assert!(begun.try_recv().is_err(), "no more of them are under way");
        // Who waits for a call here has its own timers and tasks all the same.
        let answer = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            other.run(async { spawn_blocking(|| "at once").await.unwrap() }).await
        };
        assert_eq!(tokio::time::timeout(SOON, answer).await, Ok("at once"));
        assert_eq!(most.load(SeqCst), THREADS);
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
        all.forget("pod");
        all.forget("pod");
        assert_eq!(all.teams.lock().all.iter().map(|(_, pods)| *pods).collect::<Vec<_>>(), [0]);
        // Whoever is still there goes on with what it has.
        let call = first.begin(|| spawn_blocking(|| 7));
        assert_eq!(tokio::time::timeout(SOON, call).await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn pods_without_number_have_no_more_threads_than_there_are() {
        let all = all();
        let mut waiting = Vec::new();
        for pod in 0..500 {
            let pod = format!("pod{pod}");
            let calls = all.of(&pod).unwrap();
            waiting.extend((0..2 * THREADS).map(|_| slow(&calls)));
            if waiting.len() % 3 == 0 {
                all.forget(&pod);
            }
        }
        let teams: Vec<_> = all.teams.lock().all.iter().map(|(team, _)| team.clone()).collect();
        assert_eq!(teams.len(), 21, "what 512 MiB are worth");
        for team in &teams {
            threads(team, THREADS).await;
        }
        let ends: Vec<_> = waiting
            .into_iter()
            .map(|(end, call)| {
                drop(end);
                call
            })
            .collect();
        for call in ends {
            tokio::time::timeout(SOON, call).await.unwrap().unwrap();
        }
        assert_eq!((AllFileCalls::new(0).most, AllFileCalls::new(u64::MAX).most), (FEWEST, MOST));
    }

    #[tokio::test]
    async fn a_team_that_still_works_for_somebody_is_not_given_while_there_are_others() {
        let all = AllFileCalls { most: 2, teams: Mutex::default() };
        let hung = all.of("hung").unwrap();
        let waits: Vec<_> = (0..THREADS).map(|_| slow(&hung)).collect();
        threads(&hung, THREADS).await;
        all.forget("hung");
        let next = all.of("next").unwrap();
        assert!(!Arc::ptr_eq(&hung, &next));
        // There are no others: better with one that works than with what hangs.
        assert!(Arc::ptr_eq(&next, &all.of("third").unwrap()));
        drop(waits);
        threads(&hung, 0).await;
        assert!(Arc::ptr_eq(&hung, &all.of("fourth").unwrap()));
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
}

//! The wrapper around every guest's future: what it uses, what it may use, where it runs, when it dies.
//!
//! ```text
//! Guests --3 polls that last a whole tick--> CpuBound --calm for a second--> Guests
//!    ├─ much memory ─▶ CpuBound, for good
//!    └─ killed: the guest's future is dropped, wherever it is
//! ```
//!
//! Guarantees:
//! - a guest that is killed is gone, also in the middle of a loop
//!   (`without_a_grace_period_a_spinning_guest_is_killed_at_once`);
//! - what fails under a guest is the end of that guest and of nothing else (`what_fails_under_a_guest_is_its_end`);
//! - who has much memory goes to the other lane and stays there, and who holds a thread of that lane holds up nobody,
//!   as long as there are threads (`who_holds_a_thread_holds_up_nobody_of_its_lane`);
//! - the polls of a guest with a quota take no more than its share of each period (`a_quota_makes_a_guest_wait`,
//!   `a_quota_gives_its_share_of_each_period_and_takes_debt_along`).
//!
//! Not counted: what a guest's file calls take on the threads that its pod has for these. Upstream hands the work over
//! without a word of whose it is; a path through many links may take milliseconds there.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::lanes::{Lane, Runtimes};
use crate::memory::{self, ContainerMemory};
use crate::ticker::{TICK, Ticker};

/// Period of CPU quotas, as in the kernel's CFS.
const QUOTA_PERIOD: Duration = Duration::from_millis(100);

/// A poll this long was ended by the epoch, not by the guest.
const WHOLE_TICK_POLL: Duration = TICK.saturating_sub(Duration::from_millis(2));

/// So many of them in a row, with at most [`CALM_AFTER`] between, make a CPU-bound guest.
const CPU_BOUND_POLLS: u32 = 3;

/// So long without one, and it is an ordinary guest again.
const CALM_AFTER: Duration = Duration::from_secs(1);

/// Polls shorter than this are counted by the wall clock: the thread's CPU clock costs a system call, and
/// so short a poll is rarely interrupted.
const SHORT_POLL: Duration = Duration::from_millis(1);

/// What one container has used.
#[derive(Debug, Default)]
pub struct Usage {
    /// CPU time in nanoseconds.
    pub cpu_ns: AtomicU64,
    /// How often its quota made it wait.
    pub throttled: AtomicU64,
    /// How often it moved to the lane of CPU-bound guests.
    pub demoted: AtomicU64,
    /// Requests that ended, with their instances, because memory was refused.
    pub oom_ended: AtomicU64,
}

/// A CPU quota, shared by all instances of a container.
pub(crate) struct Quota {
    per_period: u64,
    state: Mutex<Period>,
}

struct Period {
    start: Instant,
    used: u64,
}

impl Quota {
    /// `None`: a quota of nothing is none, as the kernel has it.
    pub(crate) fn new(milli: u32) -> Option<Arc<Self>> {
        let per_period = u64::from(milli) * 100_000; // 100 ms × n/1000 in ns
        let state = Mutex::new(Period { start: Instant::now(), used: 0 });
        (per_period != 0).then(|| Arc::new(Self { per_period, state }))
    }

    /// When the guest may go on, if it may not now. Debt is carried into the next period, credit is not.
    fn wait(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let periods = now.duration_since(state.start).as_nanos() / QUOTA_PERIOD.as_nanos();
        if let Ok(periods @ 1..) = u32::try_from(periods) {
            state.used = state.used.saturating_sub(self.per_period * u64::from(periods));
            state.start += QUOTA_PERIOD * periods;
        }
        (self.per_period <= state.used).then(|| state.start + QUOTA_PERIOD)
    }

    fn spend(&self, nanos: u64) {
        self.state.lock().used += nanos;
    }
}

/// What all instances of one container share.
pub(crate) struct Meter {
    pub(crate) usage: Arc<Usage>,
    pub(crate) memory: Arc<ContainerMemory>,
    pub(crate) quota: Option<Arc<Quota>>,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) kill: CancellationToken,
}

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GuestEnd<T> {
    /// By itself, with this.
    Done(T),
    /// It was killed.
    Killed,
    /// The agent failed under it: upstream panics where it gets no thread for a call.
    Failed(String),
}

/// How a turn on a lane ended.
enum Turn<T> {
    End(GuestEnd<T>),
    Move(Lane),
}

struct Metered<F: Future> {
    guest: Option<Pin<Box<F>>>,
    meter: Arc<Meter>,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
    pause: Option<Pin<Box<Sleep>>>,
    lane: Lane,
    whole_ticks: u32,
    last_whole_tick: Instant,
    precise: bool,
}

/// Runs a guest to its end and tells it to `done`.
pub(crate) fn run<F>(
    runtimes: Arc<Runtimes>,
    meter: Arc<Meter>,
    guest: F,
    done: impl FnOnce(GuestEnd<F::Output>) + Send + 'static,
) where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let killed = Box::pin(meter.kill.clone().cancelled_owned());
    let lane = if meter.memory.is_large() { Lane::CpuBound } else { Lane::Guests };
    let metered = Metered {
        guest: Some(Box::pin(guest)),
        meter,
        killed,
        pause: None,
        lane,
        whole_ticks: 0,
        last_whole_tick: Instant::now(),
        precise: false,
    };
    go(runtimes, metered, done);
}

fn go<F>(
    runtimes: Arc<Runtimes>,
    mut metered: Metered<F>,
    done: impl FnOnce(GuestEnd<F::Output>) + Send + 'static,
) where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let lane = runtimes.lane(metered.lane).clone();
    lane.spawn(async move {
        match std::future::poll_fn(|cx| metered.poll(cx)).await {
            Turn::End(ending) => done(ending),
            Turn::Move(lane) => {
                metered.lane = lane;
                go(runtimes, metered, done);
            }
        }
    });
}

impl<F: Future> Metered<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn<F::Output>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            // The guest's stack is unwound here and now; its store and sockets go with it.
            self.guest = None;
            return Poll::Ready(Turn::End(GuestEnd::Killed));
        }
        if self.throttled(cx) {
            return Poll::Pending;
        }
        let Some(guest) = &mut self.guest else { return Poll::Ready(Turn::End(GuestEnd::Killed)) };
        let meter = self.meter.clone();
        let begin = Instant::now();
        let cpu = self.precise.then(thread_cpu);
        let running = meter.ticker.enter();
        let mut poll = || guest.as_mut().poll(cx);
        // Of a guest that was broken off so, nothing is looked at again.
        let polled = catch_unwind(AssertUnwindSafe(|| match self.lane {
            Lane::Guests => poll(),
            // Those that wait for a turn go on with another thread: nobody knows how long this one takes.
            Lane::CpuBound => tokio::task::block_in_place(poll),
        }));
        drop(running);
        memory::all_moved();
        let now = Instant::now();
        let wall = now.duration_since(begin);
        self.charge(wall, cpu);
        match polled {
            Ok(Poll::Pending) => self.choose_lane(now, wall),
            Ok(Poll::Ready(output)) => {
                self.guest = None;
                Poll::Ready(Turn::End(GuestEnd::Done(output)))
            }
            Err(panic) => {
                self.guest = None;
                Poll::Ready(Turn::End(GuestEnd::Failed(panic_message(&*panic))))
            }
        }
    }

    fn throttled(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(quota) = &self.meter.quota else { return false };
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return true;
            }
            self.pause = None;
        }
        while let Some(until) = quota.wait(Instant::now()) {
            self.meter.usage.throttled.fetch_add(1, Relaxed);
            let mut pause = Box::pin(tokio::time::sleep_until(until.into()));
            if pause.as_mut().poll(cx).is_pending() {
                self.pause = Some(pause);
                return true;
            }
        }
        false
    }

    fn charge(&mut self, wall: Duration, cpu: Option<u64>) {
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let used = cpu.map_or(wall, |before| thread_cpu().saturating_sub(before));
        // Whoever polls long is measured exactly from the next poll on.
        self.precise = SHORT_POLL.as_nanos() < u128::from(wall)
            || (cpu.is_some() && self.lane == Lane::CpuBound);
        self.meter.usage.cpu_ns.fetch_add(used, Relaxed);
        if let Some(quota) = &self.meter.quota {
            quota.spend(used);
        }
    }

    fn choose_lane(&mut self, now: Instant, wall: Duration) -> Poll<Turn<F::Output>> {
        let calm = CALM_AFTER <= now.duration_since(self.last_whole_tick);
        if WHOLE_TICK_POLL <= wall {
            self.whole_ticks = if calm { 1 } else { self.whole_ticks + 1 };
            self.last_whole_tick = now;
        } else if calm {
            self.whole_ticks = 0;
        }
        let large = self.meter.memory.is_large();
        match self.lane {
            Lane::Guests if large || CPU_BOUND_POLLS <= self.whole_ticks => {
                self.meter.usage.demoted.fetch_add(1, Relaxed);
                Poll::Ready(Turn::Move(Lane::CpuBound))
            }
            Lane::CpuBound if self.whole_ticks == 0 && !large => {
                Poll::Ready(Turn::Move(Lane::Guests))
            }
            _ => Poll::Pending,
        }
    }
}

/// What a panic says.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a word".to_owned())
}

/// CPU time of this thread in nanoseconds.
fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use freewheel_link::profile::Profile;
    use freewheel_spoke_account::MemoryAccount;
    use freewheel_spoke_engine::config;
    use tokio::sync::oneshot;

    use super::*;

    fn meter() -> Arc<Meter> {
        let config = config(&Profile::candidates()[0]).unwrap();
        let ticker = Ticker::start(&wasmtime::Engine::new(&config).unwrap()).unwrap();
        Arc::new(Meter {
            usage: Arc::default(),
            memory: ContainerMemory::new(None, &MemoryAccount::node()),
            quota: None,
            ticker,
            kill: CancellationToken::new(),
        })
    }

    #[tokio::test]
    async fn what_fails_under_a_guest_is_its_end() {
        let (tell, ended) = oneshot::channel();
        let runtimes = Arc::new(Runtimes::new(1).unwrap());
        let guest = async { panic!("no thread is left") };
        run::<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>(
            runtimes.clone(),
            meter(),
            Box::pin(guest),
            |outcome| drop(tell.send(outcome)),
        );
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        assert_eq!(ended, Ok(GuestEnd::Failed("no thread is left".to_owned())));
    }

    #[tokio::test]
    async fn who_holds_a_thread_holds_up_nobody_of_its_lane() {
        let runtimes = Arc::new(Runtimes::new(1).unwrap());
        let meter = meter();
        meter.memory.set_large();
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        let mut held = Vec::new();
        for _ in 0..3 {
            let (hold, (tell, ended)) = (hold.clone(), oneshot::channel());
            held.push(ended);
            let guest = async move {
                let _ = hold.lock().recv();
            };
            run(runtimes.clone(), meter.clone(), guest, |outcome| drop(tell.send(outcome)));
        }
        let (tell, ended) = oneshot::channel();
        let guest = async {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        run(runtimes.clone(), meter.clone(), guest, |outcome| drop(tell.send(outcome)));
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        assert_eq!(ended, Ok(GuestEnd::Done(())));
        drop(release);
        for ended in held {
            assert_eq!(ended.await, Ok(GuestEnd::Done(())));
        }
    }

    #[test]
    fn a_quota_gives_its_share_of_each_period_and_takes_debt_along() {
        assert!(Quota::new(0).is_none());
        let quota = Quota::new(500).unwrap();
        let start = quota.state.lock().start;
        assert_eq!(quota.wait(start), None);
        quota.spend(70_000_000);
        assert_eq!(quota.wait(start), Some(start + QUOTA_PERIOD));
        // 20 ms of debt are left of the second period's 50.
        assert_eq!(quota.wait(start + QUOTA_PERIOD), None);
        quota.spend(30_000_000);
        assert_eq!(quota.wait(start + QUOTA_PERIOD), Some(start + QUOTA_PERIOD * 2));
        assert_eq!(quota.wait(start + QUOTA_PERIOD * 100), None);
    }
}

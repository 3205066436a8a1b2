//! All spokes of a swarm, and what is done with them.
//!
//! Sockets are shared by some of the spokes each. What ends or tells something is drawn once a second; what is waited for
//! is looked at often, and when it came is what each spoke has written down, not when it was looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use freewheel_link::quic::{Endpoint, Socket};
use freewheel_spoke_agent::fake::TokioClock;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::command::{Command, Goal};
use crate::devices::Joining;
use crate::error::SwarmError;
use crate::figures::{Sums, revisions, seconds, spread};
use crate::hollow::Hollow;
use crate::order::Order;
use crate::seen::{Counts, now};
use crate::socket::{Loss, SharedSocket};
use crate::spoke::{Common, Spoke};

/// Devices that ask to join at the same time: more would wait at the hub, which has 256 places for all.
const JOINS_AT_ONCE: usize = 64;
/// How often it is looked whether a state is there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often spokes are drawn that flap, or tell something.
const TURN: Duration = Duration::from_secs(1);
/// How long the goodbyes of all may take.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// Spokes in one process.
pub struct Swarm {
    joining: Arc<Joining>,
    common: Arc<Common>,
    loss: Arc<Loss>,
    sockets: Vec<(Arc<SharedSocket>, Endpoint)>,
    spokes: Arc<RwLock<Vec<Arc<Spoke>>>>,
    /// The number of the next device.
    next: usize,
    churn: Arc<Churn>,
    mark: Sums,
}

/// What happens by itself, in millionths of all spokes and minute.
#[derive(Debug, Default)]
struct Churn {
    flap: AtomicU32,
    report: AtomicU32,
}

/// How far a goal is.
struct Look {
    reached: u64,
    of: u64,
    /// When it was reached.
    times: Vec<u64>,
}

impl Swarm {
    /// An empty one; within a runtime.
    ///
    /// # Errors
    /// When there is no TLS to be had.
    pub fn new(order: Order) -> Result<Self, SwarmError> {
        let common = Common {
            clock: Arc::new(TokioClock::new(now() / 1000)),
            hollow: Arc::new(Hollow),
            counts: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let spokes = Arc::<RwLock<Vec<Arc<Spoke>>>>::default();
        let churn = Arc::<Churn>::default();
        common.tasks.spawn(turns(churn.clone(), spokes.clone(), common.stop.clone()));
        let mark = sums(&[], &[], &common.counts);
        Ok(Self {
            joining: Arc::new(Joining::new(order)?),
            common: Arc::new(common),
            loss: Arc::default(),
            sockets: Vec::new(),
            spokes,
            next: 0,
            churn,
            mark,
        })
    }

    /// Does what it is told, and says how that went.
    ///
    /// # Errors
    /// When devices cannot join, or what is waited for does not come.
    pub async fn run(&mut self, command: &Command) -> Result<Value, SwarmError> {
        match *command {
            Command::Join { count, over } => self.join(count, over).await,
            Command::Flap(share) => {
                self.churn.flap.store(share.millionths(), Relaxed);
                Ok(json!({}))
            }
            Command::Report(share) => {
                self.churn.report.store(share.millionths(), Relaxed);
                Ok(json!({}))
            }
            Command::Silent(share) => Ok(self.silence(share.of_one())),
            Command::Loss(share) => {
                self.loss.set(share.millionths());
                Ok(json!({}))
            }
            Command::Wait(long) => {
                sleep(long).await;
                Ok(json!({}))
            }
            Command::Mark => {
                self.mark = self.sums();
                Ok(json!({"at": self.mark.at}))
            }
            Command::Say => Ok(self.say()),
            Command::Until { goal, within } => self.until(goal, within).await,
        }
    }

    /// All say goodbye.
    pub async fn end(self) {
        self.common.stop.cancel();
        self.common.tasks.close();
        // Who does not answer in time does not hear the goodbye.
        let _ = timeout(END_TIMEOUT, self.common.tasks.wait()).await;
        for (_, endpoint) in &self.sockets {
            endpoint.close(0, "the swarm ends");
        }
    }

    /// What was seen since the mark.
    #[must_use]
    pub fn say(&self) -> Value {
        let mut told = self.sums().since(&self.mark);
        let spokes = self.spokes.read();
        told["spokes"] = json!(spokes.len());
        told["silent"] = json!(spokes.iter().filter(|spoke| self.is_silent(spoke)).count());
        told["up"] = json!(spokes.iter().filter(|spoke| spoke.is_up()).count());
        told["running"] = json!(self.running());
        told["held"] = revisions(&spokes);
        told["memory_kib"] = json!(resident());
        told
    }

    async fn join(&mut self, count: usize, over: Duration) -> Result<Value, SwarmError> {
        let (start, first) = (Instant::now(), self.next);
        let places = Arc::new(Semaphore::new(JOINS_AT_ONCE));
        let mut joins: JoinSet<Result<Spoke, SwarmError>> = JoinSet::new();
        for number in first..first + count {
            let (socket, endpoint) = self.endpoint(number)?;
            let due = start + over.mul_f64((number - first) as f64 / count as f64);
            let (joining, common, places) =
                (self.joining.clone(), self.common.clone(), places.clone());
            joins.spawn(async move {
                sleep_until(due).await;
                // Nobody closes it.
                let _place = places.acquire().await;
                let (cluster, dialer) = joining.join(number, endpoint).await?;
                Ok(Spoke::start(&common, number, socket, cluster, dialer)?)
            });
            self.next = number + 1;
        }
        while let Some(joined) = joins.join_next().await {
            self.spokes.write().push(Arc::new(joined??));
        }
        Ok(json!({"joined": count, "seconds": start.elapsed().as_secs_f64()}))
    }

    /// The socket of the spoke with this number, made when it is the first there.
    fn endpoint(&mut self, number: usize) -> Result<(usize, Endpoint), SwarmError> {
        let order = &self.joining.order;
        let which = number / order.per_socket.max(1);
        while self.sockets.len() <= which {
            let address = order.address(self.sockets.len());
            let socket = SharedSocket::bind(address, self.loss.clone());
            let socket = Arc::new(socket.map_err(SwarmError::Socket)?);
            let mut seed = [0; 32];
            fastrand::Rng::new().fill(&mut seed);
            let endpoint = Endpoint::spoke(Socket::Simulated(socket.clone(), seed));
            self.sockets.push((socket, endpoint.map_err(SwarmError::Socket)?));
        }
        Ok((which, self.sockets[which].1.clone()))
    }

    /// So many of the sockets carry nothing, and all others do.
    fn silence(&self, share: f64) -> Value {
        let silent = share * self.sockets.len() as f64;
        for (number, (socket, _)) in self.sockets.iter().enumerate() {
            socket.set_silent((number as f64) < silent);
        }
        let spokes = self.spokes.read();
        json!({"silent": spokes.iter().filter(|spoke| self.is_silent(spoke)).count()})
    }

    fn is_silent(&self, spoke: &Spoke) -> bool {
        self.sockets[spoke.socket].0.is_silent()
    }

    /// Containers that run.
    fn running(&self) -> u64 {
        let counts = &self.common.counts;
        let ended = counts.ends.load(Relaxed);
        counts.starts.load(Relaxed).saturating_sub(ended)
    }

    fn sums(&self) -> Sums {
        sums(&self.sockets, &self.spokes.read(), &self.common.counts)
    }

    async fn until(&self, goal: Goal, within: Duration) -> Result<Value, SwarmError> {
        let start = Instant::now();
        loop {
            let Look { reached, of, times } = self.look(goal);
            if reached == of {
                let mut told = spread(times);
                told["reached"] = json!(reached);
                told["seconds"] = json!(start.elapsed().as_secs_f64());
                if let Some(last) = told["last"].as_u64() {
                    told["since_mark"] = json!(seconds(self.mark.at, last));
                }
                return Ok(told);
            }
            if within <= start.elapsed() {
                return Err(SwarmError::Late { goal, reached, of, within });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn look(&self, goal: Goal) -> Look {
        if let Goal::Running(of) = goal {
            return Look { reached: self.running(), of, times: Vec::new() };
        }
        let spokes = self.spokes.read();
        let (mut of, mut times) = (0, Vec::with_capacity(spokes.len()));
        for spoke in spokes.iter().filter(|spoke| !self.is_silent(spoke)) {
            of += 1;
            let greeted = spoke.seen.greeted();
            times.extend(match goal {
                Goal::Up => spoke.is_up().then_some(greeted),
                Goal::Back => (self.mark.at <= greeted && spoke.is_up()).then_some(greeted),
                Goal::Held(revision) => spoke.seen.held_since(revision),
                Goal::Running(_) => None,
            });
        }
        Look { reached: times.len() as u64, of, times }
    }
}

fn sums(sockets: &[(Arc<SharedSocket>, Endpoint)], spokes: &[Arc<Spoke>], counts: &Counts) -> Sums {
    Sums::now(sockets.iter().map(|(socket, _)| &**socket), spokes, counts)
}

/// Draws who flaps and who tells something, until the end.
async fn turns(churn: Arc<Churn>, spokes: Arc<RwLock<Vec<Arc<Spoke>>>>, stop: CancellationToken) {
    let mut every = interval(TURN);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut flaps, mut reports) = (0.0, 0.0);
    let mut chance = fastrand::Rng::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let spokes = spokes.read();
        draw(&spokes, &churn.flap, &mut flaps, &mut chance, Spoke::flap);
        draw(&spokes, &churn.report, &mut reports, &mut chance, Spoke::report);
    }
}

/// As many as are due in a turn; what is left of one is `owed` to the next.
fn draw(
    spokes: &[Arc<Spoke>],
    rate: &AtomicU32,
    owed: &mut f64,
    chance: &mut fastrand::Rng,
    act: fn(&Spoke),
) {
    *owed += f64::from(rate.load(Relaxed)) / 1e6 * spokes.len() as f64 * TURN.as_secs_f64() / 60.0;
    while 1.0 <= *owed && !spokes.is_empty() {
        *owed -= 1.0;
        act(&spokes[chance.usize(..spokes.len())]);
    }
}

/// KiB that this process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

//! The loop: one input after another, then every pod that is concerned, then the ledger, then the hub.
//!
//! ```text
//! inputs ─▶ take ─▶ turns ─▶ decide ─▶ act ─▶ ledger ─▶ reports, Took
//!
//! each with a state of its own, and nothing of the others:
//! status    what the hub is told
//! plan_source  what the plan wants of each pod
//! images    the modules of containers
//! sandboxes  what pods have outside of their containers: network, volumes, account, logs
//! storage   what pods may have on the disk, and have
//! pressure  what the device is short of, and what is to be done about it
//! recovery  in which order pods come back when the agent itself keeps dying
//! turns     whose turn it is
//! persist   when the ledger is written
//! wall_clock  whether the clock is set meanwhile
//! orphans   directories of pods that nobody knows any more
//!
//! what the agent does with them:
//! plan      records of a plan part → pods, addresses, services
//! admit     whether a pod that is new is taken on
//! updates   what a pod's source wants → the pod (pod_source: how sources say it)
//! news      what containers and modules have come to
//! act       one decided action → ports
//! sandbox   a pod's sandbox is made, and what is left of it goes
//! file_work  its volumes are made and mounts are opened, beside the agent
//! evict     room is made, pods go
//! revive    pods are brought back
//! tell      the ledger is written and acknowledged
//! ```
//!
//! Nothing is waited for inside of a turn but the ledger, what a start's log needs and what takes a directory away: give
//! the agent a thread of its own where a slow card must not hold up the rest.
//!
//! Guarantees:
//! - containers start without waiting until their plan is durable
//!   (`a_plan_is_not_acknowledged_while_the_disk_is_full`);
//! - what is logged while a pod is started or stopped says which one
//!   (`what_is_logged_of_a_pod_s_start_says_which_it_is`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::digest::SetDigest;
use freewheel_link::generation::Generation;
use freewheel_link::report::NodeStatusV1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::eviction::Threshold;
use crate::files::Files;
use crate::ledger::{Ledger, LedgerError};
use crate::pods::{DecisionContext, Pod};
use crate::ports::{Input, Ports};
use images::Images;
use orphans::Sweep;
use persist::Keep;
use plan_source::PlanSource;
use pressure::Pressure;
use recovery::Recovery;
use sandboxes::Sandboxes;
use status::Status;
use storage::{Measured, Meter};
use turns::Turns;
use wall_clock::WallClock;

mod act;
mod admit;
mod evict;
mod file_work;
mod images;
mod news;
mod orphans;
mod persist;
mod plan;
mod plan_source;
mod pod_source;
mod pressure;
mod recovery;
mod revive;
mod sandbox;
mod sandboxes;
mod status;
mod storage;
mod tell;
#[cfg(test)]
mod tests;
mod turns;
mod updates;
mod wall_clock;

/// Inputs taken in one turn at most, so that timers and acknowledgements get theirs.
const TURN_INPUTS_MAX: usize = 256;
/// Rounds of decisions for one pod in one turn: more than any pod needs, fewer than for ever.
const DECISION_ROUNDS_MAX: usize = 64;

/// What the agent is told once.
#[derive(Clone)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The device.
    pub node: NodeStatusV1,
    /// Where volumes are made.
    pub files: Arc<dyn Files>,
    /// From where on the device is short of something, and pods are evicted.
    pub thresholds: Vec<Threshold>,
}

/// The agent.
pub struct Agent {
    ports: Ports,
    ledger: Ledger,
    keep: Keep,
    plan: PlanSource,
    pods: BTreeMap<String, Pod>,
    /// UIDs of pods that are gone while their source still wants them: they are not taken on again.
    gone: BTreeSet<String>,
    images: Images,
    sandboxes: Sandboxes,
    status: Status,
    turns: Turns,
    meter: Meter,
    measured: Option<mpsc::Receiver<Measured>>,
    /// Whether directories of pods that nobody knows were looked for.
    sweep: Sweep,
    recovery: Recovery,
    wall_clock: WallClock,
    pressure: Pressure,
}

impl Agent {
    /// Opens the ledger and takes up what it holds. Nothing runs before [`Agent::run`].
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub fn open(ports: Ports, config: Config) -> Result<Self, LedgerError> {
        let ledger = Ledger::open(ports.disk.clone(), &config.node.boot_id)?;
        let (meter, measured) = Meter::new();
        let mut agent = Self {
            plan: PlanSource::default(),
            pods: BTreeMap::new(),
            gone: BTreeSet::new(),
            images: Images::new(ports.modules.clone()),
            sandboxes: Sandboxes::new(&ports, config.node.address, (config.files, config.data)),
            status: Status::new(&ports, ledger.epoch(), config.node),
            turns: Turns::default(),
            meter,
            measured: Some(measured),
            sweep: Sweep::Waiting,
            recovery: Recovery::Well,
            wall_clock: WallClock::new((ports.clock.now(), ports.clock.unix_ms())),
            pressure: Pressure::new(config.thresholds),
            keep: Keep::new(&ledger, ports.clock.now()),
            ports,
            ledger,
        };
        agent.tell_refusal();
        agent.tell_node();
        agent.restore();
        agent.begin_recovery();
        Ok(agent)
    }

    /// How often the agent has started on this ledger.
    #[must_use]
    pub const fn boot_epoch(&self) -> u64 {
        self.ledger.epoch()
    }

    /// The plan that is held, for the greeting.
    #[must_use]
    pub const fn held(&self) -> (Generation, SetDigest) {
        (self.ledger.generation(), self.ledger.digest())
    }

    /// Runs until `stop`, [`Input::Shutdown`] or the end of `inputs`. The ledger is flushed; pods are left as
    /// they are, and come back at the next start.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
        let (generation, pods) = (self.ledger.generation().revision, self.pods.len());
        info!(generation, pods, epoch = self.ledger.epoch(), "agent started");
        self.settle();
        // The meter's other end: it is open as long as the agent is.
        let Some(mut measured) = self.measured.take() else { return };
        let finished = self.sandboxes.jobs.finished();
        loop {
            let wake = self.wake();
            let timer = async {
                match wake {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                input = inputs.recv() => {
                    let Some(input) = input else { break };
                    if !self.handle_all(input, &mut inputs) {
                        break;
                    }
                }
                Some(measured) = measured.recv() => self.handle_measured(&measured),
                // What it was, settling takes.
                () = finished.news.notified() => {}
                () = timer => {}
            }
            self.settle();
        }
        self.rest();
        info!("agent stopped");
    }

    /// Takes an input and what else has come meanwhile; whether to go on.
    fn handle_all(&mut self, first: Input, inputs: &mut mpsc::Receiver<Input>) -> bool {
        let mut next = Some(first);
        for _ in 0..TURN_INPUTS_MAX {
            match next {
                None => break,
                Some(Input::Shutdown) => return false,
                Some(input) => self.handle(input),
            }
            next = inputs.try_recv().ok();
        }
        if let Some(left) = next {
            if matches!(left, Input::Shutdown) {
                return false;
            }
            self.handle(left);
        }
        true
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Plan(part) => self.apply_plan(part),
            Input::Started(id) => self.handle_started(&id),
            Input::Exited(id, exit) => self.handle_exited(&id, &exit),
            Input::InstanceOutOfMemory(id, _) => self.handle_instance_out_of_memory(&id),
            Input::Probed(id, kind, outcome) => self.handle_probed(&id, kind, &outcome),
            Input::Module(digest, outcome) => self.handle_module(digest, outcome),
            Input::Connected(session) => {
                let up = session.is_some();
                info!(up, "link to the hub");
                self.status.connected(session);
                if up {
                    self.acknowledge();
                }
            }
            Input::ReportsTaken(stamp) => self.status.acknowledged(stamp),
            Input::ReportRefused(stamp, why) => {
                let pod = self.status.refused(stamp);
                warn!(pod, reason = why.reason, error = %why, "the hub cannot keep a report");
            }
            Input::NodePort(news) => self.handle_node_port(news),
            Input::Node(node) => self.handle_node(node),
            Input::Signals(left) => self.handle_signals(&left),
            Input::Shutdown => {}
        }
    }

    fn time(&self) -> (Duration, u64) {
        (self.ports.clock.now(), self.ports.clock.unix_ms())
    }

    /// Until the next timer; `None`: only an input changes anything.
    fn wake(&self) -> Option<Duration> {
        let all = [self.turns.next(), Some(self.keep.due()), self.meter.due(), self.recovery.due()];
        let next = all.into_iter().flatten().min()?;
        Some(next.saturating_sub(self.ports.clock.now()))
    }

    /// The wall clock was set meanwhile: what was read from it moves along.
    fn follow_wall_clock(&mut self) {
        let (now, unix) = self.time();
        let Some(expected) = self.wall_clock.observe((now, unix)) else { return };
        info!(from = expected, to = unix, "the wall clock was set");
        for (uid, pod) in &mut self.pods {
            if pod.move_start(expected, unix) {
                self.turns.touch(uid);
            }
        }
    }

    fn measure(&mut self) {
        let place = self.sandboxes.place();
        let (shortage, now) = (self.pressure.shortage(), self.ports.clock.now());
        self.meter.measure(self.pods.values(), place, shortage, now);
    }

    /// Brings everything that is concerned to rest.
    fn settle(&mut self) {
        self.follow_wall_clock();
        self.recover();
        self.do_file_jobs();
        // What is done to files on the spot, or has ended meanwhile, is news of pods.
        for _ in 0..DECISION_ROUNDS_MAX {
            for uid in self.turns.take(self.ports.clock.now()) {
                self.sync_pod(&uid);
            }
            self.give_addresses();
            if !self.turns.are_due() {
                break;
            }
        }
        self.images.keep(self.pods.values());
        self.measure();
        self.store();
    }

    /// One pod: decide and act until there is nothing to do, then tell.
    fn sync_pod(&mut self, uid: &str) {
        for _ in 0..DECISION_ROUNDS_MAX {
            let now = self.ports.clock.now();
            let Some(pod) = self.pods.get(uid) else { return };
            let decision = crate::pods::decide::decide(
                pod,
                DecisionContext { now, modules: self.images.known() },
            );
            if decision.actions.is_empty() {
                self.turns.set(uid, decision.wake);
                break;
            }
            let _here = pod.span().entered();
            let mut progress = false;
            for action in decision.actions {
                progress |= self.act(uid, action);
            }
            if !progress {
                self.turns.set(uid, decision.wake);
                break;
            }
        }
        self.sandboxes.jobs.drop_opened(uid);
        self.report_status(uid);
    }

    /// Remembers a pod's state and tells the hub when it has changed; its end once that is durable. Of what the hub
    /// knows better nothing is kept either: the next life would take a guess for what this one has seen.
    fn report_status(&mut self, uid: &str) {
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| !pod.is_known_better()) else { return };
        if let Err(error) = self.ledger.keep_pod(pod.state()) {
            warn!(error = &error as &dyn std::error::Error, pod = uid, "state is not kept");
        }
        if pod.done().is_some() && !pod.has_told_end() {
            self.keep.pod_ended(uid);
        } else {
            self.status.pod(pod, self.images.known());
        }
    }
}

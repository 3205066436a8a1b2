//! One pod as the agent remembers it: its record, what was made for it, and each container's state.
//!
//! ```text
//! decide    (pod, surroundings) → what to do next        pure
//! status    (pod, surroundings) → what the hub is told   pure
//! backoff   how long a crashed container waits
//! sandbox   what was made for it: address, network, volumes
//! storage   what it may have on the disk
//! container one container: Fresh ─▶ Starting ─▶ Running ─▶ Ended ─▶ Starting …
//! readiness whether a container has started and is ready
//! probes    what its probes have come to, and when they are due
//! events    in kubelet's words
//! ```
//!
//! Guarantees:
//! - facts (started, exited) about an older start than the current one change nothing
//!   (`news_about_an_older_start_changes_nothing`);
//! - a pod of which the hub knows how it has ended is not run, and what the hub knows is not said away
//!   (`what_has_ended_by_the_hubs_word_does_not_run_again`);
//! - what the hub says of its end goes before what this device says (`the_hubs_word_of_an_end_goes_first`), and when it
//!   is taken back the hub hears it again (`an_end_that_is_taken_back_is_told_again`);
//! - a grace period that is made shorter counts from when it is heard of, and never ends later than the one before
//!   (`a_shorter_grace_period_counts_from_when_it_is_heard_of`);
//! - a container that has ended for good is not started again where the hub knows and the ledger does not
//!   (`a_container_that_has_ended_by_the_hubs_word_is_not_started_again`);
//! - a start is counted on from those that have left their logs, whatever the ledger knows
//!   (`starts_are_counted_on_from_the_logs_that_a_lost_ledger_left`,
//!   `a_first_start_that_only_its_log_knows_is_not_the_first_again`).
//!
//! Decisions where Kubernetes leaves room: containers that ran when the agent ended count as ended with 137,
//! `Error`, and start again at once with one restart more, as after a reboot of a node; init containers
//! that had succeeded are not run again, because their emptyDirs are still there and a spoke must
//! come up without what they may have waited for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::ended::ContainersEndedV1;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{ContainerV1, PodEndedV1, PodV1, Protocol};
use freewheel_link::probes::PodProbesV1;
use freewheel_link::report::{PhaseV1, PodStatusV1, UnixMillis};
use tracing::{Span, info_span};

use crate::addresses::Lease;
use crate::ledger::{PodSource, PodStateV1};
use crate::volumes::LoggedStart;

pub mod backoff;
pub mod container;
pub mod decide;
pub mod events;
pub mod probes;
mod readiness;
pub mod sandbox;
pub mod status;
pub mod storage;

pub use container::{Container, ContainerState, Failure, Pull};
pub use probes::Probes;
pub use sandbox::{Sandbox, Volumes};

/// A clock that says less than this (2026-01-01) was not set since the device has started.
const CLOCK_SET_SINCE_MILLIS: UnixMillis = 1_767_225_600_000;

/// A module as far as the agent knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Module {
    /// Asked for; the answer comes later.
    Fetching,
    /// On disk and verified.
    Ready {
        /// Where.
        path: PathBuf,
    },
    /// Cannot be had for now; whoever fetches tries again.
    Problem {
        /// Waiting reason such as `ErrImagePull`.
        reason: String,
        /// For the user.
        message: String,
    },
}

/// What a decision sees beside the pod itself.
#[derive(Clone, Copy, Debug)]
pub struct DecisionContext<'a> {
    /// Monotonic time.
    pub now: Duration,
    /// Modules asked for so far.
    pub modules: &'a BTreeMap<Digest, Module>,
}

/// A pod on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    /// When what still runs is killed.
    pub until: Duration,
}

/// What is to become of a pod that is not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs, or is on its way there.
    Live,
    /// It has more than it may: it stops, and is done then.
    Evicted(storage::Evicted),
    /// It has ended for good.
    Done {
        /// How.
        done: Done,
        /// The address that it had: shown, but no longer its own.
        ip: Option<IpAddr>,
    },
}

/// How a pod ended for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// `Succeeded` or `Failed`.
    pub phase: PhaseV1,
    /// status.reason, else empty.
    pub reason: String,
    /// status.message, else empty.
    pub message: String,
}

impl Done {
    /// How the hub says that it has ended. A part that cannot be read keeps the pod from starting: see
    /// [`crate::admission::check`].
    fn of_spec(spec: &PodV1) -> Option<Self> {
        let PodEndedV1 { failed, reason, message } = spec.parts.get().ok().flatten()?;
        let phase = if failed { PhaseV1::Failed } else { PhaseV1::Succeeded };
        Some(Self { phase, reason, message })
    }
}

/// One pod.
#[derive(Debug)]
pub struct Pod {
    /// Who wants it.
    pub source: PodSource,
    /// Its realm.
    pub realm: ClusterName,
    /// What its source wants it to be, kept when it is not wanted any more.
    pub spec: PodV1,
    /// Why this spoke will not run it: (reason, message).
    pub refused: Option<(String, String)>,
    /// What would protect it and this agent lacks: (reason, message). Nothing of it runs until it is known, or gone.
    pub guard: Option<(String, String)>,
    /// How it has ended, as the hub knows: nothing of it runs again, whatever this device knows of it.
    pub ended: Option<Done>,
    /// Its record says so no more. What has ended stays so, and the hub is to hear it again.
    pub taken_back: bool,
    /// What was made for it.
    pub sandbox: Sandbox,
    /// What is to become of it, unless it is deleted.
    pub fate: Fate,
    /// When the agent took it on, by the wall clock.
    pub started: UnixMillis,
    /// Monotonic time that corresponds to `started`, as far as clocks allow.
    born: Duration,
    /// How old it was at `born`: it may be older than this agent.
    age_at_birth: Duration,
    /// This agent took it on: `started` is by the clock as this one knows it.
    own: bool,
    /// It waits until the agent, which ended so many times in a row, brings it back.
    pub held: Option<u32>,
    /// Init containers and sidecars have not all come up since the pod or the agent started.
    pub initializing: bool,
    /// Deleted, or no longer wanted.
    pub termination: Option<Termination>,
    /// Init containers, in the order of the record.
    pub init: Vec<Container>,
    /// Containers, in the order of the record.
    pub containers: Vec<Container>,
    /// Why hostPorts of it are not open.
    pub closed_ports: BTreeMap<(u16, Protocol), String>,
    /// Its volumes are to be made, and were not tried yet.
    pub volumes_asked: bool,
    /// What is at work in its directory beside the agent: nothing of that is taken away meanwhile.
    pub files_at_work: usize,
    /// What the hub was last told.
    pub reported: Option<PodStatusV1>,
}

/// What an earlier life of the agent has left of a pod.
#[derive(Debug, Default)]
pub struct Left<'a> {
    /// What the ledger knows.
    pub state: Option<&'a PodStateV1>,
    /// The address that it had.
    pub lease: Option<Lease>,
    /// The newest start of each container of which there is a log. The ledger may know less: it was lost, or the power
    /// went before it had reached the disk.
    pub logged: BTreeMap<String, LoggedStart>,
}

impl Left<'_> {
    /// Whether no life before this one has had it.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.state.is_none() && self.logged.is_empty()
    }
}

/// Which container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// One of `init`.
    Init(usize),
    /// One of `containers`.
    Main(usize),
}

impl Pod {
    /// A pod seen for the first time, or again after the agent's restart.
    #[must_use]
    pub fn new(
        source: PodSource,
        realm: ClusterName,
        spec: PodV1,
        left: Left<'_>,
        (now, unix): (Duration, UnixMillis),
    ) -> Self {
        let Left { state: kept, lease, logged } = left;
        let started = kept.and_then(|state| state.started).unwrap_or(unix);
        let ended: Option<ContainersEndedV1> = spec.parts.get().ok().flatten();
        let ended = ended.map(|ended| ended.containers).unwrap_or_default();
        // A part that cannot be read keeps the pod from starting: see [`crate::admission::check`].
        let probes: Option<PodProbesV1> = spec.parts.get().ok().flatten();
        let of = |list: &[ContainerV1]| {
            let known = kept.map(|state| state.containers.as_slice()).unwrap_or_default();
            let known = container::Known { known, logged: &logged, ended: &ended };
            let one = |c: &ContainerV1| {
                let probes = Probes::of(&c.name, probes.as_ref());
                Container { probes, ..Container::new(&c.name, &known, now, unix) }
            };
            list.iter().map(one).collect()
        };
        let ended = Done::of_spec(&spec);
        let done = kept.and_then(|state| Some((state.done.clone()?, state.ip)));
        let mut pod = Self {
            source,
            realm,
            refused: crate::admission::check(&spec).err(),
            guard: None,
            taken_back: false,
            sandbox: lease.map_or(Sandbox::Absent, Sandbox::Kept),
            fate: done.map_or(Fate::Live, |((phase, reason, message), ip)| Fate::Done {
                // The ledger may have lost what the hub was told since.
                done: ended.clone().unwrap_or(Done { phase, reason, message }),
                ip,
            }),
            ended,
            started,
            born: now,
            // A clock that went backwards makes the pod young.
            age_at_birth: Duration::from_millis(unix.saturating_sub(started)),
            own: kept.is_none_or(|state| state.started.is_none()),
            held: None,
            initializing: true,
            termination: None,
            init: of(&spec.init),
            containers: of(&spec.containers),
            closed_ports: BTreeMap::new(),
            volumes_asked: false,
            files_at_work: 0,
            reported: None,
            spec,
        };
        pod.note_deletion(now);
        pod
    }

    /// Why nothing of it starts, as (reason, message).
    #[must_use]
    pub fn barred(&self) -> Option<&(String, String)> {
        self.refused.as_ref().or(self.guard.as_ref())
    }

    /// Takes over a changed record of the same pod. `false`: it has other containers, which Kubernetes forbids; the
    /// pod stays as it is, and can be deleted.
    pub fn update(&mut self, spec: PodV1, now: Duration) -> bool {
        let same_shape = names(&self.spec.init).eq(names(&spec.init))
            && names(&self.spec.containers).eq(names(&spec.containers));
        self.hear_end(Done::of_spec(&spec));
        if same_shape {
            self.refused = crate::admission::check(&spec).err();
            self.spec = spec;
            self.forget_failures();
        } else {
            self.spec.deleting = spec.deleting;
        }
        self.note_deletion(now);
        same_shape
    }

    /// Containers that run and are asked by this record to run within other limits: they keep theirs until they start
    /// again.
    #[must_use]
    pub fn resized_by(&self, spec: &PodV1) -> Vec<Which> {
        let asked = |one: &ContainerV1| (one.memory_limit, one.cpu_limit_milli, one.requests);
        let of = |now: &[ContainerV1], then: &[ContainerV1], all: &[Container]| -> Vec<usize> {
            let runs = |one: &Container| matches!(one.state, ContainerState::Running { .. });
            let pairs = now.iter().zip(then).zip(all).enumerate();
            let changed =
                pairs.filter(|(_, ((now, then), one))| asked(now) != asked(then) && runs(one));
            changed.map(|(at, _)| at).collect()
        };
        let init = of(&spec.init, &self.spec.init, &self.init).into_iter().map(Which::Init);
        let main = of(&spec.containers, &self.spec.containers, &self.containers);
        init.chain(main.into_iter().map(Which::Main)).collect()
    }

    /// What the hub says of its end goes before what this device says of it, and cannot be undone.
    fn hear_end(&mut self, end: Option<Done>) {
        let Some(end) = end else {
            if self.ended.is_some() && !std::mem::replace(&mut self.taken_back, true) {
                self.reported = None;
            }
            return;
        };
        if let Fate::Done { done, .. } = &mut self.fate {
            done.clone_from(&end);
        }
        self.ended = Some(end);
        self.taken_back = false;
    }

    /// It is deleted, and nothing else is known of its record.
    pub fn delete(&mut self, grace: u32, now: Duration) {
        self.spec.deleting = Some(grace);
        self.note_deletion(now);
    }

    /// Its source wants it no more: it ends as if deleted with its own grace period.
    pub fn dropped(&mut self, now: Duration) {
        self.end_within(self.spec.grace_seconds, now);
    }

    fn note_deletion(&mut self, now: Duration) {
        if let Some(grace) = self.spec.deleting {
            self.end_within(grace, now);
        }
    }

    /// A grace period can be shortened, never stretched. It counts from now, as with kubelet: what is asked to end
    /// sooner is still given the time that it is told.
    fn end_within(&mut self, grace: u32, now: Duration) {
        let until = now + Duration::from_secs(grace.into());
        let before = self.termination.as_ref().map(|termination| termination.until);
        self.termination = Some(Termination { until: before.map_or(until, |old| old.min(until)) });
    }

    /// How it ended, if it has ended for good.
    #[must_use]
    pub const fn done(&self) -> Option<&Done> {
        match &self.fate {
            Fate::Done { done, .. } => Some(done),
            Fate::Live | Fate::Evicted(_) => None,
        }
    }

    /// Whether the hub was told that it has ended.
    #[must_use]
    pub fn has_told_end(&self) -> bool {
        let phase = self.reported.as_ref().map(|reported| reported.phase);
        matches!(phase, Some(PhaseV1::Succeeded | PhaseV1::Failed))
    }

    /// It has ended for good.
    pub fn finish(&mut self, done: Done) {
        self.fate = Fate::Done { done, ip: self.sandbox.ip().map(Into::into) };
    }

    /// Whether something may be made in its directory.
    #[must_use]
    pub const fn may_have_volumes(&self) -> bool {
        self.sandbox.is_up() && self.termination.is_none() && self.done().is_none()
    }

    /// Whether nothing of it is on its way out.
    #[must_use]
    pub const fn stays(&self) -> bool {
        matches!(self.fate, Fate::Live) && self.termination.is_none() && self.ended.is_none()
    }

    /// Whether the hub knows how it has ended and this device knows nothing of it, or would have to guess: what it says
    /// would be less.
    #[must_use]
    pub fn is_known_better(&self) -> bool {
        let all = || self.init.iter().chain(&self.containers);
        self.ended.is_some()
            && !self.taken_back
            && self.reported.is_none()
            && (all().any(|one| one.guessed) || all().all(|one| one.state == ContainerState::Fresh))
    }

    /// Whether it can be made to go: one that is being deleted may take its time, and has its part of the device until
    /// it is gone.
    #[must_use]
    pub const fn may_be_evicted(&self) -> bool {
        matches!(self.fate, Fate::Live)
    }

    /// Its address, or the one that it had.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.fate {
            Fate::Done { ip, .. } => *ip,
            Fate::Live | Fate::Evicted(_) => self.sandbox.ip().map(Into::into),
        }
    }

    /// Something that a container waited for may have come.
    pub fn forget_failures(&mut self) {
        for container in self.init.iter_mut().chain(&mut self.containers) {
            container.failure = None;
        }
        self.sandbox.try_volumes_at_once();
    }

    /// How long the pod has been active on this spoke.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        self.age_at_birth + now.saturating_sub(self.born)
    }

    /// The wall clock was set. A start that was read from it before moves with it, so that the pod is as old as before;
    /// whether it has moved. One of an earlier life was read from this clock if that has never been set since.
    pub fn move_start(&mut self, from: UnixMillis, to: UnixMillis) -> bool {
        if !self.own && (from < self.started || CLOCK_SET_SINCE_MILLIS <= from) {
            return false;
        }
        self.started = self.started.saturating_add(to).saturating_sub(from);
        true
    }

    /// The container and its part of the record.
    #[must_use]
    pub fn at(&self, which: Which) -> Option<(&Container, &ContainerV1)> {
        match which {
            Which::Init(i) => Some((self.init.get(i)?, self.spec.init.get(i)?)),
            Which::Main(i) => Some((self.containers.get(i)?, self.spec.containers.get(i)?)),
        }
    }

    /// The container to be changed.
    pub fn at_mut(&mut self, which: Which) -> Option<&mut Container> {
        match which {
            Which::Init(i) => self.init.get_mut(i),
            Which::Main(i) => self.containers.get_mut(i),
        }
    }

    /// The container with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Which> {
        let init = self.init.iter().position(|c| c.name == name).map(Which::Init);
        init.or_else(|| self.containers.iter().position(|c| c.name == name).map(Which::Main))
    }

    /// Where what is logged of it belongs.
    #[must_use]
    pub fn span(&self) -> Span {
        let PodV1 { namespace, name, uid, .. } = &self.spec;
        info_span!("pod", cluster = %self.realm, namespace, name, uid)
    }

    /// What outlives the agent.
    #[must_use]
    pub fn state(&self) -> PodStateV1 {
        PodStateV1 {
            realm: self.realm.clone(),
            uid: self.spec.uid.clone(),
            source: self.source,
            namespace: self.spec.namespace.clone(),
            name: self.spec.name.clone(),
            ip: self.ip(),
            started: Some(self.started),
            done: self.done().map(|done| (done.phase, done.reason.clone(), done.message.clone())),
            containers: self.init.iter().chain(&self.containers).map(Container::state).collect(),
        }
    }
}

fn names(list: &[ContainerV1]) -> impl Iterator<Item = &str> {
    list.iter().map(|c| c.name.as_str())
}

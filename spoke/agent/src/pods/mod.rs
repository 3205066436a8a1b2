//! One pod as the agent remembers it: its record, what was made for it, and each container's state.
//!
//! ```text
//! decide    (pod, surroundings) → what to do next        pure
//! status    (pod, surroundings) → what the hub is told   pure
//! backoff   how long a crashed container waits
//! storage   what it may have on the disk
//! container one container: Fresh ─▶ Starting ─▶ Running ─▶ Ended ─▶ Starting …
//! events    in kubelet's words
//! ```
//!
//! Guarantees: facts (started, exited) about an older start than the current one change nothing.
//!
//! Decisions where Kubernetes leaves room: containers that ran when the agent ended count as ended with 137,
//! `Error`, and start again at once with one restart more, as after a reboot of a node; init containers
//! that had succeeded are not run again, because their emptyDirs are still there and a spoke must
//! come up without what they may have waited for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{ContainerV1, PodV1};
use freewheel_link::report::{PhaseV1, PodStatusV1, UnixMillis};

use crate::ledger::PodStateV1;

pub mod backoff;
pub mod container;
pub mod decide;
pub mod events;
pub mod status;
pub mod storage;

pub use container::{Container, Pull, State};

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
pub struct Sight<'a> {
    /// Monotonic time.
    pub now: Duration,
    /// Modules asked for so far.
    pub modules: &'a BTreeMap<Digest, Module>,
}

/// A pod's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// To be made.
    Absent,
    /// Could not be made.
    Failed {
        /// Why, for the user.
        message: String,
        /// When it was tried.
        at: Duration,
    },
    /// There.
    Made,
}

/// A pod on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// When what still runs is killed.
    pub until: Duration,
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

/// One pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its realm.
    pub realm: ClusterName,
    /// Its record, kept after the plan has dropped it.
    pub spec: PodV1,
    /// Why this spoke will not run it: (reason, message).
    pub refused: Option<(String, String)>,
    /// Its address, once it has one.
    pub ip: Option<Ipv4Addr>,
    /// Its network exists.
    pub network: bool,
    /// Its volumes.
    pub volumes: Volumes,
    /// When the agent took it on, by the wall clock.
    pub started: UnixMillis,
    /// Monotonic time that corresponds to `started`, as far as clocks allow.
    born: Duration,
    /// How old it was at `born`: it may be older than this agent.
    age_at_birth: Duration,
    /// Init containers and sidecars have not all come up since the pod or the agent started.
    pub rising: bool,
    /// Deleted, or no longer planned.
    pub ending: Option<Ending>,
    /// Has more on the disk than it may.
    pub evicted: Option<storage::Evicted>,
    /// Ended for good.
    pub done: Option<Done>,
    /// Nothing of it is left: the hub was told.
    pub gone: bool,
    /// Init containers, in the order of the record.
    pub init: Vec<Container>,
    /// Containers, in the order of the record.
    pub containers: Vec<Container>,
    /// What the hub was last told.
    pub said: Option<PodStatusV1>,
    /// When to decide again.
    pub wake: Option<Duration>,
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
    /// A pod seen for the first time, or (with `kept`) again after the agent's restart.
    #[must_use]
    pub fn new(
        realm: ClusterName,
        spec: PodV1,
        kept: Option<&PodStateV1>,
        now: Duration,
        unix: UnixMillis,
    ) -> Self {
        let started = kept.and_then(|state| state.started).unwrap_or(unix);
        let of = |list: &[ContainerV1]| {
            let known = kept.map(|state| state.containers.as_slice()).unwrap_or_default();
            list.iter().map(|c| Container::new(&c.name, known, now, unix)).collect()
        };
        let mut pod =
            Self {
                realm,
                refused: crate::admission::check(&spec).err(),
                ip: kept.and_then(|state| state.ip),
                network: false,
                volumes: Volumes::Absent,
                started,
                born: now,
                // A clock that went backwards makes the pod young, never older than it is.
                age_at_birth: Duration::from_millis(unix.saturating_sub(started)),
                rising: true,
                ending: None,
                evicted: None,
                done: kept
                    .and_then(|state| state.done.clone())
                    .map(|(phase, reason, message)| Done { phase, reason, message }),
                gone: false,
                init: of(&spec.init),
                containers: of(&spec.containers),
                said: None,
                wake: None,
                spec,
            };
        pod.note_deletion(now);
        pod
    }

    /// Takes over a changed record of the same pod.
    pub fn update(&mut self, spec: PodV1, now: Duration) {
        let same_shape = names(&self.spec.init).eq(names(&spec.init))
            && names(&self.spec.containers).eq(names(&spec.containers));
        if !same_shape {
            // Kubernetes forbids it; a hub that does it anyway gets what it sees.
            return;
        }
        self.refused = crate::admission::check(&spec).err();
        self.spec = spec;
        self.forget_failures();
        self.note_deletion(now);
    }

    /// The plan no longer has it: it ends as if deleted with its own grace period.
    pub fn dropped(&mut self, now: Duration) {
        self.end_by(now + Duration::from_secs(self.spec.grace_seconds.into()));
    }

    fn note_deletion(&mut self, now: Duration) {
        if let Some(grace) = self.spec.deleting {
            self.end_by(now + Duration::from_secs(grace.into()));
        }
    }

    /// A grace period can be shortened, never stretched.
    fn end_by(&mut self, until: Duration) {
        let until = self.ending.as_ref().map_or(until, |ending| until.min(ending.until));
        self.ending = Some(Ending { until });
    }

    /// Something that a container waited for may have come.
    pub fn forget_failures(&mut self) {
        for container in self.init.iter_mut().chain(&mut self.containers) {
            container.failure = None;
        }
        if let Volumes::Failed { .. } = self.volumes {
            self.volumes = Volumes::Absent;
        }
    }

    /// How long the pod has been active on this spoke.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        self.age_at_birth + now.saturating_sub(self.born)
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

    /// What outlives the agent.
    #[must_use]
    pub fn state(&self) -> PodStateV1 {
        PodStateV1 {
            realm: self.realm.clone(),
            uid: self.spec.uid.clone(),
            namespace: self.spec.namespace.clone(),
            name: self.spec.name.clone(),
            ip: self.ip,
            started: Some(self.started),
            done: self
                .done
                .as_ref()
                .map(|done| (done.phase, done.reason.clone(), done.message.clone())),
            containers: self.init.iter().chain(&self.containers).map(Container::state).collect(),
        }
    }
}

fn names(list: &[ContainerV1]) -> impl Iterator<Item = &str> {
    list.iter().map(|c| c.name.as_str())
}

//! One container of a pod, and the facts that move it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::ended::ContainerEndedV1;
use freewheel_link::report::{TerminatedV1, UnixMillis};

use super::backoff;
use super::probes::Probes;
use crate::ledger::{ContainerStateV1, DoingV1, StoppedV1};
use crate::ports::Exit;
use crate::volumes::LoggedStart;

/// Exit code of what died together with the agent.
const EXIT_KILLED: i32 = 137;

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Never started.
    Fresh,
    /// Start was asked for.
    Starting,
    /// Runs.
    Running {
        /// Since, by the wall clock.
        since: UnixMillis,
        /// Since, monotonic.
        at: Duration,
    },
    /// Ended.
    Ended {
        /// How.
        how: TerminatedV1,
        /// When, monotonic.
        at: Duration,
        /// Not by its own doing: the next start does not wait.
        blameless: bool,
    },
}

/// Why the module of a container cannot be had, as its user was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Waiting reason such as `ErrImagePull`.
    pub reason: String,
    /// For the user.
    pub message: String,
    /// When it was told.
    pub since: Duration,
    /// The failure was shown for long enough: what is shown now is the waiting.
    pub backing: bool,
}

/// Why a container could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Waiting reason such as `CreateContainerConfigError`.
    pub reason: String,
    /// For the user.
    pub message: String,
    /// When it was tried.
    pub at: Duration,
    /// How often in a row.
    pub tries: u32,
}

impl Failure {
    /// When it is tried again, also when nothing that it names has changed: a disk may have room again.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.at + backoff::delay(self.tries)
    }
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// name
    pub name: String,
    /// restartCount: the attempt of the current start.
    pub restarts: u32,
    /// What it is doing.
    pub state: ContainerState,
    /// How the start before the current one ended.
    pub last: Option<TerminatedV1>,
    /// Starts in a row that ended too soon.
    pub streak: u32,
    /// Image of the current start, else empty.
    pub image: String,
    /// What the image stood for, else empty.
    pub image_id: String,
    /// Why it could not be started.
    pub failure: Option<Failure>,
    /// Why its module cannot be had.
    pub pull: Option<Pull>,
    /// The module that is fetched for its sake; others that want the same find it asked for already.
    pub pulls: Option<Digest>,
    /// What it mounts is being opened for its next start.
    pub opening: bool,
    /// Was told to stop, and will be killed then.
    pub stop_by: Option<Duration>,
    /// Was told to stop because its record changed.
    pub changed: bool,
    /// Was told to stop because it has failed a probe.
    pub unhealthy: bool,
    /// Why the start before the current one was stopped.
    pub was_stopped: Option<StoppedV1>,
    /// How its health is looked at.
    pub probes: Probes,
    /// How it ended is a guess: no life of the agent has seen it.
    pub guessed: bool,
}

/// What is known of the containers of a pod from before this life.
pub(super) struct Known<'a> {
    /// By the ledger.
    pub(super) known: &'a [ContainerStateV1],
    /// The newest starts of which there are logs, by container.
    pub(super) logged: &'a BTreeMap<String, LoggedStart>,
    /// Those of which the hub says that they have ended for good.
    pub(super) ended: &'a [ContainerEndedV1],
}

impl Known<'_> {
    /// What the ledger knows of a container, or the hub where that knows more.
    fn of(&self, name: &str) -> Option<Cow<'_, ContainerStateV1>> {
        let kept = self.known.iter().find(|state| state.name == name);
        let ended = self.ended.iter().find(|ended| ended.name == name);
        match ended.filter(|ended| kept.is_none_or(|kept| is_less(kept, ended))) {
            None => kept.map(Cow::Borrowed),
            Some(ended) => Some(Cow::Owned(ContainerStateV1 {
                name: name.to_owned(),
                restarts: ended.restarts,
                image: kept.map(|kept| kept.image.clone()).unwrap_or_default(),
                doing: DoingV1::Ended(ended.how.clone()),
                last: kept.and_then(|kept| kept.last.clone()),
                stopped: None,
            })),
        }
    }
}

/// Whether the ledger knows less of a container than the hub was told: the power went before the rest had reached the
/// disk.
fn is_less(kept: &ContainerStateV1, ended: &ContainerEndedV1) -> bool {
    match kept.doing {
        DoingV1::Nothing | DoingV1::Running(_) => kept.restarts <= ended.restarts,
        DoingV1::Ended(_) => kept.restarts < ended.restarts,
    }
}

impl Container {
    /// A container as it is known, or a fresh one.
    pub(super) fn new(name: &str, known: &Known<'_>, now: Duration, unix: UnixMillis) -> Self {
        let kept = known.of(name);
        let kept = kept.as_deref();
        let logged = known.logged.get(name);
        let forgotten = logged.filter(|start| kept.is_none_or(|kept| is_forgotten(kept, start)));
        let ended = |how| ContainerState::Ended { how, at: now, blameless: true };
        let state = match kept.map(|kept| &kept.doing) {
            _ if forgotten.is_some() => ended(forgotten_end(unix)),
            None | Some(DoingV1::Nothing) => ContainerState::Fresh,
            Some(DoingV1::Running(since)) => ended(TerminatedV1 {
                code: EXIT_KILLED,
                signal: 9,
                reason: "Error".to_owned(),
                message: "the agent was stopped while the container ran".to_owned(),
                started: *since,
                finished: unix,
            }),
            Some(DoingV1::Ended(how)) => ended(how.clone()),
        };
        let stopped = kept.filter(|_| forgotten.is_none()).and_then(|kept| kept.stopped);
        let ran = matches!(kept.map(|kept| &kept.doing), Some(DoingV1::Running(_)));
        Self {
            name: name.to_owned(),
            restarts: forgotten
                .map(|start| start.attempt)
                .or(kept.map(|kept| kept.restarts))
                .unwrap_or(0),
            state,
            last: kept.and_then(|kept| kept.last.clone()),
            streak: 0,
            image: kept.map(|kept| kept.image.clone()).unwrap_or_default(),
            image_id: String::new(),
            failure: None,
            pull: None,
            pulls: None,
            opening: false,
            stop_by: None,
            changed: stopped == Some(StoppedV1::Changed),
            unhealthy: stopped == Some(StoppedV1::Unhealthy),
            was_stopped: None,
            probes: Probes::default(),
            guessed: forgotten.is_some() || ran,
        }
    }

    /// Whether something of it may run.
    #[must_use]
    pub const fn alive(&self) -> bool {
        matches!(self.state, ContainerState::Starting | ContainerState::Running { .. })
    }

    /// Whether it runs.
    #[must_use]
    pub const fn running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// Exit code, once it has ended.
    #[must_use]
    pub const fn code(&self) -> Option<i32> {
        match &self.state {
            ContainerState::Ended { how, .. } => Some(how.code),
            ContainerState::Fresh | ContainerState::Starting | ContainerState::Running { .. } => {
                None
            }
        }
    }

    /// Whether it has never run at all.
    #[must_use]
    pub const fn unborn(&self) -> bool {
        match self.state {
            ContainerState::Fresh => true,
            ContainerState::Starting => self.last.is_none(),
            ContainerState::Running { .. } | ContainerState::Ended { .. } => false,
        }
    }

    /// The attempt that a start now would be.
    #[must_use]
    pub const fn next_attempt(&self) -> u32 {
        match self.state {
            ContainerState::Ended { .. } => self.restarts.saturating_add(1),
            ContainerState::Fresh | ContainerState::Starting | ContainerState::Running { .. } => {
                self.restarts
            }
        }
    }

    /// When the next start is due after an end; `None` while it has not ended.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        match &self.state {
            ContainerState::Ended { blameless: true, at, .. } => Some(*at),
            ContainerState::Ended { at, .. } => Some(*at + backoff::delay(self.streak)),
            ContainerState::Fresh | ContainerState::Starting | ContainerState::Running { .. } => {
                None
            }
        }
    }

    /// It could not be started.
    pub fn failed(&mut self, (reason, message): (&str, String), at: Duration) {
        let before = self.failure.as_ref().map_or(0, |failure| failure.tries);
        let (reason, tries) = (reason.to_owned(), before.saturating_add(1));
        self.failure = Some(Failure { reason, message, at, tries });
    }

    /// A start was asked for.
    pub fn begin(&mut self, image: &str, image_id: String) {
        let attempt = self.next_attempt();
        if let ContainerState::Ended { how, blameless, .. } = &self.state {
            self.last = Some(how.clone());
            if !blameless {
                self.streak = self.streak.saturating_add(1);
            }
        }
        self.restarts = attempt;
        self.state = ContainerState::Starting;
        image.clone_into(&mut self.image);
        self.image_id = image_id;
        self.failure = None;
        self.pull = None;
        self.pulls = None;
        self.stop_by = None;
        self.was_stopped = self.stopped();
        self.changed = false;
        self.unhealthy = false;
        self.guessed = false;
    }

    /// The start with this attempt runs. Whether that was news.
    pub fn started(&mut self, attempt: u32, now: Duration, unix: UnixMillis) -> bool {
        if attempt != self.restarts || self.state != ContainerState::Starting {
            return false;
        }
        self.state = ContainerState::Running { since: unix, at: now };
        self.probes.begin(now);
        true
    }

    /// The start with this attempt ended. Whether that was news.
    pub fn exited(&mut self, attempt: u32, exit: Exit, now: Duration, unix: UnixMillis) -> bool {
        if attempt != self.restarts || !self.alive() {
            return false;
        }
        let started = match self.state {
            ContainerState::Running { since, at } => {
                if backoff::CRASH_STREAK_RESET_AFTER <= now.saturating_sub(at) {
                    self.streak = 0;
                }
                since
            }
            ContainerState::Fresh | ContainerState::Starting | ContainerState::Ended { .. } => unix,
        };
        let how = TerminatedV1 {
            code: exit.code,
            signal: 0,
            reason: exit.reason,
            message: exit.message,
            started,
            finished: unix,
        };
        // Who has come to its end well and could not hear that it was to stop was cut off from nothing.
        self.changed &= exit.was_asked_to_stop || how.code != 0;
        self.state = ContainerState::Ended { how, at: now, blameless: self.changed };
        true
    }

    /// What outlives the agent. A start that has not come up counts as none.
    pub(super) fn state(&self) -> ContainerStateV1 {
        let (doing, last) = match &self.state {
            ContainerState::Fresh => (DoingV1::Nothing, self.last.clone()),
            ContainerState::Running { since, .. } => (DoingV1::Running(*since), self.last.clone()),
            ContainerState::Ended { how, .. } => (DoingV1::Ended(how.clone()), self.last.clone()),
            // `restarts` is the attempt under way already: what ended before it is what stands.
            ContainerState::Starting => {
                (self.last.clone().map_or(DoingV1::Nothing, DoingV1::Ended), self.last.clone())
            }
        };
        ContainerStateV1 {
            name: self.name.clone(),
            restarts: self.restarts,
            image: self.image.clone(),
            doing,
            last,
            stopped: match self.state {
                ContainerState::Starting => self.was_stopped,
                _ => self.stopped(),
            },
        }
    }

    /// Why the current start was stopped.
    const fn stopped(&self) -> Option<StoppedV1> {
        match (self.changed, self.unhealthy) {
            (true, _) => Some(StoppedV1::Changed),
            (false, true) => Some(StoppedV1::Unhealthy),
            (false, false) => None,
        }
    }
}

/// Whether the ledger knows nothing of a start that has left a log. Of one that it has seen coming and that has written
/// nothing, nobody can say that it ran.
fn is_forgotten(kept: &ContainerStateV1, start: &LoggedStart) -> bool {
    kept.restarts < start.attempt
        || (kept.restarts == start.attempt && start.wrote && kept.doing == DoingV1::Nothing)
}

/// How a start ended that has left its log and nothing else, in kubelet's words where it has some.
fn forgotten_end(unix: UnixMillis) -> TerminatedV1 {
    TerminatedV1 {
        code: EXIT_KILLED,
        signal: 0,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "the agent has lost what it knew of this start".to_owned(),
        started: unix,
        finished: unix,
    }
}

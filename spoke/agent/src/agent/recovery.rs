//! Brings the pods back after the agent itself has died several times in a row: something that they do may have killed
//! it, and would again.
//!
//! ```text
//! Well                                                   fewer than three bad ends in a row
//! OneByOne { queue, suspects } ─gap─▶ … ─both are empty─▶ Watched ─a good while─▶ Well, and the ledger forgives
//! ```
//!
//! While nobody is suspected, the oldest pod comes first and the newest last. Whoever was being brought back when the agent
//! died is a suspect from then on, and the others need no turns: they come together, and a good while after them the
//! suspects, one by one. Should the agent die of those that came together, there is one more among them, and they come one
//! by one until it is found.
//!
//! Guarantees:
//! - which pod is tried is in the ledger before it starts (`the_pod_that_was_tried_when_the_agent_died_comes_last`);
//! - a pod that waits says so, and can be deleted (`what_killed_the_agent_three_times_does_not_come_back_at_once`);
//! - a suspect waits long, also where there is no other pod, and nobody else waits with it, whether it ran before or is new
//!   (`a_lone_suspect_waits_as_any_other`, `the_pod_that_was_tried_when_the_agent_died_comes_last`,
//!   `new_pods_do_not_wait_with_the_suspects`);
//! - whoever else kills the agent is found, too (`one_more_that_kills_the_agent_is_found_among_the_others`);
//! - its turn comes, whoever else comes meanwhile (`suspects_come_back_however_many_new_pods_come`).

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{info, warn};

use super::Agent;
use crate::pods::Pod;
use crate::pods::status::held_text;

/// Bad ends in a row that are bad luck.
const PATIENCE: u32 = 3;
/// Between two pods: at first, and at most.
const GAP: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Before a pod during whose start the agent has died.
const SUSPECT_GAP: Duration = Duration::from_secs(300);
/// A life that lasts this long with all of its pods is a good one.
const GOOD_WHILE: Duration = Duration::from_secs(300);

/// How the agent comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// There is nothing to forgive.
    Well,
    /// Pods come back one after another.
    OneByOne {
        /// Those that are not suspected, while they need turns.
        queue: Waiting,
        /// Those that are suspected.
        suspects: Waiting,
    },
    /// All are back.
    Watched {
        /// When that was long enough.
        until: Duration,
    },
}

/// UIDs of pods that wait, and when the next one comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    uids: VecDeque<String>,
    next: Duration,
}

impl Waiting {
    fn due(&self) -> Option<Duration> {
        (!self.uids.is_empty()).then_some(self.next)
    }

    /// Takes the next one that is held still, when its time has come; the one after it comes `gap` later.
    fn take(
        &mut self,
        now: Duration,
        gap: Duration,
        held: impl FnMut(&String) -> bool,
    ) -> Option<String> {
        self.due().filter(|due| *due <= now)?;
        self.next = now + gap;
        std::iter::from_fn(|| self.uids.pop_front()).find(held)
    }
}

impl Recovery {
    /// When something is to be done.
    pub(super) fn due(&self) -> Option<Duration> {
        match self {
            Self::Well => None,
            Self::OneByOne { queue, suspects } => {
                let next = queue.due().into_iter().chain(suspects.due()).min();
                // With nobody left there is no reason to wait.
                Some(next.unwrap_or(Duration::ZERO))
            }
            Self::Watched { until } => Some(*until),
        }
    }
}

/// Between two pods, after this many bad ends.
fn gap(crashes: u32) -> Duration {
    let doublings = crashes.saturating_sub(PATIENCE).min(16);
    (GAP.0 * 2_u32.saturating_pow(doublings)).min(GAP.1)
}

impl Agent {
    /// At the start, when all pods are known and none runs.
    pub(super) fn begin_recovery(&mut self) {
        let (crashes, now) = (self.ledger.crashes(), self.ports.clock.now());
        if crashes == 0 {
            return;
        }
        self.recovery = Recovery::Watched { until: now + GOOD_WHILE };
        warn!(crashes, "the agent did not end in order");
        if crashes < PATIENCE {
            return;
        }
        let together = self.ledger.suspects_explain();
        let suspects = self.ledger.suspects();
        let suspected = |uid: &str| suspects.iter().position(|suspect| suspect == uid);
        let mut waiting: Vec<_> = self
            .pods
            .values()
            .filter(|pod| pod.stays())
            .map(|pod| (suspected(&pod.spec.uid), pod.started, pod.spec.uid.clone()))
            .collect();
        // `None`, which is nobody's suspicion, comes first.
        waiting.sort();
        if together {
            waiting.retain(|(suspect, ..)| suspect.is_some());
            self.try_rest();
        }
        for (suspect, _, uid) in &waiting {
            self.hold(uid, crashes, suspect.is_some());
        }
        let (suspects, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(suspect, ..)| suspect.is_some());
        let uids = |pods: Vec<(_, _, String)>| pods.into_iter().map(|(.., uid)| uid).collect();
        // When the last of the others has been well for a while. Pods that come later change nothing about it.
        let gaps = u32::try_from(others.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let last = gap(crashes).saturating_mul(gaps);
        self.recovery = Recovery::OneByOne {
            queue: Waiting { uids: uids(others), next: now },
            suspects: Waiting {
                uids: uids(suspects),
                next: now.saturating_add(last).saturating_add(SUSPECT_GAP),
            },
        };
    }

    fn hold(&mut self, uid: &str, crashes: u32, suspect: bool) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.held = Some(crashes);
        let mut text = held_text(crashes);
        if suspect {
            text.push_str("; it was this pod's turn when it did");
        }
        self.event(uid, None, true, "BackOff", text);
        self.dirty.insert(uid.to_owned());
    }

    /// A pod that is new comes after those that need turns; where only suspects do, it starts.
    pub(super) fn hold_new(&mut self, uid: &str) {
        if !self.pods.get(uid).is_some_and(Pod::stays) {
            return;
        }
        let now = self.ports.clock.now();
        match &mut self.recovery {
            Recovery::Well => {}
            // Until the next turn, what happens is the doing of whoever had the last one.
            Recovery::OneByOne { queue, .. } if !queue.uids.is_empty() || now < queue.next => {
                queue.uids.push_back(uid.to_owned());
                self.hold(uid, self.ledger.crashes(), false);
            }
            Recovery::OneByOne { .. } | Recovery::Watched { .. } => self.try_rest(),
        }
    }

    /// Pods start without a turn.
    fn try_rest(&mut self) {
        if let Err(error) = self.ledger.try_rest().and_then(|()| self.ledger.write()) {
            warn!(error = &error as &dyn std::error::Error, "who is tried is not kept");
        }
    }

    /// Brings the next pod back when its time has come.
    pub(super) fn recover(&mut self) {
        let now = self.ports.clock.now();
        if self.recovery.due().is_none_or(|due| now < due) {
            return;
        }
        let crashes = self.ledger.crashes();
        let Recovery::OneByOne { queue, suspects } = &mut self.recovery else {
            info!("the agent has been well for a while");
            self.recovery = Recovery::Well;
            if let Err(error) = self.ledger.forgive() {
                warn!(error = &error as &dyn std::error::Error, "the good while is not kept");
            }
            return;
        };
        let held = |uid: &String| self.pods.get(uid).is_some_and(|pod| pod.held.is_some());
        let found = match suspects.take(now, SUSPECT_GAP, held) {
            // One at a time: what happens next is its doing.
            Some(uid) => {
                if !queue.uids.is_empty() {
                    queue.next = queue.next.max(now + gap(crashes));
                }
                Some(uid)
            }
            None => queue.take(now, gap(crashes), held),
        };
        if queue.uids.is_empty() && suspects.uids.is_empty() {
            self.recovery = Recovery::Watched { until: now + GOOD_WHILE };
        }
        if let Some(uid) = found {
            self.bring_back(&uid);
        }
    }

    fn bring_back(&mut self, uid: &str) {
        // Before it starts: it may be the last thing that this life does.
        if let Err(error) = self.ledger.try_pod(uid).and_then(|()| self.ledger.write()) {
            warn!(error = &error as &dyn std::error::Error, pod = uid, "who is tried is not kept");
        }
        info!(pod = uid, "pod is brought back");
        self.change(uid, |pod: &mut Pod| pod.held = None);
        self.dirty.insert(uid.to_owned());
    }
}

//! Brings the pods back after the agent itself has died several times in a row: something that they do may have killed
//! it, and would again.
//!
//! ```text
//! Well                                                   fewer than three bad ends in a row
//! OneByOne { queue } ─gap─▶ … ─queue is empty─▶ Watched ─a good while─▶ Well, and the ledger forgives
//! ```
//!
//! The oldest pod comes first, the newest last, and behind it those that were being brought back when the agent died.
//!
//! Guarantees:
//! - which pod is tried is in the ledger before it starts (`the_pod_that_was_tried_when_the_agent_died_comes_last`);
//! - a pod that waits says so, and can be deleted (`what_killed_the_agent_three_times_does_not_come_back_at_once`);
//! - a suspect waits long, also where there is no other pod, and nobody else waits with it
//!   (`a_lone_suspect_waits_as_any_other`, `a_new_pod_does_not_wait_with_the_suspects`).

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
        /// UIDs of those that wait.
        queue: VecDeque<String>,
        /// How many at its end are suspected.
        suspects: usize,
        /// When the next one comes.
        next: Duration,
    },
    /// All are back.
    Watched {
        /// When that was long enough.
        until: Duration,
    },
}

impl Recovery {
    /// When something is to be done.
    pub(super) const fn due(&self) -> Option<Duration> {
        match self {
            Self::Well => None,
            Self::OneByOne { next, .. } => Some(*next),
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
        let suspects = waiting.iter().filter(|(suspect, ..)| suspect.is_some()).count();
        for (suspect, _, uid) in &waiting {
            self.hold(uid, crashes, suspect.is_some());
        }
        // Where all are suspects, the first of them waits as any other.
        let next = if 0 < suspects && suspects == waiting.len() { now + SUSPECT_GAP } else { now };
        let queue = waiting.into_iter().map(|(.., uid)| uid).collect();
        self.recovery = Recovery::OneByOne { queue, suspects, next };
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

    /// A pod that is new comes after those that ran before.
    pub(super) fn hold_new(&mut self, uid: &str) {
        let (crashes, now) = (self.ledger.crashes(), self.ports.clock.now());
        if let Recovery::OneByOne { queue, suspects, next } = &mut self.recovery {
            let place = queue.len().saturating_sub(*suspects);
            if place == 0 {
                // The wait was for a suspect, which this one is not.
                *next = (*next).min(now + gap(crashes));
            }
            queue.insert(place, uid.to_owned());
            self.hold(uid, crashes, false);
        }
    }

    /// Brings the next pod back when its time has come.
    pub(super) fn recover(&mut self) {
        let now = self.ports.clock.now();
        if self.recovery.due().is_none_or(|due| now < due) {
            return;
        }
        let Recovery::OneByOne { queue, suspects, next } = &mut self.recovery else {
            info!("the agent has been well for a while");
            self.recovery = Recovery::Well;
            if let Err(error) = self.ledger.forgive() {
                warn!(error = &error as &dyn std::error::Error, "the good while is not kept");
            }
            return;
        };
        let held = |uid: &String| self.pods.get(uid).is_some_and(|pod| pod.held.is_some());
        let found = std::iter::from_fn(|| queue.pop_front()).find(held);
        *suspects = queue.len().min(*suspects);
        let suspected_is_next = queue.len() == *suspects;
        *next = now + if suspected_is_next { SUSPECT_GAP } else { gap(self.ledger.crashes()) };
        if queue.is_empty() {
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

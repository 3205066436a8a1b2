//! Which pods of a StatefulSet come and go, in which order: pure.
//!
//! ```text
//! each wanted ordinal, upwards ─▶ each one too many, downwards ─▶ one of an older template, downwards
//!        │ OrderedReady: whatever is not done yet stops here
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_store::Stored;

use crate::pods::Availability;

/// Most steps of one look that change a pod.
pub(super) const ACTS_MAX: usize = 500;

/// What the set asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// spec.ordinals.start
    pub(super) start: i64,
    /// spec.replicas
    pub(super) replicas: i64,
    /// podManagementPolicy Parallel
    pub(super) parallel: bool,
    /// The pods have claims.
    pub(super) claims: bool,
    /// updateStrategy
    pub(super) update: Update,
    /// Name of the revision that runs, of which there are `current_replicas`.
    pub(super) current: String,
    /// Name of the template's own.
    pub(super) updated: String,
    /// status.currentReplicas
    pub(super) current_replicas: i64,
}

/// How pods are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// When somebody deletes them.
    OnDelete,
    /// From the highest ordinal down to the partition.
    Rolling {
        /// Ordinals below it stay at the current revision; `None` when it was never said.
        partition: Option<i64>,
        /// So many may be missing at once.
        unavailable: i64,
    },
}

/// A pod of the set.
#[derive(Clone, Debug)]
pub(super) struct StatefulPod {
    pub(super) stored: Arc<Stored>,
    pub(super) phase: Phase,
    pub(super) ready: bool,
    pub(super) availability: Availability,
    /// It has the labels and volumes of its ordinal.
    pub(super) whole: bool,
    /// Name of its revision.
    pub(super) revision: String,
}

/// What of status.phase counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    /// Failed or Succeeded.
    Ended,
    Unknown,
}

impl StatefulPod {
    pub(super) fn is_deleting(&self) -> bool {
        self.stored.object.header.deleting
    }

    pub(super) fn runs_and_is_ready(&self) -> bool {
        self.phase == Phase::Running && self.ready
    }

    pub(super) fn is_available(&self) -> bool {
        self.availability == Availability::Yes
    }

    fn is_unavailable(&self) -> bool {
        !self.is_available() || self.is_deleting()
    }
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Make the pod of this ordinal, of the current revision or the updated one.
    Create { ordinal: i64, updated: bool },
    /// See that its claims are there, and whose they are.
    Claims { ordinal: i64, pod: Arc<Stored> },
    /// Give it what belongs to its ordinal.
    Fix { ordinal: i64, pod: Arc<Stored> },
    /// End it.
    Delete(Arc<Stored>),
}

/// How many of them change a pod: each look sees to the claims of all.
pub(super) fn acts(steps: &[Step]) -> usize {
    steps.iter().filter(|step| !matches!(step, Step::Claims { .. })).count()
}

impl Wanted {
    pub(super) fn has(&self, ordinal: i64) -> bool {
        self.start <= ordinal && ordinal < self.end()
    }

    fn end(&self) -> i64 {
        self.start.saturating_add(self.replicas)
    }

    /// Whether a missing pod is made of the template's own revision.
    fn is_updated(&self, ordinal: i64) -> bool {
        let Update::Rolling { partition, .. } = self.update else { return true };
        let kept = partition.unwrap_or(self.current_replicas);
        self.start.saturating_add(kept) <= ordinal
    }
}

/// What to do now; `pods` are the set's own by their ordinals.
pub(super) fn decide(wanted: &Wanted, pods: &BTreeMap<i64, StatefulPod>) -> Vec<Step> {
    let mut steps = Vec::new();
    if living(wanted, pods, &mut steps).is_stopped() {
        return steps;
    }
    if condemned(wanted, pods, &mut steps).is_stopped() {
        return steps;
    }
    roll(wanted, pods, &mut steps);
    steps
}

/// Whether the set goes on to the next phase.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Stopped,
}

impl Flow {
    fn is_stopped(self) -> bool {
        self == Self::Stopped
    }
}

fn living(wanted: &Wanted, pods: &BTreeMap<i64, StatefulPod>, steps: &mut Vec<Step>) -> Flow {
    let mut done = 0;
    for ordinal in wanted.start..wanted.end() {
        if ACTS_MAX <= done {
            return Flow::Stopped;
        }
        let before = steps.len();
        let stops = match pods.get(&ordinal) {
            None => {
                let updated = wanted.is_updated(ordinal);
                steps.push(Step::Create { ordinal, updated });
                true
            }
            Some(pod) => keep(wanted, (ordinal, pod), steps).is_stopped(),
        };
        done += steps.get(before..).map_or(0, acts);
        if stops && !wanted.parallel {
            return Flow::Stopped;
        }
    }
    Flow::On
}

/// What a pod that is to be there needs; stopped, when those above it have to wait for it.
fn keep(wanted: &Wanted, (ordinal, pod): (i64, &StatefulPod), steps: &mut Vec<Step>) -> Flow {
    let stored = &pod.stored;
    if pod.phase == Phase::Ended {
        if !pod.is_deleting() {
            steps.push(Step::Delete(stored.clone()));
        }
        return Flow::Stopped;
    }
    if pod.phase == Phase::Pending && wanted.claims {
        steps.push(Step::Claims { ordinal, pod: stored.clone() });
    }
    let settled = !pod.is_deleting() && pod.runs_and_is_ready() && pod.is_available();
    if !settled && !wanted.parallel {
        return Flow::Stopped;
    }
    if !pod.whole {
        steps.push(Step::Fix { ordinal, pod: stored.clone() });
    } else if wanted.claims && pod.phase != Phase::Pending {
        steps.push(Step::Claims { ordinal, pod: stored.clone() });
    }
    Flow::On
}

/// Those that are too many, the highest ordinal first.
fn condemned(wanted: &Wanted, pods: &BTreeMap<i64, StatefulPod>, steps: &mut Vec<Step>) -> Flow {
    let condemned = || pods.iter().rev().filter(|(ordinal, _)| !wanted.has(**ordinal));
    if wanted.claims {
        let claims = condemned().map(|(ordinal, pod)| (*ordinal, pod.stored.clone()));
        steps.extend(claims.map(|(ordinal, pod)| Step::Claims { ordinal, pod }));
    }
    // Nothing else is unhealthy by now: of these the lowest may go though it is.
    let first_unhealthy =
        pods.iter().find(|(ordinal, pod)| !wanted.has(**ordinal) && pod.is_unavailable());
    let first_unhealthy = first_unhealthy.map(|(ordinal, _)| ordinal);
    if wanted.parallel {
        let staying = condemned().filter(|(_, pod)| !pod.is_deleting());
        let room = ACTS_MAX.saturating_sub(acts(steps));
        steps.extend(staying.take(room).map(|(_, pod)| Step::Delete(pod.stored.clone())));
        return if acts(steps) < ACTS_MAX { Flow::On } else { Flow::Stopped };
    }
    if let Some((ordinal, pod)) = condemned().next() {
        let healthy = pod.runs_and_is_ready() && pod.is_available();
        if !pod.is_deleting() && (healthy || first_unhealthy == Some(ordinal)) {
            steps.push(Step::Delete(pod.stored.clone()));
        }
        return Flow::Stopped;
    }
    Flow::On
}

/// The next pods of an older template, the highest ordinal first.
fn roll(wanted: &Wanted, pods: &BTreeMap<i64, StatefulPod>, steps: &mut Vec<Step>) {
    let Update::Rolling { partition, unavailable } = wanted.update else { return };
    let living = || pods.iter().rev().filter(|(ordinal, _)| wanted.has(**ordinal));
    let there = i64::try_from(living().count()).unwrap_or(i64::MAX);
    let away = i64::try_from(living().filter(|(_, pod)| pod.is_unavailable()).count());
    let missing = wanted.replicas.saturating_sub(there).saturating_add(away.unwrap_or(i64::MAX));
    let room = usize::try_from(unavailable.saturating_sub(missing)).unwrap_or_default();
    let room = room.min(ACTS_MAX.saturating_sub(acts(steps)));
    // As upstream, it is counted from the first of them, not from zero.
    let lowest = wanted.start.saturating_add(partition.unwrap_or_default());
    let old = living().filter(|(ordinal, pod)| {
        lowest <= **ordinal && pod.revision != wanted.updated && !pod.is_deleting()
    });
    steps.extend(old.take(room).map(|(_, pod)| Step::Delete(pod.stored.clone())));
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

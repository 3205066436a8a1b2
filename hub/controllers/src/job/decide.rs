//! What a Job that is not over does about the pods it sees: pure.
//!
//! Guarantees:
//! - an Indexed Job never has two pods of one index (`one_pod_per_index_stays`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::backoff::{FailureRecord, remaining};
use super::failure_policy::consequence;
use super::intervals::Intervals;
use super::observe::{JobPod, Wanted};
use super::tally::{Tally, failures};

/// Most pods created or deleted by one Job before it looks again.
pub const PODS_AT_ONCE_MAX: usize = 500;

/// A pod that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its completion index, of an Indexed Job.
    pub index: Option<u32>,
    /// How often pods of its index have failed, counted and ignored, of a Job with a limit per index.
    pub failures: Option<(i32, i32)>,
}

/// What is to be done about the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// As many as asked for, or none of the Job's business.
    Nothing,
    /// The Job is over: whoever runs ends, and is counted.
    End,
    /// It rests: whoever runs ends, and is not counted.
    Suspend,
    /// These are too many.
    Remove(Vec<String>),
    /// These are missing.
    Create(Vec<Slot>),
    /// Some are missing, and after what has failed it is too early to make them.
    Wait(Duration),
}

/// What to do about the pods of a Job that is not over.
#[must_use]
pub fn manage(wanted: &Wanted, tally: &Tally<'_>, record: FailureRecord, now: Timestamp) -> Action {
    let active = tally.active.len();
    if wanted.is_suspended() {
        return if active == 0 { Action::Nothing } else { Action::Suspend };
    }
    let most = wanted_active(wanted, tally);
    let surplus = surplus(wanted, tally, active.saturating_sub(most));
    if !surplus.is_empty() {
        return Action::Remove(surplus);
    }
    let terminating = if wanted.replaces_failed_only() { tally.terminating } else { 0 };
    let there = active + usize::try_from(terminating).unwrap_or_default();
    let missing = most.saturating_sub(there).min(PODS_AT_ONCE_MAX);
    if missing == 0 {
        return Action::Nothing;
    }
    if wanted.spec.backoff_limit_per_index.is_none() {
        let wait = record.remaining(now);
        if !wait.is_zero() {
            return Action::Wait(wait);
        }
    }
    if !wanted.is_indexed() {
        return Action::Create(vec![Slot::default(); missing]);
    }
    create_indexes(wanted, tally, missing, now)
}

fn wanted_active(wanted: &Wanted, tally: &Tally<'_>) -> usize {
    let Some(completions) = wanted.spec.completions else {
        return if 0 < tally.succeeded { tally.active.len() } else { wanted.parallelism() };
    };
    let left = completions.saturating_sub(tally.succeeded);
    usize::try_from(left).unwrap_or_default().min(wanted.parallelism())
}

/// The first indexes that nobody has, as far as their last failures are long enough ago.
fn create_indexes(wanted: &Wanted, tally: &Tally<'_>, missing: usize, now: Timestamp) -> Action {
    let completions = wanted.completions().unwrap_or_default();
    let mut taken =
        tally.completed.with(&Intervals::of(tally.active.iter().filter_map(|pod| pod.index)));
    if wanted.replaces_failed_only() {
        taken = taken.with(&tally.leaving);
    }
    if let Some(failed) = &tally.failed_indexes {
        taken = taken.with(failed);
    }
    let pending = taken.missing(missing, completions);
    let Some(_) = wanted.spec.backoff_limit_per_index else {
        let slots = pending.into_iter().map(|index| Slot { index: Some(index), failures: None });
        return Action::Create(slots.collect());
    };
    let wait = |index: &u32| {
        let Some(last) = tally.awaiting.get(index) else { return Duration::ZERO };
        let count = u32::try_from(failures(last)).unwrap_or_default().saturating_add(1);
        remaining(count, last.ended(), now)
    };
    let (due, later): (Vec<u32>, Vec<u32>) =
        pending.into_iter().partition(|index| wait(index).is_zero());
    if due.is_empty() {
        return later.iter().map(wait).min().map_or(Action::Nothing, Action::Wait);
    }
    let slot = |index: u32| {
        let failures =
            tally.awaiting.get(&index).map_or((0, 0), |last| failures_after(wanted, last));
        Slot { index: Some(index), failures: Some(failures) }
    };
    Action::Create(due.into_iter().map(slot).collect())
}

/// What the pod in place of this failed one is to know of the failures of its index.
fn failures_after(wanted: &Wanted, failed: &JobPod) -> (i32, i32) {
    let (counted, ignored) = failed.failures_before();
    let policy = wanted.spec.pod_failure_policy.as_ref();
    if consequence(policy, &failed.facts.pod).is_counted() {
        (counted.saturating_add(1), ignored)
    } else {
        (counted, ignored.saturating_add(1))
    }
}

/// The UIDs of those that go: of an Indexed Job whoever has no index of its own, then as many as are too many.
fn surplus(wanted: &Wanted, tally: &Tally<'_>, excess: usize) -> Vec<String> {
    let mut active = tally.active.clone();
    active.sort_by(|a, b| first_to_go(a, b));
    let mut staying = active;
    let mut going: Vec<&JobPod> = Vec::new();
    if wanted.is_indexed() {
        let completions = wanted.completions().unwrap_or_default();
        let mut last: BTreeMap<u32, &JobPod> = BTreeMap::new();
        for pod in staying {
            match pod.index.filter(|index| *index < completions) {
                // Whoever is nearer to its end stays.
                Some(index) => going.extend(last.insert(index, pod)),
                None => going.push(pod),
            }
        }
        staying = last.into_values().collect();
        staying.sort_by(|a, b| first_to_go(a, b));
    }
    let more = excess.saturating_sub(going.len());
    going.extend(staying.into_iter().take(more));
    going.truncate(PODS_AT_ONCE_MAX);
    going.iter().map(|pod| pod.uid().to_owned()).collect()
}

/// Unassigned, pending, not ready, ready for a shorter time, restarted more often, newer.
fn first_to_go(a: &JobPod, b: &JobPod) -> std::cmp::Ordering {
    let coarse = |pod: &JobPod| {
        let pod = &pod.facts;
        (!pod.node().is_empty(), pod.phase() == "Running", pod.is_ready())
    };
    coarse(a)
        .cmp(&coarse(b))
        .then_with(|| Reverse(a.facts.ready_since()).cmp(&Reverse(b.facts.ready_since())))
        .then_with(|| b.facts.restarts().cmp(&a.facts.restarts()))
        .then_with(|| b.facts.created().cmp(&a.facts.created()))
        .then_with(|| a.facts.key().name.cmp(&b.facts.key().name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::observe::INDEX_FAILURES;
    use crate::job::outcome::completed;
    use crate::job::testing::{job, pod};

    fn now() -> Timestamp {
        Timestamp::from_second(100).unwrap()
    }

    fn acts(wanted: &Wanted, pods: &[JobPod]) -> Action {
        manage(wanted, &Tally::of(wanted, pods), FailureRecord::default(), now())
    }

    fn indexes(action: &Action) -> Vec<u32> {
        let Action::Create(slots) = action else { return Vec::new() };
        slots.iter().filter_map(|slot| slot.index).collect()
    }

    #[test]
    fn as_many_run_as_are_wanted_and_left() {
        let three = json!({"completions": 3, "parallelism": 2});
        assert_eq!(acts(&job(&three), &[]), Action::Create(vec![Slot::default(); 2]));
        let nearly = [pod("a").exited(0).done(), pod("b").exited(0).done(), pod("c").done()];
        assert_eq!(acts(&job(&three), &nearly), Action::Nothing);
        let many = [pod("a").done(), pod("b").phase("Pending").done(), pod("c").done()];
        assert_eq!(acts(&job(&three), &many), Action::Remove(vec!["b".into()]));
        let queue = json!({"completions": null, "parallelism": 2});
        assert_eq!(acts(&job(&queue), &nearly[1..]), Action::Nothing, "who works may finish");
        assert_eq!(completed(&job(&queue), &Tally::of(&job(&queue), &nearly)), None);
        let done = completed(&job(&queue), &Tally::of(&job(&queue), &nearly[..2])).unwrap();
        assert_eq!(done.reason, "CompletionsReached");
        let rest = json!({"suspend": true});
        assert_eq!(acts(&job(&rest), &many), Action::Suspend);
        assert_eq!(acts(&job(&rest), &[]), Action::Nothing);
    }

    #[test]
    fn who_fails_waits() {
        let wanted = job(&json!({}));
        let failed = [pod("a").phase("Failed").done()];
        let tally = Tally::of(&wanted, &failed);
        let record = FailureRecord::default().after(&[], &tally.new_failed, now());
        let wait = Action::Wait(Duration::from_secs(10));
        assert_eq!(manage(&wanted, &tally, record, now()), wait);
        let leaving = [pod("a").deleting(30).done()];
        assert_eq!(acts(&wanted, &leaving), Action::Create(vec![Slot::default()]));
        let patient = job(&json!({"podReplacementPolicy": "Failed"}));
        assert_eq!(acts(&patient, &leaving), Action::Nothing);
    }

    #[test]
    fn one_pod_per_index_stays() {
        let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"});
        let pods = [
            pod("a").index(1).done(),
            pod("b").index(1).phase("Pending").done(),
            pod("c").index(9).done(),
            pod("d").done(),
        ];
        let Action::Remove(mut going) = acts(&job(&spec), &pods) else { panic!("nobody goes") };
        going.sort();
        assert_eq!(going, ["b", "c", "d"]);
        assert_eq!(indexes(&acts(&job(&spec), &pods[..1])), [0, 2, 3]);
        let mut patient = spec;
        patient["podReplacementPolicy"] = json!("Failed");
        let pods = [pod("a").index(0).deleting(30).done(), pod("b").index(1).done()];
        assert_eq!(indexes(&acts(&job(&patient), &pods)), [2, 3]);
    }

    #[test]
    fn an_index_waits_for_itself_and_its_next_pod_knows_of_its_failures() {
        let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
            "backoffLimitPerIndex": 5});
        // They ended at the first second.
        let pods = [
            pod("a").index(0).phase("Failed").done(),
            pod("b").index(1).phase("Failed").note(INDEX_FAILURES, 4).done(),
            pod("c").index(2).done(),
        ];
        let slot = Slot { index: Some(0), failures: Some((1, 0)) };
        assert_eq!(acts(&job(&spec), &pods), Action::Create(vec![slot]));
        let wait = Action::Wait(Duration::from_secs(160 - 99));
        assert_eq!(
            acts(&job(&spec), &[pods[1].clone(), pods[2].clone(), pod("d").index(0).done()]),
            wait
        );
    }
}

//! Counts each pod of a Job once: pure.
//!
//! ```text
//! progress  what is new goes into the status: indexes, UIDs of pods that are not counted yet, what runs
//! (the status is written, then the finalizers of these pods go)
//! settle    UIDs whose finalizers are gone become numbers
//! finish    nothing is left to count and nobody runs: Complete, or Failed
//! ```
//!
//! Guarantees:
//! - no pod is counted twice, wherever a run breaks off: what is uncounted is written before its finalizer goes, and
//!   becomes a number after that (`a_pod_is_counted_once_wherever_it_breaks_off`);
//! - a Job is not over while one of its pods is on its way out (`it_is_over_when_everybody_is`);
//! - it ends whatever the clock said when it began (`a_job_that_began_later_than_now_ends_when_it_began`).

use std::collections::BTreeSet;

use freewheel_hub_api::conditions::{
    Condition, ConditionType, JOB_COMPLETE, JOB_FAILED, JOB_FAILURE_TARGET,
    JOB_SUCCESS_CRITERIA_MET, JOB_SUSPENDED,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::failure_policy::consequence;
use super::intervals::Intervals;
use super::observe::{JobPod, Wanted, holds};
use super::outcome::JobOutcome;
use super::tally::{Tally, is_valid};
use crate::engine::clock::rfc3339;

/// Most pods that wait in a status to be counted: their UIDs take 20 KB.
pub const UNCOUNTED_MAX: usize = 500;

/// A status that is to be written before finalizers go, and whose.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The status.
    pub status: JobStatus,
    /// UIDs of pods that have been seen for good.
    pub untrack: BTreeSet<String>,
    /// There is more to count, in the next run.
    pub is_full: bool,
    /// It began or ceased to rest.
    pub suspension: Option<bool>,
}

/// What the status says next. Those that this very run has `ended` have failed only if the Job has.
#[must_use]
pub fn progress(
    wanted: &Wanted,
    pods: &[JobPod],
    tally: &Tally<'_>,
    (outcome, ended): (Option<&JobOutcome>, &BTreeSet<String>),
    now: Timestamp,
) -> Progress {
    let mut status = wanted.status.clone();
    let running = tally.active.len();
    status.active = some(i32::try_from(running).unwrap_or(i32::MAX));
    status.ready = Some(tally.ready);
    status.terminating = Some(tally.terminating);
    let tracked: BTreeSet<&str> = tracked(pods).collect();
    settle(&mut status, |uid| tracked.contains(uid));
    let suspension = suspend(&mut status, wanted, outcome.is_some(), now);
    let mut progress = Progress { status, untrack: BTreeSet::new(), is_full: false, suspension };
    let new = progress.count(wanted, pods, tally, (outcome, ended));
    if wanted.is_indexed() {
        let completed = tally.completed_before.with(&Intervals::of(new));
        let status = &mut progress.status;
        status.succeeded = some(i32::try_from(completed.total()).unwrap_or(i32::MAX));
        status.completed_indexes = Some(completed.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = tally.failed_indexes.as_ref().map(ToString::to_string);
    }
    if let Some(outcome) = outcome {
        let kind = if outcome.succeeded { &JOB_SUCCESS_CRITERIA_MET } else { &JOB_FAILURE_TARGET };
        if !holds(&progress.status, kind.name) {
            set_condition(
                &mut progress.status,
                kind,
                true,
                (&outcome.reason, &outcome.message),
                now,
            );
        }
    }
    progress
}

impl Progress {
    /// Lists whose finalizers may go, and those of them that count; the indexes that are new.
    fn count(
        &mut self,
        wanted: &Wanted,
        pods: &[JobPod],
        tally: &Tally<'_>,
        (outcome, ended): (Option<&JobOutcome>, &BTreeSet<String>),
    ) -> Vec<u32> {
        let is_failure = outcome.is_some_and(|outcome| !outcome.succeeded);
        let policy = wanted.spec.pod_failure_policy.as_ref();
        let listed = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let mut succeeded = listed.succeeded.unwrap_or_default();
        let mut failed = listed.failed.unwrap_or_default();
        let known: BTreeSet<String> = succeeded.iter().chain(&failed).cloned().collect();
        let mut indexes = Vec::new();
        let mut tracked: Vec<&JobPod> = pods.iter().filter(|pod| pod.tracked).collect();
        if wanted.is_indexed() {
            tracked.sort_by_key(|pod| pod.index);
        }
        for pod in tracked {
            if !may_go(wanted, tally, pod, outcome.is_some()) {
                continue;
            }
            self.untrack.insert(pod.uid().to_owned());
            let is_news = !known.contains(pod.uid()) && is_valid(wanted, pod);
            if pod.has_succeeded() && is_news {
                match pod.index.filter(|_| wanted.is_indexed()) {
                    Some(index) if tally.completed_before.has(index) => {}
                    Some(index) => indexes.push(index),
                    None => succeeded.push(pod.uid().to_owned()),
                }
            } else if is_news
                && (is_failure || pod.has_failed(wanted) && !ended.contains(pod.uid()))
                && consequence(policy, &pod.facts.pod).is_counted()
            {
                failed.push(pod.uid().to_owned());
            }
            if UNCOUNTED_MAX <= indexes.len() + succeeded.len() + failed.len() {
                self.is_full = true;
                break;
            }
        }
        self.status.uncounted_terminated_pods = Some(uncounted(succeeded, failed));
        indexes
    }
}

/// Whether nobody has to look at the pod any more once it is counted.
fn may_go(wanted: &Wanted, tally: &Tally<'_>, pod: &JobPod, is_over: bool) -> bool {
    if wanted.deleting || is_over || pod.has_succeeded() {
        return true;
    }
    // One that fails stays until the next one of its index has taken over its count.
    let awaited = pod.index.and_then(|index| tally.awaiting.get(&index));
    pod.has_failed(wanted) && awaited.is_none_or(|waiting| waiting.uid() != pod.uid())
}

/// The UIDs of pods with the finalizer.
pub fn tracked(pods: &[JobPod]) -> impl Iterator<Item = &str> {
    pods.iter().filter(|pod| pod.tracked).map(JobPod::uid)
}

/// Makes numbers of the UIDs whose pods have lost their finalizers.
pub fn settle(status: &mut JobStatus, is_tracked: impl Fn(&str) -> bool) {
    let listed = status.uncounted_terminated_pods.take().unwrap_or_default();
    let split = |listed: Option<Vec<String>>, number: &mut Option<i32>| {
        let (left, counted): (Vec<_>, Vec<_>) =
            listed.unwrap_or_default().into_iter().partition(|uid| is_tracked(uid));
        let more = i32::try_from(counted.len()).unwrap_or(i32::MAX);
        *number = some(number.unwrap_or_default().saturating_add(more));
        left
    };
    let succeeded = split(listed.succeeded, &mut status.succeeded);
    let failed = split(listed.failed, &mut status.failed);
    status.uncounted_terminated_pods = Some(uncounted(succeeded, failed));
}

/// Says that it is over, unless somebody is still to be counted or on its way out; whether it is.
pub fn finish(status: &mut JobStatus, outcome: &JobOutcome, now: Timestamp) -> bool {
    let left = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let uncounted = [left.succeeded, left.failed].into_iter().flatten().flatten().count();
    if 0 < uncounted || 0 < status.terminating.unwrap_or_default() {
        return false;
    }
    let kind = if outcome.succeeded { &JOB_COMPLETE } else { &JOB_FAILED };
    set_condition(status, kind, true, (&outcome.reason, &outcome.message), now);
    if outcome.succeeded {
        // A clock that was ahead when it began has been set since: nothing ends before it began.
        status.completion_time = status.start_time.clone().max(Some(Time(now)));
    }
    true
}

/// Whether it rests; `Some` when that is news.
fn suspend(status: &mut JobStatus, wanted: &Wanted, is_over: bool, now: Timestamp) -> Option<bool> {
    let (rests, said) = (wanted.is_suspended(), holds(status, JOB_SUSPENDED.name));
    if rests == said || wanted.deleting || is_over {
        return None;
    }
    if rests {
        set_condition(status, &JOB_SUSPENDED, true, ("JobSuspended", "Job suspended"), now);
        status.start_time = None;
    } else {
        set_condition(status, &JOB_SUSPENDED, false, ("JobResumed", "Job resumed"), now);
        // How long it may be active counts from here.
        status.start_time = Some(Time(now));
    }
    Some(rests)
}

fn set_condition(
    status: &mut JobStatus,
    kind: &'static ConditionType,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let mut list = serde_json::to_value(&status.conditions).unwrap_or(Value::Null);
    Condition::new(kind, holds, reason, message).put(&mut list, &rfc3339(now));
    if let Ok(list) = serde_json::from_value(list) {
        status.conditions = list;
    }
}

fn uncounted(succeeded: Vec<String>, failed: Vec<String>) -> UncountedTerminatedPods {
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) }
}

/// Zero is left out.
fn some(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::outcome::{completed, outcome};
    use crate::job::testing::{job, job_with, pod};

    fn now() -> Timestamp {
        Timestamp::from_second(100).unwrap()
    }

    fn run(wanted: &Wanted, pods: &[JobPod]) -> (Progress, Option<JobOutcome>) {
        let tally = Tally::of(wanted, pods);
        let over = outcome(wanted, pods, &tally, now()).or_else(|| completed(wanted, &tally));
        (progress(wanted, pods, &tally, (over.as_ref(), &BTreeSet::new()), now()), over)
    }

    #[test]
    fn a_pod_is_counted_once_wherever_it_breaks_off() {
        let spec = json!({"completions": 3, "parallelism": 3});
        let mut wanted = job(&spec);
        let pods = [pod("a").exited(0).done(), pod("b").exited(1).done(), pod("c").done()];
        let (first, _) = run(&wanted, &pods);
        let listed = first.status.uncounted_terminated_pods.clone().unwrap();
        assert_eq!(listed.succeeded.unwrap(), ["a"]);
        assert_eq!(listed.failed.unwrap(), ["b"]);
        assert_eq!((first.status.succeeded, first.status.active), (None, Some(1)));
        assert_eq!(first.untrack.iter().collect::<Vec<_>>(), ["a", "b"]);
        // It is written, and nothing else happens.
        wanted.status = first.status.clone();
        let (again, _) = run(&wanted, &pods);
        assert_eq!(again.status, first.status);
        let tally = Tally::of(&wanted, &pods);
        assert_eq!((tally.succeeded, tally.failed), (1, 1));
        // One finalizer goes, and it breaks off again.
        let pods = [pod("a").exited(0).counted().done(), pods[1].clone(), pods[2].clone()];
        let (mut last, _) = run(&wanted, &pods);
        assert_eq!((last.status.succeeded, last.status.failed), (Some(1), None));
        settle(&mut last.status, |_| false);
        assert_eq!((last.status.succeeded, last.status.failed), (Some(1), Some(1)));
        wanted.status = last.status.clone();
        let pods = [pods[0].clone(), pod("b").exited(1).counted().done(), pods[2].clone()];
        assert_eq!(run(&wanted, &pods).0.status, last.status);
    }

    #[test]
    fn a_failure_is_told_to_the_back_off_once_however_many_there_are() {
        let many = 9_999;
        let spec = json!({"backoffLimit": many, "completions": many, "parallelism": many});
        let failed = |number| pod(&format!("p{number}")).exited(1).done();
        let pods: Vec<JobPod> = (0..UNCOUNTED_MAX + 7).map(failed).collect();
        let wanted = job(&spec);
        let (progress, _) = run(&wanted, &pods);
        assert!(progress.is_full);
        let tally = Tally::of(&wanted, &pods);
        assert_eq!(tally.new_failed.len(), UNCOUNTED_MAX + 7);
        let told = tally.seen_for_good(&progress.untrack);
        assert_eq!(told.new_failed.len(), UNCOUNTED_MAX, "the others come in the next run");
    }

    #[test]
    fn it_is_over_when_everybody_is() {
        let wanted = job(&json!({"completions": 1}));
        let pods = [pod("a").exited(0).done(), pod("b").deleting(30).done()];
        let (Progress { mut status, .. }, over) = run(&wanted, &pods);
        let over = over.unwrap();
        assert!(holds(&status, "SuccessCriteriaMet") && !holds(&status, "Complete"));
        assert!(!finish(&mut status, &over, now()), "it is not counted");
        settle(&mut status, |_| false);
        assert!(!finish(&mut status, &over, now()), "one is on its way out");
        status.terminating = Some(0);
        assert!(finish(&mut status, &over, now()) && holds(&status, "Complete"));
        assert_eq!(status.completion_time, Some(Time(now())));
    }

    #[test]
    fn a_job_that_began_later_than_now_ends_when_it_began() {
        let wanted = job(&json!({"completions": 1}));
        let (Progress { mut status, .. }, over) = run(&wanted, &[pod("a").exited(0).done()]);
        settle(&mut status, |_| false);
        // As a hub says whose clock was ahead.
        let ahead = Time(now() + std::time::Duration::from_secs(20 * 24 * 60 * 60));
        status.start_time = Some(ahead.clone());
        assert!(finish(&mut status, &over.unwrap(), now()));
        assert_eq!(status.completion_time, Some(ahead));
    }

    #[test]
    fn whoever_runs_when_a_job_fails_has_failed() {
        let wanted = job(&json!({"backoffLimit": 0, "completions": 5, "parallelism": 3}));
        let pods = [pod("a").exited(1).done(), pod("b").deleting(30).done(), pod("c").done()];
        let (progress, over) = run(&wanted, &pods);
        assert_eq!(over.unwrap().reason, "BackoffLimitExceeded");
        let listed = progress.status.uncounted_terminated_pods.unwrap();
        assert_eq!(listed.failed.unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn whoever_still_runs_when_a_job_succeeds_has_not_failed() {
        let spec = json!({"completions": 2, "completionMode": "Indexed",
            "successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
        let wanted = job(&spec);
        let pods = [pod("a").index(0).exited(0).done(), pod("b").index(1).deleting(30).done()];
        let tally = Tally::of(&wanted, &pods);
        let over = outcome(&wanted, &pods, &tally, now());
        let failed = |ended: &[&str]| {
            let ended = ended.iter().map(|uid| (*uid).to_owned()).collect();
            let progress = progress(&wanted, &pods, &tally, (over.as_ref(), &ended), now());
            assert_eq!(progress.untrack.len(), 2);
            progress.status.uncounted_terminated_pods.unwrap().failed.unwrap_or_default()
        };
        assert_eq!(failed(&["b"]), [""; 0]);
        assert_eq!(failed(&[]), ["b"], "somebody else has ended it");
    }

    #[test]
    fn indexes_are_counted_by_themselves() {
        let spec =
            json!({"completions": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 0});
        let wanted = job_with(&spec, &json!({"completedIndexes": "0", "succeeded": 1}));
        let pods = [
            pod("a").index(0).exited(0).done(),
            pod("b").index(2).exited(0).done(),
            pod("c").index(3).exited(1).done(),
            pod("d").index(9).exited(0).done(),
        ];
        let (progress, _) = run(&wanted, &pods);
        let status = progress.status;
        assert_eq!(status.completed_indexes.as_deref(), Some("0,2"));
        assert_eq!((status.succeeded, status.failed_indexes.as_deref()), (Some(2), Some("3")));
        assert_eq!(progress.untrack.len(), 4);
    }

    #[test]
    fn a_failed_pod_stays_for_the_next_one_of_its_index() {
        let spec =
            json!({"completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 3});
        let failed = pod("a").index(0).exited(1).done();
        let alone = run(&job(&spec), std::slice::from_ref(&failed)).0;
        assert!(alone.untrack.is_empty());
        let replaced = run(&job(&spec), &[failed, pod("b").index(0).done()]).0;
        assert_eq!(replaced.untrack.iter().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn who_rests_begins_anew() {
        let (rests, _) = run(&job(&json!({"suspend": true})), &[]);
        assert_eq!((rests.suspension, rests.status.start_time.clone()), (Some(true), None));
        let mut wanted = job(&json!({}));
        wanted.status = rests.status;
        let (resumed, _) = run(&wanted, &[]);
        assert_eq!(resumed.suspension, Some(false));
        assert_eq!(resumed.status.start_time, Some(Time(now())));
        assert!(!holds(&resumed.status, "Suspended"));
        wanted.status = resumed.status;
        assert_eq!(run(&wanted, &[]).0.suspension, None);
    }

    #[test]
    fn no_status_lists_more_than_it_has_room_for() {
        let wanted = job(&json!({"completions": 900, "parallelism": 900}));
        let pods: Vec<JobPod> = (0..600).map(|n| pod(&format!("p{n}")).exited(0).done()).collect();
        let (progress, _) = run(&wanted, &pods);
        assert!(progress.is_full);
        assert_eq!(progress.untrack.len(), UNCOUNTED_MAX);
    }
}

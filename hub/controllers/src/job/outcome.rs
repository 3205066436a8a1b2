//! Whether a Job is over, and why: pure.
//!
//! Guarantees:
//! - what was said for good stays said (`what_was_said_before_counts_first`).

use std::time::Duration;

use jiff::Timestamp;

use super::failure_policy::{Consequence, consequence};
use super::observe::{JobPod, Wanted};
use super::success_policy;
use super::tally::Tally;

/// Why the Job is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutcome {
    /// It has done what it was asked for.
    pub succeeded: bool,
    /// In one word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl JobOutcome {
    fn new(succeeded: bool, reason: &str, message: &str) -> Self {
        Self { succeeded, reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// Why the Job is over, if it is.
#[must_use]
pub fn outcome(
    wanted: &Wanted,
    pods: &[JobPod],
    tally: &Tally<'_>,
    now: Timestamp,
) -> Option<JobOutcome> {
    said_before(wanted)
        .or_else(|| failed_by_policy(wanted, pods))
        .or_else(|| failed_by_limit(wanted, pods, tally, now))
        .or_else(|| failed_by_indexes(wanted, tally))
        .or_else(|| {
            let policy = wanted.spec.success_policy.as_ref().filter(|_| wanted.is_indexed());
            let completions = wanted.completions().unwrap_or_default();
            let message = success_policy::met(policy, completions, &tally.completed)?;
            Some(JobOutcome::new(true, "SuccessPolicy", &message))
        })
}

/// What an earlier run has said before it was through with the pods.
fn said_before(wanted: &Wanted) -> Option<JobOutcome> {
    let conditions = wanted.status.conditions.as_deref().unwrap_or_default();
    let said = |name: &str| conditions.iter().find(|one| one.type_ == name && one.status == "True");
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let of = |name, succeeded| {
        let one = said(name)?;
        Some(JobOutcome { succeeded, reason: text(&one.reason), message: text(&one.message) })
    };
    of("SuccessCriteriaMet", true).or_else(|| of("FailureTarget", false))
}

fn failed_by_policy(wanted: &Wanted, pods: &[JobPod]) -> Option<JobOutcome> {
    let policy = Some(wanted.spec.pod_failure_policy.as_ref()?);
    let mut failed = pods.iter().filter(|pod| pod.has_failed(wanted));
    failed.find_map(|pod| match consequence(policy, &pod.facts.pod) {
        Consequence::FailsJob(why) => Some(JobOutcome::new(false, "PodFailurePolicy", &why)),
        Consequence::Counted | Consequence::Ignored | Consequence::FailsIndex => None,
    })
}

fn failed_by_limit(
    wanted: &Wanted,
    pods: &[JobPod],
    tally: &Tally<'_>,
    now: Timestamp,
) -> Option<JobOutcome> {
    let limit = wanted.spec.backoff_limit.unwrap_or(6);
    if limit < tally.failed || restarts_too_often(wanted, pods, limit) {
        let text = "Job has reached the specified backoff limit";
        return Some(JobOutcome::new(false, "BackoffLimitExceeded", text));
    }
    deadline_in(wanted, now).filter(Duration::is_zero).map(|_| {
        JobOutcome::new(false, "DeadlineExceeded", "Job was active longer than specified deadline")
    })
}

/// How much longer it may be active; `None` when that has no end.
#[must_use]
pub fn deadline_in(wanted: &Wanted, now: Timestamp) -> Option<Duration> {
    let (deadline, start) = (wanted.deadline()?, wanted.status.start_time.as_ref()?.0);
    if wanted.is_suspended() {
        return None;
    }
    let passed = Duration::try_from(now.duration_since(start)).unwrap_or_default();
    Some(deadline.saturating_sub(passed))
}

/// Of pods whose containers are started again where they are, the restarts count.
fn restarts_too_often(wanted: &Wanted, pods: &[JobPod], limit: i32) -> bool {
    let template = wanted.spec.template.spec.as_ref();
    if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let living = pods.iter().filter(|pod| matches!(pod.facts.phase(), "Running" | "Pending"));
    let statuses = living.filter_map(|pod| pod.facts.pod.status.as_ref());
    let restarts = statuses.fold(0, |sum: i32, status| {
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let counts = lists.into_iter().flatten().flatten().map(|one| one.restart_count);
        counts.fold(sum, i32::saturating_add)
    });
    if limit == 0 { 0 < restarts } else { limit <= restarts }
}

fn failed_by_indexes(wanted: &Wanted, tally: &Tally<'_>) -> Option<JobOutcome> {
    let failed = tally.failed_indexes.as_ref()?.total();
    let most = wanted.spec.max_failed_indexes.map(|most| u32::try_from(most).unwrap_or_default());
    if most.is_some_and(|most| most < failed) {
        let text = "Job has exceeded the specified maximal number of failed indexes";
        return Some(JobOutcome::new(false, "MaxFailedIndexesExceeded", text));
    }
    let ended = failed.saturating_add(tally.completed.total());
    (0 < failed && wanted.completions().unwrap_or_default() <= ended)
        .then(|| JobOutcome::new(false, "FailedIndexes", "Job has failed indexes"))
}

/// That everything is done, when nothing runs any more.
#[must_use]
pub fn completed(wanted: &Wanted, tally: &Tally<'_>) -> Option<JobOutcome> {
    let enough = match wanted.spec.completions {
        // One success is the Job's, and the others may come to their ends.
        None => 0 < tally.succeeded,
        Some(completions) => completions <= tally.succeeded,
    };
    (enough && tally.active.is_empty()).then(|| {
        JobOutcome::new(true, "CompletionsReached", "Reached expected number of succeeded pods")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::job::testing::{job, job_with, pod};

    fn now() -> Timestamp {
        Timestamp::from_second(100).unwrap()
    }

    #[track_caller]
    fn ends(wanted: &Wanted, pods: &[JobPod], reason: &str) {
        let found = outcome(wanted, pods, &Tally::of(wanted, pods), now());
        assert_eq!(found.map(|outcome| outcome.reason).unwrap_or_default(), reason);
    }

    #[test]
    fn what_was_said_before_counts_first() {
        let said = |name: &str| {
            let condition = json!({"type": name, "status": "True", "reason": "Said"});
            job_with(&json!({"backoffLimit": 0}), &json!({"conditions": [condition]}))
        };
        let failed = [pod("a").phase("Failed").done()];
        for (name, succeeded) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
            let found = said_before(&said(name)).unwrap();
            assert_eq!((found.succeeded, &*found.reason), (succeeded, "Said"));
            ends(&said(name), &failed, "Said");
        }
    }

    #[test]
    fn limits_end_it() {
        let failed = [pod("a").phase("Failed").done()];
        ends(&job(&json!({"backoffLimit": 1})), &failed, "");
        ends(&job(&json!({"backoffLimit": 0})), &failed, "BackoffLimitExceeded");
        ends(&job(&json!({"activeDeadlineSeconds": 100})), &[], "DeadlineExceeded");
        ends(&job(&json!({"activeDeadlineSeconds": 101})), &[], "");
        ends(&job(&json!({"activeDeadlineSeconds": 1, "suspend": true})), &[], "");
        let template = json!({"spec": {"containers": [], "restartPolicy": "OnFailure"}});
        let again = |limit: i32| job(&json!({"backoffLimit": limit, "template": template}));
        let twice = [pod("a").restarts(2).done()];
        ends(&again(3), &twice, "");
        ends(&again(2), &twice, "BackoffLimitExceeded");
        ends(&again(0), &twice, "BackoffLimitExceeded");
    }

    #[test]
    fn policies_end_it() {
        let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}});
        let picky = job(&json!({"podFailurePolicy": {"rules": [rule]}}));
        ends(&picky, &[pod("a").exited(3).done()], "PodFailurePolicy");
        ends(&picky, &[pod("a").exited(4).done()], "");
        let spec = json!({"completions": 3, "completionMode": "Indexed",
            "successPolicy": {"rules": [{"succeededIndexes": "1"}]}});
        ends(&job(&spec), &[pod("a").index(1).phase("Succeeded").done()], "SuccessPolicy");
        ends(&job(&spec), &[pod("a").index(2).phase("Succeeded").done()], "");
        let spec = |most: Value| {
            json!({"completions": 2, "completionMode": "Indexed", "backoffLimit": 99,
                "backoffLimitPerIndex": 0, "maxFailedIndexes": most})
        };
        let one = [pod("a").index(1).phase("Failed").done()];
        ends(&job(&spec(json!(1))), &one, "");
        ends(&job(&spec(json!(0))), &one, "MaxFailedIndexesExceeded");
        let both = [pod("a").index(1).phase("Failed").done(), pod("b").index(0).exited(0).done()];
        ends(&job(&spec(Value::Null)), &both, "FailedIndexes");
    }
}

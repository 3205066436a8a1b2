//! What a Job's pods come to: how many run, have ended, and what of that is new.

use std::collections::{BTreeMap, BTreeSet};

use super::failure_policy::{Consequence, consequence};
use super::intervals::Intervals;
use super::observe::{JobPod, Wanted};

/// Counts of one moment.
#[derive(Debug, Default)]
pub struct Tally<'a> {
    /// Neither ended nor on their way out.
    pub active: Vec<&'a JobPod>,
    /// Of these, the ready ones.
    pub ready: i32,
    /// On their way out.
    pub terminating: i32,
    /// Have succeeded since the status was written.
    pub new_succeeded: Vec<&'a JobPod>,
    /// Have failed since the status was written.
    pub new_failed: Vec<&'a JobPod>,
    /// All that have succeeded, of an Indexed Job indexes.
    pub succeeded: i32,
    /// All that have failed, as far as that counts.
    pub failed: i32,
    /// Indexes that the status says have succeeded.
    pub completed_before: Intervals,
    /// The same and those since.
    pub completed: Intervals,
    /// Indexes that have failed for good, of a Job with a limit per index.
    pub failed_indexes: Option<Intervals>,
    /// Indexes of those on their way out.
    pub leaving: Intervals,
    /// Failed pods that stay until others are made in their places, which take over their counts.
    pub awaiting: BTreeMap<u32, &'a JobPod>,
}

impl<'a> Tally<'a> {
    /// Counts.
    #[must_use]
    pub fn of(wanted: &Wanted, pods: &'a [JobPod]) -> Self {
        let active: Vec<&JobPod> = pods.iter().filter(|pod| pod.facts.is_active()).collect();
        let ready = count(active.iter().filter(|pod| pod.facts.is_ready()).count());
        let terminating = count(pods.iter().filter(|pod| pod.is_terminating()).count());
        let mut tally = Self { active, ready, terminating, ..Self::default() };
        tally.count_ends(wanted, pods);
        if wanted.is_indexed() {
            tally.count_indexes(wanted, pods);
        }
        tally
    }

    /// The same, of which only these ends are news: others are news once more in the next run.
    #[must_use]
    pub fn seen_for_good(mut self, these: &BTreeSet<String>) -> Self {
        self.new_succeeded.retain(|pod| these.contains(pod.uid()));
        self.new_failed.retain(|pod| these.contains(pod.uid()));
        self
    }

    fn count_ends(&mut self, wanted: &Wanted, pods: &'a [JobPod]) {
        let uncounted = wanted.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let (succeeded, failed) =
            (uncounted.succeeded.unwrap_or_default(), uncounted.failed.unwrap_or_default());
        let new = |listed: &[String], pod: &JobPod| {
            pod.tracked && is_valid(wanted, pod) && !listed.iter().any(|uid| uid == pod.uid())
        };
        let news = pods.iter().filter(|pod| pod.has_succeeded() && new(&succeeded, pod));
        self.new_succeeded = news.collect();
        let news = pods.iter().filter(|pod| pod.has_failed(wanted) && new(&failed, pod));
        self.new_failed = news.collect();
        let policy = wanted.spec.pod_failure_policy.as_ref();
        let counts = |pod: &&&JobPod| consequence(policy, &pod.facts.pod).is_counted();
        // Anybody who may write a status may have written any number.
        let sum =
            |before: Option<i32>, new: usize| before.unwrap_or_default().saturating_add(count(new));
        let new_failed = self.new_failed.iter().filter(counts).count();
        self.succeeded = sum(wanted.status.succeeded, self.new_succeeded.len() + succeeded.len());
        self.failed = sum(wanted.status.failed, new_failed + failed.len());
    }

    fn count_indexes(&mut self, wanted: &Wanted, pods: &'a [JobPod]) {
        let completions = wanted.completions().unwrap_or_default();
        let valid = || pods.iter().filter(|pod| pod.tracked && is_valid(wanted, pod));
        let read = |text: Option<&str>| Intervals::read(text.unwrap_or_default(), completions);
        self.completed_before = read(wanted.status.completed_indexes.as_deref());
        let leaving = pods.iter().filter(|pod| pod.is_terminating());
        self.leaving = Intervals::of(leaving.filter_map(|pod| pod.index));
        let new = valid().filter(|pod| pod.has_succeeded()).filter_map(|pod| pod.index);
        self.completed = self.completed_before.with(&Intervals::of(new));
        self.succeeded = i32::try_from(self.completed.total()).unwrap_or(i32::MAX);
        let Some(limit) = wanted.spec.backoff_limit_per_index else { return };
        let new = valid().filter(|pod| fails_index(wanted, pod, limit)).filter_map(|pod| pod.index);
        let failed = read(wanted.status.failed_indexes.as_deref()).with(&Intervals::of(new));
        let active = Intervals::of(self.active.iter().filter_map(|pod| pod.index));
        for pod in valid().filter(|pod| pod.has_failed(wanted)) {
            let Some(index) = pod.index else { continue };
            if [&self.completed, &failed, &active].iter().any(|known| known.has(index)) {
                continue;
            }
            let is_later =
                |other: &&JobPod| failures(other) <= failures(pod) && other.ended() <= pod.ended();
            if self.awaiting.get(&index).is_none_or(is_later) {
                self.awaiting.insert(index, pod);
            }
        }
        self.failed_indexes = Some(failed);
    }
}

/// How often pods of its index had failed before it, whether that counted or not.
#[must_use]
pub fn failures(pod: &JobPod) -> i32 {
    let (counted, ignored) = pod.failures_before();
    counted.saturating_add(ignored)
}

/// Whether it is one of the Job's completions: of an Indexed Job each has its number.
#[must_use]
pub fn is_valid(wanted: &Wanted, pod: &JobPod) -> bool {
    let completions = wanted.completions().unwrap_or_default();
    !wanted.is_indexed() || pod.index.is_some_and(|index| index < completions)
}

fn fails_index(wanted: &Wanted, pod: &JobPod, limit: i32) -> bool {
    if !pod.has_failed(wanted) {
        return false;
    }
    match consequence(wanted.spec.pod_failure_policy.as_ref(), &pod.facts.pod) {
        Consequence::FailsIndex => true,
        Consequence::Ignored => false,
        Consequence::Counted | Consequence::FailsJob(_) => limit <= pod.failures_before().0,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::observe::INDEX_FAILURES;
    use crate::job::testing::{job, job_with, pod};

    #[test]
    fn a_pod_counts_once() {
        let status = json!({"succeeded": 2, "uncountedTerminatedPods": {"succeeded": ["a"]}});
        let wanted = job_with(&json!({"completions": 9}), &status);
        let pods = [
            pod("a").phase("Succeeded").done(),
            pod("b").phase("Succeeded").done(),
            pod("c").phase("Succeeded").counted().done(),
            pod("d").phase("Failed").done(),
            pod("e").done(),
        ];
        let tally = Tally::of(&wanted, &pods);
        assert_eq!((tally.succeeded, tally.failed, tally.active.len()), (4, 1, 1));
    }

    #[test]
    fn no_status_is_too_large_to_count_on() {
        let status = json!({"succeeded": i32::MAX, "failed": i32::MAX});
        let wanted = job_with(&json!({"completions": 9}), &status);
        let pods = [pod("a").phase("Succeeded").done(), pod("b").phase("Failed").done()];
        let tally = Tally::of(&wanted, &pods);
        assert_eq!((tally.succeeded, tally.failed), (i32::MAX, i32::MAX));
    }

    #[test]
    fn who_is_on_its_way_out_has_failed_unless_its_job_waits_for_its_end() {
        let pods = [pod("a").deleting(30).done(), pod("b").deleting(0).done()];
        let at_once = job(&json!({"podReplacementPolicy": "TerminatingOrFailed"}));
        let tally = Tally::of(&at_once, &pods);
        assert_eq!((tally.failed, tally.terminating), (2, 1));
        let tally_waits = job(&json!({"podReplacementPolicy": "Failed"}));
        let tally = Tally::of(&tally_waits, &pods);
        assert_eq!((tally.failed, tally.terminating), (1, 1), "the other one is over");
    }

    #[test]
    fn indexes_succeed_fail_and_wait_for_their_next_pod() {
        let spec =
            json!({"completions": 5, "completionMode": "Indexed", "backoffLimitPerIndex": 1});
        let wanted = job_with(&spec, &json!({"completedIndexes": "0"}));
        let pods = [
            pod("a").index(1).phase("Succeeded").done(),
            pod("b").index(2).phase("Failed").done(),
            pod("c").index(3).phase("Failed").note(INDEX_FAILURES, 1).done(),
            pod("d").index(7).phase("Succeeded").done(),
            pod("e").index(4).phase("Failed").done(),
            pod("f").index(4).note(INDEX_FAILURES, 1).done(),
        ];
        let tally = Tally::of(&wanted, &pods);
        assert_eq!((tally.completed.to_string(), tally.succeeded), ("0,1".to_owned(), 2));
        assert_eq!(tally.failed_indexes.unwrap().to_string(), "3");
        assert_eq!(tally.awaiting.keys().collect::<Vec<_>>(), [&2]);
    }
}

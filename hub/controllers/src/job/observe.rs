//! A Job and its pods as read at one moment.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_store::Stored;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::ContainerStatus;

use crate::engine::Error;
use crate::engine::client::typed;
use crate::pods::PodFacts;

/// Holds a pod until the Job has counted it.
pub const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label: which of an Indexed Job's completions a pod is for.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation: how often pods of this index have failed before, of a Job with a limit per index.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation: the same of failures that its policy ignores.
pub const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// `spec.managedBy` of Jobs that this controller looks after, as those that say nothing.
const MANAGER: &str = "kubernetes.io/job-controller";

/// What the Job asks for, and how far it is.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// metadata.name
    pub name: String,
    /// spec
    pub spec: JobSpec,
    /// status, with `uncountedTerminatedPods`
    pub status: JobStatus,
    /// It is on its way out.
    pub deleting: bool,
}

impl Wanted {
    /// Reads a stored Job.
    pub fn read(stored: &Stored) -> Result<Self, Error> {
        let job: Job = typed(stored)?;
        let mut status = job.status.unwrap_or_default();
        status.uncounted_terminated_pods.get_or_insert_default();
        Ok(Self {
            name: stored.key.name.to_string(),
            spec: job.spec.unwrap_or_default(),
            status,
            deleting: stored.object.header.deleting,
        })
    }

    /// spec.completions
    #[must_use]
    pub fn completions(&self) -> Option<u32> {
        self.spec.completions.map(|number| u32::try_from(number).unwrap_or_default())
    }

    /// spec.parallelism
    #[must_use]
    pub fn parallelism(&self) -> usize {
        usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or_default()
    }

    /// Each completion has a number.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// spec.suspend
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.spec.suspend.unwrap_or_default()
    }

    /// A pod that is on its way out is replaced only when it is over.
    #[must_use]
    pub fn replaces_failed_only(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    /// spec.activeDeadlineSeconds
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let seconds = self.spec.active_deadline_seconds?;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
    }

    /// Whether somebody else looks after it.
    #[must_use]
    pub fn is_managed_elsewhere(&self) -> bool {
        self.spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER)
    }

    /// Whether a condition holds.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        holds(&self.status, name)
    }

    /// Nothing of it will change any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        is_finished(&self.status)
    }
}

/// Whether a condition holds.
#[must_use]
pub fn holds(status: &JobStatus, name: &str) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|one| one.type_ == name && one.status == "True")
}

/// Whether a Job with this status is Complete or Failed.
#[must_use]
pub fn is_finished(status: &JobStatus) -> bool {
    holds(status, "Complete") || holds(status, "Failed")
}

/// One pod of the Job.
#[derive(Clone, Debug)]
pub struct JobPod {
    /// The pod.
    pub facts: PodFacts,
    /// Its completion index, when it has one.
    pub index: Option<u32>,
    /// It has the finalizer: nobody has counted it yet, or nobody has said so.
    pub tracked: bool,
}

impl JobPod {
    /// Reads a stored pod.
    pub fn read(stored: Arc<Stored>) -> Result<Self, Error> {
        let tracked = is_tracked(&stored);
        let facts = PodFacts::read(stored)?;
        let index = number(&facts, COMPLETION_INDEX);
        Ok(Self { facts, index, tracked })
    }

    /// Its UID.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.facts.uid().as_str()
    }

    /// Its phase is Succeeded.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.facts.phase() == "Succeeded"
    }

    /// Whether it counts as failed: it says so, or it is on its way out and that is enough for this Job.
    #[must_use]
    pub fn has_failed(&self, wanted: &Wanted) -> bool {
        match self.facts.phase() {
            "Failed" => true,
            "Succeeded" => false,
            _ if wanted.replaces_failed_only() => self.is_over(),
            _ => self.facts.is_deleting(),
        }
    }

    /// On its way out, and perhaps still running.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.facts.is_deleting() && !self.facts.is_finished() && !self.is_over()
    }

    /// Its end is confirmed, though nobody has said how it ended: only finalizers still hold it. It was forced out, its
    /// Node has gone for good, or it never had one.
    fn is_over(&self) -> bool {
        let grace = self.facts.pod.metadata.deletion_grace_period_seconds;
        self.facts.is_deleting() && grace.is_none_or(|seconds| seconds == 0)
    }

    /// How often pods of its index had failed before it, and how many failures of them had been ignored.
    #[must_use]
    pub fn failures_before(&self) -> (i32, i32) {
        let count = |name| {
            let found = number(&self.facts, name).and_then(|count| i32::try_from(count).ok());
            found.unwrap_or_default()
        };
        (count(INDEX_FAILURES), count(INDEX_IGNORED_FAILURES))
    }

    /// When it ended, as far as anybody says.
    #[must_use]
    pub fn ended(&self) -> Timestamp {
        let by_containers = || {
            let status = self.facts.pod.status.as_ref()?;
            let all = status.container_statuses.as_deref().filter(|all| !all.is_empty())?;
            all.iter().map(ended).collect::<Option<Vec<_>>>()?.into_iter().max()
        };
        let unready = || {
            let ready = self.facts.condition("Ready").filter(|one| one.status == "False")?;
            ready.last_transition_time.as_ref().map(|time| time.0)
        };
        let deleted = || {
            let meta = &self.facts.pod.metadata;
            let grace = meta.deletion_grace_period_seconds.unwrap_or_default();
            let end = meta.deletion_timestamp.as_ref()?.0;
            end.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
        };
        by_containers().or_else(unready).or_else(deleted).unwrap_or_else(|| self.facts.created())
    }
}

/// Whether a stored pod has the finalizer.
#[must_use]
pub fn is_tracked(pod: &Stored) -> bool {
    pod.object.header.finalizers.iter().any(|name| name == TRACKING_FINALIZER)
}

fn ended(container: &ContainerStatus) -> Option<Timestamp> {
    let terminated = container.state.as_ref()?.terminated.as_ref()?;
    terminated.finished_at.as_ref().map(|time| time.0)
}

/// An annotation that is a number; nothing when it is none, whoever wrote it.
fn number(pod: &PodFacts, name: &str) -> Option<u32> {
    let text = pod.pod.metadata.annotations.as_ref()?.get(name)?;
    text.parse::<u32>().ok().filter(|number| i32::try_from(*number).is_ok())
}

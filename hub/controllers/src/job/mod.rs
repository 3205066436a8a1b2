//! Runs the pods of each Job until enough of them have succeeded, or too many have failed.
//!
//! ```text
//! intervals  sets of completion indexes            failure_policy, success_policy   what the policies say
//! observe    a Job and its pods as read            backoff   how long it waits after failures
//! tally      what the pods come to                 outcome   is it over, and why
//! decide     who is missing or too many
//! template   the pod of a slot                     track     counts each pod once
//! pods       makes, ends, adopts, releases
//! ```
//!
//! Guarantees:
//! - each pod counts once, and nobody takes one away before it has: it has a finalizer until then
//!   (`a_job_counts_each_pod_once_and_is_complete`, `a_pod_is_counted_once_wherever_it_breaks_off`);
//! - a pod whose Job is gone, or over, is held by nobody (`what_a_job_leaves_behind_is_held_by_nobody`);
//! - all pods of one Job run one build of its images
//!   (`all_pods_of_a_job_run_one_build_and_the_next_job_the_next_one`).
//!
//! After it has acted it reads its pods anew: what the status says of them is what is there.

pub mod backoff;
pub mod decide;
pub mod failure_policy;
pub mod intervals;
pub mod observe;
pub mod outcome;
mod pods;
pub mod success_policy;
pub mod tally;
pub mod template;
#[cfg(test)]
mod testing;
pub mod track;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::images::Images;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::control::is_a;
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error, Throttle};
use crate::index::{IndexTerm, Indexes};
use crate::pods::controller_of;
use crate::selector::Selector;
use backoff::{FailureRecord, FailureRecords};
use decide::Action;
use observe::{JobPod, Wanted, is_tracked};
use outcome::JobOutcome;
use tally::Tally;

/// The controller.
pub struct Jobs {
    client: Client,
    indexes: Indexes,
    jobs: Arc<Kind>,
    pods: Arc<Kind>,
    images: Arc<dyn Images>,
    failures: FailureRecords,
    /// When each Job of many pods was last looked at.
    throttle: Throttle,
}

impl Jobs {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes, images: Arc<dyn Images>) -> Result<Self, Error> {
        let (jobs, pods) = (kind("batch", "v1", "jobs")?, kind("", "v1", "pods")?);
        let (failures, throttle) = (FailureRecords::default(), Throttle::default());
        Ok(Self { client, indexes, jobs, pods, images, failures, throttle })
    }

    fn tell(&self, job: &Stored, reason: &'static str, text: String) {
        self.client.recorder.normal(&self.jobs, job, self.client.name(), reason, text);
    }

    fn warn(&self, job: &Stored, reason: &'static str, text: String) {
        self.client.recorder.warning(&self.jobs, job, self.client.name(), reason, text);
    }

    /// The Job that controls a pod, by its name.
    fn job_of(&self, pod: &Stored) -> Option<Key> {
        let owner = pod.object.header.owners.iter().find(|owner| owner.controller)?;
        let (cluster, namespace) = (&pod.key.cluster, &pod.key.namespace);
        is_a(owner, &self.jobs).then(|| key_of(&self.jobs, cluster, namespace, &owner.name))
    }

    /// The Jobs that a pod belongs to, or could be adopted by.
    fn jobs_of(&self, pod: &Stored) -> Vec<Key> {
        if controller_of(pod).is_some() {
            return self.job_of(pod).into_iter().collect();
        }
        self.indexes.selector_owners_of(&self.jobs, pod)
    }

    /// Its pods that have the finalizer.
    fn tracked_pods(&self, job: &Stored) -> Vec<Arc<Stored>> {
        let pods = self.indexes.pods.find(IndexTerm::controlled_by(job));
        pods.iter().map(|pod| pod.stored.clone()).filter(|pod| is_tracked(pod)).collect()
    }

    /// A pod with the finalizer that may be nobody's: whoever cannot say that it will count it lets it go.
    async fn free(&self, key: &Key) -> Result<(), Error> {
        let snapshot = self.client.snapshot();
        let Some(pod) = snapshot.get(key).filter(|pod| is_tracked(pod)) else { return Ok(()) };
        if let Some(owner) = controller_of(&pod) {
            // Of another kind, it knows itself what the finalizer is for.
            let Some(job) = self.job_of(&pod) else { return Ok(()) };
            let job = snapshot.get(&job).filter(|job| job.object.header.uid == *owner);
            if let Some(job) = job {
                let wanted = Wanted::read(&job)?;
                if wanted.is_managed_elsewhere() || !wanted.is_finished() {
                    return Ok(());
                }
            }
        }
        self.untrack(&pod).await.map_err(Error::api("take a finalizer off a pod"))
    }

    async fn sync(
        &self,
        job: &Stored,
        mut wanted: Wanted,
        selector: &Selector,
    ) -> Result<Option<Duration>, Error> {
        if wanted.is_managed_elsewhere() {
            return Ok(None);
        }
        if wanted.is_finished() {
            return self.leave(job).await.map(|()| None);
        }
        self.claim(job, selector).await?;
        let pods = self.own(job, selector, Vec::new())?;
        if let Some(rest) = self.throttle.wait(&job.key, pods.len()) {
            return Ok(Some(rest));
        }
        let (before, now) = (wanted.status.clone(), self.client.clock.now());
        if wanted.status.start_time.is_none() && !wanted.is_suspended() {
            wanted.status.start_time = Some(Time(seconds(now)));
        }
        let tally = Tally::of(&wanted, &pods);
        let over = outcome::outcome(&wanted, &pods, &tally, now);
        let action = match &over {
            Some(_) => Action::End,
            None if wanted.deleting => Action::Nothing,
            None => {
                let record = self.record(job, &wanted, (&pods, &tally), now);
                decide::manage(&wanted, &tally, record, now)
            }
        };
        if let Action::Create(_) = &action
            && self.keep_pins(job, &pods).await?
        {
            // The Job is another one by now, and comes back as such.
            return Ok(None);
        }
        let acted = self.act(job, &tally, &action).await;
        let deadline = if over.is_none() { outcome::deadline_in(&wanted, now) } else { None };
        let ends = tally.active.iter().filter(|_| over.is_some());
        let ended = ends.map(|pod| pod.uid().to_owned()).collect();
        self.track(job, &wanted, &before, (pods, over, &ended, selector)).await?;
        acted.map_err(Error::api("manage the pods of a Job"))?;
        let wait = if let Action::Wait(wait) = action { Some(wait) } else { None };
        Ok([wait, deadline].into_iter().flatten().min())
    }

    /// It is over: nothing of it is held, nor remembered.
    async fn leave(&self, job: &Stored) -> Result<(), Error> {
        self.failures.forget(&job.key);
        self.throttle.forget(&job.key);
        let pods = self.tracked_pods(job);
        let freed = join_all(pods.iter().map(|pod| self.untrack(pod))).await;
        let freed: Result<(), ApiError> = freed.into_iter().collect();
        freed.map_err(Error::api("take finalizers off pods"))
    }

    /// How often pods have failed, with those that this run has found.
    fn record(
        &self,
        job: &Stored,
        wanted: &Wanted,
        (pods, tally): (&[JobPod], &Tally<'_>),
        now: Timestamp,
    ) -> FailureRecord {
        let known = self.failures.get(&job.key, &job.object.header.uid);
        let known = known.unwrap_or_else(|| FailureRecord::of(pods, wanted, now));
        known.after(&tally.new_succeeded, &tally.new_failed, now)
    }

    async fn act(&self, job: &Stored, tally: &Tally<'_>, action: &Action) -> Result<(), ApiError> {
        match action {
            Action::Nothing | Action::Wait(_) => Ok(()),
            Action::End => self.end(job, &tally.active, true).await,
            Action::Suspend => self.end(job, &tally.active, false).await,
            Action::Remove(going) => {
                let mut pods = tally.active.clone();
                pods.retain(|pod| going.iter().any(|uid| uid == pod.uid()));
                self.end(job, &pods, false).await
            }
            Action::Create(slots) => self.create(job, slots).await,
        }
    }

    /// Writes what is to be counted, takes the finalizers off, counts.
    async fn track(
        &self,
        job: &Stored,
        wanted: &Wanted,
        before: &JobStatus,
        (known, over, ended, selector): (
            Vec<JobPod>,
            Option<JobOutcome>,
            &BTreeSet<String>,
            &Selector,
        ),
    ) -> Result<(), Error> {
        let now = seconds(self.client.clock.now());
        let pods = self.own(job, selector, known)?;
        let tally = Tally::of(wanted, &pods);
        // As long as somebody runs it is not over, whatever was decided.
        let over = over.filter(|_| tally.active.is_empty());
        let over = over.or_else(|| outcome::completed(wanted, &tally));
        let progress = track::progress(wanted, &pods, &tally, (over.as_ref(), ended), now);
        let mut written = None;
        if progress.status != *before {
            written = Some(self.write_status(job, &progress.status).await?);
        }
        let tally = tally.seen_for_good(&progress.untrack);
        let record = self.record(job, wanted, (&pods, &tally), self.client.clock.now());
        if record != FailureRecord::default() || !tally.new_succeeded.is_empty() {
            self.failures.put(&job.key, &job.object.header.uid, record);
        }
        match progress.suspension {
            Some(true) => self.tell(job, "Suspended", "Job suspended".to_owned()),
            Some(false) => self.tell(job, "Resumed", "Job resumed".to_owned()),
            None => {}
        }
        let (left, freed) = self.untrack_all(&pods, &progress.untrack).await;
        let mut status = progress.status.clone();
        track::settle(&mut status, |uid| left.contains(uid));
        let over = over.filter(|_| freed.is_ok() && !progress.is_full);
        let over = over.filter(|over| track::finish(&mut status, over, now));
        if status != progress.status {
            self.write_status(written.as_deref().unwrap_or(job), &status).await?;
        }
        if let Some(over) = over {
            self.tell_end(job, wanted, &status, over);
        }
        freed.map_err(Error::api("take finalizers off pods"))
    }

    /// Takes the finalizer off these; the UIDs of those that have it still, and what went wrong.
    async fn untrack_all<'a>(
        &self,
        pods: &'a [JobPod],
        these: &BTreeSet<String>,
    ) -> (BTreeSet<&'a str>, Result<(), ApiError>) {
        let seen = pods.iter().filter(|pod| these.contains(pod.uid()));
        let seen: Vec<&JobPod> = seen.collect();
        let freed = join_all(seen.iter().map(|pod| self.untrack(&pod.facts.stored))).await;
        let mut left: BTreeSet<&str> = track::tracked(pods).collect();
        for (pod, _) in seen.iter().zip(&freed).filter(|(_, freed)| freed.is_ok()) {
            left.remove(pod.uid());
        }
        (left, freed.into_iter().collect())
    }

    fn tell_end(&self, job: &Stored, wanted: &Wanted, status: &JobStatus, over: JobOutcome) {
        if !over.succeeded {
            // The reasons are upstream's, and few.
            let reason = match over.reason.as_str() {
                "PodFailurePolicy" => "PodFailurePolicy",
                "DeadlineExceeded" => "DeadlineExceeded",
                "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
                "FailedIndexes" => "FailedIndexes",
                _ => "BackoffLimitExceeded",
            };
            return self.warn(job, reason, over.message);
        }
        let succeeded = status.succeeded.unwrap_or_default();
        if wanted.spec.completions.is_some_and(|completions| completions < succeeded) {
            let text = "Too many succeeded pods running after completion count reached";
            self.warn(job, "TooManySucceededPods", text.to_owned());
        }
        self.tell(job, "Completed", "Job completed".to_owned());
    }

    /// As the Job was read: whoever has changed it meanwhile is heard first.
    async fn write_status(&self, job: &Stored, status: &JobStatus) -> Result<Arc<Stored>, Error> {
        let written = self.client.modify_at(&self.jobs, job, Some("status"), |mut value| {
            value["status"] = json!(status);
            Ok(value)
        });
        let written = written.await.map_err(Error::api("write the status of a Job"))?;
        Ok(written.stored)
    }
}

/// Without what a status does not keep.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[async_trait]
impl Controller for Jobs {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.jobs), everywhere(&self.pods)]
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.jobs.storage() {
            let gone = event.before.as_ref().filter(|_| event.now.is_none());
            let left = gone.map(|job| self.tracked_pods(job)).unwrap_or_default();
            let left = left.iter().map(|pod| pod.key.clone());
            return left.chain([key.clone()]).collect();
        }
        let mut keys = Vec::new();
        if let Some(pod) = event.now.as_ref().filter(|pod| is_tracked(pod)) {
            let job = self.job_of(pod).and_then(|job| now.get(&job));
            let owner = controller_of(pod);
            if job.is_none_or(|job| Some(&job.object.header.uid) != owner) {
                keys.push(key.clone());
            }
        }
        // Who could adopt a pod is asked only when that may have changed, not at every report.
        if let (Some(pod), Some(before)) = (&event.now, &event.before)
            && controller_of(pod).is_none()
            && pod.object.header.labels == before.object.header.labels
            && pod.object.header.owners == before.object.header.owners
        {
            return keys;
        }
        let sides = event.now.iter().chain(event.before.iter());
        keys.extend(sides.flat_map(|pod| self.jobs_of(pod)));
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        if key.resource == *self.pods.storage() {
            return self.free(key).await.map(|()| None);
        }
        let Some(job) = self.client.snapshot().get(key) else {
            self.failures.forget(key);
            self.throttle.forget(key);
            return Ok(None);
        };
        let wanted = Wanted::read(&job)?;
        let selector = wanted.spec.selector.as_ref().and_then(Selector::of_workload);
        let Some(selector) = selector else {
            return Err(Error::Refused("the selector is empty or unknown".into()));
        };
        self.sync(&job, wanted, &selector).await
    }
}

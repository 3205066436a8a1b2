//! What a Job does to its pods: takes them under control and lets them go, makes them, ends them, takes its finalizer
//! off.

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_api::pins::{Pins, images_in};
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;
use futures::future::join_all;
use serde_json::{Value, json};

use super::Jobs;
use super::decide::{PODS_AT_ONCE_MAX, Slot};
use super::observe::{JobPod, TRACKING_FINALIZER};
use super::template;
use crate::control::{Claim, claim, owner_reference};
use crate::engine::Error;
use crate::index::{IndexTerm, PodEntry, controlled_or_adoptable};
use crate::pins;
use crate::pods::controller_of;
use crate::selector::Selector;

impl Jobs {
    /// Adopts and releases.
    pub(super) async fn claim(&self, job: &Stored, selector: &Selector) -> Result<(), Error> {
        let header = &job.object.header;
        for pod in controlled_or_adoptable(&self.indexes.pods, job, selector) {
            let its = &pod.stored.object.header;
            let matches = selector.matches(&its.labels);
            let whose = controller_of(&pod.stored);
            let outcome = match claim(whose, its.deleting, matches, &header.uid, header.deleting) {
                Claim::Mine | Claim::Ignore => Ok(()),
                Claim::Adopt => self.adopt(job, &pod.stored).await,
                Claim::Release => self.release(job, &pod.stored).await,
            };
            match outcome {
                // It changed or went meanwhile; its event brings this Job back.
                Err(race) if race.code == 404 || race.code == 409 => {}
                other => other.map_err(Error::api("adopt or release a pod"))?,
            }
        }
        Ok(())
    }

    /// Its own pods of this moment; those that are as they were known are not read again.
    pub(super) fn own(
        &self,
        job: &Stored,
        selector: &Selector,
        known: Vec<JobPod>,
    ) -> Result<Vec<JobPod>, Error> {
        let mine = self.indexes.pods.find(IndexTerm::controlled_by(job));
        let matching =
            mine.into_iter().filter(|pod| selector.matches(&pod.stored.object.header.labels));
        let mut known: HashMap<Uid, JobPod> =
            known.into_iter().map(|pod| (pod.facts.uid().clone(), pod)).collect();
        let read = |pod: Arc<PodEntry>| match known.remove(&pod.stored.object.header.uid) {
            Some(known) if known.facts.stored.revision == pod.stored.revision => Ok(known),
            _ => JobPod::read(pod.stored.clone()),
        };
        matching.map(read).collect()
    }

    async fn adopt(&self, job: &Stored, pod: &Stored) -> Result<(), ApiError> {
        if !self.client.stays(job) {
            return Ok(());
        }
        let reference = owner_reference(&self.jobs, job);
        let change = |mut value: Value| {
            push(&mut value["metadata"]["ownerReferences"], reference.clone());
            push(&mut value["metadata"]["finalizers"], TRACKING_FINALIZER.into());
            Ok(value)
        };
        self.client.modify_at(&self.pods, pod, None, change).await.map(|_| ())
    }

    async fn release(&self, job: &Stored, pod: &Stored) -> Result<(), ApiError> {
        let uid = &job.object.header.uid;
        let change = |mut value: Value| {
            if let Some(owners) = value["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| owner["uid"] != *uid);
            }
            take_finalizer(&mut value);
            Ok(value)
        };
        self.client.modify_this(&self.pods, pod, None, change).await.map(|_| ())
    }

    /// Takes the finalizer off; that the pod is gone is fine.
    pub(super) async fn untrack(&self, pod: &Stored) -> Result<(), ApiError> {
        let change = |mut value: Value| {
            take_finalizer(&mut value);
            Ok(value)
        };
        match self.client.modify_this(&self.pods, pod, None, change).await {
            Err(gone) if gone.code == 404 => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Keeps with the Job what its pods are to run, before one is made; whether that was not so yet.
    pub(super) async fn keep_pins(&self, job: &Stored, pods: &[JobPod]) -> Result<bool, Error> {
        let value = job.object.value().map_err(Error::api("read a Job"))?;
        let mut before = Pins::of(&value);
        before.keep_only(&images_in(&value));
        let pods = || pods.iter().map(|pod| pod.facts.stored.clone()).collect();
        let kept = pins::of_template(&self.client, &self.jobs, &*self.images, job, pods).await;
        let kept = kept.inspect_err(|error| {
            self.warn(job, "FailedCreate", format!("Error creating: {error}"));
        });
        let kept = kept.map_err(Error::api("keep what the images of a Job stand for"))?;
        Ok(kept != before)
    }

    /// Creates in bursts of 1, 2, 4, …: a Job that is refused is refused once, not 500 times.
    pub(super) async fn create(&self, job: &Stored, slots: &[Slot]) -> Result<(), ApiError> {
        let value = job.object.value()?;
        let (template, pins) = (&value["spec"]["template"], Pins::of(&value));
        let owner = owner_reference(&self.jobs, job);
        let mut left = &slots[..slots.len().min(PODS_AT_ONCE_MAX)];
        let mut batch = 1;
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let made = now.iter().map(|slot| {
                let mut pod = template::pod(&job.key.name, template, &owner, slot);
                pins.write(&mut pod);
                pod
            });
            let outcomes = join_all(made.map(|pod| self.create_one(job, pod))).await;
            outcomes.into_iter().collect::<Result<(), _>>()?;
            left = later;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, job: &Stored, pod: Value) -> Result<(), ApiError> {
        let (cluster, namespace) = (&job.key.cluster, &*job.key.namespace);
        match self.client.create(&self.pods, cluster, namespace, &pod).await {
            Ok(made) => {
                let text = format!("Created pod: {}", made.key.name);
                self.tell(job, "SuccessfulCreate", text);
                Ok(())
            }
            // Its namespace goes: nothing to tell anybody, and no failure.
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                self.warn(job, "FailedCreate", format!("Error creating: {error}"));
                Err(error)
            }
        }
    }

    /// Ends pods; those that are `counted` keep the finalizer until they are.
    pub(super) async fn end(
        &self,
        job: &Stored,
        pods: &[&JobPod],
        counted: bool,
    ) -> Result<(), ApiError> {
        let ends = pods.iter().map(|pod| async {
            if !counted {
                self.untrack(&pod.facts.stored).await?;
            }
            let (key, uid) = (pod.facts.key(), pod.facts.uid());
            match self.client.delete(&self.pods, key, uid, Propagation::Background).await {
                Ok(_) => {
                    self.tell(job, "SuccessfulDelete", format!("Deleted pod: {}", key.name));
                    Ok(())
                }
                Err(error) => {
                    self.warn(job, "FailedDelete", format!("Error deleting: {error}"));
                    Err(error)
                }
            }
        });
        join_all(ends).await.into_iter().collect()
    }
}

fn push(list: &mut Value, one: Value) {
    match list.as_array_mut() {
        Some(list) if list.contains(&one) => {}
        Some(list) => list.push(one),
        None => *list = json!([one]),
    }
}

fn take_finalizer(pod: &mut Value) {
    if let Some(list) = pod["metadata"]["finalizers"].as_array_mut() {
        list.retain(|name| name != TRACKING_FINALIZER);
    }
}

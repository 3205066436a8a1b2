//! Keeps as many pods as each ReplicaSet asks for.
//!
//! Guarantees: only pods that the set controls are deleted; pods whose labels stop matching are
//! released, matching pods without a controller are adopted; a set that cannot create (quota, bad
//! template) tries one pod at a time.
//!
//! There are no "expectations" as kube-controller-manager has them: they bridge the time until a
//! cache shows one's own writes, and here a snapshot taken after a write always contains it.

pub mod decide;
mod status;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_store::objects::Propagation;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::engine::desk::{everywhere, in_namespace, key as key_of, kind, typed};
use crate::engine::{Controller, Desk, Error};
use crate::pods::{PodFacts, controller_of, is_active};
use crate::selector::Selector;
use decide::{Claim, Need};

/// Most pods created or deleted by one set before it looks again.
pub const BURST: usize = 500;

/// The controller.
pub struct ReplicaSets {
    desk: Desk,
    sets: &'static Kind,
    pods: &'static Kind,
}

impl ReplicaSets {
    /// Writes through this desk.
    pub fn new(desk: Desk) -> Result<Self, Error> {
        Ok(Self { desk, sets: kind("apps", "v1", "replicasets")?, pods: kind("", "v1", "pods")? })
    }

    /// The sets that a pod belongs to, or could be adopted by.
    fn sets_of(&self, pod: &Stored, now: &dyn Snapshot) -> Vec<Key> {
        let (cluster, namespace) = (&pod.key.cluster, &pod.key.namespace);
        if let Some(owner) = pod.object.header.owners.iter().find(|o| o.controller) {
            if owner.kind != self.sets.kind || !owner.api_version.starts_with("apps/") {
                return Vec::new();
            }
            return vec![key_of(self.sets, cluster, namespace, &owner.name)];
        }
        let labels = &pod.object.header.labels;
        now.range(&in_namespace(self.sets, cluster, namespace), None)
            .filter(|set| {
                let spec = typed::<ReplicaSet>(set).ok().and_then(|s| s.spec);
                spec.and_then(|s| Selector::of_workload(&s.selector))
                    .is_some_and(|s| s.matches(labels))
            })
            .map(|set| set.key.clone())
            .collect()
    }

    /// The set's own pods of this moment, after adopting and releasing.
    async fn claim(
        &self,
        stored: &Stored,
        selector: &Selector,
        snapshot: &dyn Snapshot,
    ) -> Result<Vec<Arc<Stored>>, Error> {
        let uid = &stored.object.header.uid;
        let deleting = stored.object.header.deleting;
        let mut mine = Vec::new();
        let scope = in_namespace(self.pods, &stored.key.cluster, &stored.key.namespace);
        for pod in snapshot.range(&scope, None) {
            let header = &pod.object.header;
            let matches = selector.matches(&header.labels);
            match decide::claim(controller_of(&pod), header.deleting, matches, uid, deleting) {
                Claim::Mine => mine.push(pod),
                Claim::Ignore => {}
                Claim::Adopt => {
                    mine.extend(self.adopt(stored, &pod).await?);
                }
                Claim::Release => self.release(uid, &pod).await?,
            }
        }
        Ok(mine)
    }

    async fn adopt(&self, set: &Stored, pod: &Stored) -> Result<Option<Arc<Stored>>, Error> {
        let reference = owner_reference(self.sets, set);
        let adopted = self
            .desk
            .modify_at(self.pods, pod, None, |mut value| {
                match &mut value["metadata"]["ownerReferences"] {
                    Value::Array(list) => list.push(reference.clone()),
                    other => *other = json!([reference.clone()]),
                }
                Ok(value)
            })
            .await;
        match adopted {
            Ok(written) => Ok(Some(written.stored)),
            // It changed or went meanwhile; its event brings this set back.
            Err(race) if race.code == 404 || race.code == 409 => Ok(None),
            Err(other) => Err(Error::api("adopt a pod")(other)),
        }
    }

    async fn release(&self, uid: &str, pod: &Stored) -> Result<(), Error> {
        let released = self
            .desk
            .modify(self.pods, &pod.key, None, |mut value| {
                if let Some(list) = value["metadata"]["ownerReferences"].as_array_mut() {
                    list.retain(|o| o["uid"].as_str() != Some(uid));
                }
                Ok(value)
            })
            .await;
        match released {
            Err(gone) if gone.code == 404 => Ok(()),
            other => other.map(|_| ()).map_err(Error::api("release a pod")),
        }
    }

    /// Creates in bursts of 1, 2, 4, …: a set that is refused is refused once, not 500 times.
    async fn create(
        &self,
        stored: &Stored,
        set: &ReplicaSet,
        count: usize,
    ) -> Result<(), ApiError> {
        let pod = decide::pod_from(set, &owner_reference(self.sets, stored))?;
        let mut left = count.min(BURST);
        let mut batch = 1;
        while left > 0 {
            let now = batch.min(left);
            let outcomes = join_all((0..now).map(|_| self.create_one(stored, &pod))).await;
            if let Some(error) = outcomes.into_iter().find_map(Result::err) {
                return Err(error);
            }
            left -= now;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, set: &Stored, pod: &Pod) -> Result<(), ApiError> {
        let (cluster, namespace) = (&set.key.cluster, &*set.key.namespace);
        match self.desk.create(self.pods, cluster, namespace, pod).await {
            Ok(made) => {
                let text = format!("Created pod: {}", made.key.name);
                self.desk.recorder.normal(
                    self.sets,
                    set,
                    self.desk.name(),
                    "SuccessfulCreate",
                    text,
                );
                Ok(())
            }
            Err(error) => {
                if !ends_with_namespace(&error) {
                    let text = format!("Error creating: {error}");
                    self.desk.recorder.warning(
                        self.sets,
                        set,
                        self.desk.name(),
                        "FailedCreate",
                        text,
                    );
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &Stored, victims: &[PodFacts]) -> Result<(), ApiError> {
        let deletions = victims.iter().take(BURST).map(|pod| async {
            self.desk.delete(self.pods, pod.key(), pod.uid(), Propagation::Background).await?;
            let text = format!("Deleted pod: {}", pod.key().name);
            self.desk.recorder.normal(self.sets, set, self.desk.name(), "SuccessfulDelete", text);
            Ok(())
        });
        join_all(deletions).await.into_iter().collect()
    }

    /// Creates or deletes; the error is kept for the status.
    async fn manage(
        &self,
        stored: &Stored,
        set: &ReplicaSet,
        mine: Vec<Arc<Stored>>,
    ) -> Result<(), ApiError> {
        let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let wanted = usize::try_from(wanted).unwrap_or_default();
        let active: Vec<Arc<Stored>> = mine.into_iter().filter(|pod| is_active(pod)).collect();
        match decide::need(active.len(), wanted) {
            Need::Nothing => Ok(()),
            Need::Create(count) => self.create(stored, set, count).await,
            Need::Delete(excess) => {
                // Only now do their bodies matter.
                let active = active.into_iter().map(PodFacts::read).collect::<Result<_, _>>();
                let active = active.map_err(|error| ApiError::internal(error.chain()))?;
                self.delete(stored, &decide::victims(active, excess)).await
            }
        }
    }
}

/// Content can no longer be made because its namespace goes: nothing to tell anybody.
fn ends_with_namespace(error: &ApiError) -> bool {
    error.code == 403 && error.message.contains("being terminated")
}

/// The reference by which an object controls what it makes.
pub(crate) fn owner_reference(kind: &Kind, owner: &Stored) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "name": &*owner.key.name,
        "uid": owner.object.header.uid, "controller": true, "blockOwnerDeletion": true,
    })
}

#[async_trait]
impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        self.desk.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(self.sets), everywhere(self.pods)]
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == self.sets.storage() {
            return vec![key.clone()];
        }
        // Which set could adopt a pod is asked only when that may have changed, not at every report.
        if let (Some(pod), Some(before)) = (&event.now, &event.before)
            && controller_of(pod).is_none()
            && pod.object.header.labels == before.object.header.labels
            && pod.object.header.owners == before.object.header.owners
        {
            return Vec::new();
        }
        let sides = event.now.iter().chain(event.before.iter());
        let mut keys: Vec<Key> = sides.flat_map(|pod| self.sets_of(pod, now)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.desk.snapshot();
        let Some(stored) = snapshot.get(key) else { return Ok(None) };
        let set: ReplicaSet = typed(&stored)?;
        let selector = set.spec.as_ref().and_then(|s| Selector::of_workload(&s.selector));
        let Some(selector) = selector else {
            return Err(Error::Refused("the selector is empty or unknown".into()));
        };
        let mine = self.claim(&stored, &selector, &*snapshot).await?;
        let managed = if stored.object.header.deleting {
            Ok(())
        } else {
            self.manage(&stored, &set, mine).await
        };
        let again = self.report(key, &set, managed.as_ref().err()).await?;
        match managed {
            Err(error) if ends_with_namespace(&error) => Ok(None),
            Err(error) => Err(Error::api("manage the pods of a ReplicaSet")(error)),
            Ok(()) => Ok(again),
        }
    }
}

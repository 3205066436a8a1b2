//! Keeps as many pods as each ReplicaSet asks for, and each ReplicationController, which is the same with a plainer
//! selector.
//!
//! Guarantees:
//! - a pod is a set's own only in the set's namespace (`a_pod_of_another_namespace_is_not_the_sets_own`);
//! - pods whose labels stop matching are released, matching pods without a controller are adopted (`claims`,
//!   `a_pod_that_loses_its_label_is_replaced_and_left_alone`,
//!   `a_replication_controller_keeps_its_number_and_lets_pods_go`);
//! - a set makes no pod too many (`a_burst_makes_no_pod_too_many`).
//!
//! There are no "expectations" as kube-controller-manager has them: they bridge the time until a
//! cache shows one's own writes, and here snapshots and indexes always contain them.

pub mod decide;
mod status;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::images::Images;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Selection};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::control::{adopt, is_a, owner_reference, release};
use crate::engine::client::{everywhere, key as key_of, kind, typed};
use crate::engine::{Client, Controller, Error, Throttle};
use crate::index::{Entry, IndexTerm, Indexes, PodEntry, controlled_or_adoptable};
use crate::pins;
use crate::pods::{PodFacts, controller_of};
use crate::selector::Selector;
use decide::{Claim, Need};

/// Most pods created or deleted by one set before it looks again.
pub const PODS_AT_ONCE_MAX: usize = 500;

/// The controller.
pub struct ReplicaSets {
    client: Client,
    indexes: Indexes,
    sets: Arc<Kind>,
    pods: Arc<Kind>,
    images: Arc<dyn Images>,
    /// When each set's status was last written.
    throttle: Throttle,
}

impl ReplicaSets {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes, images: Arc<dyn Images>) -> Result<Self, Error> {
        Self::of(kind("apps", "v1", "replicasets")?, client, indexes, images)
    }

    /// The same of ReplicationControllers.
    pub fn of_replication_controllers(
        client: Client,
        indexes: Indexes,
        images: Arc<dyn Images>,
    ) -> Result<Self, Error> {
        Self::of(kind("", "v1", "replicationcontrollers")?, client, indexes, images)
    }

    fn of(
        sets: Arc<Kind>,
        client: Client,
        indexes: Indexes,
        images: Arc<dyn Images>,
    ) -> Result<Self, Error> {
        let pods = kind("", "v1", "pods")?;
        Ok(Self { client, indexes, sets, pods, images, throttle: Throttle::default() })
    }

    /// As a ReplicaSet, which it may be.
    fn read(&self, stored: &Stored) -> Result<ReplicaSet, Error> {
        if self.sets.selection != Some(Selection::Labels) {
            return typed(stored);
        }
        let mut value = stored.object.value().map_err(Error::api("read a stored object"))?;
        let labels = value["spec"]["selector"].take();
        value["spec"]["selector"] = json!({"matchLabels": labels});
        value["apiVersion"] = json!("apps/v1");
        value["kind"] = json!("ReplicaSet");
        serde_json::from_value(value)
            .map_err(ApiError::internal)
            .map_err(Error::api("read a stored object"))
    }

    /// The sets that a pod belongs to, or could be adopted by.
    fn sets_of(&self, pod: &Stored) -> Vec<Key> {
        if let Some(owner) = pod.object.header.owners.iter().find(|o| o.controller) {
            if !is_a(owner, &self.sets) {
                return Vec::new();
            }
            let (cluster, namespace) = (&pod.key.cluster, &pod.key.namespace);
            return vec![key_of(&self.sets, cluster, namespace, &owner.name)];
        }
        self.indexes.selector_owners_of(&self.sets, pod)
    }

    /// The set's own pods of this moment, after adopting and releasing.
    async fn claim(
        &self,
        stored: &Stored,
        selector: &Selector,
    ) -> Result<Vec<Arc<PodEntry>>, Error> {
        let uid = &stored.object.header.uid;
        let deleting = stored.object.header.deleting;
        let mut mine = Vec::new();
        for pod in controlled_or_adoptable(&self.indexes.pods, stored, selector) {
            let header = &pod.stored.object.header;
            let matches = selector.matches(&header.labels);
            match decide::claim(controller_of(&pod.stored), header.deleting, matches, uid, deleting)
            {
                Claim::Mine => mine.push(pod),
                Claim::Ignore => {}
                Claim::Adopt => {
                    match adopt(&self.client, (&self.sets, stored), (&self.pods, &pod.stored)).await
                    {
                        Ok(adopted) => {
                            mine.extend(adopted.map(|stored| Arc::new(PodEntry::read(stored))));
                        }
                        // It changed or went meanwhile; its event brings this set back.
                        Err(race) if race.code == 404 || race.code == 409 => {}
                        Err(other) => return Err(Error::api("adopt a pod")(other)),
                    }
                }
                Claim::Release => release(&self.client, uid, (&self.pods, &pod.stored))
                    .await
                    .map_err(Error::api("release a pod"))?,
            }
        }
        Ok(mine)
    }

    /// Creates in bursts of 1, 2, 4, …: a set that is refused is refused once, not 500 times.
    async fn create(
        &self,
        stored: &Stored,
        set: &ReplicaSet,
        active: &[Arc<PodEntry>],
        count: usize,
    ) -> Result<(), ApiError> {
        let pods: Vec<&Stored> = active.iter().map(|pod| &*pod.stored).collect();
        let pins = pins::of_set(&self.client, &self.sets, &*self.images, stored, &pods).await?;
        let pod = decide::pod_from(set, &owner_reference(&self.sets, stored), &pins)?;
        let mut left = count.min(PODS_AT_ONCE_MAX);
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
        match self.client.create(&self.pods, cluster, namespace, pod).await {
            Ok(made) => {
                let text = format!("Created pod: {}", made.key.name);
                self.client.recorder.normal(
                    &self.sets,
                    set,
                    self.client.name(),
                    "SuccessfulCreate",
                    text,
                );
                Ok(())
            }
            Err(error) => {
                // Its namespace goes: nothing to tell anybody.
                if !error.is_namespace_terminating() {
                    let text = format!("Error creating: {error}");
                    self.client.recorder.warning(
                        &self.sets,
                        set,
                        self.client.name(),
                        "FailedCreate",
                        text,
                    );
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &Stored, victims: &[PodFacts]) -> Result<(), ApiError> {
        let deletions = victims.iter().take(PODS_AT_ONCE_MAX).map(|pod| async {
            let gone =
                self.client.delete(&self.pods, pod.key(), pod.uid(), Propagation::Background).await;
            let (recorder, name) = (&self.client.recorder, self.client.name());
            match gone {
                Ok(_) => {
                    let text = format!("Deleted pod: {}", pod.key().name);
                    recorder.normal(&self.sets, set, name, "SuccessfulDelete", text);
                    Ok(())
                }
                Err(error) => {
                    let text = format!("Error deleting: {error}");
                    recorder.warning(&self.sets, set, name, "FailedDelete", text);
                    Err(error)
                }
            }
        });
        join_all(deletions).await.into_iter().collect()
    }

    /// Active pods per node of all sets with this one's controller: where an application is crowded,
    /// it can spare a pod.
    fn crowds(&self, set: &Stored) -> HashMap<String, usize> {
        let (cluster, namespace) = (&set.key.cluster, &*set.key.namespace);
        let pods_of =
            |uid: &str| self.indexes.pods.find(IndexTerm::Controller(cluster, namespace, uid));
        let related = match controller_of(set) {
            Some(owner) => self.indexes.sets.find(IndexTerm::Controller(cluster, namespace, owner)),
            None => Vec::new(),
        };
        let related = related.iter().map(|set| set.stored.object.header.uid.as_str());
        let uids: BTreeSet<&str> = related.chain([set.object.header.uid.as_str()]).collect();
        let mut crowds = HashMap::new();
        for pod in uids.into_iter().flat_map(pods_of) {
            if pod.is_active() {
                *crowds.entry(pod.node().to_owned()).or_default() += 1;
            }
        }
        crowds
    }

    /// Creates or deletes; the error is kept for the status.
    async fn manage(
        &self,
        stored: &Stored,
        set: &ReplicaSet,
        mine: Vec<Arc<PodEntry>>,
    ) -> Result<(), ApiError> {
        let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let wanted = usize::try_from(wanted).unwrap_or_default();
        let active: Vec<Arc<PodEntry>> = mine.into_iter().filter(|pod| pod.is_active()).collect();
        match decide::need(active.len(), wanted) {
            Need::Nothing => Ok(()),
            Need::Create(count) => self.create(stored, set, &active, count).await,
            Need::Delete(excess) => {
                // Only now do their bodies matter.
                let active = active.iter().map(|pod| PodFacts::read(pod.stored.clone()));
                let active = active.collect::<Result<_, _>>();
                let active = active.map_err(|error| ApiError::internal(error.chain()))?;
                let victims = decide::victims(active, &self.crowds(stored), excess);
                self.delete(stored, &victims).await
            }
        }
    }
}

#[async_trait]
impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.sets), everywhere(&self.pods)]
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.sets.storage() {
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
        let mut keys: Vec<Key> = sides.flat_map(|pod| self.sets_of(pod)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else {
            self.throttle.forget(key);
            return Ok(None);
        };
        let set = self.read(&stored)?;
        let selector = set.spec.as_ref().and_then(|s| Selector::of_workload(&s.selector));
        let Some(selector) = selector else {
            return Err(Error::Refused("the selector is empty or unknown".into()));
        };
        let mine = self.claim(&stored, &selector).await?;
        let managed = if stored.object.header.deleting {
            Ok(())
        } else {
            self.manage(&stored, &set, mine).await
        };
        // Nothing can be made in a namespace that goes: no failure of the set.
        let managed =
            managed.or_else(|e| if e.is_namespace_terminating() { Ok(()) } else { Err(e) });
        let again = self.report(&stored, &set, managed.as_ref().err()).await?;
        managed.map_err(Error::api("manage the pods of a set"))?;
        Ok(again)
    }
}

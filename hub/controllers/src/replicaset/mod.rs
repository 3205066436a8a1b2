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
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Selection};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::json;

use crate::control::{any, claimed, is_a, owner_reference};
use crate::engine::client::{everywhere, key as key_of, kind, typed};
use crate::engine::{Client, Controller, Error, Throttle};
use crate::index::{IndexTerm, Indexes, PodEntry};
use crate::pins;
use crate::pod_control::PodControl;
use crate::pods::{PodFacts, controller_of};
use crate::selector::Selector;
use decide::Need;

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

    /// Creates so many, of what the set's images stand for.
    async fn create(
        &self,
        stored: &Stored,
        set: &ReplicaSet,
        active: &[Arc<PodEntry>],
        count: usize,
    ) -> Result<(), ApiError> {
        let pods = || active.iter().map(|pod| pod.stored.clone()).collect();
        let pins = pins::of_template(&self.client, &self.sets, &*self.images, stored, pods).await?;
        let pod = decide::pod_from(set, &owner_reference(&self.sets, stored), &pins)?;
        self.control(stored).create_all(count.min(PODS_AT_ONCE_MAX), |_| &pod).await
    }

    fn control<'a>(&'a self, set: &'a Stored) -> PodControl<'a> {
        PodControl { client: &self.client, owner: (&self.sets, set), pods: &self.pods }
    }

    async fn delete(&self, set: &Stored, victims: &[PodFacts]) -> Result<(), ApiError> {
        let victims = victims.iter().take(PODS_AT_ONCE_MAX).map(|pod| &*pod.stored);
        self.control(set).delete_all(victims).await
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
        let pods = (&self.pods, &*self.indexes.pods);
        let owner = (&*self.sets, &*stored);
        let mine = claimed(&self.client, owner, pods, &selector, any).await?;
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

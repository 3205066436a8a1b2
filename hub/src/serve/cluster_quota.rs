//! What each cluster may have in the store, so that none of them fills it for all.
//!
//! ```text
//! what is stored of a cluster:  ≤ quota            everything
//!                               ≤ quota + 1/16     what exists grows, as by a name in managedFields; nothing is made
//!                               more               what exists does not grow
//! ```
//!
//! It is held against what people and their programs write by any door, and against what controllers make or change by
//! an object's main door. Deletions, and what takes no more than it did, always pass; so do statuses and bindings that
//! controllers write, what devices say and what the hub notes for itself. The root has no quota: who writes there is
//! the hub's own administrator.
//!
//! Guarantees:
//! - who fills a cluster is refused, in it alone, and can delete (`a_cluster_that_is_full_is_full_alone`);
//! - it holds against a crowd (`a_crowd_fills_a_cluster_and_no_more`);
//! - in a full cluster statuses, leases and finalizers are written
//!   (`in_a_full_cluster_what_is_there_lives_and_ends`).

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_store::Expect;
use serde_json::Value;

/// This part of the quota is kept for what exists.
const KEPT_SHARE_DIVISOR: u64 = 16;

/// Holds every cluster to its quota.
pub struct ClusterQuota {
    most: u64,
}

impl ClusterQuota {
    /// Each cluster has so many bytes at most.
    pub const fn of(most: u64) -> Self {
        Self { most }
    }

    /// What the cluster may have after this write.
    fn most(&self, review: &Review<'_>) -> u64 {
        match review.verb {
            Verb::Create => self.most,
            Verb::Update | Verb::Delete | Verb::Connect => {
                self.most.saturating_add(self.most / KEPT_SHARE_DIVISOR)
            }
        }
    }
}

#[async_trait]
impl Plugin for ClusterQuota {
    fn name(&self) -> &'static str {
        "ClusterQuota"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let is_write = review.stores && matches!(review.verb, Verb::Create | Verb::Update);
        let is_held = match review.actor {
            Actor::Person(_) => true,
            Actor::Controller(_) => review.subresource.is_none(),
            Actor::Device(_) | Actor::Joining | Actor::Hub => false,
        };
        is_write && is_held && !review.target.cluster.is_root()
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        let mut claims = Claims::default();
        claims.expect(Expect::ClusterAtMost(review.target.key(), self.most(review)));
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_api::kinds;
    use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects, Person, WriteOptions};
    use freewheel_hub_schema::error::ApiError;
    use freewheel_hub_schema::patch;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;
    use serde_json::json;
    use tokio::task::JoinSet;

    use super::*;

    const QUOTA: u64 = 100_000;

    fn place(cluster: &str, (group, plural): (&str, &str), name: &str) -> ObjectRef {
        let kind = kinds::find(group, "v1", plural).unwrap().clone();
        let namespace = if kind.namespaced { "default" } else { "" };
        let cluster = ClusterName::try_from(cluster).unwrap();
        ObjectRef { kind, cluster, namespace: namespace.into(), name: name.to_owned() }
    }

    fn map(cluster: &str, name: &str) -> ObjectRef {
        place(cluster, ("", "configmaps"), name)
    }

    fn ada() -> WriteOptions {
        WriteOptions::by(Actor::from(Person { manager: "kubectl".into(), ..Person::default() }))
    }

    async fn create(objects: &Objects, at: &ObjectRef, bytes: usize) -> Result<(), ApiError> {
        let value = json!({"metadata": {"name": at.name}, "data": {"a": "x".repeat(bytes)}});
        objects.create(&ada(), at, value).await.map(drop)
    }

    /// With a namespace in two clusters and the root.
    async fn objects() -> Objects {
        let objects =
            Objects::new(Arc::new(MemoryStore::new())).admitting(Arc::new(ClusterQuota::of(QUOTA)));
        for cluster in ["root", "pi-7", "pi-8"] {
            let at = place(cluster, ("", "namespaces"), "default");
            objects.create(&WriteOptions::default(), &at, json!({})).await.unwrap();
        }
        objects
    }

    fn held(objects: &Objects) -> u64 {
        objects.store().snapshot().stored_bytes().of(&ClusterName::try_from("pi-7").unwrap())
    }

    async fn fill(objects: &Objects) -> ApiError {
        for number in 0.. {
            let at = map("pi-7", &format!("fill-{number}"));
            if let Err(error) = create(objects, &at, 900).await {
                return error;
            }
        }
        unreachable!()
    }

    #[tokio::test]
    async fn a_cluster_that_is_full_is_full_alone() {
        let objects = objects().await;
        let refused = fill(&objects).await;
        assert_eq!((refused.code, refused.reason), (507, "InsufficientStorage"));
        let said = format!("cluster \"pi-7\" has {} bytes stored of {QUOTA}", held(&objects));
        assert!(refused.message.contains(&said), "{refused}");
        assert!(QUOTA - 2000 < held(&objects) && held(&objects) <= QUOTA);
        for other in ["pi-8", "root"] {
            create(&objects, &map(other, "a"), 2 * 900).await.unwrap();
        }
        let options = DeleteOptions::default();
        objects.delete(&ada(), &map("pi-7", "fill-0"), &options).await.unwrap();
        create(&objects, &map("pi-7", "again"), 900).await.unwrap();
        create(&objects, &map("pi-7", "more"), 900).await.unwrap_err();
        create(&objects, &map("root", "more"), 2 * 100_000).await.unwrap();
    }

    #[tokio::test]
    async fn a_crowd_fills_a_cluster_and_no_more() {
        let objects = objects().await;
        let mut writers = JoinSet::new();
        for number in 0..200 {
            let (objects, at) = (objects.clone(), map("pi-7", &format!("m{number}")));
            writers.spawn(async move { create(&objects, &at, 900).await });
        }
        let outcomes = writers.join_all().await;
        let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!((50..120).contains(&made), "{made}");
        assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|e| e.code == 507));
        assert!(QUOTA - 2000 < held(&objects) && held(&objects) <= QUOTA);
    }

    #[tokio::test]
    async fn in_a_full_cluster_what_is_there_lives_and_ends() {
        let objects = objects().await;
        let (pod, lease) = (place("pi-7", ("", "pods"), "web"), map("pi-7", "held"));
        let web = json!({"spec": {"containers": [{"name": "c", "image": "i:v1"}]}});
        objects.create(&ada(), &pod, web).await.unwrap();
        let finalizers = json!({"metadata": {"finalizers": ["example.org/a"]}});
        objects.create(&ada(), &lease, finalizers).await.unwrap();
        fill(&objects).await;
        // Others write as well, so that managedFields grow.
        let patch = async |how: &WriteOptions, at: &ObjectRef, door, to: Value| {
            let change = |value: Value| patch::merge(&value, to.to_string().as_bytes());
            objects.modify(how, at, door, change).await.map(drop)
        };
        let controller = WriteOptions::by(Actor::Controller("job-controller"));
        let device = Actor::Device(ClusterName::try_from("pi-7").unwrap());
        let long = |bytes: usize| json!({"status": {"message": "x".repeat(bytes)}});
        patch(&controller, &pod, Some("status"), long(40_000)).await.unwrap();
        patch(&WriteOptions::by(device), &pod, Some("status"), long(60_000)).await.unwrap();
        let note = |bytes: usize| json!({"metadata": {"annotations": {"a": "x".repeat(bytes)}}});
        assert!(QUOTA < held(&objects));
        for (door, more) in [(None, note(20)), (Some("status"), long(70_000))] {
            assert_eq!(patch(&ada(), &pod, door, more).await.unwrap_err().code, 507);
        }
        patch(&ada(), &pod, Some("status"), long(10)).await.unwrap();
        patch(&ada(), &pod, None, note(20)).await.unwrap();
        objects.delete(&ada(), &lease, &DeleteOptions::default()).await.unwrap();
        patch(&ada(), &lease, None, json!({"metadata": {"finalizers": null}})).await.unwrap();
        assert_eq!(objects.get(&lease).unwrap_err().code, 404);
    }
}

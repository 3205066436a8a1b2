//! What definitions of custom resources each cluster may have: the hub holds their schemas in its memory, for objects of
//! them many times as large as they are as text.
//!
//! ```text
//! bytes of a cluster's definitions, and 16 KiB for each version that it serves of them
//!     of a spoke's cluster:  ≤ an eighth of all; and what all of them have beyond 512 KiB each ≤ all
//!     of the root:           ≤ all
//! all: a sixty-fourth of the memory that the hub may have
//! ```
//!
//! It is held against what people and controllers make larger by the main door. Deletions, statuses and what grows
//! nothing always pass.
//!
//! Guarantees:
//! - who has as much as a cluster may have is refused more, in it alone, and may delete
//!   (`a_cluster_has_so_many_definitions_and_others_theirs`), also in a crowd
//!   (`a_crowd_defines_as_much_as_one_may`) and by changes (`what_is_there_grows_no_further_either`);
//! - who has little has it, however much others have (`who_has_little_has_it_beside_those_who_have_much`);
//! - a version counts even when it says nothing (`a_version_that_says_nothing_counts`).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::registry::Registries;
use freewheel_hub_store::{Scope, Snapshot};
use freewheel_link::names::ClusterName;
use serde_json::Value;

/// The part of the memory that texts of definitions may be: made ready for objects they take 30 times as
/// much, and what says next to nothing (alternatives without a word, short rules in CEL) some more.
const MEMORY_SHARE_DIVISOR: u64 = 64;
/// What all may have of a hub that has little memory.
const ALL_BYTES_MIN: u64 = 32 << 20;
/// The part of all that the cluster of a spoke may have.
const CLUSTER_SHARE_DIVISOR: u64 = 8;
/// What the cluster of a spoke may have of a hub that has little memory: with their descriptions, the definitions of the
/// larger operators take three or four.
const CLUSTER_BYTES_MIN: u64 = 8 << 20;
/// What each cluster has, whatever others have.
const CLUSTER_BYTES_FREE: u64 = 512 << 10;
/// What documents say of a version beside its schema.
const VERSION_BYTES: u64 = 16 << 10;

/// Holds the definitions of every cluster to a bound.
pub struct DefinitionQuota {
    all: u64,
    each: u64,
    kinds: Arc<Registries>,
}

impl DefinitionQuota {
    /// For a hub that may have so much memory, and serves these.
    pub fn of(memory: u64, kinds: Arc<Registries>) -> Self {
        let all = (memory / MEMORY_SHARE_DIVISOR).max(ALL_BYTES_MIN);
        let each = (all / CLUSTER_SHARE_DIVISOR).max(CLUSTER_BYTES_MIN);
        Self { all, each, kinds }
    }

    /// Why a cluster may not have so much, beside what others have.
    fn refusal(&self, cluster: &ClusterName, has: u64, state: &dyn Snapshot) -> Option<String> {
        let most = if cluster.is_root() { self.all } else { self.each };
        if most < has {
            return Some(format!(
                "definitions of cluster \"{cluster}\" would take {has} bytes of {most} \
                 ({VERSION_BYTES} for each version among them): the hub holds their schemas in its memory"
            ));
        }
        if cluster.is_root() || has <= CLUSTER_BYTES_FREE {
            return None;
        }
        let beyond = |bytes: u64| bytes.saturating_sub(CLUSTER_BYTES_FREE);
        let others = bytes_of_others(cluster, state).into_values().map(beyond).sum::<u64>();
        let together = others.saturating_add(beyond(has));
        (self.all < together).then(|| {
            format!(
                "definitions of all spokes' clusters would take {together} bytes of {} beyond \
                 {CLUSTER_BYTES_FREE} of each: the hub holds their schemas in its memory",
                self.all
            )
        })
    }

    /// What documents say of the versions that a cluster serves of other definitions.
    fn bytes_of_other_versions(&self, definition: &Key) -> u64 {
        let (plural, group) = definition.name.split_once('.').unwrap_or((&definition.name, ""));
        let own = Resource::new(group, plural);
        let registry = self.kinds.of(&definition.cluster);
        let others = registry.own().iter().filter(|kind| *kind.storage() != own);
        bytes_of_versions(others.count())
    }
}

fn bytes_of_versions(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(VERSION_BYTES)
}

fn definitions(cluster: Option<&ClusterName>) -> Scope {
    let resource = Resource::new("apiextensions.k8s.io", "customresourcedefinitions");
    Scope { resource, cluster: cluster.cloned(), namespace: None }
}

/// What each of the other spokes' clusters has.
fn bytes_of_others(cluster: &ClusterName, state: &dyn Snapshot) -> HashMap<ClusterName, u64> {
    let mut each = HashMap::new();
    for stored in state.range(&definitions(None), None) {
        let of = &stored.key.cluster;
        if of != cluster && !of.is_root() {
            *each.entry(of.clone()).or_default() += stored.object.body.len() as u64;
        }
    }
    each
}

/// Counts how often definitions of a cluster have grown: of those who let them grow at the same time, one is first.
fn growths(cluster: &ClusterName) -> Key {
    Key::new(&Resource::new("internal", "definitions"), cluster, "", "growths")
}

#[async_trait]
impl Plugin for DefinitionQuota {
    fn name(&self) -> &'static str {
        "DefinitionQuota"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let is_held = match review.actor {
            Actor::Person(_) | Actor::Controller(_) => true,
            Actor::Device(_) | Actor::Joining | Actor::Hub => false,
        };
        is_held
            && review.stores
            && review.subresource.is_none()
            && matches!(review.verb, Verb::Create | Verb::Update)
            && review.target.kind.has(Trait::DefinesKinds)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let (state, cluster) = (review.state(), &review.target.cluster);
        let key = review.target.key();
        let versions = |definition: &Value| {
            let all = definition.pointer("/spec/versions").and_then(Value::as_array);
            bytes_of_versions(all.map_or(0, Vec::len))
        };
        let new = (object.to_string().len() as u64).saturating_add(versions(object));
        let mut beside = self.bytes_of_other_versions(&key);
        let mut old = review.old.map_or(0, versions);
        for stored in state.range(&definitions(Some(cluster)), None) {
            let of = if stored.key == key { &mut old } else { &mut beside };
            *of = of.saturating_add(stored.object.body.len() as u64);
        }
        let mut claims = Claims::default();
        if review.verb == Verb::Update && new <= old {
            return Ok(claims);
        }
        if let Some(why) = self.refusal(cluster, beside.saturating_add(new), &*state) {
            let (code, reason, causes) = (507, "InsufficientStorage", Vec::new());
            return Err(Refusal::Denied { code, reason, why, causes });
        }
        let growths = growths(cluster);
        let now = state.counter(&growths);
        claims.count_within(growths, 1, now.saturating_add(1));
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_api::kinds;
    use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects, Person, WriteOptions};
    use freewheel_hub_schema::error::ApiError;
    use freewheel_hub_schema::gvk::{Gvk, Gvr};
    use freewheel_hub_schema::kind::{Kind, Strategy};
    use freewheel_hub_schema::patch;
    use freewheel_hub_store::memory::MemoryStore;
    use serde_json::json;
    use tokio::task::JoinSet;

    use super::*;

    const MIB: usize = 1 << 20;

    struct Plain;

    impl Strategy for Plain {}

    fn cluster(name: &str) -> ClusterName {
        ClusterName::try_from(name).unwrap()
    }

    /// Of the smallest hub.
    fn objects() -> Objects {
        let objects = Objects::new(Arc::new(MemoryStore::new()));
        let quota = DefinitionQuota::of(0, objects.kinds().clone());
        objects.admitting(Arc::new(quota))
    }

    fn place(cluster_name: &str, number: usize) -> ObjectRef {
        let found = kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let (kind, name) = (found.unwrap().clone(), format!("big{number}s.example.com"));
        ObjectRef { kind, cluster: cluster(cluster_name), namespace: "".into(), name }
    }

    /// About as large as this.
    fn large(number: usize, bytes: usize) -> Value {
        let schema = json!({"type": "object", "description": "x".repeat(bytes)});
        let version = json!({"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}});
        json!({
            "metadata": {"name": format!("big{number}s.example.com")},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "versions": [version],
                "names": {"plural": format!("big{number}s"), "kind": format!("Big{number}")},
            },
        })
    }

    fn ada() -> WriteOptions {
        WriteOptions::by(Actor::from(Person { manager: "kubectl".into(), ..Person::default() }))
    }

    async fn define(
        objects: &Objects,
        name: &str,
        number: usize,
        bytes: usize,
    ) -> Result<(), ApiError> {
        let made = objects.create(&ada(), &place(name, number), large(number, bytes)).await;
        made.map(drop)
    }

    fn bytes(objects: &Objects, name: &str) -> usize {
        let snapshot = objects.store().snapshot();
        let all = snapshot.range(&definitions(Some(&cluster(name))), None);
        all.map(|stored| stored.object.body.len()).sum()
    }

    #[tokio::test]
    async fn a_cluster_has_so_many_definitions_and_others_theirs() {
        let objects = objects();
        for number in 0..7 {
            define(&objects, "pi-7", number, MIB).await.unwrap();
        }
        let refused = define(&objects, "pi-7", 7, MIB).await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (507, "InsufficientStorage"));
        let said = format!("bytes of {CLUSTER_BYTES_MIN} ");
        assert!(refused.message.contains(&said), "{refused}");
        for number in 0..12 {
            define(&objects, "root", number, MIB).await.unwrap();
        }
        define(&objects, "pi-8", 0, MIB).await.unwrap();
        let options = DeleteOptions::default();
        objects.delete(&ada(), &place("pi-7", 0), &options).await.unwrap();
        // It goes when its objects are gone, which its controller sees to.
        assert!(define(&objects, "pi-7", 7, MIB).await.is_err());
        let last = json!({"metadata": {"finalizers": null}});
        let change = |value: Value| patch::merge(&value, last.to_string().as_bytes());
        objects.modify(&ada(), &place("pi-7", 0), None, change).await.unwrap();
        define(&objects, "pi-7", 7, MIB).await.unwrap();
    }

    #[tokio::test]
    async fn a_crowd_defines_as_much_as_one_may() {
        let objects = objects();
        let mut writers = JoinSet::new();
        for number in 0..24 {
            let objects = objects.clone();
            writers.spawn(async move { define(&objects, "pi-7", number, MIB).await });
        }
        let outcomes = writers.join_all().await;
        let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!((1..=7).contains(&made), "{made}");
        assert!(bytes(&objects, "pi-7") as u64 <= CLUSTER_BYTES_MIN);
    }

    #[tokio::test]
    async fn what_is_there_grows_no_further_either() {
        let objects = objects();
        for number in 0..7 {
            define(&objects, "pi-7", number, MIB).await.unwrap();
        }
        define(&objects, "pi-7", 7, MIB / 2).await.unwrap();
        let says = |bytes: usize| {
            let text = large(7, bytes);
            move |mut value: Value| {
                value["spec"]["versions"] = text["spec"]["versions"].clone();
                Ok(value)
            }
        };
        let at = place("pi-7", 7);
        let refused = objects.modify(&ada(), &at, None, says(MIB)).await.unwrap_err();
        assert_eq!(refused.code, 507, "{refused}");
        objects.modify(&ada(), &at, None, says(10)).await.unwrap();
        objects.modify(&ada(), &at, None, says(MIB / 2)).await.unwrap();
    }

    #[tokio::test]
    async fn who_has_little_has_it_beside_those_who_have_much() {
        let objects = objects();
        let mut refused = None;
        for number in 0..60 {
            let name = format!("pi-{}", number / 6);
            if let Err(why) = define(&objects, &name, number, MIB).await {
                refused = Some((number, why));
                break;
            }
        }
        let (number, why) = refused.unwrap();
        assert!((32..40).contains(&number), "{number}");
        assert!(why.message.contains("of all spokes' clusters"), "{why}");
        define(&objects, "pi-99", 0, MIB / 3).await.unwrap();
        define(&objects, "root", 0, MIB).await.unwrap();
        let again = define(&objects, &format!("pi-{}", number / 6), number, MIB).await;
        assert_eq!(again.unwrap_err().code, 507);
    }

    #[tokio::test]
    async fn a_version_that_says_nothing_counts() {
        let objects = objects();
        let with = |versions: usize| {
            let mut definition = large(0, 10);
            let first = definition["spec"]["versions"][0].clone();
            for number in 2..=versions {
                let mut version = first.clone();
                version["name"] = json!(format!("v{number}"));
                version["storage"] = json!(false);
                definition["spec"]["versions"].as_array_mut().unwrap().push(version);
            }
            definition
        };
        let most = usize::try_from(CLUSTER_BYTES_MIN / VERSION_BYTES).unwrap();
        let many = objects.create(&ada(), &place("pi-7", 0), with(most)).await.unwrap_err();
        assert_eq!(many.code, 507, "{many}");
        objects.create(&ada(), &place("pi-7", 0), with(most / 2)).await.unwrap();
        // As its controller serves it.
        let kind = |number: usize| {
            let gvk = Gvk::new("example.com", format!("v{number}"), "Big0");
            let stored = Gvr::new("example.com", "v1", "big0s");
            let kind = Kind::new(gvk, "big0s", Plain);
            if number == 1 { kind } else { kind.stored_as(stored) }
        };
        let kinds: Vec<_> = (1..=most / 2).map(kind).collect();
        let storage = kinds[0].storage().clone();
        objects.kinds().put(&cluster("pi-7"), &storage, kinds).unwrap();
        let mut more = with(most / 2);
        more["metadata"]["name"] = json!("big1s.example.com");
        more["spec"]["names"] = json!({"plural": "big1s", "kind": "Big1"});
        let refused = objects.create(&ada(), &place("pi-7", 1), more).await.unwrap_err();
        assert_eq!(refused.code, 507, "{refused}");
        define(&objects, "pi-7", 1, 10).await.unwrap();
    }
}

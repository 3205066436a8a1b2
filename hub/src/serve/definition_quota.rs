//! What definitions of custom resources each cluster may have: the hub holds their schemas in its memory, for objects of
//! them many times as large as they are as text.
//!
//! ```text
//! bytes of a cluster's definitions, and 16 KiB for each of their versions, whether it serves them or not
//!     of a spoke's cluster:  ≤ an eighth of all, 8 MiB at least; and what all of them have beyond 512 KiB each ≤ all
//!     of the root:           ≤ all
//! all: a sixty-fourth of the memory that the hub may have, 32 MiB at least
//! costs: what those that are stored come to
//! ```
//!
//! It is held against what people and controllers make larger by the main door. Deletions, statuses and what grows
//! nothing always pass.
//!
//! What a definition takes while it is written is no part of it, and passes a room by the byte as any large write does
//! (`flow/large_writes.rs` of the API server).
//!
//! What the bound leaves open: as its least it lets the definitions of the larger operators in, of which one takes some
//! MiB, and so more than a hub of less than 4 GiB can hold where all of it is used and has objects (30 times 64 MiB).
//! And what each cluster has free is for a fleet of few operators in each: a thousand clusters that use all of theirs,
//! each with definitions of its own, take 15 GiB.
//!
//! Guarantees:
//! - who has as much as a cluster may have is refused more, in it alone, and may delete
//!   (`a_cluster_has_so_many_definitions_and_others_theirs`), also in a crowd
//!   (`a_crowd_defines_as_much_as_one_may`, `a_crowd_of_clusters_has_together_what_all_may`) and by changes
//!   (`what_is_there_grows_no_further_either`);
//! - who has little has it, however much others have (`who_has_little_has_it_beside_those_who_have_much`);
//! - a version counts even when it says nothing (`a_version_that_says_nothing_counts`) or is not served yet
//!   (`a_version_that_is_not_served_counts_before_it_is`), in the bound of all as well
//!   (`versions_count_among_what_all_clusters_have`).

mod costs;

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Store;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use costs::{CLUSTER_BYTES_FREE, DefinitionCosts, VERSION_BYTES, cost};

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

/// Holds the definitions of every cluster to a bound.
pub struct DefinitionQuota {
    all: u64,
    each: u64,
    costs: DefinitionCosts,
}

impl DefinitionQuota {
    /// For a hub that may have so much memory, and what is in this store.
    pub fn of(memory: u64, store: Arc<dyn Store>) -> Self {
        let all = (memory / MEMORY_SHARE_DIVISOR).max(ALL_BYTES_MIN);
        let each = (all / CLUSTER_SHARE_DIVISOR).max(CLUSTER_BYTES_MIN);
        Self { all, each, costs: DefinitionCosts::over(store) }
    }

    /// Why a cluster may not have so much, beside what others have beyond what is free.
    fn refusal(&self, cluster: &ClusterName, has: u64, others_beyond: u64) -> Option<String> {
        let most = if cluster.is_root() { self.all } else { self.each };
        if most < has {
            return Some(format!(
                "definitions of cluster \"{cluster}\" would take {has} bytes of {most} \
                 ({VERSION_BYTES} for each version among them): the hub holds their schemas in its memory"
            ));
        }
        let together = others_beyond.saturating_add(has.saturating_sub(CLUSTER_BYTES_FREE));
        (is_of_all(cluster, has) && self.all < together).then(|| {
            format!(
                "definitions of all spokes' clusters would take {together} bytes of {} beyond \
                 {CLUSTER_BYTES_FREE} of each: the hub holds their schemas in its memory",
                self.all
            )
        })
    }
}

/// Whether what a cluster has is among what all spokes' clusters may have together.
fn is_of_all(cluster: &ClusterName, has: u64) -> bool {
    !cluster.is_root() && CLUSTER_BYTES_FREE < has
}

/// Counts how often definitions of a cluster have grown: of those who let them grow at the same time, one is first.
fn growths(cluster: &ClusterName) -> Key {
    Key::new(&Resource::new("internal", "definitions"), cluster, "", "growths")
}

/// The same of all spokes' clusters that have more than is free.
fn growths_of_all() -> Key {
    let resource = Resource::new("internal", "definitions");
    Key::new(&resource, &ClusterName::root(), "", "growths-of-all")
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
        // What is counted below is this state or a newer one; what comes between them takes a growth's turn.
        let (state, cluster) = (review.state(), &review.target.cluster);
        let new = cost(object.to_string().as_bytes());
        let old = state.get(&review.target.key()).map_or(0, |stored| cost(&stored.object.body));
        let mut claims = Claims::default();
        if review.verb == Verb::Update && new <= old {
            return Ok(claims);
        }
        let around = self.costs.around(cluster).await;
        let around =
            around.map_err(|error| Refusal::Status(Box::new(ApiError::internal(error))))?;
        let has = around.own.saturating_sub(old).saturating_add(new);
        if let Some(why) = self.refusal(cluster, has, around.others_beyond) {
            let (code, reason, causes) = (507, "InsufficientStorage", Vec::new());
            return Err(Refusal::Denied { code, reason, why, causes });
        }
        let of_all = is_of_all(cluster, has).then(growths_of_all);
        for growths in [growths(cluster)].into_iter().chain(of_all) {
            let now = state.counter(&growths);
            claims.count_within(growths, 1, now.saturating_add(1));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_api::kinds;
    use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects, Person, WriteOptions};
    use freewheel_hub_schema::patch;
    use freewheel_hub_store::Scope;
    use freewheel_hub_store::memory::MemoryStore;
    use serde_json::json;
    use tokio::task::JoinSet;

    use super::*;

    const MIB: usize = 1 << 20;

    fn cluster(name: &str) -> ClusterName {
        ClusterName::try_from(name).unwrap()
    }

    /// Of the smallest hub.
    fn objects() -> Objects {
        let objects = Objects::new(Arc::new(MemoryStore::new()));
        let quota = DefinitionQuota::of(0, objects.store().clone());
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
        let resource = Resource::new("apiextensions.k8s.io", "customresourcedefinitions");
        let own = Scope { resource, cluster: Some(cluster(name)), namespace: None };
        let snapshot = objects.store().snapshot();
        let all = snapshot.range(&own, None);
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

    /// Of so many versions, of which the first is served and stored.
    fn versioned(number: usize, versions: usize, served: bool) -> Value {
        let mut definition = large(number, 10);
        let first = definition["spec"]["versions"][0].clone();
        for at in 2..=versions {
            let mut version = first.clone();
            version["name"] = json!(format!("v{at}"));
            version["storage"] = json!(false);
            version["served"] = json!(served);
            definition["spec"]["versions"].as_array_mut().unwrap().push(version);
        }
        definition
    }

    /// So many versions are as much as a cluster may have.
    const MOST_VERSIONS: usize = 512;

    #[tokio::test]
    async fn a_version_that_says_nothing_counts() {
        let objects = objects();
        assert_eq!(MOST_VERSIONS as u64 * VERSION_BYTES, CLUSTER_BYTES_MIN);
        let many = versioned(0, MOST_VERSIONS, true);
        let many = objects.create(&ada(), &place("pi-7", 0), many).await.unwrap_err();
        assert_eq!(many.code, 507, "{many}");
        let half = versioned(0, MOST_VERSIONS / 2, true);
        objects.create(&ada(), &place("pi-7", 0), half).await.unwrap();
        let more = versioned(1, MOST_VERSIONS / 2, true);
        let refused = objects.create(&ada(), &place("pi-7", 1), more).await.unwrap_err();
        assert_eq!(refused.code, 507, "{refused}");
        define(&objects, "pi-7", 1, 10).await.unwrap();
    }

    #[tokio::test]
    async fn a_version_that_is_not_served_counts_before_it_is() {
        let objects = objects();
        let mut made = 0;
        let refused = loop {
            let silent = versioned(made, 100, false);
            match objects.create(&ada(), &place("pi-7", made), silent).await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused.code, made), (507, MOST_VERSIONS / 100), "{refused}");
        // It takes no more than it took.
        let serve = |mut value: Value| {
            value["spec"]["versions"] = versioned(0, 100, true)["spec"]["versions"].clone();
            Ok(value)
        };
        objects.modify(&ada(), &place("pi-7", 0), None, serve).await.unwrap();
    }

    #[tokio::test]
    async fn versions_count_among_what_all_clusters_have() {
        let (objects, mut made) = (objects(), 0);
        let refused = loop {
            let at = place(&format!("pi-{}", made / 2), made);
            match objects.create(&ada(), &at, versioned(made, 240, true)).await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        assert!(refused.code == 507 && refused.message.contains("of all spokes'"), "{refused}");
        assert_eq!(made, 9, "each pair has 7 MiB beyond what is free");
    }

    #[tokio::test]
    async fn a_crowd_of_clusters_has_together_what_all_may() {
        let objects = objects();
        let mut writers = JoinSet::new();
        for number in 0..24 {
            let (objects, at) = (objects.clone(), place(&format!("pi-{number}"), number));
            let definition = versioned(number, 240, true);
            writers.spawn(async move { objects.create(&ada(), &at, definition).await });
        }
        let outcomes = writers.join_all().await;
        let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!((1..=9).contains(&made), "{made} of 3.3 MiB beyond what is free");
    }
}

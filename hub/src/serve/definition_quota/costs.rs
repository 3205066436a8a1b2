//! What the definitions of each cluster cost, counted as they come and go: who asks is about to let one grow, and to
//! read those of a whole fleet for that takes long.
//!
//! Guarantees:
//! - a definition costs its text and its versions (`a_definition_costs_its_text_and_its_versions`);
//! - it is what is stored, whoever wrote it and however long nobody has asked (`what_is_counted_is_what_is_stored`).

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::{Event, Reflected, Reflector, Scope, Store, Stored};
use freewheel_link::names::ClusterName;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;
use tokio::task::{JoinError, spawn_blocking};

/// What documents say of a version beside its schema.
pub(super) const VERSION_BYTES: u64 = 16 << 10;
/// What each cluster has, whatever others have.
pub(super) const CLUSTER_BYTES_FREE: u64 = 512 << 10;

/// As much of a definition as its cost needs.
#[derive(Deserialize)]
struct Definition {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    versions: Vec<IgnoredAny>,
}

/// What a definition costs that is this text. Its versions count whether they are served or not: they are served later by
/// a word that makes it no larger. What cannot be read as a definition is none, and has none.
pub(super) fn cost(definition: &[u8]) -> u64 {
    let read = serde_json::from_slice::<Definition>(definition);
    let versions = read.map_or(0, |definition| definition.spec.versions.len());
    (definition.len() as u64).saturating_add((versions as u64).saturating_mul(VERSION_BYTES))
}

/// The costs of all definitions in a store.
pub(super) struct DefinitionCosts {
    counted: Arc<Mutex<Counted>>,
}

/// What one cluster's definitions cost, and what those of others do.
pub(super) struct Around {
    pub(super) own: u64,
    /// Of the other clusters of spokes, what each has beyond [`CLUSTER_BYTES_FREE`].
    pub(super) others_beyond: u64,
}

impl DefinitionCosts {
    pub(super) fn over(store: Arc<dyn Store>) -> Self {
        let mut counted =
            Counted { reflector: Reflector::new(store, vec![all()]), each: HashMap::new() };
        counted.catch_up();
        Self { counted: Arc::new(Mutex::new(counted)) }
    }

    /// With everything that was stored before.
    ///
    /// # Errors
    /// When the runtime ends.
    pub(super) async fn around(&self, cluster: &ClusterName) -> Result<Around, JoinError> {
        let mut counted = self.counted.clone().lock_owned().await;
        let cluster = cluster.clone();
        // When nobody has asked for long, all are read again: on no thread that serves others.
        spawn_blocking(move || {
            counted.catch_up();
            counted.around(&cluster)
        })
        .await
    }
}

fn all() -> Scope {
    let resource = Resource::new("apiextensions.k8s.io", "customresourcedefinitions");
    Scope { resource, cluster: None, namespace: None }
}

/// By cluster, as of the last look.
struct Counted {
    reflector: Reflector,
    each: HashMap<ClusterName, u64>,
}

impl Counted {
    fn catch_up(&mut self) {
        while let Some(change) = self.reflector.next_change() {
            match change {
                Reflected::Everything(snapshot) => {
                    self.each = HashMap::new();
                    snapshot.range(&all(), None).for_each(|stored| self.add(&stored));
                }
                Reflected::Events(events) => events.iter().for_each(|event| self.apply(event)),
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        if let Some(before) = &event.before {
            self.take(before);
        }
        if let Some(now) = &event.now {
            self.add(now);
        }
    }

    fn add(&mut self, stored: &Stored) {
        let own = self.each.entry(stored.key.cluster.clone()).or_default();
        *own = own.saturating_add(cost(&stored.object.body));
    }

    fn take(&mut self, stored: &Stored) {
        let Some(own) = self.each.get_mut(&stored.key.cluster) else { return };
        *own = own.saturating_sub(cost(&stored.object.body));
        if *own == 0 {
            self.each.remove(&stored.key.cluster);
        }
    }

    fn around(&self, cluster: &ClusterName) -> Around {
        let own = self.each.get(cluster).copied().unwrap_or_default();
        let others = self.each.iter().filter(|(of, _)| *of != cluster && !of.is_root());
        let beyond = others.map(|(_, bytes)| bytes.saturating_sub(CLUSTER_BYTES_FREE));
        Around { own, others_beyond: beyond.fold(0, u64::saturating_add) }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Header, Key, Object};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Limits, Operation, Txn};
    use serde_json::json;

    use super::*;

    fn key(cluster: &str, name: &str) -> Key {
        let resource = Resource::new("apiextensions.k8s.io", "customresourcedefinitions");
        Key::new(&resource, &ClusterName::try_from(cluster).unwrap(), "", name)
    }

    fn definition(versions: usize) -> Object {
        let versions = vec![json!({"name": "v1", "served": false}); versions];
        let body = json!({"metadata": {"name": "a"}, "spec": {"versions": versions}}).to_string();
        Object { header: Header::default(), body: body.into() }
    }

    async fn write(store: &dyn Store, operation: Operation) {
        store.commit(Txn { expect: Vec::new(), operations: vec![operation] }).await.unwrap();
    }

    #[test]
    fn a_definition_costs_its_text_and_its_versions() {
        for versions in [0, 1, 150] {
            let body = definition(versions).body;
            assert_eq!(cost(&body), body.len() as u64 + versions as u64 * VERSION_BYTES);
        }
        assert_eq!(cost(b"no definition"), 13);
    }

    #[tokio::test]
    async fn what_is_counted_is_what_is_stored() {
        let few = Limits { events: 2, ..Limits::default() };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with_limits(7, few));
        let large = definition(100);
        let of_large = cost(&large.body);
        write(&*store, Operation::Put(key("pi-7", "a"), large.clone())).await;
        let costs = DefinitionCosts::over(store.clone());
        let around = costs.around(&ClusterName::try_from("pi-8").unwrap()).await.unwrap();
        assert_eq!((around.own, around.others_beyond), (0, of_large - CLUSTER_BYTES_FREE));
        write(&*store, Operation::Put(key("pi-7", "a"), definition(1))).await;
        write(&*store, Operation::Put(key("root", "a"), large.clone())).await;
        let around = costs.around(&ClusterName::root()).await.unwrap();
        assert_eq!((around.own, around.others_beyond), (of_large, 0));
        // More than the past holds.
        for number in 0..10 {
            let at = key(&format!("pi-{number}"), "b");
            write(&*store, Operation::Put(at, large.clone())).await;
        }
        write(&*store, Operation::Delete(key("pi-0", "b"))).await;
        let around = costs.around(&ClusterName::try_from("pi-7").unwrap()).await.unwrap();
        assert_eq!(around.own, of_large + cost(&definition(1).body));
        assert_eq!(around.others_beyond, 8 * (of_large - CLUSTER_BYTES_FREE));
    }
}

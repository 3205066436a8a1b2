//! What each cluster says about its requests, kept beside the store.
//!
//! Every cluster has the suggested configuration, as if its objects were there; what it has itself is in the place of
//! what has the same name. So a cluster that says nothing costs nothing.
//!
//! Guarantees:
//! - a cluster's objects count for its own requests alone, soon after they were written
//!   (`a_clusters_flow_schemas_are_its_own`);
//! - of a cluster's own objects so many act and no more, whoever writes how many
//!   (`objects_beyond_the_bound_do_not_act_until_there_is_room`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use freewheel_hub_api::kinds::flow_control::mandatory;
use freewheel_hub_fairness::{Configuration, FlowSchema, PriorityLevel};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Event, Scope, Snapshot, Store, Stored};
use freewheel_link::names::ClusterName;
use imbl::HashMap;
use serde_json::Value;
use tracing::warn;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";

/// Objects of a kind that are kept of one cluster, more than [`Configuration`] acts upon, so that precedence decides
/// which do.
const OBJECTS_KEPT_MAX: usize = 1_000;

/// By cluster, of those that say something.
type Own = HashMap<ClusterName, Arc<Configuration>>;

/// The configurations of all clusters.
pub(crate) struct Configurations {
    suggested: Objects,
    /// Of clusters that say nothing.
    common: Arc<Configuration>,
    own: ArcSwap<Own>,
}

/// Objects of one cluster.
#[derive(Clone, Default)]
struct Objects {
    levels: BTreeMap<Arc<str>, Arc<PriorityLevel>>,
    schemas: BTreeMap<Arc<str>, Arc<FlowSchema>>,
    /// There were more.
    is_full: bool,
}

impl Configurations {
    /// Before anything is known of any cluster.
    ///
    /// # Errors
    /// When what is suggested is none.
    pub(crate) fn suggested() -> std::io::Result<Self> {
        let (named, text) = (
            |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            |object: &Value| object.to_string().into_bytes(),
        );
        let mut suggested = Objects::default();
        for object in mandatory::levels() {
            suggested.add_level(PriorityLevel::read(&named(&object), "", &text(&object))?);
        }
        for object in mandatory::schemas() {
            suggested.add_schema(FlowSchema::read(&named(&object), "", &text(&object))?);
        }
        let common = suggested.with(&Objects::default()).ok_or_else(|| {
            std::io::Error::other("what is suggested for requests has no catch-all")
        })?;
        Ok(Self { suggested, common: Arc::new(common), own: ArcSwap::default() })
    }

    /// What a cluster says at this moment.
    pub(crate) fn of(&self, cluster: &ClusterName) -> Arc<Configuration> {
        self.own.load().get(cluster).unwrap_or(&self.common).clone()
    }

    /// Names of the levels and the schemas that are suggested.
    pub(crate) fn suggested_names(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let Objects { levels, schemas, .. } = &self.suggested;
        (levels.keys().cloned().collect(), schemas.keys().cloned().collect())
    }

    /// Takes in what clusters say. For ever.
    pub(crate) async fn follow(&self, store: &dyn Store) {
        loop {
            let (snapshot, mut watch) = store.follow(scopes(None));
            let mut all = BTreeMap::<ClusterName, Objects>::new();
            for scope in scopes(None) {
                for stored in snapshot.range(&scope, None) {
                    all.entry(stored.key.cluster.clone())
                        .or_default()
                        .set(&stored.key, Some(&stored));
                }
            }
            drop(snapshot);
            self.own.store(Arc::default());
            all.iter().for_each(|(cluster, objects)| self.publish(cluster, objects));
            while let Ok(events) = watch.next().await {
                self.take_in(&mut all, &events, store);
            }
        }
    }

    fn take_in(
        &self,
        all: &mut BTreeMap<ClusterName, Objects>,
        events: &[Event],
        store: &dyn Store,
    ) {
        let mut changed = BTreeSet::new();
        for event in events {
            let Some(key) = event.key() else { continue };
            let objects = all.entry(key.cluster.clone()).or_default();
            if objects.is_full && event.now.is_none() {
                // There may be room for one of those that are not known.
                *objects = Objects::read(&*store.snapshot(), &key.cluster);
            } else {
                objects.set(key, event.now.as_deref());
            }
            changed.insert(key.cluster.clone());
        }
        for cluster in changed {
            if let Some(objects) = all.get(&cluster) {
                self.publish(&cluster, objects);
                if objects.is_empty() {
                    all.remove(&cluster);
                }
            }
        }
    }

    fn publish(&self, cluster: &ClusterName, objects: &Objects) {
        let mut own = Own::clone(&self.own.load());
        match self.suggested.with(objects).filter(|_| !objects.is_empty()) {
            Some(configuration) => {
                if objects.is_full || configuration.left_out != 0 {
                    warn!(%cluster, "there are more FlowSchemas or PriorityLevelConfigurations than act; remove some");
                }
                own.insert(cluster.clone(), Arc::new(configuration));
            }
            None => drop(own.remove(cluster)),
        }
        self.own.store(Arc::new(own));
    }
}

/// Both kinds, of one cluster or of all.
fn scopes(cluster: Option<&ClusterName>) -> Vec<Scope> {
    let scope = |plural| Scope {
        resource: Resource::new(GROUP, plural),
        cluster: cluster.cloned(),
        namespace: None,
    };
    [LEVELS, SCHEMAS].map(scope).into()
}

impl Objects {
    fn read(snapshot: &dyn Snapshot, cluster: &ClusterName) -> Self {
        let mut objects = Self::default();
        for scope in scopes(Some(cluster)) {
            for stored in snapshot.range(&scope, None).take(OBJECTS_KEPT_MAX + 1) {
                objects.set(&stored.key, Some(&stored));
            }
        }
        objects
    }

    fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.schemas.is_empty()
    }

    /// This is the object of this name now.
    fn set(&mut self, key: &Key, now: Option<&Stored>) {
        let is_level = key.resource.plural() == LEVELS;
        let before = if is_level {
            self.levels.remove(&*key.name).is_some()
        } else {
            self.schemas.remove(&*key.name).is_some()
        };
        let Some(stored) = now else { return };
        let number = if is_level { self.levels.len() } else { self.schemas.len() };
        if !before && OBJECTS_KEPT_MAX <= number {
            self.is_full = true;
            return;
        }
        let (name, uid, body) = (&*key.name, &*stored.object.header.uid, &stored.object.body);
        let read = if is_level {
            PriorityLevel::read(name, uid, body).map(|level| self.add_level(level))
        } else {
            FlowSchema::read(name, uid, body).map(|schema| self.add_schema(schema))
        };
        if let Err(error) = read {
            warn!(?key, %error, "it decides nothing about requests");
        }
    }

    fn add_level(&mut self, level: PriorityLevel) {
        self.levels.insert(level.name.clone(), Arc::new(level));
    }

    fn add_schema(&mut self, schema: FlowSchema) {
        self.schemas.insert(schema.name.clone(), Arc::new(schema));
    }

    /// These, and a cluster's own in the place of those of the same name.
    fn with(&self, own: &Self) -> Option<Configuration> {
        let levels = self.levels.values().chain(own.levels.values());
        let schemas = self.schemas.values().chain(own.schemas.values());
        Configuration::of(levels.cloned(), schemas.cloned())
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_api::kinds;
    use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects as Pipeline, WriteOptions};
    use freewheel_hub_store::memory::MemoryStore;
    use serde_json::json;

    use super::*;

    fn place(name: &str) -> ObjectRef {
        let kind = kinds::find(GROUP, "v1", SCHEMAS).unwrap().clone();
        let (cluster, namespace) = (ClusterName::root(), "".into());
        ObjectRef { kind, cluster, namespace, name: name.to_owned() }
    }

    fn left_out(configurations: &Configurations) -> (usize, bool) {
        let root = ClusterName::root();
        let of_root = configurations.own.load().get(&root).cloned();
        of_root.map_or((0, false), |it| (it.left_out, true))
    }

    #[tokio::test]
    async fn objects_beyond_the_bound_do_not_act_until_there_is_room() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let pipeline = Pipeline::new(store.clone());
        for number in 0..=OBJECTS_KEPT_MAX {
            let name = format!("s-{number:04}");
            let spec = json!({"priorityLevelConfiguration": {"name": "exempt"},
                "matchingPrecedence": 7, "rules": []});
            let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema",
                "metadata": {"name": name}, "spec": spec});
            pipeline.create(&WriteOptions::default(), &place(&name), object).await.unwrap();
        }
        let (snapshot, mut watch) = store.follow(scopes(None));
        let configurations = Configurations::suggested().unwrap();
        let mut all = BTreeMap::new();
        let read = Objects::read(&*snapshot, &ClusterName::root());
        assert!(read.is_full && read.schemas.len() == OBJECTS_KEPT_MAX);
        configurations.publish(&ClusterName::root(), &read);
        // With the suggested ones, and without those that were not kept.
        assert_eq!(left_out(&configurations), (511, true));
        all.insert(ClusterName::root(), read);
        let gone = place("s-0000");
        pipeline.delete(&WriteOptions::default(), &gone, &DeleteOptions::default()).await.unwrap();
        let events = watch.next().await.unwrap();
        configurations.take_in(&mut all, &events, &*store);
        let root = &all[&ClusterName::root()];
        let last = format!("s-{OBJECTS_KEPT_MAX:04}");
        assert!(root.schemas.contains_key(&*last) && !root.is_full);
    }
}

//! What each cluster says about its requests, kept beside the store.
//!
//! Every cluster has the suggested configuration, as if its objects were there; what it has itself is in the place of
//! what has the same name. So a cluster that says nothing costs nothing.
//!
//! Guarantees:
//! - a cluster's objects count for its own requests alone, soon after they were written
//!   (`a_clusters_flow_schemas_are_its_own`);
//! - of a cluster's own objects so many act and no more, whoever writes how many
//!   (`objects_beyond_the_bound_do_not_act_until_there_is_room`), and so many bytes of them are read
//!   (`a_cluster_s_texts_are_bounded_together`);
//! - they are taken in by a task that nobody waits for, and that rests longer than it works; changes that come together
//!   cost each cluster one look at all of it at most (`a_batch_of_changes_reads_a_cluster_once`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use freewheel_hub_api::kinds::flow_control::mandatory;
use freewheel_hub_fairness::{Configuration, FlowSchema, PriorityLevel};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Event, Scope, Snapshot, Store, Stored};
use freewheel_link::names::ClusterName;
use imbl::HashMap;
use serde_json::Value;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::warn;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";

/// Objects of a kind that are kept of one cluster, more than [`Configuration`] acts upon, so that precedence decides
/// which do.
const OBJECTS_KEPT_MAX: usize = 1_000;

/// Bytes of their text that are kept of one cluster, of both kinds together. What is read of it is as large again, and
/// a change may have all of it read.
const OBJECT_BYTES_KEPT_MAX: usize = 2 << 20;

/// After changes were taken in, so many times as long as that took nothing is, and never longer than
/// [`REST_MAX`]: who writes all the time gets a fifth of a thread.
const REST_FACTOR: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(1);
/// How often it is told of a cluster that it has more than acts.
const WARN_EVERY: Duration = Duration::from_secs(60 * 60);

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
#[derive(Default)]
struct Objects {
    levels: BTreeMap<Arc<str>, Kept<PriorityLevel>>,
    schemas: BTreeMap<Arc<str>, Kept<FlowSchema>>,
    /// Of the text of all of them.
    bytes: usize,
    /// There were more.
    is_full: bool,
}

/// One of them, and how much text it was read from.
struct Kept<T> {
    object: Arc<T>,
    bytes: usize,
}

/// What is known of one cluster.
#[derive(Default)]
struct ClusterConfiguration {
    objects: Objects,
    /// When it was told that there is more than acts.
    warned_at: Option<Instant>,
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
            suggested.add_level(PriorityLevel::read(&named(&object), "", &text(&object))?, 0);
        }
        for object in mandatory::schemas() {
            suggested.add_schema(FlowSchema::read(&named(&object), "", &text(&object))?, 0);
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
            let mut all = self.take_in_all(&*snapshot).await;
            drop(snapshot);
            while let Ok(events) = watch.next().await {
                let began = Instant::now();
                self.take_in(&mut all, events, store).await;
                sleep((REST_FACTOR * began.elapsed()).min(REST_MAX)).await;
            }
        }
    }

    /// Until all of it is read, what was known counts.
    async fn take_in_all(
        &self,
        snapshot: &dyn Snapshot,
    ) -> BTreeMap<ClusterName, ClusterConfiguration> {
        let mut clusters = BTreeSet::new();
        for scope in scopes(None) {
            clusters.extend(snapshot.range(&scope, None).map(|stored| stored.key.cluster.clone()));
        }
        let (mut all, mut own) = (BTreeMap::new(), Own::new());
        for cluster in clusters {
            let mut written = ClusterConfiguration {
                objects: Objects::read(snapshot, &cluster),
                warned_at: None,
            };
            self.publish(&mut own, &cluster, &mut written);
            all.insert(cluster, written);
            yield_now().await;
        }
        self.own.store(Arc::new(own));
        all
    }

    async fn take_in(
        &self,
        all: &mut BTreeMap<ClusterName, ClusterConfiguration>,
        events: Vec<Event>,
        store: &dyn Store,
    ) {
        let mut changed = BTreeMap::<ClusterName, BTreeMap<Key, Option<Arc<Stored>>>>::new();
        for event in events {
            if let Some(key) = event.key().cloned() {
                changed.entry(key.cluster.clone()).or_default().insert(key, event.now);
            }
        }
        let mut own = Own::clone(&self.own.load());
        for (cluster, objects) in changed {
            let written = all.entry(cluster.clone()).or_default();
            let before = written.objects.size();
            objects.iter().for_each(|(key, now)| written.objects.set(key, now.as_deref()));
            let now = written.objects.size();
            if written.objects.is_full && (now.0 < before.0 || now.1 < before.1) {
                // There may be room for one of those that are not known.
                written.objects = Objects::read(&*store.snapshot(), &cluster);
            }
            self.publish(&mut own, &cluster, written);
            if written.objects.is_empty() {
                all.remove(&cluster);
            }
            yield_now().await;
        }
        self.own.store(Arc::new(own));
    }

    fn publish(&self, own: &mut Own, cluster: &ClusterName, written: &mut ClusterConfiguration) {
        let objects = &written.objects;
        let Some(configuration) = self.suggested.with(objects).filter(|_| !objects.is_empty())
        else {
            own.remove(cluster);
            return;
        };
        let is_news = written.warned_at.is_none_or(|told| WARN_EVERY <= told.elapsed());
        if is_news && (objects.is_full || configuration.left_out != 0) {
            written.warned_at = Some(Instant::now());
            warn!(%cluster, "there are more FlowSchemas or PriorityLevelConfigurations than act; remove some");
        }
        own.insert(cluster.clone(), Arc::new(configuration));
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

    /// How many they are, and of how many bytes.
    fn size(&self) -> (usize, usize) {
        (self.levels.len() + self.schemas.len(), self.bytes)
    }

    /// This is the object of this name now.
    fn set(&mut self, key: &Key, now: Option<&Stored>) {
        let is_level = key.resource.plural() == LEVELS;
        let before = if is_level {
            self.levels.remove(&*key.name).map(|kept| kept.bytes)
        } else {
            self.schemas.remove(&*key.name).map(|kept| kept.bytes)
        };
        self.bytes -= before.unwrap_or_default();
        let Some(stored) = now else { return };
        let number = if is_level { self.levels.len() } else { self.schemas.len() };
        let (name, uid, body) = (&*key.name, &*stored.object.header.uid, &stored.object.body);
        if OBJECTS_KEPT_MAX <= number || OBJECT_BYTES_KEPT_MAX < self.bytes + body.len() {
            self.is_full = true;
            return;
        }
        let read = if is_level {
            PriorityLevel::read(name, uid, body).map(|level| self.add_level(level, body.len()))
        } else {
            FlowSchema::read(name, uid, body).map(|schema| self.add_schema(schema, body.len()))
        };
        if let Err(error) = read {
            warn!(?key, %error, "it decides nothing about requests");
        }
    }

    fn add_level(&mut self, level: PriorityLevel, bytes: usize) {
        self.bytes += bytes;
        self.levels.insert(level.name.clone(), Kept { object: Arc::new(level), bytes });
    }

    fn add_schema(&mut self, schema: FlowSchema, bytes: usize) {
        self.bytes += bytes;
        self.schemas.insert(schema.name.clone(), Kept { object: Arc::new(schema), bytes });
    }

    /// These, and a cluster's own in the place of those of the same name.
    fn with(&self, own: &Self) -> Option<Configuration> {
        let levels = self.levels.values().chain(own.levels.values());
        let schemas = self.schemas.values().chain(own.schemas.values());
        Configuration::of(
            levels.map(|kept| kept.object.clone()),
            schemas.map(|kept| kept.object.clone()),
        )
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

    /// One of the requests of so many users.
    async fn schema(pipeline: &Pipeline, number: usize, users: usize) {
        let name = format!("s-{number:04}");
        let user = |at| json!({"kind": "User", "user": {"name": format!("user-{at}")}});
        let subjects: Vec<_> = (0..users).map(user).collect();
        let paths = json!([{"verbs": ["get"], "nonResourceURLs": ["/none"]}]);
        let rules = match users {
            0 => json!([]),
            _ => json!([{"subjects": subjects, "nonResourceRules": paths}]),
        };
        let spec = json!({"priorityLevelConfiguration": {"name": "exempt"},
            "matchingPrecedence": 7, "rules": rules});
        let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema",
            "metadata": {"name": name}, "spec": spec});
        pipeline.create(&WriteOptions::default(), &place(&name), object).await.unwrap();
    }

    fn left_out(configurations: &Configurations) -> (usize, bool) {
        let root = ClusterName::root();
        let of_root = configurations.own.load().get(&root).cloned();
        of_root.map_or((0, false), |it| (it.left_out, true))
    }

    /// Counts how often somebody looks at all that is there.
    struct Looks(Arc<dyn Store>, std::sync::atomic::AtomicUsize);

    impl freewheel_hub_store::Layer for Looks {
        fn below(&self) -> &dyn Store {
            &*self.0
        }

        fn snapshot(&self) -> Arc<dyn Snapshot> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            self.0.snapshot()
        }
    }

    #[tokio::test]
    async fn a_cluster_s_texts_are_bounded_together() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let pipeline = Pipeline::new(store.clone());
        for number in 0..6 {
            schema(&pipeline, number, 12_000).await;
        }
        let mut read = Objects::read(&*store.snapshot(), &ClusterName::root());
        assert!(read.is_full && (1..6).contains(&read.schemas.len()), "{}", read.schemas.len());
        assert!(1 << 20 < read.bytes && read.bytes <= OBJECT_BYTES_KEPT_MAX);
        let names: Vec<_> = read.schemas.keys().cloned().collect();
        for name in names {
            read.set(&place(&name).key(), None);
        }
        assert_eq!((read.bytes, read.is_empty()), (0, true));
    }

    #[tokio::test]
    async fn a_batch_of_changes_reads_a_cluster_once() {
        let below: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let store = Looks(below.clone(), Default::default());
        let pipeline = Pipeline::new(below.clone());
        for number in 0..OBJECTS_KEPT_MAX + 300 {
            schema(&pipeline, number, 0).await;
        }
        let (snapshot, mut watch) = below.follow(scopes(None));
        let configurations = Configurations::suggested().unwrap();
        let read = Objects::read(&*snapshot, &ClusterName::root());
        let mut all = BTreeMap::from([(
            ClusterName::root(),
            ClusterConfiguration { objects: read, warned_at: None },
        )]);
        let mut events = Vec::new();
        for number in 0..200 {
            let gone = place(&format!("s-{number:04}"));
            pipeline
                .delete(&WriteOptions::default(), &gone, &DeleteOptions::default())
                .await
                .unwrap();
        }
        while events.len() < 200 {
            events.extend(watch.next().await.unwrap());
        }
        configurations.take_in(&mut all, events, &store).await;
        assert!(store.1.load(std::sync::atomic::Ordering::SeqCst) <= 1);
        assert_eq!(all[&ClusterName::root()].objects.schemas.len(), OBJECTS_KEPT_MAX);
    }

    #[tokio::test]
    async fn objects_beyond_the_bound_do_not_act_until_there_is_room() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let pipeline = Pipeline::new(store.clone());
        for number in 0..=OBJECTS_KEPT_MAX {
            schema(&pipeline, number, 0).await;
        }
        let (snapshot, mut watch) = store.follow(scopes(None));
        let configurations = Configurations::suggested().unwrap();
        let mut all = BTreeMap::new();
        all.extend(configurations.take_in_all(&*snapshot).await);
        let read = &all[&ClusterName::root()].objects;
        assert!(read.is_full && read.schemas.len() == OBJECTS_KEPT_MAX);
        // With the suggested ones, and without those that were not kept.
        assert_eq!(left_out(&configurations), (511, true));
        let gone = place("s-0000");
        pipeline.delete(&WriteOptions::default(), &gone, &DeleteOptions::default()).await.unwrap();
        let events = watch.next().await.unwrap();
        configurations.take_in(&mut all, events, &*store).await;
        let root = &all[&ClusterName::root()].objects;
        let last = format!("s-{OBJECTS_KEPT_MAX:04}");
        assert!(root.schemas.contains_key(&*last) && !root.is_full);
    }
}

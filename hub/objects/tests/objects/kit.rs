//! A pipeline over a store in memory at a clock that stands still, and short ways to say objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::clock::{Clock, SeededRandom};
use freewheel_hub_objects::{
    DeleteOptions, Deleted, ObjectRef, Objects, WriteOptions, Written, stored_value,
};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Store, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// 2026-01-01T00:00:00Z
pub(crate) const START: i64 = 1_767_225_600;

pub(crate) struct StillClock(AtomicI64);

impl StillClock {
    pub(crate) fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for StillClock {
    fn unix_nanos(&self) -> i128 {
        i128::from(self.0.load(Ordering::Relaxed)) * 1_000_000_000
    }
}

pub(crate) struct World {
    pub(crate) objects: Objects,
    pub(crate) clock: Arc<StillClock>,
}

impl World {
    /// With the namespace `default` in the root and in `pi-7`.
    pub(crate) async fn new() -> Self {
        Self::empty().bootstrapped().await
    }

    /// The same over this store.
    pub(crate) async fn over(store: Arc<dyn Store>) -> Self {
        Self::with(store, 1).bootstrapped().await
    }

    async fn bootstrapped(self) -> Self {
        let world = self;
        world.create("namespaces", json!({"metadata": {"name": "default"}})).await.unwrap();
        let place = place("namespaces", "pi-7", "", "default");
        world.objects.create(&WriteOptions::default(), &place, json!({})).await.unwrap();
        world
    }

    pub(crate) fn empty() -> Self {
        Self::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self::with(Arc::new(MemoryStore::with_incarnation(1)), seed)
    }

    fn with(store: Arc<dyn Store>, seed: u64) -> Self {
        let clock = Arc::new(StillClock(AtomicI64::new(START)));
        let chance = Arc::new(SeededRandom::new(seed));
        Self { objects: Objects::with(store, clock.clone(), chance), clock }
    }

    pub(crate) async fn create(&self, plural: &str, value: Value) -> Result<Written, ApiError> {
        self.objects.create(&WriteOptions::default(), &of(plural, ""), value).await
    }

    /// A pod, bound when a node is named.
    pub(crate) async fn pod(&self, name: &str, node: &str) -> Written {
        let mut value = pod(name);
        if !node.is_empty() {
            value["spec"]["nodeName"] = json!(node);
        }
        self.create("pods", value).await.unwrap()
    }

    pub(crate) async fn update(&self, plural: &str, value: Value) -> Result<Written, ApiError> {
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        self.objects.update(&WriteOptions::default(), &of(plural, &name), None, value).await
    }

    /// Changes one field, named by its pointer.
    pub(crate) async fn set(
        &self,
        plural: &str,
        name: &str,
        pointer: &str,
        to: Value,
    ) -> Result<Written, ApiError> {
        let change = |mut value: Value| {
            *pointed(&mut value, pointer) = to.clone();
            Ok(value)
        };
        self.objects.modify(&WriteOptions::default(), &of(plural, name), None, change).await
    }

    pub(crate) async fn delete(&self, plural: &str, name: &str) -> Result<Deleted, ApiError> {
        self.delete_with(plural, name, DeleteOptions::default()).await
    }

    pub(crate) async fn delete_with(
        &self,
        plural: &str,
        name: &str,
        options: DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        self.objects.delete(&WriteOptions::default(), &of(plural, name), &options).await
    }

    pub(crate) fn read(&self, plural: &str, name: &str) -> Option<Value> {
        self.objects.get(&of(plural, name)).ok().map(|stored| stored_value(&stored).unwrap())
    }
}

/// The place behind a pointer, made when it is not there.
fn pointed<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => &mut value[index],
        Err(_) => &mut value[key],
    })
}

pub(crate) fn place(plural: &str, cluster: &str, namespace: &str, name: &str) -> ObjectRef {
    let kind = kinds::all().iter().find(|kind| kind.plural() == plural).unwrap();
    ObjectRef {
        kind: kind.clone(),
        cluster: ClusterName::try_from(cluster).unwrap(),
        namespace: namespace.into(),
        name: name.to_owned(),
    }
}

/// In the root's namespace `default`.
pub(crate) fn of(plural: &str, name: &str) -> ObjectRef {
    let place = place(plural, "root", "", name);
    let namespace = if place.kind.namespaced { "default" } else { "" };
    ObjectRef { namespace: namespace.into(), ..place }
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "hello"}]}})
}

/// One to whose account and volumes admission adds nothing.
pub(crate) fn bare_pod(name: &str) -> Value {
    let mut bare = pod(name);
    bare["spec"]["serviceAccountName"] = json!("default");
    bare["spec"]["automountServiceAccountToken"] = json!(false);
    bare
}

pub(crate) fn config(name: &str, text: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"is": text}})
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "hello"}]},
            },
        },
    })
}

pub(crate) fn value(stored: &Stored) -> Value {
    stored_value(stored).unwrap()
}

#[track_caller]
pub(crate) fn refused<T>(result: Result<T, ApiError>, code: u16, message: &str) -> ApiError {
    let Err(error) = result else { panic!("this must be refused: {message}") };
    assert_eq!((error.code, error.message.as_str()), (code, message));
    error
}

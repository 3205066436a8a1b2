//! Backends to test, and short ways to say what is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::redb::{FileDisk, RedbStore};
use freewheel_hub_store::{
    Committed, Event, Expect, Limits, Operation, Revision, Scope, Store, Txn, Watch,
};
use freewheel_link::names::ClusterName;
use serde_json::json;

pub(crate) trait Backend {
    fn open(&self, limits: Limits) -> Arc<dyn Store>;

    /// From one revision to the next.
    fn step(&self) -> Revision {
        1
    }

    fn fresh(&self) -> Arc<dyn Store> {
        self.open(Limits::default())
    }

    /// What was there when the one before was closed, where anything is kept.
    fn again(&self) -> Option<Arc<dyn Store>> {
        None
    }
}

pub(crate) struct Memory;

impl Backend for Memory {
    fn open(&self, limits: Limits) -> Arc<dyn Store> {
        Arc::new(MemoryStore::with_limits(1, limits))
    }
}

/// As one that others write to: revisions have gaps.
pub(crate) struct Sparse;

impl Backend for Sparse {
    fn open(&self, limits: Limits) -> Arc<dyn Store> {
        Arc::new(MemoryStore::with_limits(1, limits).sparse(self.step()))
    }

    fn step(&self) -> Revision {
        7
    }
}

pub(crate) struct Redb(tempfile::TempDir);

impl Redb {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Backend for Redb {
    fn open(&self, limits: Limits) -> Arc<dyn Store> {
        Arc::new(RedbStore::open_on(FileDisk::new(self.0.path()), limits).unwrap())
    }

    fn again(&self) -> Option<Arc<dyn Store>> {
        Some(self.fresh())
    }
}

pub(crate) fn pods() -> Resource {
    Resource::new("", "pods")
}

pub(crate) fn cluster(name: &str) -> ClusterName {
    ClusterName::try_from(name).unwrap()
}

/// `pods|root|default|web`, `web` for short.
pub(crate) fn key(path: &str) -> Key {
    let mut parts: Vec<&str> = path.split('|').collect();
    for missing in ["default", "root", "pods"].into_iter().skip(parts.len() - 1) {
        parts.insert(0, missing);
    }
    let resource = match parts[0].split_once('.') {
        Some((plural, group)) => Resource::new(group, plural),
        None => Resource::new("", parts[0]),
    };
    Key::new(&resource, &cluster(parts[1]), parts[2], parts[3])
}

pub(crate) fn object(text: &str) -> Object {
    let value = json!({"metadata": {"uid": "u", "annotations": {"is": text}}});
    Object::from_value(value, BTreeMap::new()).unwrap()
}

pub(crate) fn put(path: &str, text: &str) -> Operation {
    Operation::Put(key(path), object(text))
}

pub(crate) fn remove(path: &str) -> Operation {
    Operation::Delete(key(path))
}

pub(crate) fn txn(expect: &[Expect], operations: &[Operation]) -> Txn {
    Txn { expect: expect.to_vec(), operations: operations.to_vec() }
}

pub(crate) async fn write(store: &Arc<dyn Store>, operations: &[Operation]) -> Committed {
    store.commit(txn(&[], operations)).await.unwrap()
}

/// Everything in a scope as `name=text`.
pub(crate) fn listed(snapshot: &dyn freewheel_hub_store::Snapshot, scope: &Scope) -> Vec<String> {
    snapshot.range(scope, None).map(|stored| said(&stored)).collect()
}

pub(crate) fn said(stored: &freewheel_hub_store::Stored) -> String {
    let value = stored.object.value().unwrap();
    format!("{}={}", stored.key.name, value["metadata"]["annotations"]["is"].as_str().unwrap())
}

/// An event as `3 web=old>web=new`, by how many transactions there were.
pub(crate) fn tell(step: Revision) -> impl Fn(&Event) -> String {
    let side = |stored: &Option<Arc<_>>| stored.as_deref().map(said).unwrap_or_default();
    move |event| {
        let count = event.revision / step;
        format!("{count} {}>{}", side(&event.before), side(&event.now))
    }
}

pub(crate) fn all_pods() -> Scope {
    Scope { resource: pods(), cluster: None, namespace: None }
}

/// Reads until the watch has told of `upto`.
pub(crate) async fn read_until(watch: &mut Box<dyn Watch>, upto: Revision) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|last| last.revision < upto) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), watch.next());
        events.extend(next.await.expect("the watch fell silent").unwrap());
    }
    events
}

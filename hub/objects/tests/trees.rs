//! What writes hold while the disk stands still.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use freewheel_hub_api::kinds;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Store, Txn};
use freewheel_link::names::ClusterName;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

/// Writes at a time, and entries of each object: about a megabyte of text, and many as a tree.
const WRITES: usize = 24;
const ENTRIES: usize = 32_000;
/// What all of them may hold: the new text, the one to try again with, and some more.
const MOST: usize = WRITES * (6 << 20);

/// A disk that stands still while it has no permits.
struct Still(MemoryStore, Arc<Semaphore>, Arc<AtomicUsize>);

#[async_trait]
impl Layer for Still {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.2.fetch_add(1, Ordering::SeqCst);
        let _permit = self.1.acquire().await;
        self.0.commit(txn).await
    }
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let said = std::fs::read_to_string("/proc/self/statm").unwrap();
    said.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn place(plural: &str, name: &str) -> ObjectRef {
    let kind = kinds::all().iter().find(|kind| kind.plural() == plural).unwrap().clone();
    let namespace = if kind.namespaced { "default" } else { "" };
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    ObjectRef { kind, cluster: ClusterName::root(), namespace: namespace.into(), name }
}

fn large(meta: &Value, text: &str) -> Value {
    let data: Map<_, _> =
        (0..ENTRIES).map(|number| (format!("entry-{number:010}"), json!(text))).collect();
    json!({"metadata": meta, "data": data})
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_tree_of_values_waits_for_the_disk() {
    let (permits, come) = (Arc::new(Semaphore::new(64)), Arc::<AtomicUsize>::default());
    let still = Still(MemoryStore::with_incarnation(1), permits.clone(), come.clone());
    let objects = Objects::new(Arc::new(still));
    let how = WriteOptions::default();
    objects.create(&how, &place("namespaces", "default"), json!({})).await.unwrap();
    for number in 0..WRITES {
        let at = place("configmaps", &format!("c{number}"));
        objects.create(&how, &at, large(&json!({}), "before")).await.unwrap();
    }
    for way in ["update", "modify", "create"] {
        let taken = permits.acquire_many(64).await.unwrap();
        come.store(0, Ordering::SeqCst);
        let before = resident();
        let writes: Vec<_> = (0..WRITES)
            .map(|number| {
                let (objects, how, way) = (objects.clone(), how.clone(), way.to_owned());
                tokio::spawn(async move {
                    let at = place("configmaps", &format!("c{number}"));
                    let meta = |name: &str| json!({name: format!("c{number}")});
                    match &*way {
                        "update" => {
                            objects.update(&how, &at, None, large(&meta("name"), "update")).await
                        }
                        "modify" => {
                            let change = |_| Ok(large(&meta("name"), "modify"));
                            objects.modify(&how, &at, None, change).await
                        }
                        _ => {
                            let value = large(&meta("generateName"), "create");
                            objects.create(&how, &place("configmaps", ""), value).await
                        }
                    }
                })
            })
            .collect();
        while come.load(Ordering::SeqCst) < WRITES {
            tokio::task::yield_now().await;
        }
        let held = resident().saturating_sub(before);
        assert!(held < MOST, "{way}: {} MiB are held by {WRITES} writes", held >> 20);
        drop(taken);
        for write in writes {
            write.await.unwrap().unwrap();
        }
    }
}

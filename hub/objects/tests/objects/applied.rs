//! What is made where it is not there, and changed where it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use freewheel_hub_objects::WriteOptions;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Store, Txn};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::crowd::Crowd;
use super::kit::{PATIENCE, World, config, of, refused};

/// One more than there was.
fn one_more(old: Option<Value>) -> Value {
    let Some(mut old) = old else { return config("a", "1") };
    let count: u32 = old["data"]["is"].as_str().unwrap().parse().unwrap();
    old["data"]["is"] = json!((count + 1).to_string());
    old
}

#[tokio::test]
async fn what_many_apply_at_once_all_counts() {
    const WRITERS: usize = 32;
    let crowd = Crowd::new();
    let world = World::over(crowd.clone()).await;
    crowd.gather(WRITERS);
    let writes = (0..WRITERS).map(|_| {
        let objects = &world.objects;
        async move {
            let (how, at) = (WriteOptions::default(), of("configmaps", "a"));
            objects.create_or_modify(&how, &at, |old| Ok(one_more(old))).await.unwrap().created
        }
    });
    let made = timeout(PATIENCE, futures::future::join_all(writes)).await.unwrap();
    assert_eq!(made.iter().filter(|created| **created).count(), 1);
    assert_eq!(world.read("configmaps", "a").unwrap()["data"]["is"], WRITERS.to_string());
}

/// A ConfigMap goes just before the next write of it.
struct Going(MemoryStore, Arc<AtomicBool>);

#[async_trait]
impl Layer for Going {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let at = of("configmaps", "a").key();
        let of_it = txn.operations.iter().any(|operation| *operation.key() == at);
        if of_it && self.1.swap(false, Ordering::SeqCst) {
            let gone = vec![Operation::Delete(at)];
            self.0.commit(Txn { expect: Vec::new(), operations: gone }).await?;
        }
        self.0.commit(txn).await
    }
}

#[tokio::test]
async fn what_goes_while_it_is_applied_is_made_anew() {
    let due = Arc::<AtomicBool>::default();
    let store = Going(MemoryStore::with_incarnation(1), due.clone());
    let world = World::over(Arc::new(store)).await;
    world.create("configmaps", config("a", "41")).await.unwrap();
    due.store(true, Ordering::SeqCst);
    let (how, at) = (WriteOptions::default(), of("configmaps", "a"));
    let made = world.objects.create_or_modify(&how, &at, |old| Ok(one_more(old))).await.unwrap();
    assert!(made.created);
    assert_eq!(world.read("configmaps", "a").unwrap()["data"]["is"], "1");
    let not_found = |_| Err(freewheel_hub_schema::error::ApiError::not_found("", "secrets", "s"));
    let outcome = world.objects.create_or_modify(&how, &at, not_found).await;
    refused(outcome, 404, "secrets \"s\" not found");
}

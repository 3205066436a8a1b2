//! A store with more to write than may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use freewheel_hub_apiserver::Limits;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Store, Txn};
use serde_json::json;

use crate::support::Hub;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The next write finds the line full.
struct Busy(MemoryStore, Arc<AtomicBool>);

#[async_trait]
impl Layer for Busy {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        if self.1.swap(false, Ordering::SeqCst) {
            return Err(CommitError::Busy);
        }
        self.0.commit(txn).await
    }
}

#[tokio::test]
async fn who_finds_the_line_full_is_told_when_to_come_again() {
    let armed = Arc::new(AtomicBool::new(false));
    let hub = Hub::over(Busy(MemoryStore::new(), armed.clone()), Limits::default()).await;
    let admin = hub.admin();
    let map = |text: &str| json!({"metadata": {"name": "a"}, "data": {"is": text}});
    let path = format!("{MAPS}/a");
    for verb in ["create", "update", "patch", "delete", "deletecollection"] {
        if verb == "deletecollection" {
            assert_eq!(admin.post(MAPS, &map("1")).await.code, 201);
        }
        for (full, codes) in [(true, [503, 503]), (false, [200, 201])] {
            armed.store(full, Ordering::SeqCst);
            let answer = match verb {
                "create" => admin.post(MAPS, &map("1")).await,
                "update" => admin.put(&path, &map("2")).await,
                "patch" => {
                    admin.patch(&path, "merge-patch+json", &json!({"data": {"is": "3"}})).await
                }
                "delete" => admin.delete(&path).await,
                _ => admin.delete(MAPS).await,
            };
            assert!(codes.contains(&answer.code), "{verb}: {}", answer.code);
            if full {
                let status = answer.json();
                assert_eq!(status["reason"], "ServiceUnavailable", "{verb}");
                assert_eq!(status["details"]["retryAfterSeconds"], 1, "{verb}");
                assert_eq!(answer.headers["retry-after"], "1", "{verb}");
                let text = status["message"].as_str();
                assert!(text.is_some_and(|it| it.contains("as many writes wait")), "{status}");
            }
        }
    }
}

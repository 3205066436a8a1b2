//! A store with more to write than may wait, and more requests than may be under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use freewheel_hub_apiserver::{Bounds, Limits};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Store, Txn};
use futures::future::select_all;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

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

/// After so many deletes the line is full for good.
struct Fills(MemoryStore, AtomicUsize);

#[async_trait]
impl Layer for Fills {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let deletes = txn.operations.iter().any(|one| matches!(one, Operation::Delete(_)));
        let left = |left: usize| left.checked_sub(usize::from(deletes));
        if self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_err() {
            return Err(CommitError::Busy);
        }
        self.0.commit(txn).await
    }
}

#[tokio::test]
async fn whose_deletion_ends_in_the_middle_is_told_how_many_went() {
    let store = Fills(MemoryStore::new(), AtomicUsize::new(5));
    let hub = Hub::over(store, Limits::default()).await;
    let admin = hub.admin();
    for number in 0..8 {
        let map = json!({"metadata": {"name": format!("m{number}")}});
        assert_eq!(admin.post(MAPS, &map).await.code, 201);
    }
    let status = admin.delete(MAPS).await.json();
    assert_eq!((&status["code"], &status["reason"]), (&json!(503), &json!("ServiceUnavailable")));
    let text = status["message"].as_str().unwrap();
    assert!(text.ends_with("; 5 were deleted before that"), "{text}");
    let left = admin.get(MAPS).await.json();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn requests_beyond_the_bound_come_back_later() {
    let flows = Bounds { requests: 4, ..Bounds::default() };
    let hub = Hub::bounded(Limits { flows, ..Limits::default() }).await;
    let (admin, line) = (hub.admin(), hub.admin().line().await);
    // Three are under way, and as many wait as may.
    let asks = (0..54).map(|_| {
        let line = line.clone();
        tokio::spawn(async move { line.post_nothing(MAPS).await })
    });
    let (refused, _, rest) = select_all(asks).await;
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"5".parse().unwrap())
    );
    let status = refused.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["reason"], "TooManyRequests");
    // Other users have a share.
    let other = hub.client(Some(&hub.authority.client("other", "system:masters")));
    let map = json!({"metadata": {"name": "other"}, "data": {}});
    assert_eq!(other.post(MAPS, &map).await.code, 201);
    assert_eq!(other.get(MAPS).await.code, 200);
    rest.iter().for_each(|ask| ask.abort());
    drop(line);
    let map = json!({"metadata": {"name": "own"}, "data": {}});
    assert_eq!(admin.post(MAPS, &map).await.code, 201);
}

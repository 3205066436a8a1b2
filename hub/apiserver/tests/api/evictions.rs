//! Evictions, and the disruption budgets that refuse them.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Client, Hub};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A pod with this label that a spoke runs, ready or not.
async fn running(client: &Client, name: &str, ready: bool) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut pod = ok(client.post(PODS, &pod).await.json());
    pod["status"] = json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": if ready { "True" } else { "False" }},
    ]});
    ok(client.put(&format!("{PODS}/{name}/status"), &pod).await.json());
}

fn ok(value: Value) -> Value {
    assert_ne!(value["kind"], "Status", "{value}");
    value
}

/// A budget whose controller has said this.
async fn budget(client: &Client, name: &str, spec: &Value, allowed: i64, healthy: (i64, i64)) {
    let mut spec = spec.clone();
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let budget = json!({"metadata": {"name": name}, "spec": spec});
    let mut budget = ok(client.post(BUDGETS, &budget).await.json());
    budget["status"] = json!({"disruptionsAllowed": allowed, "currentHealthy": healthy.0,
        "desiredHealthy": healthy.1, "expectedPods": 3, "observedGeneration": 1});
    ok(client.put(&format!("{BUDGETS}/{name}/status"), &budget).await.json());
}

async fn evict(client: &Client, name: &str, options: Value) -> (u16, Value) {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name}, "deleteOptions": options});
    let answer = client.post(&format!("{PODS}/{name}/eviction"), &eviction).await;
    (answer.code, answer.json())
}

async fn status(client: &Client, name: &str) -> Value {
    client.get(&format!("{BUDGETS}/{name}")).await.json()["status"].clone()
}

#[tokio::test]
async fn a_budget_is_given_away_once() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let names = ["a", "b", "c"];
    for name in names {
        running(&admin, name, true).await;
    }
    budget(&admin, "web", &json!({"minAvailable": 2}), 1, (3, 2)).await;
    let answers = join_all(names.map(|name| evict(&admin, name, json!({})))).await;
    let mut codes: Vec<u16> = answers.iter().map(|(code, _)| *code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [201, 429, 429], "{answers:?}");
    let (_, refused) = answers.iter().find(|(code, _)| *code == 429).unwrap();
    assert_eq!(
        refused["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(refused["reason"], "TooManyRequests");
    assert_eq!(refused["details"]["causes"][0]["reason"], "DisruptionBudget");
    let status = status(&admin, "web").await;
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(status["disruptedPods"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    let (_, told) = evict(&admin, "c", json!({})).await;
    let (_, again) = evict(&admin, "b", json!({})).await;
    let text = "The disruption budget web does not allow evicting pods currently";
    assert!([told, again].iter().any(|it| it["details"]["causes"][0]["message"] == text));
}

#[tokio::test]
async fn a_dry_run_of_an_eviction_takes_nothing() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    running(&admin, "a", true).await;
    budget(&admin, "web", &json!({"minAvailable": 2}), 1, (3, 2)).await;
    assert_eq!(evict(&admin, "a", json!({"dryRun": ["All"]})).await.0, 201);
    assert_eq!(status(&admin, "web").await["disruptionsAllowed"], 1);
    let pod = admin.get(&format!("{PODS}/a")).await.json();
    assert_eq!(pod["metadata"].get("deletionTimestamp"), None);
    assert_eq!(pod["status"]["conditions"].as_array().map(Vec::len), Some(1), "{pod}");
}

#[tokio::test]
async fn unready_pods_go_as_the_budget_s_policy_says() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for name in ["a", "b"] {
        running(&admin, name, false).await;
    }
    budget(&admin, "web", &json!({"minAvailable": 3}), 0, (2, 3)).await;
    let (code, refused) = evict(&admin, "a", json!({})).await;
    assert_eq!(code, 429);
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget web needs 3 healthy pods and has 2 currently"
    );
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    ok(admin.patch(&format!("{BUDGETS}/web"), "merge-patch+json", &always).await.json());
    assert_eq!(evict(&admin, "a", json!({})).await.0, 201);
    let left = status(&admin, "web").await;
    assert_eq!((&left["disruptionsAllowed"], left.get("disruptedPods")), (&json!(0), None));
    let stale = json!({"preconditions": {"resourceVersion": "1"}});
    let (code, conflict) = evict(&admin, "b", stale).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")), "{conflict}");
}

#[tokio::test]
async fn a_pod_of_several_budgets_is_evicted_by_none() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    running(&admin, "a", true).await;
    for name in ["one", "two"] {
        budget(&admin, name, &json!({"minAvailable": 0}), 1, (1, 0)).await;
    }
    let (code, refused) = evict(&admin, "a", json!({})).await;
    assert_eq!(code, 500);
    assert_eq!(
        refused["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    // Who has not begun disrupts nobody.
    let pending = json!({"metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    ok(admin.post(PODS, &pending).await.json());
    assert_eq!(evict(&admin, "p", json!({})).await.0, 201);
}

//! PUT, as each kind's strategy upstream allows it.

use serde_json::{Value, json};

use crate::support::Hub;

const NAMESPACE: &str = "/api/v1/namespaces/default";

fn about() -> Value {
    json!({"kind": "ConfigMap", "namespace": "default", "name": "a"})
}

/// Kinds that a PUT makes, and something to make.
fn made() -> Vec<(String, Value)> {
    let group = |group: &str, plural: &str| format!("/apis/{group}/namespaces/default/{plural}");
    vec![
        (group("coordination.k8s.io/v1", "leases"), json!({"spec": {"holderIdentity": "me"}})),
        (
            format!("{NAMESPACE}/events"),
            json!({"involvedObject": about(), "reason": "Told", "message": "m", "type": "Normal"}),
        ),
        (
            group("events.k8s.io/v1", "events"),
            json!({
                "regarding": about(), "reason": "Told", "note": "m", "type": "Normal", "action": "Look",
                "reportingController": "me", "reportingInstance": "me-1",
                "eventTime": "2026-01-01T00:00:00.000000Z",
            }),
        ),
        (format!("{NAMESPACE}/endpoints"), json!({"subsets": []})),
        (format!("{NAMESPACE}/services"), json!({"spec": {"ports": [{"port": 80}]}})),
    ]
}

fn named(name: &str, mut value: Value) -> Value {
    value["metadata"] = json!({"name": name});
    value
}

#[tokio::test]
async fn a_put_makes_what_is_not_there_where_its_kind_says_so() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for (number, (path, value)) in made().into_iter().enumerate() {
        let name = format!("put-{number}");
        let (at, value) = (format!("{path}/{name}"), named(&name, value));
        let pretended = admin.put(&format!("{at}?dryRun=All"), &value).await;
        assert_eq!(pretended.code, 201, "{at}: {}", pretended.json());
        assert_eq!(admin.get(&at).await.code, 404, "{at}");
        let mut of_another = value.clone();
        of_another["metadata"]["uid"] = json!("not-this-one");
        assert_eq!(admin.put(&at, &of_another).await.code, 409, "{at}: another was meant");
        let mut seen = value.clone();
        seen["metadata"]["resourceVersion"] = json!("1");
        let made = admin.put(&at, &seen).await;
        assert_eq!(made.code, 201, "{at}: {}", made.json());
        assert_eq!(admin.put(&at, &made.json()).await.code, 200, "{at}: it is there");
        assert_eq!(admin.put(&at, &seen).await.code, 409, "{at}: that is not what is there");
    }
    for path in ["configmaps", "secrets", "pods", "serviceaccounts"] {
        let at = format!("{NAMESPACE}/{path}/put");
        let absent = admin.put(&at, &named("put", json!({}))).await;
        assert_eq!((absent.code, &absent.json()["reason"]), (404, &json!("NotFound")), "{at}");
    }
}

#[tokio::test]
async fn a_put_that_does_not_say_what_it_replaces_is_refused_where_its_kind_says_so() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let cluster = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
    for (path, resource) in [
        (lease, "leases.coordination.k8s.io"),
        (cluster, "managedclusters.cluster.open-cluster-management.io"),
    ] {
        let (at, value) = (format!("{path}/a"), named("a", json!({})));
        assert_eq!(admin.post(path, &value).await.code, 201, "{path}");
        let refused = admin.put(&at, &value).await;
        let status = refused.json();
        assert_eq!((refused.code, &status["reason"]), (422, &json!("Invalid")), "{status}");
        let text = format!(
            "{resource} \"a\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
        );
        assert_eq!(status["message"], text);
        let patch = json!({"metadata": {"labels": {"x": "y"}}});
        assert_eq!(admin.patch(&at, "merge-patch+json", &patch).await.code, 200, "{path}");
        let mut now = admin.get(&at).await.json();
        now["metadata"]["labels"] = json!({"x": "z"});
        assert_eq!(admin.put(&at, &now).await.code, 200, "{path}");
    }
    for (number, (path, value)) in made().into_iter().enumerate().skip(1) {
        let name = format!("put-{number}");
        let (at, value) = (format!("{path}/{name}"), named(&name, value));
        assert_eq!(admin.put(&at, &value).await.code, 201, "{at}");
        assert_eq!(admin.put(&at, &value).await.code, 200, "{at}");
    }
}

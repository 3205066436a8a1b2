//! Server-side apply, and who owns which fields.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Hub};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn config_map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

fn deployment(name: &str, replicas: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "hello"}]},
            },
        },
    })
}

async fn apply(client: &Client, path: &str, body: &Value) -> Answer {
    client.patch(path, "apply-patch+yaml", body).await
}

/// Who owns what: manager, operation, subresource and fields.
fn owners(object: &Value) -> Vec<(String, String, String, Value)> {
    let all = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|one| {
            (
                text(one, "manager"),
                text(one, "operation"),
                text(one, "subresource"),
                one["fieldsV1"].clone(),
            )
        })
        .collect()
}

fn owner(
    manager: &str,
    operation: &str,
    subresource: &str,
    fields: Value,
) -> (String, String, String, Value) {
    (manager.to_owned(), operation.to_owned(), subresource.to_owned(), fields)
}

#[tokio::test]
async fn what_is_applied_is_made_and_changed() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let at = format!("{CONFIG_MAPS}/c?fieldManager=a");
    let pretended =
        apply(&admin, &format!("{at}&dryRun=All"), &config_map(&json!({"x": "1"}))).await;
    assert_eq!(pretended.code, 201, "{}", pretended.text());
    assert_eq!(admin.get(&format!("{CONFIG_MAPS}/c")).await.code, 404);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  x: '1'\n  z: '1'\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let made = admin.send("PATCH", &at, &headers, yaml).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(owners(&made), [owner("a", "Apply", "", json!({"f:data": {"f:x": {}, "f:z": {}}}))]);
    assert_eq!(made["metadata"]["managedFields"][0]["apiVersion"], "v1");
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsType"], "FieldsV1");
    assert!(made["metadata"]["managedFields"][0]["time"].is_string());

    let again = admin.send("PATCH", &at, &headers, yaml).await;
    assert_eq!(again.code, 200);
    assert_eq!(again.json(), made, "it is the same, down to its version and times");

    let less = apply(&admin, &at, &config_map(&json!({"x": "2"}))).await.json();
    assert_eq!(less["data"], json!({"x": "2"}), "what is left out goes");
}

#[tokio::test]
async fn what_others_own_is_a_conflict_that_names_them() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let at = format!("{CONFIG_MAPS}/c");
    apply(&admin, &format!("{at}?fieldManager=a"), &config_map(&json!({"x": "1", "y": "1"}))).await;
    let mine = config_map(&json!({"x": "2"}));
    let refused = apply(&admin, &format!("{at}?fieldManager=b"), &mine).await;
    assert_eq!(
        refused.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Apply failed with 1 conflict: conflict with \"a\": .data.x",
            "reason": "Conflict", "code": 409,
            "details": {"causes": [{
                "reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".data.x",
            }]},
        })
    );
    let forced = apply(&admin, &format!("{at}?fieldManager=b&force=true"), &mine).await.json();
    assert_eq!(forced["data"], json!({"x": "2", "y": "1"}));
    assert_eq!(
        owners(&forced),
        [
            owner("a", "Apply", "", json!({"f:data": {"f:y": {}}})),
            owner("b", "Apply", "", json!({"f:data": {"f:x": {}}})),
        ]
    );
    // What nobody else names goes with who leaves it out, and what somebody else names stays.
    apply(&admin, &format!("{at}?fieldManager=c"), &config_map(&json!({"y": "1"}))).await;
    let left = apply(&admin, &format!("{at}?fieldManager=a"), &config_map(&json!({}))).await.json();
    assert_eq!(left["data"], json!({"x": "2", "y": "1"}));
    let headers = [("content-type", "application/merge-patch+json"), ("user-agent", "curl/8.0")];
    admin.send("PATCH", &at, &headers, json!({"data": {"y": "3"}}).to_string()).await;
    let refused =
        apply(&admin, &format!("{at}?fieldManager=c"), &config_map(&json!({"y": "1"}))).await;
    assert_eq!(
        refused.json()["message"],
        "Apply failed with 1 conflict: conflict with \"curl\" using v1: .data.y"
    );
}

#[tokio::test]
async fn every_write_names_its_manager() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let headers = [("content-type", "application/json"), ("user-agent", "tool/1.0 (linux)")];
    let body = config_map(&json!({"x": "1"})).to_string();
    let made = admin.send("POST", CONFIG_MAPS, &headers, body).await.json();
    assert_eq!(
        owners(&made),
        [owner("tool", "Update", "", json!({"f:data": {".": {}, "f:x": {}}}))]
    );
    let mut next = made.clone();
    next["data"] = json!({"x": "1", "y": "1"});
    let put = admin.put(&format!("{CONFIG_MAPS}/c?fieldManager=me"), &next).await.json();
    assert_eq!(
        owners(&put),
        [
            owner("me", "Update", "", json!({"f:data": {"f:y": {}}})),
            owner("tool", "Update", "", json!({"f:data": {".": {}, "f:x": {}}})),
        ]
    );
    let mut reset = put.clone();
    reset["metadata"]["managedFields"] = json!([]);
    let reset = admin.put(&format!("{CONFIG_MAPS}/c"), &reset).await.json();
    assert_eq!(reset["metadata"].get("managedFields"), None, "an empty list takes them away");
    let path = format!("{CONFIG_MAPS}/c?fieldManager=a");
    let applied = apply(&admin, &path, &config_map(&json!({"x": "1"}))).await;
    assert_eq!(
        owners(&applied.json()),
        [
            owner("a", "Apply", "", json!({"f:data": {"f:x": {}}})),
            owner(
                "before-first-apply",
                "Update",
                "",
                json!({"f:data": {".": {}, "f:x": {}, "f:y": {}}})
            ),
        ]
    );
}

#[tokio::test]
async fn each_door_has_owners_of_its_own() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let at = format!("{DEPLOYMENTS}/d");
    let made = apply(&admin, &format!("{at}?fieldManager=a"), &deployment("d", &json!(2))).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let scale = json!({"spec": {"replicas": 3}});
    let scaled =
        admin.patch(&format!("{at}/scale?fieldManager=s"), "merge-patch+json", &scale).await;
    assert_eq!(scaled.code, 200, "{}", scaled.text());
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"paused": true}, "status": {"replicas": 3}});
    let told = apply(&admin, &format!("{at}/status?fieldManager=t"), &status).await;
    assert_eq!(told.code, 200, "{}", told.text());
    let told = told.json();
    assert_eq!((&told["status"]["replicas"], told["spec"].get("paused")), (&json!(3), None));
    let all = owners(&told);
    let of = |manager: &str| all.iter().find(|(name, ..)| name == manager).unwrap().clone();
    assert_eq!(of("s"), owner("s", "Update", "scale", json!({"f:spec": {"f:replicas": {}}})));
    assert_eq!(of("t"), owner("t", "Apply", "status", json!({"f:status": {"f:replicas": {}}})));
    assert_eq!(of("a").3["f:spec"].get("f:replicas"), None, "it is scaled by somebody else now");
    let refused = apply(&admin, &format!("{at}?fieldManager=a"), &deployment("d", &json!(2))).await;
    assert_eq!(
        refused.json()["message"],
        "Apply failed with 1 conflict: conflict with \"s\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"},
        "spec": {"replicas": 5}});
    let path = format!("{at}/scale?fieldManager=u");
    assert_eq!(apply(&admin, &path, &scale).await.code, 409);
    let scaled = apply(&admin, &format!("{path}&force=true"), &scale).await;
    assert_eq!(scaled.json()["spec"]["replicas"], 5, "{}", scaled.text());
}

#[tokio::test]
async fn what_cannot_be_applied_is_told() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let at = format!("{CONFIG_MAPS}/c");
    let (manager, body) = (format!("{at}?fieldManager=a"), config_map(&json!({"x": "1"})));
    let mut unknown = body.clone();
    unknown["spec"] = json!({});
    let mut listed = body.clone();
    listed["metadata"]["managedFields"] = json!([]);
    let mut other = body.clone();
    other["kind"] = json!("Secret");
    for (path, body, code, message) in [
        (
            &at,
            &body,
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            &manager,
            &unknown,
            500,
            "failed to create typed patch object (/c; /v1, Kind=ConfigMap): .spec: field not declared in schema",
        ),
        (&manager, &listed, 400, "metadata.managedFields must be nil"),
        (&manager, &other, 400, "invalid object type: /v1, Kind=Secret"),
        (
            &manager,
            &json!([]),
            400,
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ] {
        let answer = apply(&admin, path, body).await;
        assert_eq!((answer.code, answer.json()["message"].as_str()), (code, Some(message)));
    }
    // What is no patch at all is told first.
    for query in ["force=true", "dryRun=some"] {
        let odd = admin.patch(&format!("{at}?{query}"), "odd-patch", &json!({})).await;
        assert_eq!((odd.code, &odd.json()["reason"]), (415, &json!("UnsupportedMediaType")));
    }
    let forced = admin.patch(&format!("{at}?force=true"), "merge-patch+json", &json!({})).await;
    assert_eq!(
        forced.json()["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let headers = [("content-type", "application/apply-patch+yaml")];
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {x: '1', x: '2'}\n";
    let strict =
        admin.send("PATCH", &format!("{manager}&fieldValidation=Strict"), &headers, twice).await;
    assert_eq!(
        strict.json()["message"],
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  \
         line 4: key \"x\" already set in map"
    );
    let cbor = [("content-type", "application/apply-patch+cbor")];
    assert_eq!(admin.send("PATCH", &manager, &cbor, "").await.code, 415);
    assert_eq!(admin.get(&at).await.code, 404, "nothing was made");
}

/// Lists are merged by their keys, those of which one is left out by its default.
#[tokio::test]
async fn elements_of_a_list_have_owners_of_their_own() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let at = "/api/v1/namespaces/default/services/s";
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
    let first = service(json!([{"name": "a", "port": 80}]));
    assert_eq!(apply(&admin, &format!("{at}?fieldManager=a"), &first).await.code, 201);
    let second = service(json!([{"name": "b", "port": 81, "protocol": "UDP"}]));
    let both = apply(&admin, &format!("{at}?fieldManager=b"), &second).await.json();
    let ports: Vec<_> =
        both["spec"]["ports"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(ports, ["a", "b"]);
    assert_eq!(
        owners(&both)[0].3,
        json!({"f:spec": {"f:ports": {
            "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}},
        }}})
    );
    let twice = service(json!([{"port": 80}, {"port": 80, "protocol": "TCP"}]));
    let refused = apply(&admin, &format!("{at}?fieldManager=a"), &twice).await;
    assert_eq!(
        refused.json()["message"],
        "failed to create typed patch object (/s; /v1, Kind=Service): .spec.ports: duplicate entries \
         for key [port=80,protocol=\"TCP\"]"
    );
    let gone = apply(&admin, &format!("{at}?fieldManager=b"), &service(json!([]))).await.json();
    assert_eq!(gone["spec"]["ports"].as_array().unwrap().len(), 1);
}

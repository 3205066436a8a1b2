//! Built-in kinds in protobuf, as controller-runtime sends them.

use bytes::Bytes;
use freewheel_hub_schema::protobuf;
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::support::Hub;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn an_object_is_created_and_read_in_protobuf() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p"}, "data": {"a": "b"},
    });
    let accept = format!("{PROTOBUF},application/json");
    let headers = [("content-type", PROTOBUF), ("accept", accept.as_str())];
    let answer = admin.send("POST", MAPS, &headers, protobuf::encode(&map).unwrap()).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], PROTOBUF);
    let created = protobuf::decode(&answer.bytes).unwrap();
    assert_eq!(created["data"], map["data"]);
    assert_eq!(created, admin.get(&format!("{MAPS}/p")).await.json());

    let answer = admin.send("GET", MAPS, &headers[1..], "").await;
    let list = protobuf::decode(&answer.bytes).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["data"]), (&json!("ConfigMapList"), &map["data"]));

    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]});
    let options = protobuf::encode(&options).unwrap();
    let answer = admin.send("DELETE", &format!("{MAPS}/p"), &headers, options).await;
    assert_eq!(protobuf::decode(&answer.bytes).unwrap()["status"], "Success");
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(admin.get(&format!("{MAPS}/p")).await.code, 200, "it was a dry run");
    let missing = admin.send("GET", &format!("{MAPS}/none"), &headers[1..], "").await;
    assert_eq!(protobuf::decode(&missing.bytes).unwrap()["reason"], "NotFound");
}

#[tokio::test]
async fn a_watch_in_protobuf_is_framed() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    admin.post(MAPS, &json!({"metadata": {"name": "p"}})).await;
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let response = admin.open("GET", &path, &[("accept", PROTOBUF)], Bytes::new()).await;
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut frames = Vec::new();
    let mut rest = bytes.as_ref();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (frame, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame);
        rest = tail;
    }
    assert_eq!(frames.len(), 3, "an object, the end of the initial ones, the end");
    assert_eq!(&frames[0][..7], b"\n\x05ADDED");
    assert_eq!(&frames[1][..10], b"\n\x08BOOKMARK");
}

#[tokio::test]
async fn what_has_no_protobuf_form_is_served_in_json_when_that_is_taken() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let path = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
    let both = format!("{PROTOBUF},application/json");
    let answer = admin.send("GET", path, &[("accept", both.as_str())], "").await;
    assert_eq!(
        (answer.code, &answer.headers["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let answer = admin.send("GET", path, &[("accept", PROTOBUF)], "").await;
    assert_eq!(answer.code, 406);
}

/// As the clientset of apiextensions sends them.
#[tokio::test]
async fn a_definition_is_created_read_and_listed_in_protobuf() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "any": {"type": "object", "additionalProperties": true},
        "mode": {"type": "string", "enum": ["fast", "slow"], "default": "slow"},
    }}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let accept = format!("{PROTOBUF},application/json");
    let headers = [("content-type", PROTOBUF), ("accept", accept.as_str())];
    let answer = admin.send("POST", path, &headers, protobuf::encode(&definition).unwrap()).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], PROTOBUF);
    let created = protobuf::decode(&answer.bytes).unwrap();
    assert_eq!(created.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap(), &schema);
    assert_eq!(created, admin.get(&format!("{path}/widgets.example.com")).await.json());
    let list = admin.send("GET", path, &headers[1..], "").await;
    assert_eq!(protobuf::decode(&list.bytes).unwrap()["items"][0]["spec"], created["spec"]);
}

#[tokio::test]
async fn questions_about_oneself_may_be_in_protobuf() {
    let hub = Hub::start().await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
        "spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}, "status": {"allowed": false},
    });
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body = protobuf::encode(&review).unwrap();
    let answer = hub.admin().send("POST", path, &headers, body).await;
    assert_eq!(protobuf::decode(&answer.bytes).unwrap()["status"]["allowed"], true);
}

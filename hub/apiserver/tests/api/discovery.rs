//! What the hub says about itself.

use serde_json::{Value, json};

use crate::support::Hub;

#[tokio::test]
async fn plain_and_aggregated_discovery_say_the_same() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let answer = admin.send("GET", "/apis", &[("accept", accept)], "").await;
    assert_eq!(
        answer.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let aggregated = answer.json();
    let plain = admin.get("/apis").await.json();
    let names = |list: &Value, path: &str| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        items.map(|item| item.pointer(path).unwrap().as_str().unwrap().to_owned()).collect()
    };
    let groups = names(&plain["groups"], "/name");
    assert_eq!(groups, names(&aggregated["items"], "/metadata/name"));
    assert!(groups.contains(&"apps".to_owned()), "{groups:?}");

    let apps = aggregated["items"].as_array().unwrap().iter();
    let apps = apps.clone().find(|item| item["metadata"]["name"] == "apps").unwrap();
    let deployments = &apps["versions"][0]["resources"][0];
    assert_eq!(deployments["resource"], "deployments");
    assert_eq!(deployments["shortNames"], json!(["deploy"]));
    let scale = deployments["subresources"].as_array().unwrap().iter();
    let scale = scale.clone().find(|sub| sub["subresource"] == "scale").unwrap();
    assert_eq!(scale["responseKind"]["kind"], "Scale");

    let list = admin.get("/apis/apps/v1").await.json();
    let resources = names(&list["resources"], "/name");
    for name in ["deployments", "deployments/scale", "deployments/status", "replicasets"] {
        assert!(resources.contains(&name.to_owned()), "{name} in {resources:?}");
    }
    assert_eq!(admin.get("/apis/apps").await.json()["preferredVersion"]["version"], "v1");
    assert_eq!(admin.get("/api").await.json()["versions"], json!(["v1"]));
    let paths = admin.get("/").await.json();
    assert!(paths["paths"].as_array().unwrap().contains(&json!("/apis/apps/v1")));
}

#[tokio::test]
async fn schemas_are_served_by_group_and_version() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let index = admin.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let answer = admin.get(url).await;
    assert_eq!(answer.code, 200);
    assert!(answer.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert!(answer.json()["components"]["schemas"].get("io.k8s.api.apps.v1.Deployment").is_some());
    assert_eq!(admin.get("/openapi/v3/apis/nonsense/v1").await.code, 404);
    assert_eq!(admin.get("/openapi/v2").await.json()["swagger"], "2.0");
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = admin.send("GET", "/openapi/v2", &[("accept", accept)], "").await;
    assert!(answer.headers["content-type"].to_str().unwrap().ends_with("+protobuf"));
    assert_eq!(&answer.bytes[..5], b"\n\x032.0", "field 1 is the version");
}

#[tokio::test]
async fn health_is_one_word_or_a_list() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    assert_eq!(admin.get("/livez").await.text(), "ok");
    assert_eq!(
        admin.get("/readyz?verbose").await.text(),
        "[+]ping ok\n[+]store ok\nreadyz check passed\n"
    );
    assert_eq!(admin.get("/readyz/store").await.text(), "ok");
    assert_eq!(admin.get("/readyz/none").await.code, 404);
}

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
    let resources = apps["versions"][0]["resources"].as_array().unwrap();
    assert_eq!(resources[0]["resource"], "controllerrevisions");
    let deployments = resources.iter().find(|it| it["resource"] == "deployments").unwrap();
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

/// Hashes as kube-apiserver 1.36 gives them, and its order of keys.
#[tokio::test]
async fn discovery_is_written_as_upstream_writes_it() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let core = admin.get("/api/v1").await;
    assert!(
        core.text().starts_with(
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"bindings","singularName":"binding","namespaced":true,"kind":"Binding","verbs":["create"]},{"name":"componentstatuses","singularName":"componentstatus","namespaced":false,"kind":"ComponentStatus","verbs":["get","list"],"shortNames":["cs"]},{"name":"configmaps","singularName":"configmap","namespaced":true,"kind":"ConfigMap","verbs":"#
        ),
        "{}",
        core.text()
    );
    for (path, name, hash) in [
        ("/api/v1", "pods", "xPOwRZ+Yhw8="),
        ("/api/v1", "events", "r2yiGXH7wu8="),
        ("/apis/events.k8s.io/v1", "events", "r2yiGXH7wu8="),
        ("/apis/apps/v1", "deployments", "8aSe+NMegvE="),
        ("/apis/discovery.k8s.io/v1", "endpointslices", "qgS0xkrxYAI="),
        ("/apis/certificates.k8s.io/v1", "certificatesigningrequests", "95fRKMXA+00="),
    ] {
        let list = admin.get(path).await.json();
        let mut all = list["resources"].as_array().unwrap().iter();
        let found = all.find(|resource| resource["name"] == name).unwrap();
        assert_eq!(found["storageVersionHash"], hash, "{path} {name}");
    }
    let group = admin.get("/apis/apps").await.text();
    assert_eq!(
        group,
        r#"{"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}"#
    );
    assert!(
        admin.get("/api").await.text().starts_with(r#"{"kind":"APIVersions","versions":["v1"],"#)
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let all = admin.send("GET", "/api", &[("accept", accept)], "").await.text();
    let pods = r#"{"resource":"pods","responseKind":{"group":"","version":"v1","kind":"Pod"},"scope":"Namespaced","singularResource":"pod","verbs":["#;
    assert!(all.contains(pods), "{all}");
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

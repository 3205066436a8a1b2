//! Get, list, create, update, patch, delete, and what they answer.

use crate::support::{Client, Hub};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn map(client: &Client, name: &str, labels: Value) -> Value {
    let map = json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "b"}});
    let answer = client.post(MAPS, &map).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_object_lives_through_all_verbs() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let created = map(&admin, "one", json!({})).await;
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let path = format!("{MAPS}/one");
    assert_eq!(admin.get(&path).await.json(), created);

    let mut changed = created.clone();
    changed["data"]["a"] = json!("c");
    let answer = admin.put(&path, &changed).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_ne!(
        answer.json()["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    let answer = admin.put(&path, &changed).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (409, &json!("Conflict")));

    let patch = json!({"data": {"x": "y"}});
    let answer = admin.patch(&path, "merge-patch+json", &patch).await;
    assert_eq!(answer.json()["data"], json!({"a": "c", "x": "y"}));
    let again = admin.patch(&path, "strategic-merge-patch+json", &patch).await;
    assert_eq!(again.json(), answer.json(), "a no-op keeps its revision");
    let patch = json!([{"op": "remove", "path": "/data/a"}]);
    let answer = admin.patch(&path, "json-patch+json", &patch).await;
    assert_eq!(answer.json()["data"], json!({"x": "y"}));

    let answer = admin.delete(&path).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.json()["status"], "Success");
    assert_eq!(answer.json()["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(admin.get(&path).await.code, 404);
}

#[tokio::test]
async fn names_and_namespaces_must_fit_the_path() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "one", json!({})).await;
    let other = json!({"metadata": {"name": "two"}});
    let answer = admin.put(&format!("{MAPS}/one"), &other).await;
    assert_eq!(
        answer.json()["message"],
        "the name of the object (two) does not match the name on the URL (one)"
    );
    let elsewhere = json!({"metadata": {"name": "two", "namespace": "kube-system"}});
    let answer = admin.post(MAPS, &elsewhere).await;
    assert_eq!(answer.code, 400);
    let answer = admin.post("/api/v1/namespaces/nowhere/configmaps", &other).await;
    assert_eq!(answer.json()["message"], r#"namespaces "nowhere" not found"#);
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let body = json!({"metadata": {"name": "dry"}});
    let answer = admin.post(&format!("{MAPS}?dryRun=All"), &body).await;
    assert_eq!(answer.code, 201);
    assert!(answer.json()["metadata"].get("resourceVersion").is_none());
    assert_eq!(admin.get(&format!("{MAPS}/dry")).await.code, 404);
    assert_eq!(admin.post(&format!("{MAPS}?dryRun=Some"), &body).await.code, 422);
}

#[tokio::test]
async fn unknown_fields_warn_or_are_refused() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let body = json!({"metadata": {"name": "x"}, "dota": {}});
    let answer = admin.post(&format!("{MAPS}?fieldValidation=Strict"), &body).await;
    assert_eq!(answer.code, 400);
    assert!(answer.text().contains(r#"unknown field \"dota\""#), "{}", answer.text());
    let answer = admin.post(MAPS, &body).await;
    assert_eq!(answer.code, 201);
    assert_eq!(answer.headers["warning"], r#"299 - "unknown field \"dota\"""#);
    assert!(answer.json().get("dota").is_none());
    let patch = json!({"dota": {"a": "b"}});
    let answer = admin.patch(&format!("{MAPS}/x"), "merge-patch+json", &patch).await;
    assert_eq!(answer.headers["warning"], r#"299 - "unknown field \"dota\"""#);
    let strict = format!("{MAPS}/x?fieldValidation=Strict");
    assert_eq!(admin.patch(&strict, "merge-patch+json", &patch).await.code, 422);
}

#[tokio::test]
async fn a_patch_that_says_something_twice_is_told() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "x", json!({})).await;
    let path = format!("{MAPS}/x");
    for (form, body, twice, shown) in [
        (
            "merge-patch+json",
            r#"{"data": {"a": "1", "a": "2"}}"#,
            r#"duplicate field "data.a""#,
            r#"\"data\":{\"a\":\"2\"}"#,
        ),
        (
            "strategic-merge-patch+json",
            r#"{"data": {"a": "1", "a": "3"}}"#,
            r#"duplicate field "data.a""#,
            r#" "" is invalid: patch: Invalid value: "map[data:map[a:3]]": strict"#,
        ),
        (
            "json-patch+json",
            r#"[{"op": "add", "path": "/data", "value": {"a": "4"}, "path": "/data"}]"#,
            r#"json patch duplicate field "[0].path""#,
            r#"\"data\":{\"a\":\"4\"}"#,
        ),
    ] {
        let form = format!("application/{form}");
        let headers = [("content-type", form.as_str())];
        let strict = format!("{path}?fieldValidation=Strict");
        let answer = admin.send("PATCH", &strict, &headers, body).await;
        assert_eq!(answer.code, 422, "{form}: {}", answer.text());
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("strict decoding error: {twice}")), "{message}");
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
        assert!(message.contains(shown), "{message}");
        let answer = admin.send("PATCH", &path, &headers, body).await;
        assert_eq!(answer.code, 200, "{form}: {}", answer.text());
        let warned = answer.headers["warning"].to_str().unwrap().replace('\\', "");
        assert!(warned.contains(twice), "{warned}");
    }
    assert_eq!(admin.get(&path).await.json()["data"]["a"], "4");
}

#[tokio::test]
async fn a_patch_takes_the_last_finalizer_off_and_sees_that() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let held = json!({"metadata": {"name": "held", "finalizers": ["a.b/c", "a.b/d"]}});
    assert_eq!(admin.post(MAPS, &held).await.code, 201);
    let path = format!("{MAPS}/held");
    admin.delete(&path).await;
    let patch = json!([{"op": "remove", "path": "/metadata/finalizers/-1"}]);
    let answer = admin.patch(&path, "json-patch+json", &patch).await;
    assert_eq!(answer.json()["metadata"]["finalizers"], json!(["a.b/c"]), "{}", answer.text());
    for dry_run in ["?dryRun=All", ""] {
        let answer = admin.patch(&format!("{path}{dry_run}"), "json-patch+json", &patch).await;
        assert_eq!(answer.code, 200, "{}", answer.text());
        let gone = answer.json();
        assert!(gone["metadata"].get("finalizers").is_none(), "{gone}");
        assert!(gone["metadata"]["deletionTimestamp"].is_string(), "{gone}");
    }
    assert_eq!(admin.get(&path).await.code, 404);
}

#[tokio::test]
async fn yaml_is_read_and_written() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let body = "metadata:\n  name: why\ndata:\n  a: |\n    two\n    lines\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let answer = admin.send("POST", MAPS, &headers, body).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert!(answer.text().contains("name: why"), "{}", answer.text());
    assert_eq!(admin.get(&format!("{MAPS}/why")).await.json()["data"]["a"], "two\nlines\n");
    // `no` is a flag, and a ConfigMap holds texts.
    let flag = "metadata: {name: flag}\ndata:\n  a: no\n";
    let answer = admin.send("POST", MAPS, &headers, flag).await;
    assert!(answer.text().contains("cannot unmarshal bool"), "{}", answer.text());
    let pod = "metadata: {name: p}\nspec:\n  containers: [{name: c, image: i}]\n  volumes:\n  - name: v\n    \
               configMap: {name: m, defaultMode: 0400}\n";
    let json_answer = [("content-type", "application/yaml")];
    let answer = admin.send("POST", "/api/v1/namespaces/default/pods", &json_answer, pod).await;
    let mode = answer.json()["spec"]["volumes"][0]["configMap"]["defaultMode"].clone();
    assert_eq!(mode, 256, "{}", answer.text());
    let answer = admin.send("POST", MAPS, &[("content-type", "application/cbor")], "x").await;
    assert_eq!((answer.code, &answer.json()["reason"]), (415, &json!("UnsupportedMediaType")));
    let answer = admin.send("GET", MAPS, &[("accept", "application/cbor")], "").await;
    assert_eq!((answer.code, &answer.json()["reason"]), (406, &json!("NotAcceptable")));
}

#[tokio::test]
async fn a_list_in_chunks_shows_one_revision() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for name in ["a", "b", "c", "d", "e"] {
        map(&admin, name, json!({})).await;
    }
    let first = admin.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    map(&admin, "bb", json!({})).await;
    admin.delete(&format!("{MAPS}/d")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = admin.get(&format!("{MAPS}?limit=500&continue={token}")).await.json();
    assert_eq!(names(&rest), ["c", "d", "e"]);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(rest["metadata"].get("continue").is_none());
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let both = format!("{MAPS}?limit=2&continue={token}&resourceVersion={version}");
    let answer = admin.get(&both).await;
    assert_eq!(answer.code, 400);
    assert_eq!(
        answer.json()["message"],
        "specifying resource version is not allowed when using continue"
    );
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(names(&admin.get(&exact).await.json()), ["a", "b", "c", "d", "e"]);
    let newer = format!("{MAPS}?resourceVersion={version}");
    assert_eq!(names(&admin.get(&newer).await.json()), ["a", "b", "bb", "c", "e"]);
}

#[tokio::test]
async fn selectors_choose() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "a", json!({"app": "web"})).await;
    map(&admin, "b", json!({"app": "db"})).await;
    let list = admin.get(&format!("{MAPS}?labelSelector=app%3Dweb")).await.json();
    assert_eq!(names(&list), ["a"]);
    let list = admin.get(&format!("{MAPS}?fieldSelector=metadata.name%3Db")).await.json();
    assert_eq!(names(&list), ["b"]);
    let answer = admin.delete(&format!("{MAPS}?labelSelector=app%3Ddb")).await;
    assert_eq!(names(&answer.json()), ["b"]);
    assert_eq!(names(&admin.get("/api/v1/configmaps").await.json()), ["a"]);
}

#[tokio::test]
async fn tables_and_metadata_are_served() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "a", json!({"app": "web"})).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = admin.send("GET", MAPS, &accept, "").await.json();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["resourceVersion"].is_string());
    let one =
        admin.send("GET", &format!("{MAPS}/a?includeObject=Object"), &accept, "").await.json();
    assert_eq!(one["rows"][0]["object"]["kind"], "ConfigMap");
    let accept = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let list = admin.send("GET", MAPS, &accept, "").await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["labels"]["app"], "web");
    assert!(list["items"][0].get("data").is_none());
}

#[tokio::test]
async fn a_large_list_is_compressed_when_asked() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let body = json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(200_000)}});
    assert_eq!(admin.post(MAPS, &body).await.code, 201);
    let packed = admin.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.bytes.len() < 10_000);
    assert!(200_000 < admin.get(MAPS).await.bytes.len());
}

#[tokio::test]
async fn events_are_one_store_with_two_faces() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let event = json!({
        "metadata": {"name": "e1", "namespace": "default"}, "reason": "Started", "type": "Normal",
        "message": "hello", "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "source": {"component": "spoke"}, "count": 2,
    });
    let answer = admin.post("/api/v1/namespaces/default/events", &event).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let view = "/apis/events.k8s.io/v1/namespaces/default/events";
    let seen = admin.get(&format!("{view}/e1")).await.json();
    assert_eq!(seen["apiVersion"], "events.k8s.io/v1");
    assert_eq!((&seen["note"], &seen["deprecatedCount"]), (&json!("hello"), &json!(2)));
    assert_eq!(seen["regarding"]["name"], "p");
    let list = admin.get(&format!("{view}?fieldSelector=regarding.name%3Dp")).await.json();
    assert_eq!((names(&list), &list["kind"]), (vec!["e1"], &json!("EventList")));
    let answer =
        admin.patch(&format!("{view}/e1"), "merge-patch+json", &json!({"note": "bye"})).await;
    // Of this version, nothing but the series changes; of core's, everything.
    assert_eq!(answer.code, 422, "{}", answer.text());
    let path = "/api/v1/namespaces/default/events/e1";
    let answer = admin.patch(path, "merge-patch+json", &json!({"message": "bye"})).await;
    assert_eq!(answer.json()["message"], "bye", "{}", answer.text());
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let answer = admin.patch(&format!("{view}/e1"), "merge-patch+json", &labels).await;
    assert_eq!((answer.code, &answer.json()["note"]), (200, &json!("bye")), "{}", answer.text());
    let bare =
        json!({"metadata": {"name": "e2"}, "regarding": {"kind": "Pod", "namespace": "default"}});
    let answer = admin.post(view, &bare).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    let missing = admin.get(&format!("{view}/none")).await.json();
    assert_eq!(missing["message"], r#"events.events.k8s.io "none" not found"#);
}

#[tokio::test]
async fn whoever_uses_endpoints_hears_that_they_are_deprecated() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let all = "/api/v1/namespaces/default/endpoints";
    let object = json!({"metadata": {"name": "by-hand"}, "subsets": []});
    let created = admin.post(all, &object).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let one = format!("{all}/by-hand");
    let watch = format!("{all}?watch=1&timeoutSeconds=1");
    for answer in [
        created,
        admin.get(&one).await,
        admin.get(all).await,
        admin.get("/api/v1/endpoints").await,
        admin.get(&watch).await,
        admin.get(&format!("{all}/nobody")).await,
        admin.patch(&one, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})).await,
    ] {
        assert_eq!(
            answer.headers["warning"],
            r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#
        );
    }
    let slices = admin.get("/apis/discovery.k8s.io/v1/endpointslices").await;
    assert!(slices.headers.get("warning").is_none());
}

#[tokio::test]
async fn a_malformed_path_reads_and_deletes_nothing() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "one", json!({})).await;
    let one = format!("{MAPS}/one");
    for path in [
        "/api/v1/namespaces/default//web".to_owned(),
        "/api/v1/namespaces/default/".to_owned(),
        format!("{MAPS}/"),
        format!("{MAPS}//"),
        format!("{MAPS}//x"),
        format!("{one}//x"),
        format!("{one}/"),
        "/api/v1/namespaces/default%2Fconfigmaps%2Fone".to_owned(),
        "/api//v1/namespaces/default/configmaps/one".to_owned(),
    ] {
        assert_eq!(admin.delete(&path).await.code, 404, "{path}");
    }
    for path in ["/api/v1/watch/namespaces/default", "/api/v1/watch/namespaces/default/configmaps"]
    {
        assert_eq!(admin.delete(path).await.code, 405, "{path}");
    }
    assert_eq!(admin.get(&format!("{one}//log")).await.code, 404);
    assert_eq!(admin.get(&one).await.code, 200);
    let namespace = admin.get("/api/v1/namespaces/default").await.json();
    assert_eq!(namespace["status"]["phase"], "Active");
    // What no slash is left out of is what it was.
    assert_eq!(names(&admin.get(&format!("{MAPS}/")).await.json()), ["one"]);
}

//! Watches, as informers and kubectl use them.

use crate::support::{Client, Hub};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn map(client: &Client, name: &str, app: &str) -> Value {
    let map = json!({"metadata": {"name": name, "labels": {"app": app}}});
    client.post(MAPS, &map).await.json()
}

async fn relabel(client: &Client, name: &str, app: &str) {
    let patch = json!({"metadata": {"labels": {"app": app}}});
    let answer = client.patch(&format!("{MAPS}/{name}"), "merge-patch+json", &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "before", "web").await;
    let list = admin.get(MAPS).await.json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=60");
    let mut watch = admin.watch(&path).await;
    map(&admin, "after", "web").await;
    relabel(&admin, "after", "db").await;
    admin.delete(&format!("{MAPS}/after")).await;
    assert_eq!(watch.brief().await, event("ADDED", "after"));
    assert_eq!(watch.brief().await, event("MODIFIED", "after"));
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let newest = admin.get(MAPS).await.json()["metadata"]["resourceVersion"].clone();
    assert_eq!(deleted["object"]["metadata"]["resourceVersion"], newest);
}

#[tokio::test]
async fn without_a_version_a_watch_starts_with_what_is_there() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "one", "web").await;
    let mut watch = admin.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(watch.brief().await, event("ADDED", "one"));
    map(&admin, "two", "web").await;
    assert_eq!(watch.brief().await, event("ADDED", "two"));
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let mut watch = admin.watch(&format!("{MAPS}?watch=1&labelSelector=app%3Dweb")).await;
    map(&admin, "a", "db").await;
    relabel(&admin, "a", "web").await;
    assert_eq!(watch.brief().await, event("ADDED", "a"));
    relabel(&admin, "a", "db").await;
    let left = watch.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["app"], "web");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "one", "web").await;
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let mut watch = admin.watch(&path).await;
    assert_eq!(watch.brief().await, event("ADDED", "one"));
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    // At its timeout it says once more how far it has come, and ends.
    assert_eq!(watch.next().await.unwrap()["type"], "BOOKMARK");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn columns_and_metadata_can_be_watched() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    map(&admin, "one", "web").await;
    let path = format!("{MAPS}?watch=true");
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut watch = admin.watch_as(&path, accept).await;
    let added = watch.next().await.unwrap();
    assert_eq!(added["object"]["kind"], "Table");
    assert_eq!(added["object"]["rows"][0]["cells"][0], "one");
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut watch = admin.watch_as(&path, accept).await;
    assert_eq!(watch.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
}

/// As to a client that has seen more at another hub.
#[tokio::test]
async fn a_version_a_moment_ahead_is_waited_for() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for (name, path) in [
        ("a", "/late?"),
        ("b", "?"),
        ("c", "?resourceVersionMatch=Exact&"),
        ("d", "?watch=1&timeoutSeconds=1&"),
    ] {
        let newest = hub.objects.store().snapshot().revision();
        let path = format!("{MAPS}{path}resourceVersion={}", newest + 1);
        // Whether it comes before or after the question.
        let ahead = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let late = if name == "a" { "late" } else { name };
            map(&admin, late, "web").await;
        };
        let (answer, ()) = tokio::join!(admin.get(&path), ahead);
        assert_eq!(answer.code, 200, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_version_from_the_future_is_refused() {
    let hub = Hub::start().await;
    let answer = hub.admin().get(&format!("{MAPS}?watch=true&resourceVersion=99999999")).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (504, &json!("Timeout")));
}

#[tokio::test]
async fn a_thousand_watchers_see_every_event_in_order() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let version = admin.get(MAPS).await.json()["metadata"]["resourceVersion"].clone();
    let path = format!("{MAPS}?watch=true&resourceVersion={}", version.as_str().unwrap());
    let watchers = admin.watch_many(&path, 1_000).await;
    let names: Vec<String> = (0..5).map(|i| format!("m{i}")).collect();
    for name in &names {
        map(&admin, name, "web").await;
    }
    for mut watcher in watchers {
        for name in &names {
            assert_eq!(watcher.brief().await, event("ADDED", name));
        }
    }
}

#[tokio::test]
async fn a_forgotten_version_is_an_error_event() {
    let hub = Hub::forgetful().await;
    let admin = hub.admin();
    let first = map(&admin, "a", "web").await;
    for name in ["b", "c", "d", "e", "f", "g"] {
        map(&admin, name, "web").await;
    }
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = admin.watch(&format!("{MAPS}?watch=true&resourceVersion={version}")).await;
    let error = watch.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
    let message = error["object"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too old resource version: {version} (")), "{message}");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_forgotten_chunk_says_how_to_go_on() {
    let hub = Hub::forgetful().await;
    let admin = hub.admin();
    for name in ["a", "b", "c"] {
        map(&admin, name, "web").await;
    }
    let first = admin.get(&format!("{MAPS}?limit=1")).await.json();
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    for name in ["d", "e", "f", "g", "h", "i"] {
        map(&admin, name, "web").await;
    }
    let expired = admin.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.code, &expired.json()["reason"]), (410, &json!("Expired")));
    let token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await.json();
    assert_eq!(rest["items"][0]["metadata"]["name"], "b");
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(admin.get(&exact).await.code, 410);
}

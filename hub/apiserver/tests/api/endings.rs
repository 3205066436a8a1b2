//! What runs on ends when its cluster goes, when its client's certificate ends, or its client is gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{Client, Hub, create};
use bytes::Bytes;
use freewheel_hub_apiserver::Limits;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

const GROUP: &str = "cluster.open-cluster-management.io/v1";
const SECRETS: &str = "/clusters/pi-7/api/v1/namespaces/default/secrets";
const PODS: &str = "/clusters/pi-7/api/v1/namespaces/default/pods";

/// Makes a cluster of this name, with a namespace; answers a client with a certificate for it.
pub async fn cluster(hub: &Hub) -> Client {
    let made = json!({"metadata": {"name": "pi-7"}});
    let made = create(&hub.objects, GROUP, "ManagedCluster", made).await;
    let group =
        format!("freewheel:cluster-admin:pi-7:{}", made["metadata"]["uid"].as_str().unwrap());
    let site = hub.client(Some(&hub.authority.client("site", &group)));
    let namespace = json!({"metadata": {"name": "default"}});
    let answer = site.post("/clusters/pi-7/api/v1/namespaces", &namespace).await;
    assert!(matches!(answer.code, 201 | 409), "{}", answer.text());
    site
}

/// Takes it away, as when all that it left is removed.
pub async fn remove(hub: &Hub) {
    let (admin, path) = (hub.admin(), format!("/apis/{GROUP}/managedclusters/pi-7"));
    assert_eq!(admin.delete(&path).await.code, 200);
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(admin.patch(&path, "merge-patch+json", &free).await.code, 200);
    assert_eq!(admin.get(&path).await.code, 404);
}

async fn secret(client: &Client, name: &str) -> Value {
    let answer = client.post(SECRETS, &json!({"metadata": {"name": name}})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

/// A pod that runs, with this container.
pub async fn pod(site: &Client, container: &str) {
    pod_on(site, "pi-7", ("p", container)).await;
}

async fn pod_on(site: &Client, node: &str, (name, container): (&str, &str)) {
    let pod = json!({"metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": container, "image": "i"}]}});
    let mut running = site.post(PODS, &pod).await.json();
    running["status"]["containerStatuses"] = json!([{
        "name": container, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-20T12:00:00Z"}},
    }]);
    let answer = site.put(&format!("{PODS}/{name}/status"), &running).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
}

async fn breaks_off(log: http::Response<hyper::body::Incoming>) -> bool {
    let rest = timeout(Duration::from_secs(20), log.into_body().collect());
    rest.await.expect("the log ends").is_err()
}

fn is_error(event: &Value, code: u16, reason: &str) -> bool {
    let status = &event["object"];
    event["type"] == "ERROR" && status["code"] == code && status["reason"] == reason
}

#[tokio::test]
async fn a_site_hears_nothing_of_other_devices_by_naming_them_in_its_pods() {
    let hub = Hub::start().await;
    let site = cluster(&hub).await;
    for (node, name) in [("pi-8", "other"), ("pi-7", "own")] {
        pod_on(&site, node, (name, "quiet")).await;
    }
    let answer = site.get(&format!("{PODS}/other/log")).await;
    assert_eq!(answer.code, 503, "{}", answer.text());
    assert_eq!(answer.json()["message"], r#"no device of this cluster is behind the node "pi-8""#);
    assert_eq!(site.get(&format!("{PODS}/own/log")).await.text(), "pi-7 quiet\n");
}

#[tokio::test]
async fn watches_and_logs_end_with_their_cluster_and_read_nothing_of_the_next() {
    let hub = Hub::start().await;
    let site = cluster(&hub).await;
    pod(&site, "quiet").await;
    let mut watches = vec![site.watch(&format!("{SECRETS}?watch=true")).await];
    let root = "/clusters/pi-7/api/v1/secrets?watch=true&allowWatchBookmarks=true";
    watches.push(hub.admin().watch(root).await);
    watches.extend(site.watch_many(&format!("{SECRETS}?watch=true"), 1).await);
    let log = site.open("GET", &format!("{PODS}/p/log?follow=true"), &[], Bytes::new()).await;
    assert_eq!(log.status(), 200);
    remove(&hub).await;
    let next = cluster(&hub).await;
    secret(&next, "of-the-next").await;
    for watch in &mut watches {
        let last = watch.next().await.expect("a last event");
        assert!(is_error(&last, 410, "Expired"), "{last}");
        assert!(watch.next().await.is_none());
    }
    assert!(breaks_off(log).await);
    assert_eq!(site.get(SECRETS).await.code, 403);
}

#[tokio::test]
async fn what_was_before_a_cluster_was_made_is_not_its_past() {
    let hub = Hub::start().await;
    let site = cluster(&hub).await;
    let first = secret(&site, "one-of-the-former").await;
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    secret(&site, "two-of-the-former").await;
    let page = site.get(&format!("{SECRETS}?limit=1")).await.json();
    let resume = page["metadata"]["continue"].as_str().unwrap();
    site.delete(SECRETS).await;
    remove(&hub).await;
    let next = cluster(&hub).await;
    let last =
        next.watch(&format!("{SECRETS}?watch=true&resourceVersion={version}")).await.next().await;
    assert!(is_error(&last.unwrap(), 410, "Expired"));
    for query in [
        format!("resourceVersion={version}&resourceVersionMatch=Exact"),
        format!("limit=1&continue={resume}"),
    ] {
        let answer = next.get(&format!("{SECRETS}?{query}")).await;
        assert_eq!((answer.code, &answer.json()["reason"]), (410, &json!("Expired")), "{query}");
    }
    // A client that lists anew goes on from there.
    let mine = secret(&next, "mine").await;
    let list = next.get(SECRETS).await.json();
    assert_eq!(list["items"][0]["metadata"]["name"], "mine");
    let version = mine["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{SECRETS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(next.get(&exact).await.code, 200);
}

#[tokio::test]
async fn a_write_whose_cluster_goes_while_its_body_comes_is_not_for_the_next() {
    let hub = Hub::start().await;
    let site = cluster(&hub).await;
    let body = json!({"metadata": {"name": "late"}}).to_string();
    let mut stream = site.connect("http/1.1").await;
    let head = format!(
        "POST {SECRETS} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    // The body is being waited for.
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 100");
    remove(&hub).await;
    let next = cluster(&hub).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("HTTP/1.1 410 Gone"), "{answer}");
    assert_eq!(next.get(SECRETS).await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_certificate_that_ends_is_refused_over_its_open_connection_and_ends_what_runs() {
    let hub = Hub::start().await;
    let life = Duration::from_secs(4);
    let soon = hub.authority.client_for(life, "soon", "system:masters");
    let soon = hub.client(Some(&soon));
    cluster(&hub).await;
    pod(&hub.admin(), "quiet").await;
    let line = soon.line().await;
    let mut watch = line.watch(&format!("{SECRETS}?watch=true")).await;
    let log = line.get(&format!("{PODS}/p/log?follow=true")).await;
    assert_eq!(log.status(), 200);
    let mut other = soon.watch(&format!("{SECRETS}?watch=true")).await;
    for last in [watch.next().await, other.next().await] {
        assert!(is_error(&last.expect("a last event"), 401, "Unauthorized"));
    }
    assert!(breaks_off(log).await);
    assert_eq!(line.get(SECRETS).await.status(), 401);
    for open in ["/version", "/v2/"] {
        assert_eq!(line.get(open).await.status(), 401, "what has ended is not nothing");
    }
}

#[tokio::test]
async fn a_certificate_ends_by_the_clock_however_it_is_put_on() {
    let hub = Hub::start().await;
    let site = cluster(&hub).await;
    pod(&site, "chatty").await;
    let hour = hub.authority.client_for(Duration::from_secs(3600), "hour", "system:masters");
    let hour = hub.client(Some(&hour));
    let line = hour.line().await;
    let mut fresh = line.watch(&format!("{SECRETS}?watch=true")).await;
    let mut watch = hour.watch(&format!("{SECRETS}?watch=true")).await;
    let log = hour.open("GET", &format!("{PODS}/p/log?follow=true"), &[], Bytes::new()).await;
    assert_eq!(log.status(), 200);
    secret(&site, "before").await;
    for watch in [&mut fresh, &mut watch] {
        assert_eq!(watch.brief().await, ("ADDED".to_owned(), "before".to_owned()));
    }
    // As after a suspended hour, of which no timer knows.
    hub.ahead.store(2 * 3600, Ordering::SeqCst);
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "any"}})).await;
    let place = json!({"metadata": {"name": "after"}});
    assert_eq!(hub.admin().post(SECRETS, &place).await.code, 201);
    for watch in [&mut fresh, &mut watch] {
        let last = watch.next().await.expect("a last event");
        assert!(is_error(&last, 401, "Unauthorized"), "{last}");
        assert!(watch.next().await.is_none());
    }
    assert!(breaks_off(log).await);
}

#[tokio::test]
async fn a_client_that_is_gone_without_a_word_is_noticed() {
    // What it is sent is not acknowledged, or there is nothing to send.
    for container in ["chatty", "quiet"] {
        let lost = Duration::from_secs(2);
        let hub = Hub::bounded(Limits { lost, ..Limits::default() }).await;
        let site = cluster(&hub).await;
        pod(&site, container).await;
        let mut stream = site.connect("http/1.1").await;
        let head = format!("GET {PODS}/p/log?follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        assert_eq!(hub.followed.load(Ordering::SeqCst), 1);
        // The client's machine drops all packets from here on: "return 0 bytes" in the kernel's filter language.
        let drop_all = SockFilter::new(0x06, 0, 0, 0);
        SockRef::from(stream.get_ref().0).attach_filter(&[drop_all]).unwrap();
        let freed = async {
            while hub.followed.load(Ordering::SeqCst) != 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(5 * lost, freed).await.expect("its place is free again");
    }
}

/// Until the certificate of whoever has this connection has ended.
async fn ended(line: &crate::support::Line) {
    let over = async {
        while line.get(SECRETS).await.status() != 401 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), over).await.expect("it ends");
}

#[tokio::test]
async fn a_watch_that_has_much_to_send_ends_with_its_certificate() {
    let hub = Hub::start().await;
    for number in 0..40 {
        let map = json!({"metadata": {"name": format!("m{number}"), "namespace": "default"},
            "data": {"text": "x".repeat(1_000_000)}});
        create(&hub.objects, "v1", "ConfigMap", map).await;
    }
    let soon = hub.authority.client_for(Duration::from_secs(4), "soon", "system:masters");
    let soon = hub.client(Some(&soon));
    let line = soon.line().await;
    // HTTP/2's window bounds what is on its way; over HTTP/1.1 a kernel may take all of it.
    let mut watches = soon.watch_many("/api/v1/configmaps?watch=true", 1).await;
    let mut watch = watches.pop().expect("a watch");
    ended(&line).await;
    let mut added = 0;
    let last = loop {
        let event = watch.next().await.expect("a last event");
        if event["type"] != "ADDED" {
            break event;
        }
        added += 1;
    };
    assert!(is_error(&last, 401, "Unauthorized"), "{last}");
    assert!(added < 40, "all of it was sent after the end");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn what_begins_before_a_certificate_ends_and_is_whole_after_is_not_done() {
    let hub = Hub::start().await;
    let soon = hub.authority.client_for(Duration::from_secs(4), "soon", "system:masters");
    let soon = hub.client(Some(&soon));
    let line = soon.line().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let body = json!({"metadata": {"name": "late"}}).to_string();
    let mut stream = soon.connect("http/1.1").await;
    let head = format!(
        "POST {maps} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 100", "the body is being waited for");
    ended(&line).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("HTTP/1.1 401"), "{answer}");
    assert_eq!(hub.admin().get(&format!("{maps}/late")).await.code, 404);
}

#[tokio::test]
async fn a_delete_of_a_collection_that_waits_is_not_for_the_next_cluster() {
    let hub = Hub::start().await;
    let site = cluster(&hub).await;
    let large = json!({"metadata": {"name": "large"}, "stringData": {"text": "x".repeat(500_000)}});
    assert_eq!(site.post(SECRETS, &large).await.code, 201);
    // Bodies that do not come leave the connection no room for what is deleted.
    let line = site.line().await;
    let mut bodies = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let line = line.clone();
        bodies.spawn(async move { line.post_nothing(SECRETS).await });
    }
    // Nor do the headers of those that wait behind them.
    for _ in 0..60 {
        let line = line.clone();
        bodies.spawn(async move { line.post_nothing_with(SECRETS, 40_000).await });
    }
    assert_eq!(line.get("/version").await.status(), 200);
    let waits = line.clone();
    let waits = tokio::spawn(async move { waits.delete(SECRETS).await });
    assert_eq!(line.get("/version").await.status(), 200);
    assert!(!waits.is_finished(), "it waits");
    remove(&hub).await;
    let next = cluster(&hub).await;
    secret(&next, "of-the-next").await;
    drop(bodies);
    let code = timeout(Duration::from_secs(30), waits).await.unwrap().unwrap().status();
    assert_eq!(code, 410);
    let spared = next.get(&format!("{SECRETS}/of-the-next")).await;
    assert_eq!(spared.code, 200, "it is another cluster's");
}

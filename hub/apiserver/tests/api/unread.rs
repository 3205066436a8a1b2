//! Clients that take little or nothing of what there is for them.

use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_apiserver::Limits;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::support::{Client, Hub, create};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// So many ConfigMaps of so many bytes.
async fn maps(hub: &Hub, count: usize, bytes: usize) {
    for number in 0..count {
        let map = json!({"metadata": {"name": format!("m{number}"), "namespace": "default"},
            "data": {"text": "x".repeat(bytes)}});
        create(&hub.objects, "v1", "ConfigMap", map).await;
    }
}

/// The number of the first chunk's bytes.
async fn first_chunk(client: &Client, path: &str) -> usize {
    let mut stream = client.connect("http/1.1").await;
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let line = async {
        loop {
            read.push(stream.read_u8().await.unwrap());
            let end = read.windows(4).position(|end| end == b"\r\n\r\n");
            let line = end.map(|end| &read[end + 4..]);
            if let Some(number) = line.and_then(|line| line.strip_suffix(b"\r\n")) {
                return usize::from_str_radix(std::str::from_utf8(number).unwrap(), 16).unwrap();
            }
        }
    };
    timeout(Duration::from_secs(20), line).await.expect("a chunk comes")
}

#[tokio::test]
async fn a_watch_sends_what_is_there_in_pieces() {
    let hub = Hub::start().await;
    maps(&hub, 40, 100_000).await;
    let path = format!("{MAPS}?watch=true");
    let first = first_chunk(&hub.admin(), &path).await;
    assert!(first <= 64 * 1024 + 101_000, "{first}");
    let mut watch = hub.admin().watch(&path).await;
    let mut names = Vec::new();
    for _ in 0..40 {
        names.push(watch.brief().await.1);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 40);
    // Events that come together are cut in the same way, and nothing is lost between the pieces.
    let version = hub.admin().get("/api/v1/namespaces/default").await.json();
    let version = version["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let path = format!("{MAPS}?watch=true&resourceVersion={version}");
    let first = first_chunk(&hub.admin(), &path).await;
    assert!(first <= 64 * 1024 + 101_000, "{first}");
    let mut watch = hub.admin().watch(&path).await;
    for number in 0..40 {
        assert_eq!(watch.brief().await.1, format!("m{number}"));
    }
}

/// An HTTP/2 connection whose client has room for one byte of every answer, and its end.
async fn narrow(client: &Client) -> (http2::SendRequest<Full<Bytes>>, JoinHandle<()>) {
    let stream = TokioIo::new(client.connect("h2").await);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

#[tokio::test]
async fn a_thousand_answers_that_nobody_takes_are_not_made() {
    let hub = Hub::bounded(Limits { unread: Duration::from_secs(2), ..Limits::default() }).await;
    maps(&hub, 3, 1_000_000).await;
    for (path, most) in [(format!("{MAPS}/m0"), 16), (format!("{MAPS}?watch=true"), 200)] {
        let (sender, connection) = narrow(&hub.admin()).await;
        let asked = (0..200).map(|_| {
            let uri = format!("https://localhost{path}");
            let request = Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap();
            sender.clone().send_request(request)
        });
        let answers = futures::future::join_all(asked);
        // Answers are kept until the connection is gone: to let go of one gives its room back.
        let answers = timeout(Duration::from_secs(60), answers).await.expect("all are told");
        let made = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((1..=most).contains(&made), "{path}: {made} answers wait for their client");
        timeout(Duration::from_secs(20), connection).await.expect("it is closed").unwrap();
    }
    assert_eq!(hub.admin().get("/version").await.code, 200);
}

#[tokio::test]
async fn a_large_collection_is_deleted_without_room_for_it() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for (count, bytes, kind) in [(3, 1_000_000, "Status"), (3, 1_000, "ConfigMapList")] {
        maps(&hub, count, bytes).await;
        let deleted = admin.delete(MAPS).await;
        assert_eq!(deleted.code, 200);
        assert_eq!(deleted.json()["kind"], kind, "of {bytes} bytes each");
        if kind == "Status" {
            assert_eq!(deleted.json()["status"], "Success");
            assert_eq!(deleted.json()["message"], "3 were deleted, too many to list them here");
        }
        assert_eq!(admin.get(MAPS).await.json()["items"], json!([]));
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_are_waited_for_in_turn() {
    let hub = Hub::start().await;
    let line = hub.admin().line().await;
    let small = line.post_of(MAPS, json!({"metadata": {"name": "small"}}).to_string().into());
    assert_eq!(small.await.status(), 201);
    // Of none of these is it known how large it will be, and nothing comes.
    let mut stuck = JoinSet::new();
    for _ in 0..8 {
        let line = line.clone();
        stuck.spawn(async move { line.post_nothing(MAPS).await });
    }
    let first = timeout(Duration::from_secs(50), stuck.join_next()).await.expect("one is told");
    assert_eq!(first.unwrap().unwrap().status(), 429);
    // Others do not wait for them.
    assert_eq!(hub.admin().get("/version").await.code, 200);
}

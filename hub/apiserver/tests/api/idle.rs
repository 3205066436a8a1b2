//! Connections that ask nothing, and those that wait for something.

use std::time::Duration;

use crate::support::{Hub, create};
use bytes::Bytes;
use freewheel_hub_apiserver::Limits;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

/// Half of what an HTTP/2 connection begins with.
const HALF: &[u8] = b"PRI * HTTP/2.0\r\n";

async fn is_closed(mut stream: TlsStream<TcpStream>) -> bool {
    let mut rest = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn whoever_connects_and_asks_nothing_is_sent_away() {
    let short = Duration::from_millis(300);
    let hub = Hub::bounded(Limits { stranger_idle: short, idle: short, ..Limits::default() }).await;
    for client in [hub.client(None), hub.admin()] {
        for (protocol, said) in [
            ("", &b""[..]),
            ("http/1.1", b""),
            ("http/1.1", b"GET /version HTTP/1.1\r\nhost: local"),
            ("h2", b""),
            ("h2", HALF),
            ("h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        ] {
            let mut stream = client.connect(protocol).await;
            stream.write_all(said).await.unwrap();
            assert!(is_closed(stream).await, "{protocol} {}", String::from_utf8_lossy(said));
        }
    }
}

#[tokio::test]
async fn a_watch_outlives_every_idle_connection() {
    let short = Duration::from_millis(200);
    let hub = Hub::bounded(Limits { stranger_idle: short, idle: short, ..Limits::default() }).await;
    let path = "/api/v1/namespaces/default/configmaps?watch=true";
    let mut first = hub.admin().watch(path).await;
    let mut second = hub.admin().watch_many(path, 1).await.remove(0);
    sleep(short * 8).await;
    let map = json!({"metadata": {"name": "late", "namespace": "default"}});
    create(&hub.objects, "v1", "ConfigMap", map).await;
    for watcher in [&mut first, &mut second] {
        assert_eq!(watcher.brief().await, ("ADDED".to_owned(), "late".to_owned()));
    }
}

#[tokio::test]
async fn strangers_take_no_place_of_those_whom_the_hub_knows() {
    let hub = Hub::bounded(Limits { known: 4, strangers: 4, ..Limits::default() }).await;
    let (nobody, admin) = (hub.client(None), hub.admin());
    let path = "/api/v1/namespaces/default/configmaps?watch=true";
    let mut watcher = admin.watch(path).await;
    let mut strangers = Vec::new();
    for number in 0..7 {
        let protocol = if number % 2 == 0 { "http/1.1" } else { "h2" };
        // Beyond the fourth each waits until the oldest may be sent away.
        let mut stream = timeout(Duration::from_secs(20), nobody.connect(protocol)).await.unwrap();
        let _ = stream.write_all(if number % 2 == 0 { b"" } else { HALF }).await;
        strangers.push(stream);
    }
    let asks = timeout(Duration::from_secs(20), admin.get("/api/v1/namespaces/default"));
    assert_eq!(asks.await.expect("the API answers").code, 200);
    let map = json!({"metadata": {"name": "here", "namespace": "default"}});
    create(&hub.objects, "v1", "ConfigMap", map).await;
    assert_eq!(watcher.brief().await.1, "here", "what runs goes on");
    assert!(is_closed(strangers.remove(0)).await, "the oldest had to go");
}

#[tokio::test]
async fn a_flood_of_strangers_keeps_nobody_waiting() {
    let hub = Hub::bounded(Limits { strangers: 64, ..Limits::default() }).await;
    let (admin, address) = (hub.admin(), hub.address);
    let path = "/api/v1/namespaces/default";
    assert_eq!(admin.get(path).await.code, 200);
    let flood = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let mut strangers = std::collections::VecDeque::new();
        loop {
            tick.tick().await;
            for _ in 0..10 {
                strangers.push_back(tokio::spawn(TcpStream::connect(address)));
            }
            // They say nothing, and nobody has more of them open than a process may.
            strangers.drain(..strangers.len().saturating_sub(2_000)).for_each(|one| one.abort());
        }
    });
    // More than there are places have come.
    sleep(Duration::from_secs(2)).await;
    for _ in 0..20 {
        let asks = timeout(Duration::from_secs(5), admin.get(path));
        assert_eq!(asks.await.expect("the API answers").code, 200);
    }
    flood.abort();
}

#[tokio::test]
async fn who_logs_in_is_no_stranger_any_more() {
    let hub = Hub::bounded(Limits { known: 1, strangers: 1, ..Limits::default() }).await;
    let mut stream = hub.client(None).connect("http/1.1").await;
    let mut log_in = async || {
        let request = "GET /v2/login HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"nobody /v2/login") {
            answer.push(stream.read_u8().await.expect("the place is kept"));
        }
    };
    log_in().await;
    // The only place of strangers is free.
    assert_eq!(hub.client(None).get("/version").await.code, 200);
    log_in().await;
}

#[tokio::test]
async fn a_large_answer_that_is_not_read_breaks_off() {
    let unread = Duration::from_millis(500);
    let hub = Hub::bounded(Limits { unread, ..Limits::default() }).await;
    let mut random = fastrand::Rng::with_seed(5);
    for number in 0..12 {
        let text: String = (0..1_000_000).map(|_| random.alphanumeric()).collect();
        let map = json!({"metadata": {"name": format!("m{number}"), "namespace": "default"},
            "data": {"text": text}});
        create(&hub.objects, "v1", "ConfigMap", map).await;
    }
    let path = "/api/v1/namespaces/default/configmaps";
    let admin = hub.admin();
    for encoding in ["identity", "gzip"] {
        let headers = [("accept-encoding", encoding)];
        let reads = admin.send("GET", path, &headers, Bytes::new()).await;
        assert!(8_000_000 < reads.bytes.len(), "{encoding}: {}", reads.bytes.len());
        let first = admin.open("GET", path, &headers, Bytes::new()).await;
        // Once around: the room of one that was cut off is the next one's.
        sleep(unread * 8).await;
        let broken = timeout(Duration::from_secs(20), first.into_body().collect()).await;
        assert!(broken.expect("it ends").is_err(), "{encoding}: half an answer looks whole");
    }
    let line = admin.line().await;
    let second = line.get(path).await;
    sleep(unread * 8).await;
    let broken = timeout(Duration::from_secs(20), second.into_body().collect()).await;
    assert!(broken.expect("it ends").is_err(), "half an answer looks whole");
}

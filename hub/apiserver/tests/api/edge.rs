//! What holds for every answer, over both protocols.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::proxies::pod;
use crate::support::{Client, Hub};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

/// What a client sees of an answer without a body, over either protocol.
async fn check(client: &Client, method: &str, path: &str, code: u16, length: Option<&str>) {
    let first = client.send(method, path, &[], Bytes::new()).await;
    let second = client.send_over_h2(method, path, Bytes::new()).await;
    for (answer, protocol) in [(first, "HTTP/1.1"), (second, "HTTP/2")] {
        assert_eq!(answer.code, code, "{method} {path} over {protocol}");
        assert_eq!(answer.text(), "", "{method} {path} over {protocol}");
        let told = answer.headers.get("content-length").map(|value| value.to_str().unwrap());
        match length {
            Some("") => assert!(told.is_some(), "{method} {path} over {protocol}"),
            length => assert_eq!(told, length, "{method} {path} over {protocol}"),
        }
    }
}

#[tokio::test]
async fn no_answer_to_head_and_none_that_says_so_has_a_body() {
    let hub = Hub::start().await;
    let (admin, nobody) = (hub.admin(), hub.client(None));
    // The length is the one that GET's answer has.
    check(&admin, "HEAD", "/api/v1/namespaces/default", 200, Some("")).await;
    check(&admin, "HEAD", "/api/v1/namespaces/none", 404, Some("")).await;
    check(&admin, "HEAD", "/nonsense", 404, Some("")).await;
    check(&admin, "HEAD", "/apis/apps/v1", 200, Some("")).await;
    check(&admin, "HEAD", "/readyz", 200, Some("2")).await;
    check(&nobody, "HEAD", "/api/v1/namespaces", 403, Some("")).await;
    check(&admin, "HEAD", "/v2/a", 200, Some("11")).await;
    check(&nobody, "HEAD", "/v2/a/404", 404, Some("16")).await;
    for method in ["GET", "HEAD"] {
        check(&admin, method, "/v2/204", 204, None).await;
        check(&admin, method, "/v2/304", 304, None).await;
    }
}

/// A body of so many pieces of so many bytes, and how many of them have left.
fn pieces(
    count: usize,
    bytes: usize,
    pause: Duration,
) -> (impl http_body::Body<Data = Bytes, Error = std::io::Error> + Send + Unpin, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let stream = futures::stream::iter(0..count).then(move |_| {
        let counter = counter.clone();
        async move {
            tokio::time::sleep(pause).await;
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(Frame::data(Bytes::from(vec![b' '; bytes])))
        }
    });
    (StreamBody::new(Box::pin(stream)), sent)
}

#[tokio::test]
async fn a_refusal_over_http_2_leaves_its_client_the_time_to_send() {
    let hub = Hub::start().await;
    let (admin, nobody) = (hub.admin(), hub.client(None));
    let collection = "/api/v1/namespaces/default/configmaps";
    let cases = [
        (&admin, "/api/v1/namespaces/default/nonsense", 404),
        (&admin, "/apis/apps/v1", 405),
        (&nobody, collection, 403),
        (&nobody, "/v2/a/401", 401),
        (&admin, collection, 413),
    ];
    for (client, path, code) in cases {
        let (body, sent) = pieces(130, 32 << 10, Duration::from_millis(1));
        let answer = client.send_body_over_h2("POST", path, body).await;
        assert_eq!(answer.code, code, "{path}");
        assert!(!answer.bytes.is_empty(), "{path}");
        assert_eq!(sent.load(Ordering::SeqCst), 130, "{path}: a reset took the rest of the body");
    }
}

#[tokio::test]
async fn who_never_stops_sending_gets_the_answer_and_then_an_end() {
    let hub = Hub::start().await;
    let (admin, pause) = (hub.admin(), Duration::from_millis(100));
    let over_2 = async {
        let (start, (body, sent)) = (Instant::now(), pieces(usize::MAX, 1024, pause));
        let answer = admin.send_body_over_h2("POST", "/apis/apps/v1", body).await;
        assert_eq!(answer.json()["code"], 405);
        // Who sends all the time is let be for longer than who says nothing.
        assert!(Duration::from_secs(9) < start.elapsed() && 10 < sent.load(Ordering::SeqCst));
    };
    let over_1 = async {
        let (mut reads, mut writes) = tokio::io::split(admin.connect("http/1.1").await);
        let head =
            "POST /apis/apps/v1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8388608\r\n\r\n";
        writes.write_all(head.as_bytes()).await.unwrap();
        let start = Instant::now();
        let sends = async {
            while writes.write_all(&[b' '; 1024]).await.is_ok() && writes.flush().await.is_ok() {
                sleep(pause).await;
            }
            assert!(Duration::from_secs(4) < start.elapsed(), "it has time to read the answer");
        };
        let mut answer = [0; 12];
        let (read, ()) = tokio::join!(reads.read_exact(&mut answer), sends);
        assert_eq!(read.unwrap(), answer.len());
        assert_eq!(&answer, b"HTTP/1.1 405");
    };
    let both = async { tokio::join!(over_1, over_2) };
    timeout(Duration::from_secs(60), Box::pin(both)).await.expect("both end");
}

#[tokio::test]
async fn a_refusal_over_http_1_is_not_taken_back_by_a_reset() {
    let hub = Hub::start().await;
    let mut stream = hub.admin().connect("http/1.1").await;
    let head = "POST /apis/apps/v1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8388608\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // As a client does that writes all before it reads.
    for _ in 0..128 {
        stream.write_all(&[b' '; 64 * 1024]).await.expect("the connection is not reset");
    }
    let mut answer = Vec::new();
    // The hub may close without a farewell once it has read on for long enough.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 405"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let line = |path: &str, version: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
        format!("GET {path} HTTP/{version}\r\n{hosts}\r\n")
    };
    let (api, registry) = ("/api/v1/namespaces/default", "/v2/a");
    for (path, version, hosts, code, why) in [
        (api, "1.1", &["localhost"][..], 200, ""),
        (api, "1.0", &[], 200, ""),
        (api, "1.1", &["localhost", "localhost"], 400, "too many Host headers"),
        (registry, "1.1", &["localhost", "elsewhere"], 400, "too many Host headers"),
        (api, "1.1", &[], 400, "missing required Host header"),
        (registry, "1.1", &[], 400, "missing required Host header"),
        (api, "1.1", &["a b"], 400, "malformed Host header"),
        (api, "1.0", &["a", "b"], 400, "too many Host headers"),
    ] {
        let mut connection = admin.connect("http/1.1").await;
        let text = line(path, version, hosts);
        connection.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = async {
            while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0, "{text}");
            }
            if code == 400 {
                connection.read_to_end(&mut answer).await.ok();
            }
        };
        timeout(Duration::from_secs(20), read).await.expect("it is answered");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer[9..].starts_with(&code.to_string()), "{text}: {answer}");
        assert!(answer.ends_with(why), "{text}: {answer}");
    }
}

/// The head of the next answer on a connection, and its body where it says how long that is.
async fn answer_on(connection: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(connection.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).await.unwrap();
    head
}

#[tokio::test]
async fn a_refusal_says_whether_its_connection_goes_on() {
    let hub = Hub::start().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let post = |length: usize, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer nobody\r\n\
             content-type: application/json\r\n{more}content-length: {length}\r\n\r\n"
        )
    };
    let mut stranger = hub.client(None).connect("http/1.1").await;
    let refused = async {
        // Without a body, with one that comes after its head, and once more.
        let get = post(0, "").replace("POST", "GET");
        for (head, body) in [(get.clone(), 0), (post(200_000, ""), 200_000), (get, 0)] {
            stranger.write_all(head.as_bytes()).await.unwrap();
            stranger.flush().await.unwrap();
            stranger.write_all(&vec![b' '; body]).await.unwrap();
            stranger.flush().await.unwrap();
            let head = answer_on(&mut stranger).await;
            assert!(head.starts_with("http/1.1 401"), "{head}");
            assert!(!head.contains("connection: close"), "{head}");
        }
        for (length, more) in [(1 << 20, ""), (100, ""), (100, "expect: 100-continue\r\n")] {
            let mut stranger = hub.client(None).connect("http/1.1").await;
            stranger.write_all(post(length, more).as_bytes()).await.unwrap();
            stranger.flush().await.unwrap();
            let head = answer_on(&mut stranger).await;
            assert!(head.starts_with("http/1.1 401"), "{head}");
            assert!(head.contains("connection: close"), "{length} {more}: {head}");
        }
    };
    timeout(Duration::from_secs(60), refused).await.expect("all are answered");
}

#[tokio::test]
async fn an_answer_that_comes_before_its_request_was_read_says_that_its_connection_ends() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    // The pod reads what comes to the one path, and answers on the other without it.
    for (path, body, code, ends) in [("x", "body", 200, false), ("none", "", 404, true)] {
        let mut line = admin.connect("http/1.1").await;
        let path = format!("/api/v1/namespaces/default/pods/p/proxy/{path}");
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n");
        let asked = async {
            line.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            line.flush().await.unwrap();
            answer_on(&mut line).await
        };
        let head = timeout(Duration::from_secs(20), asked).await.expect("it is answered");
        assert!(head.starts_with(&format!("http/1.1 {code}")), "{path}: {head}");
        assert_eq!(head.contains("connection: close"), ends, "{path}: {head}");
    }
}

#[tokio::test]
async fn headers_that_are_too_large_are_told_so() {
    let hub = Hub::start().await;
    let mut stream = hub.admin().connect("http/1.1").await;
    let head = "GET /version HTTP/1.1\r\nhost: localhost\r\nlarge: ";
    stream.write_all(head.as_bytes()).await.unwrap();
    // As a client does that writes all before it reads.
    for _ in 0..64 {
        stream.write_all(&[b'x'; 64 * 1024]).await.expect("the connection is not reset");
    }
    let mut answer = Vec::new();
    // The hub may close without a farewell once it has read on for long enough.
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 431"), "{answer}");
}

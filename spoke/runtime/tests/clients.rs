//! What clients of an HTTP container can do to it, and what they are told.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod memory;

use std::io::ErrorKind;
use std::time::Duration;

use crate::support::{Node, SOON, Start, guest, node};
use freewheel_link::names::ClusterName;
use freewheel_link::probes::{ProbeHandlerV1, ProbeKindV1, ProbeV1};
use freewheel_spoke_agent::ports::{ContainerId, Probed};
use freewheel_spoke_net::ConnIo;
use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

fn web(node: &Node) -> Start {
    node.container("web", &guest("web"))
}

async fn up(node: &Node, start: Start) -> ContainerId {
    let id = node.start(start);
    node.started(&id).await;
    id
}

async fn send(node: &Node, text: &str) -> ConnIo {
    let mut conn = node.dial("web", 8080).unwrap();
    conn.write_all(text.as_bytes()).await.unwrap();
    conn
}

async fn get(node: &Node, path: &str) -> ConnIo {
    send(node, &format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n")).await
}

/// Reads until this has come.
async fn read_until(conn: &mut ConnIo, text: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&all).contains(text) {
            let count = conn.read_buf(&mut all).await.unwrap();
            assert_ne!(count, 0, "it ended: {}", String::from_utf8_lossy(&all));
        }
    };
    let read = timeout(SOON, reading).await;
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(read.is_ok(), "no {text:?} in {all}");
    all
}

/// Reads to the end, whatever it is.
async fn read_all(conn: &mut ConnIo) -> (String, Result<(), ErrorKind>) {
    let mut all = Vec::new();
    let end = timeout(SOON, conn.read_to_end(&mut all)).await.unwrap();
    (String::from_utf8_lossy(&all).into_owned(), end.map(drop).map_err(|error| error.kind()))
}

/// Bytes that `/endless` has written, by its own word.
fn written(node: &Node) -> usize {
    let log = node.log("web");
    let last = log.lines().rev().find_map(|line| line.strip_prefix("wrote "));
    last.map_or(0, |count| count.parse().unwrap())
}

/// What `/endless` has written once it writes no more; at once when that is more than it may be.
async fn stalled(node: &Node, most: usize) -> usize {
    let (mut before, mut same) = (0, 0);
    while before <= most && same < 40 {
        sleep(Duration::from_millis(25)).await;
        let now = written(node);
        same = if now == before && 0 < now { same + 1 } else { 0 };
        before = now;
    }
    before
}

/// What may wait for one client in all: the pipe, hyper, two pieces of the guest's, and what is in its hands.
const HELD: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_makes_the_node_hold_little() {
    let node = node();
    up(&node, web(&node)).await;
    let _unread = get(&node, "/endless").await;
    let held = stalled(&node, HELD).await;
    assert!(held <= HELD, "{held} bytes wait for one client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_makes_the_node_hold_little() {
    let node = node();
    up(&node, web(&node)).await;
    let mut conn = get(&node, "/endless").await;
    let mut piece = vec![0; 100 << 10];
    let mut read = 0;
    for _ in 0..10 {
        conn.read_exact(&mut piece).await.unwrap();
        read += piece.len();
        sleep(Duration::from_millis(100)).await;
    }
    let held = stalled(&node, HELD + read).await - read;
    assert!(held <= HELD, "{held} bytes wait for one slow client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_seen_although_another_request_waits_behind_it() {
    let node = node();
    up(&node, web(&node)).await;
    let ask = "GET /event HTTP/1.1\r\nhost: web\r\n\r\nGET /hello HTTP/1.1\r\nhost: web\r\n\r\n";
    let mut conn = send(&node, ask).await;
    read_until(&mut conn, "data: first").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_told_so() {
    let node = node();
    up(&node, web(&node)).await;
    let large = format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}\r\n\r\n", "x".repeat(140 << 10));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nthis is no header\r\n\r\n", "400"),
        (&*large, "431"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "400"),
        ("CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\n\r\n", "405"),
    ] {
        let mut conn = send(&node, request).await;
        let answer = read_until(&mut conn, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_all_gets_its_answer() {
    let node = node();
    up(&node, web(&node)).await;
    let mut conn = get(&node, "/slow").await;
    conn.shutdown().await.unwrap();
    let (answer, end) = read_all(&mut conn).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("slow"), "{answer}");
    assert_eq!(end, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_does_not_look_whole() {
    let node = node();
    let mut start = web(&node);
    start.0.http.reuse = Some(100);
    up(&node, start).await;
    for path in ["/half", "/unfinished"] {
        for version in ["1.1", "1.0"] {
            let ask = format!("GET {path} HTTP/{version}\r\nhost: web\r\n\r\n");
            let mut conn = send(&node, &ask).await;
            let (answer, end) = read_all(&mut conn).await;
            assert!(answer.contains("half an ans"), "{path} {version}: {answer}");
            assert!(!answer.ends_with("0\r\n\r\n"), "{path} {version}: {answer}");
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "{path} {version}");
        }
    }
    node.logged("web", "after its answer had begun: the handler failed").await;
    node.logged("web", "left a body unfinished").await;
    assert_eq!(node.get("web", 8080, "/served").await.1, "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_read_all_of_its_answer_has_the_rest_of_it_whoever_needs_its_socket() {
    // More than the pipe takes, and little enough for the handler to be done when that is full.
    const ALL: usize = 300_000;
    let (node, limit) = (node(), 16 << 20);
    node.pod_of("web", limit);
    let mut start = web(&node);
    start.0.memory_limit = Some(limit);
    up(&node, start).await;
    // Its end alone says that it is whole.
    let head = format!("POST /echo HTTP/1.0\r\nhost: web\r\ncontent-length: {ALL}\r\n\r\n");
    let mut conn = send(&node, &head).await;
    timeout(SOON, conn.write_all(&vec![b'x'; ALL])).await.unwrap().unwrap();
    let pod = node.fabric.pod("web").unwrap();
    let _others: Vec<_> = std::iter::from_fn(|| pod.slot().ok()).collect();
    // Of those that ask for nothing the longest goes after two seconds.
    sleep(Duration::from_secs(4)).await;
    let (answer, end) = read_all(&mut conn).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!((body.len(), end), (ALL, Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_handler_says_so_soon() {
    let node = node();
    let mut start = web(&node);
    start.0.http.concurrency = 2;
    up(&node, start).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut conn = get(&node, "/event").await;
        read_until(&mut conn, "data: first").await;
        streams.push(conn);
    }
    let mut third = get(&node, "/hello").await;
    let answer = read_until(&mut third, "try again later").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
    node.logged("web", "1 requests were answered with 503").await;
    drop(streams.pop());
    let mut served = false;
    for _ in 0..20 {
        served |= node.get("web", 8080, "/hello").await.0 == 200;
        if served {
            break;
        }
    }
    assert!(served, "the place of the stream that left is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_limit_of_time() {
    let node = node();
    let mut start = web(&node);
    start.0.http.timeout_seconds = 1;
    up(&node, start).await;
    let (status, text) = node.get("web", 8080, "/hang").await;
    assert_eq!(status, 504, "{text}");
    node.logged("web", "GET /hang: the handler was ended").await;
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    // What has begun may last.
    let mut conn = get(&node, "/event").await;
    read_until(&mut conn, "data: first").await;
    let more = timeout(Duration::from_secs(4), conn.read_u8()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_half_a_head_has_to_go() {
    let node = node();
    up(&node, web(&node)).await;
    let mut silent = send(&node, "").await;
    let mut half = send(&node, "GET /hello HTT").await;
    let mut kept = get(&node, "/hello").await;
    read_until(&mut kept, "0\r\n\r\n").await;
    assert_eq!(read_all(&mut silent).await, (String::new(), Ok(())));
    assert_eq!(read_all(&mut half).await.0, "");
    // Between two requests there is more time.
    kept.write_all(b"GET /served HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    read_until(&mut kept, "0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_keep_others_out() {
    let node = node();
    up(&node, web(&node)).await;
    let mut first = send(&node, "").await;
    let mut crowd = Vec::new();
    for _ in 0..2100 {
        crowd.push(send(&node, "").await);
    }
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    assert_eq!(read_all(&mut first).await.1, Ok(()), "the oldest went");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_keep_nobody_out_of_a_small_pod() {
    let node = node();
    let limit = 16 << 20;
    node.pod_of("web", limit);
    let mut start = web(&node);
    start.0.memory_limit = Some(limit);
    let id = up(&node, start).await;
    let pod = node.fabric.pod("web").unwrap();
    let to = std::net::SocketAddr::new(pod.ip().into(), 8080);
    let stranger = async || {
        let from = "192.0.2.1:1".parse().unwrap();
        node.fabric.dial(&ClusterName::root(), from, to).await.unwrap()
    };
    let mut crowd = Vec::new();
    for _ in 0..pod.sockets_max() {
        crowd.push(stranger().await);
        // The container comes to each of them, long before one has to go that says nothing.
        timeout(Duration::from_secs(5), async {
            while 3 * pod.sockets_max() / 4 < pod.sockets() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("who makes room goes");
    }
    let mut one_more = stranger().await;
    one_more.write_all(b"GET /hello HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    read_until(&mut one_more, "0\r\n\r\n").await;
    let look = ProbeV1 {
        container: "main".to_owned(),
        kind: ProbeKindV1::Liveness,
        handler: ProbeHandlerV1::Tcp(8080),
        initial_delay_seconds: 0,
        period_seconds: 10,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 3,
        grace_seconds: None,
    };
    assert_eq!(node.probe(&id, look).await, Probed::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_keep_nobody_out_of_a_small_pod_of_two_http_containers() {
    let (node, limit) = (node(), 16 << 20);
    node.pod_of("web", limit);
    let pod = node.fabric.pod("web").unwrap();
    let ports = [8080, 8081];
    for port in ports {
        let mut start = web(&node);
        start.0.id.container = port.to_string();
        start.0.ports = vec![port];
        start.0.memory_limit = Some(limit);
        up(&node, start).await;
    }
    let stranger = async |port| {
        let to = std::net::SocketAddr::new(pod.ip().into(), port);
        node.fabric.dial(&ClusterName::root(), "192.0.2.1:1".parse().unwrap(), to).await
    };
    let mut crowd = Vec::new();
    let (all, together) = (pod.sockets_max(), 8);
    for round in 0..all / together + 20 {
        let port = ports[round % 2];
        let come = join_all((0..together).map(|_| stranger(port))).await;
        crowd.extend(come.into_iter().map(|conn| conn.expect("there is a socket for each")));
        // Their containers come to all of them, long before those have to go that say nothing.
        timeout(Duration::from_secs(5), async {
            while all - all / 16 < pod.sockets() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("who makes room goes");
    }
    for port in ports {
        crowd.extend(join_all((0..together).map(|_| stranger(port))).await.into_iter().flatten());
        let mut one_more = stranger(port).await.unwrap();
        one_more.write_all(b"GET /hello HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        read_until(&mut one_more, "0\r\n\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_its_pod_has_elsewhere_cost_no_client_its_connection() {
    let (node, limit) = (node(), 16 << 20);
    node.pod_of("web", limit);
    let mut start = web(&node);
    start.0.memory_limit = Some(limit);
    up(&node, start).await;
    let pod = node.fabric.pod("web").unwrap();
    let to = std::net::SocketAddr::new(pod.ip().into(), 8080);
    let client = async || {
        let from = "192.0.2.1:1".parse().unwrap();
        let conn = node.fabric.dial(&ClusterName::root(), from, to).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        conn
    };
    let ask = async |conn: &mut ConnIo| {
        conn.write_all(b"GET /hello HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        read_until(conn, "0\r\n\r\n").await;
    };
    let most = pod.sockets_max();
    // Also the first after a while, and the one that has the last of them.
    for left in [1, 2] {
        let _others: Vec<_> = (pod.sockets()..most - left).map(|_| pod.slot().unwrap()).collect();
        ask(&mut client().await).await;
        sleep(Duration::from_millis(1100)).await;
        ask(&mut client().await).await;
    }
    let others: Vec<_> = (pod.sockets()..most - most / 8).map(|_| pod.slot().unwrap()).collect();
    assert!(8 <= most - pod.sockets(), "there is room");
    let (mut first, _second) = (client().await, client().await);
    ask(&mut first).await;
    let _third = client().await;
    ask(&mut first).await;
    drop(others);
    // Hardly any is left: who has just come stays, and the others go one by one.
    let _others: Vec<_> = (pod.sockets()..most - 2).map(|_| pod.slot().unwrap()).collect();
    let (mut fourth, _fifth) = (client().await, client().await);
    ask(&mut fourth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn making_an_instance_is_within_the_request_s_time() {
    let node = node();
    let mut start = node.container("web", &guest("counter"));
    start.0.env = vec![("SPINS".to_owned(), "1".to_owned())];
    start.0.http.timeout_seconds = 1;
    start.0.http.concurrency = 1;
    up(&node, start).await;
    for _ in 0..2 {
        let (status, text) = node.get("web", 8080, "/").await;
        assert_eq!(status, 504, "{text}");
    }
}

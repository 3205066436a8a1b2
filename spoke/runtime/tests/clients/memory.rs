//! What clients send, and what the memory of a container has to do with it.

use std::time::Duration;

use freewheel_spoke_account::Held;
use freewheel_spoke_net::ConnIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::{get, read_until, send, up, web};
use crate::support::{Node, SOON, node};

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_have_an_eighth_of_the_memory_and_the_newest_stay() {
    let node = node();
    let mut start = web(&node);
    start.0.memory_limit = Some(8 << 20);
    let id = up(&node, start).await;
    let half = format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}", "y".repeat(50 << 10));
    let (mut open, mut broken) = (Vec::new(), 0);
    for _ in 0..400 {
        let mut conn = node.dial("web", 8080).unwrap();
        match conn.write_all(half.as_bytes()).await {
            Ok(()) => open.push(conn),
            Err(_) => broken += 1,
        }
    }
    for conn in &mut open {
        let read = timeout(Duration::from_millis(20), conn.read(&mut [0; 1])).await;
        broken += usize::from(read.is_ok());
    }
    // An eighth of the limit is theirs: 15 of them fit.
    assert!((360..400).contains(&broken), "{broken} were broken off");
    let (_, used) = node.runtime.usage(&id).unwrap();
    assert!(used <= 1 << 20, "{used}");
    // The guest has the rest, and an honest head is newer than all of those.
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_while_half_heads_have_the_memory_of_an_instance() {
    let node = node();
    let mut start = web(&node);
    start.0.memory_limit = Some(9 << 20);
    up(&node, start).await;
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    let half = format!("GET /hello HTTP/1.1\r\nhost: web\r\nx: {}", "y".repeat(50 << 10));
    let mut heads = Vec::new();
    for _ in 0..16 {
        heads.push(send(&node, &half).await);
    }
    let answers = futures::future::join_all((0..20).map(|_| node.get("web", 8080, "/slow"))).await;
    let codes: Vec<u16> = answers.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [200; 20]);
    drop(heads);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_heads_behind_whole_requests_are_on_the_memory_and_have_an_eighth_of_it() {
    let node = node();
    let mut start = web(&node);
    start.0.memory_limit = Some(16 << 20);
    let id = up(&node, start).await;
    let used = || node.runtime.usage(&id).unwrap().1;
    let request = "GET /hello HTTP/1.1\r\nhost: web\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..50 {
        let mut conn = send(&node, request).await;
        read_until(&mut conn, "0\r\n\r\n").await;
        kept.push(conn);
    }
    let rest = used();
    // What hyper reads into, and what it writes from.
    assert!((50 * (16 << 10)..4 << 20).contains(&rest), "{rest} bytes for those that rest");
    let behind =
        format!("{request}GET /hello HTTP/1.1\r\nhost: web\r\nx: {}", "y".repeat(50 << 10));
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut conn = send(&node, &behind).await;
        read_until(&mut conn, "0\r\n\r\n").await;
        open.push(conn);
    }
    let mut broken = 0;
    for conn in &mut open {
        let read = timeout(Duration::from_millis(20), conn.read(&mut [0; 1])).await;
        broken += usize::from(read.is_ok());
    }
    // They have an eighth of the limit with those that rest, and make room for each other.
    assert!((75..85).contains(&broken), "{broken} were broken off");
    for conn in &mut kept {
        conn.write_all(request.as_bytes()).await.unwrap();
        read_until(conn, "0\r\n\r\n").await;
    }
    drop((kept, open));
    let given_back = async {
        while rest / 2 < used() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, given_back).await.unwrap();
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_keeps_of_its_requests_is_on_its_memory() {
    let node = node();
    let mut start = web(&node);
    start.0.memory_limit = Some(16 << 20);
    start.0.http.reuse = Some(60_000);
    start.0.http.concurrency = 1;
    let id = up(&node, start).await;
    let used = || node.runtime.usage(&id).unwrap().1;
    let padding = "y".repeat(50 << 10);
    let is_answered = async |path: &str| {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: web\r\nx: {padding}\r\n\r\n");
        let mut conn = node.dial("web", 8080).unwrap();
        let mut status = [0; 12];
        let answered = async {
            conn.write_all(ask.as_bytes()).await?;
            conn.read_exact(&mut status).await
        };
        timeout(SOON, answered).await.unwrap().is_ok() && status == *b"HTTP/1.1 200"
    };
    for path in ["/keep", "/keep-headers"] {
        let (least, mut kept) = (40 * (50 << 10), 0);
        // An instance goes with all that it keeps when it rests for a second: on a busy machine, between two requests.
        for _ in 0..10 {
            let before = used();
            for _ in 0..40 {
                assert!(is_answered(path).await);
            }
            // The instance is there, and the last connections may be there still.
            kept = used().saturating_sub(before);
            if least <= kept {
                break;
            }
        }
        assert!((least..6 << 20).contains(&kept), "{path}: {kept} bytes are counted");
    }
    while is_answered("/keep").await {
        assert!(used() <= 16 << 20);
    }
    let given_back = async {
        while 1 << 20 < used() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, given_back).await.unwrap();
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200, "another instance is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_heads_that_wait_for_an_instance_are_on_the_memory_and_have_an_eighth_of_it() {
    let node = node();
    let mut start = web(&node);
    start.0.memory_limit = Some(8 << 20);
    start.0.http.concurrency = 1;
    let id = up(&node, start).await;
    let mut busy = get(&node, "/event").await;
    read_until(&mut busy, "data: first").await;
    let used = || node.runtime.usage(&id).unwrap().1;
    let before = used();
    let whole = format!("GET /hello HTTP/1.1\r\nhost: web\r\nx: {}\r\n\r\n", "y".repeat(50 << 10));
    let (mut waiting, mut most) = (Vec::new(), 0);
    for _ in 0..400 {
        waiting.push(send(&node, &whole).await);
        most = most.max(used().saturating_sub(before));
    }
    // Theirs, what the next one is read into and what is written from, and those that were turned away and rest.
    assert!((512 << 10..=13 << 18).contains(&most), "{most} bytes were counted");
    let answer = read_until(waiting.last_mut().unwrap(), "try again later").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
    node.logged("web", "requests were answered with 503").await;
    drop((busy, waiting));
    let served = async { while node.get("web", 8080, "/hello").await.0 != 200 {} };
    timeout(SOON, served).await.unwrap();
    let given_back = async {
        while before < used() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, given_back).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_served_stays_whatever_half_heads_strangers_send() {
    let node = node();
    let mut start = web(&node);
    start.0.memory_limit = Some(8 << 20);
    up(&node, start).await;
    let head = "POST /echo HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut echo = send(&node, head).await;
    for word in ["5\r\nfirst\r\n", "6\r\nsecond\r\n"] {
        echo.write_all(word.as_bytes()).await.unwrap();
        read_until(&mut echo, word).await;
    }
    let half = format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}", "y".repeat(50 << 10));
    let (mut open, mut broken) = (Vec::new(), 0);
    for _ in 0..200 {
        let mut conn = node.dial("web", 8080).unwrap();
        match conn.write_all(half.as_bytes()).await {
            Ok(()) => open.push(conn),
            Err(_) => broken += 1,
        }
    }
    for conn in &mut open {
        let read = timeout(Duration::from_millis(20), conn.read(&mut [0; 1])).await;
        broken += usize::from(read.is_ok());
    }
    assert!(100 < broken, "only {broken} had to make room");
    echo.write_all(b"5\r\nthird\r\n0\r\n\r\n").await.unwrap();
    let rest = read_until(&mut echo, "0\r\n\r\n").await;
    assert!(rest.contains("third"), "{rest}");
}

/// Bytes of the answer to `/large`.
const LARGE: usize = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_not_read_of_finished_answers_is_on_the_memory() {
    const LIMIT: usize = 16 << 20;
    let node = node();
    node.pod_of("web", LIMIT as u64);
    let mut start = web(&node);
    start.0.memory_limit = Some(LIMIT as u64);
    up(&node, start).await;
    let pod = node.fabric.pod("web").unwrap();
    let used = || pod.account().used();
    let (mut unread, mut status) = (Vec::new(), [0; 12]);
    loop {
        let mut conn = get(&node, "/large").await;
        timeout(SOON, conn.read_exact(&mut status)).await.unwrap().unwrap();
        if status != *b"HTTP/1.1 200" {
            break;
        }
        unread.push(conn);
        assert!(unread.len() < 200, "nobody was refused, and {} bytes are counted", used());
    }
    assert_eq!(status, *b"HTTP/1.1 503", "{} were served", unread.len());
    // Every byte of their answers waits here, in pipes or before those.
    let held = used();
    assert!((unread.len() * LARGE..LIMIT + (1 << 20)).contains(&held), "{held} bytes are counted");
    // Who reads has all of it, and whose clients have gone holds nothing any more.
    let mut last = unread.pop().unwrap();
    let answer = read_until(&mut last, "0\r\n\r\n").await;
    assert_eq!(answer.matches('x').count(), LARGE);
    drop((last, unread));
    let given_back = async {
        while 1 << 20 < used() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, given_back).await.unwrap();
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_behind_each_other_are_all_answered() {
    const REQUESTS: usize = 300;
    let node = node();
    up(&node, web(&node)).await;
    let conn = node.dial("web", 8080).unwrap();
    let (mut rx, mut tx) = tokio::io::split(conn);
    let heads = "HEAD /hello HTTP/1.1\r\nhost: web\r\n\r\n".repeat(REQUESTS - 1);
    let last = "GET /hello HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    let mut all = Vec::new();
    let asked = async { tx.write_all(format!("{heads}{last}").as_bytes()).await.unwrap() };
    let both = async { tokio::join!(asked, rx.read_to_end(&mut all)) };
    timeout(SOON, both).await.unwrap().1.unwrap();
    assert_eq!(String::from_utf8_lossy(&all).matches("HTTP/1.1 200").count(), REQUESTS);
}

/// Sends a POST to `/after`, without its body.
async fn begin(node: &Node) -> ConnIo {
    let head = "POST /after HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n";
    send(node, head).await
}

/// Waits until so many lines of the log are this.
async fn logged(node: &Node, line: &str, count: usize) {
    let found = async {
        while node.log("web").lines().filter(|it| *it == line).count() < count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, found).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_come_later_leave_instances_what_they_were_started_for() {
    let node = node();
    let mut start = web(&node);
    start.0.memory_limit = Some(11 << 20);
    let id = up(&node, start).await;
    let used = || node.runtime.usage(&id).unwrap().1;
    let mut first = begin(&node).await;
    first.write_all(b"1\r\nx\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut first, "0\r\n\r\n").await;
    drop(first);
    let mut requests = Vec::new();
    for _ in 0..8 {
        requests.push(begin(&node).await);
    }
    logged(&node, "begun", 2).await;
    let before = used();
    let half = format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}", "y".repeat(50 << 10));
    let mut heads = Vec::new();
    for _ in 0..30 {
        // Of so many the oldest have to go.
        let mut conn = node.dial("web", 8080).unwrap();
        let _ = conn.write_all(half.as_bytes()).await;
        heads.push(conn);
    }
    let come = async {
        while used() < before + (512 << 10) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, come).await.unwrap();
    // Each takes its memory now, and none ends before all that run have.
    for conn in &mut requests {
        conn.write_all(b"1\r\nx\r\n").await.unwrap();
    }
    logged(&node, "grown", 2).await;
    for conn in &mut requests {
        conn.write_all(b"0\r\n\r\n").await.unwrap();
    }
    for conn in &mut requests {
        let answer = read_until(conn, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer} {}", node.log("web"));
    }
    drop(heads);
}

/// Takes all that is left of a pod of 16 MiB for others, but for a little.
fn others(node: &Node) -> Held {
    let pod = node.fabric.pod("web").unwrap();
    pod.account().set_limit(16 << 20);
    let left = (16 << 20) - pod.account().used();
    pod.account().take(left - (100 << 10)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_while_its_pod_s_memory_is_with_others() {
    let node = node();
    up(&node, web(&node)).await;
    let others = others(&node);
    let mut conn = get(&node, "/hello").await;
    let early = timeout(Duration::from_millis(200), conn.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    drop(others);
    let answer = read_until(&mut conn, "0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(node.log("web"), "", "nothing failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_others_leave_no_memory_is_told_to_come_again() {
    let node = node();
    let mut start = web(&node);
    start.0.http.timeout_seconds = 1;
    up(&node, start).await;
    let held = others(&node);
    let mut conn = get(&node, "/hello").await;
    let answer = read_until(&mut conn, "try again later").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
    let why = "GET /hello: no memory is left for it at the moment: memory limit of the pod of 16777216 bytes";
    node.logged("web", why).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_others_leave_no_more_memory_has_its_client_come_again() {
    let node = node();
    up(&node, web(&node)).await;
    let mut conn = begin(&node).await;
    logged(&node, "begun", 1).await;
    let held = others(&node);
    conn.write_all(b"1\r\nx\r\n").await.unwrap();
    let answer = read_until(&mut conn, "try again later").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
    node.logged("web", "POST /after: no memory is left for it at the moment: ").await;
    drop(held);
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
}

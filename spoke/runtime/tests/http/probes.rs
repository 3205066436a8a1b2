//! What looks at the health of containers come to.

use std::time::Duration;

use freewheel_link::probes::{HttpGetV1, ProbeHandlerV1, ProbeKindV1, ProbeV1};
use freewheel_spoke_agent::ports::{ContainerId, Containers as _, Probed};
use freewheel_spoke_runtime::CannotExec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{up, web};
use crate::support::{Node, node};

fn probe(handler: ProbeHandlerV1, timeout_seconds: u32) -> ProbeV1 {
    ProbeV1 {
        container: "main".to_owned(),
        kind: ProbeKindV1::Readiness,
        handler,
        initial_delay_seconds: 0,
        period_seconds: 10,
        timeout_seconds,
        success_threshold: 1,
        failure_threshold: 3,
        grace_seconds: None,
    }
}

async fn get(node: &Node, id: &ContainerId, port: u16, path: &str) -> Probed {
    let get = HttpGetV1 { port, path: path.to_owned(), headers: Vec::new() };
    node.probe(id, probe(ProbeHandlerV1::Http(get), 30)).await
}

async fn exec(node: &Node, id: &ContainerId, words: &[&str], timeout: u32) -> Probed {
    let words = words.iter().map(ToString::to_string).collect();
    node.probe(id, probe(ProbeHandlerV1::Exec(words), timeout)).await
}

fn failure(text: &str) -> Probed {
    Probed::Failure(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_told_in_kubelets_words() {
    let node = node();
    let id = up(&node, web(&node, "web")).await;
    assert_eq!(get(&node, &id, 8080, "hello").await, Probed::Success);
    let told = failure("HTTP probe failed with statuscode: 500");
    assert_eq!(get(&node, &id, 8080, "/trap").await, told);
    let told = "the container's module answers HTTP requests and is no program: there is no command to run in it";
    assert_eq!(exec(&node, &id, &["sh"], 1).await, Probed::Error(told.to_owned()));

    let id = node.start(node.kit("program", &["begin", ""]));
    node.logged("program", "ready").await;
    let ip = node.ip("program");
    let refused = format!("dial tcp {ip}:7000: connect: connection refused");
    let tcp = |port| probe(ProbeHandlerV1::Tcp(port), 1);
    assert_eq!(node.probe(&id, tcp(7000)).await, failure(&refused));
    let told = format!("Get \"http://{ip}:7000/health\": {refused}");
    assert_eq!(get(&node, &id, 7000, "/health").await, failure(&told));
    assert_eq!(exec(&node, &id, &["kit", "nop"], 30).await, Probed::Success);
    let Probed::Failure(said) = exec(&node, &id, &["kit", "fail"], 30).await else { panic!() };
    assert!(said.contains("failed on purpose"), "{said}");
    // Its loopback is its own.
    let listens =
        |address: &str| node.fabric.pod("program").unwrap().listen(address.parse().unwrap(), 8);
    let inside = listens("127.0.0.1:7001").unwrap();
    assert!(matches!(node.probe(&id, tcp(7001)).await, Probed::Failure(_)));
    let outside = listens("0.0.0.0:7002").unwrap();
    assert_eq!(node.probe(&id, tcp(7002)).await, Probed::Success);
    drop((inside, outside));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_what_ends_comes_to_nothing() {
    let node = node();
    let id = up(&node, web(&node, "web")).await;
    let hang = HttpGetV1 { port: 8080, path: "/hang".to_owned(), headers: Vec::new() };
    // Who is killed has no outcome to wait for.
    let looking = node.probe(&id, probe(ProbeHandlerV1::Http(hang), 3600));
    let killed = async {
        node.logged("web", "hangs").await;
        node.runtime.stop(&id, Duration::ZERO);
    };
    let (outcome, ()) = tokio::join!(looking, killed);
    assert_eq!(outcome, Probed::Ended);
    node.exited(&id).await;
    assert_eq!(node.probe(&id, probe(ProbeHandlerV1::Tcp(8080), 1)).await, Probed::Ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_looks_at_no_port_but_its_own_container_s() {
    let node = node();
    let mut start = web(&node, "web");
    start.0.ports = vec![8080, 80];
    let id = up(&node, start).await;
    let tcp = |port| probe(ProbeHandlerV1::Tcp(port), 1);
    for served in [8080, 80] {
        assert_eq!(node.probe(&id, tcp(served)).await, Probed::Success, "{served}");
    }
    // A sidecar's that is dead, or a typing error.
    let refused = format!("dial tcp {}:9090: connect: connection refused", node.ip("web"));
    assert_eq!(node.probe(&id, tcp(9090)).await, failure(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_has_an_outcome_within_its_time() {
    let node = node();
    let id = up(&node, web(&node, "web")).await;
    let hang = HttpGetV1 { port: 8080, path: "/hang".to_owned(), headers: Vec::new() };
    let told = format!(
        "Get \"http://{}:8080/hang\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        node.ip("web")
    );
    assert_eq!(node.probe(&id, probe(ProbeHandlerV1::Http(hang), 1)).await, failure(&told));
    let program = node.start(node.kit("program", &["begin", ""]));
    node.logged("program", "ready").await;
    let told = failure("command timed out: \"kit sleep\" timed out after 1s");
    assert_eq!(exec(&node, &program, &["kit", "sleep"], 1).await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_probe_reads_is_bounded() {
    let node = node();
    let id = up(&node, web(&node, "web")).await;
    assert_eq!(get(&node, &id, 8080, "/endless").await, Probed::Success);
    let program = node.start(node.kit("program", &["begin", ""]));
    node.logged("program", "ready").await;
    assert_eq!(exec(&node, &program, &["kit", "lines", "2000"], 60).await, Probed::Success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_never_comes_to_a_final_answer_is_not_heard_for_ever() {
    let node = node();
    let id = node.start(node.kit("program", &["begin", ""]));
    node.logged("program", "ready").await;
    let any = "0.0.0.0:7004".parse().unwrap();
    let listener = node.fabric.pod("program").unwrap().listen(any, 8).unwrap();
    let (told, ended) = std::sync::mpsc::channel();
    // A thread of its own, as that of a guest that spins: nothing of this runtime holds it up.
    std::thread::spawn(move || {
        let conn = loop {
            if let Some(conn) = listener.try_accept().unwrap() {
                break conn;
            }
            std::thread::yield_now();
        };
        let heads = bytes::Bytes::from("HTTP/1.1 100 Continue\r\n\r\n".repeat(100));
        let begun = std::time::Instant::now();
        while let Ok(room) = conn.tx.room()
            && begun.elapsed() < Duration::from_secs(20)
        {
            if heads.len() <= room {
                let _ = conn.tx.push(heads.clone());
            }
        }
        let _ = told.send(conn.tx.room().is_err());
        conn.reset();
    });
    let Probed::Failure(said) = get(&node, &id, 7004, "/").await else { panic!() };
    assert!(
        said.ends_with("net/http: server response headers exceeded 262144 bytes; aborted"),
        "{said}"
    );
    assert!(ended.recv().unwrap(), "its connection was kept");
}

/// Answers each request of a pod's port with the next of these.
fn answers(node: &Node, pod: &str, all: Vec<String>) {
    let any = "0.0.0.0:7003".parse().unwrap();
    let listener = node.fabric.pod(pod).unwrap().listen(any, 64).unwrap();
    tokio::spawn(async move {
        for answer in all {
            let Ok(conn) = listener.accept().await else { return };
            let mut conn = conn.into_io();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                if conn.read_buf(&mut asked).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let asked = String::from_utf8_lossy(&asked).into_owned();
            let answer = answer.replace("ASKED", &asked.replace("\r\n", "|"));
            let _ = conn.write_all(answer.as_bytes()).await;
            let _ = conn.shutdown().await;
        }
    });
}

fn redirect(to: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_within_the_pod() {
    let node = node();
    let id = node.start(node.kit("program", &["begin", ""]));
    node.logged("program", "ready").await;
    let here = format!("http://{}:7003/there", node.ip("program"));
    let fine = "HTTP/1.1 204 No Content\r\n\r\n".to_owned();
    let away = redirect("http://example.com/", "go away");
    let nowhere = redirect("", "no way");
    let mut all = vec![redirect("/next", ""), redirect(&here, ""), fine, away, nowhere];
    all.extend((0..10).map(|_| redirect("/again", "")));
    let failed = "HTTP/1.1 500 GET\r\ncontent-length: 0\r\n\r\n".to_owned();
    all.extend([redirect("login", ""), failed]);
    all.push("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned());
    all.push("nonsense".to_owned());
    answers(&node, "program", all);
    assert_eq!(get(&node, &id, 7003, "/").await, Probed::Success);
    let told = "Probe terminated redirects, Response body: go away";
    assert_eq!(get(&node, &id, 7003, "/").await, Probed::Warning(told.to_owned()));
    let told = "Probe terminated redirects, Response body: no way";
    assert_eq!(get(&node, &id, 7003, "/").await, Probed::Warning(told.to_owned()));
    let told =
        format!("Get \"http://{}:7003/again\": stopped after 10 redirects", node.ip("program"));
    assert_eq!(get(&node, &id, 7003, "/").await, failure(&told));
    let told = failure("HTTP probe failed with statuscode: 500");
    assert_eq!(get(&node, &id, 7003, "/a%20/b c").await, told, "it is beside the former");
    let told = failure("HTTP probe failed with statuscode: 404");
    assert_eq!(get(&node, &id, 7003, "/").await, told);
    let Probed::Failure(said) = get(&node, &id, 7003, "/x").await else { panic!() };
    assert!(said.starts_with("Get \"http://"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_who_asks_and_what_it_was_given() {
    let node = node();
    let id = node.start(node.kit("program", &["begin", ""]));
    node.logged("program", "ready").await;
    let echo = redirect("http://example.com/", "");
    let echo = echo.replace("content-length: 0\r\n\r\n", "connection: close\r\n\r\nASKED");
    answers(&node, "program", vec![echo]);
    let headers = vec![("Host".to_owned(), "shop".to_owned()), ("X-A".to_owned(), "b".to_owned())];
    let get = HttpGetV1 { port: 7003, path: "/health?deep=1".to_owned(), headers };
    let Probed::Warning(said) = node.probe(&id, probe(ProbeHandlerV1::Http(get), 30)).await else {
        panic!()
    };
    for part in
        ["GET /health?deep=1 HTTP/1.1|", "host: shop|", "x-a: b|", "user-agent: kube-probe/"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_leave_places_for_the_probes_of_their_container() {
    let node = node();
    let id = node.start(node.kit("program", &["begin", ""]));
    node.logged("program", "ready").await;
    let sleep = || {
        let words = ["kit", "sleep"].map(str::to_owned).to_vec();
        node.runtime.exec(("program", "main"), words, None)
    };
    let all: Vec<_> = std::iter::from_fn(|| sleep().ok()).take(100).collect();
    assert_eq!(sleep().err(), Some(CannotExec::TooMany), "{} run", all.len());
    assert_eq!(exec(&node, &id, &["kit", "nop"], 30).await, Probed::Success);
}

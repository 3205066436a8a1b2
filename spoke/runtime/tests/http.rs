//! What HTTP containers promise.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod probes;

use std::time::{Duration, Instant};

use crate::support::{self, Node, Start, guest, node};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{EndpointV1, Protocol, ServicePortV1, ServiceV1};
use freewheel_spoke_agent::host_dir::HostDir;
use freewheel_spoke_agent::ports::{ContainerId, Containers as _, Network as _};
use freewheel_spoke_agent::volumes::Mount;
use freewheel_spoke_net::Fabric;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn web(node: &Node, pod: &str) -> Start {
    node.container(pod, &guest("web"))
}

async fn up(node: &Node, start: Start) -> ContainerId {
    let id = node.start(start);
    node.started(&id).await;
    id
}

/// Lets the Service `hello` lead to these pods.
fn serve_by(node: &Node, pods: &[&str]) {
    let port =
        ServicePortV1 { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let endpoint = |pod: &&str| EndpointV1 {
        ip: node.ip(pod).parse().unwrap(),
        node: "pi".to_owned(),
        hostname: String::new(),
        ready: true,
        ports: vec![8080],
    };
    let service = ServiceV1 {
        namespace: "default".to_owned(),
        name: "hello".to_owned(),
        cluster_ip: Some("10.128.0.9".parse().unwrap()),
        external_name: None,
        ports: vec![port],
        endpoints: pods.iter().map(endpoint).collect(),
        affinity_seconds: None,
    };
    node.fabric.set_service(&ClusterName::root(), "default", "hello", Some(service));
}

/// Asks through the Service again and again, over connections that it keeps as long as they are kept.
async fn load(fabric: std::sync::Arc<Fabric>, until: Instant) -> usize {
    let (from, to) = ("10.0.0.1:1".parse().unwrap(), "10.128.0.9:80".parse().unwrap());
    let mut answered = 0;
    while Instant::now() < until {
        let mut conn = fabric.dial(&ClusterName::root(), from, to).await.unwrap();
        let mut leave = false;
        while !leave {
            conn.write_all(b"GET /hello HTTP/1.1\r\nhost: hello\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"0\r\n\r\n") {
                assert_ne!(conn.read_buf(&mut answer).await.unwrap(), 0, "cut");
            }
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            answered += 1;
            leave = answer.contains("connection: close") || answered % 50 == 0;
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_replaced_under_load_without_a_lost_request() {
    let node = node();
    let mut former = up(&node, web(&node, "web-0")).await;
    serve_by(&node, &["web-0"]);
    let until = Instant::now() + Duration::from_secs(3);
    let loads: Vec<_> = (0..8).map(|_| tokio::spawn(load(node.fabric.clone(), until))).collect();
    for round in 1..4 {
        let (old, new) = (format!("web-{}", round - 1), format!("web-{round}"));
        let next = up(&node, web(&node, &new)).await;
        serve_by(&node, &[&old, &new]);
        // The worst order: the pod hears of its end before its clients do.
        node.runtime.stop(&former, Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
        serve_by(&node, &[&new]);
        assert_eq!(node.exited(&former).await.code, 0);
        former = next;
    }
    for load in loads {
        assert!(0 < load.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_answers_on_its_port() {
    let node = node();
    up(&node, web(&node, "plain")).await;
    assert_eq!(node.get("plain", 8080, "/hello").await, (200, "Hello, world!\n".to_owned()));
    let mut other = web(&node, "other");
    other.0.ports = vec![9090];
    other.0.env = vec![("GREETING".to_owned(), "hi".to_owned())];
    up(&node, other).await;
    assert_eq!(node.get("other", 9090, "/env").await, (200, "hi".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_used_as_often_as_it_may_be() {
    let node = node();
    let mut twice = web(&node, "twice");
    twice.0.http.reuse = Some(2);
    up(&node, twice).await;
    let mut counts = Vec::new();
    for _ in 0..5 {
        counts.push(node.get("twice", 8080, "/served").await.1);
    }
    assert_eq!(counts, ["1\n", "2\n", "1\n", "2\n", "1\n"]);
    up(&node, web(&node, "once")).await;
    for _ in 0..3 {
        assert_eq!(node.get("once", 8080, "/served").await.1, "1\n", "nobody said more than once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_says_how_often_an_instance_is_used_and_the_pod_goes_before_it() {
    let node = node();
    let counter = |pod: &str| node.container(pod, &guest("counter"));
    let counts = async |pod: &str| {
        let mut counts = String::new();
        for _ in 0..4 {
            counts += &node.get(pod, 8080, "/").await.1;
        }
        counts
    };
    up(&node, counter("module")).await;
    assert_eq!(counts("module").await, "1\n2\n3\n1\n");
    let mut pod = counter("pod");
    pod.0.http.reuse = Some(1);
    up(&node, pod).await;
    assert_eq!(counts("pod").await, "1\n1\n1\n1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_whose_word_on_its_instances_has_another_type_does_not_start() {
    let node = node();
    let text = r#"(component
        (core module $m
            (func (export "requests") (result i32) (i32.const 1))
            (func (export "handle")))
        (core instance $i (instantiate $m))
        (func $requests (result u32) (canon lift (core func $i "requests")))
        (func $handle (canon lift (core func $i "handle")))
        (instance $instance (export "requests" (func $requests)))
        (instance $handler (export "handle" (func $handle)))
        (export "freewheel:handler/instance@0.1.0" (instance $instance))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    let artifact = node.dir.path().join("typed.cwasm");
    support::compile(&wat::parse_str(text).unwrap(), &artifact);
    let exit = node.run(node.container("typed", &artifact)).await;
    assert_eq!(exit.reason, "StartError", "{}", exit.message);
    assert!(exit.message.contains("`requests`"), "{}", exit.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_gave_no_answer_is_not_used_again() {
    let node = node();
    let mut web = web(&node, "web");
    web.0.http.reuse = Some(100);
    up(&node, web).await;
    for (path, status) in [("/nothing", 500), ("/code", 500), ("/trap", 500)] {
        assert_eq!(node.get("web", 8080, path).await.0, status, "{path}");
        assert_eq!(node.get("web", 8080, "/served").await.1, "1\n", "after {path}");
        assert_eq!(node.get("web", 8080, "/served").await.1, "2\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_traps_fails_its_request_alone() {
    let node = node();
    up(&node, web(&node, "web")).await;
    let (status, text) = node.get("web", 8080, "/trap").await;
    assert_eq!(status, 500, "{text}");
    node.logged("web", "trapped on purpose").await;
    // The client has a number, and the log has the rest under it.
    let id = text.trim().strip_prefix("internal error, request ").unwrap().to_owned();
    node.logged("web", &format!("request {id} GET /trap: the handler failed")).await;
    node.logged("web", "wasm backtrace").await;
    let (_, text) = node.get("web", 8080, "/code").await;
    assert!(!text.contains("secret"), "{text}");
    node.logged("web", "secret inside").await;
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_spins_does_not_stop_the_others() {
    let node = node();
    let id = up(&node, web(&node, "web")).await;
    let mut stuck = node.dial("web", 8080).unwrap();
    stuck.write_all(b"GET /spin HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    for _ in 0..20 {
        assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    }
    node.runtime.stop(&id, Duration::from_secs(1));
    assert_eq!(node.exited(&id).await.code, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_eats_memory_ends_alone() {
    let node = node();
    let mut eater = web(&node, "eater");
    eater.0.memory_limit = Some(16 << 20);
    let id = up(&node, eater).await;
    let (status, text) = node.get("eater", 8080, "/eat").await;
    assert_eq!(status, 500);
    assert!(!text.contains("memory"), "{text}");
    assert_eq!(node.out_of_memory(&id).await, 1);
    node.logged("eater", "out of memory: memory limit of 16777216 bytes reached").await;
    assert_eq!(node.get("eater", 8080, "/hello").await.0, 200);
    assert_eq!(node.get("eater", 8080, "/eat").await.0, 500);
    let (usage, _) = node.runtime.usage(&id).unwrap();
    assert_eq!(usage.oom_ended.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_below_what_the_module_starts_with_is_refused_at_start() {
    let node = node();
    let mut tiny = web(&node, "tiny");
    tiny.0.memory_limit = Some(64 << 10);
    let exit = node.run(tiny).await;
    assert_eq!(exit.reason, "StartError");
    assert!(exit.message.starts_with("memory limit of 65536 bytes is less than"), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_calls_another_through_its_service() {
    let node = node();
    up(&node, web(&node, "back")).await;
    up(&node, web(&node, "front")).await;
    serve_by(&node, &["back"]);
    let (status, text) = node.get("front", 8080, "/via/hello.default.svc.cluster.local").await;
    assert_eq!((status, text.as_str()), (200, "upstream said Hello, world!\n"));
    let (_, text) = node.get("front", 8080, "/via/nobody").await;
    assert!(text.contains("DnsError"), "{text}");
    let (_, text) = node.get("front", 8080, "/via/1.1.1.1").await;
    assert!(text.contains("Prohibited"), "{text}");
    let (_, text) = node.get("front", 8080, "/over-tls").await;
    assert!(text.contains("use http://"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_instances_instead_of_failing() {
    let node = node();
    up(&node, web(&node, "web")).await;
    let asks = (0..200).map(|_| node.get("web", 8080, "/slow"));
    let answers = futures::future::join_all(asks).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_has_come() {
    let node = node();
    let id = up(&node, web(&node, "web")).await;
    let mut conn = node.dial("web", 8080).unwrap();
    conn.write_all(b"GET /slow HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    // Once a later request is answered the first one is in the handler.
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    node.runtime.stop(&id, Duration::from_secs(30));
    // Those who have not heard of the stop yet are served too.
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    let mut answer = String::new();
    tokio::time::timeout(support::SOON, conn.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert_eq!(node.exited(&id).await.code, 0);
    assert!(node.dial("web", 8080).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_leaves_its_port_to_the_next() {
    let node = node();
    let first = up(&node, web(&node, "web")).await;
    let mut stuck = node.dial("web", 8080).unwrap();
    stuck.write_all(b"GET /spin HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
    node.runtime.stop(&first, Duration::ZERO);
    assert_eq!(node.exited(&first).await.code, 137);
    let mut next = web(&node, "web");
    next.0.id.attempt = 1;
    up(&node, next).await;
    assert_eq!(node.get("web", 8080, "/hello").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_sees_the_directory_that_its_container_was_given() {
    let node = node();
    let volume = node.dir.path().join("volume");
    std::fs::create_dir_all(volume.join("sub")).unwrap();
    std::fs::create_dir(node.dir.path().join("identity")).unwrap();
    std::fs::write(volume.join("sub/text"), "mine").unwrap();
    std::fs::write(node.dir.path().join("identity/text"), "secret").unwrap();
    let mut start = web(&node, "links");
    let dir = HostDir::open(&volume.join("sub")).unwrap();
    start.1 = vec![Mount { dir, guest: "/s".to_owned(), read_only: false }];
    up(&node, start).await;
    assert_eq!(node.get("links", 8080, "/cat/s/text").await, (200, "mine".to_owned()));
    // What a guest with the whole volume can do: put a link out of it where the directory was.
    std::fs::rename(volume.join("sub"), volume.join("aside")).unwrap();
    std::os::unix::fs::symlink("../identity", volume.join("sub")).unwrap();
    assert_eq!(node.get("links", 8080, "/cat/s/text").await, (200, "mine".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_request_writes_into_the_log_is_bounded() {
    let node = node();
    up(&node, web(&node, "web")).await;
    assert_eq!(node.get("web", 8080, "/error-long").await.0, 500);
    node.logged("web", "the handler answered with an error: ").await;
    assert!(node.log("web").len() < 16 << 10, "{} bytes", node.log("web").len());
    let mut conn = node.dial("web", 8080).unwrap();
    let head = format!("{} /trap HTTP/1.1\r\nhost: web\r\n\r\n", "M".repeat(60_000));
    conn.write_all(head.as_bytes()).await.unwrap();
    node.logged("web", "trapped on purpose").await;
    node.logged("web", "MMMM /trap: ").await;
    assert!(node.log("web").len() < 32 << 10, "{} bytes", node.log("web").len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_rests_has_what_is_kept_for_it() {
    let node = node();
    up(&node, web(&node, "web")).await;
    let memory = |pod: &str| {
        let all = node.runtime.figures();
        all.iter().find(|one| one.name == pod).unwrap().containers[0].memory
    };
    // No instance is there; its module is, and the few words that each was given.
    let (module, given) = (node.runtime.described() as u64, 1..200);
    assert!(0 < module);
    assert!(given.contains(&(memory("web") - module)), "{} {module}", memory("web"));
    // Two share one module, and have it once together.
    up(&node, web(&node, "other")).await;
    for pod in ["web", "other"] {
        assert!(given.contains(&(memory(pod) - module / 2)), "{pod}: {} {module}", memory(pod));
    }
}

//! What HTTP containers promise.

mod support;

use std::time::Duration;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{EndpointV1, Protocol, ServicePortV1, ServiceV1};
use freewheel_spoke_agent::ports::{ContainerId, Containers as _, Network as _};
use support::{Node, Start, guest, node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn web(node: &Node, pod: &str) -> Start {
    node.container(pod, &guest("web"))
}

async fn up(node: &Node, start: Start) -> ContainerId {
    let id = node.start(start);
    node.started(&id).await;
    id
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
    twice.0.http_reuse = 2;
    up(&node, twice).await;
    let mut counts = Vec::new();
    for _ in 0..5 {
        counts.push(node.get("twice", 8080, "/served").await.1);
    }
    assert_eq!(counts, ["1\n", "2\n", "1\n", "2\n", "1\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_traps_fails_its_request_alone() {
    let node = node();
    up(&node, web(&node, "web")).await;
    let (status, text) = node.get("web", 8080, "/trap").await;
    assert_eq!(status, 500, "{text}");
    node.logged("web", "trapped on purpose").await;
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
async fn a_handler_that_eats_memory_ends_its_container() {
    let node = node();
    let mut eater = web(&node, "eater");
    eater.0.memory_limit = Some(16 << 20);
    let id = up(&node, eater).await;
    assert_eq!(node.get("eater", 8080, "/eat").await.0, 500);
    assert_eq!(node.exited(&id).await.reason, "OOMKilled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_calls_another_through_its_service() {
    let node = node();
    up(&node, web(&node, "back")).await;
    up(&node, web(&node, "front")).await;
    let port =
        ServicePortV1 { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let endpoint = EndpointV1 {
        ip: node.ip("back").parse().unwrap(),
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
        endpoints: vec![endpoint],
        affinity_seconds: None,
    };
    node.fabric.set_service(&ClusterName::root(), "default", "hello", Some(service));
    let (status, text) = node.get("front", 8080, "/via/hello.default.svc.cluster.local").await;
    assert_eq!((status, text.as_str()), (200, "upstream said Hello, world!\n"));
    let (_, text) = node.get("front", 8080, "/via/nobody").await;
    assert!(text.contains("DnsError"), "{text}");
    let (_, text) = node.get("front", 8080, "/via/1.1.1.1").await;
    assert!(text.contains("Prohibited"), "{text}");
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

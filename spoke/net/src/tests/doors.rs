//! The ways in from the node's own address.

use std::time::Duration;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::Protocol;
use freewheel_spoke_agent::ports::Network as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{add, ask, at, echo, eventually, fabric};
use crate::testing::{pod, service};

/// A port of the kernel that nobody has now.
async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_node_port_leads_to_the_service() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    echo(&web, 8080);
    let port = free_port().await;
    let web = || service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    let root = ClusterName::root();
    fabric.set_service(&root, "default", "web", Some(web().to("10.64.0.1", 8080).0));
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    let dial = || async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() };
    let stream = eventually(async || dial().await).await;
    assert_eq!(ask(stream, "hello").await, "hello");
    fabric.set_service(&root, "default", "web", None);
    eventually(async || dial().await.is_none().then_some(())).await;
}

#[tokio::test]
async fn a_host_port_that_is_taken_is_told_and_opened_later() {
    let fabric = fabric();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut who = pod("web", "10.64.0.1");
    who.host_ports = vec![(port, 8080, false)];
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    fabric.add_pod(who);
    echo(&fabric.pod("root-web").unwrap(), 8080);
    let problem = eventually(async || fabric.port_problems().pop()).await;
    assert_eq!((problem.door.port, problem.owner.as_str()), (port, "pod/root-web"));
    drop(taken);
    eventually(async || fabric.port_problems().is_empty().then_some(())).await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(ask(stream, "hello").await, "hello");
    fabric.remove_pod("root-web");
    tokio::time::timeout(Duration::from_secs(10), fabric.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_host_port_goes_to_the_first_who_asks_and_then_to_the_next() {
    let fabric = fabric();
    let port = free_port().await;
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    for (name, ip) in [("first", "10.64.0.1"), ("second", "10.64.0.2")] {
        let mut who = pod(name, ip);
        who.host_ports = vec![(port, 8080, false)];
        fabric.add_pod(who);
        echo(&fabric.pod(&format!("root-{name}")).unwrap(), 8080);
    }
    let problems = fabric.port_problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].owner, "pod/root-second");
    fabric.remove_pod("root-first");
    eventually(async || fabric.port_problems().is_empty().then_some(())).await;
    let dial = || async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() };
    let answered = eventually(async || {
        let mut stream = dial().await?;
        stream.write_all(b"hello").await.ok()?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer)
    });
    assert_eq!(&answered.await, b"hello");
}

#[tokio::test]
async fn a_udp_node_port_carries_answers_back() {
    let fabric = fabric();
    let dns = add(&fabric, "dns", "10.64.0.1");
    let server = dns.bind_udp(at("0.0.0.0:5353")).unwrap();
    let answering = dns.clone();
    tokio::spawn(async move {
        loop {
            let (bytes, from) = server.recv().await;
            answering.send_udp(&server, from, bytes).unwrap();
        }
    });
    let port = free_port().await;
    let spec = service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, Some(port));
    fabric.set_service(&ClusterName::root(), "default", "dns", Some(spec.to("10.64.0.1", 5353).0));
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(("127.0.0.1", port)).await.unwrap();
    let mut buffer = [0; 16];
    let answer = eventually(async || {
        let _ = socket.send(b"who?").await;
        let wait = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut buffer));
        wait.await.ok()?.ok()
    });
    assert_eq!(answer.await, 4);
}

//! Who has a place at a UDP node port, where anybody can be many with forged addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::Protocol;
use freewheel_spoke_agent::ports::Network as _;
use tokio::net::UdpSocket;

use super::{add, at, fabric};
use crate::Fabric;
use crate::testing::service;

/// Ports of the kernel that nobody has now.
async fn free_ports(number: usize) -> Vec<u16> {
    let mut held = Vec::new();
    for _ in 0..number {
        held.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }
    held.iter().map(|socket| socket.local_addr().unwrap().port()).collect()
}

/// A Service of this realm with a UDP node port, whose pod sends back what it gets.
async fn echo(fabric: &Arc<Fabric>, node_port: u16) -> SocketAddr {
    let dns = add(fabric, "dns", "10.64.0.1");
    let server = dns.bind_udp(at("0.0.0.0:5353")).unwrap();
    tokio::spawn(async move {
        loop {
            let (bytes, from) = server.recv().await;
            dns.send_udp(&server, from, bytes).unwrap();
        }
    });
    let spec = service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, Some(node_port));
    fabric.set_service(&ClusterName::root(), "default", "dns", Some(spec.to("10.64.0.1", 5353).0));
    fabric.set_node(Ipv4Addr::LOCALHOST.into(), "cluster.local");
    let node_port = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), node_port);
    super::eventually(async || client(Ipv4Addr::LOCALHOST, node_port).await.then_some(())).await;
    node_port
}

/// Whether a new client with this address is answered.
async fn client(own: Ipv4Addr, node_port: SocketAddr) -> bool {
    let socket = UdpSocket::bind((own, 0)).await.unwrap();
    socket.connect(node_port).await.unwrap();
    let mut buffer = [0; 8];
    let asked = async {
        socket.send(b"who?").await.ok()?;
        socket.recv(&mut buffer).await.ok()
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await.ok().flatten().is_some()
}

#[tokio::test]
async fn a_client_comes_in_while_a_thousand_forged_ones_were_answered_once() {
    let fabric = fabric();
    let node_port = echo(&fabric, free_ports(1).await[0]).await;
    for index in 0..1100_u16 {
        let [high, low] = index.to_be_bytes();
        let own = Ipv4Addr::new(127, 1, high, low);
        assert!(client(own, node_port).await, "{index} others were answered once");
    }
}

#[tokio::test]
async fn node_ports_that_nobody_uses_take_no_places_from_others() {
    let fabric = fabric();
    let ports = free_ports(201).await;
    for (index, port) in ports[1..].iter().enumerate() {
        let name = format!("idle-{index}");
        let idle = service(&name).at("10.128.1.1").any_port(53, Protocol::Udp, Some(*port));
        fabric.set_service(&ClusterName::root(), "other", &name, Some(idle.0));
    }
    let node_port = echo(&fabric, ports[0]).await;
    for index in 1..=60 {
        assert!(client(Ipv4Addr::new(127, 1, 1, index), node_port).await, "client {index}");
    }
}

//! Ways to other nodes that carry as many connections as they may.

use std::net::Ipv4Addr;

use parking_lot::Mutex;
use tokio::net::{TcpSocket, TcpStream};

use super::outside::{Elsewhere, client_of, few, left, node_port, served};
use super::*;
use crate::Bottleneck;

/// A pod of another node.
const FAR: &str = "10.64.7.7";
/// As many connections as the hub has for this node there.
const SHARE: usize = 24;

/// A node whose port leads to [`FAR`], and one client who has all connections there are, silent for a while.
async fn taken() -> (Arc<Fabric>, u16, Vec<TcpStream>) {
    let (fabric, places) = (fabric(), Arc::new(Mutex::new(SHARE)));
    let of_hub = places.clone();
    let full = NetError::WayFull(Bottleneck::Beyond);
    fabric.set_remote(Arc::new(Elsewhere(move || few(full, &of_hub))));
    let port = node_port(&fabric, FAR).await;
    let mut stranger = vec![client_of(port).await];
    while stranger.len() < SHARE {
        stranger.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    eventually(async || (*places.lock() == 0).then_some(())).await;
    tokio::time::sleep(crate::link_places::SILENT_AFTER).await;
    (fabric, port, stranger)
}

/// Somebody who has this address.
async fn client(address: Ipv4Addr, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap()
}

#[tokio::test]
async fn idle_clients_of_a_full_way_make_room_for_another_client() {
    let (_fabric, port, mut stranger) = taken().await;
    let mut others = Vec::new();
    for last in 2..=4 {
        let mut other = client(Ipv4Addr::new(127, 0, 0, last), port).await;
        served(&mut other).await;
        others.push(other);
    }
    eventually(async || (left(&mut stranger) == SHARE - others.len()).then_some(())).await;
    for other in &mut others {
        served(other).await;
    }
}

#[tokio::test]
async fn idle_clients_of_a_full_way_make_room_for_a_pod() {
    let (fabric, _port, mut stranger) = taken().await;
    let pod = add(&fabric, "client", "10.64.0.2");
    let conn = pod.connect(None, at("10.64.7.7:8080")).done().await.unwrap();
    assert_eq!(ask(conn.into_io(), "who has room?").await, "who has room?");
    eventually(async || (left(&mut stranger) == SHARE - 1).then_some(())).await;
}

#[tokio::test]
async fn a_full_way_is_waited_for_when_nobody_else_is_left() {
    let (fabric, port, mut stranger) = taken().await;
    let near = add(&fabric, "near", "10.64.0.9");
    let listener = near.listen(at("0.0.0.0:8080"), 16).unwrap();
    tokio::spawn(async move {
        while let Ok(conn) = listener.accept().await {
            tokio::spawn(async move {
                let (mut rx, mut tx) = tokio::io::split(conn.into_io());
                let _ = tokio::io::copy(&mut rx, &mut tx).await;
            });
        }
    });
    let spec = |near: bool| {
        let far = service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
        let far = far.to(FAR, 8080);
        if near { far.to("10.64.0.9", 8080).0 } else { far.0 }
    };
    let set = |near| fabric.set_service(&ClusterName::root(), "default", "web", Some(spec(near)));
    set(true);
    let mut others = Vec::new();
    for last in 2..=5 {
        let mut other = client(Ipv4Addr::new(127, 0, 0, last), port).await;
        served(&mut other).await;
        others.push(other);
    }
    assert_eq!(left(&mut stranger), SHARE, "the pod here has room");
    set(false);
    let mut other = client(Ipv4Addr::new(127, 0, 0, 6), port).await;
    served(&mut other).await;
    eventually(async || (left(&mut stranger) == SHARE - 1).then_some(())).await;
}

#[tokio::test]
async fn who_has_most_of_a_full_way_is_refused_and_nobody_goes() {
    let (_fabric, port, mut stranger) = taken().await;
    let mut again = client(Ipv4Addr::LOCALHOST, port).await;
    let told = tokio::time::timeout(Duration::from_secs(5), again.read(&mut [0])).await.unwrap();
    assert_eq!(told.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(left(&mut stranger), SHARE);
}

//! Pods that have no socket more for a client of a node port.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::outside::{Elsewhere, client_of, few, left, node_port, served};
use super::*;
use crate::Listener;
use crate::made_room::IN_VAIN_FOR;

/// A Service with a node port that leads to this pod, once it is open; the port.
async fn opened(fabric: &Fabric, pod: &str) -> u16 {
    let port = node_port(fabric, pod).await;
    client_of(port).await;
    port
}

/// So many clients that were served, and what the guest has of them.
async fn clients(port: u16, listener: &Listener, count: usize) -> (Vec<TcpStream>, Vec<Conn>) {
    let (mut clients, mut held) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut client = client_of(port).await;
        let conn = listener.accept().await.unwrap();
        conn.tx.push(Bytes::from_static(b"x")).unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        clients.push(client);
        held.push(conn);
    }
    (clients, held)
}

/// Has a guest let those go that are reset.
fn let_go(held: Vec<Conn>) {
    for conn in held {
        tokio::spawn(async move {
            let _ = conn.into_io().read(&mut [0]).await;
        });
    }
}

/// The next client of this listener.
async fn next(listener: &Listener) -> Conn {
    tokio::time::timeout(Duration::from_secs(5), listener.accept()).await.unwrap().unwrap()
}

/// A pod of 64 sockets, as many as a node port has places.
fn small(fabric: &Fabric) -> Arc<PodNet> {
    add_small(fabric, "web", "10.64.0.1", 1 << 20)
}

#[tokio::test]
async fn a_pod_full_of_silent_clients_serves_the_next() {
    let fabric = fabric();
    let web = small(&fabric);
    echo(&web, 8080);
    let port = opened(&fabric, "10.64.0.1").await;
    let dial = || TcpStream::connect(("127.0.0.1", port));
    eventually(async || (web.sockets() == 1).then_some(())).await;
    let mut crowd = Vec::new();
    while web.sockets() < web.sockets_max() {
        let (before, mut client) = (web.sockets(), dial().await.unwrap());
        eventually(async || (before < web.sockets()).then_some(())).await;
        if crowd.is_empty() {
            served(&mut client).await;
        }
        crowd.push(client);
    }
    assert!(crowd.len() < 64, "there are places at the node port");
    served(&mut dial().await.unwrap()).await;
    served(&mut crowd[0]).await;
}

#[tokio::test]
async fn a_pod_that_lets_nobody_go_loses_one_client_at_a_time() {
    let fabric = fabric();
    let web = small(&fabric);
    let listener = web.listen(at("0.0.0.0:8080"), 64).unwrap();
    let port = opened(&fabric, "10.64.0.1").await;
    let dial = || TcpStream::connect(("127.0.0.1", port));
    drop(listener.accept().await.unwrap().into_io());
    // Its guest holds on to what it has: it computes for long.
    let (mut old, _held) = clients(port, &listener, 20).await;
    let own: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut crowd = Vec::new();
    for _ in 0..16 {
        crowd.push(dial().await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(left(&mut old), 19, "another one would have brought nobody in either");
    // They wait, and come in when it goes on.
    drop(own);
    next(&listener).await;
}

/// A node with the pod of [`small`], and one that has it behind a link.
fn nodes() -> [(Arc<Fabric>, Arc<PodNet>); 2] {
    let (here, near, there) = (fabric(), fabric(), fabric());
    let far = there.clone();
    near.set_remote(Arc::new(Elsewhere(move || {
        let (stream, end) = tokio::io::duplex(1024);
        let (client, pod) = (at("192.0.2.1:1"), at("10.64.0.1:8080"));
        let taken = far.accept_remote(&ClusterName::root(), client, pod, end);
        ready(taken.map(|()| Box::new(stream) as Box<dyn Stream>)).boxed()
    })));
    let (web, elsewhere) = (small(&here), small(&there));
    [(here, web), (near, elsewhere)]
}

#[tokio::test]
async fn who_has_no_socket_in_a_full_pod_any_more_does_not_go_for_it() {
    for (fabric, web) in nodes() {
        let listener = web.listen(at("0.0.0.0:8080"), 64).unwrap();
        let port = opened(&fabric, "10.64.0.1").await;
        drop(listener.accept().await.unwrap().into_io());
        let (_dead, ended) = clients(port, &listener, 3).await;
        ended.into_iter().for_each(|conn| drop(conn.into_io()));
        let (mut old, held) = clients(port, &listener, 20).await;
        let_go(held);
        let _own: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        next(&listener).await;
        assert_eq!(left(&mut old), 19);
    }
}

#[tokio::test]
async fn who_is_not_heard_any_more_and_has_a_socket_goes_for_a_full_pod() {
    for (fabric, web) in nodes() {
        let listener = web.listen(at("0.0.0.0:8080"), 64).unwrap();
        let port = opened(&fabric, "10.64.0.1").await;
        drop(listener.accept().await.unwrap().into_io());
        let (mut old, held) = clients(port, &listener, 20).await;
        held.iter().for_each(|conn| conn.rx.close_read());
        let_go(held);
        let _own: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        next(&listener).await;
        assert_eq!(left(&mut old), 19);
    }
}

#[tokio::test]
async fn a_place_that_somebody_else_takes_keeps_nobody_out_for_long() {
    let fabric = fabric();
    let web = small(&fabric);
    let listener = web.listen(at("0.0.0.0:8080"), 64).unwrap();
    let port = opened(&fabric, "10.64.0.1").await;
    drop(listener.accept().await.unwrap().into_io());
    let (mut old, held) = clients(port, &listener, 20).await;
    let mut own: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let _first = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    eventually(async || (left(&mut old) == 19).then_some(())).await;
    own.push({
        let_go(held);
        eventually(async || web.slot().ok()).await
    });
    tokio::time::sleep(IN_VAIN_FOR).await;
    let _second = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    next(&listener).await;
}

#[tokio::test]
async fn one_client_sends_one_away_however_many_pods_are_full() {
    let fabric = fabric();
    let port = node_port(&fabric, "10.64.0.1").await;
    let of = || service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    let set = |to| fabric.set_service(&ClusterName::root(), "default", "web", Some(to));
    let (mut all, mut old, mut kept) = (of(), Vec::new(), Vec::new());
    for pod in 1..=5 {
        let ip = format!("10.64.0.{pod}");
        let web = add_small(&fabric, &format!("web{pod}"), &ip, 1 << 20);
        let listener = web.listen(at("0.0.0.0:8080"), 64).unwrap();
        set(of().to(&ip, 8080).0);
        let (clients, held) = clients(port, &listener, 3).await;
        old.extend(clients);
        let own: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
        kept.push((listener, held, own));
        all = all.to(&ip, 8080);
    }
    set(all.0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(left(&mut old), 14);
}

#[tokio::test]
async fn nobody_is_sent_away_while_another_pod_has_room() {
    let fabric = fabric();
    let (web, spare) = (small(&fabric), add(&fabric, "spare", "10.64.0.2"));
    echo(&web, 8080);
    echo(&spare, 8080);
    let port = opened(&fabric, "10.64.0.1").await;
    let dial = || TcpStream::connect(("127.0.0.1", port));
    let mut old = Vec::new();
    for _ in 0..10 {
        let mut client = dial().await.unwrap();
        served(&mut client).await;
        old.push(client);
    }
    let _own: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
    let both = service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    let both = both.to("10.64.0.1", 8080).to("10.64.0.2", 8080).0;
    fabric.set_service(&ClusterName::root(), "default", "web", Some(both));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for _ in 0..10 {
        served(&mut dial().await.unwrap()).await;
    }
    for client in &mut old {
        served(client).await;
    }
}

/// The pod of [`few`] where there is one.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 64, 7, 7);

#[tokio::test]
async fn a_pod_elsewhere_that_has_no_more_sockets_serves_the_next() {
    let fabric = fabric();
    let places = Arc::new(Mutex::new(8));
    let left = places.clone();
    fabric.set_remote(Arc::new(Elsewhere(move || few(NetError::Full(FAR), &left))));
    let port = opened(&fabric, "10.64.7.7").await;
    let mut crowd = Vec::new();
    for _ in 0..8 {
        let before = *places.lock();
        let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        eventually(async || (before == 0 || *places.lock() < before).then_some(())).await;
        crowd.push(client);
    }
    served(&mut TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await;
}

/// Pods of other nodes, and how many sockets each has left.
struct Pods(HashMap<Ipv4Addr, Arc<Mutex<usize>>>);

impl Remote for Pods {
    fn connect(
        &self,
        _: &ClusterName,
        _: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Stream>, NetError>> {
        let pod: Ipv4Addr = to.ip().to_string().parse().unwrap();
        few(NetError::Full(pod), &self.0[&pod])
    }
}

#[tokio::test]
async fn nobody_is_sent_away_while_a_pod_elsewhere_has_room() {
    let fabric = fabric();
    let pods = [1, 2, 3, 4].map(|last| Ipv4Addr::new(10, 64, 7, last));
    let sockets = |count: usize| Arc::new(Mutex::new(count));
    let left = pods.map(|pod| (pod, sockets(if pod == pods[3] { 100 } else { 3 })));
    let full: Vec<_> = left[..3].iter().map(|(_, left)| left.clone()).collect();
    fabric.set_remote(Arc::new(Pods(left.into())));
    let port = node_port(&fabric, "10.64.7.1").await;
    let web = |pods: &[Ipv4Addr]| {
        let web = service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
        let web = pods.iter().fold(web, |web, pod| web.to(&pod.to_string(), 8080));
        fabric.set_service(&ClusterName::root(), "default", "web", Some(web.0));
    };
    web(&pods[..3]);
    let dial = || TcpStream::connect(("127.0.0.1", port));
    let mut old = vec![client_of(port).await];
    served(&mut old[0]).await;
    for _ in 1..9 {
        let mut client = dial().await.unwrap();
        served(&mut client).await;
        old.push(client);
    }
    assert!(full.iter().all(|left| *left.lock() == 0));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    web(&pods);
    for _ in 0..8 {
        served(&mut dial().await.unwrap()).await;
    }
    for client in &mut old {
        served(client).await;
    }
}

#[tokio::test]
async fn few_wait_for_a_full_pod_and_the_others_are_refused_at_once() {
    let fabric = fabric();
    fabric.set_remote(Arc::new(Elsewhere(|| few(NetError::Full(FAR), &Arc::default()))));
    let port = opened(&fabric, "10.64.7.7").await;
    let (refused, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..40 {
        let refused = refused.clone();
        tokio::spawn(async move {
            if let Ok(mut client) = TcpStream::connect(("127.0.0.1", port)).await {
                let _ = client.read(&mut [0]).await;
            }
            let _ = refused.send(());
        });
    }
    for _ in 0..20 {
        let at_once = tokio::time::timeout(Duration::from_secs(5), refusals.recv());
        assert_eq!(at_once.await, Ok(Some(())));
    }
}

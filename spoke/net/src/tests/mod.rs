//! The pod network's promises, from one pod's point of view.

mod answers;
mod bounds;
mod full_pods;
mod full_ways;
mod gates;
mod gone;
mod node_port_clients;
mod node_ports;
mod outside;
mod service_dial;
mod turns;

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::Protocol;
use freewheel_spoke_agent::ports::{Network as _, PodNetwork};
use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Handle;

use crate::testing::{pod, pod_in, service};
use crate::{Conn, Connecting, Fabric, NetError, PodNet, Remote, Stream};

/// As a stream of the link is that nobody stops.
impl Stream for tokio::io::DuplexStream {}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn fabric() -> Arc<Fabric> {
    Fabric::new(Handle::current())
}

fn add(fabric: &Fabric, name: &str, ip: &str) -> Arc<PodNet> {
    fabric.add_pod(pod(name, ip));
    fabric.pod(&format!("root-{name}")).unwrap()
}

/// A pod with this limit of memory.
fn add_small(fabric: &Fabric, name: &str, ip: &str, memory: u64) -> Arc<PodNet> {
    fabric.add_pod(PodNetwork { memory_limit: Some(memory), ..pod(name, ip) });
    fabric.pod(&format!("root-{name}")).unwrap()
}

fn connect(from: &PodNet, to: &str) -> Result<Conn, NetError> {
    match from.connect(None, at(to)) {
        Connecting::Now(outcome) => outcome,
        Connecting::Later(_) => panic!("{to} is not on this node"),
    }
}

/// Serves one port by sending back what comes in.
fn echo(pod: &Arc<PodNet>, port: u16) {
    let listener = pod.listen(at(&format!("0.0.0.0:{port}")), 256).unwrap();
    tokio::spawn(async move {
        while let Ok(conn) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(conn.into_io());
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn eventually<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap()
}

#[tokio::test]
async fn a_pod_reaches_another_by_address_and_is_seen_with_its_own() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let near = connect(&client, "10.64.0.1:80").unwrap();
    let far = listener.accept().await.unwrap();
    assert_eq!(near.peer, at("10.64.0.1:80"));
    assert_eq!(far.peer.ip().to_string(), "10.64.0.2");
    assert_eq!(far.local, at("10.64.0.1:80"));
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let fabric = fabric();
    let client = add(&fabric, "client", "10.64.0.2");
    add(&fabric, "idle", "10.64.0.1");
    assert_eq!(connect(&client, "10.64.0.1:80").err(), Some(NetError::Refused));
    assert_eq!(connect(&client, "10.64.0.99:80").err(), Some(NetError::Unreachable));
    assert_eq!(connect(&client, "10.128.0.99:80").err(), Some(NetError::Unreachable));
    assert_eq!(connect(&client, "93.184.216.34:80").err(), Some(NetError::Denied));
    assert_eq!(connect(&client, "[::1]:80").err(), Some(NetError::Refused));
    assert_eq!(connect(&client, "10.64.0.1:0").err(), Some(NetError::Invalid));
}

#[tokio::test]
async fn a_port_belongs_to_one_listener_until_it_is_dropped() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let first = web.listen(at("0.0.0.0:80"), 16).unwrap();
    assert_eq!(web.listen(at("10.64.0.1:80"), 16).err(), Some(NetError::InUse));
    assert_eq!(web.reserve(at("0.0.0.0:80")).err(), Some(NetError::InUse));
    assert_eq!(web.listen(at("10.64.0.7:81"), 16).err(), Some(NetError::NotBindable));
    drop(first);
    web.listen(at("0.0.0.0:80"), 16).unwrap();
}

#[tokio::test]
async fn loopback_stays_inside_of_the_pod() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let listener = web.listen(at("127.0.0.1:9000"), 16).unwrap();
    assert!(connect(&web, "127.0.0.1:9000").is_ok());
    assert!(listener.accept().await.unwrap().peer.ip().is_loopback());
    assert_eq!(connect(&client, "10.64.0.1:9000").err(), Some(NetError::Refused));
    assert_eq!(connect(&client, "127.0.0.1:9000").err(), Some(NetError::Refused));
}

#[tokio::test]
async fn half_a_connection_may_close() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    echo(&web, 80);
    let conn = connect(&client, "10.64.0.1:80").unwrap();
    assert_eq!(ask(conn.into_io(), "still answered").await, "still answered");
}

#[tokio::test]
async fn a_writer_waits_for_a_slow_reader_and_nothing_is_lost() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let mut near = connect(&client, "10.64.0.1:80").unwrap().into_io();
    let far = listener.accept().await.unwrap();
    let sent = vec![7; 3 * crate::PIPE_BYTES_MAX];
    let writing = tokio::spawn(async move { near.write_all(&sent).await });
    tokio::task::yield_now().await;
    assert!(!writing.is_finished());
    let mut all = Vec::new();
    far.into_io().read_to_end(&mut all).await.unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(all.len(), 3 * crate::PIPE_BYTES_MAX);
}

#[tokio::test]
async fn a_full_backlog_refuses() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let listener = web.listen(at("0.0.0.0:80"), 2).unwrap();
    let waiting: Vec<_> = (0..2).map(|_| connect(&client, "10.64.0.1:80").unwrap()).collect();
    assert_eq!(connect(&client, "10.64.0.1:80").err(), Some(NetError::Refused));
    drop(listener);
    assert_eq!(waiting[0].rx.pull(1), Err(crate::End::Reset));
}

#[tokio::test]
async fn a_pod_has_a_bounded_number_of_sockets() {
    let fabric = fabric();
    let client = add(&fabric, "client", "10.64.0.2");
    let held: Vec<_> = (0..crate::MAX_SOCKETS).map(|_| client.slot().unwrap()).collect();
    assert_eq!(connect(&client, "10.64.0.1:80").err(), Some(NetError::TooMany));
    assert!(client.listen(at("0.0.0.0:80"), 1).is_err());
    drop(held);
    assert_eq!(client.sockets(), 0);
}

#[tokio::test]
async fn a_graceful_stop_serves_what_waits_and_refuses_the_rest() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let _waiting = connect(&client, "10.64.0.1:80").unwrap();
    web.close_listeners();
    assert_eq!(connect(&client, "10.64.0.1:80").err(), Some(NetError::Refused));
    let _next = web.listen(at("0.0.0.0:80"), 16).unwrap();
    assert!(listener.accept().await.is_ok());
    assert!(listener.accept().await.is_err());
    drop(listener);
    assert!(connect(&client, "10.64.0.1:80").is_ok());
}

#[tokio::test]
async fn a_service_is_reached_by_its_address_and_by_its_names() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web-0", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    echo(&web, 8080);
    let spec = service("web").at("10.128.0.9").port(80).to("10.64.0.1", 8080);
    fabric.set_service(&ClusterName::root(), "default", "web", Some(spec.0));
    let conn = connect(&client, "10.128.0.9:80").unwrap();
    assert_eq!(conn.peer, at("10.128.0.9:80"));
    assert_eq!(ask(conn.into_io(), "hello").await, "hello");
    for name in ["web", "web.default", "web.default.svc", "WEB.default.svc.cluster.local."] {
        assert_eq!(client.resolve(name), Ok(vec![at("10.128.0.9:0").ip()]), "{name}");
    }
    assert_eq!(client.resolve("web.other"), Err(NetError::NameUnknown));
    assert_eq!(client.resolve("example.com"), Err(NetError::NameUnknown));
    fabric.set_service(&ClusterName::root(), "default", "web", None);
    assert_eq!(client.resolve("web"), Err(NetError::NameUnknown));
    assert_eq!(connect(&client, "10.128.0.9:80").err(), Some(NetError::Unreachable));
}

#[tokio::test]
async fn an_address_that_changed_hands_stays_with_its_new_service() {
    let fabric = fabric();
    let root = ClusterName::root();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    echo(&web, 8080);
    let spec = |name: &str| service(name).at("10.128.0.9").port(80).to("10.64.0.1", 8080).0;
    fabric.set_service(&root, "default", "old", Some(spec("old")));
    fabric.set_service(&root, "default", "new", Some(spec("new")));
    fabric.set_service(&root, "default", "old", None);
    assert!(connect(&client, "10.128.0.9:80").is_ok());
}

#[tokio::test]
async fn endpoints_change_in_one_step_and_connections_stay() {
    let fabric = fabric();
    let root = ClusterName::root();
    let client = add(&fabric, "client", "10.64.0.9");
    let (old, new) = (add(&fabric, "old", "10.64.0.1"), add(&fabric, "new", "10.64.0.2"));
    echo(&old, 8080);
    echo(&new, 8080);
    let web = || service("web").at("10.128.0.9").port(80);
    fabric.set_service(&root, "default", "web", Some(web().to("10.64.0.1", 8080).0));
    let mut early = connect(&client, "10.128.0.9:80").unwrap().into_io();
    fabric.set_service(&root, "default", "web", Some(web().to("10.64.0.2", 8080).0));
    early.write_all(b"old").await.unwrap();
    let mut answer = [0; 3];
    early.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"old");
    fabric.remove_pod("root-old");
    let late = connect(&client, "10.128.0.9:80").unwrap();
    assert_eq!(ask(late.into_io(), "new").await, "new");
    fabric.set_service(&root, "default", "web", Some(web().unready("10.64.0.2", 8080).0));
    assert_eq!(connect(&client, "10.128.0.9:80").err(), Some(NetError::Refused));
}

#[tokio::test]
async fn realms_with_the_same_addresses_and_names_do_not_meet() {
    let fabric = fabric();
    let site = ClusterName::try_from("pi-7").unwrap();
    let here = add(&fabric, "client", "10.64.0.2");
    fabric.add_pod(pod_in(&site, "web", "10.64.0.1"));
    fabric.add_pod(pod_in(&site, "client", "10.64.0.2"));
    let there = fabric.pod("pi-7-client").unwrap();
    echo(&fabric.pod("pi-7-web").unwrap(), 80);
    let spec = service("web").at("10.128.0.9").port(80).to("10.64.0.1", 80);
    fabric.set_service(&site, "default", "web", Some(spec.0));
    assert!(connect(&there, "10.64.0.1:80").is_ok());
    assert!(connect(&there, "10.128.0.9:80").is_ok());
    assert_eq!(connect(&here, "10.64.0.1:80").err(), Some(NetError::Unreachable));
    assert_eq!(connect(&here, "10.128.0.9:80").err(), Some(NetError::Unreachable));
    assert_eq!(here.resolve("web"), Err(NetError::NameUnknown));
}

#[tokio::test]
async fn names_of_headless_external_and_own_things() {
    let fabric = fabric();
    let root = ClusterName::root();
    let mut who = pod("db-0", "10.64.0.1");
    who.aliases = vec![("10.0.0.5".to_owned(), "printer.office".to_owned())];
    fabric.add_pod(who);
    let db = fabric.pod("root-db-0").unwrap();
    let spec = service("db").port(5432).endpoint("10.64.0.1", 5432, true, "db-0");
    let spec =
        spec.endpoint("10.64.0.3", 5432, true, "db-1").endpoint("10.64.0.4", 5432, false, "db-2");
    fabric.set_service(&root, "default", "db", Some(spec.0));
    let alias = service("store").named("db.default.svc.cluster.local");
    fabric.set_service(&root, "default", "store", Some(alias.0));
    let found = |name: &str| -> Vec<String> {
        db.resolve(name).unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    assert_eq!(found("db"), ["10.64.0.1", "10.64.0.3"]);
    assert_eq!(found("db-1.db"), ["10.64.0.3"]);
    assert_eq!(found("db-2.db"), [""; 0]);
    assert_eq!(found("store"), ["10.64.0.1", "10.64.0.3"]);
    assert_eq!(found("localhost"), ["127.0.0.1"]);
    assert_eq!(found("db-0"), ["10.64.0.1"]);
    assert_eq!(found("printer.office"), ["10.0.0.5"]);
    assert_eq!(found("10-64-0-3.default.pod.cluster.local"), ["10.64.0.3"]);
}

#[tokio::test]
async fn external_names_that_lead_in_circles_end() {
    let fabric = fabric();
    let client = add(&fabric, "client", "10.64.0.2");
    let circle = service("a").named("a.default.svc.cluster.local");
    fabric.set_service(&ClusterName::root(), "default", "a", Some(circle.0));
    assert_eq!(client.resolve("a"), Err(NetError::NameUnknown));
}

#[tokio::test]
async fn datagrams_through_a_service_are_answered_from_its_address() {
    let fabric = fabric();
    let (dns, client) = (add(&fabric, "dns", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let server = dns.bind_udp(at("0.0.0.0:5353")).unwrap();
    let spec =
        service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, None).to("10.64.0.1", 5353);
    fabric.set_service(&ClusterName::root(), "default", "dns", Some(spec.0));
    let socket = client.bind_udp(at("0.0.0.0:0")).unwrap();
    client.send_udp(&socket, at("10.128.0.9:53"), Bytes::from_static(b"who?")).unwrap();
    let (asked, from) = server.recv().await;
    assert_eq!((&asked[..], from.ip()), (&b"who?"[..], client.ip().into()));
    dns.send_udp(&server, from, Bytes::from_static(b"me")).unwrap();
    assert_eq!(socket.recv().await, (Bytes::from_static(b"me"), at("10.128.0.9:53")));
    assert_eq!(client.send_udp(&socket, at("8.8.8.8:53"), Bytes::new()), Err(NetError::Denied));
}

/// Two nodes in one process, joined by a duplex stream.
struct Wire(Arc<Fabric>);

impl Remote for Wire {
    fn connect(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> futures::future::BoxFuture<'static, Result<Box<dyn Stream>, NetError>> {
        let (near, far) = tokio::io::duplex(1024);
        let accepted = self.0.accept_remote(realm, from, to, far);
        async move { accepted.map(|()| Box::new(near) as Box<dyn Stream>) }.boxed()
    }

    fn send_datagram(
        &self,
        realm: &ClusterName,
        from: SocketAddrV4,
        to: SocketAddrV4,
        bytes: Bytes,
    ) {
        self.0.accept_datagram(realm, from, to, bytes);
    }
}

#[tokio::test]
async fn datagrams_reach_pods_on_another_node_and_are_answered_from_the_services_address() {
    let (here, there) = (fabric(), fabric());
    here.set_remote(Arc::new(Wire(there.clone())));
    there.set_remote(Arc::new(Wire(here.clone())));
    let client = add(&here, "client", "10.64.0.2");
    let dns = add(&there, "dns", "10.64.1.1");
    let server = dns.bind_udp(at("0.0.0.0:5353")).unwrap();
    let spec =
        service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, None).to("10.64.1.1", 5353);
    here.set_service(&ClusterName::root(), "default", "dns", Some(spec.0));
    for to in ["10.64.1.1:5353", "10.128.0.9:53"] {
        let socket = client.bind_udp(at("0.0.0.0:0")).unwrap();
        client.send_udp(&socket, at(to), Bytes::from_static(b"who?")).unwrap();
        let (asked, from) = server.recv().await;
        assert_eq!((&asked[..], from.ip()), (&b"who?"[..], client.ip().into()));
        dns.send_udp(&server, from, Bytes::from_static(b"me")).unwrap();
        assert_eq!(socket.recv().await, (Bytes::from_static(b"me"), at(to)));
    }
}

#[tokio::test]
async fn datagrams_from_another_node_stay_in_their_realm_and_go_no_further() {
    let (here, third) = (fabric(), fabric());
    here.set_remote(Arc::new(Wire(third.clone())));
    let dns = add(&here, "dns", "10.64.1.1");
    let server = dns.bind_udp(at("0.0.0.0:53")).unwrap();
    let elsewhere = add(&third, "dns", "10.64.2.1").bind_udp(at("0.0.0.0:53")).unwrap();
    let other = ClusterName::try_from("pi-7").unwrap();
    let send = |realm: &ClusterName, from: &str, to: &str| {
        let bytes = Bytes::from_static(b"who?");
        here.accept_datagram(realm, from.parse().unwrap(), to.parse().unwrap(), bytes);
    };
    send(&other, "10.64.0.2:4000", "10.64.1.1:53");
    send(&ClusterName::root(), "169.254.64.1:4000", "10.64.1.1:53");
    send(&ClusterName::root(), "10.64.0.2:4000", "10.64.2.1:53");
    assert_eq!((server.try_recv(), elsewhere.try_recv()), (None, None));
    send(&ClusterName::root(), "10.64.0.2:4000", "10.64.1.1:53");
    assert_eq!(server.try_recv(), Some((Bytes::from_static(b"who?"), at("10.64.0.2:4000"))));
}

#[tokio::test]
async fn a_pod_on_another_node_is_reached_through_the_link() {
    let (here, there) = (fabric(), fabric());
    here.set_remote(Arc::new(Wire(there.clone())));
    let client = add(&here, "client", "10.64.0.2");
    let web = add(&there, "web", "10.64.1.1");
    echo(&web, 80);
    let spec = service("web").at("10.128.0.9").port(80).to("10.64.1.1", 80);
    here.set_service(&ClusterName::root(), "default", "web", Some(spec.0));
    for to in ["10.64.1.1:80", "10.128.0.9:80"] {
        let conn = client.connect(None, at(to)).done().await.unwrap();
        assert_eq!(ask(conn.into_io(), "far").await, "far");
    }
    let nobody = client.connect(None, at("10.64.1.1:81")).done().await;
    assert_eq!(nobody.err(), Some(NetError::Refused));
    let nobody = client.connect(None, at("10.64.1.9:80")).done().await;
    assert_eq!(nobody.err(), Some(NetError::Unreachable));
}

#[tokio::test]
async fn port_forward_reaches_what_listens_on_loopback() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let _listener = web.listen(at("127.0.0.1:9000"), 16).unwrap();
    assert!(fabric.dial_pod("root-web", 9000).is_ok());
    assert_eq!(fabric.dial_pod("root-web", 9001).err(), Some(NetError::Refused));
    assert_eq!(fabric.dial_pod("gone", 9000).err(), Some(NetError::Unreachable));
}

#[tokio::test]
async fn what_broke_off_on_another_node_breaks_here_and_what_ended_ends() {
    use freewheel_link::memory_transport;
    use freewheel_link::transport::{Priority, Transport as _};
    use freewheel_spoke_agent::uplink::Duplex as _;
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let carried = async || {
        let (hub, here) = memory_transport::pair();
        let mut far = hub.open(Priority::Tunnels).await.unwrap();
        far.write_all(b"half").await.unwrap();
        let near = here.accept().await.unwrap();
        let from = at("10.64.7.7:9");
        let conn = fabric.dial_from_link(&ClusterName::root(), from, at("10.64.0.1:80")).unwrap();
        let carrying = tokio::spawn(async move {
            Box::new(conn).carry(near).await;
            drop((hub, here));
        });
        let mut pod = listener.accept().await.unwrap().into_io();
        pod.read_exact(&mut [0; 4]).await.unwrap();
        (far, pod, carrying)
    };
    let (far, mut pod, _carrying) = carried().await;
    drop(far);
    let broken = pod.read(&mut [0]).await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset, "the other side broke off");
    let (_far, mut pod, carrying) = carried().await;
    carrying.abort();
    assert!(pod.read(&mut [0]).await.is_err(), "its session ended");
    let (mut far, pod, carrying) = carried().await;
    pod.reset();
    assert!(far.read(&mut [0]).await.is_err(), "the pod broke off");
    carrying.await.unwrap();
    let (mut far, mut pod, carrying) = carried().await;
    far.shutdown().await.unwrap();
    assert_eq!(pod.read(&mut [0]).await.unwrap(), 0);
    pod.write_all(b"all").await.unwrap();
    pod.shutdown().await.unwrap();
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "all", "both have ended in order");
    carrying.await.unwrap();
}

#[tokio::test]
async fn what_is_carried_on_from_elsewhere_breaks_off_when_it_goes_too_early() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    for whole in [false, true] {
        let (realm, from) = (ClusterName::root(), at("10.64.9.9:4000"));
        let mut client = fabric.dial(&realm, from, at("10.64.0.1:80")).await.unwrap();
        client.write_all(b"half").await.unwrap();
        if whole {
            client.shutdown().await.unwrap();
        }
        // As of a task that is aborted.
        drop(client);
        let mut got = Vec::new();
        let end = listener.accept().await.unwrap().into_io().read_to_end(&mut got).await;
        assert_eq!((got.as_slice(), end.is_ok()), (&b"half"[..], whole));
    }
}

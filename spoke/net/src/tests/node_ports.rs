//! The ways in from the node's own address.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::message::SNAT_ADDRESS;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::Protocol;
use freewheel_spoke_agent::ports::Network as _;
use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use super::outside::{Elsewhere, client_of, free_port, node_port};
use super::{add, ask, at, echo, eventually, fabric};
use crate::testing::{pod, pod_in, service};
use crate::{Fabric, NetError, PodNet, Remote, Stream};

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
    let counted = async || {
        let gates = fabric.gates();
        let gate = gates.iter().find(|gate| gate.gate == "node_port")?;
        (gate.accepted == 1 && gate.open == 0 && gate.bytes == [5, 5].into()).then_some(())
    };
    eventually(counted).await;
    fabric.set_service(&root, "default", "web", None);
    eventually(async || dial().await.is_none().then_some(())).await;
}

#[tokio::test]
async fn a_door_outlives_a_change_of_its_service_and_connections_outlive_their_door() {
    let fabric = fabric();
    let pod = add(&fabric, "web", "10.64.0.1");
    echo(&pod, 8080);
    echo(&pod, 8081);
    let port = free_port().await;
    let web = || service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    let root = ClusterName::root();
    fabric.set_service(&root, "default", "web", Some(web().to("10.64.0.1", 8080).0));
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    let dial = || async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() };
    let mut held = eventually(async || dial().await).await;
    let mut byte = [7];
    held.write_all(&byte).await.unwrap();
    held.read_exact(&mut byte).await.unwrap();
    fabric.set_service(&root, "default", "web", Some(web().to("10.64.0.1", 8081).0));
    let stream = dial().await.expect("the door was never closed");
    assert_eq!(ask(stream, "hello").await, "hello");
    fabric.set_service(&root, "default", "web", None);
    eventually(async || dial().await.is_none().then_some(())).await;
    assert_eq!(ask(held, "still here").await, "still here");
}

#[tokio::test]
async fn doors_follow_the_address_of_the_node() {
    let fabric = fabric();
    echo(&add(&fabric, "web", "10.64.0.1"), 8080);
    let port = free_port().await;
    let web = service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    let root = ClusterName::root();
    fabric.set_service(&root, "default", "web", Some(web.to("10.64.0.1", 8080).0));
    let dial = |at: &'static str| async move { tokio::net::TcpStream::connect((at, port)).await };
    // No lease yet: an address that is no one's here, then the one that comes, then another.
    fabric.set_node("192.0.2.7".parse().unwrap(), "cluster.local");
    for (now, before) in [("127.0.0.1", None), ("127.0.0.9", Some("127.0.0.1"))] {
        fabric.set_node(now.parse().unwrap(), "cluster.local");
        let stream = eventually(async || dial(now).await.ok()).await;
        assert_eq!(ask(stream, "hello").await, "hello");
        if let Some(before) = before {
            eventually(async || dial(before).await.is_err().then_some(())).await;
        }
    }
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
    assert_eq!((problem.node_port.port, problem.owner.as_str()), (port, "pod/root-web"));
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
async fn whose_port_it_is_nobody_else_is_told() {
    let fabric = fabric();
    let port = free_port().await;
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    let vault = service("vault").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    fabric.set_service(&ClusterName::root(), "payments", "vault", Some(vault.0));
    let mut late = pod_in(&ClusterName::try_from("pi-7").unwrap(), "curious", "10.64.0.1");
    late.host_ports = vec![(port, 8080, false)];
    fabric.add_pod(late);
    let [problem] = &fabric.port_problems()[..] else { panic!("the port is another one's") };
    let told = format!("port {port} of the node is taken by another pod or Service");
    assert_eq!((problem.owner.as_str(), problem.error.as_ref()), ("pod/pi-7-curious", Some(&told)));
}

#[tokio::test]
async fn who_hears_of_a_port_that_cannot_be_opened_hears_when_that_is_over() {
    let fabric = fabric();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    fabric.on_port_problem(move |problem| heard.lock().push(problem.error.is_some()));
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut who = pod("web", "10.64.0.1");
    who.host_ports = vec![(taken.local_addr().unwrap().port(), 8080, false)];
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    fabric.add_pod(who);
    eventually(async || (*told.lock() == [true]).then_some(())).await;
    fabric.remove_pod("root-web");
    assert_eq!(*told.lock(), [true, false], "its pod may come back with another port");
}

#[tokio::test]
async fn a_udp_node_port_carries_answers_back() {
    let fabric = fabric();
    let dns = add(&fabric, "dns", "10.64.0.1");
    udp_echo(&dns, 5353);
    let port = free_port().await;
    let spec = service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, Some(port));
    fabric.set_service(&ClusterName::root(), "default", "dns", Some(spec.to("10.64.0.1", 5353).0));
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    let socket = client("127.0.0.1:0", at(&format!("127.0.0.1:{port}"))).await;
    assert_eq!(answer(&socket, "who?").await, "who?");
}

#[tokio::test]
async fn doors_of_datagrams_and_of_pods_follow_the_address_of_the_node() {
    let fabric = fabric();
    let (node_port, host_port, tcp) = (free_port().await, free_port().await, free_port().await);
    let mut who = pod("dns", "10.64.0.1");
    who.host_ports = vec![(host_port, 5353, true), (tcp, 8080, false)];
    fabric.add_pod(who);
    let dns = fabric.pod("root-dns").unwrap();
    udp_echo(&dns, 5353);
    echo(&dns, 8080);
    let spec = service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, Some(node_port));
    fabric.set_service(&ClusterName::root(), "default", "dns", Some(spec.to("10.64.0.1", 5353).0));
    fabric.set_node("192.0.2.7".parse().unwrap(), "cluster.local");
    for (now, before) in [("127.0.0.1", None), ("127.0.0.9", Some("127.0.0.1"))] {
        fabric.set_node(now.parse().unwrap(), "cluster.local");
        for port in [node_port, host_port] {
            let socket = client(&format!("{now}:0"), at(&format!("{now}:{port}"))).await;
            assert_eq!(answer(&socket, "who?").await, "who?");
        }
        let dial =
            |at: &'static str| async move { tokio::net::TcpStream::connect((at, tcp)).await };
        let stream = eventually(async || dial(now).await.ok()).await;
        assert_eq!(ask(stream, "hello").await, "hello");
        if let Some(before) = before {
            for port in [node_port, host_port] {
                // Nobody has it there any more.
                eventually(async || UdpSocket::bind((before, port)).await.ok()).await;
            }
            eventually(async || dial(before).await.is_err().then_some(())).await;
        }
    }
}

/// Sends every datagram back to where it came from.
fn udp_echo(pod: &Arc<PodNet>, port: u16) {
    let socket = pod.bind_udp(at(&format!("0.0.0.0:{port}"))).unwrap();
    let pod = pod.clone();
    tokio::spawn(async move {
        loop {
            let (bytes, from) = socket.recv().await;
            pod.send_udp(&socket, from, bytes).unwrap();
        }
    });
}

/// A client outside of the fleet that hears nobody but this node port.
async fn client(own: &str, node_port: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(own).await.unwrap();
    socket.connect(node_port).await.unwrap();
    socket
}

/// A way to other nodes that is known to be closed.
struct Closed;

impl Remote for Closed {
    fn connect(
        &self,
        _: &ClusterName,
        _: SocketAddr,
        _: SocketAddr,
    ) -> futures::future::BoxFuture<'static, Result<Box<dyn Stream>, NetError>> {
        std::future::pending().boxed()
    }

    fn link(&self) -> Option<u64> {
        None
    }
}

#[tokio::test]
async fn a_client_of_a_node_port_is_told_when_no_pod_can_be_reached_or_its_pod_breaks_off() {
    let fabric = fabric();
    fabric.set_remote(Arc::new(Closed));
    let port = free_port().await;
    let web = || service("web").at("10.128.0.9").any_port(80, Protocol::Tcp, Some(port));
    let root = ClusterName::root();
    fabric.set_service(&root, "default", "web", Some(web().to("10.64.1.1", 80).0));
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    let dial = || async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() };
    let mut client = eventually(async || dial().await).await;
    let told = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(told.kind(), std::io::ErrorKind::ConnectionReset);
    let listener = add(&fabric, "web", "10.64.0.1").listen(at("0.0.0.0:80"), 16).unwrap();
    let both = web().to("10.64.1.1", 80).to("10.64.0.1", 80).0;
    fabric.set_service(&root, "default", "web", Some(both));
    for _ in 0..4 {
        let mut client = dial().await.unwrap();
        let conn = listener.accept().await.unwrap();
        conn.reset();
        let told = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(told.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

/// Asks until something comes back, and answers with that.
async fn answer(socket: &UdpSocket, text: &str) -> String {
    let mut buffer = [0; 64];
    let length = eventually(async || {
        let _ = socket.send(text.as_bytes()).await;
        let wait = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut buffer));
        wait.await.ok()?.ok()
    });
    let length = length.await;
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Nodes and what a hub does between them: node `n` has the pods 10.64.n.0/24 and is 10.64.n.1 to others.
#[derive(Clone, Default)]
struct Nodes(Arc<Mutex<Vec<Weak<Fabric>>>>);

/// One node's link to them.
struct Link {
    nodes: Nodes,
    own: u8,
}

impl Nodes {
    fn add(&self) -> Arc<Fabric> {
        let fabric = fabric();
        let mut nodes = self.0.lock();
        let own = u8::try_from(nodes.len()).unwrap();
        fabric.set_remote(Arc::new(Link { nodes: self.clone(), own }));
        nodes.push(Arc::downgrade(&fabric));
        fabric
    }
}

impl Remote for Link {
    fn connect(
        &self,
        _: &ClusterName,
        _: SocketAddr,
        _: SocketAddr,
    ) -> futures::future::BoxFuture<'static, Result<Box<dyn Stream>, NetError>> {
        async { Err(NetError::Unreachable) }.boxed()
    }

    fn send_datagram(
        &self,
        realm: &ClusterName,
        mut from: SocketAddrV4,
        mut to: SocketAddrV4,
        bytes: Bytes,
    ) {
        let node = usize::from(to.ip().octets()[2]);
        let target = self.nodes.0.lock().get(node).and_then(Weak::upgrade);
        if *from.ip() == SNAT_ADDRESS {
            from.set_ip(Ipv4Addr::new(10, 64, self.own, 1));
        }
        if to.ip().octets()[3] == 1 {
            to.set_ip(SNAT_ADDRESS);
        }
        if let Some(target) = target {
            target.accept_datagram(realm, from, to, bytes);
        }
    }
}

#[tokio::test]
async fn a_udp_node_port_reaches_a_pod_on_another_node_and_each_client_hears_its_own_answers() {
    let nodes = Nodes::default();
    let [first, second, third] = [nodes.add(), nodes.add(), nodes.add()];
    udp_echo(&add(&third, "dns", "10.64.2.9"), 5353);
    let port = free_port().await;
    let mut clients = Vec::new();
    for (fabric, node) in [(&first, "127.0.0.1"), (&second, "127.0.0.2"), (&third, "127.0.0.3")] {
        let spec = service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, Some(port));
        let spec = spec.to("10.64.2.9", 5353).0;
        fabric.set_service(&ClusterName::root(), "default", "dns", Some(spec));
        fabric.set_node(node.parse().unwrap(), "cluster.local");
        // The same port of two hosts, and two ports of one host.
        let one = client("127.0.1.1:0", at(&format!("{node}:{port}"))).await;
        let same = format!("127.0.1.2:{}", one.local_addr().unwrap().port());
        clients.push(one);
        for own in [&same, "127.0.1.2:0"] {
            clients.push(client(own, at(&format!("{node}:{port}"))).await);
        }
    }
    // From the second round on all flows are open, each node's on the same ports of its own address.
    for _ in 0..3 {
        for (index, socket) in clients.iter().enumerate() {
            let text = format!("{index} asks");
            assert_eq!(answer(socket, &text).await, text);
        }
    }
}

#[tokio::test]
async fn what_other_pods_send_to_a_flow_of_a_node_port_does_not_reach_its_client() {
    let nodes = Nodes::default();
    let [here, there] = [nodes.add(), nodes.add()];
    let (dns, liar) = (add(&there, "dns", "10.64.1.9"), add(&there, "liar", "10.64.1.8"));
    let neighbour = add(&here, "neighbour", "10.64.0.8");
    let port = free_port().await;
    let spec = service("dns").at("10.128.0.9").any_port(53, Protocol::Udp, Some(port));
    here.set_service(&ClusterName::root(), "default", "dns", Some(spec.to("10.64.1.9", 5353).0));
    here.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    let server = dns.bind_udp(at("0.0.0.0:5353")).unwrap();
    let socket = client("127.0.0.1:0", at(&format!("127.0.0.1:{port}"))).await;
    let flow = eventually(async || {
        let _ = socket.send(b"who?").await;
        let wait = tokio::time::timeout(Duration::from_millis(100), server.recv());
        wait.await.ok().map(|(_, from)| from)
    });
    let flow = flow.await;
    assert_eq!(flow.ip().to_string(), "10.64.0.1", "the address of the client's node in the realm");
    let lie = Bytes::from_static(b"lie");
    let same_port = liar.bind_udp(at("0.0.0.0:5353")).unwrap();
    liar.send_udp(&same_port, flow, lie.clone()).unwrap();
    let other_port = dns.bind_udp(at("0.0.0.0:5354")).unwrap();
    dns.send_udp(&other_port, flow, lie.clone()).unwrap();
    let near = neighbour.bind_udp(at("0.0.0.0:5353")).unwrap();
    neighbour
        .send_udp(&near, SocketAddr::new(SNAT_ADDRESS.into(), flow.port()), lie.clone())
        .unwrap();
    let here_is = |from: &str| {
        let to = SocketAddrV4::new(SNAT_ADDRESS, flow.port());
        here.accept_datagram(&ClusterName::root(), from.parse().unwrap(), to, lie.clone());
    };
    here_is("10.64.1.8:5353");
    here_is("192.0.2.1:5353");
    dns.send_udp(&server, flow, Bytes::from_static(b"truth")).unwrap();
    let mut buffer = [0; 16];
    let wait = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer));
    let length = wait.await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"truth", "nothing overtakes here: the lies came first");
}

#[tokio::test]
async fn a_node_port_resets_its_client_when_the_pod_ends_before_its_time() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let listener = web.listen(at("0.0.0.0:8080"), 16).unwrap();
    let mut client = client_of(node_port(&fabric, "10.64.0.1").await).await;
    let conn = listener.accept().await.unwrap();
    conn.tx.push(Bytes::from_static(b"half")).unwrap();
    let mut half = [0; 4];
    client.read_exact(&mut half).await.unwrap();
    conn.tx.break_off();
    conn.rx.close_read();
    let end = client.read(&mut half).await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_node_port_full_of_silent_clients_serves_the_next() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    echo(&web, 8080);
    let port = node_port(&fabric, "10.64.0.1").await;
    let mut crowd = vec![client_of(port).await];
    // More than a node port carries in tests.
    while crowd.len() < 100 {
        crowd.push(client_of(port).await);
    }
    // The last one came in while all others said nothing.
    let mut last = crowd.pop().unwrap();
    last.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    tokio::time::timeout(Duration::from_secs(20), last.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn who_waits_for_a_silent_node_makes_room_like_any_other() {
    let fabric = fabric();
    fabric.set_remote(Arc::new(Elsewhere(|| futures::future::pending().boxed())));
    fabric.visits().set_limit(32);
    let port = node_port(&fabric, "10.64.7.7").await;
    let mut first = client_of(port).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(client_of(port).await);
    }
    // Long before a node is given up that does not answer.
    let mut byte = [0];
    let made_room = tokio::time::timeout(Duration::from_secs(8), first.read(&mut byte));
    assert!(!matches!(made_room.await.expect("it has to go"), Ok(1..)));
    assert!(fabric.visits().used() <= 32);
}

#[test]
fn node_ports_of_a_realm_that_open_at_once_have_one_gateway() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let fabric = Fabric::new(runtime.handle().clone());
    for round in 0..500 {
        let realm = fabric.realm(&ClusterName::try_from(format!("r{round}").as_str()).unwrap());
        let both = std::sync::Barrier::new(2);
        let [one, other] = std::thread::scope(|scope| {
            let open = || {
                scope.spawn(|| {
                    both.wait();
                    realm.gateway()
                })
            };
            [open(), open()].map(|opens| opens.join().unwrap())
        });
        assert!(Arc::ptr_eq(&one, &other), "answers to one of them reach nobody");
    }
}

#[tokio::test]
async fn a_node_has_no_more_ports_open_than_it_has_descriptors_for() {
    let fabric = fabric();
    echo(&add(&fabric, "web", "10.64.0.1"), 8080);
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    fabric.listening().set_limit(2);
    let root = ClusterName::root();
    let mut opened = Vec::new();
    for (name, vip, protocol) in [
        ("tcp", "10.128.0.7", Protocol::Tcp),
        ("udp", "10.128.0.8", Protocol::Udp),
        ("late", "10.128.0.9", Protocol::Tcp),
    ] {
        let port = free_port().await;
        let spec = service(name).at(vip).any_port(80, protocol, Some(port));
        fabric.set_service(&root, "default", name, Some(spec.to("10.64.0.1", 8080).0));
        opened.push(port);
        let used = opened.len().min(2);
        eventually(async || (fabric.listening().used() == used).then_some(())).await;
    }
    drop(client_of(opened[0]).await);
    let problem = eventually(async || fabric.port_problems().pop()).await;
    assert_eq!(problem.node_port.port, opened[2]);
    let error = problem.error.unwrap();
    assert!(error.contains("the node has 2 ports open, as many as it may"), "{error}");
    fabric.set_service(&root, "default", "udp", None);
    let stream = client_of(opened[2]).await;
    assert_eq!(ask(stream, "hello").await, "hello");
    eventually(async || fabric.port_problems().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_service_leaves_node_ports_for_others() {
    let fabric = fabric();
    echo(&add(&fabric, "web", "10.64.0.1"), 8080);
    fabric.set_node("127.0.0.1".parse().unwrap(), "cluster.local");
    fabric.listening().set_limit(8);
    let root = ClusterName::root();
    let mut greedy = service("greedy").at("10.128.0.7");
    for number in 0..8 {
        greedy = greedy.any_port(80 + number, Protocol::Tcp, Some(free_port().await));
    }
    fabric.set_service(&root, "default", "greedy", Some(greedy.to("10.64.0.1", 8080).0));
    eventually(async || (fabric.port_problems().len() == 4).then_some(())).await;
    assert_eq!(fabric.listening().used(), 4);
    let error = fabric.port_problems().pop().unwrap().error.unwrap();
    assert!(error.contains("/default/greedy has 4 ports of the node open"), "{error}");
    // Another Service of the same cluster, and then the greedy one when there are more.
    let port = free_port().await;
    let other = service("other").at("10.128.0.8").any_port(80, Protocol::Tcp, Some(port));
    fabric.set_service(&root, "default", "other", Some(other.to("10.64.0.1", 8080).0));
    assert_eq!(ask(client_of(port).await, "hello").await, "hello");
    fabric.listening().set_limit(100);
    eventually(async || fabric.port_problems().is_empty().then_some(())).await;
    assert_eq!(fabric.listening().used(), 9);
}

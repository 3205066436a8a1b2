//! What clients that do not read may make the node hold, wherever they are.

use std::io::IoSlice;

use super::outside::Elsewhere;
use super::*;
use crate::receive_memory::PIECE_OVERHEAD_BYTES;
use crate::{PIPE_BYTES_MAX, POD_RECEIVE_BYTES_MAX, ReceiveMemory};

/// What one connection still gets when the budget is used up, with what its pieces cost.
const LITTLE: usize = 16 << 10;

/// Writes to every client until nothing more is taken.
fn flood(pod: &Arc<PodNet>, port: u16) {
    let listener = pod.listen(at(&format!("0.0.0.0:{port}")), 4096).unwrap();
    tokio::spawn(async move {
        while let Ok(conn) = listener.accept().await {
            tokio::spawn(async move {
                let mut io = conn.into_io();
                while io.write_all(&[7; 4096]).await.is_ok() {}
            });
        }
    });
}

/// Waits until the node holds no more than a moment ago.
async fn settled(fabric: &Fabric) -> usize {
    let mut before = usize::MAX;
    eventually(async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = fabric.account().used();
        (std::mem::replace(&mut before, now) == now).then_some(now)
    })
    .await
}

#[tokio::test]
async fn slow_clients_from_outside_share_the_budget_of_the_pod_that_serves_them() {
    let fabric = fabric();
    let root = ClusterName::root();
    let web = add(&fabric, "web", "10.64.0.1");
    flood(&web, 80);
    let mut clients = Vec::new();
    for port in 1..=500 {
        let from = SocketAddr::new([192, 0, 2, 1].into(), port);
        clients.push(fabric.dial(&root, from, at("10.64.0.1:80")).await.unwrap());
    }
    let held = settled(&fabric).await;
    assert!(
        PIPE_BYTES_MAX < held && held < POD_RECEIVE_BYTES_MAX + 500 * LITTLE,
        "{held} bytes are held"
    );
    assert_eq!(web.account().used(), held, "it is the pod that they are held for");
    let mut first = [0; 100_000];
    clients[499].read_exact(&mut first).await.unwrap();
    drop(clients);
    eventually(async || (fabric.account().used() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_pod_of_little_memory_has_few_sockets_and_a_small_budget() {
    let fabric = fabric();
    let web = add_small(&fabric, "web", "10.64.0.1", 4 << 20);
    let slots: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
    assert_eq!(slots.len(), 256);
}

#[tokio::test]
async fn a_crowd_leaves_a_place_for_the_node_itself() {
    let fabric = fabric();
    let web = add_small(&fabric, "web", "10.64.0.1", 1 << 20);
    let listener = web.listen(at("0.0.0.0:80"), 4096).unwrap();
    let crowd: Vec<_> = std::iter::from_fn(|| web.slot().ok()).collect();
    let outside = fabric.dial(&ClusterName::root(), at("192.0.2.1:1"), at("10.64.0.1:80")).await;
    assert_eq!(outside.err(), Some(NetError::Full(web.ip())));
    let forwards: Vec<_> =
        std::iter::from_fn(|| fabric.forward_to_pod("root-web", 80).ok()).collect();
    assert!((1..32).contains(&forwards.len()), "{}", forwards.len());
    assert!(fabric.probe_pod("root-web", 80).is_ok(), "whoever forwards leaves probes a place");
    drop((crowd, listener));
}

#[tokio::test]
async fn datagrams_that_nobody_reads_are_within_one_budget_for_all_ports_of_a_pod() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let from = client.bind_udp(at("0.0.0.0:0")).unwrap();
    let ports: Vec<_> = (0..100).map(|_| web.bind_udp(at("0.0.0.0:0")).unwrap()).collect();
    for port in &ports {
        let to = SocketAddr::new(web.ip().into(), port.address().port());
        for _ in 0..20 {
            client.send_udp(&from, to, Bytes::from(vec![7; 60_000])).unwrap();
        }
    }
    let held = fabric.account().used();
    assert!(
        POD_RECEIVE_BYTES_MAX / 2 < held && held <= POD_RECEIVE_BYTES_MAX,
        "{held} bytes are held"
    );
    let (bytes, _) = ports[0].try_recv().unwrap();
    assert_eq!(bytes.len(), 60_000);
    drop(ports);
    assert_eq!(fabric.account().used(), 0);
}

#[tokio::test]
async fn flows_of_datagrams_count_too() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let ports: Vec<_> = (0..200).map(|_| web.bind_udp(at("0.0.0.0:0")).unwrap()).collect();
    for port in &ports {
        for service in 0..2000_u16 {
            let [high, low] = service.to_be_bytes();
            let service = SocketAddr::new([10, 128, high, low].into(), 53);
            port.choose(service, at("10.64.0.9:53"));
        }
    }
    assert!(fabric.account().used() <= POD_RECEIVE_BYTES_MAX, "{}", fabric.account().used());
    drop(ports);
    assert_eq!(fabric.account().used(), 0);
}

#[tokio::test]
async fn a_port_that_was_full_holds_nothing_when_it_was_read() {
    let fabric = fabric();
    let (web, client) = (add(&fabric, "web", "10.64.0.1"), add(&fabric, "client", "10.64.0.2"));
    let (from, port) =
        (client.bind_udp(at("0.0.0.0:0")).unwrap(), web.bind_udp(at("0.0.0.0:53")).unwrap());
    for round in 0..2 {
        for _ in 0..1000 {
            client.send_udp(&from, at("10.64.0.1:53"), Bytes::from_static(b"x")).unwrap();
        }
        let held = fabric.account().used();
        // Each has a place in the queue beside what it costs by itself.
        let each = size_of::<(Bytes, SocketAddr)>() + PIECE_OVERHEAD_BYTES;
        assert!(1000 * each < held, "{held} bytes in round {round}");
        assert_eq!(std::iter::from_fn(|| port.try_recv()).count(), 1000);
        assert_eq!(fabric.account().used(), 0);
    }
    // The same of one that nobody reads.
    for _ in 0..1000 {
        client.send_udp(&from, at("10.64.0.1:53"), Bytes::from_static(b"x")).unwrap();
    }
    drop(port);
    assert_eq!(fabric.account().used(), 0);
}

#[tokio::test]
async fn what_is_written_from_several_places_is_one_piece() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let listener = web.listen(at("127.0.0.1:80"), 16).unwrap();
    let mut near = connect(&web, "127.0.0.1:80").unwrap().into_io();
    let far = listener.accept().await.unwrap();
    assert!(near.is_write_vectored());
    let words = ["head ", "", "body ", "end"].map(|word| IoSlice::new(word.as_bytes()));
    assert_eq!(near.write_vectored(&words).await.unwrap(), 13);
    assert_eq!(far.rx.pull(100), Ok(Some(Bytes::from_static(b"head body end"))));
    // No more of it than there is room for.
    let large = vec![7; PIPE_BYTES_MAX];
    let both = [IoSlice::new(&large), IoSlice::new(&large)];
    assert_eq!(near.write_vectored(&both).await.unwrap(), PIPE_BYTES_MAX);
    assert_eq!(far.rx.pull(usize::MAX).unwrap().unwrap().len(), PIPE_BYTES_MAX);
}

#[tokio::test]
async fn what_waits_for_another_node_is_on_the_sender_s_account_and_in_no_buffer_of_ours() {
    let fabric = fabric();
    let client = add(&fabric, "client", "10.64.0.2");
    // A link that takes one piece and then nothing.
    let (near, far) = tokio::io::duplex(1000);
    let near = parking_lot::Mutex::new(Some(near));
    let once = move || {
        let stream = near.lock().take().ok_or(NetError::Refused);
        async move { stream.map(|stream| Box::new(stream) as Box<dyn Stream>) }.boxed()
    };
    fabric.set_remote(Arc::new(Elsewhere(once)));
    let Connecting::Later(dial) = client.connect(None, at("10.64.7.7:80")) else {
        panic!("it is on no other node")
    };
    let mut io = dial.await.unwrap().into_io();
    let writing = tokio::spawn(async move { io.write_all(&vec![7; 2 * PIPE_BYTES_MAX]).await });
    let held = settled(&fabric).await;
    let most = PIPE_BYTES_MAX + LITTLE;
    assert!((PIPE_BYTES_MAX - (64 << 10)..=most).contains(&held), "{held} bytes are held");
    assert_eq!(client.account().used(), held);
    drop(far);
    let _ = writing.await;
    eventually(async || (fabric.account().used() == 0).then_some(())).await;
}

/// A stream of the link that always has more to say.
struct Flood;

impl Stream for Flood {}

impl tokio::io::AsyncRead for Flood {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        buf.put_slice(&vec![7; buf.remaining()]);
        std::task::Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Flood {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_a_deaf_pod_leaves_in_the_link_is_on_its_account() {
    let window = freewheel_link::limits::STREAM_WINDOW_BYTES;
    let fabric = fabric();
    let flooded = || async { Ok(Box::new(Flood) as Box<dyn Stream>) }.boxed();
    fabric.set_remote(Arc::new(Elsewhere(flooded)));
    let (deaf, root) = (add(&fabric, "deaf", "10.64.0.1"), ClusterName::root());
    let listener = deaf.listen(at("0.0.0.0:80"), 64).unwrap();
    let mut conns = Vec::new();
    for port in 1..=20 {
        let from = SocketAddr::new([10, 64, 7, 7].into(), port);
        fabric.accept_remote(&root, from, at("10.64.0.1:80"), Flood).unwrap();
        conns.push(listener.accept().await.unwrap());
        let Connecting::Later(dial) = deaf.connect(None, at("10.64.7.7:80")) else { panic!() };
        conns.push(dial.await.unwrap());
    }
    let held = settled(&fabric).await;
    assert!(POD_RECEIVE_BYTES_MAX / 2 + 40 * window <= held, "{held} bytes are counted");
    assert_eq!(deaf.account().used(), held);
    for conn in &conns {
        conn.rx.close_read();
        conn.tx.reset();
    }
    drop((conns, listener));
    eventually(async || (fabric.account().used() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_pod_that_has_read_leaves_nothing_in_the_link() {
    const MORE_THAN_A_PIPE: usize = PIPE_BYTES_MAX + (44 << 10);
    let window = freewheel_link::limits::STREAM_WINDOW_BYTES;
    let fabric = fabric();
    let mut who = pod("web", "10.64.0.1");
    who.memory_limit = Some(16 << 20);
    fabric.add_pod(who);
    let web = fabric.pod("root-web").unwrap();
    let listener = web.listen(at("0.0.0.0:80"), 64).unwrap();
    let mut uploads = Vec::new();
    // More of them than may leave a window unread.
    for port in 1..=40 {
        let (near, far) = tokio::io::duplex(1 << 20);
        let from = SocketAddr::new([10, 64, 7, 7].into(), port);
        fabric.accept_remote(&ClusterName::root(), from, at("10.64.0.1:80"), near).unwrap();
        uploads.push((far, listener.accept().await.unwrap().into_io()));
    }
    for _ in 0..2 {
        for (far, upload) in &mut uploads {
            far.write_all(&[7; MORE_THAN_A_PIPE]).await.unwrap();
            let full = || PIPE_BYTES_MAX + window <= web.account().used();
            eventually(async || full().then_some(())).await;
            upload.read_exact(&mut [0; MORE_THAN_A_PIPE]).await.unwrap();
            eventually(async || (web.account().used() == 0).then_some(())).await;
        }
    }
}

#[tokio::test]
async fn what_waits_in_the_kernel_is_no_window() {
    let fabric = fabric();
    let deaf = add_small(&fabric, "deaf", "10.64.0.1", 1 << 20);
    let client = add(&fabric, "client", "10.64.0.2");
    let listener = deaf.listen(at("0.0.0.0:80"), 64).unwrap();
    let near = connect(&client, "10.64.0.1:80").unwrap();
    let _far = listener.accept().await.unwrap();
    let upload = tokio::spawn(async move {
        crate::bridge::carry(&near.into_tunnel(), &mut Flood, 0, std::future::pending()).await
    });
    settled(&fabric).await;
    let mut conns = Vec::new();
    for port in 1..=3 {
        let from = SocketAddr::new([10, 64, 7, 7].into(), port);
        fabric.accept_remote(&ClusterName::root(), from, at("10.64.0.1:80"), Flood).unwrap();
        conns.push(listener.accept().await.unwrap());
    }
    let broken = || conns.iter().any(|conn| conn.rx.front().is_err());
    eventually(async || broken().then_some(())).await;
    assert!(!upload.is_finished(), "it goes for what waits in streams of the link");
}

#[tokio::test]
async fn what_crosses_a_node_shares_one_budget() {
    let fabric = fabric();
    let transit = ReceiveMemory::new(fabric.account().clone());
    let side = |address: &str| crate::conn::Side {
        address: at(address),
        waiting: None,
        slot: None,
        gates: crate::gates::Gates::NONE,
        kept: 0,
    };
    let pair = || {
        let ends =
            Conn::pair(side("192.0.2.1:1"), at("10.64.7.7:80"), side("10.64.7.7:80"), &transit);
        while let Ok(room @ 1..) = ends.0.tx.room() {
            ends.0.tx.push(Bytes::from(vec![7; room])).unwrap();
        }
        ends
    };
    let pairs: Vec<_> = (0..500).map(|_| pair()).collect();
    assert!(transit.bytes() < POD_RECEIVE_BYTES_MAX + 500 * LITTLE, "{}", transit.bytes());
    drop(pairs);
    assert_eq!(fabric.account().used(), 0);
}

#[tokio::test]
async fn a_pod_that_answers_and_leaves_is_heard_to_the_end() {
    let fabric = fabric();
    let web = add(&fabric, "web", "10.64.0.1");
    let listener = web.listen(at("0.0.0.0:80"), 16).unwrap();
    let (near, mut far) = tokio::io::duplex(1000);
    let (root, from) = (ClusterName::root(), at("10.64.7.7:9"));
    fabric.accept_remote(&root, from, at("10.64.0.1:80"), near).unwrap();
    let mut io = listener.accept().await.unwrap().into_io();
    io.write_all(&[7; 200_000]).await.unwrap();
    // It leaves with a request unread, and the client goes on to send.
    drop(io);
    far.write_all(b"not heard").await.unwrap();
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 200_000);
    // Whoever goes on once all was said is told that nobody listens.
    let told = async { while far.write_all(b"still").await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
}

#[tokio::test]
async fn what_strangers_send_leaves_a_small_pod_most_of_its_memory() {
    for limit in [1, 16, 64] {
        let (fabric, limit) = (fabric(), limit << 20);
        let web = add_small(&fabric, "web", "10.64.0.1", limit);
        let _listener = web.listen(at("0.0.0.0:80"), 4096).unwrap();
        let (udp, to_udp) = (web.bind_udp(at("0.0.0.0:53")).unwrap(), at("10.64.0.1:53"));
        let mut crowd = Vec::new();
        loop {
            let from = SocketAddr::new([192, 0, 2, 1].into(), 1);
            let to = at("10.64.0.1:80");
            let Ok(mut client) = fabric.dial(&ClusterName::root(), from, to).await else { break };
            // Nobody reads: what it may write it can write at once.
            let write = client.write_all(&[7; 32 << 10]);
            assert!(futures::FutureExt::now_or_never(write).is_none_or(|done| done.is_ok()));
            crowd.push(client);
        }
        assert!(60 < crowd.len(), "{} connections", crowd.len());
        for _ in 0..1000 {
            web.send_udp(&udp, to_udp, Bytes::from(vec![7; 60_000])).unwrap();
        }
        let (held, limit) = (web.account().used(), usize::try_from(limit).unwrap());
        assert!(held <= limit / 2, "{held} of {limit} bytes, {} connections", crowd.len());
    }
}

//! Connections between pods: how many, and what breaks off.

use super::*;

/// Takes every stream and keeps it.
async fn handle_all(hub: Arc<dyn Transport>) {
    let mut kept = Vec::new();
    while let Ok(stream) = hub.accept().await {
        let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
        let opened = recv.next::<Open>().await;
        if opened.is_ok() && frame::write(&mut send, &Answer::Ready).await.is_ok() {
            kept.push((send, recv));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_before_a_node_port_has_hundreds_of_connections() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let _session = welcome(&hub).await;
    up(&mut bench).await;
    tokio::spawn(handle_all(hub));
    let from = async |from: &str| {
        let (from, to) = (from.parse().unwrap(), "10.64.1.2:80".parse().unwrap());
        bench.handle.tunnel(TunnelV1 { realm: ClusterName::root(), from, to }).await
    };
    let mut open = Vec::new();
    while let Ok(stream) = from(&format!("192.168.1.9:{}", 4000 + open.len())).await {
        open.push(stream);
    }
    assert!((200..300).contains(&open.len()), "{} are open", open.len());
    assert!(from("10.64.0.3:4000").await.is_ok() && from("192.168.1.10:4000").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_pod_leaves_places_for_others_of_its_device() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let _session = welcome(&hub).await;
    up(&mut bench).await;
    tokio::spawn(handle_all(hub));
    let from = async |from: &str| {
        let (from, to) = (from.parse().unwrap(), "10.64.1.2:80".parse().unwrap());
        bench.handle.tunnel(TunnelV1 { realm: ClusterName::root(), from, to }).await
    };
    let mut idle = Vec::new();
    let refused = loop {
        match from(&format!("10.64.0.2:{}", 4000 + idle.len())).await {
            Ok(stream) => idle.push(stream),
            Err(super::super::FetchError::NoPlace(refusal)) => break refusal,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(refused.reason, "TooManyRequests", "{refused}");
    assert!(from("10.64.0.3:4000").await.is_ok(), "{} are held: {refused}", idle.len());
    assert!(refused.message.contains("connections of 10.64.0.2"), "{refused}");
}

/// A pod whose connection is the given one, and a log that breaks.
struct Broken(Mutex<Option<Told>>);

/// Tells when it is dropped before it was shut down.
struct Told {
    io: tokio::io::DuplexStream,
    ended: bool,
    reset: mpsc::UnboundedSender<()>,
}

impl AsyncRead for Told {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Told {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.ended = true;
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.reset.send(());
        }
    }
}

#[async_trait]
impl Serve for Broken {
    async fn logs(&self, _request: LogsV1) -> Result<LogStream, RefusalV1> {
        Ok(Box::new((&b"line"[..]).chain(Fails)))
    }

    async fn tunnel(&self, _request: TunnelV1) -> Result<Box<dyn Duplex>, RefusalV1> {
        Ok(Box::new(Piped(self.0.lock().take().unwrap())))
    }
}

/// Bytes that end with an error.
struct Fails;

impl AsyncRead for Fails {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::ErrorKind::Other.into()))
    }
}

/// A stream that the hub has opened, answered, to what `serve` serves.
async fn served(
    serve: Broken,
    open: Open,
) -> (
    Box<dyn SendHalf>,
    Reader,
    (Arc<MemoryTransport>, Arc<MemoryTransport>, tokio::task::AbortHandle),
) {
    let (hub, spoke) = memory_transport::pair();
    let mut stream = hub.open(Priority::Logs).await.unwrap();
    frame::write(&mut stream.send, &open).await.unwrap();
    let taken = spoke.accept().await.unwrap();
    let serving = super::super::streams::serve_stream(taken, Arc::new(serve), Arc::default());
    let serving = tokio::spawn(serving).abort_handle();
    let mut recv = FrameReader::new(stream.recv);
    assert_eq!(soon(recv.next::<Answer>()).await.unwrap(), Some(Answer::Ready));
    (stream.send, recv, (hub, spoke, serving))
}

#[tokio::test(start_paused = true)]
async fn what_broke_off_breaks_on_the_other_side_too() {
    let reset =
        |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (_send, mut recv, _links) =
        served(Broken(Mutex::default()), Open::Logs(LogsV1::default())).await;
    let mut text = String::new();
    reset(soon(recv.read_to_string(&mut text)).await.unwrap_err());

    let address = "10.64.0.2:80".parse().unwrap();
    let tunnel =
        || Open::Tunnel(TunnelV1 { realm: ClusterName::root(), from: address, to: address });
    let (reset_seen, mut resets) = mpsc::unbounded_channel();
    let (io, _pod) = tokio::io::duplex(64);
    let told = Told { io, ended: false, reset: reset_seen };
    let (send, _recv, _links) = served(Broken(Mutex::new(Some(told))), tunnel()).await;
    drop(send);
    assert_eq!(soon(resets.recv()).await, Some(()), "the client broke off");

    let (reset_seen, mut resets) = mpsc::unbounded_channel();
    let (io, _pod) = tokio::io::duplex(64);
    let told = Told { io, ended: false, reset: reset_seen };
    let (_send, _recv, links) = served(Broken(Mutex::new(Some(told))), tunnel()).await;
    links.2.abort();
    assert_eq!(soon(resets.recv()).await, Some(()), "the session ended");

    let (reset_seen, mut resets) = mpsc::unbounded_channel();
    let (io, pod) = tokio::io::duplex(64);
    let told = Told { io, ended: false, reset: reset_seen };
    let (mut send, mut recv, _links) = served(Broken(Mutex::new(Some(told))), tunnel()).await;
    send.shutdown().await.unwrap();
    drop(pod);
    soon(recv.read_to_string(&mut text)).await.unwrap();
    assert_eq!(soon(resets.recv()).await, None, "both have ended in order");
}

/// What a stream is answered with what is in use already.
async fn answered(budget: &Arc<Budget>, open: &Open) -> Answer {
    let (hub, spoke) = memory_transport::pair();
    let mut stream = hub.open(Priority::Logs).await.unwrap();
    frame::write(&mut stream.send, open).await.unwrap();
    let taken = spoke.accept().await.unwrap();
    tokio::spawn(super::super::streams::serve_stream(taken, Arc::new(Echo), budget.clone()));
    soon(FrameReader::new(stream.recv).next::<Answer>()).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_kind_keep_no_other_out() {
    let logs = Open::Logs(LogsV1 { container: "web".into(), ..LogsV1::default() });
    let address = "10.64.0.2:80".parse().unwrap();
    let tunnel = Open::Tunnel(TunnelV1 { realm: ClusterName::root(), from: address, to: address });
    for (full, of, other) in [
        (&logs, Use::Logs(PodClient::default()), &tunnel),
        (&tunnel, Use::Tunnel(ClusterName::root(), None), &logs),
    ] {
        let budget = Arc::new(Budget::default());
        let mut places = Vec::new();
        while let Ok(place) = budget.take(of.clone()) {
            places.push(place);
        }
        let refused = answered(&budget, full).await;
        assert!(matches!(refused, Answer::Refused(_)), "{of:?}: {refused:?}");
        assert_eq!(answered(&budget, other).await, Answer::Ready, "{of:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_to_one_realms_pods_keep_no_others_out() {
    let of = |realm: &str| {
        let realm = ClusterName::try_from(realm).unwrap();
        PodClient { realm: Some(realm), principal: None }
    };
    let budget = Arc::new(Budget::default());
    let mut places = Vec::new();
    for of in [Use::Logs(of("pi-7")), Use::PodStream(of("pi-7"))] {
        while let Ok(place) = budget.take(of.clone()) {
            places.push(place);
        }
    }
    let logs = |pod_uid: &str| {
        Open::Logs(LogsV1 { container: "web".into(), pod_uid: pod_uid.into(), ..LogsV1::default() })
    };
    let forward =
        |pod_uid: &str| Open::PortForward(PortForwardV1 { pod_uid: pod_uid.into(), port: 80 });
    let told = async |open: Open| match answered(&budget, &open).await {
        Answer::Ready => String::new(),
        Answer::Refused(refusal) => refusal.message,
    };
    assert!(told(logs("pi-7")).await.contains("of pods of pi-7: as many as there may be"));
    assert_eq!(told(logs("root")).await, "");
    assert!(told(forward("pi-7")).await.contains("of pods of pi-7: as many as there may be"));
    // It has a place, and nobody who serves it.
    assert_eq!(told(forward("root")).await, "this spoke does not serve that");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_the_hub_has_given_away_again_is_waited_for() {
    let of = PodClient { realm: Some(ClusterName::root()), principal: None };
    let budget = Arc::new(Budget::default());
    let mut places = Vec::new();
    while let Ok(place) = budget.take(Use::PodStream(of.clone())) {
        places.push(place);
    }
    let ends = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        places.pop();
    };
    let open = Open::PortForward(PortForwardV1 { pod_uid: "root".into(), port: 80 });
    let (answer, ()) = tokio::join!(answered(&budget, &open), ends);
    // It has a place, and nobody who serves it.
    let Answer::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.message, "this spoke does not serve that");
}

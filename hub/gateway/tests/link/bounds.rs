//! What somebody may hold or cost who is not let in, or who asks for the same thing again and again.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use freewheel_link::join::RenewRequestV1;
use freewheel_link::limits;
use freewheel_link::message::{RefusalV1, RenewV1, RenewedV1};
use freewheel_link::quic::{Datagrams, Quic};
use tokio::io::ReadBuf;

use crate::support::*;

/// A connection of a device with this certificate, from this address of the machine.
async fn dial(hub: &Hub, to: SocketAddr, from: [u8; 4], own: Credentials) -> Quic {
    let endpoint = Endpoint::spoke(Socket::Bind(SocketAddr::from((from, 0)))).unwrap();
    let tls = tls::session_client(&hub.ca, own, Arc::new(DefaultTimeProvider)).unwrap();
    Dialer::new(endpoint, to.to_string(), ClientTls::new(tls).unwrap()).connect().await.unwrap()
}

/// How many streams the hub lets this link open, up to so many.
async fn room(link: &Quic, most: usize) -> usize {
    let mut open = Vec::new();
    while open.len() < most {
        let next = tokio::time::timeout(Duration::from_millis(500), link.open(Priority::Logs));
        match next.await {
            Ok(stream) => open.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    open.len()
}

#[tokio::test]
async fn who_is_not_let_in_has_a_strangers_room_whatever_its_certificate() {
    let hub = Hub::new(true).await;
    let address = hub.listen().await;
    let device = Device::new();
    let identity = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    let link = dial(&hub, address, [127, 0, 0, 1], device.credentials(&identity)).await;
    let mut session = greet(&link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    assert_eq!(
        room(&link, limits::LOG_STREAMS_MAX).await,
        limits::LOG_STREAMS_MAX,
        "who is in session has room"
    );

    hub.accept("pi-7", false).await;
    let link = dial(&hub, address, [127, 0, 0, 1], device.credentials(&identity)).await;
    assert_eq!(room(&link, limits::LOG_STREAMS_MAX).await, limits::STRANGER_STREAMS_MAX);
    hub.stop.cancel();
}

#[tokio::test]
async fn connections_that_do_not_greet_are_few_for_each_device() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
    let silent: Vec<_> = (0..20).map(|_| connect()).collect();
    for old in &silent[..16] {
        let closed = tokio::time::timeout(Duration::from_secs(5), old.closed()).await.unwrap();
        assert!(matches!(closed, Closed::ByPeer { code: code::BUSY, .. }), "{closed:?}");
    }
    let link = connect();
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
}

/// Hears that it has to prove its address, and nothing else.
#[derive(Debug)]
struct Deaf(tokio::net::UdpSocket, AtomicUsize);

impl Datagrams for Deaf {
    fn send(&self, to: SocketAddr, bytes: &[u8]) -> std::io::Result<()> {
        self.0.try_send_to(bytes, to).map(drop)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<(usize, SocketAddr)>> {
        loop {
            let mut buffer = ReadBuf::new(buffer);
            let Poll::Ready(from) = self.0.poll_recv_from(cx, &mut buffer)? else {
                return Poll::Pending;
            };
            // A long header of the type Retry.
            if buffer.filled().first().is_some_and(|first| first >> 4 == 0xf) {
                self.1.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(Ok((buffer.filled().len(), from)));
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn handshakes_that_never_end_keep_no_device_out() {
    let hub = Hub::new(true).await;
    let address = hub.listen().await;
    let device = Device::new();
    let identity = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let deaf = Deaf(tokio::net::UdpSocket::from_std(socket).unwrap(), AtomicUsize::new(0));
    let deaf = Arc::new(deaf);
    let endpoint = Endpoint::spoke(Socket::Simulated(deaf.clone(), [1; 32])).unwrap();
    let hash = tls::key_hash(&hub.ca).unwrap();
    let tls = tls::join_client(hash, Arc::new(DefaultTimeProvider)).unwrap();
    let tls = ClientTls::new(tls).unwrap();
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (endpoint, tls) = (endpoint.clone(), tls.clone());
        strangers.spawn(async move {
            loop {
                drop(endpoint.connect(address, &tls).await);
            }
        });
    }
    eventually("strangers have to prove their address", || 0 < deaf.1.load(Ordering::Relaxed))
        .await;

    let link = dial(&hub, address, [127, 0, 0, 2], device.credentials(&identity)).await;
    let mut session = greet(&link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    hub.stop.cancel();
}

/// A certificate for its own key over a session.
async fn renew(link: &dyn Transport, device: &Device) -> Result<Vec<u8>, RefusalV1> {
    let mut stream = link.open(Priority::Session).await.unwrap();
    let csr = device.ask("pi-7", TOKEN).csr;
    frame::write(&mut stream.send, &Open::Renew(RenewV1 { csr })).await.unwrap();
    let mut recv = FrameReader::new(stream.recv);
    match recv.next::<Answer>().await.unwrap().unwrap() {
        Answer::Ready => Ok(recv.next::<RenewedV1>().await.unwrap().unwrap().certificate),
        Answer::Refused(refusal) => Err(refusal),
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_renews_in_a_loop_gets_few_certificates() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    let identity = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
    for _ in 0..2 {
        // It starts anew each time, and has forgotten that it did.
        let link = connect();
        let mut session = greet(&*link, hello("pi-7")).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        let stranger = renew(&*link, &Device::new()).await.unwrap_err();
        assert_eq!(stranger.reason, "Forbidden", "who has not the key uses nothing up");
        renew(&*link, &device).await.unwrap();
    }
    let link = connect();
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    let refused = renew(&*link, &device).await.unwrap_err();
    assert_eq!(refused.reason, "TooManyRequests", "{refused}");
    let door = hub.connect(ALPN_JOIN, None);
    let csr = device.ask("pi-7", TOKEN).csr;
    let again = join::renew(&*door, RenewRequestV1 { certificate: identity.clone(), csr }).await;
    refused_as_busy(again);
    tokio::time::sleep(Duration::from_secs(3601)).await;
    let link = connect();
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    renew(&*link, &device).await.unwrap();
}

fn refused_as_busy(outcome: Result<join::AcceptedV1, JoinError>) {
    refused(outcome, JoinRefusal::Busy, "certificates");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_asks_for_everything_again_and_again_is_sent_away_with_the_reason() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
    let link = connect();
    let mut session = greet(&*link, hello("pi-7")).await;
    let mut holder = Holder::default();
    let first = holder.plan(&mut session).await;
    holder.took(&mut session, &first).await;
    let resync = SpokeToHub::Resync { generation: first.to };
    for _ in 0..4 {
        frame::write(&mut session.0, &resync).await.unwrap();
        let plan = holder.plan(&mut session).await;
        assert!(plan.snapshot, "it is sent everything");
        holder.took(&mut session, &plan).await;
    }
    // One more is there after half a minute, and no second one.
    tokio::time::sleep(Duration::from_secs(31)).await;
    frame::write(&mut session.0, &resync).await.unwrap();
    let plan = holder.plan(&mut session).await;
    holder.took(&mut session, &plan).await;
    frame::write(&mut session.0, &resync).await.unwrap();
    let Reason::Violation(text) = goodbye(&mut session).await else { panic!("another reason") };
    assert!(text.contains("again"), "{text}");

    // A new session is no way round.
    let link = connect();
    let mut session = greet(&*link, hello("pi-7")).await;
    let mut holder = Holder::default();
    let plan = holder.plan(&mut session).await;
    holder.took(&mut session, &plan).await;
    frame::write(&mut session.0, &resync).await.unwrap();
    assert!(matches!(goodbye(&mut session).await, Reason::Violation(_)));
    drop(link);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_comes_back_empty_again_and_again_gets_its_whole_plan_a_few_times() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let mut whole = 0;
    let began = tokio::time::Instant::now();
    let mut last = None;
    for _ in 0..8 {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
        let mut session = greet(&*link, hello("pi-7")).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        let soon = tokio::time::timeout(Duration::from_millis(100), heard(&mut session));
        whole += usize::from(matches!(soon.await, Ok(HubToSpoke::Plan(plan)) if plan.snapshot));
        last = Some((link, session));
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(whole, 4);
    // Who has lost everything gets it in the end.
    tokio::time::sleep(Duration::from_secs(31)).await;
    let (_link, mut session) = last.unwrap();
    let mut holder = Holder::default();
    let plan = holder.plan(&mut session).await;
    assert!(plan.snapshot);
    holder.took(&mut session, &plan).await;
    // What it comes back without is no sign of what it holds: its first drift is met.
    let resync = SpokeToHub::Resync { generation: plan.to };
    frame::write(&mut session.0, &resync).await.unwrap();
    assert!(holder.plan(&mut session).await.snapshot);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_connects_in_a_loop_opens_few_sessions() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let greeted = async || {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
        let mut session = greet(&*link, hello("pi-7")).await;
        let word = session.1.next::<HubToSpoke>().await;
        (matches!(word, Ok(Some(HubToSpoke::Welcome(_)))), link)
    };
    let before = hub.objects.store().snapshot().revision();
    let (mut welcome, mut away) = (0, None);
    for _ in 0..100 {
        let (yes, link) = greeted().await;
        welcome += usize::from(yes);
        away = away.or((!yes).then_some(link));
    }
    assert_eq!(welcome, 16);
    let written = (hub.objects.store().snapshot().revision() - before) / STEP;
    assert!(written <= 16 * 4, "{written} writes");
    let closed = away.unwrap().closed().await;
    assert!(matches!(closed, Closed::ByPeer { code: code::BUSY, .. }), "{closed:?}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(greeted().await.0, "it may come back later");
}

/// The next goodbye; plans before it are fine for as long as a test waits.
async fn goodbye(session: &mut Session) -> Reason {
    for _ in 0..8 {
        if let HubToSpoke::Goodbye(reason) = heard(session).await {
            return reason;
        }
    }
    panic!("no goodbye");
}

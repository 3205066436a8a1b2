//! The uplink against a scripted hub, over a connection in memory, with paused time.

mod connections;
mod reports;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_link::digest::{Digest, SetDigest};
use freewheel_link::figures::{DeviceV1, Figures, GateV1};
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::generation::Generation;
use freewheel_link::limits;
use freewheel_link::memory_transport::{self, MemoryTransport};
use freewheel_link::message::{
    ABILITIES, Answer, DatagramV1, HubToSpoke, LogsV1, Open, PlanV1, PortForwardV1, Reason,
    RefusalV1, SpokeToHub, TunnelV1, WelcomeV1,
};
use freewheel_link::names::ClusterName;
use freewheel_link::part::Parts;
use freewheel_link::profile::{Arch, MemoryProfile, Profile};
use freewheel_link::report::{NodeStatusV1, Report, ReportStamp};
use freewheel_link::stream_budget::{Budget, PodClient, Use};
use freewheel_link::transport::{
    Closed, Dial, DialError, Fault, Priority, SendHalf, Stream, Transport, Whose,
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Duplex, Handle, LogStream, Serve, SpokeInfo};
use crate::outbox::Outbox;
use crate::ports::{Input, Uplink as _};
use reports::take;

const PROFILE: Profile = Profile::current(Arch::X86_64, MemoryProfile::Guard4g);

/// Connections to give out, and when somebody asked for one.
struct Dials {
    links: Mutex<Vec<Arc<MemoryTransport>>>,
    times: Mutex<Vec<Instant>>,
    /// Why the hub did not take this spoke.
    refused: Mutex<Vec<Reason>>,
}

#[async_trait]
impl Dial for Dials {
    async fn dial(&self) -> Result<Arc<dyn Transport>, DialError> {
        self.times.lock().push(Instant::now());
        match self.links.lock().pop() {
            Some(link) => Ok(link),
            None => Err(DialError::Connect { host: "hub".into(), closed: Closed::TimedOut }),
        }
    }

    fn turned_away(&self, reason: &Reason) {
        self.refused.lock().push(reason.clone());
    }

    /// Whoever the hub says that this spoke is has a certificate for that by the next dial.
    fn cluster(&self) -> Option<ClusterName> {
        match self.refused.lock().last()? {
            Reason::Renamed(name) => ClusterName::try_from(name.as_str()).ok(),
            _ => None,
        }
    }
}

struct Echo;

/// A connection to a pod that is this stream.
struct Piped<T>(T);

#[async_trait]
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for Piped<T> {
    async fn carry(mut self: Box<Self>, mut stream: Stream) {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut self.0).await;
    }
}

#[async_trait]
impl Serve for Echo {
    async fn logs(&self, request: LogsV1) -> Result<LogStream, RefusalV1> {
        match &*request.container {
            "web" => Ok(Box::new(&b"line\n"[..])),
            other => Err(RefusalV1::new("NotFound", format!("no container {other:?}"))),
        }
    }

    async fn tunnel(&self, _request: TunnelV1) -> Result<Box<dyn Duplex>, RefusalV1> {
        let (here, there) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(there);
            tokio::io::copy(&mut read, &mut write).await
        });
        Ok(Box::new(Piped(here)))
    }

    /// Pods are called by their realm.
    fn realm_of(&self, pod_uid: &str) -> Option<ClusterName> {
        ClusterName::try_from(pod_uid).ok()
    }

    /// More than is told at once.
    fn figures(&self) -> Vec<Figures> {
        let gate =
            GateV1 { gate: "g".repeat(limits::FIGURES_BYTES_MAX / 5 * 2), ..GateV1::default() };
        let gate = Figures::Gate(gate);
        vec![Figures::Device(DeviceV1::default()), gate.clone(), gate.clone(), gate]
    }
}

fn node() -> NodeStatusV1 {
    NodeStatusV1 {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        hostname: "pi-7".into(),
        architecture: "arm64".into(),
        kernel: String::new(),
        os_image: String::new(),
        machine_id: String::new(),
        boot_id: String::new(),
        version: "0.1.0".into(),
        profile: "p".into(),
        features: 3,
        cpu_milli: 1000,
        memory: 1 << 30,
        storage: 1 << 30,
        pods: 110,
        labels: Vec::new(),
        pressure: Vec::new(),
        parts: Parts::default(),
    }
}

struct Bench {
    handle: Handle,
    inputs: mpsc::Receiver<Input>,
    dials: Arc<Dials>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

/// A running uplink, whose next connections are these, the last first.
fn start(links: Vec<Arc<MemoryTransport>>) -> Bench {
    start_with(links, 16)
}

/// The same, with an agent for which so many inputs may wait.
fn start_with(links: Vec<Arc<MemoryTransport>>, waiting: usize) -> Bench {
    let handle = Handle::new();
    let me = SpokeInfo {
        cluster: ClusterName::try_from("pi-7").unwrap(),
        boot_epoch: 1,
        held: Generation::NONE,
        digest: SetDigest::default(),
        node: node(),
    };
    let dials = Arc::new(Dials {
        links: Mutex::new(links),
        times: Mutex::default(),
        refused: Mutex::default(),
    });
    let driver = handle.driver(me, dials.clone(), fastrand::Rng::with_seed(1));
    let (send, inputs) = mpsc::channel(waiting);
    let stop = CancellationToken::new();
    let running = tokio::spawn(driver.run(send, Arc::new(Echo), stop.clone()));
    Bench { handle, inputs, dials, stop, running }
}

type Reader = FrameReader<Box<dyn AsyncRead + Send + Sync + Unpin>>;

/// The hub's side of the greeting.
async fn welcome(hub: &MemoryTransport) -> (Box<dyn SendHalf>, Reader) {
    welcome_with(hub, greeting()).await
}

async fn welcome_with(hub: &MemoryTransport, greeting: WelcomeV1) -> (Box<dyn SendHalf>, Reader) {
    let stream = soon(hub.accept()).await.unwrap();
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    assert_eq!(soon(recv.next::<Open>()).await.unwrap(), Some(Open::Session));
    assert!(matches!(soon(recv.next::<SpokeToHub>()).await.unwrap(), Some(SpokeToHub::Hello(_))));
    frame::write(&mut send, &HubToSpoke::Welcome(greeting)).await.unwrap();
    (send, recv)
}

fn greeting() -> WelcomeV1 {
    WelcomeV1 {
        protocol: 1,
        abilities: ABILITIES,
        incarnation: 9,
        epoch: 1,
        heartbeat_seconds: 10,
        now: 0,
        durable_reports: ReportStamp::default(),
    }
}

/// A bound in paused time. Heartbeats and tries keep that going for ever: without a bound a test that
/// waits in vain would not hang but spin.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(300), what).await.unwrap()
}

async fn input(bench: &mut Bench) -> Input {
    soon(bench.inputs.recv()).await.unwrap()
}

/// The session comes up, and the hub has none of the reports.
async fn up(bench: &mut Bench) {
    let told = input(bench).await;
    assert!(matches!(told, Input::ReportsTaken(told) if told == ReportStamp::default()));
    assert!(matches!(input(bench).await, Input::Connected(Some(_))));
}

fn stamp(sequence: u64) -> ReportStamp {
    ReportStamp { boot_epoch: 1, sequence }
}

#[tokio::test(start_paused = true)]
async fn plans_reach_the_agent_and_answers_reach_the_hub() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let (mut send, mut recv) = welcome(&hub).await;
    up(&mut bench).await;
    let to = Generation { incarnation: 9, revision: 5 };
    let part = PlanV1 {
        base: Generation::NONE,
        to,
        snapshot: true,
        part: 0,
        more: false,
        cut: false,
        put: Vec::new(),
        remove: Vec::new(),
    };
    // Of a newer hub: skipped and counted.
    frame::write(&mut send, &(77_u8, "what is this?")).await.unwrap();
    frame::write(&mut send, &HubToSpoke::Plan(part)).await.unwrap();
    assert!(matches!(input(&mut bench).await, Input::Plan(plan) if plan.to == to));
    assert_eq!(bench.handle.skipped_messages(), 1);
    bench.handle.took(to, SetDigest::default());
    bench.handle.report(1, stamp(1), Report::Node(node()));
    let heard: SpokeToHub = soon(recv.next()).await.unwrap().unwrap();
    assert_eq!(heard, SpokeToHub::Took { generation: to, digest: SetDigest::default() });
    let heard: SpokeToHub = soon(recv.next()).await.unwrap().unwrap();
    assert!(matches!(heard, SpokeToHub::Report { .. }));
    frame::write(&mut send, &HubToSpoke::ReportsTaken(stamp(1))).await.unwrap();
    assert!(matches!(input(&mut bench).await, Input::ReportsTaken(taken) if taken == stamp(1)));

    let datagram = DatagramV1 {
        realm: ClusterName::root(),
        from: "10.64.0.2:4000".parse().unwrap(),
        to: "10.64.1.2:53".parse().unwrap(),
        payload: bytes::Bytes::from_static(b"who?"),
    };
    bench.handle.send_datagram(datagram.clone());
    let sent = frame::decode::<SpokeToHub>(&soon(hub.datagram()).await.unwrap()).unwrap();
    assert_eq!((sent, bench.handle.lost_datagrams()), (SpokeToHub::Datagram(datagram), 0));
    let beat = frame::decode::<SpokeToHub>(&soon(hub.datagram()).await.unwrap()).unwrap();
    assert_eq!(beat, SpokeToHub::Heartbeat { generation: to, digest: SetDigest::default() });
    bench.stop.cancel();
    let heard: Option<SpokeToHub> = soon(recv.next()).await.unwrap();
    assert!(matches!(heard, Some(SpokeToHub::Goodbye(_))), "{heard:?}");
    soon(bench.running).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_made_again_and_offline_reports_are_the_agents_to_repeat() {
    let (first_hub, first) = memory_transport::pair();
    let (second_hub, second) = memory_transport::pair();
    let mut bench = start(vec![second, first]);
    drop(welcome(&first_hub).await);
    up(&mut bench).await;
    assert_eq!(bench.handle.session(), Some(1));
    let outage = bench.handle.outage();
    first_hub.close(0, "gone");
    soon(outage).await;
    assert_eq!(bench.handle.session(), None);
    assert!(matches!(input(&mut bench).await, Input::Connected(None)));
    bench.handle.report(1, stamp(1), Report::Node(node()));
    let (_send, mut recv) = welcome(&second_hub).await;
    up(&mut bench).await;
    assert_eq!(bench.handle.session(), Some(2));
    let outage = timeout(Duration::from_millis(1), bench.handle.outage()).await;
    assert!(outage.is_err(), "this session is up");
    bench.handle.report(2, stamp(2), Report::Node(node()));
    let heard: SpokeToHub = soon(recv.next()).await.unwrap().unwrap();
    assert!(matches!(heard, SpokeToHub::Report { stamp: s, .. } if s == stamp(2)));
}

#[tokio::test(start_paused = true)]
async fn what_the_device_is_when_a_session_begins_is_in_its_greeting() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let mut outbox = Outbox::new(Arc::new(bench.handle.clone()), 1);
    // Before the session, and after the greeting but before the welcome.
    outbox.node(NodeStatusV1 { pods: 7, ..node() });
    let stream = soon(hub.accept()).await.unwrap();
    let mut recv = FrameReader::new(stream.recv);
    assert_eq!(soon(recv.next::<Open>()).await.unwrap(), Some(Open::Session));
    let hello: Option<SpokeToHub> = soon(recv.next()).await.unwrap();
    let Some(SpokeToHub::Hello(hello)) = hello else { panic!("{hello:?}") };
    assert_eq!(hello.node.pods, 7);
    let later = NodeStatusV1 { pods: 8, ..node() };
    outbox.node(later.clone());
    let mut send = stream.send;
    frame::write(&mut send, &HubToSpoke::Welcome(greeting())).await.unwrap();
    take(&mut outbox, &input(&mut bench).await);
    take(&mut outbox, &input(&mut bench).await);
    let heard: Option<SpokeToHub> = soon(recv.next()).await.unwrap();
    assert_eq!(heard, Some(SpokeToHub::Report { stamp: stamp(3), report: Report::Node(later) }));
}

/// How long it was until each of the tries of this many seconds after a lost session.
async fn tries(seconds: u64) -> Vec<Duration> {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let served = welcome(&hub).await;
    up(&mut bench).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(served);
    hub.close(0, "gone");
    input(&mut bench).await;
    bench.dials.times.lock().clear();
    let lost = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert!(!bench.handle.is_up());
    assert!(!bench.running.is_finished());
    bench.dials.times.lock().iter().map(|at| *at - lost).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_was_there_a_moment_ago_is_looked_for_often_and_later_once_a_minute() {
    let tries = tries(3600).await;
    assert!(tries[0] <= Duration::from_secs(2), "{tries:?}");
    let longest = |from: u64, to: u64| {
        let gap = |pair: &[Duration]| (pair[0], pair[1] - pair[0]);
        let within = Duration::from_secs(from)..Duration::from_secs(to);
        tries.windows(2).map(gap).filter(|(at, _)| within.contains(at)).map(|(_, gap)| gap).max()
    };
    assert!(longest(0, 110) <= Some(Duration::from_secs(4)), "{tries:?}");
    assert!(longest(0, 580) <= Some(Duration::from_secs(16)), "{tries:?}");
    assert!(Some(Duration::from_secs(20)) < longest(700, 3600), "{tries:?}");
    assert!(longest(700, 3600) <= Some(Duration::from_secs(61)), "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_asks_less_and_less_often_from_the_start() {
    let (first_hub, first) = memory_transport::pair();
    let (hubs, mut links): (Vec<_>, Vec<_>) = (0..100).map(|_| memory_transport::pair()).unzip();
    links.push(first);
    let mut bench = start(links);
    let served = welcome(&first_hub).await;
    up(&mut bench).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    for hub in hubs {
        tokio::spawn(async move {
            let Ok(stream) = hub.accept().await else { return };
            let mut send = stream.send;
            frame::write(&mut send, &HubToSpoke::Goodbye(Reason::NotAccepted)).await.unwrap();
            hub.closed().await;
        });
    }
    drop(served);
    first_hub.close(0, "gone");
    assert!(matches!(input(&mut bench).await, Input::Connected(None)));
    bench.dials.times.lock().clear();
    tokio::time::sleep(Duration::from_secs(110)).await;
    let tries = bench.dials.times.lock().len();
    assert!((3..20).contains(&tries), "{tries} in 110 s");
    assert!(bench.dials.refused.lock().iter().all(|reason| *reason == Reason::NotAccepted));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_heard_no_more_is_told_so_and_left_before_it_is_called_ready_for_long() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke.clone()]);
    let _session = welcome(&hub).await;
    up(&mut bench).await;
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert!(bench.handle.is_up(), "it is heard");
    let cut = Instant::now();
    spoke.hear_nothing();
    let closed = soon(hub.closed()).await.to_string();
    assert!(closed.contains("nothing was heard"), "{closed}");
    assert!(cut.elapsed() <= Duration::from_secs(30), "{:?}", cut.elapsed());
    assert!(matches!(input(&mut bench).await, Input::Connected(None)));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_breaks_the_protocol_is_left() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let (mut send, _recv) = welcome(&hub).await;
    up(&mut bench).await;
    send.write_all(&[0xff, 0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    assert!(matches!(input(&mut bench).await, Input::Connected(None)));
    let closed = soon(hub.closed()).await.to_string();
    assert!(closed.contains("(2)"), "{closed}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_off_is_no_breach_of_the_protocol() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let (send, _recv) = welcome(&hub).await;
    up(&mut bench).await;
    drop(send);
    let closed = soon(hub.closed()).await.to_string();
    assert!(closed.contains("broke off") && !closed.contains("(2)"), "{closed}");
    assert!(matches!(input(&mut bench).await, Input::Connected(None)));
}

#[tokio::test(start_paused = true)]
async fn who_shares_its_identity_stands_back_and_says_why() {
    let (first_hub, first) = memory_transport::pair();
    let (second_hub, second) = memory_transport::pair();
    let bench = start(vec![second, first]);
    let refuse = async |hub: &MemoryTransport, reason: Reason| {
        let stream = soon(hub.accept()).await.unwrap();
        let mut send = stream.send;
        frame::write(&mut send, &HubToSpoke::Goodbye(reason)).await.unwrap();
        soon(hub.closed()).await;
    };
    refuse(&first_hub, Reason::Replaced).await;
    refuse(&second_hub, Reason::Cloned).await;
    bench.dials.times.lock().clear();
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(bench.dials.times.lock().len(), 0, "two devices would fight for ever");
    assert_eq!(*bench.dials.refused.lock(), [Reason::Replaced, Reason::Cloned]);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(!bench.dials.times.lock().is_empty(), "the other one may be gone by then");
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_before_it_has_greeted_says_why() {
    // The handshake of a client ends before its hub has looked at the certificate.
    let (whose, fault) = (Whose::Ours, Fault::Time);
    let expired = Closed::Certificate { whose, fault, detail: "an alert".to_owned() };
    let (_hub, before) = memory_transport::pair();
    before.break_off(expired.clone());
    let (hub, while_it_greets) = memory_transport::pair_of(1);
    let bench = start(vec![while_it_greets.clone(), before]);
    drop(soon(hub.accept()).await.unwrap());
    while_it_greets.break_off(expired);
    let told = async {
        while bench.dials.refused.lock().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(told).await;
    assert_eq!(*bench.dials.refused.lock(), [Reason::Expired, Reason::Expired]);
}

#[tokio::test(start_paused = true)]
async fn who_shares_its_identity_asks_within_two_minutes_however_often_it_was_turned_away() {
    let (hubs, links): (Vec<_>, Vec<_>) = (0..60).map(|_| memory_transport::pair()).unzip();
    let bench = start(links.into_iter().rev().collect());
    for hub in &hubs {
        // The hub takes seconds to find that the other one is gone.
        let asks = timeout(Duration::from_secs(112), hub.accept()).await;
        let mut stream = asks.expect("it asks again").unwrap();
        frame::write(&mut stream.send, &HubToSpoke::Goodbye(Reason::Cloned)).await.unwrap();
        soon(hub.closed()).await;
    }
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_has_another_name_greets_by_it() {
    let (first_hub, first) = memory_transport::pair();
    let (second_hub, second) = memory_transport::pair();
    let bench = start(vec![second, first]);
    let greeting = async |hub: &MemoryTransport| {
        let stream = soon(hub.accept()).await.unwrap();
        let mut recv = FrameReader::new(stream.recv);
        assert_eq!(soon(recv.next::<Open>()).await.unwrap(), Some(Open::Session));
        let Some(SpokeToHub::Hello(hello)) = soon(recv.next()).await.unwrap() else { panic!() };
        (stream.send, hello.cluster.to_string())
    };
    let (mut send, name) = greeting(&first_hub).await;
    assert_eq!(name, "pi-7");
    let renamed = HubToSpoke::Goodbye(Reason::Renamed("attic".to_owned()));
    frame::write(&mut send, &renamed).await.unwrap();
    soon(first_hub.closed()).await;
    let (_send, name) = greeting(&second_hub).await;
    assert_eq!(name, "attic");
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn logs_and_tunnels_are_served_or_refused() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let _session = welcome(&hub).await;
    up(&mut bench).await;
    let open = async |open: Open| {
        let mut stream = hub.open(Priority::Logs).await.unwrap();
        frame::write(&mut stream.send, &open).await.unwrap();
        let mut recv = FrameReader::new(stream.recv);
        let answer: Answer = soon(recv.next()).await.unwrap().unwrap();
        (answer, stream.send, recv)
    };
    let logs =
        |container: &str| Open::Logs(LogsV1 { container: container.into(), ..LogsV1::default() });
    let (answer, _send, mut recv) = open(logs("web")).await;
    assert_eq!(answer, Answer::Ready);
    let mut text = String::new();
    soon(recv.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "line\n");
    let (answer, ..) = open(logs("nope")).await;
    assert_eq!(answer, Answer::Refused(RefusalV1::new("NotFound", "no container \"nope\"")));

    let (answer, _send, mut recv) = open(Open::Figures).await;
    let told = soon(recv.next::<Figures>()).await.unwrap();
    assert_eq!((answer, told), (Answer::Ready, Some(Figures::Device(DeviceV1::default()))));
    for _ in 0..2 {
        assert!(matches!(soon(recv.next()).await.unwrap(), Some(Figures::Gate(_))));
    }
    assert_eq!(soon(recv.next::<Figures>()).await.unwrap(), None, "no more than it may");

    let address = "10.64.0.2:80".parse().unwrap();
    let tunnel = TunnelV1 { realm: ClusterName::root(), from: address, to: address };
    let (answer, mut send, mut recv) = open(Open::Tunnel(tunnel)).await;
    assert_eq!(answer, Answer::Ready);
    send.write_all(b"ping").await.unwrap();
    send.flush().await.unwrap();
    let mut echo = [0; 4];
    soon(recv.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"ping");
    let (answer, ..) = open(Open::Session).await;
    assert!(matches!(answer, Answer::Refused(_)));
}

//! What a Service does when pods on other nodes cannot be reached, in paused time.

use std::collections::HashSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::Protocol;
use freewheel_spoke_agent::ports::Network as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{add, ask, at, connect, fabric};
use crate::sockets::Slot;
use crate::testing::{ServiceBuilder, service};
use crate::{Fabric, NetError, PodNet, Remote, Stream};

/// The Service that the tests ask.
const WEB: &str = "10.128.0.9:80";

/// How the way to the other node is, whether anybody knows or not.
#[derive(Clone, Copy, PartialEq)]
enum NodePortListener {
    /// An answer after so long.
    Answers(Duration),
    /// The same for one pod there; the others answer at once.
    OneAnswers(&'static str, Duration),
    /// All pods say after so long that they are full, but the one that is asked as this one: it is `far`, and answers after
    /// a time of its own.
    Full(Duration, (usize, Duration)),
    Silent,
    Broken,
}

const AT_ONCE: NodePortListener = NodePortListener::Answers(Duration::ZERO);

/// A link to another node, with the hands of the test on it.
struct Link {
    there: Arc<Fabric>,
    up: watch::Sender<Option<u64>>,
    way: Mutex<NodePortListener>,
    dials: Mutex<Vec<SocketAddr>>,
}

impl Link {
    fn set(&self, way: NodePortListener) {
        *self.way.lock() = way;
    }

    fn dials(&self) -> usize {
        self.dials.lock().len()
    }
}

impl Remote for Link {
    fn connect(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Stream>, NetError>> {
        let asked = {
            let mut dials = self.dials.lock();
            dials.push(to);
            dials.len()
        };
        let (there, realm, way) = (self.there.clone(), realm.clone(), *self.way.lock());
        async move {
            let mut pod = to;
            match way {
                NodePortListener::Answers(after) => sleep(after).await,
                NodePortListener::OneAnswers(pod, _) if to.ip().to_string() != pod => {}
                NodePortListener::OneAnswers(_, after) => sleep(after).await,
                NodePortListener::Full(_, (one, after)) if asked == one => {
                    pod = at("10.64.1.1:80");
                    sleep(after).await;
                }
                NodePortListener::Full(after, _) => {
                    sleep(after).await;
                    return Err(NetError::Full(to.ip().to_string().parse().unwrap()));
                }
                NodePortListener::Silent => std::future::pending().await,
                NodePortListener::Broken => return Err(NetError::Unreachable),
            }
            let (near, far) = tokio::io::duplex(1024);
            there.accept_remote(&realm, from, pod, far)?;
            Ok(Box::new(near) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn link(&self) -> Option<u64> {
        *self.up.borrow()
    }

    fn outage(&self) -> BoxFuture<'static, ()> {
        let mut up = self.up.subscribe();
        async move {
            let _ = up.wait_for(Option::is_none).await;
        }
        .boxed()
    }

    fn send_datagram(
        &self,
        realm: &ClusterName,
        from: SocketAddrV4,
        to: SocketAddrV4,
        bytes: Bytes,
    ) {
        if self.link().is_some() {
            self.there.accept_datagram(realm, from, to, bytes);
        }
    }
}

/// Two nodes: a client and the pod `near` on one, the pod `far` on the other.
struct Nodes {
    here: Arc<Fabric>,
    client: Arc<PodNet>,
    link: Arc<Link>,
    /// What each server was sent, connection by connection.
    heard: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Nodes {
    fn new(web: ServiceBuilder) -> Self {
        let (here, there) = (fabric(), fabric());
        let way = Mutex::new(AT_ONCE);
        let up = watch::Sender::new(Some(1));
        let link = Arc::new(Link { there: there.clone(), up, way, dials: Mutex::default() });
        here.set_remote(link.clone());
        here.set_service(&ClusterName::root(), "default", "web", Some(web.0));
        let client = add(&here, "client", "10.64.0.2");
        let nodes = Self { here, client, link, heard: Arc::default() };
        nodes.serve(&add(&nodes.here, "near", "10.64.0.1"), "near");
        nodes.serve(&add(&there, "far", "10.64.1.1"), "far");
        nodes
    }

    /// Answers with its name, once it has heard all.
    fn serve(&self, pod: &Arc<PodNet>, name: &'static str) {
        let listener = pod.listen(at("0.0.0.0:80"), 16).unwrap();
        let heard = self.heard.clone();
        tokio::spawn(async move {
            while let Ok(conn) = listener.accept().await {
                let heard = heard.clone();
                tokio::spawn(async move {
                    let (mut conn, mut said) = (conn.into_io(), String::new());
                    let _ = conn.read_to_string(&mut said).await;
                    heard.lock().push((name, said));
                    let _ = conn.write_all(name.as_bytes()).await;
                });
            }
        });
    }

    /// Who answers a new client, and how long that takes.
    async fn answers(&self) -> (Result<String, NetError>, Duration) {
        let start = Instant::now();
        let answer = match self.client.connect(None, at(WEB)).done().await {
            Ok(conn) => Ok(ask(conn.into_io(), "hello").await),
            Err(error) => Err(error),
        };
        (answer, start.elapsed())
    }
}

fn web() -> ServiceBuilder {
    service("web").at("10.128.0.9").port(80)
}

fn both() -> ServiceBuilder {
    web().to("10.64.1.1", 80).to("10.64.0.1", 80)
}

const NEAR: &str = "near";

#[tokio::test(start_paused = true)]
async fn the_pods_here_serve_when_no_way_leads_to_the_others_and_one_client_alone_waits() {
    for (way, sticky, wait) in [
        (NodePortListener::Silent, false, 400),
        (NodePortListener::Silent, true, 2000),
        (NodePortListener::Broken, false, 0),
        (NodePortListener::Broken, true, 0),
    ] {
        let nodes = Nodes::new(if sticky { both().sticky(60) } else { both() });
        nodes.link.set(way);
        let mut waited = Duration::ZERO;
        for _ in 0..6 {
            let (answer, took) = nodes.answers().await;
            assert_eq!(answer, Ok(NEAR.to_owned()));
            waited += took;
        }
        assert_eq!(nodes.link.dials(), 1);
        assert!(waited.as_millis().abs_diff(wait) < 20, "waited {waited:?} instead of {wait} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_known_to_be_down_is_not_tried_and_a_new_one_is_at_once() {
    let nodes = Nodes::new(both());
    nodes.link.set(NodePortListener::Silent);
    assert_eq!(nodes.answers().await.0, Ok(NEAR.to_owned()));
    nodes.link.up.send_replace(None);
    let dials = nodes.link.dials();
    for _ in 0..4 {
        assert_eq!(nodes.answers().await, (Ok(NEAR.to_owned()), Duration::ZERO));
    }
    assert_eq!(nodes.link.dials(), dials);
    nodes.link.set(AT_ONCE);
    nodes.link.up.send_replace(Some(2));
    let mut answers = [nodes.answers().await.0.unwrap(), nodes.answers().await.0.unwrap()];
    answers.sort();
    assert_eq!(answers, ["far", "near"], "what was noted of the old link is forgotten");
}

#[tokio::test(start_paused = true)]
async fn without_a_link_and_a_pod_here_a_client_is_told_at_once() {
    let nodes = Nodes::new(web().to("10.64.1.1", 80).to("10.64.1.2", 80));
    nodes.link.up.send_replace(None);
    assert_eq!(nodes.answers().await, (Err(NetError::Unreachable), Duration::ZERO));
    let pod = nodes.client.connect(None, at("10.64.1.1:80")).done().await;
    assert_eq!((pod.err(), nodes.link.dials()), (Some(NetError::Unreachable), 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_an_answer_is_told_when_the_link_goes_down() {
    let nodes = Nodes::new(web().to("10.64.1.1", 80));
    nodes.link.set(NodePortListener::Silent);
    let cut = async {
        sleep(Duration::from_secs(3)).await;
        nodes.link.up.send_replace(None);
    };
    let ((answer, took), ()) = tokio::join!(nodes.answers(), cut);
    assert_eq!((answer, took.as_secs()), (Err(NetError::Unreachable), 3));
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_that_comes_too_late_costs_no_client_a_byte() {
    let nodes = Nodes::new(both());
    nodes.link.set(NodePortListener::Answers(Duration::from_millis(700)));
    assert_eq!(nodes.answers().await.0, Ok(NEAR.to_owned()));
    sleep(Duration::from_secs(1)).await;
    let heard = nodes.heard.lock().clone();
    assert_eq!(heard, [(NEAR, "hello".to_owned()), ("far", String::new())]);
    // Alone, it is waited for.
    let alone = Nodes::new(web().to("10.64.1.1", 80));
    alone.link.set(NodePortListener::Answers(Duration::from_secs(5)));
    assert_eq!(alone.answers().await.0, Ok("far".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn one_more_endpoint_elsewhere_is_tried_when_none_is_here() {
    // The turn begins with an address that nobody has.
    let nodes = Nodes::new(web().to("10.64.1.9", 80).to("10.64.1.1", 80));
    for _ in 0..4 {
        assert_eq!(nodes.answers().await, (Ok("far".to_owned()), Duration::ZERO));
    }
    let dials = nodes.link.dials.lock().iter().filter(|to| **to == at("10.64.1.9:80")).count();
    assert_eq!(dials, 1, "it is passed over after the first time");
    sleep(Duration::from_secs(6)).await;
    for _ in 0..2 {
        assert_eq!(nodes.answers().await.0, Ok("far".to_owned()));
    }
    let dials = nodes.link.dials.lock().iter().filter(|to| **to == at("10.64.1.9:80")).count();
    assert_eq!(dials, 2, "and tried again after a while");
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_their_link_on_both_nodes() {
    let nodes = Nodes::new(web().to("10.64.1.1", 80));
    nodes.link.there.set_remote(nodes.link.clone());
    let mut open = nodes.client.connect(None, at(WEB)).done().await.unwrap().into_io();
    open.write_all(b"half").await.unwrap();
    nodes.link.up.send_replace(None);
    let broken = open.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(nodes.heard.lock().len(), 1, "the server has seen its end too");
}

#[tokio::test(start_paused = true)]
async fn a_flow_of_datagrams_moves_when_its_endpoint_is_cut_off_and_stays_when_none_is_better() {
    let web = || service("web").at("10.128.0.9").any_port(80, Protocol::Udp, None);
    let nodes = Nodes::new(web().to("10.64.1.1", 53).to("10.64.0.1", 53));
    let any = at("0.0.0.0:53");
    let near = nodes.here.pod("root-near").unwrap().bind_udp(any).unwrap();
    let far = nodes.link.there.pod("root-far").unwrap().bind_udp(any).unwrap();
    let socket = nodes.client.bind_udp(at("0.0.0.0:0")).unwrap();
    let send = |text: &'static str| {
        nodes.client.send_udp(&socket, at(WEB), Bytes::from_static(text.as_bytes())).unwrap();
        (near.try_recv().is_some(), far.try_recv().is_some())
    };
    assert_eq!((send("1"), send("2")), ((false, true), (false, true)), "a flow sticks");
    nodes.link.up.send_replace(None);
    assert_eq!((send("3"), send("4")), ((true, false), (true, false)), "its endpoint is cut off");
    nodes.link.up.send_replace(Some(2));
    assert_eq!(send("5"), (true, false), "a flow sticks");
    let alone = web().to("10.64.1.1", 53).0;
    nodes.here.set_service(&ClusterName::root(), "default", "web", Some(alone));
    nodes.link.up.send_replace(None);
    assert_eq!(send("6"), (false, false), "lost, as datagrams get");
    nodes.link.up.send_replace(Some(3));
    assert_eq!(send("7"), (false, true));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_full_is_passed_over_while_another_has_room() {
    let nodes = Nodes::new(both());
    let near = fill(&nodes.here.pod("root-near").unwrap());
    for _ in 0..4 {
        assert_eq!(nodes.answers().await, (Ok("far".to_owned()), Duration::ZERO));
    }
    let _far = fill(&nodes.link.there.pod("root-far").unwrap());
    for _ in 0..2 {
        assert!(matches!(nodes.answers().await.0, Err(NetError::Full(_))));
    }
    drop(near);
    for _ in 0..4 {
        assert_eq!(nodes.answers().await, (Ok(NEAR.to_owned()), Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_pods_elsewhere_the_one_with_room_is_found() {
    let others: Vec<String> = (2..12).map(|last| format!("10.64.1.{last}")).collect();
    let all = others.iter().fold(web(), |web, pod| web.to(pod, 80));
    let nodes = Nodes::new(all.to("10.64.1.1", 80));
    let _full: Vec<_> = others
        .iter()
        .map(|ip| {
            let pod = add(&nodes.link.there, ip, ip);
            nodes.serve(&pod, "full");
            fill(&pod)
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(nodes.answers().await, (Ok("far".to_owned()), Duration::ZERO));
    }
    assert!(nodes.link.dials() <= 30, "{}", nodes.link.dials());
    // When all are full, few are asked for one client.
    let far = fill(&nodes.link.there.pod("root-far").unwrap());
    let before = nodes.link.dials();
    assert!(matches!(nodes.answers().await.0, Err(NetError::Full(_))));
    assert!(nodes.link.dials() <= before + 1 + 3);
    // Who has room again is found again.
    drop(far);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(nodes.answers().await.0, Ok("far".to_owned()));
}

/// A Service of many pods elsewhere, all of them full but the one that is asked as this one.
fn crowd(full_after: Duration, one: usize, one_after: Duration) -> Nodes {
    let ip = |pod: usize| format!("10.64.{}.{}", 2 + pod / 250, 1 + pod % 250);
    let nodes = Nodes::new((0..500).fold(web(), |web, pod| web.to(&ip(pod), 80)));
    nodes.link.set(NodePortListener::Full(full_after, (one, one_after)));
    nodes
}

/// What a pod of a crowd needs to say that it is full.
const FULL_AFTER: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn who_meets_a_crowd_of_full_pods_is_told_soon() {
    let nodes = crowd(FULL_AFTER, usize::MAX, Duration::ZERO);
    let (answer, took) = nodes.answers().await;
    assert!(matches!(answer, Err(NetError::Full(_))), "{answer:?}");
    assert!(took < Duration::from_millis(2200), "{took:?}");
    // Also where one of them says nothing.
    let nodes = crowd(FULL_AFTER, 35, Duration::from_secs(60));
    let (answer, took) = nodes.answers().await;
    assert!(matches!(answer, Err(NetError::Full(_))), "{answer:?}");
    assert!(took < Duration::from_millis(4200), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_crowd_of_full_pods_ask_different_ones() {
    let nodes = crowd(Duration::ZERO, 300, Duration::ZERO);
    for refused in 1..=2 {
        let answer = nodes.answers().await.0;
        assert!(matches!(answer, Err(NetError::Full(_))), "{answer:?}");
        assert_eq!(nodes.link.dials(), refused * 128);
    }
    assert_eq!(nodes.answers().await.0, Ok("far".to_owned()));
    let dials = nodes.link.dials.lock().clone();
    let different: HashSet<_> = dials.iter().collect();
    assert_eq!((dials.len(), different.len()), (300, 300));
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_last_of_a_crowd_has_its_time_to_answer() {
    let nodes = crowd(FULL_AFTER, 35, Duration::from_millis(1900));
    let (answer, took) = nodes.answers().await;
    assert_eq!(answer, Ok("far".to_owned()));
    assert!(Duration::from_millis(3500) < took, "it was one of the last: {took:?}");
}

#[tokio::test]
async fn who_comes_too_late_for_the_last_socket_of_a_pod_goes_to_the_next() {
    const ROUNDS: usize = 20_000;
    let here = fabric();
    let client = add(&here, "client", "10.64.0.2");
    let (short, spare) = (add(&here, "short", "10.64.0.1"), add(&here, "spare", "10.64.0.3"));
    let listen = |pod: &Arc<PodNet>, port: u16| {
        pod.listen(SocketAddr::new([0_u8; 4].into(), port), 16).unwrap()
    };
    let (mut all, mut listeners) = (web().to("10.64.0.3", 80), vec![listen(&spare, 80)]);
    // Most turns are those of the pod that has one socket left.
    for port in 80..83 {
        all = all.to("10.64.0.1", port);
        listeners.push(listen(&short, port));
    }
    here.set_service(&ClusterName::root(), "default", "web", Some(all.0));
    let _all_but_one = fill(&short).split_off(1);
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let meet = |at: &AtomicUsize, round: usize| {
        at.fetch_add(1, SeqCst);
        while at.load(SeqCst) < 2 * (round + 1) {
            std::thread::yield_now();
        }
    };
    let dial = |round| {
        meet(&begun, round);
        let error = connect(&client, WEB).err();
        meet(&ended, round);
        error
    };
    let refused = std::thread::scope(|scope| {
        let other = scope.spawn(|| (0..ROUNDS).filter_map(dial).collect::<Vec<_>>());
        let mut refused = Vec::new();
        for round in 0..ROUNDS {
            refused.extend(dial(round));
            for listener in &listeners {
                while let Ok(Some(_)) = listener.try_accept() {}
            }
        }
        refused.extend(other.join().unwrap());
        refused
    });
    assert!(refused.is_empty(), "{} times: {:?}", refused.len(), refused.first());
}

/// All sockets that a pod has left.
fn fill(pod: &PodNet) -> Vec<Slot> {
    std::iter::from_fn(|| pod.slot().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_pod_with_room_is_waited_for_while_others_are_full() {
    let slow = Duration::from_millis(700);
    for web in [both(), both().sticky(60)] {
        let nodes = Nodes::new(web);
        let _near = fill(&nodes.here.pod("root-near").unwrap());
        nodes.link.set(NodePortListener::Answers(slow));
        // Also by those who know already that it is slow.
        for _ in 0..4 {
            let (answer, took) = nodes.answers().await;
            assert_eq!(answer, Ok("far".to_owned()));
            assert!(took < slow + Duration::from_millis(20), "{took:?}");
        }
    }
    // Also where another one elsewhere has said that it is full.
    for near_too in [true, false] {
        let two = web().to("10.64.1.2", 80).to("10.64.1.1", 80);
        let nodes = Nodes::new(if near_too { two.to("10.64.0.1", 80) } else { two });
        let full = add(&nodes.link.there, "full", "10.64.1.2");
        nodes.serve(&full, "full");
        let _full = (fill(&full), fill(&nodes.here.pod("root-near").unwrap()));
        nodes.link.set(NodePortListener::OneAnswers("10.64.1.1", slow));
        for _ in 0..4 {
            assert_eq!(nodes.answers().await.0, Ok("far".to_owned()));
        }
        // Who has waited that long is told what is known.
        nodes.link.set(NodePortListener::OneAnswers("10.64.1.1", Duration::from_secs(60)));
        let (answer, took) = nodes.answers().await;
        assert!(matches!(answer, Err(NetError::Full(_))), "{answer:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_pod_here_is_the_answer_when_no_way_leads_to_the_others() {
    for (way, first, last) in
        [(NodePortListener::Silent, 400, 2000), (NodePortListener::Broken, 0, 0)]
    {
        for elsewhere in [1, 5] {
            let all = (1..=elsewhere).fold(web(), |web, pod| web.to(&format!("10.64.1.{pod}"), 80));
            let nodes = Nodes::new(all.to("10.64.0.1", 80));
            let _near = fill(&nodes.here.pod("root-near").unwrap());
            nodes.link.set(way);
            let (answer, took) = nodes.answers().await;
            assert_eq!(answer, Err(NetError::Full("10.64.0.1".parse().unwrap())));
            let most = first * elsewhere.min(3) + last;
            assert!(took.as_millis() < most + 20, "{took:?} instead of {most} ms");
        }
    }
}

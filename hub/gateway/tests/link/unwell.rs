//! A store that cannot write, and a spoke that takes nothing: the session stays, and nobody is called well.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use freewheel_hub_schema::object::Resource;

use crate::support::*;

/// A store whose disk is full when it is told so, and now and then so is the line for it; and how often it has refused
/// since.
pub(crate) struct Fickle(MemoryStore, Arc<AtomicBool>, Arc<AtomicUsize>);

impl Fickle {
    pub(crate) fn new(full: &Arc<AtomicBool>) -> Self {
        Self(MemoryStore::with_incarnation(7), full.clone(), Arc::default())
    }
}

#[async_trait]
impl Layer for Fickle {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        if self.1.load(Ordering::Relaxed) {
            return Err(match self.2.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                true => CommitError::Busy,
                false => CommitError::Unavailable("no space left on device".into()),
            });
        }
        self.0.commit(txn).await
    }
}

pub(crate) fn session_of(hub: &Hub, name: &str) -> SessionRecord {
    let name = ClusterName::try_from(name).unwrap();
    SessionRecord::of(&*hub.objects.store().snapshot(), name.as_str()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn datagrams_do_not_ask_a_store_that_cannot_write_all_the_time() {
    let full = Arc::new(AtomicBool::new(false));
    let store = Fickle::new(&full);
    let refused = store.2.clone();
    let hub = Hub::over(Arc::new(store), true, None).await;
    let ((_pod, _of_pod), (node, mut session)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
    Holder::default().settle(&mut session).await;
    hub.lease("10.64.0.0", "pi-7").await;
    full.store(true, Ordering::Relaxed);
    let before = refused.load(Ordering::Relaxed);
    for lost in 1..=1000 {
        let question = DatagramV1 {
            realm: ClusterName::root(),
            from: SocketAddr::from((SNAT_ADDRESS, 32_768)),
            to: "10.64.0.2:53".parse().unwrap(),
            payload: bytes::Bytes::from_static(b"who?"),
        };
        let bytes = postcard::to_stdvec(&SpokeToHub::Datagram(question)).unwrap();
        assert!(node.offer_datagram(bytes.into()));
        eventually("it is lost", || lost <= hub.gateway.lost_datagrams()).await;
    }
    let asked = refused.load(Ordering::Relaxed) - before;
    assert!(asked < 100, "{asked} writes for a thousand datagrams");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_ends_no_session_and_reports_are_taken_when_there_is_room_again() {
    let full = Arc::new(AtomicBool::new(false));
    let store = Fickle::new(&full);
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let (link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    // Of a newer spoke: skipped and counted, on the stream and as a datagram.
    frame::write(&mut session.0, &(77_u8, "what is this?")).await.unwrap();
    link.send_datagram(bytes::Bytes::from_static(b"\x4d and this"));
    eventually("both are skipped", || hub.gateway.skipped_messages() == 2).await;
    full.store(true, Ordering::Relaxed);
    let stamp = ReportStamp { boot_epoch: 1, sequence: 1 };
    let mut changed = node();
    changed.kernel = "7.0".into();
    let report = SpokeToHub::Report { stamp, report: Report::Node(changed) };
    frame::write(&mut session.0, &report).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(hub.gateway.connected().len(), 1, "it waits");
    full.store(false, Ordering::Relaxed);
    assert_eq!(heard(&mut session).await, HubToSpoke::ReportsTaken(stamp));

    full.store(true, Ordering::Relaxed);
    link.close(code::STOPPING, "the device stops");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;
    assert!(session_of(&hub, "pi-7").connected, "that cannot be written yet");
    full.store(false, Ordering::Relaxed);
    eventually("it is written", || !session_of(&hub, "pi-7").connected).await;
}

#[tokio::test(start_paused = true)]
async fn reports_that_wait_for_the_disk_hold_nothing_else_back() {
    let full = Arc::new(AtomicBool::new(false));
    let hub = Hub::over(Arc::new(Fickle::new(&full)), true, None).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    let mut pods = Vec::new();
    for name in ["a", "b", "c"] {
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
        let uid = hub.get(PODS, "default", name).await["metadata"]["uid"].clone();
        pods.push((name, uid.as_str().unwrap().to_owned()));
    }
    holder.settle(&mut session).await;
    full.store(true, Ordering::Relaxed);
    let stamp = |sequence| ReportStamp { boot_epoch: 1, sequence };
    let news = async {
        for (sequence, (name, uid)) in (1..=3_000).zip(pods.iter().cycle()) {
            let Report::Pod(status) = crate::running("root", uid) else { panic!("no pod") };
            let (name, message) = ((*name).to_owned(), sequence.to_string());
            let report = Report::Pod(PodStatusV1 { name, message, ..status });
            let report = SpokeToHub::Report { stamp: stamp(sequence), report };
            frame::write(&mut session.0, &report).await.unwrap();
        }
        let again = SpokeToHub::Resync { generation: Generation::NONE };
        frame::write(&mut session.0, &again).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), news).await.expect("the session is read");
    let plan = tokio::time::timeout(Duration::from_secs(60), holder.plan(&mut session)).await;
    assert!(plan.expect("what it asks for is heard").snapshot);
    full.store(false, Ordering::Relaxed);
    let all_taken =
        async { while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp(3_000)) {} };
    tokio::time::timeout(Duration::from_secs(60), all_taken).await.expect("reports are taken");
    for (newest, (name, _)) in (2_998..).zip(&pods) {
        let pod = hub.get(PODS, "default", name).await;
        assert_eq!(pod["status"]["message"], newest.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_opens_while_the_disk_is_full_and_is_written_when_there_is_room() {
    let full = Arc::new(AtomicBool::new(false));
    let store = Fickle::new(&full);
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let greeted = async || {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
        let mut session = greet(&*link, hello("pi-7")).await;
        let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
        (link, session, welcome.epoch)
    };
    let (first, _session, _) = greeted().await;
    full.store(true, Ordering::Relaxed);
    first.close(code::STOPPING, "the link is cut");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;
    let mut before = session_of(&hub, "pi-7").epoch;
    let mut links = Vec::new();
    // One after the other, each of which is more than the one before, in the store or not.
    for _ in 0..3 {
        let (link, mut session, epoch) = greeted().await;
        assert!(before < epoch, "{before} {epoch}");
        before = epoch;
        let mut holder = Holder::default();
        holder.settle(&mut session).await;
        assert!(holder.set.iter().next().is_some(), "it gets its plan");
        links.push((link, session));
    }
    assert_eq!(hub.gateway.connected().len(), 1);
    assert_eq!(session_of(&hub, "pi-7").epoch, 1, "nothing of it can be written");
    full.store(false, Ordering::Relaxed);
    let told = |epoch| {
        let session = session_of(&hub, "pi-7");
        session.connected && session.epoch == epoch
    };
    eventually("the newest is written", || told(before)).await;
    // What the others had still to write takes nothing from it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(told(before));
    let (link, _session) = links.pop().unwrap();
    link.close(code::STOPPING, "the device stops");
    eventually("its end is written", || !session_of(&hub, "pi-7").connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_spoke_that_takes_no_plan_is_called_late_until_it_does() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    holder.plan(&mut session).await;
    assert!(!session_of(&hub, "pi-7").late);
    tokio::time::sleep(PLAN_TIMEOUT).await;
    let again = holder.plan(&mut session).await;
    assert!(again.snapshot);
    eventually("it is late", || session_of(&hub, "pi-7").late).await;
    assert!(session_of(&hub, "pi-7").connected);
    holder.took(&mut session, &again).await;
    eventually("it is late no more", || !session_of(&hub, "pi-7").late).await;
}

#[tokio::test(start_paused = true)]
async fn a_spoke_from_a_lost_future_has_its_session_while_the_disk_is_full() {
    let full = Arc::new(AtomicBool::new(false));
    let hub = Hub::over(Arc::new(Fickle::new(&full)), true, None).await;
    hub.listen().await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    full.store(true, Ordering::Relaxed);
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity)));
    let revision = hub.objects.store().snapshot().revision() + 5000;
    let held = Generation { incarnation: 7, revision };
    let mut session = greet(&*link, HelloV1 { held, ..hello("pi-7") }).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    let plan = Holder::default().plan(&mut session).await;
    assert!(plan.snapshot, "it gets all of its plan");
}

/// A store that writes a new life, and says of it that it may not have.
struct Doubtful(MemoryStore, AtomicBool);

#[async_trait]
impl Layer for Doubtful {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let of_life =
            txn.operations.iter().any(|it| it.key().resource == Resource::new("internal", "lives"));
        let written = self.0.commit(txn).await;
        if of_life && !self.1.swap(true, Ordering::Relaxed) {
            return Err(CommitError::Unavailable("fsync: input/output error".into()));
        }
        written
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_life_that_was_written_in_doubt_is_told() {
    let store = Doubtful(MemoryStore::with_incarnation(7), AtomicBool::new(false));
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let revision = hub.objects.store().snapshot().revision() + 5000;
    let held = Generation { incarnation: 7, revision };
    let (_link, _session, _) = hub.spoke_with("pi-7", held).await;
    eventually("it is told", || rolled_back(&hub) == 1).await;
}

/// How often a roll-back was told of.
pub(crate) fn rolled_back(hub: &Hub) -> usize {
    let events = Scope { resource: Resource::new("", "events"), cluster: None, namespace: None };
    let events = hub.objects.store().snapshot().range(&events, None).collect::<Vec<_>>();
    let values = events.iter().map(|event| event.object.value().unwrap());
    values.filter(|event| event["reason"] == "HubRolledBack").count()
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_that_a_full_disk_held_up_is_told_when_there_is_room() {
    let full = Arc::new(AtomicBool::new(false));
    let hub = Hub::over(Arc::new(Fickle::new(&full)), true, None).await;
    hub.listen().await;
    let mut identities = Vec::new();
    for name in ["pi-7", "pi-8"] {
        let joined = hub.join(&Device::new(), name, TOKEN).await.unwrap();
        identities.push(CertificateDer::from(joined.certificate));
    }
    let revision = hub.objects.store().snapshot().revision() + 5000;
    let held = Generation { incarnation: 7, revision };
    let greeted = async |name: &str, identity: &CertificateDer<'static>| {
        let link = hub.connect(ALPN_SESSION, Some(identity.clone()));
        let mut session = greet(&*link, HelloV1 { held, ..hello(name) }).await;
        let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
        let plan = Holder::default().plan(&mut session).await;
        assert!(plan.snapshot, "{name} gets all of its plan");
        (link, session, welcome.incarnation)
    };
    full.store(true, Ordering::Relaxed);
    let _first = greeted("pi-7", &identities[0]).await;
    full.store(false, Ordering::Relaxed);
    // Whoever writes before the new life is there writes beyond the lost future.
    hub.create(("", "v1", "configmaps"), "default", "later", json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later", "namespace": "default"},
    }))
    .await;
    let _second = greeted("pi-8", &identities[1]).await;
    eventually("it is told", || rolled_back(&hub) == 1).await;
    let (.., incarnation) = greeted("pi-7", &identities[0]).await;
    assert_ne!(incarnation, 7, "it is another life");
}

/// A spoke that has taken its plan, and then much to tell it.
async fn told_much(hub: &Hub) -> (Arc<memory_transport::MemoryTransport>, Session) {
    hub.listen().await;
    let (link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large", "namespace": "default"},
        "data": {"k": "x".repeat(1 << 19)},
    });
    hub.create(("", "v1", "configmaps"), "default", "large", config).await;
    let mut reader = pod("reader", "pi-7");
    reader["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "large"}}]);
    hub.create(PODS, "default", "reader", reader).await;
    (link, session)
}

#[tokio::test(start_paused = true)]
async fn a_spoke_that_does_not_read_is_called_late_until_it_does() {
    let hub = Hub::new(true).await;
    let (_link, mut session) = told_much(&hub).await;
    tokio::time::sleep(2 * PLAN_TIMEOUT).await;
    eventually("it is late", || session_of(&hub, "pi-7").late).await;
    assert!(session_of(&hub, "pi-7").connected);
    Holder::default().settle(&mut session).await;
    eventually("it is late no more", || !session_of(&hub, "pi-7").late).await;
}

#[tokio::test(start_paused = true)]
async fn a_spoke_that_reads_nothing_for_long_keeps_its_link() {
    let hub = Hub::new(true).await;
    let (link, mut session) = told_much(&hub).await;
    let closed = tokio::time::timeout(Duration::from_secs(1200), link.closed()).await;
    assert!(closed.is_err(), "{closed:?}");
    assert!(session_of(&hub, "pi-7").late && session_of(&hub, "pi-7").connected);
    Holder::default().settle(&mut session).await;
    eventually("it is late no more", || !session_of(&hub, "pi-7").late).await;
}

#[tokio::test(start_paused = true)]
async fn a_spoke_that_reads_slowly_is_not_late() {
    let hub = Hub::new(true).await;
    let (_link, mut session) = told_much(&hub).await;
    let mut some = vec![0; 32 << 10];
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_secs(8)).await;
        session.1.read_exact(&mut some).await.unwrap();
        assert!(!session_of(&hub, "pi-7").late);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_comes_and_goes_while_the_disk_is_full_has_one_end_to_be_written() {
    let full = Arc::new(AtomicBool::new(false));
    let store = Fickle::new(&full);
    let refused = store.2.clone();
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let come = async || {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
        let mut session = greet(&*link, hello("pi-7")).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        (link, session)
    };
    let (first, _session) = come().await;
    full.store(true, Ordering::Relaxed);
    first.close(code::STOPPING, "the link is cut");
    for _ in 0..10 {
        eventually("its session has ended", || hub.gateway.connected().is_empty()).await;
        let (link, _session) = come().await;
        link.close(code::STOPPING, "the link is cut");
    }
    eventually("the last one has ended", || hub.gateway.connected().is_empty()).await;
    let in_a_minute = async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = refused.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        refused.load(Ordering::Relaxed) - before
    };
    let tries = in_a_minute().await;
    assert!((1..=31).contains(&tries), "one end: {tries} tries");
    let (link, mut session) = come().await;
    Holder::default().settle(&mut session).await;
    // What this one has to write is tried as often: that it is there, and what it says of its device.
    let tries = in_a_minute().await;
    assert!(tries <= 62, "no end of an older one: {tries} tries");
    link.close(code::STOPPING, "the link is cut");
    eventually("this one has ended, too", || hub.gateway.connected().is_empty()).await;
    full.store(false, Ordering::Relaxed);
    eventually("the end is written", || {
        let session = session_of(&hub, "pi-7");
        !session.connected && session.epoch == 12
    })
    .await;
}

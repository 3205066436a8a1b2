//! A disk that stands still: it answers nothing, neither yes nor no, and what was asked for is written in the end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use freewheel_hub_schema::object::Resource;

use crate::support::*;
use crate::unwell::session_of;

/// Stands still, while it is told so, for what is written of this resource, or of any.
struct Standing {
    store: Arc<MemoryStore>,
    /// What is written in the end is so in the order in which it was asked for.
    line: Arc<tokio::sync::Mutex<()>>,
    stands: Arc<AtomicBool>,
    of: Option<Resource>,
}

#[async_trait]
impl Layer for Standing {
    fn below(&self) -> &dyn Store {
        &*self.store
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let its = |key: &Key| self.of.as_ref().is_none_or(|of| key.resource == *of);
        if !txn.operations.iter().any(|operation| its(operation.key())) {
            return self.store.commit(txn).await;
        }
        let (store, line, stands) = (self.store.clone(), self.line.clone(), self.stands.clone());
        let written = tokio::spawn(async move {
            let _turn = line.lock().await;
            while stands.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            store.commit(txn).await
        });
        written.await.unwrap()
    }
}

async fn hub(of: Option<Resource>) -> (Hub, Arc<AtomicBool>) {
    let stands = Arc::new(AtomicBool::new(false));
    let (store, line) = (Arc::new(MemoryStore::with_incarnation(7)), Arc::default());
    let store = Standing { store, line, stands: stands.clone(), of };
    (Hub::over(Arc::new(store), true, None).await, stands)
}

/// Takes a second for each write about a pod, while it is told so, and counts those that are on their way at once.
#[derive(Default)]
struct SlowForPods {
    store: MemoryStore,
    is_slow: Arc<AtomicBool>,
    now: AtomicUsize,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Layer for SlowForPods {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let is_pod = |key: &Key| key.resource == Resource::new("", "pods");
        let about_pods = txn.operations.iter().any(|operation| is_pod(operation.key()));
        if about_pods && self.is_slow.load(Ordering::Relaxed) {
            let now = 1 + self.now.fetch_add(1, Ordering::Relaxed);
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.now.fetch_sub(1, Ordering::Relaxed);
        }
        self.store.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn reports_on_large_pods_are_written_few_at_a_time() {
    const LARGE_PODS: u64 = 40;
    let store = SlowForPods { store: MemoryStore::with_incarnation(7), ..SlowForPods::default() };
    let (is_slow, most) = (store.is_slow.clone(), store.most.clone());
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let (_large, mut session) = hub.spoke("pi-7").await;
    let (_small, mut other) = hub.spoke("pi-8").await;
    let mut reports = Vec::new();
    for number in 0..=LARGE_PODS {
        let (name, is_large) = (format!("p-{number}"), number < LARGE_PODS);
        let mut it = pod(&name, if is_large { "pi-7" } else { "pi-8" });
        let text = "x".repeat(if is_large { 200_000 } else { 10 });
        it["metadata"]["annotations"] = serde_json::json!({"a": text});
        hub.create(PODS, "default", &name, it).await;
        let uid = hub.get(PODS, "default", &name).await["metadata"]["uid"].clone();
        let Report::Pod(status) = crate::running("root", uid.as_str().unwrap()) else {
            panic!("no pod")
        };
        reports.push(Report::Pod(PodStatusV1 { name, ..status }));
    }
    Holder::default().settle(&mut session).await;
    Holder::default().settle(&mut other).await;
    is_slow.store(true, Ordering::Relaxed);
    let small = reports.pop().expect("the last");
    let stamp = |sequence| ReportStamp { boot_epoch: 1, sequence };
    let told = |sequence, report| SpokeToHub::Report { stamp: stamp(sequence), report };
    for (sequence, report) in (1..).zip(reports) {
        frame::write(&mut session.0, &told(sequence, report)).await.unwrap();
    }
    frame::write(&mut other.0, &told(1, small)).await.unwrap();
    let taken = async |session: &mut Session, last| {
        while heard(session).await != HubToSpoke::ReportsTaken(stamp(last)) {}
    };
    let soon = tokio::time::timeout(Duration::from_secs(3), taken(&mut other, 1));
    soon.await.expect("another spoke's are not kept waiting");
    let all = tokio::time::timeout(Duration::from_secs(60), taken(&mut session, LARGE_PODS));
    all.await.expect("all are written");
    let most = most.load(Ordering::Relaxed);
    assert!((3..=13).contains(&most), "{most} at once, of 200 kB each");
}

#[tokio::test(start_paused = true)]
async fn a_session_opens_and_ends_while_the_disk_stands_still() {
    let (hub, stands) = hub(None).await;
    hub.listen().await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let greeted = async || {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity.clone())));
        let mut session = greet(&*link, hello("pi-7")).await;
        let welcome = tokio::time::timeout(Duration::from_secs(5), heard(&mut session)).await;
        let Ok(HubToSpoke::Welcome(welcome)) = welcome else { panic!("{welcome:?}") };
        (link, session, welcome.epoch)
    };
    let (_first, mut session, _) = greeted().await;
    Holder::default().settle(&mut session).await;
    stands.store(true, Ordering::Relaxed);
    let (second, mut session, _) = greeted().await;
    Holder::default().settle(&mut session).await;
    let (third, _session, newest) = greeted().await;
    let closed = tokio::time::timeout(Duration::from_secs(5), second.closed()).await;
    let closed = closed.expect("there is a newer one");
    assert!(matches!(closed, Closed::ByPeer { code: code::SUPERSEDED, .. }), "{closed:?}");
    stands.store(false, Ordering::Relaxed);
    eventually("the newest is written", || {
        let session = session_of(&hub, "pi-7");
        session.connected && session.epoch == newest
    })
    .await;
    stands.store(true, Ordering::Relaxed);
    third.close(code::STOPPING, "the device stops");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;
    stands.store(false, Ordering::Relaxed);
    eventually("its end is written", || !session_of(&hub, "pi-7").connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_spoke_from_a_lost_future_keeps_nobody_waiting_while_the_disk_stands_still() {
    let (hub, stands) = hub(None).await;
    hub.listen().await;
    let mut identities = Vec::new();
    for name in ["pi-6", "pi-7", "pi-8"] {
        let identity = hub.join(&Device::new(), name, TOKEN).await.unwrap().certificate;
        identities.push((name, CertificateDer::from(identity)));
    }
    stands.store(true, Ordering::Relaxed);
    let now = hub.objects.store().snapshot().revision();
    let greeted = identities.into_iter().map(async |(name, identity)| {
        let ahead = if name == "pi-8" { 0 } else { 5000 };
        let held = Generation { incarnation: 7, revision: now + ahead };
        let link = hub.connect(ALPN_SESSION, Some(identity));
        let mut session = greet(&*link, HelloV1 { held, ..hello(name) }).await;
        let welcome = tokio::time::timeout(Duration::from_secs(5), heard(&mut session)).await;
        assert!(matches!(welcome, Ok(HubToSpoke::Welcome(_))), "{name}: {welcome:?}");
        (link, session)
    });
    let _sessions = futures::future::join_all(greeted).await;
    stands.store(false, Ordering::Relaxed);
    let events = Scope { resource: Resource::new("", "events"), cluster: None, namespace: None };
    let told = || {
        let events = hub.objects.store().snapshot().range(&events, None).collect::<Vec<_>>();
        let values = events.iter().map(|event| event.object.value().unwrap());
        values.filter(|event| event["reason"] == "HubRolledBack").count()
    };
    eventually("the roll-back is told, however late it was written", || 0 < told()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(told(), 1, "by one of them");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_waits_for_its_address_holds_up_no_other_datagram() {
    let (hub, stands) = hub(Some(internal::pod_cidrs())).await;
    let ((pod, _of_pod), (node, mut session)) = (hub.spoke("pi-7").await, hub.spoke("pi-8").await);
    Holder::default().settle(&mut session).await;
    hub.lease("10.64.0.0", "pi-7").await;
    hub.lease("10.64.1.0", "pi-8").await;
    // An address in the realm of pi-8, where that has none of its own.
    let own = ClusterName::try_from("pi-8").unwrap();
    let key = Key::new(&internal::pod_cidrs(), &own, "", "10.64.9.0");
    let object = Object { header: Header::default(), body: "pi-7".into() };
    let operations = vec![Operation::Put(key, object)];
    hub.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    stands.store(true, Ordering::Relaxed);
    let send = |realm: &ClusterName, from: SocketAddr, to: &str| {
        let datagram = DatagramV1 {
            realm: realm.clone(),
            from,
            to: to.parse().unwrap(),
            payload: bytes::Bytes::from_static(b"who?"),
        };
        let bytes = postcard::to_stdvec(&SpokeToHub::Datagram(datagram)).unwrap();
        assert!(node.offer_datagram(bytes.into()));
    };
    send(&own, SocketAddr::from((SNAT_ADDRESS, 32_768)), "10.64.9.2:53");
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(&ClusterName::root(), "10.64.1.2:4000".parse().unwrap(), "10.64.0.2:53");
    let came = tokio::time::timeout(Duration::from_secs(5), pod.datagram()).await;
    let came = came.expect("it is relayed").unwrap();
    let came = frame::decode::<HubToSpoke>(&came).unwrap();
    assert!(matches!(came, HubToSpoke::Datagram(one) if one.to == "10.64.0.2:53".parse().unwrap()));
    stands.store(false, Ordering::Relaxed);
    let came = tokio::time::timeout(Duration::from_secs(5), pod.datagram()).await;
    let came = frame::decode::<HubToSpoke>(&came.expect("it has its address").unwrap()).unwrap();
    assert!(matches!(came, HubToSpoke::Datagram(one) if one.to == "10.64.9.2:53".parse().unwrap()));
}

fn count(holder: &Holder, kind: Kind) -> usize {
    holder.set.iter().filter(|record| record.key.kind == kind).count()
}

#[tokio::test(start_paused = true)]
async fn pods_land_while_their_addresses_wait_for_the_disk() {
    let (hub, stands) = hub(Some(internal::pod_cidrs())).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    stands.store(true, Ordering::Relaxed);
    for (name, patience) in [("a", 3), ("b", 1)] {
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
        let plan = holder.plan(&mut session);
        let plan = tokio::time::timeout(Duration::from_secs(patience), plan).await;
        let plan = plan.unwrap_or_else(|_| panic!("{name} waits for the disk"));
        holder.took(&mut session, &plan).await;
    }
    assert_eq!((count(&holder, Kind::POD_V1), count(&holder, Kind::POD_CIDR_V1)), (2, 0));
    stands.store(false, Ordering::Relaxed);
    holder.settle(&mut session).await;
    assert_eq!(count(&holder, Kind::POD_CIDR_V1), 1, "one range, when the disk goes on");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_accepted_any_more_is_cut_off_while_its_addresses_wait_for_the_disk() {
    let (hub, stands) = hub(Some(internal::pod_cidrs())).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    stands.store(true, Ordering::Relaxed);
    hub.create(PODS, "default", "a", pod("a", "pi-7")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    hub.accept("pi-7", false).await;
    let told = async { while !matches!(heard(&mut session).await, HubToSpoke::Goodbye(_)) {} };
    let told = tokio::time::timeout(Duration::from_millis(500), told).await;
    assert!(told.is_ok(), "it is cut off at once");
}

/// A disk without room for leases, while it is told so.
struct Crowded(MemoryStore, Arc<AtomicBool>);

#[async_trait]
impl Layer for Crowded {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let lease = |it: &Operation| it.key().resource == internal::pod_cidrs();
        if self.1.load(Ordering::Relaxed) && txn.operations.iter().any(lease) {
            return Err(CommitError::Unavailable("no space left on device".into()));
        }
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_come_when_there_is_room_again_though_nothing_else_happens() {
    let full = Arc::new(AtomicBool::new(true));
    let store = Crowded(MemoryStore::with_incarnation(7), full.clone());
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    hub.create(PODS, "default", "a", pod("a", "pi-7")).await;
    holder.settle(&mut session).await;
    assert_eq!((count(&holder, Kind::POD_V1), count(&holder, Kind::POD_CIDR_V1)), (1, 0));
    full.store(false, Ordering::Relaxed);
    let plan = tokio::time::timeout(Duration::from_secs(10), holder.plan(&mut session)).await;
    plan.expect("the range comes by itself");
    assert_eq!(count(&holder, Kind::POD_CIDR_V1), 1);
}

/// Takes its time for each write.
struct Slow(MemoryStore, Duration);

#[async_trait]
impl Layer for Slow {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        tokio::time::sleep(self.1).await;
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_of_a_plan_is_told_beside_the_next_one() {
    let store = Slow(MemoryStore::with_incarnation(7), Duration::from_millis(20));
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    // As an older version of the hub took them.
    let kind = kinds::find("", "v1", "pods").unwrap();
    let puts = (0..300).map(|number| {
        let mut pod = pod(&format!("bad-{number}"), "pi-7");
        pod["metadata"]["uid"] = json!(format!("uid-{number}"));
        pod["spec"]["volumes"] = json!([{"name": "h", "hostPath": {"path": "/etc"}}]);
        let fields = kind.strategy.selectable_fields(&pod);
        let name = format!("bad-{number}");
        let key = Key::new(kind.storage(), &ClusterName::root(), "default", &name);
        Operation::Put(key, Object::from_value(pod, fields).unwrap())
    });
    let operations: Vec<_> = puts.collect();
    for some in operations.chunks(100) {
        let txn = Txn { expect: Vec::new(), operations: some.to_vec() };
        hub.objects.store().commit(txn).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    hub.accept("pi-7", false).await;
    let told = async { while !matches!(heard(&mut session).await, HubToSpoke::Goodbye(_)) {} };
    let told = tokio::time::timeout(Duration::from_secs(1), told).await;
    assert!(told.is_ok(), "it is cut off at once");
}

//! Pods that have ended: what their device is told of them, and what it cannot take back.

use std::sync::atomic::{AtomicUsize, Ordering};

use freewheel_hub_schema::object::Resource;
use freewheel_link::plan::{PodEndedV1, PodV1};
use freewheel_link::report::{ContainerStateV1, ContainerStatusV1, TerminatedV1};

use crate::running;
use crate::support::*;

/// Somebody else writes to the pod `web` just before each write to it, so many times.
struct Rival {
    store: MemoryStore,
    times: Arc<AtomicUsize>,
    write: fn(&mut Value),
}

#[async_trait]
impl Layer for Rival {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let web = txn.operations.iter().find_map(|operation| match operation {
            Operation::Put(key, _)
                if key.resource == Resource::new("", "pods") && &*key.name == "web" =>
            {
                self.store.snapshot().get(key)
            }
            _ => None,
        });
        let less = |times: usize| times.checked_sub(1);
        if let Some(web) = web
            && self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        {
            let mut value = web.object.value().unwrap();
            (self.write)(&mut value);
            let kind = kinds::find("", "v1", "pods").unwrap();
            let object = Object::from_value(value.clone(), kind.strategy.selectable_fields(&value));
            let operations = vec![Operation::Put(web.key.clone(), object.unwrap())];
            self.store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        }
        self.store.commit(txn).await
    }
}

fn exited(code: i32) -> ContainerStatusV1 {
    let end = TerminatedV1 {
        code,
        signal: 0,
        reason: "Error".into(),
        message: String::new(),
        started: 0,
        finished: 1000,
    };
    ContainerStatusV1 {
        name: "c".into(),
        ready: false,
        begun: false,
        restarts: 0,
        image: "i".into(),
        image_id: String::new(),
        container_id: String::new(),
        state: ContainerStateV1::Terminated(end),
        last: None,
        last_id: String::new(),
    }
}

/// What the spoke's record of this pod says of its end.
fn told(holder: &Holder, uid: &str) -> Option<PodEndedV1> {
    let record = holder.set.iter().find(|record| record.key.key == uid).unwrap();
    record.body::<PodV1>().unwrap().parts.get().unwrap()
}

async fn say(session: &mut Session, sequence: u64, report: Report) {
    let stamp = ReportStamp { boot_epoch: 1, sequence };
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    while heard(session).await != HubToSpoke::ReportsTaken(stamp) {}
}

#[tokio::test(start_paused = true)]
async fn a_pod_ends_once_whatever_its_device_forgets() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let come = async |instance: u64| {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
        let mut session = greet(&*link, HelloV1 { instance, ..hello("pi-7") }).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        (link, session)
    };
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let web = async || hub.get(PODS, "default", "web").await;
    let uid = web().await["metadata"]["uid"].as_str().unwrap().to_owned();
    let (first, mut session) = come(1).await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    assert_eq!(told(&holder, &uid), None);
    let Report::Pod(status) = running("root", &uid) else { panic!("no pod") };
    let ended = PodStatusV1 {
        phase: PhaseV1::Failed,
        reason: "Evicted".into(),
        message: "low on memory".into(),
        containers: vec![exited(3)],
        ..status.clone()
    };
    say(&mut session, 1, Report::Pod(ended)).await;
    holder.settle(&mut session).await;
    let how =
        PodEndedV1 { failed: true, reason: "Evicted".into(), message: "low on memory".into() };
    assert_eq!(told(&holder, &uid), Some(how.clone()));
    first.close(code::STOPPING, "its ledger is lost");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;

    let before = web().await["status"].clone();
    let (_second, mut session) = come(2).await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    assert_eq!(told(&holder, &uid), Some(how), "whoever holds nothing is told with the pod");
    let phases = [PhaseV1::Pending, PhaseV1::Running, PhaseV1::Succeeded, PhaseV1::Failed];
    for (sequence, phase) in (1..).zip(phases) {
        let containers = vec![exited(137)];
        let status = PodStatusV1 { phase, containers, ..status.clone() };
        say(&mut session, sequence, Report::Pod(status)).await;
        assert_eq!(web().await["status"], before, "{phase:?}");
    }
}

/// A pod that the API takes and the wire does not.
fn odd(name: &str) -> Value {
    let mut pod = pod(name, "pi-7");
    pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/v"}}]);
    pod
}

#[tokio::test(start_paused = true)]
async fn a_refusal_takes_no_end_back_that_came_just_before() {
    let store = Rival {
        store: MemoryStore::with_incarnation(7),
        times: Arc::new(AtomicUsize::new(1)),
        write: |web| web["status"]["phase"] = json!("Succeeded"),
    };
    let times = store.times.clone();
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    let status = |name: &str| {
        let stored = hub.objects.get(&place(PODS, "default", name)).unwrap();
        stored.object.value().unwrap()["status"].clone()
    };
    hub.create(PODS, "default", "web", odd("web")).await;
    eventually("somebody was faster", || times.load(Ordering::SeqCst) == 0).await;
    hub.create(PODS, "default", "later", odd("later")).await;
    eventually("the next one is refused", || status("later")["reason"] == "UnsupportedField").await;
    assert_eq!(status("web")["phase"], "Succeeded");
    assert_eq!(status("web").get("reason"), None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_writes_always_lose_holds_up_no_report_of_another() {
    let store = Rival {
        store: MemoryStore::with_incarnation(7),
        times: Arc::new(AtomicUsize::new(usize::MAX)),
        write: |web| {
            let times = web.pointer("/metadata/annotations/times").and_then(Value::as_str);
            let times: u64 = times.map_or(0, |times| times.parse().unwrap());
            web["metadata"]["annotations"]["times"] = json!((times + 1).to_string());
        },
    };
    let times = store.times.clone();
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let come = async || {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
        let greeting = HelloV1 { instance: 1, boot_epoch: 1, ..hello("pi-7") };
        let mut session = greet(&*link, greeting).await;
        let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
        (link, session, welcome.durable_reports.sequence)
    };
    let mut reports = Vec::new();
    for name in ["web", "db"] {
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
        let uid = hub.get(PODS, "default", name).await["metadata"]["uid"].clone();
        let Report::Pod(status) = running("root", uid.as_str().unwrap()) else { panic!("no pod") };
        reports.push(Report::Pod(PodStatusV1 { name: name.into(), ..status }));
    }
    let [web, db] = &reports[..] else { panic!("not two") };
    let (first, mut session, _) = come().await;
    let both = async {
        say(&mut session, 1, web.clone()).await;
        say(&mut session, 2, db.clone()).await;
    };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("they are taken");
    assert_eq!(hub.get(PODS, "default", "db").await["status"]["phase"], "Running");
    assert_eq!(hub.get(PODS, "default", "web").await["status"].get("podIP"), None);
    first.close(code::STOPPING, "it comes back");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;

    let (second, mut session, told) = come().await;
    assert_eq!(told, 0, "what is not durable is told again");
    say(&mut session, 1, web.clone()).await;
    times.store(0, Ordering::SeqCst);
    let phase = || {
        let stored = hub.objects.get(&place(PODS, "default", "web")).unwrap();
        stored.object.value().unwrap()["status"]["phase"].clone()
    };
    eventually("it is tried again by itself", || phase() == "Running").await;
    say(&mut session, 3, db.clone()).await;
    second.close(code::STOPPING, "it comes back");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;
    assert_eq!(come().await.2, 3);
}

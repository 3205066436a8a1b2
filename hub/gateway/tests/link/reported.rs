//! What comes of reports, and what a spoke need not say again after a reconnect.

use std::sync::atomic::{AtomicBool, Ordering};

use freewheel_hub_api::conditions::{Condition, POD_READY, SAID_OF_SILENT};
use freewheel_link::limits;
use freewheel_link::report::{ConditionV1, EventV1};

use crate::running;
use crate::support::*;
use crate::unwell::{Fickle, session_of};

/// Greets as this process, and what the hub says that it has of it.
async fn come(link: &memory_transport::MemoryTransport, hello: HelloV1) -> (Session, ReportStamp) {
    let mut session = greet(link, hello).await;
    let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
    (session, welcome.durable_reports)
}

#[tokio::test]
async fn a_report_that_the_store_has_no_room_for_is_refused_and_told_at_the_pod() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
    let large = |bytes: usize| {
        let mut pod = pod("web", "pi-7");
        pod["metadata"]["annotations"] = json!({"a": "x".repeat(8 << 10)});
        pod["spec"]["containers"][0]["env"] = json!([{"name": "E", "value": "x".repeat(bytes)}]);
        pod
    };
    let place = place(PODS, "default", "web");
    hub.create(PODS, "default", "web", large(1000)).await;
    // What is too large with its owners is stored without them.
    let owners = &hub.get(PODS, "default", "web").await["metadata"]["managedFields"];
    let owners = owners.to_string().len() + "\"managedFields\":,".len();
    let least = hub.objects.get(&place).unwrap().object.body.len() - owners - 1000;
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    hub.objects.delete(&WriteOptions::default(), &place, &now).await.unwrap();
    hub.create(PODS, "default", "web", large(limits::API_OBJECT_BYTES_MAX - 40 - least)).await;
    let uid = hub.get(PODS, "default", "web").await["metadata"]["uid"].clone();

    let link = connect();
    let (mut session, _) = come(&link, hello("pi-7")).await;
    let say = async |session: &mut Session, sequence: u64| {
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        let report = running("root", uid.as_str().unwrap());
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        let mut refused = None;
        loop {
            match heard(session).await {
                HubToSpoke::ReportRefused(of, why) => refused = Some((of, why)),
                HubToSpoke::ReportsTaken(taken) if taken == stamp => return refused,
                _ => {}
            }
        }
    };
    let (of, why) = say(&mut session, 41).await.expect("it is refused before others are taken");
    assert_eq!((of.sequence, &*why.reason), (41, "RequestEntityTooLarge"), "{why}");
    let scope = Scope {
        resource: freewheel_hub_schema::object::Resource::new("", "events"),
        cluster: None,
        namespace: None,
    };
    let told = |event: Value| event["involvedObject"]["uid"] == uid && event["type"] == "Warning";
    let snapshot = hub.objects.store().snapshot();
    let events = snapshot.range(&scope, None).filter_map(|event| event.object.value().ok());
    let events: Vec<Value> = events.filter(|event| told(event.clone())).collect();
    assert_eq!(events.len(), 1, "its user reads why: {events:?}");
    let again = connect();
    let (mut session, told) = come(&again, hello("pi-7")).await;
    assert_eq!(told.sequence, 40, "whoever did not hear that it was refused says it again");
    // Once there is room, it is kept, and all is durable.
    let smaller = |mut value: Value| {
        value["metadata"]["annotations"] = json!({});
        Ok(value)
    };
    hub.objects.modify(&WriteOptions::default(), &place, None, smaller).await.unwrap();
    assert_eq!(say(&mut session, 42).await, None);
    assert_eq!(hub.get(PODS, "default", "web").await["status"]["phase"], "Running");
    let again = connect();
    assert_eq!(come(&again, hello("pi-7")).await.1.sequence, 42);
}

#[tokio::test]
async fn an_event_that_cannot_be_written_makes_no_status_come_again() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "finalizers": ["a.b/c"]}});
    hub.create(("", "v1", "namespaces"), "", "shop", namespace).await;
    let mut going = pod("web", "pi-7");
    going["metadata"]["namespace"] = json!("shop");
    hub.create(PODS, "shop", "web", going).await;
    // Its name leaves no room for that of an Event.
    let long = ["a"; 4].map(|part| part.repeat(60)).join(".");
    hub.create(PODS, "default", &long, pod(&long, "pi-7")).await;
    let end = place(("", "v1", "namespaces"), "", "shop");
    hub.objects.delete(&WriteOptions::default(), &end, &DeleteOptions::default()).await.unwrap();

    for (sequence, (namespace, name)) in (1..).zip([("shop", "web"), ("default", long.as_str())]) {
        let uid = hub.get(PODS, namespace, name).await["metadata"]["uid"].clone();
        let link = connect();
        let (mut session, _) = come(&link, hello("pi-7")).await;
        let event = Report::Event(EventV1 {
            realm: ClusterName::root(),
            namespace: namespace.into(),
            pod: name.into(),
            uid: uid.as_str().unwrap().into(),
            field_path: String::new(),
            warning: false,
            reason: "Killing".into(),
            message: "Stopping container c".into(),
            at: 1_790_000_000_000,
        });
        let stamp = |sequence| ReportStamp { boot_epoch: 1, sequence };
        let (told, last) = (stamp(2 * sequence), stamp(2 * sequence + 1));
        let report = SpokeToHub::Report { stamp: told, report: event };
        frame::write(&mut session.0, &report).await.unwrap();
        while heard(&mut session).await != HubToSpoke::ReportsTaken(told) {}
        let report = SpokeToHub::Report { stamp: last, report: running("root", "another") };
        frame::write(&mut session.0, &report).await.unwrap();
        while heard(&mut session).await != HubToSpoke::ReportsTaken(last) {}
        let again = connect();
        assert_eq!(come(&again, hello("pi-7")).await.1, last, "{namespace}/{name}");
    }
}

#[tokio::test]
async fn who_comes_back_is_told_which_of_its_reports_are_durable() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with_incarnation(7));
    let hub = Hub::over(store.clone(), true, None).await;
    let none = ReportStamp::default();
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect =
        |hub: &Hub| hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
    let link = connect(&hub);
    let (mut session, told) = come(&link, hello("pi-7")).await;
    assert_eq!(told, none, "there were none");
    let stamp = ReportStamp { boot_epoch: 1, sequence: 41 };
    let report = running("root", "another");
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}

    // The old session may still be there when it comes back.
    let again = connect(&hub);
    let (_session, told) = come(&again, hello("pi-7")).await;
    assert_eq!(told, stamp);
    again.close(0, "gone");
    let recorded = || session_of(&hub, "pi-7").reported.is_some();
    eventually("it is written when the session ends", recorded).await;
    let hub = hub.restarted();
    let link = connect(&hub);
    assert_eq!(come(&link, hello("pi-7")).await.1, stamp, "it is in the store");
    link.close(0, "gone");
    let moved = NodeStatusV1 { address: [127, 0, 0, 99].into(), ..node() };
    for (what, other) in [
        ("another start", HelloV1 { boot_epoch: 2, ..hello("pi-7") }),
        ("another address", HelloV1 { node: moved, ..hello("pi-7") }),
        ("another process", HelloV1 { instance: 2, ..hello("pi-7") }),
    ] {
        let link = connect(&hub);
        assert_eq!(come(&link, other).await.1, none, "{what}");
        link.close(0, "gone");
    }
}

/// A device whose disk takes no writes cannot count its starts: two processes speak in one epoch.
#[tokio::test]
async fn an_epoch_that_comes_twice_hides_no_report() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let uid = hub.get(PODS, "default", "web").await["metadata"]["uid"].clone();
    for (instance, sequence, reason) in [(1, 41, "first"), (2, 3, "second"), (3, 3, "third")] {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
        let (mut session, told) = come(&link, HelloV1 { instance, ..hello("pi-7") }).await;
        assert_eq!(told, ReportStamp::default(), "{reason}: it says everything");
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        let Report::Pod(mut status) = running("root", uid.as_str().unwrap()) else { panic!() };
        status.reason = reason.to_owned();
        let report = Report::Pod(status);
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}
        assert_eq!(hub.get(PODS, "default", "web").await["status"]["reason"], reason);
        link.close(0, "gone");
        eventually("its session has ended", || !session_of(&hub, "pi-7").connected).await;
    }
}

#[tokio::test]
async fn who_was_called_not_ready_while_it_was_silent_says_everything_again() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let uid = hub.get(PODS, "default", "web").await["metadata"]["uid"].clone();
    let link = connect();
    let (mut session, _) = come(&link, hello("pi-7")).await;
    let say = async |session: &mut Session, sequence: u64| {
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        let report = ready(running("root", uid.as_str().unwrap()));
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(session).await != HubToSpoke::ReportsTaken(stamp) {}
        stamp
    };
    let stamp = say(&mut session, 41).await;
    link.close(0, "gone");
    eventually("its session has ended", || !session_of(&hub, "pi-7").connected).await;
    let link = connect();
    let (_session, told) = come(&link, hello("pi-7")).await;
    assert_eq!(told, stamp, "nobody has said anything of its pods");
    link.close(0, "gone");
    eventually("its session has ended", || !session_of(&hub, "pi-7").connected).await;
    mark(&hub).await;
    let link = connect();
    let (mut session, told) = come(&link, hello("pi-7")).await;
    assert_eq!(told, ReportStamp::default(), "it says everything again");
    say(&mut session, 41).await;
    let web = hub.get(PODS, "default", "web").await;
    let now = POD_READY.find(&web).unwrap();
    assert_eq!((&now["status"], now.get("reason")), (&json!("True"), None));
    link.close(0, "gone");
    let again = connect();
    assert_eq!(come(&again, hello("pi-7")).await.1, stamp);
}

#[tokio::test(start_paused = true)]
async fn who_is_called_not_ready_before_its_session_is_written_comes_again() {
    let full = Arc::new(AtomicBool::new(false));
    let hub = Hub::over(Arc::new(Fickle::new(&full)), true, None).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect = || hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let uid = hub.get(PODS, "default", "web").await["metadata"]["uid"].clone();
    let link = connect();
    let (mut session, _) = come(&link, hello("pi-7")).await;
    let stamp = ReportStamp { boot_epoch: 1, sequence: 41 };
    let report = ready(running("root", uid.as_str().unwrap()));
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}
    link.close(0, "gone");
    eventually("its session has ended", || !session_of(&hub, "pi-7").connected).await;
    full.store(true, Ordering::Relaxed);
    let link = connect();
    let (_session, told) = come(&link, hello("pi-7")).await;
    assert_eq!(told, stamp);
    // The disk has room again, and the controllers are the first to write: for them it is silent still.
    full.store(false, Ordering::Relaxed);
    mark(&hub).await;
    link.closed().await;
    let again = connect();
    assert_eq!(come(&again, hello("pi-7")).await.1, ReportStamp::default());
}

/// What the node controller does to a pod of a spoke that is silent.
async fn mark(hub: &Hub) {
    let mark = |mut value: Value| {
        let condition = Condition::new(&POD_READY, false, SAID_OF_SILENT, "Node is not ready");
        condition.put(&mut value["status"]["conditions"], "2030-01-01T00:00:00Z");
        Ok(value)
    };
    let web = place(PODS, "default", "web");
    hub.objects.modify(&WriteOptions::default(), &web, Some("status"), mark).await.unwrap();
}

/// The same report of a pod that takes requests.
fn ready(report: Report) -> Report {
    let Report::Pod(mut pod) = report else { panic!("no pod") };
    pod.conditions = vec![ConditionV1 {
        kind: "Ready".into(),
        status: true,
        since: 1_790_000_000_000,
        reason: String::new(),
        message: String::new(),
    }];
    Report::Pod(pod)
}

#[tokio::test]
async fn a_pod_that_was_made_for_its_node_is_scheduled_since_then() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let made = hub.get(PODS, "default", "web").await;
    let scheduled = |pod: &Value| {
        let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|one| one["type"] == "PodScheduled").collect::<Vec<_>>()
    };
    assert!(scheduled(&made).is_empty(), "no scheduler has seen it");
    for sequence in [1, 2] {
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        let report = running("root", made["metadata"]["uid"].as_str().unwrap());
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}
        let expected = json!({
            "type": "PodScheduled", "status": "True", "observedGeneration": 1,
            "lastTransitionTime": made["metadata"]["creationTimestamp"],
        });
        assert_eq!(scheduled(&hub.get(PODS, "default", "web").await), [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_observed_though_nothing_is_reported_of_it() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    for name in ["web", "other"] {
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
    }
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    let web = place(PODS, "default", "web");
    let status = || hub.objects.get(&web).unwrap().object.value().unwrap()["status"].take();
    let uid = hub.get(PODS, "default", "web").await["metadata"]["uid"].clone();
    let Report::Pod(mut said) = running("root", uid.as_str().unwrap()) else { panic!() };
    said.conditions.push(ConditionV1 {
        kind: "Ready".into(),
        status: true,
        since: 1_790_000_000_000,
        reason: String::new(),
        message: String::new(),
    });
    let stamp = ReportStamp { boot_epoch: 1, sequence: 1 };
    let report = SpokeToHub::Report { stamp, report: Report::Pod(said) };
    frame::write(&mut session.0, &report).await.unwrap();
    while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}
    holder.settle(&mut session).await;
    assert_eq!(status()["observedGeneration"], 1);
    let other = hub.objects.get(&place(PODS, "default", "other")).unwrap().revision;

    let ask = async |field: &str, wish: Value| {
        let change = |mut value: Value| {
            value["spec"][field] = wish.clone();
            Ok(value)
        };
        hub.objects.modify(&WriteOptions::default(), &web, None, change).await.unwrap();
    };
    ask("activeDeadlineSeconds", json!(600)).await;
    let plan = holder.plan(&mut session).await;
    assert_eq!(status()["observedGeneration"], 1, "the spoke may not have it");
    holder.took(&mut session, &plan).await;
    eventually("a change that is taken is seen", || status()["observedGeneration"] == 2).await;
    // The spoke is not told of that: its plan stays as it is.
    let mut more = hub.get(PODS, "default", "web").await["spec"]["tolerations"].take();
    more.as_array_mut().unwrap().push(json!({"operator": "Exists"}));
    ask("tolerations", more).await;
    eventually("a change of no plan is seen", || status()["observedGeneration"] == 3).await;
    let conditions = status()["conditions"].take();
    let ready = conditions.as_array().unwrap().iter().find(|it| it["type"] == "Ready");
    assert_eq!(ready.unwrap()["observedGeneration"], 3, "{conditions}");
    let newest = hub.objects.get(&web).unwrap().revision;
    let more = tokio::time::timeout(Duration::from_secs(5), holder.plan(&mut session)).await;
    assert!(more.is_err(), "nothing of it makes a plan: {more:?}");
    assert_eq!(hub.objects.get(&web).unwrap().revision, newest, "and it is written once");
    let after = hub.objects.get(&place(PODS, "default", "other")).unwrap().revision;
    assert_eq!(after, other, "nothing is written of another pod");
}

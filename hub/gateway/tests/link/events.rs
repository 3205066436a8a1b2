//! What a hostile device can make the hub keep.

use freewheel_link::report::{EventV1, NodeEventV1};

use crate::support::*;

pub(crate) fn event(pod: &str, uid: &str, n: usize) -> Report {
    Report::Event(EventV1 {
        realm: ClusterName::root(),
        namespace: "default".into(),
        pod: pod.into(),
        uid: uid.into(),
        field_path: String::new(),
        warning: true,
        reason: "Flood".into(),
        message: format!("{n} {}", "x".repeat(100_000)),
        at: 1_790_000_000_000 + n as u64,
    })
}

/// A store that takes its time, so that what is written side by side does not see each other.
struct Slow(MemoryStore);

#[async_trait]
impl Layer for Slow {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.commit(txn).await
    }
}

#[tokio::test]
async fn a_hostile_device_writes_few_events_and_only_about_its_own_pods() {
    flood(Hub::new(true).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_lets_no_more_events_in() {
    flood(Hub::over(Arc::new(Slow(MemoryStore::with_incarnation(7))), true, None).await).await;
}

async fn flood(hub: Hub) {
    hub.listen().await;
    let mut uids = Vec::new();
    for (name, node) in [("mine", "pi-7"), ("theirs", "pi-8")] {
        hub.create(PODS, "default", name, pod(name, node)).await;
        let uid = hub.get(PODS, "default", name).await["metadata"]["uid"].clone();
        uids.push(uid.as_str().unwrap().to_owned());
    }
    let (_link, session) = hub.spoke("pi-7").await;
    let mut reports: Vec<Report> = Vec::new();
    for n in 0..300 {
        reports.push(event("mine", &uids[0], n));
        reports.push(event("theirs", &uids[1], n));
        reports.push(event("mine", "another-uid", n));
        reports.push(event(&format!("nobody-{n}"), "no-uid", n));
    }
    let last = reports.len() as u64;
    let (mut send, mut answers) = session;
    let saying = async {
        for (sequence, report) in (1..).zip(reports) {
            let stamp = ReportStamp { boot_epoch: 1, sequence };
            frame::write(&mut send, &SpokeToHub::Report { stamp, report }).await.unwrap();
        }
    };
    let hearing = async {
        let end = HubToSpoke::ReportsTaken(ReportStamp { boot_epoch: 1, sequence: last });
        while answers.next::<HubToSpoke>().await.unwrap().unwrap() != end {}
    };
    tokio::join!(saying, hearing);
    let scope = Scope {
        resource: freewheel_hub_schema::object::Resource::new("", "events"),
        cluster: None,
        namespace: None,
    };
    let snapshot = hub.objects.store().snapshot();
    let all: Vec<_> = snapshot.range(&scope, None).collect();
    assert!(!all.is_empty() && all.len() <= 64, "{} events", all.len());
    for stored in all {
        assert!(stored.key.name.starts_with("mine."), "{}", stored.key.name);
        assert!(stored.object.body.len() < 8192, "a message has a bound");
    }
}

/// Says these and waits until the hub has taken the last one.
async fn say(session: &mut Session, first: u64, reports: Vec<Report>) {
    for (sequence, report) in (first..).zip(reports) {
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(session).await != HubToSpoke::ReportsTaken(stamp) {}
    }
}

#[tokio::test]
async fn an_event_that_is_told_twice_counts_once_and_one_that_repeats_counts_up() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    hub.create(PODS, "default", "mine", pod("mine", "pi-7")).await;
    let uid = hub.get(PODS, "default", "mine").await["metadata"]["uid"].clone();
    let at = |at: u64| match event("mine", uid.as_str().unwrap(), 0) {
        Report::Event(seen) => Report::Event(EventV1 { at, ..seen }),
        other => other,
    };
    let (_link, mut session) = hub.spoke("pi-7").await;
    let events = || {
        let resource = freewheel_hub_schema::object::Resource::new("", "events");
        let scope = Scope { resource, cluster: None, namespace: None };
        let snapshot = hub.objects.store().snapshot();
        let all: Vec<Value> =
            snapshot.range(&scope, None).map(|stored| stored.object.value().unwrap()).collect();
        all.iter().map(|event| event["count"].clone()).collect::<Vec<_>>()
    };
    let then = 1_790_000_000_000;
    say(&mut session, 1, vec![at(then), at(then)]).await;
    assert_eq!(events(), [1], "its answer was lost");
    say(&mut session, 3, vec![at(then + 5000), at(then + 10_000)]).await;
    assert_eq!(events(), [3]);
}

#[tokio::test]
async fn an_event_of_the_future_is_of_now() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    hub.create(PODS, "default", "mine", pod("mine", "pi-7")).await;
    let uid = hub.get(PODS, "default", "mine").await["metadata"]["uid"].clone();
    let seen = match event("mine", uid.as_str().unwrap(), 0) {
        Report::Event(seen) => Report::Event(EventV1 { at: u64::MAX, ..seen }),
        other => other,
    };
    let (_link, mut session) = hub.spoke("pi-7").await;
    say(&mut session, 1, vec![seen.clone()]).await;
    // Its answer was lost, and the hub's clock goes on.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    say(&mut session, 2, vec![seen]).await;
    let resource = freewheel_hub_schema::object::Resource::new("", "events");
    let scope = Scope { resource, cluster: None, namespace: None };
    let snapshot = hub.objects.store().snapshot();
    let event = snapshot.range(&scope, None).next().unwrap().object.value().unwrap();
    let made = event["metadata"]["creationTimestamp"].as_str().unwrap();
    assert!(event["lastTimestamp"].as_str().unwrap() <= made, "{event}");
    assert_eq!(event["count"], 1, "{event}");
}

#[tokio::test(start_paused = true)]
async fn what_a_device_says_of_itself_all_the_time_is_written_now_and_then() {
    let hub = Hub::new(true).await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let kernel = |number: usize| {
        let mut said = node();
        said.kernel = format!("6.{number}");
        Report::Node(said)
    };
    let before = hub.objects.store().snapshot().revision();
    say(&mut session, 1, (0..500).map(kernel).collect()).await;
    let written = (hub.objects.store().snapshot().revision() - before) / STEP;
    assert!(written < 40, "{written} writes");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let newest = hub.get(("", "v1", "nodes"), "", "pi-7").await;
    assert_eq!(newest["status"]["nodeInfo"]["kernelVersion"], "6.499", "the newest in the end");
}

#[tokio::test(start_paused = true)]
async fn one_event_that_is_told_all_the_time_is_written_now_and_then() {
    let hub = Hub::new(true).await;
    hub.create(PODS, "default", "mine", pod("mine", "pi-7")).await;
    let uid = hub.get(PODS, "default", "mine").await["metadata"]["uid"].clone();
    let (_link, mut session) = hub.spoke("pi-7").await;
    let again = |second: u64| match event("mine", uid.as_str().unwrap(), 0) {
        Report::Event(seen) => {
            let at = seen.at + 1000 * second;
            Report::Event(EventV1 { at, message: "again".into(), ..seen })
        }
        other => other,
    };
    let (before, start) = (hub.objects.store().snapshot().revision(), tokio::time::Instant::now());
    say(&mut session, 1, (0..5000).map(again).collect()).await;
    let written = (hub.objects.store().snapshot().revision() - before) / STEP;
    let most = 2048 + 20 * start.elapsed().as_secs() + 8;
    assert!((1000..=most).contains(&written), "{written} writes, of at most {most}");
}

/// What a spoke says of its pod `mine`, with this in it.
fn state(uid: &Value, message: &str) -> Report {
    let Report::Pod(status) = crate::running("root", uid.as_str().unwrap()) else {
        panic!("no pod")
    };
    Report::Pod(PodStatusV1 { name: "mine".into(), message: message.into(), ip: None, ..status })
}

#[tokio::test(start_paused = true)]
async fn what_a_device_says_of_a_pod_all_the_time_is_written_now_and_then() {
    let hub = Hub::new(true).await;
    hub.create(PODS, "default", "mine", pod("mine", "pi-7")).await;
    let uid = hub.get(PODS, "default", "mine").await["metadata"]["uid"].clone();
    let (_link, mut session) = hub.spoke("pi-7").await;
    let (before, start) = (hub.objects.store().snapshot().revision(), tokio::time::Instant::now());
    let states = (0..500).map(|number| state(&uid, &format!("state {number}")));
    say(&mut session, 1, states.collect()).await;
    let written = (hub.objects.store().snapshot().revision() - before) / STEP;
    let most = 64 + start.elapsed().as_secs() + 8;
    assert!(written <= most, "{written} writes in {:?}", start.elapsed());
    let newest = hub.get(PODS, "default", "mine").await;
    assert_eq!(newest["status"]["message"], "state 499", "what is answered is written");
}

#[tokio::test(start_paused = true)]
async fn a_flood_about_one_pod_ends_with_its_newest_state_and_is_answered_then() {
    let hub = Hub::new(true).await;
    for name in ["mine", "other"] {
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
    }
    let [uid, other] = {
        let of = async |name| hub.get(PODS, "default", name).await["metadata"]["uid"].clone();
        [of("mine").await, of("other").await]
    };
    let (_link, mut session) = hub.spoke("pi-7").await;
    let flood = (0..100).map(|number| state(&uid, &format!("state {number}")));
    say(&mut session, 1, flood.collect()).await;
    let before = hub.objects.store().snapshot().revision();
    let stamp = |sequence| ReportStamp { boot_epoch: 1, sequence };
    for sequence in 101..=500 {
        let (stamp, report) = (stamp(sequence), state(&uid, &format!("last {sequence}")));
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    }
    let Report::Pod(status) = state(&other, "neighbour") else { panic!("no pod") };
    let report = Report::Pod(PodStatusV1 { name: "other".into(), ..status });
    let neighbour = SpokeToHub::Report { stamp: stamp(501), report };
    frame::write(&mut session.0, &neighbour).await.unwrap();
    let start = tokio::time::Instant::now();
    let message = |name: &str| {
        let stored = hub.objects.get(&place(PODS, "default", name)).unwrap();
        stored.object.value().unwrap()["status"]["message"].clone()
    };
    eventually("a neighbour waits for nothing", || message("other") == "neighbour").await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    loop {
        let HubToSpoke::ReportsTaken(taken) = heard(&mut session).await else { continue };
        if stamp(500) <= taken {
            break;
        }
    }
    assert_eq!(message("mine"), "last 500", "what is answered is written");
    let written = (hub.objects.store().snapshot().revision() - before) / STEP;
    assert!(written <= 8, "{written} writes");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_device_tells_of_its_own_nodes_and_of_no_other() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    // As the controllers make it for every cluster.
    let namespace = ObjectRef {
        cluster: ClusterName::try_from("pi-7").unwrap(),
        ..place(("", "v1", "namespaces"), "", "default")
    };
    let value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    hub.objects.create(&WriteOptions::default(), &namespace, value).await.unwrap();
    let (_other, _session) = hub.spoke("pi-8").await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let own = |reason: &str, message: String, at| {
        Report::NodeEvent(NodeEventV1 { warning: true, reason: reason.into(), message, at })
    };
    let then = 1_790_000_000_000;
    let reclaim = "Attempting to reclaim memory";
    let met = |at| own("EvictionThresholdMet", reclaim.to_owned(), at);
    say(&mut session, 1, vec![met(then)]).await;
    say(&mut session, 2, vec![met(then + 300_000)]).await;
    let events = || {
        let resource = freewheel_hub_schema::object::Resource::new("", "events");
        let scope = Scope { resource, cluster: None, namespace: None };
        let snapshot = hub.objects.store().snapshot();
        snapshot
            .range(&scope, None)
            .map(|stored| (stored.key.cluster.to_string(), stored.object.value().unwrap()))
            .collect::<Vec<_>>()
    };
    let root = hub.get(("", "v1", "nodes"), "", "pi-7").await;
    let told = events();
    let clusters: Vec<&str> = told.iter().map(|(cluster, _)| &**cluster).collect();
    assert_eq!(clusters.len(), 2);
    assert!(clusters.contains(&"root") && clusters.contains(&"pi-7"), "{clusters:?}");
    for (cluster, event) in &told {
        let about = &event["involvedObject"];
        assert_eq!((&about["kind"], &about["name"]), (&json!("Node"), &json!("pi-7")));
        assert!(about["namespace"].is_null());
        if cluster == "root" {
            assert_eq!(about["uid"], root["metadata"]["uid"]);
        }
        assert_eq!((&event["type"], &event["count"]), (&json!("Warning"), &json!(2)));
        assert_eq!(
            (&event["reason"], &event["message"]),
            (&json!("EvictionThresholdMet"), &json!(reclaim))
        );
    }
    let flood: Vec<_> = (0..300).map(|n| own("Flood", format!("{n}"), then + n)).collect();
    say(&mut session, 3, flood).await;
    assert!(events().len() <= 2 * 64, "{} events", events().len());
    assert!(events().iter().all(|(_, event)| event["involvedObject"]["name"] == "pi-7"));
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_clock_was_never_set_is_told_of() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let own = ClusterName::try_from("pi-7").unwrap();
    let namespace =
        ObjectRef { cluster: own.clone(), ..place(("", "v1", "namespaces"), "", "default") };
    let value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    hub.objects.create(&WriteOptions::default(), &namespace, value).await.unwrap();
    let (_link, mut session) = hub.spoke("pi-7").await;
    let with = |troubles: &[&str]| {
        let pressure = troubles.iter().map(|trouble| (*trouble).to_owned()).collect();
        vec![Report::Node(NodeStatusV1 { pressure, ..node() })]
    };
    let says = |cluster: &ClusterName, trouble: &str| {
        let place =
            ObjectRef { cluster: cluster.clone(), ..place(("", "v1", "nodes"), "", "pi-7") };
        let node = hub.objects.get(&place).ok()?.object.value().unwrap();
        let conditions = node["status"]["conditions"].as_array()?.clone();
        let one = conditions.into_iter().find(|it| it["type"] == trouble)?;
        one["status"].as_str().map(str::to_owned)
    };
    let told = || {
        let resource = freewheel_hub_schema::object::Resource::new("", "events");
        let scope = Scope { resource, cluster: None, namespace: None };
        let snapshot = hub.objects.store().snapshot();
        let events = snapshot.range(&scope, None).map(|stored| stored.object.value().unwrap());
        events.filter(|it| it["reason"] == "ClockIsNotSet").count()
    };
    let (clock, realms) = ("ClockUnsynchronized", [ClusterName::root(), own]);
    say(&mut session, 1, with(&[clock])).await;
    for realm in &realms {
        let is_said = || says(realm, clock).as_deref() == Some("True");
        eventually("it is said", is_said).await;
    }
    eventually("and told", || told() == 2).await;
    // It is wrong still, when something else is.
    say(&mut session, 2, with(&[clock, "LedgerDamaged"])).await;
    let is_said = || says(&realms[1], "LedgerDamaged").as_deref() == Some("True");
    eventually("that is said, too", is_said).await;
    say(&mut session, 3, with(&[])).await;
    for realm in &realms {
        let is_over = || says(realm, clock).as_deref() == Some("False");
        eventually("it is over", is_over).await;
    }
    assert_eq!(told(), 2, "once on each Node");
}

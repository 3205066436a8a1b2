//! What people are told while a compiler is at work, and what they are told of what runs.

use freewheel_link::limits;
use freewheel_link::message::COMPILING_REASON;
use freewheel_link::report::{ContainerStateV1, ContainerStatusV1};

use crate::support::*;

fn with_image(name: &str, node: &str, image: &str) -> Value {
    let mut pod = pod(name, node);
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod
}

/// Events as (pod, message).
fn events(hub: &Hub) -> Vec<(String, String)> {
    let resource = freewheel_hub_schema::object::Resource::new("", "events");
    let scope = Scope { resource, cluster: None, namespace: None };
    let snapshot = hub.objects.store().snapshot();
    let all = snapshot.range(&scope, None).map(|stored| stored.object.value().unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let compiling = all.filter(|event| event["reason"] == "Compiling" && event["type"] == "Normal");
    compiling.map(|e| (text(&e["involvedObject"]["name"]), text(&e["message"]))).collect()
}

#[tokio::test]
async fn the_pods_that_wait_for_a_compiler_are_told_so() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    for (name, node, image) in
        [("slow", "pi-7", SLOW), ("quick", "pi-7", "quick:v1"), ("elsewhere", "pi-8", SLOW)]
    {
        hub.create(PODS, "default", name, with_image(name, node, image)).await;
    }
    let (link, mut session) = hub.spoke("pi-7").await;
    Holder::default().plan(&mut session).await;
    for image in [SLOW, "quick:v1"] {
        let component = Digest::of(image.as_bytes());
        let ask = ModuleRequestV1 { component, profile: profile().key(), offset: 0, resume: None };
        let link = link.clone();
        tokio::spawn(async move {
            let mut stream = link.open(Priority::Modules).await.unwrap();
            frame::write(&mut stream.send, &Open::Module(ask)).await.unwrap();
            // Held until the test is over.
            FrameReader::new(stream.recv).next::<Answer>().await.unwrap();
        });
    }
    eventually("it is told", || !events(&hub).is_empty()).await;
    let message = format!("Compiling module {SLOW:?} (18 MB) for the engine of this device");
    assert_eq!(events(&hub), [("slow".to_owned(), message)]);
}

#[tokio::test]
async fn a_module_is_compiled_in_the_turn_of_those_whose_pods_wait_for_it() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    hub.create(("", "v1", "namespaces"), "", "shop", shop).await;
    for (namespace, name, image) in
        [("default", "a", "app:v1"), ("shop", "b", "app:v1"), ("shop", "c", "app:v2")]
    {
        let mut pod = with_image(name, "pi-7", image);
        pod["metadata"]["namespace"] = json!(namespace);
        hub.create(PODS, namespace, name, pod).await;
    }
    let (link, mut session) = hub.spoke("pi-7").await;
    Holder::default().plan(&mut session).await;
    let refusal = async |image: &str| {
        let component = Digest::of(image.as_bytes());
        let ask = ModuleRequestV1 { component, profile: profile().key(), offset: 0, resume: None };
        let mut stream = link.open(Priority::Modules).await.unwrap();
        frame::write(&mut stream.send, &Open::Module(ask)).await.unwrap();
        let answer = FrameReader::new(stream.recv).next::<Answer>().await.unwrap();
        let Some(Answer::Refused(refusal)) = answer else { panic!("{answer:?}") };
        refusal.message
    };
    let both = refusal("app:v1").await;
    assert!(both.ends_with("for [Namespace(\"default\"), Namespace(\"shop\")]"), "{both}");
    let one = refusal("app:v2").await;
    assert!(one.ends_with("for [Namespace(\"shop\")]"), "{one}");
    let nobodys = refusal("other:v1").await;
    assert!(nobodys.ends_with("for [Cluster(ClusterName(\"pi-7\"))]"), "{nobodys}");
}

#[tokio::test]
async fn a_device_with_an_unknown_engine_is_told_so() {
    let hub = Hub::new(true).await;
    let (link, _session) = hub.spoke("pi-7").await;
    let profile = "99-riscv64-guard4g-1".to_owned();
    let ask = ModuleRequestV1 { component: Digest::of(b"c"), profile, offset: 0, resume: None };
    let mut stream = link.open(Priority::Modules).await.unwrap();
    frame::write(&mut stream.send, &Open::Module(ask)).await.unwrap();
    let answer = FrameReader::new(stream.recv).next::<Answer>().await.unwrap();
    let Some(Answer::Refused(refusal)) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.reason, "ErrImageCompile");
    assert!(refusal.message.contains("99-riscv64-guard4g-1"), "{}", refusal.message);
}

#[tokio::test]
async fn what_runs_is_called_by_the_manifest_that_was_pushed() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    hub.create(PODS, "default", "web", with_image("web", "pi-7", "hub:6443/app:v1")).await;
    let uid = hub.get(PODS, "default", "web").await["metadata"]["uid"].as_str().unwrap().to_owned();
    let (_link, mut session) = hub.spoke("pi-7").await;
    let component = Digest::of(b"component");
    let Report::Pod(mut report) = crate::running("root", &uid) else { panic!("a pod's report") };
    report.containers = vec![ContainerStatusV1 {
        name: "c".into(),
        ready: true,
        begun: true,
        restarts: 0,
        image: "hub:6443/app:v1".into(),
        image_id: component.to_string(),
        container_id: String::new(),
        state: ContainerStateV1::Running(1_790_000_000_000),
        last: None,
        last_id: String::new(),
    }];
    let stamp = ReportStamp { boot_epoch: 1, sequence: 1 };
    let report = Report::Pod(report);
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    let id = || {
        let pod = hub.objects.get(&place(PODS, "default", "web")).unwrap().object.value().unwrap();
        pod["status"]["containerStatuses"][0]["imageID"].as_str().unwrap_or_default().to_owned()
    };
    eventually("it is reported", || !id().is_empty()).await;
    assert_eq!(id(), format!("hub:6443/app@{}", Digest::of(&component.0)));
}

/// Asks for a module; the answer, if one comes soon, and the stream.
async fn ask(link: &dyn Transport, component: Digest) -> (Option<Answer>, Session) {
    let ask = ModuleRequestV1 { component, profile: profile().key(), offset: 0, resume: None };
    let mut stream = link.open(Priority::Modules).await.unwrap();
    frame::write(&mut stream.send, &Open::Module(ask)).await.unwrap();
    let mut recv = FrameReader::new(stream.recv);
    let soon = tokio::time::timeout(Duration::from_secs(1), recv.next::<Answer>()).await;
    (soon.ok().map(|answer| answer.unwrap().unwrap()), (stream.send, recv))
}

fn is_to_come_again(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(refusal) if refusal.reason == COMPILING_REASON)
}

#[tokio::test(start_paused = true)]
async fn modules_that_are_being_compiled_take_no_stream_from_one_that_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, envelope) = crate::with_artifact(dir.path(), 10).await;
    let (link, _session) = hub.spoke("pi-7").await;
    let slow = Digest::of(SLOW.as_bytes());
    let (mut waiting, mut later) = (Vec::new(), 0);
    for _ in 0..limits::MODULE_STREAMS_MAX {
        match ask(&*link, slow).await {
            (None, stream) => waiting.push(stream),
            (Some(answer), _) => {
                assert!(is_to_come_again(&answer), "{answer:?}");
                later += 1;
            }
        }
    }
    assert!(!waiting.is_empty() && 0 < later, "{} wait, {later} come again", waiting.len());
    let (answer, _stream) = ask(&*link, envelope.component).await;
    assert_eq!(answer, Some(Answer::Ready));
}

/// Asks for what is being compiled until no more may wait; those that do.
async fn all_that_wait(link: &dyn Transport) -> Vec<Session> {
    let mut waiting = Vec::new();
    loop {
        match ask(link, Digest::of(SLOW.as_bytes())).await {
            (None, stream) => waiting.push(stream),
            (Some(answer), _) => {
                assert!(is_to_come_again(&answer), "{answer:?}");
                return waiting;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_a_module_up_leaves_its_place() {
    let hub = Hub::new(true).await;
    let (link, _session) = hub.spoke("pi-7").await;
    let waiting = all_that_wait(&*link).await;
    let most = waiting.len();
    assert!(0 < most);
    drop(waiting);
    for _ in 0..1000 {
        if all_that_wait(&*link).await.len() == most {
            return;
        }
    }
    panic!("their places did not come back");
}

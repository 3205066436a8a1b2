//! What is opened for a container, and when.

use freewheel_link::plan::{
    DownwardFileV1, DownwardSourceV1, DownwardV1, MountV1, ProjectedV1, VolumeSourceV1, VolumeV1,
};

use super::*;

/// A pod with so many mounts.
fn mounting(name: &str, count: usize) -> PodV1 {
    let mut pod = pod(name);
    let source = VolumeSourceV1::EmptyDir(None);
    pod.volumes = vec![VolumeV1 { name: "cache".to_owned(), source }];
    let mount = |n: usize| MountV1 {
        volume: "cache".to_owned(),
        path: format!("/{n}"),
        sub_path: String::new(),
        read_only: false,
    };
    pod.containers[0].mounts = (0..count).map(mount).collect();
    pod
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_before_it_has_a_place() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    *run.world.engine.places.lock() = 3;
    run.plan(vec![range(), pod_record(&mounting("a", 2))], vec![]).await;
    assert_eq!(*run.world.engine.places.lock(), 1);
    run.plan(vec![pod_record(&mounting("b", 2))], vec![]).await;
    assert_eq!(*run.world.files.opened.lock(), 2, "what b mounts is not opened");
    assert_eq!(run.running(), ["a web/0"]);
    // It is no mistake of the pod's: when there are places it runs.
    run.plan(vec![], vec![RecordKey { ..pod_record(&mounting("a", 2)).key }]).await;
    run.world.engine.end_of("uid-a");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    run.rest().await;
    assert_eq!(run.names(), ["b"]);
    assert_eq!(*run.world.engine.places.lock(), 1, "and what ended has given its places back");
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_of_the_node_follows_it() {
    let shows = |name: &str, source: DownwardSourceV1| {
        let file = DownwardFileV1 { path: "it".to_owned(), source, mode: None };
        let source = VolumeSourceV1::Downward(DownwardV1 { files: vec![file], mode: 0o644 });
        PodV1 { volumes: vec![VolumeV1 { name: "it".to_owned(), source }], ..pod(name) }
    };
    let cpu = |name: &str| {
        let (of, what, unit) = ("web".to_owned(), "limits.cpu".to_owned(), "1m".to_owned());
        shows(name, DownwardSourceV1::Resource(of, what, unit))
    };
    let mut run = run(&SimDisk::default());
    let mut limited = cpu("limited");
    limited.containers[0].cpu_limit_milli = Some(500);
    let name = shows("name", DownwardSourceV1::Field("metadata.name".to_owned()));
    let records = [cpu("all"), limited, name].map(|pod| pod_record(&pod));
    run.plan([range()].into_iter().chain(records).collect(), vec![]).await;
    let shown = |run: &Run, pod: &str| {
        let dir = PathBuf::from(format!("/data/pods/uid-{pod}/volumes/it"));
        String::from_utf8(run.world.files.sets.lock()[&dir][0].bytes.clone()).unwrap()
    };
    assert_eq!((shown(&run, "all"), shown(&run, "limited")), ("4000".to_owned(), "500".to_owned()));
    let written = *run.world.files.written.lock();
    run.send(Input::Node(NodeStatusV1 { cpu_milli: 2000, ..node() })).await;
    assert_eq!((shown(&run, "all"), shown(&run, "limited")), ("2000".to_owned(), "500".to_owned()));
    assert_eq!(*run.world.files.written.lock() - written, 2, "who shows its name is left alone");
    // What guests have nothing of changes nothing.
    run.send(Input::Node(NodeStatusV1 { cpu_milli: 2000, kernel: "7".to_owned(), ..node() })).await;
    assert_eq!(*run.world.files.written.lock() - written, 2);
}

/// A pod that mounts these ConfigMaps.
fn configured(name: &str, maps: &[&str]) -> PodV1 {
    let volume = |map: &&str| {
        let (kind, name) = (Kind::CONFIG_MAP_V1, (*map).to_owned());
        let (items, optional, mode) = (vec![], false, 0o644);
        let source = VolumeSourceV1::Config(ProjectedV1 { kind, name, items, optional, mode });
        VolumeV1 { name: (*map).to_owned(), source }
    };
    PodV1 { volumes: maps.iter().map(volume).collect(), ..pod(name) }
}

fn config(name: &str) -> Record {
    record(Kind::CONFIG_MAP_V1, &format!("default/{name}"), &ConfigV1 { data: vec![] })
}

/// A ConfigMap with this in it.
fn config_of(name: &str, value: &str) -> Record {
    let data = vec![("it".to_owned(), value.as_bytes().to_vec())];
    record(Kind::CONFIG_MAP_V1, &format!("default/{name}"), &ConfigV1 { data })
}

/// What a pod's volume shows.
fn shown(run: &Run, pod: &str, volume: &str) -> Option<String> {
    let dir = PathBuf::from(format!("/data/pods/uid-{pod}/volumes/{volume}"));
    let sets = run.world.files.sets.lock();
    String::from_utf8(sets.get(&dir)?.first()?.bytes.clone()).ok()
}

#[tokio::test(start_paused = true)]
async fn a_mount_is_told_to_fail_when_what_it_needs_does_not_come() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let told = |run: &Run| {
        run.events().iter().filter(|event| event.starts_with("Warning FailedMount")).count()
    };
    // The first of a namespace: what its namespace gives it comes a moment later, one after the other.
    run.plan(vec![range(), pod_record(&configured("first", &["ca", "token"]))], vec![]).await;
    run.plan(vec![config("ca")], vec![]).await;
    assert_eq!(run.names(), [""; 0]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    run.plan(vec![config("token")], vec![]).await;
    assert_eq!((run.names(), told(&run)), (vec!["first".to_owned()], 0));
    // What does not come in that moment is told, and again with each later try.
    run.plan(vec![pod_record(&configured("late", &["never"]))], vec![]).await;
    assert_eq!(told(&run), 0);
    seconds(&run, 2).await;
    assert_eq!((run.names(), told(&run)), (vec!["first".to_owned()], 1));
    seconds(&run, 8).await;
    assert_eq!(told(&run), 1);
    seconds(&run, 2).await;
    assert_eq!(told(&run), 2);
    seconds(&run, 20).await;
    assert_eq!(told(&run), 3);
    run.plan(vec![config("never")], vec![]).await;
    assert_eq!(run.names(), ["first", "late"]);
}

/// Waits for this by the clock on the wall.
async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in 20 s: {what}");
}

#[tokio::test]
async fn a_slow_card_holds_no_neighbour_up() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let mut near = mounting("near", 1);
    near.containers[0].name = "near".to_owned();
    let mut records = vec![range(), config_of("shared", "old"), pod_record(&near)];
    let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
    records.extend(names.iter().map(|name| pod_record(&configured(name, &["shared"]))));
    run.plan(records, vec![]).await;
    wait_for("all run", || run.names().len() == 101).await;
    *run.world.files.write_time.lock() = Duration::from_millis(100);
    let start = std::time::Instant::now();
    run.plan(vec![config_of("shared", "new")], vec![]).await;
    run.world.engine.end("near", 1);
    let again = || run.running().contains(&"near near/1".to_owned());
    wait_for("it starts again", again).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    *run.world.files.write_time.lock() = Duration::from_millis(1);
    let new = || names.iter().all(|name| shown(&run, name, "shared").as_deref() == Some("new"));
    wait_for("what has changed is shown", new).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_waits_for_what_is_at_work_for_it() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let gone = |run: &Run, name: &str| {
        let uid = format!("uid-{name}");
        let reports = run.world.uplink.reports.lock();
        let told = reports
            .iter()
            .any(|(_, it)| matches!(it, Report::PodGone { uid: of, .. } if *of == uid));
        let dir = PathBuf::from(format!("/data/pods/{uid}"));
        (told, run.world.files.removed.lock().contains(&dir))
    };
    *run.world.files.held.lock() = Some(Vec::new());
    let making = configured("making", &["it"]);
    let opening = mounting("opening", 1);
    let records = vec![range(), config_of("it", "1"), pod_record(&making), pod_record(&opening)];
    run.plan(records, vec![]).await;
    assert_eq!(run.names(), [""; 0]);
    // The second one's are made, and its mounts wait; the first one's are to be made anew.
    run.world.files.let_go();
    run.rest().await;
    run.plan(vec![config_of("it", "2")], vec![]).await;
    assert_eq!(run.names(), ["making"]);
    let going = [making, opening].map(|pod| pod_record(&PodV1 { deleting: Some(0), ..pod }));
    run.plan(going.to_vec(), vec![]).await;
    seconds(&run, 40).await;
    run.world.engine.end_of("uid-making");
    seconds(&run, 40).await;
    for name in ["making", "opening"] {
        assert_eq!(gone(&run, name), (false, false), "{name}");
    }
    run.world.files.let_go();
    run.rest().await;
    for name in ["making", "opening"] {
        assert_eq!(gone(&run, name), (true, true), "{name}");
    }
    assert!(run.world.files.sets.lock().is_empty(), "nothing comes back");
    assert!(run.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn configuration_that_comes_while_volumes_are_made_is_in_them_in_the_end() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    *run.world.files.held.lock() = Some(Vec::new());
    let late = configured("late", &["here", "missing"]);
    run.plan(vec![range(), config_of("here", "1"), pod_record(&late)], vec![]).await;
    // They are being made, as far as they can be.
    run.plan(vec![config_of("missing", "1")], vec![]).await;
    assert_eq!(run.names(), [""; 0]);
    run.world.files.let_go();
    run.rest().await;
    assert_eq!(run.names(), ["late"], "it waits for no timer");
    for value in ["3", "2"] {
        run.plan(vec![config_of("here", value)], vec![]).await;
    }
    run.world.files.let_go();
    run.rest().await;
    for (volume, value) in [("here", "2"), ("missing", "1")] {
        assert_eq!(shown(&run, "late", volume).as_deref(), Some(value));
    }
}

#[tokio::test(start_paused = true)]
async fn volumes_that_were_being_made_when_the_agent_died_are_made_by_the_next() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    *first.world.files.held.lock() = Some(Vec::new());
    let pods = [configured("made", &["it"]), configured("gone", &["it"])];
    let mut records = vec![range(), config_of("it", "1")];
    records.extend(pods.iter().map(pod_record));
    first.plan(records, vec![]).await;
    seconds(&first, 5).await;
    assert_eq!(first.names(), [""; 0]);
    first.task.abort();
    let mut second = run(&disk);
    second.rest().await;
    assert_eq!(second.names(), ["gone", "made"]);
    assert_eq!(shown(&second, "made", "it").as_deref(), Some("1"));
    second.plan(vec![], vec![pod_record(&pods[1]).key]).await;
    second.world.engine.end_of("uid-gone");
    seconds(&second, 40).await;
    assert_eq!((second.names(), shown(&second, "gone", "it")), (vec!["made".to_owned()], None));
}

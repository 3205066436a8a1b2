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
    // What does not come is told when it was tried again, and with each later try.
    run.plan(vec![pod_record(&configured("late", &["never"]))], vec![]).await;
    seconds(&run, 5).await;
    assert_eq!(told(&run), 0);
    seconds(&run, 6).await;
    assert_eq!((run.names(), told(&run)), (vec!["first".to_owned()], 1));
    seconds(&run, 20).await;
    assert_eq!(told(&run), 2);
    run.plan(vec![config("never")], vec![]).await;
    assert_eq!(run.names(), ["first", "late"]);
}

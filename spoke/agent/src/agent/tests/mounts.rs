//! What is opened for a container, and when.

use freewheel_link::plan::{MountV1, VolumeSourceV1, VolumeV1};

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

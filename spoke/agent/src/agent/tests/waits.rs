//! What pods wait for: when it is there, they are woken.

use freewheel_link::plan::{MountV1, VolumeSourceV1, VolumeV1};

use super::lives::{job, one_address};
use super::*;

fn deleted(name: &str) -> Record {
    pod_record(&PodV1 { deleting: Some(0), ..pod(name) })
}

#[tokio::test(start_paused = true)]
async fn addresses_that_become_free_go_to_those_that_wait_in_their_order() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![one_address(), pod_record(&pod("a"))], vec![]).await;
    for name in ["e", "d", "c", "b"] {
        run.plan(vec![pod_record(&job(name))], vec![]).await;
    }
    assert_eq!(run.names(), ["a"]);
    let refusals = |run: &Run| {
        run.reasons().iter().filter(|reason| *reason == "FailedCreatePodSandBox").count()
    };
    assert_eq!(refusals(&run), 4, "each is told once");
    // One that comes in the moment in which the address becomes free is behind those that wait.
    run.plan(vec![deleted("a"), pod_record(&pod("z"))], vec![]).await;
    assert_eq!(run.names(), ["e"]);
    // One that waits and goes is waited for by nobody.
    run.plan(vec![deleted("d")], vec![]).await;
    run.world.engine.end_of("uid-e");
    run.rest().await;
    assert_eq!(run.names(), ["c"], "who has ended for good has no address any more");
    run.plan(vec![], vec![pod_record(&pod("c")).key]).await;
    assert_eq!(run.names(), ["b"]);
    run.plan(vec![deleted("b")], vec![]).await;
    assert_eq!(run.names(), ["z"]);
    assert_eq!(refusals(&run), 5);
}

#[tokio::test(start_paused = true)]
async fn a_new_range_is_for_those_that_wait_as_well() {
    let mut run = run(&SimDisk::default());
    run.plan(vec![one_address(), pod_record(&pod("a"))], vec![]).await;
    for name in ["c", "b"] {
        run.plan(vec![pod_record(&pod(name))], vec![]).await;
    }
    let base = [10, 64, 9, 0].into();
    let more = record(Kind::POD_CIDR_V1, "10.64.9.0/30", &PodCidrV1 { base, prefix: 30 });
    run.plan(vec![more, pod_record(&pod("0"))], vec![]).await;
    assert_eq!(run.names(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_the_disk_refuses_is_tried_again_less_and_less_often() {
    let mut pod = pod("a");
    let source = VolumeSourceV1::EmptyDir(None);
    pod.volumes = vec![VolumeV1 { name: "cache".to_owned(), source }];
    pod.containers[0].mounts = vec![MountV1 {
        volume: "cache".to_owned(),
        path: "/cache".to_owned(),
        sub_path: "inner".to_owned(),
        read_only: false,
    }];
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    *run.world.files.full.lock() = true;
    run.plan(vec![range(), pod_record(&pod)], vec![]).await;
    let tries = |run: &Run| *run.world.files.opened.lock();
    let waiting = format!("{:?}", run.said("a").unwrap().containers[0].state);
    assert!(waiting.contains("failed to prepare subPath"), "{waiting}");
    tokio::time::sleep(Duration::from_secs(71)).await;
    run.rest().await;
    assert_eq!(tries(&run), 4, "at once, and after 10, 30 and 70 seconds");
    // Nothing of the plan changes.
    *run.world.files.full.lock() = false;
    tokio::time::sleep(Duration::from_secs(80)).await;
    run.rest().await;
    assert_eq!(run.names(), ["a"]);
    assert_eq!(tries(&run), 5);
}

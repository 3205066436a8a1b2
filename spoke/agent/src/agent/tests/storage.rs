//! Pods that have more on the disk than they may.

use freewheel_link::plan::{MountV1, PodStorageV1, StorageV1, VolumeSourceV1, VolumeV1};

use super::*;

fn with_volume(name: &str, limit: Option<u64>) -> PodV1 {
    let mut pod = pod(name);
    let source = VolumeSourceV1::EmptyDir(limit);
    pod.volumes = vec![VolumeV1 { name: "cache".to_owned(), source }];
    pod
}

/// The same pod with so much for its container.
fn limited(mut pod: PodV1, limit: u64) -> PodV1 {
    let web = StorageV1 { container: "web".to_owned(), limit: Some(limit), request: None };
    pod.parts.put(&PodStorageV1 { containers: vec![web] }).unwrap();
    pod
}

impl Run {
    fn fill(&self, path: &str, bytes: u64) {
        self.world.files.sizes.lock().insert(path.into(), bytes);
    }

    /// Long enough for a measurement and what follows.
    async fn a_while(&self) {
        tokio::time::sleep(Duration::from_secs(12)).await;
        self.rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_more_than_its_volume_may_hold_is_evicted() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let pod = with_volume("a", Some(1 << 20));
    run.plan(vec![range(), pod_record(&pod)], vec![]).await;
    run.fill("/data/pods/uid-a/volumes/cache", 1 << 20);
    run.a_while().await;
    assert_eq!(run.running(), ["a web/0"], "as much as it may have");
    run.fill("/data/pods/uid-a/volumes/cache", (1 << 20) + 4096);
    run.a_while().await;
    assert_eq!(run.running(), [""; 0]);
    assert!(run.world.engine.log().contains(&"stop web/0 1s".to_owned()));
    let said = run.said("a").unwrap();
    let message = "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". ";
    assert_eq!((said.phase, said.reason.as_str()), (PhaseV1::Failed, "Evicted"));
    assert_eq!(said.message, message);
    let disruption = said.conditions.iter().find(|c| c.kind == "DisruptionTarget").unwrap();
    assert_eq!((disruption.status, disruption.reason.as_str()), (true, "TerminationByKubelet"));
    assert!(run.events().contains(&format!("Warning Evicted: {message}")), "{:?}", run.events());
    let removed = run.world.files.removed.lock().clone();
    assert!(removed.contains(&"/data/pods/uid-a/volumes".into()), "{removed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_keeps_by_mounting_it_alone_is_on_its_disk() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let mut pod = limited(with_volume("a", None), 2 << 20);
    pod.containers[0].mounts = vec![MountV1 {
        volume: "cache".to_owned(),
        path: "/one/f".to_owned(),
        sub_path: "f".to_owned(),
        read_only: false,
    }];
    run.plan(vec![range(), pod_record(&pod)], vec![]).await;
    run.fill("/data/pods/uid-a/volumes/cache", 1 << 20);
    run.fill("/data/pods/uid-a/subpaths", 1 << 20);
    run.a_while().await;
    assert_eq!(run.running(), ["a web/0"], "as much as it may have");
    run.fill("/data/pods/uid-a/subpaths", (1 << 20) + 4096);
    run.a_while().await;
    let message = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
    assert_eq!(run.said("a").unwrap().message, message);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_stays_so_over_a_restart() {
    let disk = SimDisk::default();
    let mut first = run(&disk);
    let pod = with_volume("a", Some(1));
    first.plan(vec![range(), pod_record(&pod)], vec![]).await;
    first.fill("/data/pods/uid-a/volumes/cache", 4096);
    first.a_while().await;
    first.end().await;
    let second = run(&disk);
    second.send(Input::Connected(Some(1))).await;
    assert_eq!(second.running(), [""; 0]);
    assert_eq!(second.said("a").unwrap().reason, "Evicted");
}

#[tokio::test(start_paused = true)]
async fn logs_and_volumes_count_for_the_limits_of_containers() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    let (logs, both, fine) = (pod("logs"), with_volume("both", None), with_volume("fine", None));
    let mut records = vec![range()];
    for pod in [&logs, &both, &fine] {
        records.push(pod_record(&limited(pod.clone(), 1 << 20)));
    }
    run.plan(records, vec![]).await;
    run.fill("/data/pods/uid-logs/logs/web", 2 << 20);
    run.fill("/data/pods/uid-both/volumes/cache", 1 << 20);
    run.fill("/data/pods/uid-both/logs/web", 4096);
    run.fill("/data/pods/uid-fine/volumes/cache", 4096);
    run.a_while().await;
    assert_eq!(run.running(), ["fine web/0"]);
    for name in ["logs", "both"] {
        let message = run.said(name).unwrap().message;
        let expected =
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
        assert_eq!(message, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lifted_is_forgotten_and_none_costs_nothing() {
    let mut run = run(&SimDisk::default());
    let (before, free) = (limited(pod("limited"), 1), with_volume("free", None));
    run.plan(vec![range(), pod_record(&before), pod_record(&free)], vec![]).await;
    run.plan(vec![pod_record(&pod("limited"))], vec![]).await;
    run.fill("/data/pods/uid-limited/logs/web", 1 << 30);
    run.fill("/data/pods/uid-free/volumes/cache", 1 << 30);
    run.a_while().await;
    assert_eq!(run.running(), ["free web/0", "limited web/0"]);
    assert_eq!(*run.world.files.measured.lock(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_measurement_waits_for_the_end_of_the_last() {
    let mut run = run(&SimDisk::default());
    *run.world.files.slow.lock() = Some(vec![]);
    run.plan(vec![range(), pod_record(&with_volume("a", Some(1 << 20)))], vec![]).await;
    for _ in 0..5 {
        run.a_while().await;
    }
    assert_eq!(*run.world.files.measured.lock(), 1, "that one takes a minute");
    run.world.files.finish();
    run.rest().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(*run.world.files.measured.lock(), 1);
    run.a_while().await;
    assert_eq!(*run.world.files.measured.lock(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_being_deleted_is_held_to_its_limits() {
    let mut run = run(&SimDisk::default());
    let pod = PodV1 { deleting: Some(3600), ..with_volume("a", Some(1 << 20)) };
    run.plan(vec![range(), pod_record(&with_volume("a", Some(1 << 20)))], vec![]).await;
    *run.world.engine.stubborn.lock() = true;
    run.plan(vec![pod_record(&pod)], vec![]).await;
    run.fill("/data/pods/uid-a/volumes/cache", 2 << 20);
    run.a_while().await;
    assert!(run.world.engine.log().contains(&"stop web/0 1s".to_owned()));
}

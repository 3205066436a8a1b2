//! What a power cut takes, and what it may not.

use freewheel_link::ended::{ContainerEndedV1, ContainersEndedV1};
use freewheel_link::report::ContainerStateV1;

use super::*;

fn job(name: &str) -> PodV1 {
    PodV1 { restart: RestartPolicy::Never, ..pod(name) }
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_only_its_log_knows_is_not_the_first_again() {
    for (wrote, phase) in [(true, PhaseV1::Failed), (false, PhaseV1::Running)] {
        let disk = SimDisk::default();
        let mut first = run(&disk);
        // The ledger has the pod, and nothing of its start.
        first.world.modules.slow.lock().insert(Digest::of(b"hello"));
        first.plan(vec![range(), pod_record(&job("a"))], vec![]).await;
        first.end().await;
        let (world, ports, queue) = FakeWorld::new(disk, NOW);
        let log = PathBuf::from("/data/pods/uid-a/logs/web/0.log");
        if wrote {
            world.files.sizes.lock().insert(log.clone(), 1);
        }
        world.files.left.lock().insert(log);
        let files = world.files.clone();
        let config = Config { data: "/data".into(), node: node(), files, thresholds: vec![] };
        let agent = Agent::open(ports, config).unwrap();
        let (stop, revision) = (CancellationToken::new(), 1);
        let task = tokio::spawn(agent.run(queue, stop.clone()));
        let second = Run { world, stop, task, revision };
        second.send(Input::Connected(Some(1))).await;
        assert_eq!(second.said("a").unwrap().phase, phase, "it has written something: {wrote}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_once_it_is_durable() {
    let disk = SimDisk::default();
    let mut run = run(&disk);
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&job("a"))], vec![]).await;
    disk.set_full(true);
    run.world.engine.end("web", 0);
    run.rest().await;
    assert_eq!(run.said("a").unwrap().phase, PhaseV1::Running, "nobody has heard of its end");
    disk.set_full(false);
    tokio::time::sleep(DISK_RETRY).await;
    run.rest().await;
    assert_eq!(run.said("a").unwrap().phase, PhaseV1::Succeeded);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_hub_was_told_of_an_end_no_power_cut_takes_back() {
    for seed in 0..20 {
        let disk = SimDisk::default();
        let mut first = run(&disk);
        first.send(Input::Connected(Some(1))).await;
        first.plan(vec![range(), pod_record(&job("a"))], vec![]).await;
        first.world.engine.end("web", 0);
        first.rest().await;
        assert_eq!(first.said("a").unwrap().phase, PhaseV1::Succeeded, "at once");
        first.task.abort();
        disk.cut_power(&mut fastrand::Rng::with_seed(seed));
        let second = run(&disk);
        second.send(Input::Connected(Some(1))).await;
        assert_eq!(second.said("a").unwrap().phase, PhaseV1::Succeeded, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_has_ended_by_the_hubs_word_is_not_started_again() {
    let mut both = PodV1 { restart: RestartPolicy::OnFailure, ..pod("a") };
    let job = ContainerV1 { name: "job".to_owned(), ..both.containers[0].clone() };
    both.containers.push(job);
    let disk = SimDisk::default();
    let mut first = run(&disk);
    first.send(Input::Connected(Some(1))).await;
    first.plan(vec![range(), pod_record(&both)], vec![]).await;
    first.world.engine.end("job", 0);
    first.rest().await;
    let said = first.said("a").unwrap().containers.remove(1);
    let ContainerStateV1::Terminated(how) = said.state else { panic!("{said:?}") };
    first.end().await;
    // The hub knows that, and this device nothing: neither a ledger nor logs.
    let ended = ContainerEndedV1 { name: "job".to_owned(), restarts: 0, how: how.clone() };
    both.parts.put(&ContainersEndedV1 { containers: vec![ended] }).unwrap();
    let mut second = run(&SimDisk::default());
    second.send(Input::Connected(Some(1))).await;
    second.plan(vec![range(), pod_record(&both)], vec![]).await;
    assert_eq!(second.running(), ["a web/0"]);
    let said = second.said("a").unwrap();
    assert_eq!(said.containers[1].state, ContainerStateV1::Terminated(how));
}

/// What the hub hears of the device: the newest conditions, and the warnings at its Node.
fn of_the_node(run: &Run) -> (Vec<String>, Vec<String>) {
    let (mut conditions, mut warnings) = (Vec::new(), Vec::new());
    for (_, report) in run.world.uplink.reports.lock().iter() {
        match report {
            Report::Node(node) => conditions.clone_from(&node.pressure),
            Report::NodeEvent(event) => warnings.push(event.reason.clone()),
            _ => {}
        }
    }
    (conditions, warnings)
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_disk_takes_no_writes_runs_what_it_can_read() {
    use std::io::ErrorKind;
    let cases = [
        (ErrorKind::ReadOnlyFilesystem, "ReadonlyFilesystem"),
        (ErrorKind::PermissionDenied, "ReadonlyFilesystem"),
        (ErrorKind::StorageFull, "LedgerUnwritable"),
    ];
    for (how, condition) in cases {
        let disk = SimDisk::default();
        let mut first = run(&disk);
        first.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
        first.end().await;
        disk.set_refuses(Some(how));
        let mut second = run(&disk);
        second.send(Input::Connected(Some(1))).await;
        assert_eq!(second.names(), ["a"], "{how:?}");
        let said = (vec![condition.to_owned()], vec![condition.to_owned()]);
        assert_eq!(of_the_node(&second), said);
        // What comes runs, says what it is worth, and is not acknowledged.
        second.plan(vec![pod_record(&pod("b"))], vec![pod_record(&pod("a")).key]).await;
        assert_eq!(second.names(), ["b"]);
        let told = format!("Warning {condition}: the node's disk ");
        assert!(second.events().iter().any(|event| event.starts_with(&told)), "{how:?}");
        let runs =
            |run: &Run| run.world.uplink.runs.lock().iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(runs(&second), [generation(2)]);
        seconds(&second, 60).await;
        assert_eq!(of_the_node(&second), said, "it is said once");
        // The hub's next session begins with what is durable.
        second.send(Input::Connected(None)).await;
        second.send(Input::Connected(Some(2))).await;
        let (base, to) = (generation(1), generation(3));
        let part = PlanPart { base, to, snapshot: false, put: vec![], remove: vec![] };
        second.send(Input::Plan(part)).await;
        assert_eq!((runs(&second), second.names()), (vec![generation(2); 2], vec!["b".to_owned()]));
        seconds(&second, 60).await;
        assert_eq!(*second.world.uplink.took.lock(), []);
        second.task.abort();
        let third = run(&disk);
        third.rest().await;
        assert_eq!(third.names(), ["a"], "as if nothing had been");
        disk.set_refuses(None);
        third.send(Input::Connected(Some(2))).await;
        seconds(&third, 6).await;
        assert_eq!(of_the_node(&third).0, [""; 0]);
        assert_eq!(third.world.uplink.took.lock().last().unwrap().0, generation(1));
        third.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_device_tells_that_its_disk_is_read_only() {
    use std::io::ErrorKind;
    let disk = SimDisk::default();
    let mut run = run(&disk);
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    seconds(&run, 30).await;
    assert_eq!(of_the_node(&run).0, [""; 0]);
    disk.set_refuses(Some(ErrorKind::ReadOnlyFilesystem));
    seconds(&run, 11).await;
    assert_eq!(of_the_node(&run).0, ["ReadonlyFilesystem"]);
    assert_eq!(run.names(), ["a"]);
    disk.set_refuses(None);
    seconds(&run, 11).await;
    assert_eq!(of_the_node(&run).0, [""; 0]);
    // That it is full shows when there is something to write.
    disk.set_refuses(Some(ErrorKind::StorageFull));
    seconds(&run, 60).await;
    assert_eq!(of_the_node(&run).0, [""; 0]);
    run.plan(vec![pod_record(&pod("b"))], vec![]).await;
    seconds(&run, 3).await;
    assert_eq!(of_the_node(&run).0, ["LedgerUnwritable"]);
    run.end().await;
}

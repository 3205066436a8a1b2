//! What a power cut takes, and what it may not.

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

//! Pods whose health is looked at.

use freewheel_link::probes::{PodProbesV1, ProbeHandlerV1, ProbeKindV1, ProbeV1};

use super::*;
use crate::ports::Probed;

fn probe(kind: ProbeKindV1) -> ProbeV1 {
    ProbeV1 {
        container: "web".to_owned(),
        kind,
        handler: ProbeHandlerV1::Tcp(80),
        initial_delay_seconds: 0,
        period_seconds: 10,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 3,
        grace_seconds: None,
    }
}

fn probed(probes: &[ProbeV1]) -> PodV1 {
    let mut pod = pod("a");
    pod.parts.put(&PodProbesV1 { probes: probes.to_vec() }).unwrap();
    pod
}

impl Run {
    fn is_ill(&self, why: Option<Probed>) {
        let mut ill = self.world.engine.ill.lock();
        match why {
            Some(why) => ill.insert("web".to_owned(), why),
            None => ill.remove("web"),
        };
    }

    /// Whether the container has started, whether it is ready, and whether its pod is.
    fn health(&self) -> (bool, bool, bool) {
        let said = self.said("a").unwrap();
        let ready = said.conditions.iter().find(|one| one.kind == "Ready").unwrap().status;
        (said.containers[0].begun, said.containers[0].ready, ready)
    }

    fn asked(&self, what: &str) -> usize {
        self.world.engine.log().iter().filter(|line| *line == what).count()
    }
}

async fn up(probes: &[ProbeV1], restart: RestartPolicy, why: Option<Probed>) -> Run {
    let mut run = run(&SimDisk::default());
    run.is_ill(why);
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&PodV1 { restart, ..probed(probes) })], vec![]).await;
    run
}

fn refused() -> Option<Probed> {
    Some(Probed::Failure("dial tcp 10.64.3.2:80: connect: connection refused".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_ready_when_its_probes_say_so() {
    let run = up(&[probe(ProbeKindV1::Readiness)], RestartPolicy::Always, refused()).await;
    assert_eq!(run.health(), (true, false, false));
    let event = "Warning Unhealthy: Readiness probe failed: dial tcp 10.64.3.2:80: connect: connection refused";
    assert_eq!(run.events().pop().unwrap(), event);
    seconds(&run, 100).await;
    assert_eq!(run.health(), (true, false, false), "and it is not killed");
    assert_eq!(run.asked("probe web/0 Readiness"), 11);
    run.is_ill(None);
    seconds(&run, 10).await;
    assert_eq!(run.health(), (true, true, true));
    // Two failures are none yet, and what nobody knows is no failure.
    run.is_ill(refused());
    seconds(&run, 20).await;
    run.is_ill(Some(Probed::Error("container not found".to_owned())));
    seconds(&run, 10).await;
    let event = "Warning Unhealthy: Readiness probe errored and resulted in unknown state: container not found";
    assert_eq!(run.events().pop().unwrap(), event);
    assert_eq!(run.health(), (true, true, true));
    let told = run.events().len();
    run.is_ill(Some(Probed::Ended));
    seconds(&run, 10).await;
    assert_eq!(run.events().len(), told, "of what ends nothing is told");
    run.is_ill(refused());
    seconds(&run, 10).await;
    assert_eq!(run.health(), (true, false, false));
    assert_eq!(run.running(), ["a web/0"]);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_fails_its_liveness_probe_is_killed_and_starts_again() {
    let mut liveness = probe(ProbeKindV1::Liveness);
    liveness.grace_seconds = Some(5);
    let run = up(&[liveness], RestartPolicy::OnFailure, refused()).await;
    seconds(&run, 19).await;
    assert_eq!(run.running(), ["a web/0"], "not yet: {:?}", run.events());
    *run.world.engine.stubborn.lock() = true;
    seconds(&run, 1).await;
    assert_eq!(run.asked("stop web/0 5s"), 1);
    assert!(run.events().contains(
        &"Normal Killing: Container web failed liveness probe, will be restarted".to_owned()
    ));
    let asked = run.asked("probe web/0 Liveness");
    seconds(&run, 30).await;
    assert_eq!(run.asked("probe web/0 Liveness"), asked, "it is on its way out");
    // It ends as if all was well, and that is no success.
    run.is_ill(None);
    run.world.engine.end("web", 0);
    seconds(&run, 30).await;
    assert_eq!(run.running(), ["a web/1"]);
    assert_eq!(run.said("a").unwrap().phase, PhaseV1::Running);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_killed_as_unhealthy_has_not_succeeded_after_a_restart_of_the_agent_either() {
    let disk = SimDisk::default();
    let mut run = run(&disk);
    run.is_ill(refused());
    run.send(Input::Connected(Some(1))).await;
    let pod =
        PodV1 { restart: RestartPolicy::OnFailure, ..probed(&[probe(ProbeKindV1::Liveness)]) };
    run.plan(vec![range(), pod_record(&pod)], vec![]).await;
    *run.world.engine.stubborn.lock() = true;
    // It has failed often, so that it waits.
    for start in 0..3 {
        for _ in 0..100 {
            if run.running().is_empty() {
                seconds(&run, 1).await;
            }
        }
        assert_eq!(run.running(), [format!("a web/{start}")]);
        seconds(&run, 25).await;
        run.world.engine.end("web", 0);
        seconds(&run, 1).await;
    }
    assert_eq!(run.running(), [""; 0], "it waits to be started again");
    run.end().await;
    let later = self::run(&disk);
    seconds(&later, 400).await;
    assert_eq!(later.running(), ["a web/3"], "{:?}", later.said("a"));
    later.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_fails_its_liveness_probe_in_a_refused_or_held_pod_is_killed() {
    let mut run = up(&[probe(ProbeKindV1::Liveness)], RestartPolicy::Always, None).await;
    let newer = Record { needs: 1 << 63, ..pod_record(&probed(&[probe(ProbeKindV1::Liveness)])) };
    run.plan(vec![newer], vec![]).await;
    assert_eq!(run.running(), ["a web/0"], "what runs goes on");
    run.is_ill(refused());
    seconds(&run, 30).await;
    assert_eq!(run.running(), [""; 0]);
    let told = "Normal Killing: Container web failed liveness probe".to_owned();
    assert!(run.events().contains(&told), "{:?}", run.events());
    seconds(&run, 30).await;
    assert_eq!(run.running(), [""; 0], "and it may not start again");
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_started_again_ends_by_its_liveness_probe() {
    let run = up(&[probe(ProbeKindV1::Liveness)], RestartPolicy::Never, refused()).await;
    seconds(&run, 20).await;
    assert!(
        run.events().contains(&"Normal Killing: Container web failed liveness probe".to_owned())
    );
    assert_eq!(run.said("a").unwrap().phase, PhaseV1::Failed);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_startup_probe_end_in_a_crash_loop() {
    let run = up(
        &[probe(ProbeKindV1::Startup), probe(ProbeKindV1::Liveness)],
        RestartPolicy::Always,
        refused(),
    )
    .await;
    assert_eq!(run.health(), (false, false, false));
    for _ in 0..400 {
        seconds(&run, 1).await;
    }
    let said = run.said("a").unwrap();
    assert!(2 <= said.containers[0].restarts, "{said:?}");
    assert!(run.reasons().contains(&"BackOff".to_owned()));
    assert!(run.events().contains(
        &"Normal Killing: Container web failed startup probe, will be restarted".to_owned()
    ));
    assert_eq!(run.asked("probe web/0 Liveness"), 0);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ends_is_asked_only_whether_it_is_ready() {
    let probes = [probe(ProbeKindV1::Liveness), probe(ProbeKindV1::Readiness)];
    let mut run = up(&probes, RestartPolicy::Always, None).await;
    assert_eq!(run.health(), (true, true, true));
    *run.world.engine.stubborn.lock() = true;
    run.plan(vec![pod_record(&PodV1 { deleting: Some(60), ..probed(&probes) })], vec![]).await;
    run.is_ill(refused());
    let asked = run.asked("probe web/0 Liveness");
    seconds(&run, 30).await;
    assert_eq!(run.health(), (true, false, false));
    assert_eq!(run.asked("probe web/0 Liveness"), asked);
    assert!(run.asked("stop web/0 60s") == 1 && !run.events().join(" ").contains("liveness"));
    run.end().await;
}

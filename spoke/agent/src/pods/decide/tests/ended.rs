//! A pod of which the hub says that it has ended.

use freewheel_link::plan::PodEndedV1;

use super::*;

/// Its record from the moment on that the hub knows how it has ended.
fn told(mut spec: PodV1, failed: bool, reason: &str) -> PodV1 {
    let (reason, message) = (reason.to_owned(), String::new());
    spec.parts.put(&PodEndedV1 { failed, reason, message }).unwrap();
    spec
}

#[test]
fn a_pod_that_is_told_as_ended_starts_nothing_and_stops_what_runs() {
    for restart in [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always] {
        let mut new = life(told(spec(&[], &["web"], restart), false, ""));
        assert_eq!(new.go(), ["finish Succeeded"]);
        assert_eq!(new.go(), [""; 0]);
    }
    let mut life = running(&["web"]);
    let ended = told(life.pod.spec.clone(), true, "Evicted");
    assert!(life.pod.update(ended, life.now));
    assert_eq!(life.go(), ["stop web 30s"]);
    life.after(1).exited("web", 143);
    assert_eq!(life.go(), ["finish Failed Evicted", "no network"]);
    assert_eq!(life.said(), "Failed web=Error/143");
}

#[test]
fn what_the_hub_knows_better_is_what_this_device_knows_nothing_of() {
    let ended = told(spec(&[], &["web"], RestartPolicy::Never), true, "");
    assert!(life(ended.clone()).pod.is_known_better());
    assert!(!always(&["web"]).pod.is_known_better(), "it has not ended");
    let mut known = life(ended.clone());
    known.pod.said = Some(known.status());
    assert!(!known.pod.is_known_better(), "this device has told of it");
    let mut run = running(&["web"]);
    let lost = run.pod.state();
    let cut = reborn(ended.clone(), &lost, run.now);
    assert!(cut.is_known_better(), "how it ended, this device would have to guess");
    run.exited("web", 1);
    let state = run.pod.state();
    assert!(!reborn(ended, &state, run.now).is_known_better(), "this device has run it");
}

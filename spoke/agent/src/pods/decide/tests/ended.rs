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
    known.pod.reported = Some(known.status());
    assert!(!known.pod.is_known_better(), "this device has told of it");
    let mut run = running(&["web"]);
    let lost = run.pod.state();
    let cut = reborn(ended.clone(), &lost, run.now);
    assert!(cut.is_known_better(), "how it ended, this device would have to guess");
    run.exited("web", 1);
    let state = run.pod.state();
    assert!(!reborn(ended, &state, run.now).is_known_better(), "this device has run it");
}

#[test]
fn the_hubs_word_of_an_end_goes_first() {
    // An earlier life had to guess, before it knew that the hub had been told better.
    let mut guess = running(&["web"]);
    guess.pod.finish(Done {
        phase: PhaseV1::Failed,
        reason: String::new(),
        message: String::new(),
    });
    let state = guess.pod.state();
    let known = told(guess.pod.spec.clone(), false, "");
    assert_eq!(reborn(known.clone(), &state, guess.now).done().unwrap().phase, PhaseV1::Succeeded);
    guess.pod.update(known, guess.now);
    assert_eq!(guess.pod.done().unwrap().phase, PhaseV1::Succeeded);
    // What still stops may have to go sooner, and has ended all the same.
    let mut life = running(&["web"]);
    life.pod.update(told(life.pod.spec.clone(), false, ""), life.now);
    assert_eq!(life.go(), ["stop web 30s"]);
    let message = "no room".to_owned();
    life.pod.fate = Fate::Evicted(Evicted { message, until: life.now + SECOND });
    assert_eq!(life.go(), ["stop web 1s"]);
    life.exited("web", 137);
    assert_eq!(life.go(), ["finish Succeeded", "no network"]);
}

#[test]
fn an_end_that_is_taken_back_is_told_again() {
    let mut life = running(&["web"]);
    let before = life.pod.spec.clone();
    life.pod.update(told(before.clone(), true, ""), life.now);
    assert_eq!(life.go(), ["stop web 30s"]);
    life.exited("web", 143);
    assert_eq!(life.go(), ["finish Failed", "no network"]);
    life.pod.reported = Some(life.status());
    life.pod.update(before.clone(), life.now);
    assert_eq!((life.pod.reported.take(), life.pod.is_known_better()), (None, false));
    assert_eq!(life.go(), [""; 0], "what has ended stays so");
    life.pod.reported = Some(life.status());
    life.pod.update(before, life.now);
    assert!(life.pod.reported.is_some(), "once is enough");
}

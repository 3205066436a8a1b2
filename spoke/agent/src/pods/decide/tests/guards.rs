//! Pods that may not run as long as what would protect them is not known here.

use super::*;

fn guard() -> Option<(String, String)> {
    Some(("UnsupportedFeature".to_owned(), "upgrade the spoke".to_owned()))
}

#[test]
fn a_guarded_pod_is_stopped_and_starts_again() {
    for restart in [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always] {
        let mut life = life(spec(&[], &["web", "log"], restart));
        life.go();
        life.started("web").started("log");
        life.pod.guard = guard();
        assert_eq!(life.go(), ["stop web 30s", "stop log 30s"]);
        // Also where it makes the best of its grace period.
        life.after(1).exited("web", 143).exited("log", 0);
        assert_eq!(life.go(), [""; 0]);
        assert_eq!(life.said(), "Running web=UnsupportedFeature log=UnsupportedFeature");
        assert_eq!(life.status().reason, "UnsupportedFeature");
        assert!(!life.holds("Ready"));
        life.pod.guard = None;
        assert_eq!(life.go(), ["start web/1", "start log/1"], "{restart:?}");
    }
}

#[test]
fn an_init_container_that_is_set_aside_has_not_failed() {
    let mut life = life(spec(&[container("init")], &["web"], RestartPolicy::Never));
    life.go();
    life.started("init");
    life.pod.guard = guard();
    assert_eq!(life.go(), ["stop init 30s"]);
    life.exited("init", 143);
    assert_eq!(life.go(), [""; 0]);
    life.pod.guard = None;
    assert_eq!(life.go(), ["start init/1"]);
}

#[test]
fn a_refused_or_guarded_pod_that_ends_has_ended() {
    for (code, end) in [(0, "finish Succeeded"), (1, "finish Failed")] {
        for guarded in [true, false] {
            let mut life = life(spec(&[], &["web"], RestartPolicy::Never));
            life.go();
            life.started("web");
            if guarded {
                life.pod.guard = guard();
            } else {
                life.pod.refused = guard();
            }
            life.exited("web", code);
            assert_eq!(life.go(), [end, "no network"], "guarded: {guarded}");
        }
    }
    let mut empty = life(spec(&[], &[], RestartPolicy::Never));
    assert!(empty.pod.refused.is_some());
    assert_eq!(empty.go(), [""; 0], "nothing of it has ended");
}

#[test]
fn an_init_container_that_is_set_aside_has_not_succeeded() {
    let mut life = life(spec(&[container("init")], &["web"], RestartPolicy::Always));
    life.go();
    life.started("init");
    life.pod.guard = guard();
    assert_eq!(life.go(), ["stop init 30s"]);
    // It has heard that it is to stop.
    life.exited("init", 0);
    assert_eq!(life.go(), [""; 0]);
    life.pod.guard = None;
    assert_eq!(life.go(), ["start init/1"]);
    life.started("init").exited("init", 0);
    assert_eq!(life.go(), ["risen", "start web/0"]);
}

#[test]
fn a_job_that_could_not_hear_that_it_is_set_aside_has_ended() {
    for (code, then) in [(0, ["finish Succeeded", "no network"].as_slice()), (1, [].as_slice())] {
        let mut life = life(spec(&[], &["job"], RestartPolicy::Never));
        life.go();
        life.started("job");
        life.pod.guard = guard();
        assert_eq!(life.go(), ["stop job 30s"]);
        let (reason, message) = ("of itself".to_owned(), String::new());
        let exit = Exit { code, reason, message, was_asked_to_stop: false };
        assert!(life.pod.containers[0].exited(0, exit, life.now, 6));
        assert_eq!(life.go(), then);
        life.pod.guard = None;
        let again: &[&str] = if code == 0 { &[] } else { &["start job/1"] };
        assert_eq!(life.go(), again, "{code}");
    }
}

#[test]
fn no_grace_is_longer_than_what_protects_may_be_missing() {
    let patient =
        || PodV1 { grace_seconds: u32::MAX, ..spec(&[], &["web"], RestartPolicy::Always) };
    let mut life = life(patient());
    life.go();
    life.started("web");
    life.pod.guard = guard();
    assert_eq!(life.go(), ["stop web 30s"]);
    assert_eq!(life.after(1).go(), [""; 0], "asked once");
    // Who leaves anyhow leaves no later.
    let mut life = self::life(patient());
    life.go();
    life.started("web");
    life.pod.delete(u32::MAX, life.now);
    assert_eq!(life.go(), [format!("stop web {}s", u32::MAX)]);
    life.after(1).pod.guard = guard();
    assert_eq!(life.go(), ["stop web 30s"]);
}

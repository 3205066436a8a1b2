//! A pod that is to go: deleted, or not wanted any more.

use super::*;

#[test]
fn a_deleted_pod_ends_within_its_grace_period() {
    let mut life = running(&["web", "log"]);
    let deleted = PodV1 { deleting: Some(5), ..life.pod.spec.clone() };
    life.pod.update(deleted.clone(), life.now);
    assert_eq!(life.go(), ["stop web 5s", "stop log 5s"]);
    life.exited("log", 143);
    assert_eq!(life.go(), [""; 0], "asked once");
    life.pod.update(PodV1 { deleting: Some(0), ..deleted }, life.now);
    assert_eq!(life.go(), ["stop web 0s"]);
    life.exited("web", 137);
    assert_eq!(life.go(), ["no network", "clean"]);
}

/// Seconds that pass, the grace period that is heard of then, and what that makes of it.
#[test]
fn a_shorter_grace_period_counts_from_when_it_is_heard_of() {
    let mut life = running(&["web"]);
    for (passed, grace, asked) in [
        (0, 60, vec!["stop web 60s"]),
        (20, 30, vec!["stop web 30s"]),
        // Less than has passed since the deletion.
        (10, 8, vec!["stop web 8s"]),
        // Never later than it was to end.
        (4, 5, vec![]),
        (0, 60, vec![]),
        (1, 8, vec![]),
        (0, 0, vec!["stop web 0s"]),
    ] {
        life.after(passed);
        life.pod.delete(grace, life.now);
        assert_eq!(life.go(), asked, "{grace} s, heard of {passed} s later");
    }
}

#[test]
fn an_evicted_pod_that_is_deleted_ends_at_the_sooner_of_both() {
    for (grace, sooner) in [(300, "stop web 1s"), (0, "stop web 0s")] {
        for evicted_first in [false, true] {
            let mut life = running(&["web"]);
            let evicted = Evicted { message: "no room".to_owned(), until: life.now + SECOND };
            if evicted_first {
                life.pod.fate = Fate::Evicted(evicted.clone());
                assert_eq!(life.go(), ["stop web 1s"]);
            }
            life.pod.delete(grace, life.now);
            if !evicted_first {
                life.go();
                life.pod.fate = Fate::Evicted(evicted);
            }
            life.go();
            let until = life.pod.containers[0].stop_by.unwrap() - life.now;
            assert_eq!(format!("stop web {}s", until.as_secs()), sooner, "{evicted_first}");
            life.exited("web", 137);
            assert_eq!(life.go(), ["no network", "clean"]);
        }
    }
}

#[test]
fn a_pod_whose_containers_changed_can_be_deleted() {
    let mut life = running(&["web"]);
    let mut other = life.pod.spec.clone();
    other.containers.push(container("more"));
    assert!(!life.pod.update(other.clone(), life.now));
    assert_eq!(life.go(), [""; 0], "it goes on as it was");
    assert!(!life.pod.update(PodV1 { deleting: Some(5), ..other }, life.now));
    assert_eq!(life.go(), ["stop web 5s"]);
    life.exited("web", 143);
    assert_eq!(life.go(), ["no network", "clean"]);
}

#[test]
fn a_pod_that_the_plan_dropped_ends_too_and_one_that_never_ran_at_once() {
    let mut life = running(&["web"]);
    life.pod.dropped(life.now);
    assert_eq!(life.go(), ["stop web 30s"]);
    let mut spec = spec(&[], &["web"], RestartPolicy::Always);
    spec.deleting = Some(30);
    assert_eq!(self::life(spec).go(), ["clean"]);
}

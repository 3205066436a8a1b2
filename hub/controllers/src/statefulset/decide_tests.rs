//! The order in which numbered pods come, go and roll out, one rule each.

use super::*;
use crate::testing::pod;

fn wanted(replicas: i64) -> Wanted {
    Wanted {
        start: 0,
        replicas,
        parallel: false,
        claims: false,
        update: Update::Rolling { partition: Some(0), unavailable: 1 },
        current: "one".to_owned(),
        updated: "one".to_owned(),
        current_replicas: replicas,
    }
}

fn of(ordinal: i64, revision: &str) -> StatefulPod {
    let (phase, availability) = (Phase::Running, Availability::Yes);
    let stored = pod(&format!("web-{ordinal}")).facts().stored;
    let revision = revision.to_owned();
    StatefulPod { stored, phase, ready: true, availability, whole: true, revision }
}

fn unready(ordinal: i64, revision: &str) -> StatefulPod {
    StatefulPod { ready: false, availability: Availability::No, ..of(ordinal, revision) }
}

fn deleting(ordinal: i64, revision: &str) -> StatefulPod {
    let stored = pod(&format!("web-{ordinal}")).deleting().facts().stored;
    StatefulPod { stored, ..of(ordinal, revision) }
}

fn ended(ordinal: i64) -> StatefulPod {
    StatefulPod { phase: Phase::Ended, ..unready(ordinal, "one") }
}

/// The steps in short: `+1` makes web-1 of the updated revision, `~1` of the current one, `-1` ends it.
#[track_caller]
fn check(wanted: &Wanted, pods: &[StatefulPod], expected: &str) {
    let ordinal = |pod: &Stored| pod.key.name.rsplit_once('-').unwrap().1.parse().unwrap();
    let pods = pods.iter().map(|pod| (ordinal(&pod.stored), pod.clone())).collect();
    let steps = decide(wanted, &pods);
    let short: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Create { ordinal, updated: true } => format!("+{ordinal}"),
            Step::Create { ordinal, updated: false } => format!("~{ordinal}"),
            Step::Claims { ordinal, .. } => format!("claims{ordinal}"),
            Step::Fix { ordinal, .. } => format!("fix{ordinal}"),
            Step::Delete(pod) => format!("-{}", ordinal(pod)),
        })
        .collect();
    assert_eq!(short.join(" "), expected);
}

#[test]
fn pods_come_one_after_another_upwards() {
    let three = wanted(3);
    check(&three, &[], "+0");
    check(&three, &[unready(0, "one")], "");
    check(&three, &[of(0, "one")], "+1");
    check(&three, &[of(0, "one"), of(2, "one")], "+1");
    check(&three, &[of(0, "one"), of(1, "one"), of(2, "one")], "");
    let waits = StatefulPod {
        availability: Availability::In(std::time::Duration::from_secs(5)),
        ..of(0, "one")
    };
    check(&three, &[waits], "");
    check(&three, &[deleting(0, "one")], "");
    let mut from_five = wanted(2);
    from_five.start = 5;
    check(&from_five, &[], "+5");
    check(&from_five, &[of(5, "one")], "+6");
}

#[test]
fn pods_go_one_after_another_downwards() {
    let one = wanted(1);
    check(&one, &[of(0, "one"), of(1, "one"), of(2, "one")], "-2");
    check(&one, &[of(0, "one"), of(1, "one"), deleting(2, "one")], "");
    // An unhealthy one that stays holds everything; of those that go, the lowest is the first unhealthy.
    check(&one, &[unready(0, "one"), of(1, "one")], "");
    check(&one, &[of(0, "one"), unready(1, "one"), of(2, "one")], "-2");
    check(&one, &[of(0, "one"), unready(1, "one"), unready(2, "one")], "");
    check(&one, &[of(0, "one"), unready(1, "one")], "-1");
    check(&wanted(0), &[of(0, "one")], "-0");
}

#[test]
fn in_parallel_nobody_waits() {
    let mut three = wanted(3);
    three.parallel = true;
    check(&three, &[unready(1, "one"), of(3, "one"), unready(4, "one")], "+0 +2 -4 -3");
    three.replicas = i64::MAX;
    assert_eq!(decide(&three, &BTreeMap::new()).len(), ACTS_MAX, "bounded, whatever is asked for");
}

#[test]
fn what_has_ended_is_made_anew() {
    check(&wanted(2), &[ended(0), of(1, "one")], "-0");
    let going = StatefulPod { phase: Phase::Ended, ..deleting(0, "one") };
    check(&wanted(2), &[going], "");
}

#[test]
fn a_rollout_goes_downwards_and_waits_for_each() {
    let mut three = wanted(3);
    three.updated = "two".to_owned();
    let old = |ordinal| of(ordinal, "one");
    check(&three, &[old(0), old(1), old(2)], "-2");
    check(&three, &[old(0), old(1), deleting(2, "one")], "");
    check(&three, &[old(0), old(1)], "+2");
    check(&three, &[old(0), old(1), unready(2, "two")], "");
    check(&three, &[old(0), old(1), of(2, "two")], "-1");
    three.update = Update::Rolling { partition: Some(2), unavailable: 1 };
    check(&three, &[old(0), old(1), of(2, "two")], "");
    check(&three, &[old(1), of(2, "two")], "~0");
    three.update = Update::OnDelete;
    check(&three, &[old(0), old(1), old(2)], "");
    check(&three, &[old(0), old(1)], "+2");
}

#[test]
fn several_may_be_missing_at_once_where_that_is_said() {
    let mut four = wanted(4);
    four.updated = "two".to_owned();
    four.update = Update::Rolling { partition: Some(0), unavailable: 2 };
    let old: Vec<StatefulPod> = (0..4).map(|ordinal| of(ordinal, "one")).collect();
    check(&four, &old, "-3 -2");
    four.parallel = true;
    check(&four, &[old[0].clone(), old[1].clone(), old[2].clone(), unready(3, "two")], "-2");
    check(&four, &[old[0].clone(), old[1].clone(), unready(2, "two"), unready(3, "two")], "");
    // Who is missing counts as well.
    check(&four, &old[..3], "+3 -2");
}

#[test]
fn identity_and_claims_are_put_right() {
    let mut one = wanted(1);
    check(&one, &[StatefulPod { whole: false, ..of(0, "one") }], "fix0");
    one.claims = true;
    check(&one, &[of(0, "one"), of(1, "one")], "claims0 claims1 -1");
    check(&one, &[StatefulPod { phase: Phase::Pending, ..unready(0, "one") }], "claims0");
}

#[test]
fn however_many_claims_there_are_pods_come_and_go_in_bounded_steps() {
    for parallel in [false, true] {
        let mut many = Wanted { parallel, claims: true, ..wanted(700) };
        let there: BTreeMap<i64, StatefulPod> = (0..600).map(|at| (at, of(at, "one"))).collect();
        let steps = decide(&many, &there);
        let made = steps.iter().filter(|step| matches!(step, Step::Create { .. })).count();
        assert_eq!((made, acts(&steps)), if parallel { (100, 100) } else { (1, 1) });
        many.replicas = 600;
        assert_eq!(acts(&decide(&many, &there)), 0, "nothing is left to do");
        many.updated = "two".to_owned();
        assert_eq!(acts(&decide(&many, &there)), 1, "a rollout begins");
    }
    let none = Wanted { parallel: true, claims: true, ..wanted(0) };
    let there = (0..1_100).map(|at| (at, of(at, "one"))).collect();
    assert_eq!(acts(&decide(&none, &there)), ACTS_MAX);
}

#[test]
fn without_a_partition_the_current_ones_are_kept_in_number() {
    let mut three = wanted(3);
    three.updated = "two".to_owned();
    three.update = Update::Rolling { partition: None, unavailable: 1 };
    three.current_replicas = 1;
    check(&three, &[], "~0");
    check(&three, &[of(0, "one")], "+1");
}

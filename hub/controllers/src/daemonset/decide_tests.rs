//! One pod per node, and rollouts within their bounds, one rule each.

use super::*;
use crate::testing::pod;

const STAYS: DaemonFit = DaemonFit { should_run: true, should_continue: true };
const MAY_STAY: DaemonFit = DaemonFit { should_run: false, should_continue: true };
const GOES: DaemonFit = DaemonFit { should_run: false, should_continue: false };

fn daemon(name: &str, updated: bool, available: bool) -> DaemonPod {
    let availability = if available { Availability::Yes } else { Availability::No };
    let (stored, phase) = (pod(name).facts().stored, Phase::Other);
    DaemonPod { stored, bound: true, phase, ready: available, availability, updated }
}

fn deleting(name: &str, updated: bool) -> DaemonPod {
    DaemonPod { stored: pod(name).deleting().facts().stored, ..daemon(name, updated, false) }
}

fn fleet(nodes: Vec<(&str, DaemonFit, Vec<DaemonPod>)>) -> Fleet {
    let node = |(name, fit, pods): (&str, DaemonFit, Vec<DaemonPod>)| {
        (Arc::from(name), DaemonNode { fit, pods })
    };
    Fleet { nodes: nodes.into_iter().map(node).collect(), elsewhere: Vec::new() }
}

#[track_caller]
fn check(changes: &Changes, create: &[&str], delete: &[&str]) {
    let made: Vec<&str> = changes.create.iter().map(|node| &**node).collect();
    let gone: Vec<&str> = changes.delete.iter().map(|pod| &*pod.key.name).collect();
    assert_eq!((made.as_slice(), gone.as_slice()), (create, delete));
}

#[test]
fn every_node_has_one_pod_and_no_other_node_has_any() {
    let two = vec![daemon("b2", true, true), daemon("b1", true, true)];
    let nodes = vec![
        ("a", STAYS, vec![]),
        ("b", STAYS, two),
        ("c", GOES, vec![daemon("c1", true, true), deleting("c2", true)]),
        ("d", MAY_STAY, vec![]),
        ("e", MAY_STAY, vec![daemon("e1", true, true)]),
        ("f", STAYS, vec![deleting("f1", true)]),
    ];
    let mut fleet = fleet(nodes);
    fleet.elsewhere = vec![daemon("gone", true, true), daemon("stranded", true, false)];
    fleet.elsewhere[1].bound = false;
    check(&manage(&fleet, false), &["a"], &["b2", "c1", "stranded"]);
    // A pod on its way out holds its node only where no second one may be.
    let surging = manage(&fleet, true);
    assert_eq!(surging.create.iter().map(|node| &**node).collect::<Vec<_>>(), ["a", "f"]);
}

#[test]
fn what_failed_or_ended_is_told_apart() {
    let mut failed = daemon("a1", true, false);
    failed.phase = Phase::Failed;
    let mut ended = daemon("b1", true, false);
    ended.phase = Phase::Succeeded;
    let changes =
        manage(&fleet(vec![("a", STAYS, vec![failed]), ("b", STAYS, vec![ended])]), false);
    check(&changes, &[], &[]);
    assert_eq!((&*changes.failed[0].0, &*changes.failed[0].1.key.name), ("a", "a1"));
    assert_eq!((&*changes.ended[0].0, &*changes.ended[0].1.key.name), ("b", "b1"));
}

#[test]
fn a_rollout_takes_no_more_than_may_be_missing() {
    let old = |name: &str| vec![daemon(name, false, true)];
    let all = vec![("a", STAYS, old("a1")), ("b", STAYS, old("b1")), ("c", STAYS, old("c1"))];
    check(&replace(&fleet(all.clone()), 1), &[], &["a1"]);
    check(&replace(&fleet(all.clone()), 2), &[], &["a1", "b1"]);
    // A new one that does not serve yet, one that goes and a node without any count against it.
    for missing in [vec![daemon("d1", true, false)], vec![deleting("d1", false)], vec![]] {
        let mut nodes = all.clone();
        nodes.push(("d", STAYS, missing));
        check(&replace(&fleet(nodes.clone()), 1), &[], &[]);
        check(&replace(&fleet(nodes), 2), &[], &["a1"]);
    }
    // Old ones that serve nobody go at once.
    let mut nodes = all;
    nodes.push(("d", STAYS, vec![daemon("d1", false, false)]));
    check(&replace(&fleet(nodes), 1), &[], &["d1"]);
}

#[test]
fn a_surge_makes_the_new_pod_before_the_old_one_goes() {
    let old = |name: &str| daemon(name, false, true);
    let all = vec![("a", STAYS, vec![old("a1")]), ("b", STAYS, vec![old("b1")])];
    check(&surge(&fleet(all), 1), &["a"], &[]);
    let waits = vec![
        ("a", STAYS, vec![old("a1"), daemon("a2", true, false)]),
        ("b", STAYS, vec![old("b1")]),
    ];
    check(&surge(&fleet(waits.clone()), 1), &[], &[]);
    check(&manage(&fleet(waits), true), &[], &[]);
    let serves = vec![
        ("a", STAYS, vec![old("a1"), daemon("a2", true, true)]),
        ("b", STAYS, vec![old("b1")]),
    ];
    check(&surge(&fleet(serves.clone()), 1), &["b"], &["a1"]);
    check(&manage(&fleet(serves), true), &[], &["a1"]);
    // Where the old one serves nobody, its follower counts for no surge.
    let broken = vec![
        ("a", STAYS, vec![daemon("a1", false, false)]),
        ("b", STAYS, vec![daemon("b1", false, false)]),
        ("c", STAYS, vec![old("c1")]),
    ];
    check(&surge(&fleet(broken), 1), &["a", "b", "c"], &[]);
}

#[test]
fn who_leaves_a_node_serves_until_others_do() {
    let leaving = ("a", MAY_STAY, vec![daemon("a1", false, true)]);
    let comes = |available: bool| ("b", STAYS, vec![daemon("b1", true, available)]);
    check(&surge(&fleet(vec![leaving.clone(), comes(false)]), 1), &[], &[]);
    check(&surge(&fleet(vec![leaving, comes(true)]), 1), &[], &["a1"]);
}

//! How far a rollout may go, as sdk-go's `RolloutHandler` says.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_fleet::rollout::{Group, Progress, Stage, Step, Strategy, next};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize as _;
use serde_json::Value;

static COMMITTED: &[u8] = include_bytes!("rollouts.jsonl.gz");

#[test]
fn rollouts_go_as_far_as_upstream_lets_them() {
    let mut differing = 0;
    let asked = crate::each("rollout", COMMITTED, |question, place| {
        let answer = &question["answer"];
        let (groups, progress) = (groups(question), progress(question));
        let now = time(&question["now"]).unwrap();
        let strategy = Strategy::read(&question["strategy"]).unwrap();
        let ours = next(&strategy, &groups, &progress, now);
        if answer.get("error").is_some() {
            assert!(ours.is_err(), "{place}: {ours:?}\n{question}");
            return;
        }
        let theirs = answered(answer, now);
        let expected = expected(&strategy, &groups, &progress, &theirs);
        differing += usize::from(expected != theirs);
        assert_eq!(ours.as_ref(), Ok(&expected), "{place}: {theirs:?}\n{question}");
    });
    assert_ne!(differing, 0, "upstream passes no group any more in {asked}");
}

/// What we make of upstream's answer.
///
/// Upstream takes clusters that ran out of time off those that are under way, of which they are none: each of them has it
/// pass a group of which somebody is at it still, or was not even begun with. We wait for the group.
fn expected(
    strategy: &Strategy,
    groups: &[Group],
    progress: &BTreeMap<String, Progress>,
    theirs: &Step,
) -> Step {
    let begun = |group: &&Group| group.clusters.iter().any(|it| new(theirs, it));
    let mandatory = |group: &Group| is_mandatory(strategy, group);
    // Of those that come first, or of the others: upstream says nothing of both.
    let first = strategy.kind != "All"
        && groups.iter().any(mandatory)
        && groups.iter().filter(begun).all(mandatory)
        && !(theirs.rolling.is_empty() && theirs.timed_out.is_empty());
    let mut out = theirs.clone();
    if !first && strategy.kind != "ProgressivePerGroup" {
        return out;
    }
    out.rolling.retain(|_, stage| *stage != Stage::ToApply);
    let mut held_up = out.rolling.len();
    for group in groups.iter().filter(|group| mandatory(group) == first) {
        let mut failures = 0;
        for cluster in &group.clusters {
            // Who has failed and has time left is under way, and holds up nobody.
            held_up -= usize::from(theirs.rolling.get(cluster) == Some(&Stage::Failed));
            if new(theirs, cluster) {
                out.rolling.insert(cluster.clone(), Stage::ToApply);
                held_up += 1;
            }
            let said = progress.get(cluster).map(|it| it.stage);
            let failed = matches!(said, Some(Stage::Failed | Stage::TimedOut));
            failures += usize::from(failed || theirs.timed_out.contains(cluster));
        }
        let breached = most(strategy, first, group.clusters.len()) < failures;
        if breached || 0 < held_up {
            out.breached = breached;
            break;
        }
    }
    out
}

/// How many of a group may fail.
fn most(strategy: &Strategy, mandatory: bool, size: usize) -> usize {
    let settings = strategy.progressive_per_group.as_ref().filter(|_| !mandatory);
    let most = match settings.map(|it| &it.max_failures) {
        Some(Value::Number(number)) => number.as_u64().unwrap_or_default(),
        Some(Value::String(text)) => {
            let percent: f64 = text.trim_end_matches('%').parse().unwrap();
            // In floating point, as upstream.
            (0..=100_u8)
                .find(|all| percent / 100.0 * size as f64 <= f64::from(*all))
                .unwrap()
                .into()
        }
        _ => 0,
    };
    usize::try_from(most).ok().filter(|most| *most <= size).unwrap_or(0)
}

fn new(step: &Step, cluster: &str) -> bool {
    step.rolling.get(cluster) == Some(&Stage::ToApply)
}

fn is_mandatory(strategy: &Strategy, group: &Group) -> bool {
    let settings = if strategy.kind == "Progressive" {
        &strategy.progressive
    } else {
        &strategy.progressive_per_group
    };
    let all = settings.iter().flat_map(|it| &it.mandatory_decision_groups);
    all.into_iter().any(|it| match &*it.group_name {
        "" => it.group_index == group.index,
        name => name == group.name,
    })
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

fn stage(name: &Value) -> Stage {
    match name.as_str().unwrap() {
        "ToApply" => Stage::ToApply,
        "Progressing" => Stage::Progressing,
        "Succeeded" => Stage::Succeeded,
        "Failed" => Stage::Failed,
        "TimedOut" => Stage::TimedOut,
        other => panic!("no such stage: {other}"),
    }
}

fn groups(question: &Value) -> Vec<Group> {
    let one = |group: &Value| Group {
        name: group["name"].as_str().unwrap().to_owned(),
        index: group["index"].as_i64().unwrap().try_into().unwrap(),
        clusters: BTreeSet::deserialize(&group["clusters"]).unwrap(),
    };
    question["groups"].as_array().unwrap().iter().map(one).collect()
}

fn progress(question: &Value) -> BTreeMap<String, Progress> {
    let one = |given: &Value| {
        let progress = Progress { stage: stage(&given["stage"]), since: time(&given["since"]) };
        (given["cluster"].as_str().unwrap().to_owned(), progress)
    };
    question["given"].as_array().unwrap().iter().map(one).collect()
}

fn answered(answer: &Value, now: Timestamp) -> Step {
    let rolling = answer["rolling"].as_object().unwrap();
    let again = answer["again"].as_f64().map(SignedDuration::from_secs_f64);
    Step {
        rolling: rolling.iter().map(|(cluster, it)| (cluster.clone(), stage(it))).collect(),
        timed_out: BTreeSet::deserialize(&answer["timedOut"]).unwrap(),
        breached: answer["breached"] == true,
        look_again: again.map(|after| now + after),
        ..Step::default()
    }
}

//! Whom a Placement gets, and in which groups, as the scheduling controller of Open Cluster Management says.

use std::collections::BTreeMap;

use freewheel_hub_fleet::World as _;
use freewheel_hub_fleet::toleration::{UNAVAILABLE, UNREACHABLE};
use serde::Deserialize as _;
use serde_json::Value;

use crate::asked::{Asked, Decided};

static COMMITTED: &[u8] = include_bytes!("placements.jsonl.gz");

/// What upstream takes no notice of.
struct Difference {
    /// Why we do.
    why: &'static str,
    /// Takes it out of what is asked.
    leave_out: fn(&mut Asked),
}

const DIFFERENCES: [Difference; 7] = [
    Difference {
        why: "spread constraints work: upstream declares them only",
        leave_out: |asked| asked.placement.spread_policy.spread_constraints.clear(),
    },
    Difference {
        why: "whom a taint of the effect PreferNoSelect makes unwanted is chosen after all others: upstream takes it for none",
        leave_out: |asked| {
            for cluster in &mut asked.clusters {
                cluster.taints.retain(|taint| taint.effect != "PreferNoSelect");
            }
        },
    },
    Difference {
        why: "a Placement that says how long it waits for silent clusters moves after that: upstream never leaves who is chosen for NoSelectIfNew",
        leave_out: |asked| {
            let chosen = asked.world.chosen().clone();
            for cluster in asked.clusters.iter_mut().filter(|it| chosen.contains(&it.name)) {
                cluster.taints.retain(|taint| {
                    let silent = [UNREACHABLE, UNAVAILABLE].contains(&&*taint.key);
                    taint.effect != "NoSelectIfNew" || !silent
                });
            }
        },
    },
    Difference {
        why: "expressions are not told scores that are out of date, as prioritizers are not: upstream looks at their time in prioritizers only",
        leave_out: |asked| asked.world.tells_old_scores = true,
    },
    Difference {
        why: "semver(TEXT, true) reads v1.30.1, as versions of clusters are written: upstream has the older library without it",
        leave_out: |asked| forget(asked, ", true)"),
    },
    Difference {
        why: "the sign of a quantity is asked behind it as well, as all else of quantities is: upstream's code, unlike its comments, knows sign(QUANTITY) alone",
        leave_out: |asked| forget(asked, ".sign()"),
    },
    Difference {
        why: "what an expression adds and compares is looked at when it runs, and one that fails is a no: upstream checks types before, and calls the Placement misconfigured",
        leave_out: |asked| forget(asked, "1 + \"a\""),
    },
];

/// As if nobody knew what has this in it.
fn forget(asked: &mut Asked, what: &str) {
    for predicate in &mut asked.placement.predicates {
        let all = &mut predicate.required_cluster_selector.cel_selector.cel_expressions;
        for text in all.iter_mut().filter(|text| text.contains(what)) {
            *text = "unknown".to_owned();
        }
    }
}

#[test]
fn placements_get_whom_upstream_gives_them() {
    let mut shown = [0_usize; DIFFERENCES.len()];
    crate::each("placement", COMMITTED, |question, place| {
        let asked = Asked::read(question);
        let leave_out = |kept: Option<usize>| {
            let mut asked = asked.clone();
            let all = DIFFERENCES.iter().enumerate().filter(|(at, _)| Some(*at) != kept);
            all.for_each(|(_, one)| (one.leave_out)(&mut asked));
            asked.decide()
        };
        let ours = leave_out(None);
        check(&ours, &question["answer"], &format!("{place}\n{question}"));
        for (at, shown) in shown.iter_mut().enumerate() {
            *shown += usize::from(leave_out(Some(at)) != ours);
        }
    });
    for (difference, shown) in DIFFERENCES.iter().zip(shown) {
        assert_ne!(shown, 0, "upstream does the same by now: {}", difference.why);
        println!("{shown} differ: {}", difference.why);
    }
}

fn check(ours: &Decided, answer: &Value, place: &str) {
    let theirs = read(answer);
    let (own, upstream) = (&ours.misconfigured, &theirs.misconfigured);
    assert_eq!((own.0, &own.1), (upstream.0, &upstream.1), "{own:?}\n{upstream:?}\n{place}");
    // Selectors and expressions are told of in words of our own.
    let told = ["compilation failed", "Invalid value", "valid label selector operator"];
    if told.iter().any(|it| upstream.2.contains(it)) {
        let plugin = |text: &str| text.split_once(':').map(|it| it.0.to_owned());
        assert_eq!(plugin(&own.2), plugin(&upstream.2), "{place}");
    } else {
        assert_eq!(own.2, upstream.2, "{place}");
    }
    if ours.groups_failed {
        // Nobody is chosen and the condition says so: upstream takes all decisions away and calls it satisfied.
        return;
    }
    assert_eq!(ours.scores, theirs.scores, "{place}");
    assert_eq!(ours.decisions, theirs.decisions, "{place}");
    assert_eq!(ours.selected, theirs.selected, "{place}");
    let (own, upstream) = (&ours.satisfied, &theirs.satisfied);
    assert_eq!((own.0, &own.1), (upstream.0, &upstream.1), "{place}");
    // Ours says why as well.
    assert!(own.2.starts_with(&*upstream.2), "{own:?}\n{upstream:?}\n{place}");
    assert_eq!(ours.warned, theirs.warned, "{place}");
}

fn read(answer: &Value) -> Decided {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let condition =
        |said: &Value| (said["status"] == "True", text(&said["reason"]), text(&said["message"]));
    let decision = |it: &Value| {
        let clusters = Vec::deserialize(&it["clusters"]).unwrap();
        (text(&it["name"]), text(&it["groupIndex"]), text(&it["groupName"]), clusters)
    };
    Decided {
        scores: BTreeMap::deserialize(&answer["scores"]).unwrap(),
        decisions: answer["decisions"].as_array().unwrap().iter().map(decision).collect(),
        selected: answer["selected"].as_u64().unwrap().try_into().unwrap(),
        satisfied: condition(&answer["satisfied"]),
        misconfigured: condition(&answer["misconfigured"]),
        warned: answer["warned"] == true,
        groups_failed: false,
    }
}

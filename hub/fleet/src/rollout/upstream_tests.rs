//! Upstream's own cases (`upstream_cases.txt`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Group, Progress, Stage, Step, Strategy, next};

const CASES: &str = include_str!("upstream_cases.txt");
const NOW: i64 = 1_000_000;

fn stage(word: &str) -> Stage {
    match word {
        "waiting" | "ToApply" => Stage::ToApply,
        "applying" | "Progressing" => Stage::Progressing,
        "done" | "Succeeded" => Stage::Succeeded,
        "failed" | "Failed" => Stage::Failed,
        other => panic!("no such stage: {other}"),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn groups(text: &str) -> Vec<Group> {
    let one = |part: &str| {
        let mut words = part.split_whitespace();
        let (index, name) = words.next().unwrap().split_once(':').unwrap();
        Group {
            index: index.parse().unwrap(),
            name: name.to_owned(),
            clusters: words.map(str::to_owned).collect(),
        }
    };
    text.split('|').map(one).collect()
}

fn given(text: &str) -> BTreeMap<String, Progress> {
    let one = |part: &str| {
        let mut words = part.split_whitespace();
        let cluster = words.next()?.to_owned();
        let stage = stage(words.next().unwrap());
        let since = words.next().map(|seconds| at(seconds.parse().unwrap()));
        Some((cluster, Progress { stage, since }))
    };
    text.split(',').filter_map(one).collect()
}

fn expected(lines: &BTreeMap<&str, &str>) -> Step {
    let text = |name: &str| lines.get(name).copied().unwrap_or_default();
    let rolling = given(text("rolls")).into_iter().map(|(name, it)| (name, it.stage)).collect();
    let timed_out: BTreeSet<String> = text("late").split_whitespace().map(str::to_owned).collect();
    let look_again = lines.get("again").map(|seconds| at(seconds.parse().unwrap()));
    let breached = lines.contains_key("breached");
    Step { rolling, timed_out, breached, look_again, ..Step::default() }
}

#[test]
fn upstreams_cases_come_out_as_there() {
    let cases: Vec<&str> =
        CASES.split("\n\n").filter(|case| case.trim_start().starts_with('#')).collect();
    assert_eq!(cases.len(), 37);
    for case in cases {
        let lines: BTreeMap<&str, &str> =
            case.trim().lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
        let strategy: Strategy = serde_json::from_str(lines["strategy"]).unwrap();
        let groups = groups(lines["groups"]);
        let got = next(&strategy, &groups, &given(lines["given"]), at(0)).unwrap();
        assert_eq!(got, expected(&lines), "{}", lines["#"]);
    }
}

//! Scores of clusters, and what each of them weighs.
//!
//! ```text
//! Balance                    who has many decisions of other placements has less
//! Steady                     who was chosen before has more
//! ResourceAllocatable{CPU,Memory}   who has most has most
//! AddOn/RESOURCE/SCORE       what somebody says of the cluster
//! ```
//!
//! Guarantees:
//! - numbers are those of Open Cluster Management's prioritizers (`balance_counts_others_decisions`,
//!   `resources_are_spread_over_the_range`);
//! - a score that is out of date is none (`a_score_has_its_time`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;

use crate::placement::{AddOnScore, PrioritizerPolicy, ScoreCoordinate};
use crate::{Cluster, Misconfigured};

/// The most that a cluster gets; the least is this below zero.
pub const MAX_SCORE: i64 = 100;

/// What makes a score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prioritizer {
    /// Who has many decisions of other placements has less.
    Balance,
    /// Who was chosen before has more.
    Steady,
    /// Who has most of a resource has most.
    Allocatable(&'static str),
    /// What an add-on says.
    AddOn(AddOnScore),
}

/// What an add-on says of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AddOnScores {
    /// Scores by name.
    pub scores: Vec<NamedScore>,
    /// Until when they count.
    pub valid_until: Option<Timestamp>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NamedScore {
    /// Its name.
    pub name: String,
    /// From −100 to 100.
    pub value: i32,
}

/// What scores are made from.
pub struct Facts<'a> {
    /// Who was chosen before.
    pub chosen: &'a BTreeSet<String>,
    /// How many decisions of other placements each cluster has.
    pub others: &'a BTreeMap<String, u64>,
    /// What add-ons say: by resource and cluster.
    pub scores: &'a dyn Fn(&str, &str) -> Option<AddOnScores>,
    /// Now.
    pub now: Timestamp,
}

/// Scores, and what is to be said of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// By cluster, in the order in which they came.
    pub of: Vec<i64>,
    /// Where an add-on's word is out of date.
    pub expired: Vec<String>,
    /// When the next one will be.
    pub until: Option<Timestamp>,
}

/// Which prioritizers count, and how much each.
///
/// # Errors
/// When the policy is none.
pub fn weights(policy: &PrioritizerPolicy) -> Result<Vec<(Prioritizer, i64)>, Misconfigured> {
    let wrong = |why: String| Err(Misconfigured::new("", why));
    let mut all = match &*policy.mode {
        "" | "Additive" => vec![(Prioritizer::Balance, 1), (Prioritizer::Steady, 1)],
        "Exact" => Vec::new(),
        other => return wrong(format!("incorrect prioritizer policy mode: {other}")),
    };
    for config in &policy.configurations {
        let Some(coordinate) = &config.score_coordinate else {
            return wrong("scoreCoordinate field is required".to_owned());
        };
        if config.weight == 0 && coordinate.kind == "AddOn" {
            continue;
        }
        let prioritizer = match read(coordinate) {
            Ok(prioritizer) => prioritizer,
            // What weighs nothing is not looked at.
            Err(_) if config.weight == 0 => continue,
            Err(why) => return wrong(why),
        };
        // Who says it twice means the last one; two scores of add-ons are two.
        if !matches!(prioritizer, Prioritizer::AddOn(_)) {
            all.retain(|(other, _)| *other != prioritizer);
        }
        all.push((prioritizer, i64::from(config.weight)));
    }
    all.retain(|(_, weight)| *weight != 0);
    Ok(all)
}

fn read(coordinate: &ScoreCoordinate) -> Result<Prioritizer, String> {
    if coordinate.kind == "AddOn" {
        let add_on = coordinate.add_on.clone().ok_or("addOn should not be empty")?;
        return Ok(Prioritizer::AddOn(add_on));
    }
    match &*coordinate.built_in {
        "Balance" => Ok(Prioritizer::Balance),
        "Steady" => Ok(Prioritizer::Steady),
        "ResourceAllocatableCPU" => Ok(Prioritizer::Allocatable("cpu")),
        "ResourceAllocatableMemory" => Ok(Prioritizer::Allocatable("memory")),
        other => Err(format!("incorrect builtin prioritizer: {other}")),
    }
}

impl Prioritizer {
    /// What it is called in events.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Balance => "Balance".to_owned(),
            Self::Steady => "Steady".to_owned(),
            Self::Allocatable("cpu") => "ResourceAllocatableCPU".to_owned(),
            Self::Allocatable(_) => "ResourceAllocatableMemory".to_owned(),
            Self::AddOn(one) => format!("AddOn/{}/{}", one.resource_name, one.score_name),
        }
    }

    /// Scores of these clusters.
    #[must_use]
    pub fn score(&self, clusters: &[&Cluster], facts: &Facts<'_>) -> Scores {
        match self {
            Self::Balance => Scores { of: balance(clusters, facts.others), ..Scores::default() },
            Self::Steady => {
                let steady =
                    |c: &&Cluster| if facts.chosen.contains(&c.name) { MAX_SCORE } else { 0 };
                Scores { of: clusters.iter().map(steady).collect(), ..Scores::default() }
            }
            Self::Allocatable(resource) => {
                Scores { of: allocatable(clusters, resource), ..Scores::default() }
            }
            Self::AddOn(one) => add_on(clusters, one, facts),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "shares between 0 and 1, as upstream counts them: in floating point, cut off"
)]
fn balance(clusters: &[&Cluster], others: &BTreeMap<String, u64>) -> Vec<i64> {
    let most = others.values().max().copied().unwrap_or_default();
    let score = |cluster: &&Cluster| match others.get(&cluster.name) {
        Some(count) if 0 < *count => {
            let usage = *count as f64 / most as f64;
            2 * ((MAX_SCORE as f64 * (0.5 - usage)) as i64)
        }
        _ => MAX_SCORE,
    };
    clusters.iter().map(score).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "shares between 0 and 1, as upstream counts them: in floating point, cut off"
)]
fn allocatable(clusters: &[&Cluster], resource: &str) -> Vec<i64> {
    // What is no whole number is a product with a thousandth upstream, which is not always the nearest number.
    let units = |milli: i64| match milli % 1_000 {
        0 => (milli / 1_000) as f64,
        _ => milli as f64 * 0.001,
    };
    let amount = |cluster: &&Cluster| cluster.allocatable.get(resource).map(|it| units(*it));
    let known: Vec<f64> = clusters.iter().filter_map(amount).collect();
    let least = known.iter().copied().fold(f64::INFINITY, f64::min);
    let most = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let score = |cluster: &&Cluster| {
        let Some(own) = amount(cluster) else { return 0 };
        if most <= least {
            return MAX_SCORE;
        }
        (((own - least) / (most - least) - 0.5) * 2.0 * 100.0) as i64
    };
    clusters.iter().map(score).collect()
}

fn add_on(clusters: &[&Cluster], one: &AddOnScore, facts: &Facts<'_>) -> Scores {
    let mut out = Scores::default();
    for cluster in clusters {
        let reported = (facts.scores)(&one.resource_name, &cluster.name).unwrap_or_default();
        if let Some(end) = reported.valid_until {
            if end < facts.now {
                out.expired.push(format!("{}/{}", cluster.name, one.resource_name));
                out.of.push(0);
                continue;
            }
            out.until = out.until.into_iter().chain([end]).min();
        }
        let found = reported.scores.iter().rfind(|score| score.name == one.score_name);
        out.of.push(found.map_or(0, |score| i64::from(score.value)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cluster(name: &str) -> Cluster {
        Cluster { name: name.to_owned(), ..Cluster::default() }
    }

    fn policy(value: Value) -> PrioritizerPolicy {
        serde_json::from_value(value).unwrap()
    }

    fn builtin(name: &str, weight: i32) -> Value {
        json!({"scoreCoordinate": {"type": "BuiltIn", "builtIn": name}, "weight": weight})
    }

    #[test]
    fn defaults_are_added_to_or_left_out() {
        let names = |value: Value| -> Vec<(String, i64)> {
            let all = weights(&policy(value)).unwrap();
            all.into_iter().map(|(one, weight)| (one.name(), weight)).collect()
        };
        let of = |all: &[(&str, i64)]| -> Vec<(String, i64)> {
            all.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
        };
        assert_eq!(names(json!({})), of(&[("Balance", 1), ("Steady", 1)]));
        let steady = json!({"mode": "Additive", "configurations": [builtin("Steady", 3), builtin("Balance", 0)]});
        assert_eq!(names(steady), of(&[("Steady", 3)]));
        let exact = json!({"mode": "Exact", "configurations": [builtin("ResourceAllocatableCPU", -2),
            {"scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}}, "weight": 1}]});
        assert_eq!(names(exact), of(&[("ResourceAllocatableCPU", -2), ("AddOn/r/s", 1)]));
        let wrong = |value: Value| weights(&policy(value)).unwrap_err().to_string();
        assert_eq!(wrong(json!({"mode": "Some"})), ":incorrect prioritizer policy mode: Some");
        assert_eq!(
            wrong(json!({"configurations": [builtin("Nearest", 1)]})),
            ":incorrect builtin prioritizer: Nearest"
        );
        assert_eq!(
            wrong(json!({"configurations": [{"scoreCoordinate": {"type": "AddOn"}, "weight": 1}]})),
            ":addOn should not be empty"
        );
    }

    fn scores(one: &Prioritizer, clusters: &[Cluster], others: &[(&str, u64)]) -> Vec<i64> {
        let others = others.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let chosen = BTreeSet::from(["b".to_owned()]);
        let facts = Facts {
            chosen: &chosen,
            others: &others,
            scores: &|_, _| None,
            now: Timestamp::UNIX_EPOCH,
        };
        one.score(&clusters.iter().collect::<Vec<_>>(), &facts).of
    }

    #[test]
    fn balance_counts_others_decisions() {
        let all = ["a", "b", "c", "d"].map(cluster);
        assert_eq!(scores(&Prioritizer::Balance, &all, &[]), [100, 100, 100, 100]);
        let others = [("a", 5), ("b", 1), ("c", 3), ("elsewhere", 10)];
        assert_eq!(scores(&Prioritizer::Balance, &all, &others), [0, 80, 40, 100]);
        assert_eq!(scores(&Prioritizer::Balance, &all, &[("a", 2), ("b", 1)]), [-100, 0, 100, 100]);
        assert_eq!(scores(&Prioritizer::Steady, &all, &others), [0, 100, 0, 0]);
    }

    #[test]
    fn resources_are_spread_over_the_range() {
        let all = [("a", Some(1_000)), ("b", Some(2_000)), ("c", Some(5_000)), ("d", None)];
        let all = all.map(|(name, milli)| Cluster {
            allocatable: milli.map(|milli| ("cpu".to_owned(), milli)).into_iter().collect(),
            ..cluster(name)
        });
        let cpu = Prioritizer::Allocatable("cpu");
        assert_eq!(scores(&cpu, &all, &[]), [-100, -50, 100, 0]);
        assert_eq!(scores(&cpu, &all[..1], &[]), [100]);
        assert_eq!(scores(&Prioritizer::Allocatable("memory"), &all, &[]), [0, 0, 0, 0]);
    }

    #[test]
    fn a_score_has_its_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let said = |value, valid_until| AddOnScores {
            scores: vec![NamedScore { name: "s".to_owned(), value }],
            valid_until,
        };
        let (chosen, others) = (BTreeSet::new(), BTreeMap::new());
        let of = |resource: &str, cluster: &str| match (resource, cluster) {
            ("r", "a") => Some(said(30, None)),
            ("r", "b") => Some(said(60, Some(at(99)))),
            ("r", "c") => Some(said(-70, Some(at(200)))),
            _ => None,
        };
        let facts = Facts { chosen: &chosen, others: &others, scores: &of, now: at(100) };
        let one = AddOnScore { resource_name: "r".to_owned(), score_name: "s".to_owned() };
        let all = ["a", "b", "c", "d"].map(cluster);
        let got = Prioritizer::AddOn(one).score(&all.iter().collect::<Vec<_>>(), &facts);
        assert_eq!(got.of, [30, 0, -70, 0]);
        assert_eq!((got.expired, got.until), (vec!["b/r".to_owned()], Some(at(200))));
    }
}

//! What a Placement has chosen: what its decisions say, as soon as they are those that its status tells of.
//!
//! Guarantees:
//! - decisions that are missing, half written or of another Placement say nothing of who is chosen
//!   (`decisions_that_are_not_whole_say_nothing`, `a_placement_that_is_replaced_takes_no_work_away`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_fleet::rollout::Group;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::Snapshot;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::placements::is_left_to_others;
use crate::engine::client::key;
use crate::index::{DecisionEntry, IndexTerm, Indexes, PLACEMENT_LABEL};

const GROUP_INDEX_LABEL: &str = "cluster.open-cluster-management.io/decision-group-index";
const GROUP_NAME_LABEL: &str = "cluster.open-cluster-management.io/decision-group-name";

/// What is known of whom a Placement chooses.
#[derive(Debug)]
pub(super) enum Choice {
    /// There is no such Placement, or nobody has decided.
    NotFound,
    /// Decisions are on their way: who is in none of them may still be chosen.
    Unsettled,
    /// These are chosen.
    Groups(Vec<Group>),
}

/// Whom the Placement of this namespace and name chooses.
pub(super) fn choice(
    (snapshot, placements): (&dyn Snapshot, &Kind),
    indexes: &Indexes,
    (namespace, name): (&str, &str),
) -> Result<Choice, ApiError> {
    let root = ClusterName::root();
    let Some(stored) = snapshot.get(&key(placements, &root, namespace, name)) else {
        return Ok(Choice::NotFound);
    };
    let object = stored.object.value()?;
    let by_others = is_left_to_others(&object);
    let term = IndexTerm::Label(&root, namespace, PLACEMENT_LABEL, name);
    let mut decisions = indexes.decisions.find(term);
    decisions.retain(|it| by_others || it.is_of(&stored));
    Ok(Choice::of((!by_others).then_some(&object["status"]), &decisions))
}

/// Decisions of one group.
#[derive(Debug, Default)]
struct Decided {
    group: Group,
    names: BTreeSet<String>,
}

impl Choice {
    /// By the Placement's decisions; with a status that tells of them, or `None` where others make them, who say no more
    /// than that.
    pub fn of(status: Option<&Value>, decisions: &[Arc<DecisionEntry>]) -> Self {
        let mut decided: BTreeMap<i32, Decided> = BTreeMap::new();
        for decision in decisions {
            let labels = &decision.stored.object.header.labels;
            let index =
                labels.get(GROUP_INDEX_LABEL).and_then(|it| it.parse().ok()).unwrap_or_default();
            let Decided { group, names } = decided.entry(index).or_default();
            group.index = index;
            group.name = labels.get(GROUP_NAME_LABEL).cloned().unwrap_or_default();
            group.clusters.extend(decision.clusters().iter().cloned());
            names.insert(decision.stored.key.name.to_string());
        }
        match status {
            None if decided.is_empty() => Self::NotFound,
            Some(status) if !agree(status, &decided) => Self::Unsettled,
            _ => Self::Groups(decided.into_values().map(|it| it.group).collect()),
        }
    }
}

/// Whether these are the decisions that a Placement's status tells of, all of them, with as many clusters.
fn agree(status: &Value, decided: &BTreeMap<i32, Decided>) -> bool {
    let told = status["decisionGroups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_there = |told: &Value| {
        let index = told["decisionGroupIndex"].as_i64().and_then(|it| i32::try_from(it).ok());
        let Some(own) = decided.get(&index.unwrap_or_default()) else { return false };
        let names = told["decisions"].as_array().into_iter().flatten();
        let names: BTreeSet<&str> = names.filter_map(Value::as_str).collect();
        told["decisionGroupName"].as_str().unwrap_or_default() == own.group.name
            && told["clusterCount"].as_u64().unwrap_or_default() == own.group.clusters.len() as u64
            && names.into_iter().eq(own.names.iter())
    };
    !told.is_empty() && told.len() == decided.len() && told.iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decided(groups: &[(&str, &[&str], &[&str])]) -> BTreeMap<i32, Decided> {
        let text = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
        let one = |(index, (name, names, clusters)): (usize, &(&str, &[&str], &[&str]))| {
            let index = i32::try_from(index).unwrap();
            let group = Group { name: (*name).to_owned(), index, clusters: text(clusters) };
            (index, Decided { group, names: text(names) })
        };
        groups.iter().enumerate().map(one).collect()
    }

    #[test]
    fn decisions_that_are_not_whole_say_nothing() {
        let status = json!({"decisionGroups": [
            {"decisionGroupIndex": 0, "decisionGroupName": "canary", "decisions": ["p-decision-1"], "clusterCount": 1},
            {"decisionGroupIndex": 1, "decisionGroupName": "", "decisions": ["p-decision-2"], "clusterCount": 2}]});
        let canary: (&str, &[&str], &[&str]) = ("canary", &["p-decision-1"], &["a"]);
        let rest: (&str, &[&str], &[&str]) = ("", &["p-decision-2"], &["b", "c"]);
        assert!(agree(&status, &decided(&[canary, rest])));
        for (why, not) in [
            ("one is missing", vec![canary]),
            ("none is there", vec![]),
            ("one has too few", vec![canary, ("", &["p-decision-2"], &["b"])]),
            ("its label is another", vec![("", canary.1, canary.2), rest]),
            ("one is too many", vec![canary, rest, ("", &["p-decision-3"], &[])]),
            ("one is still there", vec![canary, ("", &["p-decision-2", "p-decision-3"], rest.2)]),
        ] {
            assert!(!agree(&status, &decided(&not)), "{why}");
        }
        assert!(!agree(&json!({}), &decided(&[])), "nobody has decided yet");
        let nobody =
            json!({"decisionGroups": [{"decisionGroupIndex": 0, "decisions": ["p-decision-1"]}]});
        assert!(agree(&nobody, &decided(&[("", &["p-decision-1"], &[])])));
    }
}

//! Who was chosen, in groups, and in PlacementDecisions of a bounded size.
//!
//! ```text
//! chosen ─▶ groups by name, each of so many ─▶ the rest, in groups of so many ─▶ slices of 100
//! ```
//!
//! Guarantees:
//! - there is one group and one slice at least, so that whoever reads them sees that nobody is chosen
//!   (`nobody_is_an_empty_decision`);
//! - slices are numbered from 1 over all groups, groups from 0 (`groups_are_numbered_and_sliced`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::placement::{GroupStrategy, Placement};
use crate::schedule::Chosen;
use crate::selector::ClusterSelector;
use crate::{Cluster, Misconfigured, share};

/// Decisions in one PlacementDecision.
pub const DECISIONS_MAX: usize = 100;

/// A group of decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name; empty for the rest.
    pub name: String,
    /// Who is in it.
    pub clusters: Vec<Chosen>,
}

/// What one PlacementDecision holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<'a> {
    /// `PLACEMENT-decision-1`
    pub name: String,
    /// Number of its group.
    pub group_index: usize,
    /// Name of its group.
    pub group_name: &'a str,
    /// Who is in it.
    pub clusters: &'a [Chosen],
}

/// Those who were chosen, in groups.
///
/// # Errors
/// When the Placement asks for groups that are none.
pub fn groups(
    placement: &Placement,
    chosen: &[Chosen],
    of: &BTreeMap<&str, &Cluster>,
) -> Result<Vec<Group>, Misconfigured> {
    let strategy: &GroupStrategy = &placement.decision_strategy.group_strategy;
    let length = length(&strategy.clusters_per_decision_group, chosen.len())?;
    let mut left: Vec<Chosen> = chosen.to_vec();
    if placement.sort_by == "Score" {
        left.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.name.cmp(&b.name)));
    } else {
        left.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let mut out = Vec::new();
    for group in &strategy.decision_groups {
        let selector = ClusterSelector::read(&group.group_cluster_selector)
            .map_err(|why| Misconfigured::new("", why))?;
        let is_in = |one: &Chosen| of.get(&*one.name).is_some_and(|it| selector.matches_facts(it));
        let (matched, rest): (Vec<Chosen>, Vec<Chosen>) = left.into_iter().partition(is_in);
        left = rest;
        divide(&group.group_name, &matched, length, &mut out);
    }
    divide("", &left, length, &mut out);
    if out.is_empty() {
        out.push(Group::default());
    }
    Ok(out)
}

fn divide(name: &str, members: &[Chosen], length: usize, out: &mut Vec<Group>) {
    let parts = members.chunks(length.max(1));
    out.extend(parts.map(|part| Group { name: name.to_owned(), clusters: part.to_vec() }));
}

/// How many clusters a group has.
fn length(asked: &Value, total: usize) -> Result<usize, Misconfigured> {
    let asked_for = match asked {
        Value::Null => total,
        Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        Value::String(text) => share::of(text, total).ok_or_else(|| {
            let why = format!("{text} invalid type: string is not a percentage");
            Misconfigured::new("", why)
        })?,
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => 0,
    };
    Ok(if asked_for == 0 || total < asked_for { total } else { asked_for })
}

/// What the PlacementDecisions of these groups hold.
pub fn slices<'a>(placement: &str, groups: &'a [Group]) -> Vec<Slice<'a>> {
    let mut out = Vec::new();
    for (group_index, group) in groups.iter().enumerate() {
        let mut parts: Vec<&[Chosen]> = group.clusters.chunks(DECISIONS_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for clusters in parts {
            let name = format!("{placement}-decision-{}", out.len() + 1);
            out.push(Slice { name, group_index, group_name: &group.name, clusters });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn clusters(n: usize) -> Vec<Cluster> {
        let cluster = |i: usize| Cluster {
            name: format!("c{i:03}"),
            labels: [("canary".to_owned(), (i < 3).to_string())].into(),
            ..Cluster::default()
        };
        (0..n).map(cluster).collect()
    }

    fn grouped(spec: &Value, n: usize) -> Vec<(String, usize)> {
        let all = clusters(n);
        let chosen: Vec<Chosen> =
            all.iter().rev().map(|c| Chosen { name: c.name.clone(), score: 0 }).collect();
        let of = all.iter().map(|c| (&*c.name, c)).collect();
        let placement =
            Placement::read(&json!({"spec": {"decisionStrategy": {"groupStrategy": spec}}}))
                .unwrap();
        let groups = groups(&placement, &chosen, &of).unwrap();
        groups.into_iter().map(|group| (group.name, group.clusters.len())).collect()
    }

    fn of(all: &[(&str, usize)]) -> Vec<(String, usize)> {
        all.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    #[test]
    fn named_groups_come_first_and_the_rest_is_divided() {
        let canary = json!([{"groupName": "canary", "groupClusterSelector": {"labelSelector": {"matchLabels": {"canary": "true"}}}}]);
        let with = |n: Value| json!({"decisionGroups": canary, "clustersPerDecisionGroup": n});
        assert_eq!(grouped(&json!({}), 5), of(&[("", 5)]));
        assert_eq!(grouped(&with(json!("100%")), 8), of(&[("canary", 3), ("", 5)]));
        assert_eq!(
            grouped(&with(json!(2)), 8),
            of(&[("canary", 2), ("canary", 1), ("", 2), ("", 2), ("", 1)])
        );
        assert_eq!(
            grouped(&with(json!("25%")), 10),
            of(&[("canary", 3), ("", 3), ("", 3), ("", 1)])
        );
        assert_eq!(grouped(&with(json!(0)), 4), of(&[("canary", 3), ("", 1)]));
    }

    #[test]
    fn groups_are_numbered_and_sliced() {
        let group = |name: &str, n: usize| Group {
            name: name.to_owned(),
            clusters: (0..n).map(|i| Chosen { name: i.to_string(), score: 0 }).collect(),
        };
        let groups = [group("canary", 3), group("", 250)];
        let found = slices("web", &groups);
        let told: Vec<_> = found
            .iter()
            .map(|s| (&*s.name, s.group_index, s.group_name, s.clusters.len()))
            .collect();
        assert_eq!(
            told,
            [
                ("web-decision-1", 0, "canary", 3),
                ("web-decision-2", 1, "", 100),
                ("web-decision-3", 1, "", 100),
                ("web-decision-4", 1, "", 50),
            ]
        );
    }

    #[test]
    fn nobody_is_an_empty_decision() {
        assert_eq!(grouped(&json!({}), 0), of(&[("", 0)]));
        let groups = [Group::default()];
        assert_eq!(slices("web", &groups).len(), 1);
    }

    #[test]
    fn decisions_are_sorted_by_name_or_by_score() {
        let all = clusters(3);
        let of = all.iter().map(|c| (&*c.name, c)).collect();
        let chosen: Vec<Chosen> = [("c002", 5), ("c000", 1), ("c001", 5)]
            .map(|(name, score)| Chosen { name: name.to_owned(), score })
            .into();
        let names = |sort: &str| -> Vec<String> {
            let placement = Placement::read(&json!({"spec": {"sortBy": sort}})).unwrap();
            let groups = groups(&placement, &chosen, &of).unwrap();
            groups[0].clusters.iter().map(|one| one.name.clone()).collect()
        };
        assert_eq!(names("ClusterName"), ["c000", "c001", "c002"]);
        assert_eq!(names("Score"), ["c001", "c002", "c000"]);
    }
}

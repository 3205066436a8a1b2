//! Why clusters are not chosen that a Placement could have.
//!
//! Guarantees:
//! - whoever is not chosen has a reason, and whoever is has none (`whoever_is_not_chosen_is_told_why`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::toleration::{Tolerated, tolerates};
use crate::{Cluster, Placement, Schedule, World};

/// Why a cluster is not chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It matches no predicate.
    Predicates,
    /// It has a taint that is not tolerated, `KEY:EFFECT`.
    Taint(String),
    /// Others come before it, and no more were asked for; or its place has enough by the spread constraints.
    Outranked,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predicates => f.write_str("they match no predicate"),
            Self::Taint(taint) => write!(f, "taint {taint} is not tolerated"),
            Self::Outranked => f.write_str("others come first (numberOfClusters, spreadPolicy)"),
        }
    }
}

/// Who of these clusters is not in a schedule of them, by the reason; nobody of one that is misconfigured. A taint is told
/// before a predicate.
#[must_use]
pub fn refusals(
    placement: &Placement,
    clusters: &[&Cluster],
    world: &dyn World,
    schedule: &Schedule,
) -> BTreeMap<Refusal, Vec<String>> {
    let mut out: BTreeMap<Refusal, Vec<String>> = BTreeMap::new();
    if schedule.misconfigured.is_some() {
        return out;
    }
    let chosen: BTreeSet<&str> = schedule.chosen.iter().map(|one| &*one.name).collect();
    for cluster in clusters.iter().filter(|cluster| !chosen.contains(&*cluster.name)) {
        let had = world.chosen().contains(&cluster.name);
        let stands = |taint: &&crate::cluster::Taint| {
            let alone = std::slice::from_ref(*taint);
            tolerates(&placement.tolerations, alone, had, world.now()) == Tolerated::No
        };
        let why = if schedule.scores.contains_key(&cluster.name) {
            Refusal::Outranked
        } else if let Some(taint) = cluster.taints.iter().find(stands) {
            Refusal::Taint(format!("{}:{}", taint.key, taint.effect))
        } else {
            Refusal::Predicates
        };
        out.entry(why).or_default().push(cluster.name.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::asked_scores::ScoreSource;
    use crate::cluster::Taint;
    use crate::prioritizer::AddOnScores;
    use crate::schedule;

    #[derive(Default)]
    struct Empty {
        chosen: BTreeSet<String>,
        others: BTreeMap<String, u64>,
    }

    impl World for Empty {
        fn chosen(&self) -> &BTreeSet<String> {
            &self.chosen
        }

        fn others(&self) -> &BTreeMap<String, u64> {
            &self.others
        }

        fn scores(&self, _: &str, _: &str) -> Option<AddOnScores> {
            None
        }

        fn scores_of(&self, _: &str) -> ScoreSource {
            Box::new(|_: &str| None)
        }

        fn object(&self, _: &str) -> Option<Arc<Value>> {
            None
        }

        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    #[test]
    fn whoever_is_not_chosen_is_told_why() {
        let cluster = |name: &str, site: &str| Cluster {
            name: name.to_owned(),
            labels: [("site".to_owned(), site.to_owned())].into(),
            ..Cluster::default()
        };
        let taint =
            |effect: &str| Taint { key: "k".into(), effect: effect.into(), ..Taint::default() };
        let all = [
            cluster("a", "attic"),
            cluster("b", "attic"),
            cluster("c", "cellar"),
            Cluster {
                taints: vec![taint("PreferNoSelect"), taint("NoSelect")],
                ..cluster("d", "attic")
            },
        ];
        let spec = json!({"numberOfClusters": 1, "predicates": [
            {"requiredClusterSelector": {"labelSelector": {"matchLabels": {"site": "attic"}}}}]});
        let placement = Placement::read(&json!({"spec": spec})).unwrap();
        let clusters: Vec<&Cluster> = all.iter().collect();
        let world = Empty::default();
        let got = schedule(&placement, &clusters, &world);
        let shown: Vec<(String, Vec<String>)> = refusals(&placement, &clusters, &world, &got)
            .into_iter()
            .map(|(why, who)| (why.to_string(), who))
            .collect();
        let line = |why: &str, who: &str| (why.to_owned(), vec![who.to_owned()]);
        assert_eq!(
            shown,
            [
                line("they match no predicate", "c"),
                line("taint k:NoSelect is not tolerated", "d"),
                line("others come first (numberOfClusters, spreadPolicy)", "b"),
            ]
        );
    }
}

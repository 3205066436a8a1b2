//! Which clusters a Placement gets: filters, then scores, then the best.
//!
//! ```text
//! clusters ─ predicates ─ taints ─▶ candidates ─ scores × weights ─ spread ─▶ chosen
//! ```
//!
//! Guarantees:
//! - equal scores are broken by the name, so that equal worlds give equal decisions
//!   (`equal_scores_are_broken_by_the_name`);
//! - what is misconfigured chooses nobody (`what_is_misconfigured_chooses_nobody`);
//! - who is not wanted by a taint is chosen after all others (`who_is_not_wanted_comes_last`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_cel::{STACK_BYTES, Scores, on_a_stack_of};
use jiff::Timestamp;
use serde_json::Value;

use crate::asked_scores::{AskedScores, ScoreSource, Until};
use crate::prioritizer::{AddOnScores, Facts, Prioritizer, weights};
use crate::selector::{Budget, ClusterSelector};
use crate::spread::spread;
use crate::toleration::{self, Tolerated, tolerates};
use crate::{Cluster, Misconfigured, Placement};

/// What a decision is made from.
pub trait World: Sync {
    /// Who was chosen before.
    fn chosen(&self) -> &BTreeSet<String>;

    /// How many decisions of other Placements each cluster has.
    fn others(&self) -> &BTreeMap<String, u64>;

    /// What an add-on says of a cluster.
    fn scores(&self, resource: &str, cluster: &str) -> Option<AddOnScores>;

    /// The same of one cluster, for expressions that ask.
    fn scores_of(&self, cluster: &str) -> ScoreSource;

    /// A ManagedCluster, as expressions see it.
    fn object(&self, cluster: &str) -> Option<Arc<Value>>;

    /// Now.
    fn now(&self) -> Timestamp;
}

/// What a Placement gets.
#[derive(Debug, Default)]
pub struct Schedule {
    /// Who is chosen, best first, with the score.
    pub chosen: Vec<Chosen>,
    /// How many more were asked for.
    pub unscheduled: i64,
    /// Scores of all candidates.
    pub scores: BTreeMap<String, i64>,
    /// How many were refused, by what refused them.
    pub refused: Refused,
    /// What is wrong with the Placement.
    pub misconfigured: Option<Misconfigured>,
    /// What is to be said though it went well: by whom, and what.
    pub warning: Option<(String, String)>,
    /// When to look again though nothing changes.
    pub look_again: Option<Timestamp>,
}

/// A chosen cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// Its score.
    pub score: i64,
}

/// How many clusters were refused, by what refused them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// They match no predicate.
    pub predicates: usize,
    /// They have a taint that is not tolerated.
    pub taints: usize,
    /// Their place has enough, or they are in none.
    pub spread: usize,
}

/// A candidate with what speaks for it.
struct Candidate<'a> {
    cluster: &'a Cluster,
    unwanted: usize,
    until: Option<Timestamp>,
    score: i64,
}

/// Which of these clusters a Placement gets. They are those of its sets that are there to stay.
#[must_use]
pub fn schedule(placement: &Placement, clusters: &[&Cluster], world: &dyn World) -> Schedule {
    let mut out = Schedule::default();
    if let Err(why) = decide(placement, clusters, world, &mut out) {
        let wanted = placement.number_of_clusters.map_or(0, i64::from);
        return Schedule { misconfigured: Some(why), unscheduled: wanted, ..Schedule::default() };
    }
    out
}

fn decide(
    placement: &Placement,
    clusters: &[&Cluster],
    world: &dyn World,
    out: &mut Schedule,
) -> Result<(), Misconfigured> {
    let matched = filter(placement, clusters, world, out)?;
    out.refused.predicates = clusters.len() - matched.len();
    if !matched.is_empty() {
        toleration::check(&placement.tolerations)?;
    }
    let mut candidates = Vec::new();
    for cluster in matched {
        let chosen = world.chosen().contains(&cluster.name);
        match tolerates(&placement.tolerations, &cluster.taints, chosen, world.now()) {
            Tolerated::No => out.refused.taints += 1,
            Tolerated::Yes { until, unwanted } => {
                candidates.push(Candidate { cluster, unwanted, until, score: 0 });
            }
        }
    }
    score(placement, &mut candidates, world, out)?;
    candidates.sort_by(|a, b| {
        let key = |c: &Candidate<'_>| (c.unwanted, std::cmp::Reverse(c.score));
        key(a).cmp(&key(b)).then_with(|| a.cluster.name.cmp(&b.cluster.name))
    });
    select(placement, &candidates, out);
    Ok(())
}

fn filter<'a>(
    placement: &Placement,
    clusters: &[&'a Cluster],
    world: &dyn World,
    out: &mut Schedule,
) -> Result<Vec<&'a Cluster>, Misconfigured> {
    if placement.predicates.is_empty() || clusters.is_empty() {
        return Ok(clusters.to_vec());
    }
    let wrong = |why: String| Misconfigured::new("Predicate", why);
    let read =
        |p: &crate::placement::Predicate| ClusterSelector::read(&p.required_cluster_selector);
    let selectors: Vec<ClusterSelector> =
        placement.predicates.iter().map(read).collect::<Result<_, _>>().map_err(wrong)?;
    let (mut budget, until) = (Budget::default(), Until::default());
    let mut matching = || -> Vec<&'a Cluster> {
        let is_in = |cluster: &&&Cluster| {
            let mut by_facts = selectors.iter().filter(|s| s.matches_facts(cluster)).peekable();
            if by_facts.peek().is_none() {
                return false;
            }
            let mut seen = None;
            by_facts.any(|selector| {
                if !selector.has_expressions() {
                    return true;
                }
                let see = || {
                    let source = world.scores_of(&cluster.name);
                    let scores = AskedScores::new(source, world.now(), until.clone());
                    (world.object(&cluster.name), Arc::new(scores) as Arc<dyn Scores>)
                };
                let (object, scores) = seen.get_or_insert_with(see);
                let says =
                    |object: &Arc<Value>| selector.matches_object(object, scores, &mut budget);
                object.as_ref().is_some_and(says)
            })
        };
        clusters.iter().filter(is_in).copied().collect()
    };
    let matched = if selectors.iter().any(ClusterSelector::has_expressions) {
        on_a_stack_of(STACK_BYTES, matching).map_err(|why| wrong(why.to_string()))?
    } else {
        matching()
    };
    out.look_again = until.first();
    if budget.is_spent() {
        let text =
            "celExpressions make too much work: clusters that were not looked at are not chosen";
        out.warning = Some(("Predicate".to_owned(), text.to_owned()));
    }
    Ok(matched)
}

fn score(
    placement: &Placement,
    candidates: &mut [Candidate<'_>],
    world: &dyn World,
    out: &mut Schedule,
) -> Result<(), Misconfigured> {
    let weights: Vec<(Prioritizer, i64)> = weights(&placement.prioritizer_policy)?;
    let clusters: Vec<&Cluster> = candidates.iter().map(|candidate| candidate.cluster).collect();
    let said = |resource: &str, cluster: &str| world.scores(resource, cluster);
    let facts =
        Facts { chosen: world.chosen(), others: world.others(), scores: &said, now: world.now() };
    for (prioritizer, weight) in weights {
        let scores = prioritizer.score(&clusters, &facts);
        for (candidate, score) in candidates.iter_mut().zip(scores.of) {
            candidate.score += score * weight;
        }
        if !scores.expired.is_empty() {
            let text = format!("AddOnPlacementScores {} expired", scores.expired.join(" "));
            out.warning = Some((prioritizer.name(), text));
        }
        out.look_again = out.look_again.into_iter().chain(scores.until).min();
    }
    out.scores = candidates.iter().map(|c| (c.cluster.name.clone(), c.score)).collect();
    Ok(())
}

fn select(placement: &Placement, candidates: &[Candidate<'_>], out: &mut Schedule) {
    let wanted = placement.number_of_clusters.map(|n| usize::try_from(n).unwrap_or_default());
    let clusters: Vec<&Cluster> = candidates.iter().map(|candidate| candidate.cluster).collect();
    let most = wanted.unwrap_or(usize::MAX);
    let chosen = spread(&clusters, &placement.spread_policy.spread_constraints, most);
    out.refused.spread = candidates.len().min(most) - chosen.len();
    for candidate in chosen.iter().filter_map(|at| candidates.get(*at)) {
        out.look_again = out.look_again.into_iter().chain(candidate.until).min();
        out.chosen.push(Chosen { name: candidate.cluster.name.clone(), score: candidate.score });
    }
    let missing = wanted.unwrap_or(candidates.len()).saturating_sub(out.chosen.len());
    out.unscheduled = i64::try_from(missing).unwrap_or(i64::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Default)]
    struct Played {
        chosen: BTreeSet<String>,
        others: BTreeMap<String, u64>,
        scores: BTreeMap<String, i32>,
    }

    impl World for Played {
        fn chosen(&self) -> &BTreeSet<String> {
            &self.chosen
        }

        fn others(&self) -> &BTreeMap<String, u64> {
            &self.others
        }

        fn scores(&self, _: &str, cluster: &str) -> Option<AddOnScores> {
            let value = self.scores.get(cluster)?;
            Some(AddOnScores {
                scores: vec![crate::prioritizer::NamedScore { name: "s".into(), value: *value }],
                valid_until: None,
            })
        }

        fn scores_of(&self, cluster: &str) -> ScoreSource {
            let said = self.scores("usage", cluster).map(|it| {
                let valid_until = Timestamp::from_second(2_000).ok();
                AddOnScores { valid_until, ..it }
            });
            Box::new(move |resource| said.clone().filter(|_| resource == "usage"))
        }

        fn object(&self, cluster: &str) -> Option<Arc<Value>> {
            Some(Arc::new(json!({"metadata": {"name": cluster}})))
        }

        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_000).unwrap()
        }
    }

    fn names(spec: &Value, clusters: &[Cluster], world: &Played) -> Vec<String> {
        let placement = Placement::read(&json!({"spec": spec})).unwrap();
        let all: Vec<&Cluster> = clusters.iter().collect();
        schedule(&placement, &all, world).chosen.into_iter().map(|c| c.name).collect()
    }

    fn cluster(name: &str) -> Cluster {
        let site = if name < "c" { "attic" } else { "cellar" };
        Cluster {
            name: name.to_owned(),
            labels: [("site".to_owned(), site.to_owned())].into(),
            ..Cluster::default()
        }
    }

    fn tainted(name: &str, effect: &str) -> Cluster {
        let taint =
            crate::cluster::Taint { key: "k".into(), effect: effect.into(), ..Default::default() };
        Cluster { taints: vec![taint], ..cluster(name) }
    }

    #[test]
    fn equal_scores_are_broken_by_the_name() {
        let all = ["d", "b", "a", "c"].map(cluster);
        let world = Played::default();
        assert_eq!(names(&json!({}), &all, &world), ["a", "b", "c", "d"]);
        assert_eq!(names(&json!({"numberOfClusters": 2}), &all, &world), ["a", "b"]);
        assert_eq!(names(&json!({"numberOfClusters": 0}), &all, &world), Vec::<String>::new());
    }

    #[test]
    fn predicates_are_alternatives() {
        let all = ["a", "b", "c", "d"].map(cluster);
        let label = json!({"requiredClusterSelector": {"labelSelector": {"matchLabels": {"site": "cellar"}}}});
        let cel = json!({"requiredClusterSelector": {"celSelector": {"celExpressions": ["managedCluster.metadata.name == 'a'"]}}});
        let world = Played::default();
        assert_eq!(names(&json!({"predicates": [label]}), &all, &world), ["c", "d"]);
        assert_eq!(names(&json!({"predicates": [label, cel]}), &all, &world), ["a", "c", "d"]);
    }

    #[test]
    fn scores_are_asked_for_and_have_their_time() {
        let all = ["a", "b", "c"].map(cluster);
        let scores = [("a".to_owned(), 10), ("b".to_owned(), 60)].into();
        let world = Played { scores, ..Played::default() };
        let text = "managedCluster.scores('usage').exists(s, s.name == 's' && s.value < 50)";
        let spec = json!({"predicates": [
            {"requiredClusterSelector": {"celSelector": {"celExpressions": [text]}}}]});
        let placement = Placement::read(&json!({"spec": spec})).unwrap();
        let got = schedule(&placement, &all.iter().collect::<Vec<_>>(), &world);
        let chosen: Vec<&str> = got.chosen.iter().map(|it| &*it.name).collect();
        assert_eq!((chosen, got.refused.predicates), (vec!["a"], 2));
        assert_eq!(got.look_again, Timestamp::from_second(2_000).ok());
    }

    #[test]
    fn who_was_chosen_stays_and_the_better_win() {
        let all = ["a", "b", "c", "d"].map(cluster);
        let world = Played { chosen: ["c".to_owned(), "d".to_owned()].into(), ..Played::default() };
        assert_eq!(names(&json!({"numberOfClusters": 2}), &all, &world), ["c", "d"]);
        let world = Played { scores: [("b".to_owned(), 90), ("d".to_owned(), 50)].into(), ..world };
        let policy = |weight: i32| {
            json!({"numberOfClusters": 2, "prioritizerPolicy": {"configurations": [
            {"scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}}, "weight": weight}]}})
        };
        assert_eq!(names(&policy(1), &all, &world), ["d", "c"]);
        assert_eq!(names(&policy(2), &all, &world), ["d", "b"]);
        let others = [("a".to_owned(), 1)].into();
        assert_eq!(
            names(&json!({"numberOfClusters": 3}), &all, &Played { others, ..Played::default() }),
            ["b", "c", "d"]
        );
    }

    #[test]
    fn who_is_not_wanted_comes_last() {
        let all = [
            tainted("a", "PreferNoSelect"),
            cluster("b"),
            tainted("c", "NoSelect"),
            tainted("d", "NoSelectIfNew"),
        ];
        let world = Played { chosen: ["a".to_owned(), "d".to_owned()].into(), ..Played::default() };
        assert_eq!(names(&json!({}), &all, &world), ["d", "b", "a"]);
        assert_eq!(names(&json!({"numberOfClusters": 2}), &all, &world), ["d", "b"]);
        let placement = Placement::read(&json!({"spec": {"numberOfClusters": 9}})).unwrap();
        let got = schedule(&placement, &all.iter().collect::<Vec<_>>(), &world);
        assert_eq!((got.refused.taints, got.unscheduled), (1, 6));
    }

    #[test]
    fn what_is_misconfigured_chooses_nobody() {
        let all = ["a", "b"].map(cluster);
        for (spec, why) in [
            (
                json!({"prioritizerPolicy": {"mode": "Odd"}}),
                ":incorrect prioritizer policy mode: Odd",
            ),
            (
                json!({"tolerations": [{"value": "x"}]}),
                "TaintToleration:If the key is empty, operator must be Exists.",
            ),
            (
                json!({"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["x"]}}}]}),
                "Predicate:compilation failed: undeclared reference to 'x' (in container '')",
            ),
        ] {
            let placement = Placement::read(&json!({"spec": spec})).unwrap();
            let got = schedule(&placement, &all.iter().collect::<Vec<_>>(), &Played::default());
            assert_eq!(got.misconfigured.map(|it| it.to_string()).as_deref(), Some(why));
            assert_eq!(got.chosen, []);
        }
    }
}

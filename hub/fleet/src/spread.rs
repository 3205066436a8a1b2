//! Not too many clusters from one place (`spreadPolicy`), which Open Cluster Management declares and does not act on.
//!
//! ```text
//! candidates, best first ─▶ by place ─▶ the best one of a place that may have one more ─▶ … ─▶ chosen
//! ```
//!
//! A place is all clusters with the same values of all topology keys. How many of a topology are chosen is counted over
//! all that have a candidate; one without the key is in none: it is not chosen under `DoNotSchedule`, and after those
//! that are in one under `ScheduleAnyway`.
//!
//! Guarantees:
//! - no topology has more than `maxSkew` more than the one with the fewest, where that is a must
//!   (`a_must_is_kept_and_leaves_places_empty`);
//! - where it is a wish, it is followed as far as it goes, the first constraint first
//!   (`a_wish_is_followed_as_far_as_it_goes`);
//! - within that the best are chosen (`the_best_of_each_place_are_chosen`);
//! - a place for each of thousands costs little (`thousands_of_places_cost_little`).

use std::collections::{BTreeMap, VecDeque};

use crate::Cluster;
use crate::placement::SpreadConstraint;

/// Candidates of one place, best first, by their positions.
struct TopologyGroup {
    /// Of each constraint, the number of its topology.
    topologies: Vec<Option<usize>>,
    waiting: VecDeque<usize>,
}

/// How many are chosen of each topology of one constraint.
struct Count {
    must: bool,
    max_skew: i64,
    chosen: Vec<i64>,
    /// The fewest that are chosen of a topology, and how many topologies have so few.
    fewest: (i64, usize),
}

impl Count {
    fn of(constraint: &SpreadConstraint, topologies: usize) -> Self {
        Self {
            must: constraint.when_unsatisfiable == "DoNotSchedule",
            max_skew: i64::from(constraint.max_skew.max(1)),
            chosen: vec![0; topologies],
            fewest: (0, topologies),
        }
    }

    /// By how much one more would be too many; 0 when it is not.
    fn excess(&self, topology: Option<usize>) -> i64 {
        let Some(own) = topology.and_then(|place| self.chosen.get(place)) else {
            return i64::MAX;
        };
        (own + 1 - self.fewest.0 - self.max_skew).max(0)
    }

    /// One more is chosen.
    fn add(&mut self, topology: Option<usize>) {
        let Some(own) = topology.and_then(|place| self.chosen.get_mut(place)) else { return };
        *own += 1;
        if *own - 1 > self.fewest.0 {
            return;
        }
        self.fewest.1 -= 1;
        if self.fewest.1 == 0 {
            // All have more by now. That is seldom: as often as every one of them has got one more.
            let least = self.chosen.iter().min().copied().unwrap_or_default();
            let have = self.chosen.iter().filter(|it| **it == least).count();
            self.fewest = (least, have);
        }
    }
}

/// Positions of those who are chosen of these candidates, which come best first; at most `wanted`.
#[must_use]
pub fn spread(
    candidates: &[&Cluster],
    constraints: &[SpreadConstraint],
    wanted: usize,
) -> Vec<usize> {
    let must = constraints.iter().any(|one| one.when_unsatisfiable == "DoNotSchedule");
    if constraints.is_empty() || (candidates.len() <= wanted && !must) {
        return (0..candidates.len().min(wanted)).collect();
    }
    let (mut places, mut counts) = places(candidates, constraints);
    // By the position of the best one who waits there.
    let mut waiting: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, place) in places.iter().enumerate() {
        waiting.extend(place.waiting.front().map(|best| (*best, at)));
    }
    let mut chosen = Vec::new();
    while chosen.len() < wanted {
        let Some(best) = next(&waiting, &places, &counts) else { break };
        let Some(at) = waiting.remove(&best) else { break };
        let place = &mut places[at];
        chosen.extend(place.waiting.pop_front());
        for (count, topology) in counts.iter_mut().zip(&place.topologies) {
            count.add(*topology);
        }
        waiting.extend(place.waiting.front().map(|best| (*best, at)));
    }
    chosen.sort_unstable();
    chosen
}

fn places(
    candidates: &[&Cluster],
    constraints: &[SpreadConstraint],
) -> (Vec<TopologyGroup>, Vec<Count>) {
    let mut names: Vec<BTreeMap<&str, usize>> = vec![BTreeMap::new(); constraints.len()];
    let mut by_topologies: BTreeMap<Vec<Option<usize>>, VecDeque<usize>> = BTreeMap::new();
    for (position, cluster) in candidates.iter().enumerate() {
        let own = constraints.iter().zip(&mut names).map(|(constraint, names)| {
            let by_claim = constraint.topology_key_type == "Claim";
            let from = if by_claim { &cluster.claims } else { &cluster.labels };
            let value = from.get(&constraint.topology_key)?;
            let next = names.len();
            Some(*names.entry(value).or_insert(next))
        });
        by_topologies.entry(own.collect()).or_default().push_back(position);
    }
    let counts =
        constraints.iter().zip(&names).map(|(one, names)| Count::of(one, names.len())).collect();
    let place = |(topologies, waiting)| TopologyGroup { topologies, waiting };
    (by_topologies.into_iter().map(place).collect(), counts)
}

/// The candidate that is the next: no must is broken, wishes as little as can be, and then it is the best.
fn next(
    waiting: &BTreeMap<usize, usize>,
    places: &[TopologyGroup],
    counts: &[Count],
) -> Option<usize> {
    let (mut broken, mut least) = (Vec::with_capacity(counts.len()), Vec::new());
    let mut found = None;
    for (best, at) in waiting {
        let topologies = places.get(*at).map(|place| &*place.topologies).unwrap_or_default();
        broken.clear();
        broken.extend(counts.iter().zip(topologies).map(|(count, it)| count.excess(*it)));
        if counts.iter().zip(&broken).any(|(count, excess)| count.must && 0 < *excess) {
            continue;
        }
        if broken.iter().all(|excess| *excess == 0) {
            // All that come later are worse.
            return Some(*best);
        }
        if found.is_none() || broken < least {
            found = Some(*best);
            std::mem::swap(&mut broken, &mut least);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of clusters; what is before the dash is their zone.
    fn chosen(names: &[&str], constraints: &[SpreadConstraint], wanted: usize) -> Vec<String> {
        let cluster = |name: &&str| Cluster {
            name: (*name).to_owned(),
            labels: name
                .split_once('-')
                .map(|(zone, _)| ("zone".to_owned(), zone.to_owned()))
                .into_iter()
                .collect(),
            claims: name
                .split_once('-')
                .map(|(_, rack)| ("rack".to_owned(), rack.to_owned()))
                .into_iter()
                .collect(),
            ..Cluster::default()
        };
        let all: Vec<Cluster> = names.iter().map(cluster).collect();
        let found = spread(&all.iter().collect::<Vec<_>>(), constraints, wanted);
        found.into_iter().map(|at| names[at].to_owned()).collect()
    }

    fn by(key: &str, max_skew: i32, when: &str) -> SpreadConstraint {
        SpreadConstraint {
            topology_key: key.to_owned(),
            topology_key_type: if key == "zone" { "Label" } else { "Claim" }.to_owned(),
            max_skew,
            when_unsatisfiable: when.to_owned(),
        }
    }

    #[test]
    fn the_best_of_each_place_are_chosen() {
        let names = ["a-1", "a-2", "a-3", "b-1", "b-2", "c-1"];
        let wish = [by("zone", 1, "ScheduleAnyway")];
        assert_eq!(chosen(&names, &wish, 3), ["a-1", "b-1", "c-1"]);
        assert_eq!(chosen(&names, &wish, 5), ["a-1", "a-2", "b-1", "b-2", "c-1"]);
        assert_eq!(chosen(&names, &[], 3), ["a-1", "a-2", "a-3"]);
        assert_eq!(chosen(&names, &[by("zone", 2, "ScheduleAnyway")], 3), ["a-1", "a-2", "b-1"]);
    }

    #[test]
    fn a_must_is_kept_and_leaves_places_empty() {
        let names = ["a-1", "a-2", "a-3", "b-1", "nowhere"];
        let must = [by("zone", 1, "DoNotSchedule")];
        assert_eq!(chosen(&names, &must, usize::MAX), ["a-1", "a-2", "b-1"]);
        assert_eq!(
            chosen(&names, &[by("zone", 2, "DoNotSchedule")], 9),
            ["a-1", "a-2", "a-3", "b-1"]
        );
        assert_eq!(chosen(&["nowhere"], &must, 1), Vec::<String>::new());
    }

    #[test]
    fn a_wish_is_followed_as_far_as_it_goes() {
        let wish = [by("zone", 1, "ScheduleAnyway")];
        assert_eq!(chosen(&["a-1", "a-2", "a-3", "b-1"], &wish, 9), ["a-1", "a-2", "a-3", "b-1"]);
        assert_eq!(chosen(&["nowhere", "a-1", "a-2", "b-1"], &wish, 3), ["a-1", "a-2", "b-1"]);
        let both = [by("zone", 1, "ScheduleAnyway"), by("rack", 1, "ScheduleAnyway")];
        assert_eq!(chosen(&["a-1", "b-1", "b-2"], &both, 2), ["a-1", "b-2"]);
    }

    /// The same by its definition, for comparison.
    fn slowly(
        candidates: &[&Cluster],
        constraints: &[SpreadConstraint],
        wanted: usize,
    ) -> Vec<usize> {
        let (mut places, counts) = places(candidates, constraints);
        let mut chosen_of: Vec<Vec<i64>> = counts.iter().map(|it| it.chosen.clone()).collect();
        let mut chosen = Vec::new();
        while chosen.len() < wanted {
            let cost = |place: &TopologyGroup| {
                let excess = |at: usize| {
                    let Some(own) = place.topologies[at] else { return i64::MAX };
                    let fewest = chosen_of[at].iter().min().unwrap();
                    (chosen_of[at][own] + 1 - fewest - counts[at].max_skew).max(0)
                };
                let broken: Vec<i64> = (0..counts.len()).map(excess).collect();
                let kept = broken.iter().zip(&counts).all(|(it, count)| !count.must || *it == 0);
                kept.then_some((broken, *place.waiting.front()?))
            };
            let costs = places.iter().enumerate().filter_map(|(at, it)| Some((cost(it)?, at)));
            let Some((_, at)) = costs.min() else { break };
            chosen.extend(places[at].waiting.pop_front());
            for (own, topology) in chosen_of.iter_mut().zip(&places[at].topologies) {
                topology.iter().for_each(|it| own[*it] += 1);
            }
        }
        chosen.sort_unstable();
        chosen
    }

    #[test]
    fn what_is_chosen_is_what_the_rule_says() {
        for seed in 0..200_usize {
            let number = |at: usize, of: usize| (seed * 7 + at * at * 31 + at * (seed + 3)) % of;
            let cluster = |at: usize| {
                let mut cluster = Cluster { name: at.to_string(), ..Cluster::default() };
                if number(at, 11) != 0 {
                    cluster.labels.insert("zone".to_owned(), number(at, 4).to_string());
                }
                cluster.claims.insert("rack".to_owned(), number(at + 1, 7).to_string());
                cluster
            };
            let all: Vec<Cluster> = (0..40).map(cluster).collect();
            let all: Vec<&Cluster> = all.iter().collect();
            let when = ["DoNotSchedule", "ScheduleAnyway"];
            let skew = |at: usize| i32::try_from(1 + number(at, 3)).unwrap();
            let constraints =
                [by("zone", skew(1), when[seed % 2]), by("rack", skew(2), when[seed / 2 % 2])];
            for wanted in [3, 17, 39, usize::MAX] {
                let of = &constraints[..1 + seed % 2];
                if wanted == usize::MAX && of.iter().all(|it| it.when_unsatisfiable == when[1]) {
                    continue;
                }
                assert_eq!(spread(&all, of, wanted), slowly(&all, of, wanted), "{seed} {wanted}");
            }
        }
    }

    #[test]
    fn thousands_of_places_cost_little() {
        const CLUSTERS: usize = 3_000;
        let cluster = |at: usize| Cluster {
            name: at.to_string(),
            labels: [("zone".to_owned(), at.to_string())].into(),
            claims: [("rack".to_owned(), (at % 3).to_string())].into(),
            ..Cluster::default()
        };
        let all: Vec<Cluster> = (0..CLUSTERS).map(cluster).collect();
        let all: Vec<&Cluster> = all.iter().collect();
        let must = [by("zone", 1, "DoNotSchedule"), by("rack", 1, "DoNotSchedule")];
        let began = std::time::Instant::now();
        assert_eq!(spread(&all, &must, usize::MAX).len(), CLUSTERS);
        let took = began.elapsed();
        // Cubic it took minutes like this.
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    }
}

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
//! - within that the best are chosen (`the_best_of_each_place_are_chosen`).

use std::collections::{BTreeMap, VecDeque};

use crate::Cluster;
use crate::placement::SpreadConstraint;

/// Candidates of one place, best first, by their positions.
struct Place {
    /// Of each constraint, the number of its topology.
    topologies: Vec<Option<usize>>,
    waiting: VecDeque<usize>,
}

/// How many are chosen of each topology of one constraint.
struct Count {
    must: bool,
    max_skew: i64,
    chosen: Vec<i64>,
}

impl Count {
    /// By how much one more would be too many; 0 when it is not.
    fn excess(&self, topology: Option<usize>) -> i64 {
        let Some(own) = topology.and_then(|place| self.chosen.get(place)) else {
            return i64::MAX;
        };
        let fewest = self.chosen.iter().min().copied().unwrap_or_default();
        (own + 1 - fewest - self.max_skew).max(0)
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
    let mut chosen = Vec::new();
    while chosen.len() < wanted {
        let Some(best) = next(&places, &counts) else { break };
        let place = &mut places[best];
        chosen.extend(place.waiting.pop_front());
        for (count, topology) in counts.iter_mut().zip(&place.topologies) {
            if let Some(number) = topology.and_then(|number| count.chosen.get_mut(number)) {
                *number += 1;
            }
        }
        if place.waiting.is_empty() {
            places.swap_remove(best);
        }
    }
    chosen.sort_unstable();
    chosen
}

fn places(candidates: &[&Cluster], constraints: &[SpreadConstraint]) -> (Vec<Place>, Vec<Count>) {
    let mut names: Vec<BTreeMap<&str, usize>> = vec![BTreeMap::new(); constraints.len()];
    let mut by_place: BTreeMap<Vec<Option<usize>>, VecDeque<usize>> = BTreeMap::new();
    for (position, cluster) in candidates.iter().enumerate() {
        let own = constraints.iter().zip(&mut names).map(|(constraint, names)| {
            let by_claim = constraint.topology_key_type == "Claim";
            let from = if by_claim { &cluster.claims } else { &cluster.labels };
            let value = from.get(&constraint.topology_key)?;
            let next = names.len();
            Some(*names.entry(value).or_insert(next))
        });
        by_place.entry(own.collect()).or_default().push_back(position);
    }
    let count = |(constraint, names): (&SpreadConstraint, &BTreeMap<&str, usize>)| Count {
        must: constraint.when_unsatisfiable == "DoNotSchedule",
        max_skew: i64::from(constraint.max_skew.max(1)),
        chosen: vec![0; names.len()],
    };
    let counts = constraints.iter().zip(&names).map(count).collect();
    let place = |(topologies, waiting)| Place { topologies, waiting };
    (by_place.into_iter().map(place).collect(), counts)
}

/// The place whose best candidate is the next: no must is broken, wishes as little as can be, and then it is the best.
fn next(places: &[Place], counts: &[Count]) -> Option<usize> {
    let cost = |place: &Place| -> Option<(Vec<i64>, usize)> {
        let mut broken = Vec::with_capacity(counts.len());
        for (count, topology) in counts.iter().zip(&place.topologies) {
            let excess = count.excess(*topology);
            if count.must && 0 < excess {
                return None;
            }
            broken.push(excess);
        }
        Some((broken, *place.waiting.front()?))
    };
    let costs = places.iter().enumerate().filter_map(|(at, place)| Some((cost(place)?, at)));
    costs.min().map(|(_, at)| at)
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
}

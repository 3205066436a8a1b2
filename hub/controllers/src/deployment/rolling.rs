//! The next step of a rollout: pure.

use super::observe::{Scale, Set, Sets, Strategy, Wanted};

/// How large the new set may be now.
#[must_use]
pub fn new_size(wanted: &Wanted, sets: &Sets) -> i32 {
    let present = sets.new.as_ref().map_or(0, |s| s.replicas);
    match wanted.strategy {
        Strategy::Recreate => wanted.replicas,
        Strategy::Rolling { surge, .. } => {
            let total = sets.sum(|s| s.replicas);
            let room = wanted.replicas.saturating_add(surge) - total;
            if room <= 0 {
                return present;
            }
            present + room.min((wanted.replicas - present).max(0))
        }
    }
}

/// Rolling update: the new set grows as far as the surge lets it; when it cannot, old ones shrink as
/// far as availability lets them. Empty: nothing can move before a pod changes.
#[must_use]
pub fn rolling(wanted: &Wanted, sets: &Sets) -> Vec<Scale> {
    let Some(new) = &sets.new else { return Vec::new() };
    if new.replicas != wanted.replicas {
        let to =
            if new.replicas > wanted.replicas { wanted.replicas } else { new_size(wanted, sets) };
        if to != new.replicas {
            return vec![Scale { set: new.name.clone(), to }];
        }
    }
    shrink_old(wanted, new, sets)
}

fn shrink_old(wanted: &Wanted, new: &Set, sets: &Sets) -> Vec<Scale> {
    let total = sets.sum(|s| s.replicas);
    let least = wanted.replicas - wanted.unavailable();
    let mut budget = total - least - (new.replicas - new.available);
    if budget <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<(&Set, i32)> = sets.old.iter().map(|s| (s, s.replicas)).collect();
    // First those that serve nobody anyhow: they must not block the rollout.
    for (set, size) in &mut sizes {
        let gone = budget.min(*size - set.available).max(0);
        *size -= gone;
        budget -= gone;
    }
    let available = sets.sum(|s| s.available);
    let mut spare = (available - least).min(budget);
    for (_, size) in &mut sizes {
        let gone = spare.min(*size).max(0);
        *size -= gone;
        spare -= gone;
    }
    sizes
        .into_iter()
        .filter(|(set, size)| set.replicas != *size)
        .map(|(set, to)| Scale { set: set.name.clone(), to })
        .collect()
}

/// Recreate: everything old goes to zero first.
#[must_use]
pub fn stop_old(sets: &Sets) -> Vec<Scale> {
    let running = sets.old.iter().filter(|s| s.replicas > 0);
    running.map(|s| Scale { set: s.name.clone(), to: 0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{replica_set, wanted};

    fn two(old: (i32, i32), new: (i32, i32)) -> Sets {
        Sets {
            old: vec![replica_set("old").size(old.0).available(old.1).set()],
            new: Some(replica_set("new").size(new.0).available(new.1).set()),
        }
    }

    fn to(name: &str, to: i32) -> Vec<Scale> {
        vec![Scale { set: name.into(), to }]
    }

    #[test]
    fn the_new_set_grows_within_the_surge() {
        let wanted = wanted(4).rolling(1, 0);
        assert_eq!(rolling(&wanted, &two((4, 4), (0, 0))), to("new", 1));
        assert_eq!(rolling(&wanted, &two((4, 4), (1, 0))), [], "nothing may go before it is ready");
        assert_eq!(rolling(&wanted, &two((4, 4), (1, 1))), to("old", 3));
        assert_eq!(rolling(&wanted, &two((3, 3), (1, 1))), to("new", 2));
        assert_eq!(rolling(&wanted, &two((0, 0), (4, 4))), []);
    }

    #[test]
    fn old_ones_shrink_within_what_may_be_missing() {
        let wanted = wanted(4).rolling(0, 2);
        assert_eq!(rolling(&wanted, &two((4, 4), (0, 0))), to("old", 2));
        assert_eq!(rolling(&wanted, &two((2, 2), (0, 0))), to("new", 2));
        assert_eq!(rolling(&wanted, &two((2, 2), (2, 0))), []);
        assert_eq!(rolling(&wanted, &two((2, 2), (2, 1))), to("old", 1));
    }

    #[test]
    fn broken_old_pods_go_first_even_when_nothing_is_available() {
        let wanted = wanted(4).rolling(1, 1);
        assert_eq!(rolling(&wanted, &two((4, 0), (1, 0))), to("old", 3));
    }

    #[test]
    fn a_new_set_that_is_too_large_shrinks_at_once() {
        assert_eq!(rolling(&wanted(2).rolling(1, 0), &two((0, 0), (5, 5))), to("new", 2));
    }

    /// Whatever order pods become ready in, the bounds hold at every step.
    #[test]
    fn bounds_hold_on_every_way_through_a_rollout() {
        for (surge, unavailable) in [(1, 0), (0, 1), (2, 1), (3, 3), (10, 0)] {
            let wanted = wanted(7).rolling(surge, unavailable);
            let mut sets = two((7, 7), (0, 0));
            for step in 0.. {
                assert!(step < 200, "the rollout does not end");
                let scales = rolling(&wanted, &sets);
                let done = scales.is_empty();
                for scale in scales {
                    let new = sets.new.as_mut().filter(|s| s.name == scale.set);
                    let set = new.unwrap_or(&mut sets.old[0]);
                    set.replicas = scale.to;
                    set.available = set.available.min(scale.to);
                }
                assert!(sets.sum(|s| s.replicas) <= 7 + surge);
                assert!(7 - unavailable <= sets.sum(|s| s.available));
                let new = sets.new.as_mut().unwrap();
                if done && new.available == new.replicas {
                    break;
                }
                new.available = (new.available + i32::from(done)).min(new.replicas);
            }
            assert_eq!((sets.old[0].replicas, sets.new.unwrap().replicas), (0, 7));
        }
    }
}

//! Scaling in the middle of a rollout: every active set gets its share. Pure.

use super::observe::{Scale, Set, Sets, Strategy, Wanted};

/// Whether `spec.replicas` changed since the sets were last scaled. Several sets of a Recreate have no
/// shares: the rollout that ends all but one sets its size too.
#[must_use]
pub fn is_scaling(wanted: &Wanted, sets: &Sets) -> bool {
    if wanted.strategy == Strategy::Recreate && 1 < sets.all().filter(|s| s.replicas > 0).count() {
        return false;
    }
    let mut active = sets.all().filter(|s| s.replicas > 0);
    active.any(|s| s.desired.is_some_and(|desired| desired != wanted.replicas))
}

/// Sizes of the sets that a change of `spec.replicas` asks for; also for what is paused.
#[must_use]
pub fn scale(wanted: &Wanted, sets: &Sets) -> Vec<Scale> {
    if let Some(only) = active_or_latest(sets) {
        return vec![Scale { set: only.name.clone(), to: wanted.replicas }];
    }
    if is_saturated(wanted, sets.new.as_ref()) {
        let active = sets.old.iter().filter(|s| s.replicas > 0);
        return active.map(|s| Scale { set: s.name.clone(), to: 0 }).collect();
    }
    if wanted.strategy == Strategy::Recreate {
        return Vec::new();
    }
    shares(wanted, sets)
}

/// The only set with pods; without any, the new one or else the youngest.
fn active_or_latest(sets: &Sets) -> Option<&Set> {
    let mut active = sets.all().filter(|s| s.replicas > 0);
    match (active.next(), active.next()) {
        (None, _) => sets.new.as_ref().or_else(|| sets.old.last()),
        (only, None) => only,
        (Some(_), Some(_)) => None,
    }
}

fn is_saturated(wanted: &Wanted, new: Option<&Set>) -> bool {
    new.is_some_and(|set| {
        set.replicas == wanted.replicas
            && set.desired == Some(wanted.replicas)
            && set.available == wanted.replicas
    })
}

fn shares(wanted: &Wanted, sets: &Sets) -> Vec<Scale> {
    let mut active: Vec<&Set> = sets.all().filter(|s| s.replicas > 0).collect();
    let total: i32 = active.iter().map(|s| s.replicas).sum();
    let allowed =
        if wanted.replicas > 0 { wanted.replicas.saturating_add(wanted.surge()) } else { 0 };
    let change = allowed - total;
    // Largest first; when growing, newer ones win a tie, when shrinking, older ones lose first.
    active.sort_by(|a, b| {
        let age = if change > 0 { Set::by_age(b, a) } else { Set::by_age(a, b) };
        b.replicas.cmp(&a.replicas).then(age)
    });
    let mut given = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for set in &active {
        let share = share(wanted, set, change, given);
        given += share;
        sizes.push(set.replicas + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + change - given).max(0);
    }
    let named = active.iter().zip(sizes);
    named.map(|(set, to)| Scale { set: set.name.clone(), to }).collect()
}

fn share(wanted: &Wanted, set: &Set, change: i32, given: i32) -> i32 {
    if set.replicas == 0 || change == 0 || change == given {
        return 0;
    }
    let fraction = fraction(wanted, set);
    let left = change - given;
    if change > 0 { fraction.min(left) } else { fraction.max(left) }
}

fn fraction(wanted: &Wanted, set: &Set) -> i32 {
    if wanted.replicas == 0 {
        return -set.replicas;
    }
    let before = set.max.filter(|max| *max > 0).unwrap_or_else(|| {
        wanted.typed.status.as_ref().and_then(|s| s.replicas).unwrap_or_default()
    });
    if before <= 0 {
        return 0;
    }
    let after = i64::from(wanted.replicas) + i64::from(wanted.surge());
    let (size, before) = (i64::from(set.replicas) * after, i64::from(before));
    let rounded = (2 * size + before) / (2 * before);
    i32::try_from(rounded).unwrap_or(i32::MAX) - set.replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{replica_set, wanted};

    fn sizes(scales: &[Scale]) -> Vec<(&str, i32)> {
        scales.iter().map(|s| (s.set.as_str(), s.to)).collect()
    }

    #[test]
    fn one_active_set_takes_it_all() {
        let sets = Sets {
            new: Some(replica_set("new").size(3).asked(3, 4).set()),
            old: vec![replica_set("old").size(0).set()],
        };
        assert!(is_scaling(&wanted(5).rolling(1, 0), &sets));
        assert_eq!(sizes(&scale(&wanted(5).rolling(1, 0), &sets)), [("new", 5)]);
        assert!(!is_scaling(&wanted(3).rolling(1, 0), &sets));
    }

    #[test]
    fn shares_follow_sizes() {
        let sets = Sets {
            new: Some(replica_set("new").size(5).asked(10, 13).set()),
            old: vec![replica_set("old").size(8).asked(10, 13).set()],
        };
        // 10+3 pods become 20+3: each set is stretched by 23/13.
        assert_eq!(sizes(&scale(&wanted(20).rolling(3, 2), &sets)), [("old", 14), ("new", 9)]);
        assert_eq!(sizes(&scale(&wanted(0).rolling(3, 2), &sets)), [("old", 0), ("new", 0)]);
    }

    #[test]
    fn a_recreate_with_several_sets_rolls_instead_of_waiting_for_shares() {
        let sets = Sets {
            new: Some(replica_set("new").size(1).asked(3, 4).set()),
            old: vec![replica_set("old").size(3).asked(3, 4).set()],
        };
        let mut wanted = wanted(5).rolling(1, 0);
        assert!(is_scaling(&wanted, &sets));
        wanted.strategy = Strategy::Recreate;
        assert_eq!(scale(&wanted, &sets), [], "shares would change nothing");
        assert!(!is_scaling(&wanted, &sets));
    }

    #[test]
    fn a_saturated_new_set_ends_the_old_ones() {
        let sets = Sets {
            new: Some(replica_set("new").size(3).available(3).asked(3, 4).set()),
            old: vec![replica_set("old").size(1).asked(4, 5).set()],
        };
        assert_eq!(sizes(&scale(&wanted(3).rolling(1, 0), &sets)), [("old", 0)]);
    }
}

//! What a Placement's conditions say of its decisions.

use crate::Schedule;

/// What was there to choose from.
#[derive(Clone, Debug, Default)]
pub struct Offer<'a> {
    /// How many sets the namespace is bound to that are there.
    pub bindings: usize,
    /// Sets that the Placement names.
    pub asked: &'a [String],
    /// Sets that are both.
    pub eligible: &'a [String],
    /// Clusters in them that are there to stay.
    pub clusters: usize,
}

/// Status, reason and message of PlacementSatisfied.
#[must_use]
pub fn satisfied(offer: &Offer<'_>, schedule: &Schedule) -> (bool, &'static str, String) {
    if offer.bindings == 0 {
        let text = "No valid ManagedClusterSetBindings found in placement namespace";
        return (false, "NoManagedClusterSetBindings", text.to_owned());
    }
    if offer.eligible.is_empty() {
        let asked = offer.asked.join(",");
        let text = format!("None of ManagedClusterSets [{asked}] is bound to placement namespace");
        return (false, "NoIntersection", text);
    }
    if offer.clusters == 0 {
        let sets = offer.eligible.join(",");
        let text = format!("All ManagedClusterSets [{sets}] have no member ManagedCluster");
        return (false, "AllManagedClusterSetsEmpty", text);
    }
    if schedule.chosen.is_empty() {
        let text = "No ManagedCluster matches any of the cluster predicate";
        return (false, "NoManagedClusterMatched", format!("{text}{}", why(offer, schedule)));
    }
    if schedule.unscheduled == 0 {
        return (true, "AllDecisionsScheduled", "All cluster decisions scheduled".to_owned());
    }
    let text = format!("{} cluster decisions unscheduled", schedule.unscheduled);
    (false, "NotAllDecisionsScheduled", format!("{text}{}", why(offer, schedule)))
}

/// Status, reason and message of PlacementMisconfigured.
#[must_use]
pub fn misconfigured(schedule: &Schedule) -> (bool, &'static str, String) {
    match &schedule.misconfigured {
        Some(why) => (true, "Misconfigured", why.to_string()),
        None => (false, "Succeedconfigured", "Placement configurations check pass".to_owned()),
    }
}

/// Upstream says no more than that it is so; here is why.
fn why(offer: &Offer<'_>, schedule: &Schedule) -> String {
    let refused = &schedule.refused;
    let reasons = [
        (refused.predicates, "match no predicate"),
        (refused.taints, "have a taint that is not tolerated"),
        (refused.spread, "are left out to keep the spread"),
    ];
    let counts: Vec<String> = reasons
        .iter()
        .filter(|(number, _)| 0 < *number)
        .map(|(number, reason)| format!("{number} {reason}"))
        .collect();
    if counts.is_empty() {
        return String::new();
    }
    format!(": of {} clusters, {}", offer.clusters, counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Misconfigured;
    use crate::schedule::{Chosen, Refused};

    #[test]
    fn reasons_are_those_of_open_cluster_management() {
        let sets = ["north".to_owned()];
        let chosen = vec![Chosen { name: "a".to_owned(), score: 0 }];
        let some = || Schedule { chosen: chosen.clone(), ..Schedule::default() };
        let none = Offer::default();
        let unbound = Offer { bindings: 1, asked: &sets, ..Offer::default() };
        let empty = Offer { eligible: &sets, ..unbound.clone() };
        let full = Offer { clusters: 4, ..empty.clone() };
        for (offer, schedule, expected) in [
            (&none, some(), (false, "NoManagedClusterSetBindings")),
            (&unbound, some(), (false, "NoIntersection")),
            (&empty, some(), (false, "AllManagedClusterSetsEmpty")),
            (&full, Schedule::default(), (false, "NoManagedClusterMatched")),
            (&full, some(), (true, "AllDecisionsScheduled")),
            (&full, Schedule { unscheduled: 2, ..some() }, (false, "NotAllDecisionsScheduled")),
        ] {
            let (status, reason, _) = satisfied(offer, &schedule);
            assert_eq!((status, reason), expected);
        }
    }

    #[test]
    fn why_somebody_is_missing_is_said() {
        let sets = ["north".to_owned()];
        let offer = Offer { bindings: 1, asked: &[], eligible: &sets, clusters: 6 };
        let refused = Refused { predicates: 3, taints: 2, spread: 1 };
        let (_, _, text) = satisfied(&offer, &Schedule { refused, ..Schedule::default() });
        assert_eq!(
            text,
            "No ManagedCluster matches any of the cluster predicate: of 6 clusters, 3 match no predicate, \
             2 have a taint that is not tolerated, 1 are left out to keep the spread"
        );
        let wrong = Misconfigured::new("Predicate", "odd");
        let schedule = Schedule { misconfigured: Some(wrong), ..Schedule::default() };
        assert_eq!(misconfigured(&schedule), (true, "Misconfigured", "Predicate:odd".to_owned()));
    }
}

//! Taints of clusters, and placements that put up with them.
//!
//! ```text
//! NoSelect         not chosen, and not kept
//! NoSelectIfNew    not chosen, but kept by whoever has chosen it before
//! PreferNoSelect   chosen after all others
//! ```
//!
//! Guarantees:
//! - a toleration with seconds ends when they are over (`tolerations_end_with_their_seconds`);
//! - who has chosen a cluster keeps it while it is not heard of, unless the Placement says for how long
//!   (`a_silent_cluster_is_kept_unless_the_placement_says_for_how_long`).

use jiff::{SignedDuration, Timestamp};

use crate::Misconfigured;
use crate::cluster::Taint;
use crate::placement::Toleration;

/// Of clusters that are not heard of.
pub const UNREACHABLE: &str = "cluster.open-cluster-management.io/unreachable";
/// Of clusters that say that they cannot work.
pub const UNAVAILABLE: &str = "cluster.open-cluster-management.io/unavailable";

/// Whether a cluster may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerated {
    /// It may not.
    No,
    /// It may, perhaps for some time only.
    Yes {
        /// When that ends.
        until: Option<Timestamp>,
        /// How many of its taints would rather have it that it is not.
        unwanted: usize,
    },
}

/// What is wrong with tolerations.
///
/// # Errors
/// The first mistake.
pub fn check(tolerations: &[Toleration]) -> Result<(), Misconfigured> {
    for one in tolerations {
        let why = if one.key.is_empty() && one.operator != "Exists" {
            "If the key is empty, operator must be Exists."
        } else if one.operator == "Exists" && !one.value.is_empty() {
            "If the operator is Exists, the value should be empty."
        } else {
            continue;
        };
        return Err(Misconfigured::new("TaintToleration", why));
    }
    Ok(())
}

/// Whether a placement with these tolerations may choose a cluster with these taints; `chosen`: it has, before.
#[must_use]
pub fn tolerates(
    tolerations: &[Toleration],
    taints: &[Taint],
    chosen: bool,
    now: Timestamp,
) -> Tolerated {
    let (mut until, mut unwanted) = (None, 0);
    for taint in taints {
        let outcome = of_taint(tolerations, taint, now);
        match (&*taint.effect, outcome) {
            ("PreferNoSelect", None) => unwanted += 1,
            ("NoSelectIfNew", _) if chosen && !says_how_long(tolerations, taint) => {}
            (_, None) => return Tolerated::No,
            (_, Some(end)) => until = until.into_iter().chain(end).min(),
        }
    }
    Tolerated::Yes { until, unwanted }
}

/// Whether somebody has said of silence, by its own key, how long it is waited for: who has moves after it.
fn says_how_long(tolerations: &[Toleration], taint: &Taint) -> bool {
    let system = [UNREACHABLE, UNAVAILABLE].contains(&&*taint.key);
    let named = |one: &&Toleration| one.key == taint.key && matches(one, taint);
    system
        && tolerations.iter().any(|one| one.toleration_seconds.is_some() && named(&one))
        && !tolerations.iter().any(|one| one.toleration_seconds.is_none() && matches(one, taint))
}

/// `None`: nobody tolerates it. Else when that ends, if it does.
fn of_taint(
    tolerations: &[Toleration],
    taint: &Taint,
    now: Timestamp,
) -> Option<Option<Timestamp>> {
    let mut longest: Option<Timestamp> = None;
    for one in tolerations.iter().filter(|one| matches(one, taint)) {
        let Some(seconds) = one.toleration_seconds else { return Some(None) };
        // One that was never added, as far as anybody knows, was added long ago.
        let since = taint.time_added.unwrap_or(Timestamp::MIN);
        let furthest = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let end = since.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(furthest);
        longest = longest.max((now < end).then_some(end));
    }
    longest.map(Some)
}

fn matches(toleration: &Toleration, taint: &Taint) -> bool {
    let fits = |asked: &str, own: &str| asked.is_empty() || asked == own;
    let value = match &*toleration.operator {
        "Exists" => true,
        "" | "Equal" => toleration.value == taint.value,
        _ => false,
    };
    value && fits(&toleration.effect, &taint.effect) && fits(&toleration.key, &taint.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn asked(tolerations: Value, taint: Value, chosen: bool) -> Tolerated {
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        let mut taint: Taint = serde_json::from_value(taint).unwrap();
        taint.time_added.get_or_insert(at(1_000));
        tolerates(&tolerations, &[taint], chosen, at(1_100))
    }

    const FREE: Tolerated = Tolerated::Yes { until: None, unwanted: 0 };

    #[test]
    fn effects_and_operators() {
        let taint = |effect: &str| json!({"key": "a", "value": "1", "effect": effect});
        for (tolerations, effect, chosen, expected) in [
            (json!([]), "NoSelect", true, Tolerated::No),
            (json!([]), "NoSelectIfNew", false, Tolerated::No),
            (json!([]), "NoSelectIfNew", true, FREE),
            (json!([]), "PreferNoSelect", false, Tolerated::Yes { until: None, unwanted: 1 }),
            (json!([{"key": "a", "value": "1"}]), "PreferNoSelect", false, FREE),
            (json!([{"key": "a", "operator": "Equal", "value": "1"}]), "NoSelect", false, FREE),
            (
                json!([{"key": "a", "operator": "Equal", "value": "2"}]),
                "NoSelect",
                false,
                Tolerated::No,
            ),
            (json!([{"key": "a", "operator": "Exists"}]), "NoSelect", false, FREE),
            (json!([{"operator": "Exists"}]), "NoSelect", false, FREE),
            (json!([{"key": "b", "operator": "Exists"}]), "NoSelect", false, Tolerated::No),
            (
                json!([{"key": "a", "operator": "Exists", "effect": "NoSelectIfNew"}]),
                "NoSelect",
                false,
                Tolerated::No,
            ),
        ] {
            let got = asked(tolerations.clone(), taint(effect), chosen);
            assert_eq!(got, expected, "{tolerations} {effect} {chosen}");
        }
    }

    #[test]
    fn tolerations_end_with_their_seconds() {
        let taint = json!({"key": "a", "effect": "NoSelect"});
        let seconds = |n: i64| json!([{"key": "a", "operator": "Exists", "tolerationSeconds": n}]);
        assert_eq!(asked(seconds(100), taint.clone(), true), Tolerated::No);
        let until = Some(at(1_150));
        assert_eq!(asked(seconds(150), taint.clone(), true), Tolerated::Yes { until, unwanted: 0 });
        let timeless = Taint { key: "a".into(), effect: "NoSelect".into(), ..Taint::default() };
        for n in [150, -150] {
            let waits: Vec<Toleration> = serde_json::from_value(seconds(n)).unwrap();
            assert_eq!(
                tolerates(&waits, std::slice::from_ref(&timeless), true, at(1_100)),
                Tolerated::No
            );
        }
        let both = json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 5}, {"operator": "Exists"}]);
        assert_eq!(asked(both, taint, true), FREE);
    }

    #[test]
    fn a_silent_cluster_is_kept_unless_the_placement_says_for_how_long() {
        let taint = json!({"key": UNREACHABLE, "effect": "NoSelectIfNew"});
        assert_eq!(asked(json!([]), taint.clone(), true), FREE);
        assert_eq!(asked(json!([]), taint.clone(), false), Tolerated::No);
        let waits = |seconds: i64| json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": seconds}]);
        assert_eq!(asked(waits(60), taint.clone(), true), Tolerated::No);
        let until = Some(at(1_300));
        assert_eq!(asked(waits(300), taint.clone(), true), Tolerated::Yes { until, unwanted: 0 });
        let any = json!([{"operator": "Exists", "tolerationSeconds": 60}]);
        assert_eq!(asked(any, taint, true), FREE, "it is not about silence");
    }

    #[test]
    fn tolerations_that_say_nothing_are_mistakes() {
        let wrong =
            |one: Value| check(&[serde_json::from_value(one).unwrap()]).unwrap_err().to_string();
        assert_eq!(
            wrong(json!({"operator": "Equal", "value": "x"})),
            "TaintToleration:If the key is empty, operator must be Exists."
        );
        assert_eq!(
            wrong(json!({"key": "a", "operator": "Exists", "value": "x"})),
            "TaintToleration:If the operator is Exists, the value should be empty."
        );
    }
}

//! ManagedClusterTaints: a taint of a ManagedCluster has the time at which it was put on, and nobody else's, as Open
//! Cluster Management's webhook sees to it: tolerations with seconds count from there.
//!
//! Guarantees:
//! - what is put on or changed has the time of that, and what stays keeps its own
//!   (`a_taint_has_the_time_at_which_it_was_put_on`).

use async_trait::async_trait;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::time;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;

pub(super) struct ManagedClusterTaints;

#[async_trait]
impl Plugin for ManagedClusterTaints {
    fn name(&self) -> &'static str {
        "ManagedClusterTaints"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.target.kind.has(Trait::StandsForSpoke) && review.asks_for_it()
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, cluster: &mut Value) -> Result<(), Refusal> {
        stamp(cluster, review.old, &time::from_unix(review.now()))
    }
}

fn stamp(cluster: &mut Value, old: Option<&Value>, now: &str) -> Result<(), Refusal> {
    let before = old.and_then(|old| old.pointer("/spec/taints")).and_then(Value::as_array);
    let taints = cluster.pointer_mut("/spec/taints").and_then(Value::as_array_mut);
    let mut set_by_others = Vec::new();
    for taint in taints.into_iter().flatten().filter(|taint| taint.is_object()) {
        let same = |other: &&Value| ["key", "value", "effect"].iter().all(|f| other[f] == taint[f]);
        let kept = before.into_iter().flatten().find(same).map(|same| same["timeAdded"].clone());
        let given = taint["timeAdded"].take();
        // Of a new cluster it is no mistake: it may come from a file that another one was written to.
        if old.is_some() && !given.is_null() && kept.as_ref() != Some(&given) {
            set_by_others.push(taint["key"].as_str().unwrap_or_default().to_owned());
        }
        taint["timeAdded"] = kept.filter(|time| !time.is_null()).unwrap_or_else(|| json!(now));
    }
    if set_by_others.is_empty() {
        return Ok(());
    }
    let why = format!("It is not allowed to set TimeAdded of Taint {:?}.", set_by_others.join(","));
    Err(Refusal::Denied { code: 400, reason: "BadRequest", why, causes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taints(list: Value) -> Value {
        let mut cluster = json!({"spec": {}});
        cluster["spec"]["taints"] = list;
        cluster
    }

    #[test]
    fn a_taint_has_the_time_at_which_it_was_put_on() {
        let mut cluster = taints(json!([{"key": "a", "effect": "NoSelect", "timeAdded": "1999"}]));
        stamp(&mut cluster, None, "t1").unwrap();
        let first = json!({"key": "a", "effect": "NoSelect", "timeAdded": "t1"});
        assert_eq!(cluster, taints(json!([first])));
        let asked = json!([{"key": "a", "effect": "NoSelect"}, {"key": "b", "effect": "NoSelect"}]);
        let mut more = taints(asked);
        stamp(&mut more, Some(&cluster), "t2").unwrap();
        let second = json!({"key": "b", "effect": "NoSelect", "timeAdded": "t2"});
        assert_eq!(more, taints(json!([first, second])), "what is applied again keeps its time");
        let mut changed = taints(json!([{"key": "a", "effect": "PreferNoSelect"}]));
        stamp(&mut changed, Some(&cluster), "t3").unwrap();
        assert_eq!(changed["spec"]["taints"][0]["timeAdded"], "t3");
        let mut again = cluster.clone();
        stamp(&mut again, Some(&cluster), "t4").unwrap();
        assert_eq!(again, cluster);
        let mut odd = taints(json!([{"key": "a", "effect": "NoSelect", "timeAdded": "1999"}]));
        let refused = stamp(&mut odd, Some(&cluster), "t5").unwrap_err();
        let Refusal::Denied { code: 400, why, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(why, "It is not allowed to set TimeAdded of Taint \"a\".");
        for shape in [json!({}), json!({"spec": {"taints": "x"}}), json!({"spec": {"taints": [1]}})]
        {
            stamp(&mut shape.clone(), None, "t").unwrap();
        }
    }
}

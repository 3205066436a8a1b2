//! PlacementDecision of SIG Multicluster: some of the clusters that were chosen, as tools find them that know nothing of Open
//! Cluster Management. It has the name of the one of that group that it shows, and no status: whoever decides writes it whole.
//!
//! Guarantees:
//! - it says whom that one has chosen, by their ClusterProfiles, and its place among those of its Placement
//!   (`a_decision_says_who_was_chosen`);
//! - of a hundred decisions at most, each of which names its profile (`a_decision_names_its_profiles`).

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::types::Schema;
use serde_json::{Value, json};

use super::Rules;
use super::cluster_profile::{GROUP, MANAGER};
use crate::kinds::accessors::{list, text};
use crate::kinds::field_value::FieldValue;

/// Decisions that one of them may hold.
const DECISIONS_MAX: usize = 100;
/// Label of all that one Placement has chosen.
const KEY_LABEL: &str = "multicluster.x-k8s.io/decision-key";
/// Label of one of those: its place among them, from 0.
const INDEX_LABEL: &str = "multicluster.x-k8s.io/decision-index";
/// Label of what is shown: the Placement that it is of.
const PLACEMENT_LABEL: &str = "cluster.open-cluster-management.io/placement";
/// What is said of it.
pub(crate) const DESCRIPTIONS: &[(&str, &str, &str)] = &[
    ("PlacementDecision", "", "Some of the clusters that somebody has chosen, as ClusterProfiles."),
    ("PlacementDecision", "decisions", "Who was chosen: a hundred at most."),
    ("PlacementDecision", "schedulerName", "Who has chosen them."),
];

/// PlacementDecision of multicluster.x-k8s.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules { mistakes, ..Rules::new(GROUP, "v1alpha1", "PlacementDecision") };
    let kind = rules.kind_without_status("placementdecisions");
    match Schema::structural(&Gvk::new(GROUP, "v1alpha1", "PlacementDecision"), &schema()) {
        Ok(schema) => kind.with_schema(schema),
        // Nothing would be said of its fields; a test reads them.
        Err(_) => kind,
    }
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    let decisions = FieldValue::of(object, "decisions");
    // Nobody chosen is a decision as well.
    let missing = |place: &FieldValue<'_>| (!place.is_there()).then(|| place.required(""));
    let mut found: Vec<FieldError> = missing(&decisions).into_iter().collect();
    found.extend(decisions.no_more(DECISIONS_MAX));
    for decision in decisions.items() {
        let profile = decision.child("clusterProfileRef");
        found.extend(missing(&profile).or_else(|| profile.child("name").must_be()));
    }
    found
}

fn schema() -> Value {
    let string = || json!({"type": "string"});
    let profile =
        json!({"type": "object", "properties": {"name": string(), "namespace": string()}});
    let decision =
        json!({"type": "object", "properties": {"clusterProfileRef": profile, "reason": string()}});
    json!({"type": "object", "properties": {
        "decisions": {"type": "array", "items": decision}, "schedulerName": string(),
    }})
}

/// What a PlacementDecision of Open Cluster Management is shown as: labels, decisions and who has decided.
#[must_use]
pub fn shown(decision: &Value) -> Value {
    let (name, namespace) =
        (text(decision, "/metadata/name"), text(decision, "/metadata/namespace"));
    let labels = decision.pointer("/metadata/labels");
    let placement = labels.and_then(|labels| labels.get(PLACEMENT_LABEL)).and_then(Value::as_str);
    let mut own_labels = json!({});
    if let Some(placement) = placement.filter(|it| !it.is_empty()) {
        own_labels[KEY_LABEL] = json!(placement);
        // They are counted from 1 in their names.
        let number = name.strip_prefix(placement).and_then(|rest| rest.strip_prefix("-decision-"));
        let index = number.and_then(|it| it.parse::<u32>().ok()?.checked_sub(1));
        if let Some(index) = index {
            own_labels[INDEX_LABEL] = json!(index.to_string());
        }
    }
    let one = |it: &Value| {
        let profile = json!({"name": text(it, "/clusterName"), "namespace": namespace});
        let mut one = json!({"clusterProfileRef": profile});
        if !text(it, "/reason").is_empty() {
            one["reason"] = json!(text(it, "/reason"));
        }
        one
    };
    let all = list(decision, "/status/decisions").iter();
    let all = all.filter(|it| !text(it, "/clusterName").is_empty());
    json!({
        "metadata": {"name": name, "labels": own_labels},
        "decisions": all.map(one).collect::<Vec<_>>(),
        "schedulerName": MANAGER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_says_who_was_chosen() {
        let of = |name: &str| {
            json!({
                "metadata": {"name": name, "namespace": "apps", "labels": {PLACEMENT_LABEL: "two"}},
                "status": {"decisions": [{"clusterName": "pi-7", "reason": ""},
                    {"clusterName": "pi-8", "reason": "Score"}, {"clusterName": ""}]},
            })
        };
        let made = shown(&of("two-decision-3"));
        let profile = |name: &str| json!({"name": name, "namespace": "apps"});
        assert_eq!(
            made,
            json!({
                "metadata": {"name": "two-decision-3", "labels": {KEY_LABEL: "two", INDEX_LABEL: "2"}},
                "decisions": [{"clusterProfileRef": profile("pi-7")},
                    {"clusterProfileRef": profile("pi-8"), "reason": "Score"}],
                "schedulerName": "open-cluster-management",
            })
        );
        assert_eq!(kind().strategy.validate(&made), []);
        for odd in ["two-decision-0", "two-decision-x", "other-decision-1"] {
            assert_eq!(shown(&of(odd))["metadata"]["labels"], json!({KEY_LABEL: "two"}), "{odd}");
        }
        let mut alone = of("mine");
        alone["metadata"]["labels"] = Value::Null;
        assert_eq!(shown(&alone)["metadata"]["labels"], json!({}));
    }

    #[test]
    fn a_decision_names_its_profiles() {
        let wrong = |object: &Value| {
            let found = kind().strategy.validate(object);
            found.first().map(|it| it.field.clone()).unwrap_or_default()
        };
        assert_eq!(wrong(&json!({})), "decisions");
        assert_eq!(wrong(&json!({"decisions": []})), "");
        assert_eq!(wrong(&json!({"decisions": [{}]})), "decisions[0].clusterProfileRef");
        let unnamed = json!({"decisions": [{"clusterProfileRef": {"namespace": "a"}}]});
        assert_eq!(wrong(&unnamed), "decisions[0].clusterProfileRef.name");
        let one = json!({"clusterProfileRef": {"name": "pi-7"}});
        assert_eq!(wrong(&json!({"decisions": vec![one.clone(); 100]})), "");
        assert_eq!(wrong(&json!({"decisions": vec![one; 101]})), "decisions");
        let kind = kind();
        let facts = kind.facts().unwrap();
        let names: Vec<_> = facts.fields.iter().map(|it| &*it.name).collect();
        assert!(names.contains(&"decisions") && names.contains(&"schedulerName"), "{names:?}");
    }
}

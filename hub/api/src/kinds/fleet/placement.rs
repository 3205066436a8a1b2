//! Placement: which clusters something goes to.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::{Column, Kind};
use serde_json::{Value, json};

use super::{CLUSTER_GROUP, Rules, follows, no_less, no_more, selector};
use crate::kinds::accessors::{NAME, column, condition, int, name, text};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("Succeeded", "string", "Whether all that was asked for is chosen."),
    column("Reason", "string", "Why."),
    column("SelectedClusters", "integer", "How many clusters are chosen."),
];
/// As the CRD has them.
const PER_GROUP: &str = r"^((100|[1-9][0-9]{0,1})%|[1-9][0-9]*)$";
const GROUP_NAME: &str = r"^[a-zA-Z0-9][-A-Za-z0-9_.]{0,61}[a-zA-Z0-9]$";
const RATE: &str = r"^[0-9]+[hms]$";
const TOPOLOGY: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";
const TAINT: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
const KEY_BYTES_MAX: usize = 316;

/// Placement of cluster.open-cluster-management.io/v1beta1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes,
        cells: |object, _| {
            let satisfied = condition(object, "PlacementSatisfied");
            let of = |pointer: &str| satisfied.map_or("", |it| text(it, pointer)).into();
            let chosen = int(object, "/status/numberOfSelectedClusters");
            let known = object.pointer("/status/numberOfSelectedClusters").is_some();
            vec![
                name(object),
                of("/status"),
                of("/reason"),
                if known { json!(chosen) } else { Value::Null },
            ]
        },
        ..Rules::new(CLUSTER_GROUP, "v1beta1", "Placement")
    };
    rules.kind("placements").columns(COLUMNS)
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    let spec = FieldValue::of(object, "spec");
    let mut found = Vec::new();
    // Its decisions have it in a label.
    found.extend(FieldValue::of(object, "metadata").child("name").no_longer(63));
    // Upstream takes a negative number, and its scheduler ends by it.
    found.extend(no_less(&spec.child("numberOfClusters"), 0));
    found.extend(follows(&spec.child("scoreRateLimit"), RATE));
    for predicate in spec.child("predicates").items() {
        let required = predicate.child("requiredClusterSelector");
        found.extend(selector(&required.child("labelSelector")));
        found.extend(selector(&required.child("claimSelector")));
    }
    let policy = spec.child("prioritizerPolicy");
    for config in policy.child("configurations").items() {
        let weight = config.child("weight");
        found.extend(no_less(&weight, -10).or_else(|| no_more(&weight, 10)));
    }
    let constraints = spec.child("spreadPolicy").child("spreadConstraints");
    found.extend(constraints.no_more(8));
    for constraint in constraints.items() {
        let key = constraint.child("topologyKey");
        found.extend(follows(&key, TOPOLOGY).or_else(|| key.no_longer(KEY_BYTES_MAX)));
        found.extend(no_less(&constraint.child("maxSkew"), 1));
    }
    for toleration in spec.child("tolerations").items() {
        let key = toleration.child("key");
        // Go's clients send an empty one where there is none.
        let key_mistake = follows(&key, TAINT).or_else(|| key.no_longer(KEY_BYTES_MAX));
        found.extend(key_mistake.filter(|_| !key.is_empty()));
        found.extend(toleration.child("value").no_longer(1024));
    }
    let groups = spec.child("decisionStrategy").child("groupStrategy");
    found.extend(follows(&groups.child("clustersPerDecisionGroup"), PER_GROUP));
    for group in groups.child("decisionGroups").items() {
        found.extend(follows(&group.child("groupName"), GROUP_NAME));
        let asked = group.child("groupClusterSelector");
        found.extend(selector(&asked.child("labelSelector")));
        found.extend(selector(&asked.child("claimSelector")));
    }
    found
}

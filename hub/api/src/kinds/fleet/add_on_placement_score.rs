//! AddOnPlacementScore: what somebody says of a cluster, in the namespace of that cluster.

use freewheel_hub_schema::kind::Kind;

use super::{CLUSTER_GROUP, Rules, no_less, no_more};
use crate::kinds::field_value::FieldValue;

/// AddOnPlacementScore of cluster.open-cluster-management.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes: |object| {
            let scores = FieldValue::of(object, "status").child("scores");
            let value = |score: FieldValue<'_>| {
                let value = score.child("value");
                no_less(&value, -100).or_else(|| no_more(&value, 100))
            };
            scores.items().filter_map(value).collect()
        },
        ..Rules::new(CLUSTER_GROUP, "v1alpha1", "AddOnPlacementScore")
    };
    rules.kind("addonplacementscores")
}

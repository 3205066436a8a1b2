//! PlacementDecision: some of the clusters that a Placement has chosen.

use freewheel_hub_schema::kind::Kind;

use super::{CLUSTER_GROUP, Rules};
use crate::kinds::field_value::FieldValue;

/// Decisions that one of them may hold.
const DECISIONS_MAX: usize = 100;

/// PlacementDecision of cluster.open-cluster-management.io/v1beta1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes: |object| {
            let decisions = FieldValue::of(object, "status").child("decisions");
            decisions.no_more(DECISIONS_MAX).into_iter().collect()
        },
        ..Rules::new(CLUSTER_GROUP, "v1beta1", "PlacementDecision")
    };
    rules.kind("placementdecisions")
}

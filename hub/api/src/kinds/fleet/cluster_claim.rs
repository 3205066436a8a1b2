//! ClusterClaim: what a cluster tells of itself, in that cluster.

use freewheel_hub_schema::kind::Kind;

use super::{CLUSTER_GROUP, Rules};
use crate::kinds::field_value::FieldValue;

/// ClusterClaim of cluster.open-cluster-management.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes: |object| {
            let value = FieldValue::of(object, "spec").child("value");
            let why = format!("{} in body should be at least 1 chars long", value.path);
            let empty = (value.is_there() && value.is_empty()).then(|| value.invalid(&why));
            empty.into_iter().chain(value.no_longer(1024)).collect()
        },
        ..Rules::new(CLUSTER_GROUP, "v1alpha1", "ClusterClaim")
    };
    let mut kind = rules.kind_without_status("clusterclaims").cluster_scoped();
    // It lies in the cluster that it is about.
    kind.root_only = false;
    kind
}

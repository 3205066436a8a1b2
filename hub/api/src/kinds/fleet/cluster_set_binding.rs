//! ManagedClusterSetBinding: a namespace may choose from a set of clusters.

use freewheel_hub_schema::kind::{Kind, Trait};

use super::{CLUSTER_GROUP, Rules};
use crate::kinds::accessors::text;
use crate::kinds::field_value::FieldValue;

/// ManagedClusterSetBinding of cluster.open-cluster-management.io/v1beta2.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes: |object| {
            let set = FieldValue::of(object, "spec").child("clusterSet");
            if set.is_empty() {
                return vec![set.required("the ManagedClusterSet that it binds")];
            }
            // As upstream's webhook says it.
            let wrong = "The ManagedClusterSetBinding must have the same name as the target ManagedClusterSet";
            let differs = set.text() != text(object, "/metadata/name");
            differs.then(|| set.invalid(wrong)).into_iter().collect()
        },
        ..Rules::new(CLUSTER_GROUP, "v1beta2", "ManagedClusterSetBinding")
    };
    rules.kind("managedclustersetbindings").short(["mclsetbinding", "mclsetbindings"]).with(&[
        Trait::NamesWhatItReplaces,
        Trait::HasDefinition,
        Trait::BindsClusterSet,
    ])
}

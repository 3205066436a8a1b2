//! ManagedClusterSet: a group of clusters, by a label that each has one of, or by a selector.

use freewheel_hub_schema::kind::{Column, Kind};

use super::{CLUSTER_GROUP, Rules, follows, selector};
use crate::kinds::accessors::{AGE, NAME, age, column, condition, name, text};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[NAME, column("Empty", "string", "Whether no cluster is in it."), AGE];

/// ManagedClusterSet of cluster.open-cluster-management.io/v1beta2.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes: |object| {
            let spec = FieldValue::of(object, "spec");
            let mut found = selector(&spec.child("clusterSelector").child("labelSelector"));
            for namespace in spec.child("managedNamespaces").items() {
                found.extend(follows(&namespace.child("name"), "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"));
                found.extend(namespace.child("name").no_longer(63));
            }
            found
        },
        cells: |object, now| {
            let empty = condition(object, "ClusterSetEmpty").map_or("", |c| text(c, "/status"));
            vec![name(object), empty.into(), age(object, now)]
        },
        ..Rules::new(CLUSTER_GROUP, "v1beta2", "ManagedClusterSet")
    };
    rules.kind("managedclustersets").cluster_scoped().short(["mclset", "mclsets"]).columns(COLUMNS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_row_says_whether_it_is_empty() {
        let set = json!({"metadata": {"name": "north"}, "status": {"conditions": [
            {"type": "ClusterSetEmpty", "status": "True"}]}});
        let row: Vec<Value> = kind().strategy.row(&set, 0);
        assert_eq!(row[..2], [json!("north"), json!("True")]);
    }
}

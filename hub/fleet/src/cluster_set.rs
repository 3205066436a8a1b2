//! Which clusters are in a ManagedClusterSet.
//!
//! Guarantees:
//! - a set of exclusive labels has those that name it, one of a selector those that match it
//!   (`sets_have_those_that_they_select`).

use freewheel_hub_schema::selector::LabelSelector;
use serde_json::Value;

/// The label by which a cluster says which set it is in; it is in one of that kind at most.
pub const CLUSTER_SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";

/// A set of clusters.
#[derive(Clone, Debug)]
pub struct ClusterSet {
    /// Its name.
    pub name: String,
    selector: LabelSelector,
}

impl ClusterSet {
    /// From a ManagedClusterSet. What it asks for and nobody understands has nobody.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let asked = &object["spec"]["clusterSelector"];
        let selector = match asked["selectorType"].as_str().unwrap_or_default() {
            "" | "ExclusiveClusterSetLabel" => {
                LabelSelector::from_map([(CLUSTER_SET_LABEL, name.as_str())])
            }
            "LabelSelector" => {
                LabelSelector::from_json(asked.get("labelSelector"), "labelSelector")
                    .unwrap_or_else(|_| LabelSelector::nothing())
            }
            _ => LabelSelector::nothing(),
        };
        Self { name, selector }
    }

    /// What a cluster has to have, to be in it.
    #[must_use]
    pub fn selector(&self) -> &LabelSelector {
        &self.selector
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(spec: &Value, labels: &[(&str, &str)], expected: bool) {
        let set = ClusterSet::read(&json!({"metadata": {"name": "north"}, "spec": spec}));
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(set.selector().matches(&labels), expected, "{spec}");
    }

    #[test]
    fn sets_have_those_that_they_select() {
        let exclusive = json!({"clusterSelector": {"selectorType": "ExclusiveClusterSetLabel"}});
        check(&exclusive, &[(CLUSTER_SET_LABEL, "north")], true);
        check(&exclusive, &[(CLUSTER_SET_LABEL, "south")], false);
        check(&json!({}), &[(CLUSTER_SET_LABEL, "north")], true);
        let by = |selector: Value| json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": selector}});
        check(&by(json!({})), &[], true);
        check(&by(json!({"matchLabels": {"site": "a"}})), &[("site", "a")], true);
        check(&by(json!({"matchLabels": {"site": "a"}})), &[("site", "b")], false);
        check(&by(json!(null)), &[("site", "a")], false);
        check(&by(json!({"matchExpressions": [{"key": "a", "operator": "Near"}]})), &[], false);
    }
}

//! What `kubectl get` prints of the kinds that are built in.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_api::kinds::fleet::cluster_profile;
use freewheel_hub_api::kinds::{self, resource_metrics};
use freewheel_hub_schema::kind::Kind;
use serde_json::json;

/// Name, type, format, priority.
type Recorded = (String, String, String, u8);

/// Columns as kube-apiserver 1.36 names them, by group, version and plural.
fn recorded() -> BTreeMap<String, Vec<Recorded>> {
    serde_json::from_str(include_str!("fixtures/kube-apiserver-columns.json")).unwrap()
}

#[test]
fn columns_are_those_of_kube_apiserver() {
    let recorded = recorded();
    let foreign = ["open-cluster-management.io", cluster_profile::GROUP, resource_metrics::GROUP];
    let own = |kind: &&Arc<Kind>| !foreign.iter().any(|group| kind.group().ends_with(group));
    for kind in kinds::all().iter().filter(own) {
        let path = format!("{}/{}", kind.api_version(), kind.plural());
        let expected = recorded.get(&path).unwrap_or_else(|| panic!("no {path}"));
        let columns = kind.columns.iter();
        let found: Vec<Recorded> = columns
            .map(|c| (c.name.to_string(), c.kind.to_string(), c.format.to_string(), c.priority))
            .collect();
        assert_eq!(found, *expected, "{path}");
    }
}

#[test]
fn every_row_fits_its_columns_even_of_an_empty_object() {
    for kind in kinds::all() {
        let row = kind.strategy.row(&json!({}), 0);
        assert_eq!(row.len(), kind.columns.len(), "{kind:?}");
    }
}

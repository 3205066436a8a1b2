//! ClusterManagementAddOn: an add-on, which clusters get it, and how it is set up there.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::{Column, Kind};
use serde_json::Value;

use super::references::{distinct, fields, flat, nested, rename};
use super::{NEWER, STORED};
use crate::kinds::accessors::{NAME, column, name, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::fleet::manifest_work_replica_set::of_rollout;
use crate::kinds::fleet::view::View;
use crate::kinds::fleet::{ADD_ON_GROUP, Rules};

const KIND: &str = "ClusterManagementAddOn";
const PLURAL: &str = "clustermanagementaddons";
const COLUMNS: &[Column] = &[
    NAME,
    column("DISPLAY NAME", "string", "What it is called."),
    column("CRD NAME", "string", "The kind that it is set up by."),
];
const NEWER_COLUMNS: &[Column] = &[NAME, column("DISPLAY NAME", "string", "What it is called.")];

/// ClusterManagementAddOn of addon.open-cluster-management.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes: |object| mistakes(object, "supportedConfigs"),
        cells: |object, _| {
            let crd = text(object, "/spec/addOnConfiguration/crdName");
            vec![name(object), text(object, "/spec/addOnMeta/displayName").into(), crd.into()]
        },
        ..Rules::new(ADD_ON_GROUP, STORED, KIND)
    };
    either(rules.kind(PLURAL)).columns(COLUMNS)
}

/// The same of v1beta1.
pub(crate) fn newer() -> Kind {
    let rules = Rules {
        mistakes: |object| mistakes(object, "defaultConfigs"),
        cells: |object, _| vec![name(object), text(object, "/spec/addOnMeta/displayName").into()],
        ..Rules::new(ADD_ON_GROUP, NEWER, KIND)
    };
    let view = View { rules, stored: STORED, into_stored: into_older, out_of_stored: into_newer };
    either(view.kind(PLURAL).with_status()).columns(NEWER_COLUMNS)
}

fn either(kind: Kind) -> Kind {
    kind.cluster_scoped().short(["cma", "cmas"])
}

fn mistakes(object: &Value, configs: &str) -> Vec<FieldError> {
    let spec = FieldValue::of(object, "spec");
    let mut found = distinct(&spec.child(configs), ["group", "resource"]);
    let placements = spec.child("installStrategy").child("placements");
    found.extend(distinct(&placements, ["namespace", "name"]));
    for placement in placements.items() {
        found.extend(["namespace", "name"].iter().filter_map(|key| placement.child(key).must_be()));
        found.extend(of_rollout(&placement.child("rolloutStrategy")));
    }
    found
}

fn into_older(object: &mut Value) {
    if let Some(spec) = fields(object, "spec") {
        rename(spec, ("defaultConfigs", "supportedConfigs"), nested);
    }
    if let Some(status) = fields(object, "status") {
        rename(status, ("defaultConfigReferences", "defaultconfigReferences"), |item| item);
    }
}

fn into_newer(object: &mut Value) {
    if let Some(spec) = fields(object, "spec") {
        // Nothing is left of it there, upstream as well.
        spec.remove("addOnConfiguration");
        rename(spec, ("supportedConfigs", "defaultConfigs"), flat);
    }
    if let Some(status) = fields(object, "status") {
        rename(status, ("defaultconfigReferences", "defaultConfigReferences"), |item| item);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_add_on_is_the_same_in_both_versions() {
        let older = json!({"apiVersion": "addon.open-cluster-management.io/v1alpha1", "metadata": {"name": "a"},
            "spec": {"supportedConfigs": [
                {"group": "addon.open-cluster-management.io", "resource": "addontemplates", "defaultConfig": {"name": "t"}},
                {"group": "", "resource": "configmaps"}]},
            "status": {"defaultconfigReferences": [{"group": "", "resource": "x"}]}});
        let mut newer = older.clone();
        let kind = super::newer();
        kind.strategy.from_stored(&mut newer).unwrap();
        assert_eq!(
            newer,
            json!({"apiVersion": "addon.open-cluster-management.io/v1beta1", "metadata": {"name": "a"},
            "spec": {"defaultConfigs": [
                {"group": "addon.open-cluster-management.io", "resource": "addontemplates", "name": "t"},
                {"group": "", "resource": "configmaps", "name": "__reserved_no_default__"}]},
            "status": {"defaultConfigReferences": [{"group": "", "resource": "x"}]}})
        );
        kind.strategy.to_stored(&mut newer);
        assert_eq!(newer, older);
    }
}

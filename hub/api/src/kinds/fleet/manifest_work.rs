//! ManifestWork: objects that are applied in the cluster whose namespace it lies in.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Kind;
use serde_json::Value;

use super::{Rules, WORK_GROUP, follows};
use crate::kinds::place::Place;

/// Bytes of all manifests of a work, as upstream's webhook has it.
const MANIFESTS_BYTES_MAX: usize = 500 << 10;

/// Manifests of a work. Of each its status says some 500 bytes at least, beside its names: with manifests as large as they
/// may be that is what an object holds. Upstream has no such limit, and its works say nothing at all above some 2,000.
const MANIFESTS_MAX: usize = 1_000;

/// ManifestWork of work.open-cluster-management.io/v1.
pub(crate) fn kind() -> Kind {
    let rules = Rules { mistakes, ..Rules::new(WORK_GROUP, "v1", "ManifestWork") };
    rules.kind("manifestworks")
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    of_spec(&Place::of(object, "spec"))
}

/// Mistakes of a work's spec, wherever it stands.
pub(super) fn of_spec(spec: &Place<'_>) -> Vec<FieldError> {
    let mut found = manifests(&spec.child("workload").child("manifests"));
    let executor = spec.child("executor");
    if executor.is_there() {
        let why = "the rights of executors are not asked for yet; without one a work is applied with all rights";
        found.push(executor.forbidden(why));
    }
    for config in spec.child("manifestConfigs").items() {
        let apply = config.child("updateStrategy").child("serverSideApply");
        found.extend(follows(&apply.child("fieldManager"), "^work-agent"));
        let ignored = apply.child("ignoreFields");
        if !ignored.is_empty() {
            let why = "fields cannot be left to others yet; leave them out of the manifest, so that nobody here owns them";
            found.push(ignored.forbidden(why));
        }
        for rule in config.child("conditionRules").items() {
            let condition = rule.child("condition");
            if rule.child("type").text() == "CEL" && condition.is_empty() {
                found.push(condition.invalid("Condition is required for CEL rules"));
            }
        }
    }
    found
}

fn manifests(list: &Place<'_>) -> Vec<FieldError> {
    if list.is_empty() {
        return vec![list.required("Workload manifests should not be empty")];
    }
    if MANIFESTS_MAX < list.items().count() {
        let why = format!(
            "more than {MANIFESTS_MAX} manifests: what is said of them would not fit into the work"
        );
        return vec![FieldError::forbidden(&*list.path, &why)];
    }
    let bytes: usize = list.items().map(|manifest| manifest.value.to_string().len()).sum();
    if MANIFESTS_BYTES_MAX < bytes {
        let why = format!(
            "the size of manifests is {bytes} bytes which exceeds the {MANIFESTS_BYTES_MAX} limit"
        );
        return vec![FieldError::forbidden(&*list.path, &why)];
    }
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for manifest in list.items() {
        let meta = manifest.child("metadata");
        let (api_version, kind) = (manifest.child("apiVersion"), manifest.child("kind"));
        found.extend(api_version.must_be());
        found.extend(kind.must_be());
        if meta.child("name").is_empty() {
            found.push(meta.child("name").required("name must be set in manifest"));
        }
        if !meta.child("generateName").is_empty() {
            let why = "generateName must not be set in manifest";
            found.push(meta.child("generateName").forbidden(why));
        }
        let (namespace, name) = (meta.child("namespace"), meta.child("name"));
        if !seen.insert((api_version.text(), kind.text(), namespace.text(), name.text())) {
            found.push(name.duplicate());
        }
    }
    found
}

//! ManifestWork: objects that are applied in the cluster whose namespace it lies in.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Kind;
use serde_json::Value;

use super::{Rules, WORK_GROUP, follows};
use crate::kinds::field_value::FieldValue;

/// Bytes of all manifests of a work, as upstream's webhook has it.
const MANIFESTS_BYTES_MAX: usize = 500 << 10;

/// Manifests of a work. Of each its status says some 500 bytes at least, beside its names: with manifests as large as they
/// may be that is what an object holds. Upstream has no such limit, and its works say nothing at all above some 2,000.
const MANIFESTS_MAX: usize = 1_000;

/// As the CRD has it.
const ACCOUNT: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$";

/// ManifestWork of work.open-cluster-management.io/v1.
pub(crate) fn kind() -> Kind {
    let rules = Rules { mistakes, ..Rules::new(WORK_GROUP, "v1", "ManifestWork") };
    rules.kind("manifestworks")
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    of_spec(&FieldValue::of(object, "spec"))
}

/// Mistakes of a work's spec, wherever it stands.
pub(super) fn of_spec(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let mut found = manifests(&spec.child("workload").child("manifests"));
    found.extend(of_executor(&spec.child("executor")));
    for config in spec.child("manifestConfigs").items() {
        let apply = config.child("updateStrategy").child("serverSideApply");
        found.extend(follows(&apply.child("fieldManager"), "^work-agent"));
        let mut conditions = BTreeSet::new();
        for ignored in apply.child("ignoreFields").items() {
            if !conditions.insert(ignored.child("condition").text()) {
                found.push(ignored.duplicate());
            }
            let expressions = ignored.child("jqPathExpressions");
            if !expressions.is_empty() {
                let why = "there is no jq here; name the fields by jsonPaths or jsonPointers";
                found.push(expressions.forbidden(why));
            }
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

/// Mistakes of whose rights are asked for.
fn of_executor(executor: &FieldValue<'_>) -> Vec<FieldError> {
    let subject = executor.child("subject");
    let account = subject.child("serviceAccount");
    if subject.child("type").text() == "ServiceAccount" && !account.is_there() {
        return vec![account.required("executor service account can not be nil")];
    }
    let parts = ["namespace", "name"].map(|field| account.child(field));
    let there = parts.iter().filter(|part| part.is_there());
    there.filter_map(|part| follows(part, ACCOUNT).or_else(|| part.no_longer(253))).collect()
}

fn manifests(list: &FieldValue<'_>) -> Vec<FieldError> {
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

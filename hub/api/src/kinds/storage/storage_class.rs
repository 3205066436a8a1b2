//! StorageClass: a kind of storage that claims may ask for.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::Value;

use super::{UNUSED, parameters};
use crate::kinds::accessors::{AGE, NAME, age, column, flag, set_default, text, text_or};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("Provisioner", "string", "Who makes it."),
    column("ReclaimPolicy", "string", "What becomes of it after its claim."),
    column("VolumeBindingMode", "string", "When it is made."),
    column("AllowVolumeExpansion", "string", "Whether it may grow."),
    AGE,
];
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// StorageClass of storage.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("storage.k8s.io", "v1", "StorageClass"), "storageclasses", Rules)
        .cluster_scoped()
        .short(["sc"])
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(object) = object.as_object_mut() {
            set_default(object, "reclaimPolicy", "Delete");
            set_default(object, "volumeBindingMode", "Immediate");
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = parameters::check_driver(&FieldValue::of(object, "provisioner"));
        errors.extend(parameters::check(&FieldValue::of(object, "parameters"), true));
        errors.extend(FieldValue::of(object, "reclaimPolicy").one_of(&["Delete", "Retain"]));
        let mode = FieldValue::of(object, "volumeBindingMode");
        errors.extend(mode.must_be());
        if !mode.is_empty() {
            errors.extend(mode.one_of(&["Immediate", "WaitForFirstConsumer"]));
        }
        errors.extend(check_topologies(&FieldValue::of(object, "allowedTopologies")));
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let fixed = ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"];
        fixed
            .iter()
            .filter_map(|field| FieldValue::of(new, field).stays(&FieldValue::of(old, field)))
            .collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let annotations = object.pointer("/metadata/annotations");
        let says = |key: &&str| annotations.and_then(|all| all.get(*key)) == Some(&"true".into());
        let default = if IS_DEFAULT.iter().any(says) { " (default)" } else { "" };
        vec![
            format!("{}{default}", text(object, "/metadata/name")).into(),
            text(object, "/provisioner").into(),
            text_or(object, "/reclaimPolicy", "Delete").into(),
            text_or(object, "/volumeBindingMode", "Immediate").into(),
            flag(object, "/allowVolumeExpansion").into(),
            age(object, now),
        ]
    }
}

fn check_topologies(topologies: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for term in topologies.items() {
        let expressions = term.child("matchLabelExpressions");
        let mut keys = BTreeSet::new();
        for expression in expressions.items() {
            let (key, values) = (expression.child("key"), expression.child("values"));
            errors.extend(key.follows(names::qualified_name));
            if values.is_empty() {
                errors.push(values.required(""));
            }
            errors.extend((!keys.insert(key.text())).then(|| key.duplicate()));
        }
        if seen.contains(&expressions.value) {
            errors.push(FieldError::duplicate(expressions.path, &"".into()));
        } else {
            seen.push(expressions.value);
        }
    }
    errors
}

//! ResourceClaimTemplate: what the claims of pods are made of.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::metadata;
use serde_json::Value;

use super::{GROUP, UNUSED, claim_spec};
use crate::kinds::accessors::{AGE, NAME, age, name};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[NAME, AGE];

/// ResourceClaimTemplate of resource.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", "ResourceClaimTemplate"), "resourceclaimtemplates", Rules)
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.pointer_mut("/spec/spec").and_then(Value::as_object_mut) {
            claim_spec::default(spec);
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let meta = spec.child("metadata");
        let mut errors = metadata::check_labels(meta.value, &meta.path);
        errors.extend(metadata::check_annotations(meta.value, &meta.path, None));
        errors.extend(claim_spec::check(&spec.child("spec")));
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        FieldValue::of(new, "spec").stays(&FieldValue::of(old, "spec")).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }
}

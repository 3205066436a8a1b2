//! VolumeAttributesClass: a kind of storage that a volume may be changed to.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use serde_json::Value;

use super::{UNUSED, parameters};
use crate::kinds::accessors::{AGE, NAME, age, column, name, text};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[NAME, column("DriverName", "string", "Who changes it."), AGE];

/// VolumeAttributesClass of storage.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    let gvk = Gvk::new("storage.k8s.io", "v1", "VolumeAttributesClass");
    Kind::new(gvk, "volumeattributesclasses", Rules)
        .cluster_scoped()
        .short(["vac"])
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = parameters::check_driver(&FieldValue::of(object, "driverName"));
        errors.extend(parameters::check(&FieldValue::of(object, "parameters"), false));
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let changed = ["driverName", "parameters"].into_iter().filter(|f| new.get(f) != old.get(f));
        changed
            .map(|field| {
                FieldError::forbidden(field, &format!("updates to {field} are forbidden."))
            })
            .collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), text(object, "/driverName").into(), age(object, now)]
    }
}

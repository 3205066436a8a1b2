//! ControllerRevision: what a controller's template was at some time.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::{Gvk, split_api_version};
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use serde_json::Value;

use super::accessors::{AGE, NAME, age, column, flag, int, list, name, text};
use super::field_value::FieldValue;
use crate::pins::RESOLVED;

const COLUMNS: &[Column] = &[
    NAME,
    column("Controller", "string", "Whose it is."),
    column("Revision", "string", "Its number."),
    AGE,
];

/// ControllerRevision of apps/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("apps", "v1", "ControllerRevision"), "controllerrevisions", Rules)
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration])
        .keeps(RESOLVED)
}

struct Rules;

impl Strategy for Rules {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors: Vec<_> =
            FieldValue::of(object, "revision").at_least(0).into_iter().collect();
        let data = FieldValue::of(object, "data");
        if !data.is_there() {
            errors.push(data.required("data is mandatory"));
        } else if !data.value.is_object() {
            errors.push(data.required("data must be a valid JSON object"));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        FieldValue::of(new, "data").stays(&FieldValue::of(old, "data")).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let owners = list(object, "/metadata/ownerReferences");
        let owner = owners.iter().find(|owner| flag(owner, "/controller"));
        let shown = owner.map(|owner| {
            let kind = text(owner, "/kind").to_lowercase();
            let (group, _) = split_api_version(text(owner, "/apiVersion"));
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", text(owner, "/name"))
        });
        let shown = shown.unwrap_or_else(|| "<none>".to_owned());
        vec![name(object), shown.into(), int(object, "/revision").into(), age(object, now)]
    }
}

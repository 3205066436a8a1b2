//! PodDisruptionBudget: how many of some pods may be missing on purpose.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Selection, Strategy, Trait};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, column, int, name};
use super::field_value::FieldValue;
use super::template;

const COLUMNS: &[Column] = &[
    NAME,
    column("Min Available", "string", "How many have to stay."),
    column("Max Unavailable", "string", "How many may be missing."),
    column("Allowed Disruptions", "integer", "How many may go now."),
    AGE,
];

/// PodDisruptionBudget of policy/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("policy", "v1", "PodDisruptionBudget"), "poddisruptionbudgets", Rules)
        .short(["pdb"])
        .with_status()
        .columns(COLUMNS)
        .with(&[Trait::CreatesOnUpdate, Trait::NamesWhatItReplaces])
        .selects_by(Selection::LabelSelectorOrAll)
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            let status = json!({
                "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            });
            map.insert("status".to_owned(), status);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = Vec::new();
        let bounds = ["minAvailable", "maxUnavailable"].map(|field| spec.child(field));
        if bounds.iter().all(FieldValue::is_there) {
            errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
        }
        let given = bounds.iter().filter(|bound| bound.is_there());
        errors.extend(given.flat_map(template::check_amount));
        errors.extend(spec.child("selector").selector());
        let policy = spec.child("unhealthyPodEvictionPolicy");
        errors.extend(policy.one_of(&["AlwaysAllow", "IfHealthyBudget"]));
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, _: &Value) -> Vec<FieldError> {
        if door != Some("status") {
            return Vec::new();
        }
        let status = FieldValue::of(new, "status");
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        counts.iter().filter_map(|count| status.child(count).at_least(0)).collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let bound = |field: &str| match object.pointer(&format!("/spec/{field}")) {
            Some(Value::String(text)) => Value::from(text.as_str()),
            Some(Value::Number(number)) => number.to_string().into(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
                "N/A".into()
            }
        };
        vec![
            name(object),
            bound("minAvailable"),
            bound("maxUnavailable"),
            int(object, "/status/disruptionsAllowed").into(),
            age(object, now),
        ]
    }
}

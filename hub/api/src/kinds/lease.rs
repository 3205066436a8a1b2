//! Lease: who holds what, and since when nobody renewed it.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, column, int, name, text};

const COLUMNS: &[Column] = &[NAME, column("Holder", "string", "Who holds it."), AGE];

/// Lease of coordination.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("coordination.k8s.io", "v1", "Lease"), "leases", Rules)
        .columns(COLUMNS)
        .with(&[
            Trait::IsRenewedBySessions,
            Trait::CountsNoGeneration,
            Trait::CreatesOnUpdate,
            Trait::NamesWhatItReplaces,
        ])
}

struct Rules;

impl Strategy for Rules {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(seconds) = object.pointer("/spec/leaseDurationSeconds")
            && int(object, "/spec/leaseDurationSeconds") <= 0
        {
            let text = "must be greater than 0";
            errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, text));
        }
        if int(object, "/spec/leaseTransitions") < 0 {
            let value = json!(int(object, "/spec/leaseTransitions"));
            let text = "must be greater than or equal to 0";
            errors.push(FieldError::invalid("spec.leaseTransitions", &value, text));
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), text(object, "/spec/holderIdentity").into(), age(object, now)]
    }
}

//! CSIStorageCapacity: how much of a class there is somewhere.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::Value;

use super::UNUSED;
use crate::kinds::accessors::{CREATED_AT, NAME, created_at, name};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[NAME, CREATED_AT];

/// CSIStorageCapacity of storage.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    let gvk = Gvk::new("storage.k8s.io", "v1", "CSIStorageCapacity");
    Kind::new(gvk, "csistoragecapacities", Rules)
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::NamesWhatItReplaces])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = FieldValue::of(object, "nodeTopology").selector();
        errors.extend(FieldValue::of(object, "storageClassName").follows(names::dns_subdomain));
        errors.extend(FieldValue::of(object, "capacity").not_negative());
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let fixed = ["nodeTopology", "storageClassName"];
        fixed
            .iter()
            .filter_map(|field| FieldValue::of(new, field).stays(&FieldValue::of(old, field)))
            .collect()
    }

    fn row(&self, object: &Value, _: i64) -> Vec<Value> {
        vec![name(object), created_at(object)]
    }
}

//! ConfigMap: text and bytes by key, mounted or read as environment by pods.

use base64::Engine as _;
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Concern, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, column, flag, map, map_len, name};

/// Most bytes of all values together.
pub const DATA_BYTES_MAX: usize = freewheel_link::limits::API_DATA_BYTES_MAX;

const COLUMNS: &[Column] = &[NAME, column("Data", "string", "How many keys it holds."), AGE];

/// ConfigMap of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "ConfigMap"), "configmaps", Rules)
        .short(["cm"])
        .concerns(Concern::ItsNamespace)
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::CountedByPlural])
}

struct Rules;

impl Strategy for Rules {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut total = 0;
        for (key, value) in map(object, "/data") {
            errors.extend(check_key("data", key));
            if object.pointer("/binaryData").and_then(|b| b.get(key)).is_some() {
                let text = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(format!("data[{key}]"), &json!(key), text));
            }
            total += value.as_str().map_or(0, str::len);
        }
        for (key, value) in map(object, "/binaryData") {
            errors.extend(check_key("binaryData", key));
            total += decoded_len(value);
        }
        if total > DATA_BYTES_MAX {
            errors.push(FieldError::too_long("", DATA_BYTES_MAX));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        immutable(new, old, &["data", "binaryData"])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let keys = map_len(object, "/data") + map_len(object, "/binaryData");
        vec![name(object), keys.into(), age(object, now)]
    }
}

/// Mistakes in one key of `data`.
pub(super) fn check_key(field: &str, key: &str) -> Vec<FieldError> {
    let path = format!("{field}[{key}]");
    let text = names::config_key(key);
    text.iter().map(|text| FieldError::invalid(path.clone(), &json!(key), text)).collect()
}

/// What an object with `immutable: true` may not change.
pub(super) fn immutable(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    const TEXT: &str = "field is immutable when `immutable` is set";
    if !flag(old, "/immutable") {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !flag(new, "/immutable") {
        errors.push(FieldError::forbidden("immutable", TEXT));
    }
    let changed = fields.iter().filter(|field| new.get(**field) != old.get(**field));
    errors.extend(changed.map(|field| FieldError::forbidden(*field, TEXT)));
    errors
}

/// Bytes behind a base64 value.
pub(super) fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).map_or(text.len(), |b| b.len())
}

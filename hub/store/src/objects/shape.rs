//! What a writer sent becomes what is stored: canonical, defaulted, valid.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Object;
use freewheel_hub_api::schema;
use serde_json::Value;

use super::{FieldValidation, How, meta};

/// Canonicalises and fills in defaults; answers the warnings about unknown fields.
pub(super) fn shape(value: &mut Value, how: &How, kind: &Kind) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    if !how.canonical {
        let found = schema::canonicalise(value, kind.group, kind.version, kind.kind)?;
        let unknown = found.unknown.iter().map(|path| format!("unknown field {path:?}"));
        match how.field_validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(unknown),
            FieldValidation::Strict if found.unknown.is_empty() => {}
            FieldValidation::Strict => {
                let all: Vec<String> = unknown.collect();
                return Err(ApiError::bad_request(format!(
                    "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                    kind.kind,
                    kind.version,
                    kind.kind,
                    all.join(", ")
                )));
            }
        }
    }
    schema::apply_defaults(value, kind.group, kind.version, kind.kind);
    kind.strategy.default(value);
    Ok(warnings)
}

/// Takes the finished value apart for the store.
pub(super) fn object(value: Value, kind: &Kind) -> Result<Object, ApiError> {
    let fields = kind.strategy.selectable_fields(&value);
    Object::from_value(value, fields)
}

/// Refuses a new object with every mistake it has.
pub(super) fn check_new(value: &Value, kind: &Kind) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    errors.extend(kind.strategy.validate(value));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group, kind.kind, meta::text(value, "name"), &errors))
}

/// Refuses a change with every mistake it has.
pub(super) fn check_change(
    subresource: Option<&str>,
    new: &Value,
    old: &Value,
    kind: &Kind,
) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    errors.extend(kind.strategy.validate(new));
    errors.extend(kind.strategy.validate_update(subresource, new, old));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group, kind.kind, meta::text(new, "name"), &errors))
}

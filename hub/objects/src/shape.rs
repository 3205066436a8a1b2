//! What a writer sent becomes what is stored: canonical, defaulted, valid.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Object;
use freewheel_hub_api::{metadata, schema};
use serde_json::Value;

use super::{FieldValidation, How, Place, meta};
use freewheel_hub_store::Stored;

/// Canonicalises, unless that is done, and fills in defaults; answers the warnings about unknown
/// fields.
pub(super) fn shape(
    value: &mut Value,
    canonical: bool,
    how: &How,
    kind: &Kind,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    if !canonical {
        let found =
            schema::canonicalise(value, kind).map_err(|error| cannot_be_handled(error, kind))?;
        let unknown: Vec<String> =
            found.unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
        match how.field_validation {
            FieldValidation::Strict if !unknown.is_empty() => {
                return Err(schema::strict_error(kind.version(), kind.kind(), &unknown));
            }
            FieldValidation::Warn => warnings = unknown,
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
    }
    schema::apply_defaults(value, kind);
    kind.strategy.default(value);
    Ok(warnings)
}

/// A value of the wrong type, in the words of a server that cannot decode it.
fn cannot_be_handled(error: ApiError, kind: &Kind) -> ApiError {
    if error.code != 400 {
        return error;
    }
    let (name, version, why) = (kind.kind(), kind.version(), error.message);
    ApiError::bad_request(format!(
        "{name} in version {version:?} cannot be handled as a {name}: {why}"
    ))
}

/// Takes the finished value apart for the store, in the stored version.
pub(super) fn object(mut value: Value, kind: &Kind) -> Result<Object, ApiError> {
    let fields = kind.strategy.selectable_fields(&value);
    kind.strategy.to_stored(&mut value);
    Object::from_value(value, fields)
}

/// What is stored, in the kind's own version.
pub(super) fn value(stored: &Stored, kind: &Kind) -> Result<Value, ApiError> {
    let mut value = stored.object.value()?;
    kind.strategy.from_stored(&mut value);
    Ok(value)
}

/// Refuses a new object with every mistake it has.
pub(super) fn check_new(value: &Value, place: &Place) -> Result<(), ApiError> {
    let kind = &place.kind;
    let mut errors = metadata::validate(kind, value, &place.namespace);
    errors.extend(kind.strategy.validate(value));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group(), kind.kind(), meta::text(value, "name"), &errors))
}

/// Refuses a change with every mistake it makes; those that were there before are nobody's fault.
pub(super) fn check_change(
    subresource: Option<&str>,
    new: &Value,
    old: &Value,
    place: &Place,
) -> Result<(), ApiError> {
    let kind = &place.kind;
    let mistakes = |value: &Value| {
        let mut errors = metadata::validate(kind, value, &place.namespace);
        errors.extend(kind.strategy.validate(value));
        errors
    };
    let mut errors = mistakes(new);
    if !errors.is_empty() {
        // A rule that came after the object keeps nobody from writing its status or letting it go.
        let known = mistakes(old);
        errors.retain(|error| !known.contains(error));
    }
    errors.extend(metadata::validate_update(new, old));
    errors.extend(kind.strategy.validate_update(subresource, new, old));
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group(), kind.kind(), meta::text(new, "name"), &errors))
}

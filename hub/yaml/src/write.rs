//! Values as YAML.

use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

/// A value in YAML.
///
/// # Errors
/// 500 for what the writer does not take.
pub fn write(value: &Value) -> Result<String, ApiError> {
    serde_saphyr::to_string(value).map_err(ApiError::internal)
}

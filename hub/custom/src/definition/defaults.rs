//! Whether the defaults of a schema are right by it.

use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use crate::schema::Schema;
use crate::{check, embedded, prune};

/// Every default that an object could not have.
pub(super) fn check(schema: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    node(schema, at, false, &mut errors);
    errors
}

fn node(schema: &Value, at: &str, in_meta: bool, errors: &mut Vec<FieldError>) {
    if let Some(default) = schema.get("default") {
        errors.extend(one(&Schema::read(schema), default, &format!("{at}.default"), in_meta));
    }
    if let Some(items) = schema.get("items") {
        node(items, &format!("{at}.items"), in_meta, errors);
    }
    let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    for (key, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let meta = matches!(&**key, "metadata" | "apiVersion" | "kind");
        node(field, &format!("{at}.properties[{key}]"), in_meta || (embedded && meta), errors);
    }
}

fn one(schema: &Schema, default: &Value, at: &str, in_meta: bool) -> Vec<FieldError> {
    let mut value = default.clone();
    if !in_meta && !prune::prune_inside(schema, &mut value).is_empty() {
        return vec![FieldError::invalid(at, default, "must not have unknown fields")];
    }
    if let Err(why) = embedded::coerce(schema, &mut value) {
        return vec![FieldError::invalid(at, default, &why)];
    }
    let mut errors = embedded::check(schema, &value, at);
    errors.extend(check::check(schema, &value, at));
    errors
}

//! Whether the defaults of a schema are right by it.

use freewheel_hub_cel::weight;
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::path::Path;
use serde_json::Value;

use super::mistakes::Mistakes;
use crate::schema::Schema;
use crate::work::Work;
use crate::{check, embedded, prune};

/// Tells every default that an object could not have.
pub(super) fn check(schema: &Value, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    node(schema, at, false, errors);
}

fn node(schema: &Value, at: &Path<'_>, in_meta: bool, errors: &mut Mistakes<'_>) {
    if !errors.goes_on() {
        return;
    }
    if let Some(default) = schema.get("default") {
        let work = errors.work();
        // The tree is made anew for each default.
        if work.step((weight(schema) + weight(default)) / 4) {
            let at = at.field("default");
            errors.extend(one(&Schema::read(schema), default, &at, in_meta, work));
        }
    }
    if let Some(items) = schema.get("items") {
        node(items, &at.field("items"), in_meta, errors);
    }
    let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    for (key, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let meta = matches!(&**key, "metadata" | "apiVersion" | "kind");
        node(field, &at.entry("properties", key), in_meta || (embedded && meta), errors);
    }
}

fn one(
    schema: &Schema,
    default: &Value,
    at: &Path<'_>,
    in_meta: bool,
    work: &Work,
) -> Vec<FieldError> {
    let mut value = default.clone();
    if !in_meta && !prune::prune_inside(schema, &mut value).is_empty() {
        return vec![FieldError::invalid(*at, default, "must not have unknown fields")];
    }
    if let Err(why) = embedded::coerce(schema, &mut value) {
        return vec![FieldError::invalid(*at, default, &why)];
    }
    let at = at.text();
    let mut errors = embedded::check(schema, &value, &at);
    errors.extend(check::check_within(schema, &value, &at, work));
    errors
}

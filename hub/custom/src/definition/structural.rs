//! Whether a schema is structural: each field is named, with its type, outside of what only says which values are right.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::path::Path;
use serde_json::{Map, Value, json};

use super::accessors::{flag, list, text};
use super::mistakes::Mistakes;
use crate::schema::Pattern;
use crate::work::Work;

/// How a mistake about the type is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Every way in which a schema is not structural, sorted.
pub(super) fn check(schema: &Value, at: &Path<'_>, work: &Work) -> Vec<FieldError> {
    let mut errors = Mistakes::within(work);
    invariants(schema, Level::Root, at, &mut errors);
    complete(schema, Some(schema), at, at, &mut errors);
    let mut errors = errors.into_vec();
    errors.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    errors
}

fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn invariants(schema: &Value, level: Level, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    if !errors.goes_on() {
        return;
    }
    let is = text(schema, "/type");
    if is == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required(at.field("items"), "must be specified"));
    }
    if let Some(items) = schema.get("items") {
        invariants(items, Level::Item, &at.field("items"), errors);
    }
    for (key, field) in fields(schema) {
        invariants(field, Level::Field, &at.entry("properties", key), errors);
    }
    if let Some(each) = schema.get("additionalProperties") {
        if level == Level::Root {
            let field = at.field("additionalProperties");
            errors.push(FieldError::forbidden(field, "must not be used at the root"));
        }
        if each.is_object() {
            invariants(each, Level::Field, &at.field("additionalProperties"), errors);
        }
    }
    extensions(schema, at, errors);
    let values = values_of_int_or_string(schema);
    value_rules(schema, values, at, errors);
    of_type(schema, level, at, errors);
    meta(schema, level, at, errors);
}

fn extensions(schema: &Value, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    if !flag(schema, "/x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if schema.get(key) == Some(&Value::Bool(true)) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(at.field(key), &json!(true), why));
        }
    }
}

fn of_type(schema: &Value, level: Level, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let (is, field) = (text(schema, "/type"), at.field("type"));
    let embedded = flag(schema, "/x-kubernetes-embedded-resource");
    let free = flag(schema, "/x-kubernetes-int-or-string")
        || flag(schema, "/x-kubernetes-preserve-unknown-fields");
    if embedded && is != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if is.is_empty() {
            FieldError::required(field, why)
        } else {
            FieldError::invalid(field, &json!(is), why)
        });
    } else if is.is_empty() && !free {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(field, why));
    }
    if embedded && schema.get("additionalProperties").is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(at.field("additionalProperties"), why));
    }
    if level == Level::Root && !is.is_empty() && is != "object" {
        errors.push(FieldError::invalid(field, &json!(is), "must be object at the root"));
    }
}

/// What a schema may say of the metadata that every object has.
fn meta(schema: &Value, level: Level, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let embedded = flag(schema, "/x-kubernetes-embedded-resource");
    let property = |key: &str| schema.pointer(&format!("/properties/{key}"));
    let whole = level == Level::Root || embedded;
    for key in ["kind", "apiVersion"] {
        if let Some(field) = property(key).filter(|field| whole && text(field, "/type") != "string")
        {
            let at = at.entry("properties", key);
            errors.push(FieldError::invalid(
                at.field("type"),
                &json!(text(field, "/type")),
                "must be string",
            ));
        }
    }
    if let Some(meta) = property("metadata") {
        let at = at.entry("properties", "metadata");
        let is = text(meta, "/type");
        if whole && is != "object" {
            errors.push(FieldError::invalid(at.field("type"), &json!(is), "must be object"));
        }
        if level == Level::Root && !says_names_alone(meta) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(at, why));
        }
    }
    let open = flag(schema, "/x-kubernetes-preserve-unknown-fields");
    if embedded && !open && fields(schema).next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(at.field("properties"), why));
    }
}

fn says_names_alone(meta: &Value) -> bool {
    let Value::Object(members) = meta else { return false };
    let plain = members.keys().all(|key| matches!(&**key, "type" | "default" | "properties"));
    plain && fields(meta).all(|(key, _)| matches!(&**key, "name" | "generateName"))
}

/// Where a schema may say twice that it is a number or text.
#[derive(Clone, Copy, Default)]
struct IntOrString {
    any: bool,
    first_of_all: bool,
}

fn values_of_int_or_string(schema: &Value) -> IntOrString {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    let first = schema.pointer("/allOf/0/anyOf");
    IntOrString { any: schema.get("anyOf") == Some(&both), first_of_all: first == Some(&both) }
}

fn value_rules(schema: &Value, skip: IntOrString, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let nested = |schema: &Value, skip: bool, at: Path<'_>, errors: &mut Mistakes<'_>| {
        nested(schema, IntOrString { any: skip, first_of_all: false }, &at, errors);
    };
    for (key, skipped) in [("anyOf", skip.any), ("oneOf", false)] {
        for (index, one) in list(schema, &format!("/{key}")).iter().enumerate() {
            if !skipped {
                nested(one, false, at.item(key, index), errors);
            }
        }
    }
    for (index, one) in list(schema, "/allOf").iter().enumerate() {
        let skipped = skip.first_of_all && index == 0;
        nested(one, skipped, at.item("allOf", index), errors);
    }
    if let Some(not) = schema.get("not") {
        nested(not, false, at.field("not"), errors);
    }
    let pattern = text(schema, "/pattern");
    let look = |work: &Work| Pattern::wrong(pattern, |units| work.units(units));
    if let Some(why) = errors.of_pattern(pattern, look) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(at.field("pattern"), &json!(pattern), &why));
    }
}

/// What stands under allOf, anyOf, oneOf and not: rules for values and nothing else.
fn nested(schema: &Value, skip: IntOrString, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let Value::Object(members) = schema else { return };
    if !errors.goes_on() {
        return;
    }
    value_rules(schema, skip, at, errors);
    let plain = IntOrString::default();
    if let Some(items) = members.get("items") {
        nested(items, plain, &at.field("items"), errors);
    }
    for (key, field) in fields(schema) {
        nested(field, plain, &at.entry("properties", key), errors);
    }
    forbidden(members, at, errors);
    if members.get("properties").is_some_and(|all| all.get("metadata").is_some()) {
        let why = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(at.entry("properties", "metadata"), why));
    }
}

fn forbidden(members: &Map<String, Value>, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    for (key, what) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        if members.get(key).is_some_and(|value| *value != Value::Bool(false)) {
            errors.push(FieldError::forbidden(at.field(key), what));
        }
    }
}

/// Whether all that rules for values name is named outside of them, too.
fn complete(
    rules: &Value,
    schema: Option<&Value>,
    at: &Path<'_>,
    from: &Path<'_>,
    errors: &mut Mistakes<'_>,
) {
    if !errors.goes_on() {
        return;
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, one) in list(rules, &format!("/{key}")).iter().enumerate() {
            complete_nested(one, schema, at, &from.item(key, index), errors);
        }
    }
    if let Some(not) = rules.get("not") {
        complete_nested(not, schema, at, &from.field("not"), errors);
    }
}

fn complete_nested(
    rules: &Value,
    schema: Option<&Value>,
    at: &Path<'_>,
    from: &Path<'_>,
    errors: &mut Mistakes<'_>,
) {
    let Some(schema) = schema else {
        let why = format!("because it is defined in {}", from.text());
        errors.push(FieldError::required(*at, &why));
        return;
    };
    complete(rules, Some(schema), at, from, errors);
    if let Some(items) = rules.get("items") {
        let (at, from) = (at.field("items"), from.field("items"));
        complete_nested(items, schema.get("items"), &at, &from, errors);
    }
    for (key, field) in fields(rules) {
        let (at, from) = (at.entry("properties", key), from.entry("properties", key));
        let own = schema.get("properties").and_then(|all| all.get(key));
        complete_nested(field, own, &at, &from, errors);
    }
}

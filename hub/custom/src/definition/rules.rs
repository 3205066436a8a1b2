//! What a schema may say, beside being structural.

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

use super::accessors::{flag, list, text};
use super::{defaults, structural};
use crate::schema::{Schema, Type};
use crate::{cel, format};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What the root of a schema may say when the status has a door of its own, by the names of Go's fields.
const AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";
const AT_ROOT_KEYS: [&str; 23] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
    "nullable",
];

/// Where a walk is.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Why there may be no defaults.
    no_defaults: Option<&'a str>,
    in_meta: bool,
    depth: usize,
}

/// Every mistake of the `schema` of a version.
pub(super) fn check(schema: Option<&Value>, at: &str, has_status: bool) -> Vec<FieldError> {
    let Some(schema) = schema.and_then(|schema| schema.get("openAPIV3Schema")) else {
        return Vec::new();
    };
    let at = format!("{at}.openAPIV3Schema");
    let mut errors = Vec::new();
    if has_status {
        errors.extend(check_root(schema, &at));
    }
    if flag(schema, "/nullable") {
        let why = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(format!("{at}.nullable"), why));
    }
    let unstructured = structural::check(schema, &at);
    if unstructured.is_empty() {
        errors.extend(defaults::check(schema, &at));
    }
    errors.extend(unstructured);
    let place = Place { no_defaults: None, in_meta: false, depth: 0 };
    walk(schema, &at, place, &mut errors);
    errors
}

fn check_root(schema: &Value, at: &str) -> Option<FieldError> {
    let is = text(schema, "/type");
    if !is.is_empty() && is != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return Some(FieldError::invalid(format!("{at}.type"), &json!(is), why));
    }
    let odd = schema.as_object()?.keys().any(|key| !AT_ROOT_KEYS.contains(&key.as_str()));
    let why = format!(
        "only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
    );
    odd.then(|| FieldError::invalid(at, schema, &why))
}

fn walk(schema: &Value, at: &str, place: Place<'_>, errors: &mut Vec<FieldError>) {
    standard(schema, at, place, errors);
    if flag(schema, "/uniqueItems") {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{at}.uniqueItems"), why));
    }
    let root = place.depth == 0;
    let place = Place { depth: place.depth + 1, ..place };
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(each) = schema.get("additionalProperties") {
        let named = properties.is_some_and(|properties| !properties.is_empty());
        if named && *each != Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(format!("{at}.additionalProperties"), why));
        }
        let why = Some("inside additionalProperties applying to object metadata");
        let no_defaults = if place.in_meta { why } else { place.no_defaults };
        let inside = Place { no_defaults, ..place };
        walk(each, &format!("{at}.additionalProperties"), inside, errors);
    }
    let embedded = flag(schema, "/x-kubernetes-embedded-resource");
    for (key, field) in properties.into_iter().flatten() {
        let meta = (root || embedded) && matches!(&**key, "metadata" | "kind" | "apiVersion");
        let why = format!("in top-level {key}");
        let no_defaults = if meta && root { Some(&*why) } else { place.no_defaults };
        let inside = Place { no_defaults, in_meta: place.in_meta || meta, ..place };
        walk(field, &format!("{at}.properties[{key}]"), inside, errors);
    }
    if let Some(not) = schema.get("not") {
        walk(not, &format!("{at}.not"), place, errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (index, one) in list(schema, &format!("/{key}")).iter().enumerate() {
            walk(one, &format!("{at}.{key}[{index}]"), place, errors);
        }
    }
    if let Some(items) = schema.get("items") {
        walk(items, &format!("{at}.items"), place, errors);
    }
    extensions(schema, at, errors);
    list_keys(schema, at, errors);
    rules(schema, at, errors);
}

/// What Kubernetes does not take of OpenAPI.
fn standard(schema: &Value, at: &str, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let is = text(schema, "/type");
    if is == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(format!("{at}.type"), why));
    } else if !is.is_empty() && !TYPES.contains(&is) {
        errors.push(FieldError::not_supported(format!("{at}.type"), &json!(is), &TYPES));
    }
    if let Some(why) = place.no_defaults.filter(|_| schema.get("default").is_some()) {
        errors.push(FieldError::forbidden(
            format!("{at}.default"),
            &format!("must not be set {why}"),
        ));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"]
    {
        if schema.get(key).is_some() {
            let why = format!("{key} is not supported");
            errors.push(FieldError::forbidden(format!("{at}.{key}"), &why));
        }
    }
    if place.in_meta && flag(schema, "/x-kubernetes-embedded-resource") {
        let field = format!("{at}.x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(field, "must not be used inside of resource meta"));
    }
}

fn extensions(schema: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let field = format!("{at}.x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(field, &json!(false), "must be true or undefined"));
    }
    let is = text(schema, "/type");
    for (key, wanted, known) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"][..]),
    ] {
        let Some(said) = schema.get(key).and_then(Value::as_str) else { continue };
        let why = format!("must be {wanted} if {key} is specified");
        if is.is_empty() {
            errors.push(FieldError::required(format!("{at}.type"), &why));
        } else if is != wanted {
            errors.push(FieldError::invalid(format!("{at}.type"), &json!(is), &why));
        }
        if !known.contains(&said) {
            errors.push(FieldError::not_supported(format!("{at}.{key}"), &json!(said), known));
        }
    }
    if text(schema, "/x-kubernetes-list-type") != "set" {
        return;
    }
    let Some(items) = schema.get("items") else { return };
    let own = |key: &str| items.get(key).and_then(Value::as_str);
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    match (text(items, "/type"), own("x-kubernetes-list-type"), own("x-kubernetes-map-type")) {
        ("array", Some(said), _) if said != "atomic" => {
            let field = format!("{at}.items.x-kubernetes-list-type");
            errors.push(FieldError::invalid(field, &json!(said), why));
        }
        ("object", _, said) if said != Some("atomic") => {
            let field = format!("{at}.items.x-kubernetes-map-type");
            errors.push(FieldError::invalid(field, &json!(said), why));
        }
        _ => {}
    }
}

/// Keys that tell the elements of a list apart.
fn list_keys(schema: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let keys = list(schema, "/x-kubernetes-list-map-keys");
    let is = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    if !keys.is_empty() && is != Some("map") {
        let field = format!("{at}.x-kubernetes-list-type");
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match is {
            None => FieldError::required(field, why),
            Some(is) => FieldError::invalid(field, &json!(is), why),
        });
    }
    let items = schema.get("items");
    if let Some(is @ ("set" | "map")) = is
        && items.is_some_and(|items| flag(items, "/nullable"))
    {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {is}");
        errors.push(FieldError::forbidden(format!("{at}.items.nullable"), &why));
    }
    if is != Some("map") {
        return;
    }
    if keys.is_empty() {
        let field = format!("{at}.x-kubernetes-list-map-keys");
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(field, why));
    }
    let Some(items) = items else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(format!("{at}.items"), why));
        return;
    };
    if text(items, "/type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        let field = format!("{at}.items.type");
        errors.push(FieldError::invalid(field, &json!(text(items, "/type")), why));
        return;
    }
    for (index, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        list_key(items, key, at, errors);
        if keys.iter().take(index).any(|other| other == key) {
            let field = format!("{at}.x-kubernetes-list-map-keys");
            errors.push(FieldError::invalid(
                field,
                &json!(keys),
                "must not contain duplicate entries",
            ));
        }
    }
}

fn list_key(items: &Value, key: &str, at: &str, errors: &mut Vec<FieldError>) {
    let place = format!("{at}.items.properties[{key}]");
    let Some(field) = items.get("properties").and_then(|all| all.get(key)) else {
        let (field, why) = (
            format!("{at}.x-kubernetes-list-map-keys"),
            "entries must all be names of item properties",
        );
        errors.push(FieldError::invalid(field, &json!([key]), why));
        return;
    };
    if matches!(text(field, "/type"), "array" | "object") {
        let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(format!("{place}.type"), &json!("object"), why));
    }
    let required = list(items, "/required").iter().any(|one| one == key);
    if !required && field.get("default").is_none() {
        let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
        errors.push(FieldError::required(format!("{place}.default"), why));
    }
    if flag(field, "/nullable") {
        let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
        errors.push(FieldError::forbidden(format!("{place}.nullable"), why));
    }
}

/// `x-kubernetes-validations`
fn rules(schema: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let all = list(schema, "/x-kubernetes-validations");
    if all.is_empty() {
        return;
    }
    let node = Schema::read(schema);
    for (index, rule) in all.iter().enumerate() {
        let at = format!("{at}.x-kubernetes-validations[{index}]");
        let own = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let (message, lines) = (own("message"), |text: &str| text.contains(['\n', '\r']));
        let wrong = |key: &str, why: &str| {
            FieldError::invalid(format!("{at}.{key}"), &json!(own(key)), why)
        };
        if own("rule").trim().is_empty() {
            errors.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(wrong("message", "must be non-empty if specified"));
        } else if lines(message.trim()) {
            errors.push(wrong("message", "must not contain line breaks"));
        } else if lines(own("rule").trim()) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(format!("{at}.message"), why));
        }
        let reasons = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        if rule.get("reason").is_some() && !reasons.contains(&own("reason")) {
            let field = format!("{at}.reason");
            errors.push(FieldError::not_supported(field, &json!(own("reason")), &reasons));
        }
        if !errors.iter().any(|error| error.field.starts_with(&at)) {
            for (key, why) in cel::wrong(&node, rule) {
                errors.push(FieldError::invalid(format!("{at}.{key}"), rule, &why));
            }
        }
        if lines(own("fieldPath")) {
            errors.push(wrong("fieldPath", "must not contain line breaks"));
        }
    }
}

/// What a definition asks for that does not work as it says.
#[must_use]
pub fn warnings(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in list(definition, "/spec/versions") {
        let schema = version.pointer("/schema/openAPIV3Schema");
        schema.into_iter().for_each(|schema| look(schema, &mut found));
    }
    found
}

fn look(schema: &Value, found: &mut Vec<String>) {
    let Value::Object(map) = schema else { return };
    let format = text(schema, "/format");
    if !format.is_empty() && !format::is_checked(format, Type::read(text(schema, "/type"))) {
        let text = format!("unrecognized format {format:?}");
        if !found.contains(&text) {
            found.push(text);
        }
    }
    for key in ["items", "additionalProperties", "not"] {
        map.get(key).into_iter().for_each(|inner| look(inner, found));
    }
    for (_, field) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        look(field, found);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        list(schema, &format!("/{key}")).iter().for_each(|inner| look(inner, found));
    }
}

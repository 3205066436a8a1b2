//! What a schema may say, beside being structural.

use std::collections::HashSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::path::Path;
use serde_json::{Value, json};

use super::accessors::{flag, list, text};
use super::mistakes::Mistakes;
use super::{defaults, rule_costs, structural, validations};
use crate::format;
use crate::schema::Type;
use crate::work::Work;

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

/// Keys by which the elements of a list are told apart. kube-apiserver has no such bound.
const LIST_KEYS_MAX: usize = 64;
/// Bytes of the default of one. kube-apiserver has no such bound.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Texts that tell what does not work: more than anybody is told.
const WARNINGS_MAX: usize = 100;

/// Where a walk is.
#[derive(Clone, Copy)]
struct WalkState<'a> {
    /// Why there may be no defaults.
    no_defaults: Option<&'a str>,
    in_meta: bool,
    depth: usize,
    /// Above it, what was before cannot be found again: from here on.
    uncorrelatable: Option<Path<'a>>,
}

impl<'a> WalkState<'a> {
    /// Inside of what stands there, unless what was before can be found again in that.
    fn within(self, at: &Path<'a>, is_correlatable: bool) -> Self {
        let uncorrelatable = self.uncorrelatable.or((!is_correlatable).then_some(*at));
        Self { uncorrelatable, ..self }
    }
}

/// Every mistake of the `schema` of a version.
pub(super) fn check(
    schema: Option<&Value>,
    at: &Path<'_>,
    has_status: bool,
    work: &Work,
) -> Vec<FieldError> {
    let Some(schema) = schema.and_then(|schema| schema.get("openAPIV3Schema")) else {
        return Vec::new();
    };
    let at = &at.field("openAPIV3Schema");
    let mut errors = Mistakes::within(work);
    if has_status {
        errors.extend(check_root(schema, at));
    }
    if flag(schema, "/nullable") {
        let why = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(at.field("nullable"), why));
    }
    let unstructured = structural::check(schema, at, work);
    if unstructured.is_empty() {
        defaults::check(schema, at, &mut errors);
    }
    errors.extend(unstructured);
    let place = WalkState { no_defaults: None, in_meta: false, depth: 0, uncorrelatable: None };
    walk(schema, at, place, &mut errors);
    if errors.len() == 0 {
        rule_costs::check(schema, at, &mut errors);
    }
    errors.into_vec()
}

fn check_root(schema: &Value, at: &Path<'_>) -> Option<FieldError> {
    let is = text(schema, "/type");
    if !is.is_empty() && is != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return Some(FieldError::invalid(at.field("type"), &json!(is), why));
    }
    let odd = schema.as_object()?.keys().any(|key| !AT_ROOT_KEYS.contains(&key.as_str()));
    let why = format!(
        "only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
    );
    odd.then(|| FieldError::invalid(*at, schema, &why))
}

fn walk(schema: &Value, at: &Path<'_>, place: WalkState<'_>, errors: &mut Mistakes<'_>) {
    if !errors.goes_on() {
        return;
    }
    standard(schema, at, place, errors);
    if flag(schema, "/uniqueItems") {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(at.field("uniqueItems"), why));
    }
    let root = place.depth == 0;
    let place = WalkState { depth: place.depth + 1, ..place };
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(each) = schema.get("additionalProperties") {
        let named = properties.is_some_and(|properties| !properties.is_empty());
        if named && *each != Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(at.field("additionalProperties"), why));
        }
        let why = Some("inside additionalProperties applying to object metadata");
        let no_defaults = if place.in_meta { why } else { place.no_defaults };
        let inside = WalkState { no_defaults, ..place };
        walk(each, &at.field("additionalProperties"), inside, errors);
    }
    let embedded = flag(schema, "/x-kubernetes-embedded-resource");
    for (key, field) in properties.into_iter().flatten() {
        let meta = (root || embedded) && matches!(&**key, "metadata" | "kind" | "apiVersion");
        let why = format!("in top-level {key}");
        let no_defaults = if meta && root { Some(&*why) } else { place.no_defaults };
        let inside = WalkState { no_defaults, in_meta: place.in_meta || meta, ..place };
        let inside = inside.within(at, text(schema, "/x-kubernetes-map-type") != "atomic");
        walk(field, &at.entry("properties", key), inside, errors);
    }
    if let Some(not) = schema.get("not") {
        walk(not, &at.field("not"), place, errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (index, one) in list(schema, &format!("/{key}")).iter().enumerate() {
            walk(one, &at.item(key, index), place, errors);
        }
    }
    if let Some(items) = schema.get("items") {
        let inside = place.within(at, text(schema, "/x-kubernetes-list-type") == "map");
        walk(items, &at.field("items"), inside, errors);
    }
    extensions(schema, at, errors);
    list_keys(schema, at, errors);
    validations::check(schema, at, (root || embedded, place.uncorrelatable), errors);
}

/// What Kubernetes does not take of OpenAPI.
fn standard(schema: &Value, at: &Path<'_>, place: WalkState<'_>, errors: &mut Mistakes<'_>) {
    let is = text(schema, "/type");
    if is == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(at.field("type"), why));
    } else if !is.is_empty() && !TYPES.contains(&is) {
        errors.push(FieldError::not_supported(at.field("type"), &json!(is), &TYPES));
    }
    if let Some(why) = place.no_defaults.filter(|_| schema.get("default").is_some()) {
        let why = format!("must not be set {why}");
        errors.push(FieldError::forbidden(at.field("default"), &why));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"]
    {
        if schema.get(key).is_some() {
            let why = format!("{key} is not supported");
            errors.push(FieldError::forbidden(at.field(key), &why));
        }
    }
    if place.in_meta && flag(schema, "/x-kubernetes-embedded-resource") {
        let field = at.field("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(field, "must not be used inside of resource meta"));
    }
}

fn extensions(schema: &Value, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let field = at.field("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(field, &json!(false), "must be true or undefined"));
    }
    let is = text(schema, "/type");
    for (key, wanted, known) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"][..]),
    ] {
        let Some(value) = schema.get(key).and_then(Value::as_str) else { continue };
        let why = format!("must be {wanted} if {key} is specified");
        if is.is_empty() {
            errors.push(FieldError::required(at.field("type"), &why));
        } else if is != wanted {
            errors.push(FieldError::invalid(at.field("type"), &json!(is), &why));
        }
        if !known.contains(&value) {
            errors.push(FieldError::not_supported(at.field(key), &json!(value), known));
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
            let items = at.field("items");
            let field = items.field("x-kubernetes-list-type");
            errors.push(FieldError::invalid(field, &json!(said), why));
        }
        ("object", _, said) if said != Some("atomic") => {
            let items = at.field("items");
            let field = items.field("x-kubernetes-map-type");
            errors.push(FieldError::invalid(field, &json!(said), why));
        }
        _ => {}
    }
}

/// Keys that tell the elements of a list apart.
fn list_keys(schema: &Value, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let keys = list(schema, "/x-kubernetes-list-map-keys");
    let is = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    if !keys.is_empty() && is != Some("map") {
        let field = at.field("x-kubernetes-list-type");
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
        errors.push(FieldError::forbidden(at.field("items").field("nullable"), &why));
    }
    if is != Some("map") {
        return;
    }
    if keys.is_empty() {
        let field = at.field("x-kubernetes-list-map-keys");
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(field, why));
    }
    let Some(items) = items else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(at.field("items"), why));
        return;
    };
    if text(items, "/type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        let field = at.field("items").field("type").text();
        errors.push(FieldError::invalid(field, &json!(text(items, "/type")), why));
        return;
    }
    named_keys(items, keys, at, errors);
}

/// Whether the keys of a list are what its elements have.
fn named_keys(items: &Value, keys: &[Value], at: &Path<'_>, errors: &mut Mistakes<'_>) {
    if LIST_KEYS_MAX < keys.len() {
        // Each of them is looked for in each element.
        let field = at.field("x-kubernetes-list-map-keys");
        errors.push(FieldError::too_many(field, keys.len(), LIST_KEYS_MAX));
        return;
    }
    let required: HashSet<&str> =
        list(items, "/required").iter().filter_map(Value::as_str).collect();
    let mut seen = HashSet::new();
    let mut is_twice = false;
    for key in keys.iter().filter_map(Value::as_str) {
        list_key(items, key, required.contains(key), at, errors);
        is_twice |= !seen.insert(key);
    }
    if is_twice {
        let field = at.field("x-kubernetes-list-map-keys");
        let why = "must not contain duplicate entries";
        errors.push(FieldError::invalid(field, &json!(keys), why));
    }
}

fn list_key(items: &Value, key: &str, is_required: bool, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let Some(field) = items.get("properties").and_then(|all| all.get(key)) else {
        let why = "entries must all be names of item properties";
        let field = at.field("x-kubernetes-list-map-keys");
        errors.push(FieldError::invalid(field, &json!([key]), why));
        return;
    };
    let inside = at.field("items");
    let place = inside.entry("properties", key);
    if matches!(text(field, "/type"), "array" | "object") {
        let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(place.field("type"), &json!("object"), why));
    }
    let default = field.get("default");
    if !is_required && default.is_none() {
        let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
        errors.push(FieldError::required(place.field("default"), why));
    }
    if default.and_then(Value::as_str).is_some_and(|default| KEY_BYTES_MAX < default.len()) {
        // It is a part of the path to each element that has none of its own.
        errors.push(FieldError::too_long(place.field("default"), KEY_BYTES_MAX));
    }
    if flag(field, "/nullable") {
        let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
        errors.push(FieldError::forbidden(place.field("nullable"), why));
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
        if found.len() < WARNINGS_MAX && !found.contains(&text) {
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

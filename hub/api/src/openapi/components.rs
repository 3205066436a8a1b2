//! Types of the schema table as OpenAPI v3 component schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::descriptions::Prose;
use crate::kind::Kind;
use crate::schema::table::{Field, ListType, Shape, Type, find, table};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// Kinds of meta/v1 that operations name.
const META_KINDS: [&str; 3] = ["APIResourceList", "DeleteOptions", "Status"];

/// Every schema that the documents of these kinds refer to.
pub(super) fn all(kinds: &[&Kind], prose: &Prose) -> BTreeMap<String, Value> {
    let mut types = BTreeMap::new();
    let mut out = BTreeMap::new();
    for kind in kinds {
        let list = format!("{}List", kind.kind());
        for name in [kind.kind(), &list] {
            reach(find(kind.group(), kind.version(), name), &mut types);
        }
        for sub in &kind.subresources {
            let (group, version) = match &sub.group_version {
                Some((group, version)) => (&**group, &**version),
                None => (kind.group(), kind.version()),
            };
            reach(find(group, version, &sub.kind), &mut types);
        }
        if find(kind.group(), kind.version(), kind.kind()).is_none() {
            for name in ["ObjectMeta", "ListMeta"] {
                reach(table().by_name(&format!("{META}.{name}")), &mut types);
            }
            out.extend(free_form(kind, prose));
        }
    }
    for name in META_KINDS {
        reach(find("", "v1", name), &mut types);
    }
    out.extend(types.values().map(|one| (one.name.to_owned(), schema(one, prose))));
    for (name, mut schema) in scalars() {
        if let Some(text) = prose.of(&name, "") {
            schema["description"] = text.into();
        }
        out.insert(name, schema);
    }
    out
}

/// The component of a type that the operations of a kind name, when there is one.
pub(super) fn name_of(kind: &Kind, gvk: (&str, &str, &str)) -> Option<String> {
    let (group, version, name) = gvk;
    if let Some(one) = find(group, version, name) {
        return Some(one.name.to_owned());
    }
    let free = find(kind.group(), kind.version(), kind.kind()).is_none();
    let own = name == kind.kind() || name.strip_suffix("List") == Some(kind.kind());
    (free && own && (group, version) == (kind.group(), kind.version())).then(|| {
        let mut parts: Vec<&str> = group.split('.').rev().collect();
        parts.extend([version, name]);
        parts.join(".")
    })
}

/// A kind of whose fields nothing is known beside its metadata, and its list.
fn free_form(kind: &Kind, prose: &Prose) -> Vec<(String, Value)> {
    let list_kind = format!("{}List", kind.kind());
    let said = |field: &str| prose.of("io.k8s.api.core.v1.Pod", field).unwrap_or_default();
    let text = |field: &str| json!({"type": "string", "description": said(field)});
    let meta = |name: &str| json!({"allOf": [reference(&format!("{META}.{name}"))], "description": said("metadata")});
    let gvk =
        |name: &str| json!([{"group": kind.group(), "version": kind.version(), "kind": name}]);
    let name = |name: &str| name_of(kind, (kind.group(), kind.version(), name)).unwrap_or_default();
    let one = json!({
        "type": "object",
        "description": format!("A {} of {}.", kind.kind(), kind.api_version()),
        "properties": {
            "apiVersion": text("apiVersion"), "kind": text("kind"), "metadata": meta("ObjectMeta"),
        },
        "x-kubernetes-group-version-kind": gvk(kind.kind()),
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let items = json!({
        "type": "array", "description": "What is listed.", "items": reference(&name(kind.kind())),
    });
    let list = json!({
        "type": "object",
        "description": format!("A list of {}.", kind.plural()),
        "required": ["items"],
        "properties": {
            "apiVersion": text("apiVersion"), "kind": text("kind"), "metadata": meta("ListMeta"),
            "items": items,
        },
        "x-kubernetes-group-version-kind": gvk(&list_kind),
    });
    vec![(name(kind.kind()), one), (name(&list_kind), list)]
}

fn reach(one: Option<&'static Type>, out: &mut BTreeMap<&'static str, &'static Type>) {
    let Some(one) = one else { return };
    if out.insert(one.name, one).is_some() {
        return;
    }
    for field in &one.fields {
        reach(struct_in(&field.shape), out);
    }
}

fn struct_in(shape: &Shape) -> Option<&'static Type> {
    match shape {
        Shape::Object(id) => Some(table().at(*id)),
        Shape::List(inner) | Shape::Map(inner) => struct_in(inner),
        _ => None,
    }
}

/// Schemas of the scalars that have a name.
fn scalars() -> [(String, Value); 7] {
    [
        (format!("{META}.Time"), json!({"type": "string", "format": "date-time"})),
        (format!("{META}.MicroTime"), json!({"type": "string", "format": "date-time"})),
        (format!("{META}.FieldsV1"), json!({"type": "object"})),
        (format!("{META}.Patch"), json!({"type": "object"})),
        (QUANTITY.to_owned(), json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        (
            INT_OR_STRING.to_owned(),
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        (RAW.to_owned(), json!({"type": "object"})),
    ]
}

/// A reference to a component.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn schema(one: &Type, prose: &Prose) -> Value {
    let mut properties = Map::new();
    for field in &one.fields {
        properties.insert(field.name.to_owned(), property(one, field, prose));
    }
    let required: BTreeSet<&str> =
        one.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut out = json!({"type": "object", "properties": properties});
    if let Some(text) = prose.of(one.name, "") {
        out["description"] = text.into();
    }
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if one.atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if !one.kinds.is_empty() {
        let kinds = one.kinds.iter().map(|(group, version, kind)| {
            let group = if one.is_meta() { "" } else { group };
            json!({"group": group, "version": version, "kind": kind})
        });
        out["x-kubernetes-group-version-kind"] = kinds.collect();
    }
    out
}

fn property(owner: &Type, field: &Field, prose: &Prose) -> Value {
    let mut out = of_shape(&field.shape);
    if let Some(text) = said(owner, field, prose) {
        out["description"] = text.into();
    }
    if let Some(default) = field.default_value() {
        out["default"] = default;
    }
    if !field.values.is_empty() {
        out["enum"] = json!(field.values);
    }
    if !field.item_values.is_empty()
        && let Some(items) = out.get_mut("items")
    {
        items["enum"] = json!(field.item_values);
    }
    if field.atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    match &field.list {
        ListType::None => {}
        ListType::Atomic => out["x-kubernetes-list-type"] = "atomic".into(),
        ListType::Set => out["x-kubernetes-list-type"] = "set".into(),
        ListType::Map(keys) => {
            out["x-kubernetes-list-type"] = "map".into();
            out["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    let merge = &field.merge;
    let strategies =
        [(merge.merge, "merge"), (merge.replace, "replace"), (merge.retain_keys, "retainKeys")];
    let strategies: Vec<&str> =
        strategies.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    if !strategies.is_empty() {
        out["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    if let Some(key) = merge.key {
        out["x-kubernetes-patch-merge-key"] = key.into();
    }
    out
}

/// Lists have no types of their own in k8s-openapi; what every kind says of these is the same.
fn said<'a>(owner: &Type, field: &Field, prose: &'a Prose) -> Option<&'a str> {
    prose.of(owner.name, field.name).or_else(|| match field.name {
        "apiVersion" | "kind" => prose.of("io.k8s.api.core.v1.Pod", field.name),
        "metadata" => {
            let meta = table().by_name(&format!("{META}.ObjectMeta"))?;
            let is_meta = struct_in(&field.shape).is_some_and(|one| one.name == meta.name);
            is_meta.then(|| prose.of("io.k8s.api.core.v1.Pod", "metadata"))?
        }
        _ => None,
    })
}

fn of_shape(shape: &Shape) -> Value {
    let named = |name: &str| json!({ "allOf": [reference(name)] });
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Float => json!({"type": "number", "format": "double"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Strings => json!({"type": "array", "items": {"type": "string", "default": ""}}),
        Shape::Quantity => named(QUANTITY),
        Shape::Time => named(&format!("{META}.Time")),
        Shape::MicroTime => named(&format!("{META}.MicroTime")),
        Shape::IntOrString => named(INT_OR_STRING),
        Shape::Raw => named(RAW),
        Shape::Fields => named(&format!("{META}.FieldsV1")),
        Shape::Object(id) => named(table().at(*id).name),
        Shape::List(inner) => json!({"type": "array", "items": element(inner)}),
        Shape::Map(inner) => json!({"type": "object", "additionalProperties": element(inner)}),
    }
}

/// Elements carry Go's zero value as their default.
fn element(shape: &Shape) -> Value {
    let mut out = of_shape(shape);
    match shape {
        Shape::String => out["default"] = "".into(),
        Shape::Bool => out["default"] = false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Float => out["default"] = 0.into(),
        Shape::Object(_) => out["default"] = json!({}),
        // A scalar of its own stands as it is.
        Shape::Quantity => return reference(QUANTITY),
        _ => {}
    }
    out
}

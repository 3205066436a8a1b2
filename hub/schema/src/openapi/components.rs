//! Types of the schema table as OpenAPI v3 component schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::prose::Prose;
use crate::gvk::Gvk;
use crate::kind::Kind;
use crate::types::table::{Field, ListType, Shape, Simple};
use crate::types::{TypeFacts, component_name};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// Kinds of meta/v1 that operations name.
const META_KINDS: [&str; 3] = ["APIResourceList", "DeleteOptions", "Status"];

/// Tells every schema that the documents of these kinds refer to, one at a time: as a tree each is many times its text.
/// Where two have one name, the later one is meant.
pub(super) fn each(kinds: &[&Kind], prose: &Prose, mut tell: impl FnMut(String, Value)) {
    let mut types = BTreeMap::new();
    for kind in kinds {
        for name in [kind.kind(), kind.list_kind()] {
            reach(TypeFacts::find(kind.group(), kind.version(), name), &mut types);
        }
        for sub in &kind.subresources {
            let (group, version) = match &sub.group_version {
                Some((group, version)) => (&**group, &**version),
                None => (kind.group(), kind.version()),
            };
            reach(TypeFacts::find(group, version, &sub.kind), &mut types);
        }
        if is_foreign(kind) {
            for name in ["ObjectMeta", "ListMeta"] {
                reach(TypeFacts::by_name(&format!("{META}.{name}")), &mut types);
            }
            // What a form knows of its fields is made for who writes an object of it, and kept: not for this.
            let own = match kind.form() {
                Some(form) => described(form.component(), prose),
                None => match kind.facts() {
                    Some(one) => {
                        inside(one, &mut types);
                        schema(one, prose)
                    }
                    None => free_form(kind, prose),
                },
            };
            tell(own_name(kind, kind.kind()), own_kind(kind, own));
            tell(own_name(kind, kind.list_kind()), list_of(kind, prose));
        }
    }
    for name in META_KINDS {
        reach(TypeFacts::find("", "v1", name), &mut types);
    }
    for one in types.values() {
        tell(one.name.to_string(), schema(*one, prose));
    }
    for (name, mut schema) in scalars().into_iter().chain(eithers(&types)) {
        if let Some(text) = prose.of(&name, "") {
            schema["description"] = text.into();
        }
        tell(name, schema);
    }
}

/// Whether the committed table does not know it.
fn is_foreign(kind: &Kind) -> bool {
    TypeFacts::find(kind.group(), kind.version(), kind.kind()).is_none()
}

/// The component of a type that the operations of a kind name, when there is one.
pub(super) fn name_of(kind: &Kind, gvk: (&str, &str, &str)) -> Option<String> {
    let (group, version, name) = gvk;
    if let Some(one) = TypeFacts::find(group, version, name) {
        return Some(one.name.to_string());
    }
    let own = name == kind.kind() || name == kind.list_kind();
    let own = own && (group, version) == (kind.group(), kind.version());
    (own && is_foreign(kind)).then(|| own_name(kind, name))
}

fn own_name(kind: &Kind, name: &str) -> String {
    component_name(&Gvk { kind: name.to_owned().into(), ..kind.gvk().clone() })
}

fn own_kind(kind: &Kind, mut schema: Value) -> Value {
    let gvk = json!({"group": kind.group(), "version": kind.version(), "kind": kind.kind()});
    schema["x-kubernetes-group-version-kind"] = json!([gvk]);
    schema
}

/// A field that every kind has.
fn common(field: &str, what: Value, prose: &Prose) -> Value {
    let mut out = what;
    if let Some(text) = prose.of_every_kind(field) {
        out["description"] = text.into();
    }
    out
}

/// With the words for what every kind has.
fn described(mut schema: Value, prose: &Prose) -> Value {
    for field in ["apiVersion", "kind", "metadata"] {
        if let Some(Value::Object(of)) = schema.pointer_mut(&format!("/properties/{field}"))
            && let Some(text) = prose.of_every_kind(field)
        {
            of.insert("description".to_owned(), text.into());
        }
    }
    schema
}

/// A kind of whose fields nothing is known beside its metadata.
fn free_form(kind: &Kind, prose: &Prose) -> Value {
    let text = |field: &str| common(field, json!({"type": "string"}), prose);
    let meta = json!({"allOf": [reference(&format!("{META}.ObjectMeta"))]});
    json!({
        "type": "object",
        "description": format!("A {} of {}.", kind.kind(), kind.api_version()),
        "properties": {
            "apiVersion": text("apiVersion"), "kind": text("kind"),
            "metadata": common("metadata", meta, prose),
        },
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

fn list_of(kind: &Kind, prose: &Prose) -> Value {
    let text = |field: &str| common(field, json!({"type": "string"}), prose);
    let meta = json!({"allOf": [reference(&format!("{META}.ListMeta"))]});
    let item = reference(&own_name(kind, kind.kind()));
    let list_kind = kind.list_kind();
    json!({
        "type": "object",
        "description": format!("A list of {}.", kind.plural()),
        "required": ["items"],
        "properties": {
            "apiVersion": text("apiVersion"), "kind": text("kind"),
            "metadata": common("metadata", meta, prose),
            "items": {"type": "array", "description": "What is listed.", "items": item},
        },
        "x-kubernetes-group-version-kind":
            [{"group": kind.group(), "version": kind.version(), "kind": list_kind}],
    })
}

fn reach<'a>(one: Option<TypeFacts<'a>>, out: &mut BTreeMap<String, TypeFacts<'a>>) {
    let Some(one) = one else { return };
    if out.insert(one.name.to_string(), one).is_none() {
        inside(one, out);
    }
}

fn inside<'a>(one: TypeFacts<'a>, out: &mut BTreeMap<String, TypeFacts<'a>>) {
    for field in &one.of_type().fields {
        reach(one.inside(&field.shape), out);
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

/// Components of what is a struct or something simpler: of any type, as Kubernetes tells them.
fn eithers(types: &BTreeMap<String, TypeFacts<'_>>) -> BTreeMap<String, Value> {
    let fields = types.values().flat_map(|one| one.fields.iter().map(|field| (*one, field)));
    let names = fields.filter_map(|(one, field)| match &field.shape {
        Shape::Either(id, simple) => Some(either_name(one.at(*id), *simple)),
        Shape::Map(inner) | Shape::List(inner) => match &**inner {
            Shape::Either(id, simple) => Some(either_name(one.at(*id), *simple)),
            _ => None,
        },
        _ => None,
    });
    names.map(|name| (name, json!({}))).collect()
}

/// A reference to a component.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn schema(one: TypeFacts<'_>, prose: &Prose) -> Value {
    let mut properties = Map::new();
    for field in &one.fields {
        properties.insert(field.name.to_string(), property(one, field, prose));
    }
    let required: BTreeSet<&str> =
        one.fields.iter().filter(|field| field.required).map(|field| &*field.name).collect();
    let mut out = json!({"type": "object", "properties": properties});
    if let Some(text) = prose.of(&one.name, "") {
        out["description"] = text.into();
    }
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if one.atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if one.open {
        out["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    if !one.kinds.is_empty() {
        let kinds = one.kinds.iter().map(|Gvk { group, version, kind }| {
            let group = if one.is_meta() { "" } else { group };
            json!({"group": group, "version": version, "kind": kind})
        });
        out["x-kubernetes-group-version-kind"] = kinds.collect();
    }
    out
}

fn property(owner: TypeFacts<'_>, field: &Field, prose: &Prose) -> Value {
    let mut out = of_shape(&field.shape, owner);
    if let Some(text) = description(owner, field, prose) {
        out["description"] = text.into();
    }
    if let Some(default) = &field.default {
        out["default"] = default.clone();
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
    if let Some(key) = &merge.key {
        out["x-kubernetes-patch-merge-key"] = json!(key);
    }
    out
}

/// Lists have no types of their own in k8s-openapi; what every kind says of these is the same.
fn description<'a>(owner: TypeFacts<'_>, field: &Field, prose: &'a Prose) -> Option<&'a str> {
    prose.of(&owner.name, &field.name).or_else(|| match &*field.name {
        "apiVersion" | "kind" => prose.of_every_kind(&field.name),
        "metadata" => {
            let meta = TypeFacts::by_name(&format!("{META}.ObjectMeta"))?;
            let is_meta = owner.inside(&field.shape).is_some_and(|one| one.name == meta.name);
            is_meta.then(|| prose.of_every_kind("metadata"))?
        }
        _ => None,
    })
}

fn of_shape(shape: &Shape, owner: TypeFacts<'_>) -> Value {
    let named = |name: &str| json!({ "allOf": [reference(name)] });
    match shape {
        // Go's own form of a duration has no format that OpenAPI knows.
        Shape::String | Shape::Duration => json!({"type": "string"}),
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
        Shape::Object(id) => named(&owner.at(*id).name),
        Shape::Either(id, simple) => named(&either_name(owner.at(*id), *simple)),
        Shape::List(inner) => json!({"type": "array", "items": element(inner, owner)}),
        Shape::Map(inner) => {
            json!({"type": "object", "additionalProperties": element(inner, owner)})
        }
    }
}

/// What a struct or something simpler in its place is called.
fn either_name(one: TypeFacts<'_>, simple: Simple) -> String {
    format!("{}Or{}", one.name, simple.go_name())
}

/// Elements carry Go's zero value as their default.
fn element(shape: &Shape, owner: TypeFacts<'_>) -> Value {
    let mut out = of_shape(shape, owner);
    match shape {
        Shape::String => out["default"] = "".into(),
        Shape::Bool => out["default"] = false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Float => out["default"] = 0.into(),
        Shape::Object(_) => out["default"] = json!({}),
        // A scalar of its own stands as it is.
        Shape::Quantity => return reference(QUANTITY),
        Shape::Either(id, simple) => return reference(&either_name(owner.at(*id), *simple)),
        Shape::Bytes
        | Shape::Strings
        | Shape::Time
        | Shape::MicroTime
        | Shape::Duration
        | Shape::IntOrString
        | Shape::Raw
        | Shape::Fields
        | Shape::List(_)
        | Shape::Map(_) => {}
    }
    out
}

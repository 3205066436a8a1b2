//! A schema that comes with its kind: structural OpenAPI v3, as a CustomResourceDefinition holds it, made into types
//! that lie over those of the committed table. It goes with the kind.
//!
//! ```text
//! {type: object, properties}                    a type          additionalProperties   a map
//! {type: array, items}                          a list          x-kubernetes-int-or-string
//! x-kubernetes-preserve-unknown-fields          an open type, or any value where no properties are named
//! x-kubernetes-{list-type, list-map-keys, map-type, patch-strategy, patch-merge-key}
//! ```
//!
//! What only says which values are right (`pattern`, `oneOf`, `x-kubernetes-validations`) is no fact of a type and is
//! not read here. `apiVersion`, `kind` and `metadata` are what every object has of them, whatever the schema says.
//!
//! Guarantees:
//! - what it says of fields is walked as what the committed table says (`unknown_fields_go_and_defaults_come`,
//!   `elements_merge_by_their_key`);
//! - what is no structural schema is refused by the place in it (`what_is_not_structural_is_named`).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::facts::TypeFacts;
use super::table::{Field, ListType, Merge, Shape, Table, Type, TypeId, table};
use crate::gvk::{Gvk, Text};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A schema that comes with a kind.
#[derive(Debug)]
pub struct Schema {
    types: Table,
    root: TypeId,
}

/// It is no structural schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct NotStructural {
    path: String,
    why: String,
}

impl Schema {
    /// From the structural schema of a kind.
    ///
    /// # Errors
    /// When a part of it does not say what it is.
    pub fn structural(gvk: &Gvk, schema: &Value) -> Result<Self, NotStructural> {
        let mut reading = TypesReader { types: Vec::new(), free: false };
        let path = "openAPIV3Schema";
        let Some(own) = schema.as_object().filter(|own| text(own, "type") == "object") else {
            return Err(wrong(path, "must be of type object"));
        };
        let root = reading.object(&component_name(gvk), own, path, true)?;
        Ok(Self { types: Table::over(reading.types), root })
    }

    /// What is known of its kind.
    #[must_use]
    pub fn facts(&self) -> TypeFacts<'_> {
        TypeFacts::of(&self.types, self.root)
    }
}

/// What OpenAPI calls the type of a kind that is not built in: `com.example.v1.Widget`.
#[must_use]
pub fn component_name(gvk: &Gvk) -> String {
    let mut parts: Vec<&str> = gvk.group.split('.').rev().collect();
    parts.extend([&*gvk.version, &*gvk.kind]);
    parts.join(".")
}

struct TypesReader {
    types: Vec<Type>,
    /// It is inside of a type that is open.
    free: bool,
}

type Object = Map<String, Value>;

impl TypesReader {
    /// A type with named fields, and those inside. `whole`: it is an object of the API, with metadata.
    fn object(
        &mut self,
        name: &str,
        schema: &Object,
        path: &str,
        whole: bool,
    ) -> Result<TypeId, NotStructural> {
        let place = self.types.len();
        let mut one = Type::new(name.to_owned());
        one.crd = true;
        one.atomic = text(schema, "x-kubernetes-map-type") == "atomic";
        one.open = is_set(schema, "x-kubernetes-preserve-unknown-fields");
        let outside = self.free;
        self.free |= one.open;
        one.free = self.free;
        // The types inside come behind it.
        self.types.push(one);
        let required = texts(schema, "required");
        let mut fields = Vec::new();
        if whole {
            let meta = table().place(OBJECT_META).ok_or_else(|| wrong(path, "has no metadata"))?;
            let common = [("apiVersion", Shape::String), ("kind", Shape::String)];
            let common = common.into_iter().chain([("metadata", Shape::Object(meta))]);
            fields.extend(common.map(|(name, shape)| Arc::new(Field::new(name, shape))));
        }
        for (key, schema) in object(schema, "properties", path)? {
            if whole && matches!(&**key, "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let mut field =
                self.field((name, key), schema, &format!("{path}.properties[{key}]"))?;
            field.required = required.iter().any(|one| one == key);
            fields.push(Arc::new(field));
        }
        self.free = outside;
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.types[place].layout.clone_from(&fields);
        self.types[place].fields = fields;
        Ok(Table::place_over(place))
    }

    fn field(
        &mut self,
        (owner, key): (&str, &str),
        schema: &Value,
        path: &str,
    ) -> Result<Field, NotStructural> {
        let Value::Object(schema) = schema else { return Err(wrong(path, "must be an object")) };
        let element = match elements(schema) {
            Some((part, inner)) => {
                Some(self.field((owner, key), inner, &format!("{path}.{part}"))?)
            }
            None => None,
        };
        let inner = element.as_ref().map(|element| &element.shape);
        let shape = self.shape(&format!("{owner}.{key}"), schema, path, inner)?;
        let mut field = Field::new(key.to_owned(), shape);
        field.element = element.filter(says_more).map(Arc::new);
        field.default = schema.get("default").cloned();
        field.values = texts(schema, "enum");
        if let Some(Value::Object(items)) = schema.get("items") {
            field.item_values = texts(items, "enum");
        }
        field.atomic = text(schema, "x-kubernetes-map-type") == "atomic";
        field.list = match text(schema, "x-kubernetes-list-type") {
            "" => ListType::None,
            "atomic" => ListType::Atomic,
            "set" => ListType::Set,
            "map" => ListType::Map(texts(schema, "x-kubernetes-list-map-keys")),
            _ => return Err(wrong(path, "x-kubernetes-list-type must be atomic, set or map")),
        };
        if field.list == ListType::Map(Vec::new()) {
            return Err(wrong(path, "a list of type map needs x-kubernetes-list-map-keys"));
        }
        let mut strategies = text(schema, "x-kubernetes-patch-strategy").split(',');
        let key = text(schema, "x-kubernetes-patch-merge-key");
        field.merge = Merge {
            merge: strategies.clone().any(|one| one == "merge"),
            replace: strategies.clone().any(|one| one == "replace"),
            retain_keys: strategies.any(|one| one == "retainKeys"),
            key: (!key.is_empty()).then(|| key.to_owned().into()),
        };
        Ok(field)
    }

    /// What a field holds; `inner` is what the elements of its list or map hold.
    fn shape(
        &mut self,
        name: &str,
        schema: &Object,
        path: &str,
        inner: Option<&Shape>,
    ) -> Result<Shape, NotStructural> {
        if schema.contains_key("$ref") {
            return Err(wrong(path, "$ref is not supported"));
        }
        if is_set(schema, "x-kubernetes-int-or-string") {
            return Ok(Shape::IntOrString);
        }
        let open = is_set(schema, "x-kubernetes-preserve-unknown-fields");
        let boxed = inner.cloned().map(Box::new);
        Ok(match (text(schema, "type"), text(schema, "format")) {
            ("string", "byte") => Shape::Bytes,
            ("string", _) => Shape::String,
            ("boolean", _) => Shape::Bool,
            ("integer", "int32") => Shape::Int32,
            ("integer", _) => Shape::Int64,
            ("number", _) => Shape::Float,
            ("array", _) => Shape::List(boxed.ok_or_else(|| wrong(path, "needs items"))?),
            ("object", _) => match (boxed, schema.get("additionalProperties")) {
                (Some(inner), _) => Shape::Map(inner),
                (None, Some(Value::Bool(true))) => Shape::Map(Box::new(Shape::Raw)),
                (None, _) => {
                    let whole = is_set(schema, "x-kubernetes-embedded-resource");
                    Shape::Object(self.object(name, schema, path, whole)?)
                }
            },
            ("", _) if open => Shape::Raw,
            (other, _) => return Err(wrong(path, &format!("unsupported type {other:?}"))),
        })
    }
}

/// The schema of the elements of a list or map, and where it is.
fn elements(schema: &Object) -> Option<(&'static str, &Value)> {
    let part = match text(schema, "type") {
        "array" => "items",
        "object" => "additionalProperties",
        _ => return None,
    };
    let inner = schema.get(part).filter(|inner| part == "items" || inner.is_object());
    inner.map(|inner| (part, inner))
}

/// Whether server-side apply is told more of an element than its shape says.
fn says_more(element: &Field) -> bool {
    element.atomic || element.list != ListType::None || element.element.is_some()
}

fn wrong(path: &str, why: &str) -> NotStructural {
    NotStructural { path: path.to_owned(), why: why.to_owned() }
}

fn text<'a>(schema: &'a Object, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts(schema: &Object, key: &str) -> Vec<Text> {
    let all = schema.get(key).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(|one| one.to_owned().into()).collect()
}

fn is_set(schema: &Object, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn object<'a>(
    schema: &'a Object,
    key: &str,
    path: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, NotStructural> {
    let found = match schema.get(key) {
        None => None,
        Some(Value::Object(found)) => Some(found),
        Some(_) => return Err(wrong(&format!("{path}.{key}"), "must be an object")),
    };
    Ok(found.into_iter().flatten())
}

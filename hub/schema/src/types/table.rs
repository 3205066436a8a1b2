//! The table of facts: `table.txt`, written by `cargo xtask schema`, read once.
//!
//! ```text
//! freewheel-schema 1
//! from MODULE VERSION
//! T NAME [P] [A] [C]      a type; P: it has a protobuf message, A: atomic, C: from a CRD
//! G GROUP VERSION KIND    it is this kind ("-" is the core group)
//! F NAME SHAPE FACTS…     a field, in Go's order; the name "." lays a struct's fields flat
//! ```
//!
//! Shapes: `string bool int32 int64 float64 bytes quantity time microtime duration intstr raw fields strings`,
//! `@TYPE`, `@TYPE|bool`, `@TYPE|strings`, `@TYPE|list`, `[]SHAPE`, `{}SHAPE`, and `*` before what may be absent. Facts: `e` omitempty,
//! `z` omitzero, `p=` protobuf number, `r` required, `s=`/`y=` strategic merge and its key, `l=`/`k=`
//! list type and keys, `m=atomic`, `n=`/`i=` enum of the field or its items, `d=` default.

mod read;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::gvk::{Gvk, Text};

static TEXT: &str = include_str!("table.txt");

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(TEXT));

/// The groups that meta/v1 kinds may be named under: those of any API group.
const META: (&str, &str) = ("meta.k8s.io", "v1");

/// Everything that is known of types.
#[derive(Debug, Default)]
pub struct Table {
    /// How many types come before these: those of the committed table, for one that lies over it.
    below: usize,
    types: Vec<Type>,
    names: HashMap<Text, TypeId>,
    /// By kind: group, version and place.
    kinds: HashMap<Text, Vec<(Text, Text, TypeId)>>,
}

/// A type's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(usize);

/// One struct.
#[derive(Debug)]
pub struct Type {
    /// OpenAPI name: `io.k8s.api.core.v1.Pod`.
    pub name: Text,
    /// It has a protobuf message.
    pub proto: bool,
    /// Server-side apply owns it as a whole.
    pub atomic: bool,
    /// It comes from a CRD: nothing is filled in or left out as Go does it.
    pub crd: bool,
    /// Fields that it does not name are kept as they are.
    pub open: bool,
    /// Server-side apply takes fields that it does not name as they are: it is open, or inside of what is.
    pub free: bool,
    /// Kinds that are this type.
    pub kinds: Vec<Gvk>,
    /// Fields in Go's order, with `.` for flattened structs.
    pub layout: Vec<Arc<Field>>,
    /// Every JSON field, flattened, sorted by name.
    pub fields: Vec<Arc<Field>>,
    /// Fields with a protobuf number, by number.
    pub wire: Vec<Arc<Field>>,
    /// Fields that Go writes even when they were never set.
    pub always: Vec<Arc<Field>>,
    /// Fields that Go writes as null when they were never set. What is canonical leaves them out; who owns what of an
    /// object is told as if they were there.
    pub nulls: Vec<Arc<Field>>,
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// JSON name.
    pub name: Text,
    /// What it holds.
    pub shape: Shape,
    /// Go holds it by pointer: absent and zero differ.
    pub pointer: bool,
    /// Go leaves it out when empty.
    pub omit_empty: bool,
    /// Go leaves it out when zero, structs included.
    pub omit_zero: bool,
    /// OpenAPI calls it required.
    pub required: bool,
    /// Protobuf number, 0 when it has none.
    pub number: u32,
    /// Strategic merge.
    pub merge: Merge,
    /// Server-side apply.
    pub list: ListType,
    /// A map or struct that server-side apply owns as a whole.
    pub atomic: bool,
    /// What server-side apply is told of the elements of its list or map, where that is more than their shape.
    pub element: Option<Arc<Field>>,
    /// Allowed values.
    pub values: Vec<Text>,
    /// Allowed values of a list's items.
    pub item_values: Vec<Text>,
    /// What it is when it is absent.
    pub default: Option<Value>,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// Lists merge instead of being replaced.
    pub merge: bool,
    /// Maps are replaced instead of being merged.
    pub replace: bool,
    /// `$retainKeys` is expected.
    pub retain_keys: bool,
    /// What tells list elements apart.
    pub key: Option<Text>,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Says nothing, or no list.
    #[default]
    None,
    /// Owned as a whole.
    Atomic,
    /// Each value is owned.
    Set,
    /// Each element is owned, told apart by these keys.
    Map(Vec<Text>),
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text.
    String,
    /// True or false.
    Bool,
    /// 32 bit integer.
    Int32,
    /// 64 bit integer.
    Int64,
    /// Number.
    Float,
    /// Bytes, base64 in JSON.
    Bytes,
    /// resource.Quantity
    Quantity,
    /// meta/v1 Time
    Time,
    /// meta/v1 MicroTime
    MicroTime,
    /// meta/v1 Duration: text, and nanoseconds in protobuf.
    Duration,
    /// intstr.IntOrString
    IntOrString,
    /// runtime.RawExtension: any object.
    Raw,
    /// meta/v1 FieldsV1: any object.
    Fields,
    /// A list of strings that is a message of its own in protobuf.
    Strings,
    /// A struct.
    Object(TypeId),
    /// A struct, or something simpler in its place.
    Either(TypeId, Simple),
    /// A list.
    List(Box<Shape>),
    /// A map from strings.
    Map(Box<Shape>),
}

/// What may stand in a struct's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simple {
    /// Whether anything may be there, or nothing.
    Bool,
    /// A list of strings.
    Strings,
    /// A list of such structs.
    Structs,
}

/// The table.
#[must_use]
pub fn table() -> &'static Table {
    &TABLE
}

/// The type of a kind. Kinds of meta/v1 (Status, DeleteOptions, WatchEvent, …) are found under any
/// group and version.
#[must_use]
pub fn find(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    TABLE.find(group, version, kind)
}

impl Table {
    /// Types that lie over the committed ones: their places follow on those ([`Table::place_over`]).
    pub(super) fn over(types: Vec<Type>) -> Self {
        Self { below: TABLE.types.len(), types, ..Self::default() }
    }

    /// The place that the type has that comes after this many in a table over the committed one.
    pub(super) fn place_over(after: usize) -> TypeId {
        TypeId(TABLE.types.len() + after)
    }

    /// The place of a type, by its OpenAPI name.
    pub(super) fn place(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// The type at a place.
    #[must_use]
    pub fn at(&self, id: TypeId) -> &Type {
        // Ids are only made while reading, for types that are there.
        match id.0.checked_sub(self.below) {
            Some(place) => &self.types[place],
            None => &TABLE.types[id.0],
        }
    }

    /// A type by its OpenAPI name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Type> {
        self.names.get(name).map(|id| self.at(*id))
    }

    /// The type of a kind.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, kind: &str) -> Option<&Type> {
        let all = self.kinds.get(kind)?;
        let of = |group: &str, version: &str| {
            all.iter().find(|(g, v, _)| g == group && v == version).map(|(_, _, id)| *id)
        };
        let id = of(group, version).or_else(|| {
            // PartialObjectMetadata is a kind of its own group only.
            of(META.0, META.1).filter(|_| !kind.starts_with("Partial") || group == META.0)
        });
        id.map(|id| self.at(id))
    }

    /// Every type, sorted by name.
    #[must_use]
    pub fn types(&self) -> &[Type] {
        &self.types
    }
}

impl Type {
    /// One of which nothing is known beside its name.
    pub(super) fn new(name: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            proto: false,
            atomic: false,
            crd: false,
            open: false,
            free: false,
            kinds: Vec::new(),
            layout: Vec::new(),
            fields: Vec::new(),
            wire: Vec::new(),
            always: Vec::new(),
            nulls: Vec::new(),
        }
    }

    /// A field by its JSON name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        let found = self.fields.binary_search_by(|field| (*field.name).cmp(name));
        found.ok().and_then(|place| self.fields.get(place)).map(|field| &**field)
    }

    /// A field by its protobuf number.
    #[must_use]
    pub fn by_number(&self, number: u32) -> Option<&Field> {
        let found = self.wire.binary_search_by(|field| field.number.cmp(&number));
        found.ok().and_then(|place| self.wire.get(place)).map(|field| &**field)
    }

    /// `Pod`
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// It is a kind of meta/v1.
    #[must_use]
    pub fn is_meta(&self) -> bool {
        self.kinds.iter().any(|gvk| gvk.group == META.0)
    }
}

impl Field {
    /// One of which nothing is known beside its name and what it holds.
    pub(super) fn new(name: impl Into<Text>, shape: Shape) -> Self {
        Self {
            name: name.into(),
            shape,
            pointer: false,
            omit_empty: false,
            omit_zero: false,
            required: false,
            number: 0,
            merge: Merge::default(),
            list: ListType::None,
            atomic: false,
            element: None,
            values: Vec::new(),
            item_values: Vec::new(),
            default: None,
        }
    }
}

impl Simple {
    /// As Go names it behind the struct that it stands for: `JSONSchemaPropsOrBool`.
    #[must_use]
    pub const fn go_name(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::Strings => "StringArray",
            Self::Structs => "Array",
        }
    }
}

impl Table {
    /// As Go names a shape in its errors: `[]v1.Container`.
    #[must_use]
    pub fn go_name(&self, shape: &Shape) -> String {
        let scalar = match shape {
            Shape::String => "string",
            Shape::Bool => "bool",
            Shape::Int32 => "int32",
            Shape::Int64 => "int64",
            Shape::Float => "float64",
            Shape::Bytes => "[]uint8",
            Shape::Quantity => "resource.Quantity",
            Shape::Time => "v1.Time",
            Shape::MicroTime => "v1.MicroTime",
            Shape::Duration => "v1.Duration",
            Shape::IntOrString => "intstr.IntOrString",
            Shape::Raw => "runtime.RawExtension",
            Shape::Fields => "v1.FieldsV1",
            Shape::Strings => "[]string",
            Shape::Object(id) => {
                let mut parts = self.at(*id).name.rsplit('.');
                let (name, package) = (parts.next(), parts.next());
                return format!("{}.{}", package.unwrap_or_default(), name.unwrap_or_default());
            }
            Shape::Either(id, simple) => {
                return format!("{}Or{}", self.go_name(&Shape::Object(*id)), simple.go_name());
            }
            Shape::List(inner) => return format!("[]{}", self.go_name(inner)),
            Shape::Map(inner) => return format!("map[string]{}", self.go_name(inner)),
        };
        scalar.to_owned()
    }
}

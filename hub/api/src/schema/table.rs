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
//! Shapes: `string bool int32 int64 float64 bytes quantity time microtime intstr raw fields strings`,
//! `@TYPE`, `[]SHAPE`, `{}SHAPE`, and `*` before what may be absent. Facts: `e` omitempty,
//! `z` omitzero, `p=` protobuf number, `r` required, `s=`/`y=` strategic merge and its key, `l=`/`k=`
//! list type and keys, `m=atomic`, `n=`/`i=` enum of the field or its items, `d=` default.

mod read;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

static TEXT: &str = include_str!("table.txt");

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(TEXT));

/// The groups that meta/v1 kinds may be named under: those of any API group.
const META: (&str, &str) = ("meta.k8s.io", "v1");

/// Everything that is known of types.
#[derive(Debug, Default)]
pub struct Table {
    types: Vec<Type>,
    names: HashMap<&'static str, TypeId>,
    kinds: HashMap<(&'static str, &'static str, &'static str), TypeId>,
}

/// A type's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(usize);

/// One struct.
#[derive(Debug)]
pub struct Type {
    /// OpenAPI name: `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// It has a protobuf message.
    pub proto: bool,
    /// Server-side apply owns it as a whole.
    pub atomic: bool,
    /// It comes from a CRD: nothing is filled in or left out as Go does it.
    pub crd: bool,
    /// Kinds that are this type: group, version, kind.
    pub kinds: Vec<(&'static str, &'static str, &'static str)>,
    /// Fields in Go's order, with `.` for flattened structs.
    pub layout: Vec<&'static Field>,
    /// Every JSON field, flattened, sorted by name.
    pub fields: Vec<&'static Field>,
    /// Fields with a protobuf number, by number.
    pub wire: Vec<&'static Field>,
    /// Fields that Go writes even when they were never set.
    pub always: Vec<&'static Field>,
}

/// One field.
#[derive(Clone, Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
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
    /// Allowed values.
    pub values: Vec<&'static str>,
    /// Allowed values of a list's items.
    pub item_values: Vec<&'static str>,
    /// Default as JSON text.
    pub default: Option<&'static str>,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// Lists merge instead of being replaced.
    pub merge: bool,
    /// Maps are replaced instead of being merged.
    pub replace: bool,
    /// `$retainKeys` is expected.
    pub retain_keys: bool,
    /// What tells list elements apart.
    pub key: Option<&'static str>,
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
    Map(Vec<&'static str>),
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
    /// A list.
    List(Box<Shape>),
    /// A map from strings.
    Map(Box<Shape>),
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

/// Splits `apps/v1` into group and version; core has the empty group.
#[must_use]
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

impl Table {
    /// The type at a place.
    #[must_use]
    pub fn at(&self, id: TypeId) -> &Type {
        // Ids are only made while reading, for types that are there.
        &self.types[id.0]
    }

    /// A type by its OpenAPI name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Type> {
        self.names.get(name).map(|id| self.at(*id))
    }

    /// The type of a kind.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, kind: &str) -> Option<&Type> {
        let id = self.kinds.get(&(group, version, kind)).or_else(|| {
            // PartialObjectMetadata is a kind of its own group only.
            let meta = self.kinds.get(&(META.0, META.1, kind));
            meta.filter(|_| !kind.starts_with("Partial") || group == META.0)
        });
        id.map(|id| self.at(*id))
    }

    /// Every type, sorted by name.
    #[must_use]
    pub fn types(&self) -> &[Type] {
        &self.types
    }
}

impl Type {
    /// A field by its JSON name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        let found = self.fields.binary_search_by(|field| field.name.cmp(name));
        found.ok().and_then(|place| self.fields.get(place).copied())
    }

    /// A field by its protobuf number.
    #[must_use]
    pub fn by_number(&self, number: u32) -> Option<&'static Field> {
        let found = self.wire.binary_search_by(|field| field.number.cmp(&number));
        found.ok().and_then(|place| self.wire.get(place).copied())
    }

    /// `Pod`
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// It is a kind of meta/v1.
    #[must_use]
    pub fn is_meta(&self) -> bool {
        self.kinds.iter().any(|(group, _, _)| *group == META.0)
    }
}

impl Field {
    /// The default as a value.
    #[must_use]
    pub fn default_value(&self) -> Option<Value> {
        serde_json::from_str(self.default?).ok()
    }
}

impl Shape {
    /// As Go names it in its errors: `[]v1.Container`.
    #[must_use]
    pub fn go_name(&self) -> String {
        match self {
            Self::String => "string".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Int32 => "int32".to_owned(),
            Self::Int64 => "int64".to_owned(),
            Self::Float => "float64".to_owned(),
            Self::Bytes => "[]uint8".to_owned(),
            Self::Quantity => "resource.Quantity".to_owned(),
            Self::Time => "v1.Time".to_owned(),
            Self::MicroTime => "v1.MicroTime".to_owned(),
            Self::IntOrString => "intstr.IntOrString".to_owned(),
            Self::Raw => "runtime.RawExtension".to_owned(),
            Self::Fields => "v1.FieldsV1".to_owned(),
            Self::Strings => "[]string".to_owned(),
            Self::Object(id) => {
                let mut parts = TABLE.at(*id).name.rsplit('.');
                let (name, package) = (parts.next(), parts.next());
                format!("{}.{}", package.unwrap_or_default(), name.unwrap_or_default())
            }
            Self::List(inner) => format!("[]{}", inner.go_name()),
            Self::Map(inner) => format!("map[string]{}", inner.go_name()),
        }
    }
}

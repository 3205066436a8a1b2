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

    fn read(text: &'static str) -> Self {
        let mut table = Self::default();
        let names = text.lines().filter_map(|line| line.strip_prefix("T "));
        for (place, line) in names.enumerate() {
            let name = line.split(' ').next().unwrap_or_default();
            table.names.insert(name, TypeId(place));
        }
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("T", rest)) => table.types.push(Type::read(rest)),
                Some(("G", rest)) => table.kind(rest),
                Some(("F", rest)) => {
                    let field = Field::read(rest, &table.names);
                    if let (Some(field), Some(owner)) = (field, table.types.last_mut()) {
                        owner.layout.push(field);
                    }
                }
                _ => {}
            }
        }
        table.index();
        table
    }

    fn kind(&mut self, rest: &'static str) {
        let mut parts = rest.split(' ');
        let (Some(group), Some(version), Some(kind)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let group = if group == "-" { "" } else { group };
        let Some(place) = self.types.len().checked_sub(1) else { return };
        self.types[place].kinds.push((group, version, kind));
        self.kinds.insert((group, version, kind), TypeId(place));
    }

    /// Fills in what is derived from the layouts.
    fn index(&mut self) {
        for place in 0..self.types.len() {
            let mut fields = Vec::new();
            self.flatten(TypeId(place), &mut fields);
            fields.sort_by_key(|field| field.name);
            let one = &mut self.types[place];
            one.wire = one.layout.iter().copied().filter(|field| field.number != 0).collect();
            one.wire.sort_by_key(|field| field.number);
            if !one.crd {
                one.always = fields.iter().copied().filter(|field| field.is_always()).collect();
            }
            one.fields = fields;
        }
    }

    fn flatten(&self, id: TypeId, out: &mut Vec<&'static Field>) {
        for field in &self.at(id).layout {
            match (&field.shape, field.name) {
                (Shape::Object(inner), ".") => self.flatten(*inner, out),
                _ => out.push(field),
            }
        }
    }
}

impl Type {
    fn read(line: &'static str) -> Self {
        let mut parts = line.split(' ');
        let name = parts.next().unwrap_or_default();
        let mut one = Self {
            name,
            proto: false,
            atomic: false,
            crd: false,
            kinds: Vec::new(),
            layout: Vec::new(),
            fields: Vec::new(),
            wire: Vec::new(),
            always: Vec::new(),
        };
        for flag in parts {
            match flag {
                "P" => one.proto = true,
                "A" => one.atomic = true,
                "C" => one.crd = true,
                _ => {}
            }
        }
        one
    }

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
    fn read(line: &'static str, names: &HashMap<&'static str, TypeId>) -> Option<&'static Self> {
        let (line, default) = match line.split_once(" d=") {
            Some((line, default)) => (line, Some(default)),
            None => (line, None),
        };
        let mut parts = line.split(' ');
        let name = parts.next()?;
        let shape = parts.next()?;
        let mut field = Self {
            name,
            shape: Shape::read(shape, names)?,
            pointer: shape.starts_with('*'),
            omit_empty: false,
            omit_zero: false,
            required: false,
            number: 0,
            merge: Merge::default(),
            list: ListType::None,
            atomic: false,
            values: Vec::new(),
            item_values: Vec::new(),
            default,
        };
        for part in parts {
            field.fact(part);
        }
        // The table lives as long as the process, so its fields may.
        Some(Box::leak(Box::new(field)))
    }

    fn fact(&mut self, part: &'static str) {
        match part.split_once('=').unwrap_or((part, "")) {
            ("e", _) => self.omit_empty = true,
            ("z", _) => self.omit_zero = true,
            ("r", _) => self.required = true,
            ("p", number) => self.number = number.parse().unwrap_or_default(),
            ("s", strategies) => {
                for strategy in strategies.split('+') {
                    match strategy {
                        "merge" => self.merge.merge = true,
                        "replace" => self.merge.replace = true,
                        "retainKeys" => self.merge.retain_keys = true,
                        _ => {}
                    }
                }
            }
            ("y", key) => self.merge.key = Some(key),
            ("l", "atomic") => self.list = ListType::Atomic,
            ("l", "set") => self.list = ListType::Set,
            ("k", keys) => self.list = ListType::Map(keys.split('|').collect()),
            ("m", _) => self.atomic = true,
            ("n", values) => self.values = values.split('|').collect(),
            ("i", values) => self.item_values = values.split('|').collect(),
            _ => {}
        }
    }

    /// Go writes it even when it was never set.
    fn is_always(&self) -> bool {
        if self.pointer || self.omit_zero || self.name == "." {
            return false;
        }
        match self.shape {
            // omitempty does not reach structs.
            Shape::Object(_) | Shape::Quantity => true,
            // Of lists and maps Go writes null, which some clients refuse; ours are empty.
            Shape::String
            | Shape::Bool
            | Shape::Int32
            | Shape::Int64
            | Shape::Float
            | Shape::List(_)
            | Shape::Map(_)
            | Shape::Strings => !self.omit_empty,
            _ => false,
        }
    }

    /// The default as a value.
    #[must_use]
    pub fn default_value(&self) -> Option<Value> {
        serde_json::from_str(self.default?).ok()
    }
}

impl Shape {
    fn read(text: &str, names: &HashMap<&'static str, TypeId>) -> Option<Self> {
        let text = text.strip_prefix('*').unwrap_or(text);
        if let Some(inner) = text.strip_prefix("[]") {
            return Some(Self::List(Box::new(Self::read(inner, names)?)));
        }
        if let Some(inner) = text.strip_prefix("{}") {
            return Some(Self::Map(Box::new(Self::read(inner, names)?)));
        }
        if let Some(name) = text.strip_prefix('@') {
            return names.get(name).map(|id| Self::Object(*id));
        }
        Some(match text {
            "string" => Self::String,
            "bool" => Self::Bool,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float,
            "bytes" => Self::Bytes,
            "quantity" => Self::Quantity,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "intstr" => Self::IntOrString,
            "raw" => Self::Raw,
            "fields" => Self::Fields,
            "strings" => Self::Strings,
            _ => return None,
        })
    }

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

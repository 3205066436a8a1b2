//! What is known of a type, whoever knows it: the committed table, or a schema that came with its kind.
//!
//! ```text
//! Typed { group, version, kind } ─▶ TypeFacts ─▶ fields ─▶ TypeFacts of what is inside
//!   canonical form, defaults, strategic merge, protobuf, OpenAPI: each one walk over these
//! ```
//!
//! Facts are data of one form, whatever they were read from, and no trait: the walks ask for each field of each
//! object, where a call through a table of functions would cost more than the answer.

use std::ops::Deref;

use super::table::{self, Shape, Table, Type, TypeId, table};

/// A type, and where the types of its fields are found. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct TypeFacts<'a> {
    table: &'a Table,
    one: &'a Type,
}

impl<'a> TypeFacts<'a> {
    /// What a table knows of one of its types.
    pub(super) fn of(table: &'a Table, id: TypeId) -> Self {
        Self { table, one: table.at(id) }
    }

    /// What the committed table knows of a kind.
    #[must_use]
    pub fn find(group: &str, version: &str, kind: &str) -> Option<TypeFacts<'static>> {
        Some(TypeFacts { table: table(), one: table::find(group, version, kind)? })
    }

    /// What the committed table knows by an OpenAPI name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<TypeFacts<'static>> {
        Some(TypeFacts { table: table(), one: table().by_name(name)? })
    }

    /// A type that fields of this one are of.
    #[must_use]
    pub fn at(self, id: TypeId) -> Self {
        Self { table: self.table, one: self.table.at(id) }
    }

    /// The struct in a field, or in the elements of its list or map.
    #[must_use]
    pub fn inside(self, shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Object(id) | Shape::Either(id, _) => Some(self.at(*id)),
            Shape::List(inner) | Shape::Map(inner) => self.inside(inner),
            _ => None,
        }
    }

    /// As Go names the shape of one of its fields.
    #[must_use]
    pub fn go_name(self, shape: &Shape) -> String {
        self.table.go_name(shape)
    }

    /// The type itself.
    #[must_use]
    pub fn of_type(self) -> &'a Type {
        self.one
    }
}

impl Deref for TypeFacts<'_> {
    type Target = Type;

    fn deref(&self) -> &Type {
        self.one
    }
}

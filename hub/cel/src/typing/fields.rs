//! What objects have, by the facts of their types. A field is what evaluation sees of it, whatever its schema calls it: what
//! is text or a number, as somebody likes, may be anything.

use std::collections::BTreeMap;

use freewheel_hub_schema::types::TypeFacts;
use freewheel_hub_schema::types::table::Shape;

use super::value_type::Type;

/// What has fields and is no type of the API.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// As messages call it.
    pub name: &'static str,
    /// What it has.
    pub fields: BTreeMap<String, Type<'a>>,
}

/// What comes of the name of a field.
pub(super) enum Selected<'a> {
    Field(Type<'a>),
    /// It has no such field.
    Undefined,
    /// It has no fields.
    NoObject,
}

/// What a field of a value is.
pub(super) fn select<'a>(of: &Type<'a>, field: &str) -> Selected<'a> {
    let found = match of {
        Type::Dyn | Type::Free | Type::Param(_) => Some(Type::Dyn),
        Type::Map(_, value) => Some((**value).clone()),
        Type::Record(record) => record.fields.get(field).cloned(),
        Type::Object(facts) => of_facts(*facts, field),
        Type::Null
        | Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Text
        | Type::Bytes
        | Type::Timestamp
        | Type::Duration
        | Type::Of(_)
        | Type::List(_)
        | Type::Optional(_)
        | Type::Opaque(_) => return Selected::NoObject,
    };
    // Names that are no words of the language are said in another way (`a__dash__b`), here or where it is evaluated.
    let escaped = || field.contains("__").then_some(Type::Dyn);
    found.or_else(escaped).map_or(Selected::Undefined, Selected::Field)
}

fn of_facts<'a>(facts: TypeFacts<'a>, field: &str) -> Option<Type<'a>> {
    match facts.field(field) {
        Some(found) => Some(of_shape(facts, &found.shape)),
        None => facts.open.then_some(Type::Dyn),
    }
}

fn of_shape<'a>(owner: TypeFacts<'a>, shape: &Shape) -> Type<'a> {
    match shape {
        Shape::String if owner.crd => Type::Text,
        Shape::String => Type::String,
        Shape::Bool => Type::Bool,
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Strings => Type::list(Type::String),
        Shape::Object(id) => Type::Object(owner.at(*id)),
        Shape::List(of) => Type::list(of_shape(owner, of)),
        Shape::Map(of) => Type::map(Type::String, of_shape(owner, of)),
        Shape::Float
        | Shape::Bytes
        | Shape::Quantity
        | Shape::Time
        | Shape::MicroTime
        | Shape::Duration
        | Shape::IntOrString
        | Shape::Raw
        | Shape::Fields
        | Shape::Either(..) => Type::Dyn,
    }
}

//! What a value may be, as far as that is known before there is one, and which types agree.
//!
//! Guarantees:
//! - a type has a bound, however deep what it is the type of is, and costs nothing to copy (`types_stay_small`).

use std::fmt;
use std::sync::Arc;

use freewheel_hub_schema::types::TypeFacts;

use super::fields::Record;

/// Levels of lists, maps and what may be absent that are known of a type. What is deeper may be anything.
const LEVELS_MAX: usize = 32;

/// What a value may be.
#[derive(Clone, Debug)]
pub enum Type<'a> {
    /// Anything: evaluation knows.
    Dyn,
    /// Nothing has said it yet: what the elements of `[]` are.
    Free,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// A text whose schema may call it a time, a duration or bytes: the facts of its type do not say.
    Text,
    /// `bytes`
    Bytes,
    /// `timestamp`
    Timestamp,
    /// `duration`
    Duration,
    /// What `type(x)` answers.
    Of(Arc<Type<'a>>),
    /// `list(A)`
    List(Arc<Type<'a>>),
    /// `map(A, B)`
    Map(Arc<Type<'a>>, Arc<Type<'a>>),
    /// `optional_type(A)`
    Optional(Arc<Type<'a>>),
    /// What only functions make sense of.
    Opaque(&'static str),
    /// An object whose fields are known.
    Object(TypeFacts<'a>),
    /// The same, of what is no type of the API.
    Record(Arc<Record<'a>>),
    /// What a signature leaves open: the first thing or the second.
    Param(usize),
}

impl<'a> Type<'a> {
    /// A list of these.
    #[must_use]
    pub fn list(of: Self) -> Self {
        Self::List(of.inside())
    }

    /// A map of these. What cannot be a key may be anything.
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        let is_key = matches!(
            key,
            Type::Bool
                | Type::Int
                | Type::Uint
                | Type::String
                | Type::Text
                | Type::Free
                | Type::Param(_)
        );
        Self::Map(Arc::new(if is_key { key } else { Type::Dyn }), value.inside())
    }

    /// One of these, or nothing.
    #[must_use]
    pub fn optional(of: Self) -> Self {
        Self::Optional(of.inside())
    }

    /// What `type(x)` answers of one of these.
    pub(super) fn of(of: Self) -> Self {
        Self::Of(of.inside())
    }

    /// As it is known inside of another.
    fn inside(self) -> Arc<Self> {
        Arc::new(if self.levels() + 1 < LEVELS_MAX { self } else { Type::Dyn })
    }

    /// How many levels are known of it. Keys have none.
    #[must_use]
    pub fn levels(&self) -> usize {
        let (mut levels, mut of) = (0, self);
        while let Type::List(inner)
        | Type::Map(_, inner)
        | Type::Optional(inner)
        | Type::Of(inner) = of
        {
            levels += 1;
            of = inner;
        }
        levels
    }

    /// What the value of a variable (`variables.NAME`) is known to be where it is used: as upstream, an object may be
    /// anything there.
    #[must_use]
    pub fn of_variable(&self) -> Self {
        match self {
            Type::List(of) => Type::list(of.of_variable()),
            Type::Map(key, value) => Type::map(key.of_variable(), value.of_variable()),
            plain @ (Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Text
            | Type::Bytes
            | Type::Timestamp
            | Type::Duration) => plain.clone(),
            Type::Dyn
            | Type::Free
            | Type::Null
            | Type::Of(_)
            | Type::Optional(_)
            | Type::Opaque(_)
            | Type::Object(_)
            | Type::Record(_)
            | Type::Param(_) => Type::Dyn,
        }
    }

    /// Whether `null` may stand in its place.
    fn is_nullable(&self) -> bool {
        matches!(
            self,
            Type::Null
                | Type::Optional(_)
                | Type::Opaque(_)
                | Type::Object(_)
                | Type::Record(_)
                | Type::Timestamp
                | Type::Duration
                | Type::Text
        )
    }

    /// It has fields, and evaluation takes it for a map.
    fn is_object(&self) -> bool {
        matches!(self, Type::Object(_) | Type::Record(_) | Type::Map(..))
    }

    fn may_be_text(&self) -> bool {
        matches!(self, Type::String | Type::Text | Type::Bytes | Type::Timestamp | Type::Duration)
    }
}

/// What both are, or nothing, where no value is both.
pub(super) fn join<'a>(one: &Type<'a>, other: &Type<'a>) -> Option<Type<'a>> {
    Some(match (one, other) {
        (Type::Dyn, _) | (_, Type::Dyn) => Type::Dyn,
        (Type::Free, it) | (it, Type::Free) => it.clone(),
        (Type::Null, it) | (it, Type::Null) if it.is_nullable() => it.clone(),
        (Type::Text, it) | (it, Type::Text) if it.may_be_text() => it.clone(),
        (Type::Of(a), Type::Of(b)) => Type::of(join(a, b).unwrap_or(Type::Dyn)),
        (Type::List(a), Type::List(b)) => Type::list(join(a, b)?),
        (Type::Optional(a), Type::Optional(b)) => Type::optional(join(a, b)?),
        (Type::Map(key, value), Type::Map(other_key, other_value)) => {
            Type::map(join(key, other_key)?, join(value, other_value)?)
        }
        (Type::Object(a), Type::Object(b)) if a.name == b.name => Type::Object(*a),
        (Type::Opaque(a), Type::Opaque(b)) => (a == b).then(|| one.clone())?,
        (one, other) if one.is_object() && other.is_object() => Type::Dyn,
        (one, other) => {
            let same = std::mem::discriminant(one) == std::mem::discriminant(other);
            same.then(|| one.clone())?
        }
    })
}

/// As mistakes call it. What an expression comes to (`{:#}`) has the long names of protobuf, as upstream.
impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = f.alternate();
        let name = match self {
            Type::Dyn | Type::Free => "dyn",
            Type::Null if long => "null_type",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String | Type::Text => "string",
            Type::Bytes => "bytes",
            Type::Timestamp if long => "google.protobuf.Timestamp",
            Type::Timestamp => "timestamp",
            Type::Duration if long => "google.protobuf.Duration",
            Type::Duration => "duration",
            Type::Of(of) => return of_others(f, "type", &[of]),
            Type::List(of) => return of_others(f, "list", &[of]),
            Type::Map(key, value) => return of_others(f, "map", &[key, value]),
            Type::Optional(of) => return of_others(f, "optional_type", &[of]),
            Type::Opaque(name) => name,
            Type::Object(facts) => facts.short_name(),
            Type::Record(record) => record.name,
            Type::Param(place) => return write!(f, "_var{place}"),
        };
        f.write_str(name)
    }
}

/// `map(string, int)`
fn of_others(f: &mut fmt::Formatter<'_>, name: &str, others: &[&Type<'_>]) -> fmt::Result {
    f.write_str(name)?;
    for (place, other) in others.iter().enumerate() {
        f.write_str(if place == 0 { "(" } else { ", " })?;
        fmt::Display::fmt(other, f)?;
    }
    f.write_str(")")
}

//! What a type is to a merge: a scalar, a list or a map, and who owns what is inside.
//!
//! ```text
//! field or element of a type ─ resolve ─▶ Atom ─ deduce, by a value ─▶ Form
//! ```
//!
//! Of a value that no schema says anything of, maps are owned by key and lists as a whole.

use std::sync::LazyLock;

use freewheel_hub_schema::gvk::Text;
use freewheel_hub_schema::types::TypeFacts;
use freewheel_hub_schema::types::table::{Field, ListType, Shape};
use serde_json::Value;

/// Where the type of a value is said.
#[derive(Clone, Copy)]
pub(crate) enum TypeRef<'a> {
    /// An object of this type.
    Object(TypeFacts<'a>),
    /// A field of this type.
    Field(TypeFacts<'a>, &'a Field),
    /// An element of a list or map in a field of this type.
    Element(TypeFacts<'a>, &'a Shape),
    /// Nowhere: maps are owned by key.
    Deduced,
    /// Nowhere, and it is owned as a whole.
    Untyped,
    /// There is no such field.
    Unknown,
}

/// All that a value may be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Atom<'a> {
    pub(crate) map: Option<MapAtom<'a>>,
    scalar: Option<Scalar>,
    pub(crate) list: Option<ListAtom<'a>>,
}

/// A map or struct.
#[derive(Clone, Copy)]
pub(crate) struct MapAtom<'a> {
    fields: Option<TypeFacts<'a>>,
    pub(crate) element: TypeRef<'a>,
    /// It is owned as a whole.
    pub(crate) atomic: bool,
}

/// A list.
#[derive(Clone, Copy)]
pub(crate) struct ListAtom<'a> {
    pub(crate) element: TypeRef<'a>,
    /// It is owned as a whole.
    pub(crate) atomic: bool,
    /// What tells its elements apart; nothing where they are values.
    pub(crate) keys: &'a [Text],
}

/// A value without anything inside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Numeric,
    String,
    Boolean,
    Untyped,
}

/// What a value is taken for.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    Map(MapAtom<'a>),
    Scalar(Scalar),
    List(ListAtom<'a>),
    Nothing,
}

impl<'a> TypeRef<'a> {
    /// What a value of this type may be.
    pub(crate) fn resolve(self) -> Atom<'a> {
        let whole = |atomic| Atom {
            map: Some(MapAtom {
                fields: None,
                element: if atomic { self } else { Self::Deduced },
                atomic,
            }),
            scalar: Some(Scalar::Untyped),
            list: Some(ListAtom { element: Self::Untyped, atomic: true, keys: &[] }),
        };
        match self {
            Self::Object(facts) => Atom::of_object(facts, false),
            Self::Field(owner, field) => Atom::of_shape(owner, &field.shape, Some(field))
                .unwrap_or_else(|| whole(!owner.crd)),
            Self::Element(owner, shape) => {
                Atom::of_shape(owner, shape, None).unwrap_or_else(|| whole(!owner.crd))
            }
            Self::Deduced => whole(false),
            Self::Untyped => whole(true),
            Self::Unknown => Atom::default(),
        }
    }
}

impl<'a> Atom<'a> {
    fn of_object(facts: TypeFacts<'a>, atomic: bool) -> Self {
        let one = facts.of_type();
        // A struct without fields is free.
        let free = one.free || one.fields.is_empty();
        let element = if free { TypeRef::Deduced } else { TypeRef::Unknown };
        let atomic = atomic || one.atomic;
        Self { map: Some(MapAtom { fields: Some(facts), element, atomic }), ..Self::default() }
    }

    /// Nothing where the shape says nothing.
    fn of_shape(owner: TypeFacts<'a>, shape: &'a Shape, field: Option<&'a Field>) -> Option<Self> {
        let scalar = |scalar| Self { scalar: Some(scalar), ..Self::default() };
        let atomic = field.is_some_and(|field| field.atomic);
        let element = |inner: &'a Shape| match field.and_then(|field| field.element.as_deref()) {
            Some(said) => TypeRef::Field(owner, said),
            None => TypeRef::Element(owner, inner),
        };
        Some(match shape {
            Shape::Raw | Shape::Either(..) => return None,
            // What a schema of its own calls so has no type there: only the check of the value says what it may be.
            Shape::IntOrString if owner.crd => return None,
            Shape::String | Shape::Bytes | Shape::Duration => scalar(Scalar::String),
            Shape::Bool => scalar(Scalar::Boolean),
            Shape::Int32 | Shape::Int64 | Shape::Float => scalar(Scalar::Numeric),
            Shape::Quantity | Shape::Time | Shape::MicroTime | Shape::IntOrString => {
                scalar(Scalar::Untyped)
            }
            Shape::Object(id) => Self::of_object(owner.at(*id), atomic),
            Shape::Map(inner) => {
                let map = MapAtom { fields: None, element: element(inner), atomic };
                Self { map: Some(map), ..Self::default() }
            }
            Shape::Fields => {
                let map = MapAtom { fields: None, element: TypeRef::Deduced, atomic };
                Self { map: Some(map), ..Self::default() }
            }
            Shape::List(inner) => Self::of_list(element(inner), field),
            Shape::Strings => Self::of_list(TypeRef::Untyped, field),
        })
    }

    fn of_list(element: TypeRef<'a>, field: Option<&'a Field>) -> Self {
        let (atomic, keys): (bool, &[Text]) = match field.map(|field| &field.list) {
            None | Some(ListType::None | ListType::Atomic) => (true, &[]),
            Some(ListType::Set) => (false, &[]),
            Some(ListType::Map(keys)) => (false, keys),
        };
        Self { list: Some(ListAtom { element, atomic, keys }), ..Self::default() }
    }

    /// What it is by a value; all that it may be for null, and for what it may not be.
    pub(crate) fn deduce(self, value: Option<&Value>) -> Self {
        match value {
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if self.scalar.is_some() => {
                Self { scalar: self.scalar, ..Self::default() }
            }
            Some(Value::Array(_)) if self.list.is_some() => {
                Self { list: self.list, ..Self::default() }
            }
            Some(Value::Object(_)) if self.map.is_some() => {
                Self { map: self.map, ..Self::default() }
            }
            Some(_) | None => self,
        }
    }

    /// Whether both are taken for the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let parts = |atom: &Self| (atom.map.is_some(), atom.scalar.is_some(), atom.list.is_some());
        parts(self) == parts(other)
    }

    /// What a walk takes it for.
    pub(crate) fn form(&self) -> Form<'a> {
        match (self.map, self.scalar, self.list) {
            (Some(map), _, _) => Form::Map(map),
            (None, Some(scalar), _) => Form::Scalar(scalar),
            (None, None, Some(list)) => Form::List(list),
            (None, None, None) => Form::Nothing,
        }
    }
}

impl<'a> MapAtom<'a> {
    /// It has no fields, and anything under a key.
    pub(crate) fn is_deduced(&self) -> bool {
        let named = self.fields.is_some_and(|facts| !facts.of_type().fields.is_empty());
        !named && matches!(self.element, TypeRef::Deduced)
    }

    /// The named field.
    pub(crate) fn field(&self, name: &str) -> Option<TypeRef<'a>> {
        let facts = self.fields?;
        facts.of_type().field(name).map(|field| TypeRef::Field(facts, field))
    }

    /// Whether Go writes a field even when it was never set.
    pub(crate) fn is_always_there(&self, name: &str) -> bool {
        let always = self.fields.map(|facts| &facts.of_type().always);
        always.into_iter().flatten().any(|field| field.name == name)
    }

    /// What a field that is absent is to Go, where it is something.
    pub(crate) fn absent(&self, name: &str) -> Option<&'static Value> {
        self.unset().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The fields that are something to Go when they are absent: null, or a port of 0.
    pub(crate) fn unset(&self) -> impl Iterator<Item = (&'a str, &'static Value)> + use<'a> {
        static ZERO: LazyLock<Value> = LazyLock::new(|| Value::from(0));
        let fields = self.fields.map(|facts| &facts.of_type().nulls);
        fields.into_iter().flatten().map(|field| {
            let is_port = field.shape == Shape::IntOrString && !field.pointer;
            (&*field.name, if is_port { &*ZERO } else { &Value::Null })
        })
    }

    /// The type of what is under this key.
    pub(crate) fn at(&self, key: &str) -> TypeRef<'a> {
        self.field(key).unwrap_or(self.element)
    }

    /// What a field is when it is absent.
    pub(crate) fn default_of(&self, name: &str) -> Option<&'a Value> {
        self.fields?.of_type().field(name)?.default.as_ref()
    }
}

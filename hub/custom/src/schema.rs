//! The schema of a custom resource as one tree, made of the JSON that its definition holds.
//!
//! ```text
//! type, nullable, properties, additionalProperties, items, x-kubernetes-…    what a value is made of
//! rules: pattern, minimum, required, enum, …                                 which values are right
//! logic: allOf, anyOf, oneOf, not                                            the same, together
//! ```
//!
//! A definition is checked before it is kept; what is none of this here is not there.
//!
//! Guarantees:
//! - a tree of fields and elements, of names and values is a small multiple of its text
//!   (`a_tree_is_a_small_multiple_of_its_text`).
//!
//! A tree of rules in CEL, and of alternatives that say nothing, is more than that.

mod properties;
mod read;
#[cfg(test)]
mod size_tests;
mod value_type;
mod values;

use std::ops::Deref;
use std::sync::LazyLock;

use serde_json::Value;

use crate::cel::Rule;

pub use freewheel_hub_cel::Pattern;
pub use properties::Properties;
pub use value_type::Type;
pub use values::Values;

/// A node of the tree.
#[derive(Debug, Default)]
pub struct Schema {
    /// `type`
    pub is: Option<Type>,
    /// `nullable`
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub open: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `default`
    pub default: Option<Value>,
    /// `properties`
    pub properties: Properties<Schema>,
    /// `additionalProperties`
    pub additional: Additional,
    /// `items`
    pub items: Option<Box<Schema>>,
    /// `x-kubernetes-list-type`
    pub list: List,
    /// Which values are right.
    pub rules: SomeRules,
    /// The same, together.
    pub logic: Option<Box<Logic>>,
    /// `x-kubernetes-validations`
    pub validations: Box<[Rule]>,
    /// It has such rules, or something inside of it.
    has_rules: bool,
}

/// `additionalProperties`
#[derive(Debug, Default)]
pub enum Additional {
    /// Says nothing.
    #[default]
    Unsaid,
    /// `false`
    None,
    /// `true`
    Any,
    /// Each of these.
    Of(Box<Schema>),
}

impl Additional {
    /// The schema of each, when there is one.
    #[must_use]
    pub fn each(&self) -> Option<&Schema> {
        match self {
            Self::Of(each) => Some(each),
            Self::Unsaid | Self::None | Self::Any => None,
        }
    }

    /// Whether names that are no properties are known.
    #[must_use]
    pub const fn is_said(&self) -> bool {
        !matches!(self, Self::Unsaid)
    }
}

/// `x-kubernetes-list-type`
#[derive(Debug, Default, PartialEq, Eq)]
pub enum List {
    /// Owned as a whole.
    #[default]
    Atomic,
    /// No value is there twice.
    Set,
    /// No element has the same values under these keys as another.
    Map(Box<[Box<str>]>),
}

/// Which values are right.
#[derive(Debug, Default)]
pub struct Rules {
    /// `format`, when it is one that is checked.
    pub format: Option<Box<str>>,
    /// `enum`
    pub values: Values,
    /// `required`
    pub required: Box<[Box<str>]>,
    /// `pattern`
    pub pattern: Option<Pattern>,
    /// `maximum`, and whether itself is too much.
    pub maximum: Option<(f64, bool)>,
    /// `minimum`, and whether itself is too little.
    pub minimum: Option<(f64, bool)>,
    /// `multipleOf`
    pub multiple_of: Option<f64>,
    /// `minLength`, `maxLength`
    pub length: Bounds,
    /// `minItems`, `maxItems`
    pub items: Bounds,
    /// `minProperties`, `maxProperties`
    pub properties: Bounds,
}

/// Rules, where there are any: of most values nothing is said but their type.
#[derive(Debug, Default)]
pub struct SomeRules(Option<Box<Rules>>);

impl SomeRules {
    /// These, which say something where `says_something`.
    fn new(rules: Rules, says_something: bool) -> Self {
        Self(says_something.then(|| Box::new(rules)))
    }
}

impl Deref for SomeRules {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        static NONE: LazyLock<Rules> = LazyLock::new(Rules::default);
        self.0.as_deref().unwrap_or(&NONE)
    }
}

/// How many at least and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// At least.
    pub least: Option<i64>,
    /// At most.
    pub most: Option<i64>,
}

/// Schemas that hold together.
#[derive(Debug, Default)]
pub struct Logic {
    /// `allOf`
    pub all: Vec<Schema>,
    /// `anyOf`
    pub any: Vec<Schema>,
    /// `oneOf`
    pub one: Vec<Schema>,
    /// `not`
    pub not: Option<Schema>,
}

impl Schema {
    /// Whether it, or anything inside of it, has rules that people have written.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// The schema of a field of an object.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or_else(|| self.additional.each())
    }
}

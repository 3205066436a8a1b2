//! What a schema declares of a value: its type, and how much of it there may be in a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::typing::{Record, Type};

/// Bytes of the largest request that estimates count with, as at kube-apiserver.
pub const REQUEST_BYTES_MAX: u64 = 3 << 20;

/// What a map's keys are: nothing is known of their length, and nothing is counted for it.
static KEY: Declared = Declared::String { most: 0 };

/// What a schema declares of a value.
#[derive(Clone, Debug)]
pub enum Declared {
    /// Text or a number.
    Dyn {
        /// Of its text.
        most: u64,
    },
    /// `boolean`
    Bool,
    /// `integer`
    Int,
    /// `number`
    Double,
    /// `string`
    String {
        /// Of its bytes.
        most: u64,
    },
    /// `string` of the format `byte`
    Bytes {
        /// Of its bytes.
        most: u64,
    },
    /// `string` of the format `duration`
    Duration,
    /// `string` of the format `date`
    Date,
    /// `string` of the format `date-time`
    DateTime,
    /// `array`
    List {
        /// Each of them.
        of: Box<Declared>,
        /// Of its elements, where that is said.
        most: Option<u64>,
    },
    /// `object` with `additionalProperties`
    Map {
        /// Each of them.
        of: Box<Declared>,
        /// Of its properties, where that is said.
        most: Option<u64>,
    },
    /// `object`
    Object {
        /// Its fields, as expressions say their names.
        fields: BTreeMap<String, Declared>,
        /// Bytes of it at least, as JSON.
        least_bytes: u64,
    },
}

impl Declared {
    /// How much of it there may be.
    pub(super) fn most(&self) -> u64 {
        match self {
            Self::Dyn { most } | Self::String { most } | Self::Bytes { most } => *most,
            Self::Duration | Self::DateTime => 32,
            Self::Date => 12,
            Self::List { of, most } => {
                most.unwrap_or_else(|| (REQUEST_BYTES_MAX - 2) / (of.least_bytes() + 1))
            }
            Self::Map { of, most } => {
                // A key, its quotes, a colon and a comma.
                most.unwrap_or_else(|| (REQUEST_BYTES_MAX - 2) / (of.least_bytes() + 6))
            }
            Self::Bool | Self::Int | Self::Double | Self::Object { .. } => 0,
        }
    }

    /// Bytes of it at least, as JSON.
    #[must_use]
    pub fn least_bytes(&self) -> u64 {
        match self {
            Self::Dyn { .. } | Self::Int | Self::Double => 1,
            Self::Bool => 4,
            Self::String { .. } | Self::Bytes { .. } | Self::List { .. } | Self::Map { .. } => 2,
            Self::Duration => 3,
            Self::Date => 12,
            Self::DateTime => 21,
            Self::Object { least_bytes, .. } => *least_bytes,
        }
    }

    /// How many of these there may be in a request, wherever they are.
    #[must_use]
    pub fn in_a_request(&self) -> u64 {
        REQUEST_BYTES_MAX / (self.least_bytes() + 1)
    }

    /// Its type.
    #[must_use]
    pub fn type_of(&self) -> Type<'static> {
        match self {
            Self::Dyn { .. } => Type::Dyn,
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Double => Type::Double,
            Self::String { .. } => Type::String,
            Self::Bytes { .. } => Type::Bytes,
            Self::Duration => Type::Duration,
            Self::Date | Self::DateTime => Type::Timestamp,
            Self::List { of, .. } => Type::list(of.type_of()),
            Self::Map { of, .. } => Type::map(Type::String, of.type_of()),
            Self::Object { fields, .. } => {
                let of = |(name, of): (&String, &Self)| (name.clone(), of.type_of());
                let fields = fields.iter().map(of).collect();
                Type::Record(Arc::new(Record { name: "object", fields }))
            }
        }
    }

    /// What is in it by this step of a path.
    pub(super) fn at(&self, step: &str) -> Option<&Self> {
        match (self, step) {
            (Self::List { of, .. } | Self::Map { of, .. }, "@items" | "@values") => Some(of),
            (Self::Map { .. }, "@keys") => Some(&KEY),
            (Self::Object { fields, .. }, field) => fields.get(field),
            (_, _) => None,
        }
    }
}

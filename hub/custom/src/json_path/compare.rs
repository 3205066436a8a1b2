//! How values are compared in filters: as Go's templates do, which know no two kinds of values that are alike.

use std::cmp::Ordering;

use serde_json::Value;

use super::Astray;

/// What has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    pub(super) fn read(word: &str) -> Option<Self> {
        Some(match word {
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// Whether it does.
    ///
    /// # Errors
    /// When these cannot be compared.
    pub(super) fn holds(self, left: &Value, right: &Value) -> Result<bool, Astray> {
        let order = match (left, right) {
            (Value::Bool(left), Value::Bool(right)) => match self {
                Self::Equal => return Ok(left == right),
                Self::NotEqual => return Ok(left != right),
                Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => None,
            },
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            // Whole numbers are of another kind than those with a fraction.
            (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
                let whole = left.as_i64().zip(right.as_i64()).map(|(a, b)| a.cmp(&b));
                let broken = || left.as_f64().zip(right.as_f64());
                whole.or_else(|| broken().and_then(|(a, b)| a.partial_cmp(&b)))
            }
            (_, _) => None,
        };
        let order = order.ok_or(Astray::Incomparable)?;
        Ok(match self {
            Self::Equal => order == Ordering::Equal,
            Self::NotEqual => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order.is_ge(),
        })
    }
}

//! One condition on one label.

use std::collections::BTreeSet;

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
}

/// What a requirement asks of its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Set to one of these.
    In(BTreeSet<String>),
    /// Not set to any of these; also when it is not set at all.
    NotIn(BTreeSet<String>),
    /// Set.
    Exists,
    /// Not set.
    DoesNotExist,
    /// An integer above this.
    Greater(i64),
    /// An integer below this.
    Less(i64),
}

impl Operator {
    /// How many values it has.
    pub(super) fn values(&self) -> usize {
        match self {
            Self::In(values) | Self::NotIn(values) => values.len(),
            Self::Exists | Self::DoesNotExist | Self::Greater(_) | Self::Less(_) => 0,
        }
    }
}

impl Requirement {
    pub(super) fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Greater(bound) => number().is_some_and(|n| n > *bound),
            Operator::Less(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

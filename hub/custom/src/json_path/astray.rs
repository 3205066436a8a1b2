//! Where a path cannot be followed.

use std::fmt::{self, Display, Formatter};

/// Where a path cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Astray {
    /// It goes into a list where there is none.
    NoList,
    /// It asks for a place that the list does not have.
    OutOfBounds,
    /// It asks for parts of a list in no order.
    Backwards,
    /// It compares several values at a time.
    Several,
    /// It compares what cannot be compared.
    Incomparable,
}

impl Display for Astray {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoList => "it is not array or slice",
            Self::OutOfBounds => "array index out of bounds",
            Self::Backwards => "starting index is greater than ending index, or the step is none",
            Self::Several => "can only compare one element at a time",
            Self::Incomparable => "incompatible types for comparison",
        })
    }
}

impl std::error::Error for Astray {}

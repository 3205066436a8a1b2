//! Label and field selectors: parsed once, matched many times against headers.
//!
//! Guarantees: a text parses in time linear in its length, up to [`MAX_TEXT`] bytes and
//! [`MAX_REQUIREMENTS`] requirements; matching never allocates.

mod field;
mod label;
mod lexer;
mod parse;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement};

/// Longest selector in a query.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most requirements in one selector.
pub const MAX_REQUIREMENTS: usize = 1024;

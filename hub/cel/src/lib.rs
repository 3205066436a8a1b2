//! CEL as Kubernetes has it, on the evaluator of the `cel` crate: expressions that people write, and how much work they
//! may make.
//!
//! ```text
//! text ─ macros ─ expression: parsed, its names known ─ metered: every loop, two_variables: as of one ─┐
//! JSON ─ value ───────────────────────────────────────────────────────────────────────────────────────┴▶ meter ─▶ value ─▶ JSON
//! unread     why there is none; failed: why one has no value
//! literals   what of a text is code; parts: what an expression is made of
//! scope      what the expressions of one request see, and those of them that others use
//! stack      where there is room for deep ones
//! library/   what Kubernetes adds to the language; pattern, format: what it knows of text
//! typing/    what an expression comes to before it is evaluated, and what is wrong with it
//! cost/      what an expression costs at most
//! allowance  what one evaluation may still use; weight: what values weigh
//! ```
//!
//! Guarantees:
//! - no text overflows the stack, whatever it is made of (`no_expression_overflows_the_stack`);
//! - no expression makes more work than is allowed, whatever it says and whatever it is about
//!   (`what_never_ends_is_ended`, `comparisons_count_what_they_look_at`);
//! - no evaluation holds more memory than is allowed (`what_grows_without_end_is_ended`).

mod allowance;
pub mod cost;
mod expression;
mod failed;
pub mod format;
mod library;
mod literals;
mod macros;
mod meter;
mod metered;
mod parts;
mod pattern;
mod scope;
mod stack;
mod two_variables;
pub mod typing;
mod unread;
mod value;
mod weight;

pub use cel::common::ast::Expr;
pub use cel::common::value::{CowVal, Val};
pub use cel::context::VariableResolver;
pub use cel::objects;
pub use cel::{Context, IdedExpr, Value};
pub use expression::{Expression, Known, parse};
pub use failed::Failed;
pub use library::authorizer::{Answer, Ask, Authorizer, Question};
pub use library::fleet::{Scores, managed_cluster};
pub use meter::{Meter, UNITS_MAX};
pub use parts::inside;
pub use pattern::Pattern;
pub use scope::{Evaluation, Scope, Variables, known};
pub use stack::{NoRoom, STACK_BYTES, begin_where_there_is_room, on_a_stack_of};
pub use unread::Unread;
pub use value::{free, json, map, of_type};
pub use weight::of_json as weight;

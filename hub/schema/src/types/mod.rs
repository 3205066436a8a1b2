//! What the types are, read from one committed table of facts, and what follows from that.
//!
//! ```text
//! bytes ─ decode_json ─▶ Decoded { value, strict }   parse, fill in, prune, canonicalise
//! value ─ canonicalise ─▶ what Go's decode and encode would have made of it
//! value ─ apply_defaults ─▶ with the defaults that the table holds
//!
//! facts      what a walk asks of a type, from the table or from a schema that came with a kind
//! typed      the same of a kind by its name
//! structural such a schema, as custom resources have it
//! table      the table itself: types, fields, lookup by group, version and kind
//! canonical  the walk over a value and its type in step
//! scalar     times, bytes and the other leaves with a form of their own
//! amount     canonical text of quantities
//! decode     JSON text to values, with every duplicate named
//! defaults   defaults that the table holds
//! mistakes   what is missing, and what is none of a closed list
//! ```
//!
//! Guarantees:
//! - canonicalising twice changes nothing, and a canonical value holds no null outside of free-form fields
//!   (`no_value_in_any_place_breaks_the_walk`).

mod amount;
mod canonical;
mod decode;
mod defaults;
mod facts;
mod mistakes;
mod scalar;
mod structural;
pub mod table;
#[cfg(test)]
mod tests;
mod typed;

pub use amount::canonical as canonical_quantity;
pub(crate) use canonical::canonicalise_as;
pub use canonical::{Unknown, canonicalise};
pub use decode::{Decoded, decode_json, decode_value, parse_json, read_any, strict_error};
pub use defaults::apply_defaults;
pub use facts::TypeFacts;
pub use mistakes::mistakes_of_facts;
pub use structural::{NotStructural, Schema, component_name};
pub use typed::Typed;

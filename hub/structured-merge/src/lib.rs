//! Server-side apply: who owns which fields of an object, and what becomes of it when somebody applies theirs. Pure.
//!
//! ```text
//! ownership     the way in: a write is tracked, an object is applied
//! apply         merge, prune, conflicts        track   who owns what after any other write
//! lay_over      the same without owners, for admission policies
//! last_applied  kubectl's annotation           conflict   why an object is not applied
//! managers      metadata.managedFields: who owns what, and since when; entry: one of them; oldest: those that become one
//! fields, set, path     fieldsV1; sets of paths; paths
//! merge, compare, content, prune, reform, mistakes     one walk each over objects and their type in step
//! unset         what Go holds of fields that were never set
//! atom, element         what a type is to those walks; what tells elements of a list apart
//! scalar        values as Go orders and prints them
//! ```
//!
//! Upstream's rules are those of sigs.k8s.io/structured-merge-diff and of k8s.io/apimachinery's managed fields; a fuzzer
//! compares the two (`sequences_of_writes_come_to_what_upstream_makes_of_them`,
//! `writes_by_random_schemas_come_to_what_upstream_makes_of_them`). What is not so here: a kind has one
//! schema, so that sets that name another version of it are taken to be of this one.

mod apply;
mod atom;
mod compare;
mod conflict;
mod content;
mod element;
mod entry;
mod fields;
mod last_applied;
mod lay_over;
mod managers;
mod merge;
mod mistakes;
mod oldest;
mod ownership;
mod path;
mod prune;
mod reform;
mod scalar;
mod set;
mod track;
mod unset;

pub use conflict::{ConflictWith, NotApplied};
pub use lay_over::lay_over;
pub use managers::{Manager, Operation};
pub use ownership::{ResourcePart, applied, same_but_for_times, tracked};
pub use track::Writing;

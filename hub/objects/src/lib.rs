//! The pipeline that every writer of API objects goes through: API server, controllers, gateway.
//!
//! ```text
//! value ─▶ canonical ─▶ default ─▶ mutate ─▶ prepare ─▶ (addresses, ports) ─▶ validate ─▶ commit ─▶ stored
//!                                  admission                                  kind, admission
//! ```
//!
//! ```text
//! objects    its entries: create, update, modify, delete; collection, eviction: deletes of many, and by leave
//! actor      who writes; write_options: what is asked; object_ref: which object; verb: what is done; refusal: why not
//! canonical  the one form in which objects are stored; check: mistakes; meta: what the server owns
//! admission  who else has a say, plugin by plugin; namespace, pins: rules of their own; notes: what they say beside
//! action     what is asked of an object and stores none: connections, evictions, bindings, requests for tokens
//! claims     what a write takes and gives back; service: addresses and ports; ip_address: what is shown of those;
//!            pending_claims: what others choose just now
//! together   several objects in one transaction
//! apply      what is made or changed by one word; owners: whose which fields are; binding: pods get their nodes
//! splice     what is stored becomes what is shown
//! conversions  who converts custom resources
//! clock      time and chance as traits                 internal  what is stored beside objects
//! ```
//!
//! Guarantees:
//! - what is stored is valid for its kind (`every_mistake_is_named`, `a_change_is_validated`);
//! - a write that changes nothing keeps its revision (`an_update_that_changes_nothing_keeps_the_revision`);
//! - uid, creationTimestamp, generation, deletionTimestamp and finalizers follow Kubernetes' rules whoever writes
//!   (`the_server_keeps_what_it_owns`, `the_generation_counts_changes_of_what_is_asked_for`,
//!   `a_finalizer_holds_until_it_is_taken_off`);
//! - what is there can be deleted, however large it is (`an_object_of_the_largest_size_can_be_deleted`);
//! - what is deleted together is written together (`a_collection_is_deleted_side_by_side`);
//! - what a writer looked at first is so when it writes, or nothing is written
//!   (`a_write_whose_reason_is_gone_is_not_made`);
//! - nothing new comes into a namespace that has begun to go
//!   (`content_that_is_on_its_way_when_its_namespace_changes_is_looked_at_again`);
//! - nothing is written by the name of a kind that is another's view, or of which nothing is stored
//!   (`nobody_lays_a_view_over_what_it_shows`, `nothing_is_stored_by_a_name_that_is_none`);
//! - what waits for the disk is text, not trees of values (`no_tree_of_values_waits_for_the_disk`).

mod action;
mod actor;
mod admission;
mod apply;
mod binding;
mod canonical;
mod check;
mod claims;
pub mod clock;
mod collection;
mod conversions;
mod create;
mod delete;
mod eviction;
pub mod internal;
pub mod ip_address;
mod meta;
mod namespace;
mod notes;
mod object_ref;
mod objects;
mod owners;
mod pending_claims;
mod pins;
mod refusal;
mod service;
mod splice;
mod together;
mod update;
mod verb;
mod write_options;

pub use action::Action;
pub use actor::{Actor, Person};
pub use admission::{Invoked, Plugin, Refusal, Review, Rounds};
pub use apply::Applied;
pub use binding::Binding;
pub use canonical::{Canonical, Proposal};
pub use claims::Claims;
pub use conversions::Conversions;
pub use delete::{DeleteOptions, Deleted, Propagation};
pub use notes::Notes;
pub use object_ref::ObjectRef;
pub use objects::{Objects, Written};
pub use splice::{stored_bytes, stored_bytes_at, stored_value};
pub use together::{Change, Wanted};
pub use verb::Verb;
pub use write_options::{Counted, FieldValidation, OVERTAKEN, WriteOptions};

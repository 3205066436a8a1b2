//! Admission: who else has a say in a write, whoever makes it.
//!
//! ```text
//! canonical, defaulted ─▶ mutate ─▶ prepared, stamped, valid for its kind ─▶ validate ─▶ commit
//!                         (each plugin in its turn, in one round or two)     └─ claims ──┘
//! ```
//!
//! A plugin is added where the hub is put together ([`super::Objects::admitting`]) and asked for every write of every
//! writer. What it claims is written in the object's own transaction, and it is asked again when a claim no longer
//! holds.
//!
//! Guarantees:
//! - a plugin is asked for the writes of all, and only for those that it handles
//!   (`every_writer_is_asked_about_by_every_plugin`);
//! - where one asks for it, all are asked a second time, and no more
//!   (`who_changes_what_others_saw_has_all_asked_once_more`);
//! - what a plugin makes of an object is made canonical again (`what_a_plugin_makes_is_made_canonical`);
//! - what a plugin counts is never more than it allows, whoever comes at the same time
//!   (`a_quota_holds_against_a_crowd`).

mod accounts;
mod built_in_definitions;
mod chain;
mod cluster_taints;
mod definitions;
mod limit_ranger;
mod namespaces;
mod nodes;
mod plugin;
mod pod_security;
mod priority;
mod refusal;
mod resource_quota;
mod review;
mod rounds;
mod runtime_class;
mod tolerations;

pub(super) use chain::Chain;
pub use plugin::Plugin;
pub use refusal::Refusal;
pub use review::Review;
pub use rounds::{Invoked, Rounds};

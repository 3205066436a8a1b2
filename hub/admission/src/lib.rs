//! Rules about what people write and do in their cluster: admission policies in CEL, and webhooks.
//!
//! ```text
//! commit of a configuration ─▶ index: of each cluster, who is asked about which resource
//! write ─▶ attributes ─ selection: rules, selectors, conditions ─▶ policies, webhooks ─▶ changed, let in or refused
//! ```
//!
//! ```text
//! plugin      the two places at which a write is looked at: while it is changed, and before it is kept
//! admission   what all of them share
//! attributes  a write as a rule sees it        asker       who is behind it, and what they may do
//! selection   which writes somebody is asked about: selector, rule     conditions  the same, in CEL
//! policy/     both policies                     webhook/    both webhooks
//! turns       how much of it goes on at a time
//! ```
//!
//! Whose configuration is asked: that of the logical cluster that is written to. About whom: people, service accounts and
//! the hub's controllers, as upstream. Not about what a device reports, which has happened and is nobody's to refuse, nor
//! about the hub's own process, nor about the removal of what a removed cluster leaves: a broken webhook takes nothing down
//! but what it selects. The six kinds of configuration themselves are never asked about, so that a wrong one can be taken
//! away.
//!
//! Guarantees:
//! - in a cluster without configuration nobody is asked, and it costs one look (`a_cluster_without_rules_asks_nobody`);
//! - whoever wrote a configuration is answered when it counts (`what_was_written_counts_when_it_is_answered`);
//! - one cluster's rules are nothing in another (`a_rule_of_one_cluster_is_none_of_another`).

mod admission;
mod asker;
mod attributes;
mod conditions;
mod index;
mod plugin;
mod policy;
mod selection;
mod turns;
mod webhook;

pub use asker::{Authorizer, Who};
pub use index::Index;
pub use plugin::add_to;
pub use webhook::{
    Address, CALL_WAIT, CallError, CallPermit, CallPermits, Caller, ClientConfig, ClusterCalls,
    OWN_CALLS_OF_ONE_MAX, ServicePort, UNANSWERED, Unsuccessful,
};

/// The group of all that is said here.
pub(crate) const GROUP: &str = "admissionregistration.k8s.io";

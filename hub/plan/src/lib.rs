//! Objects → the records that one spoke gets. Pure: what it reads comes through [`Source`].
//!
//! ```text
//! spoke_plan what a spoke's own records are made of, kept up to date by what changes
//! spoke_set  those, and the Services that it shares with others: what it is to hold, and the way there
//! services   the Services of a realm, one set for all of its spokes
//! versioned  a set that counts its changes
//! source     what a plan is made from        stored_object    an object as the store holds it
//! refused    what cannot be translated, in words for its user
//! pod        Pod          → PodV1       (containers, volumes, env: one file each)
//! http       annotations on how containers serve HTTP → HttpV1
//! config     ConfigMap, Secret → ConfigV1
//! tokens     the tokens that a Pod asks for → ConfigV1
//! storage    what a Pod says of the disk → PodStorageV1, a part of it
//! probes     how a Pod's health is looked at → PodProbesV1, a part of it
//! service    Service + its EndpointSlices → ServiceV1
//! node       leased pod ranges, the node's own settings
//! fit        what stays out of a plan that is larger than a spoke can hold        room    how much it holds, for whom
//! record_size     a record that is too large for any plan
//! amount     quantities as whole numbers and thousandths
//! ```
//!
//! [`SpokePlan`] keeps the plan of one spoke; the functions per kind make one record each. Equal objects
//! give equal bytes, in one order. What cannot be translated is [`Refused`] with words for its user, and
//! disturbs nothing else.
//!
//! A record's `revision` is that of the newest object it came from, so a pod's own status writes raise
//! it. That alone makes no other record: it does not count for its digest.

mod amount;
mod config;
mod containers;
mod fit;
mod http;
mod node;
mod pod;
mod probes;
mod record_size;
mod refused;
mod room;
mod service;
mod services;
mod source;
mod spoke_plan;
mod spoke_set;
mod storage;
mod stored_object;
#[cfg(test)]
mod tests;
mod tokens;
mod versioned;
mod volumes;
#[cfg(test)]
mod whole;

pub use config::{config_map_record, config_record_key, secret_record};
pub use node::{NodeSettings, node_record, pod_cidr_record};
pub use pod::{config_of, left_out, pod_record};
pub(crate) use refused::Fault;
pub use refused::Refused;
pub use service::{has_node_port, service_record};
pub use services::{Concerned, Scope, ServiceSet, service_key};
pub use source::{ServiceRecord, Source};
pub use spoke_plan::{Changes, SpokePlan};
pub use spoke_set::{SharedServices, SpokeMembers, SpokeSet};
pub use stored_object::StoredObject;
pub use tokens::TokensAsked;
pub use versioned::VersionedSet;

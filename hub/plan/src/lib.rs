//! Objects → the records that one spoke gets. Pure: what it reads comes through [`Source`].
//!
//! ```text
//! plan       the whole set, and whether one record differs from another
//! source     what it is made from
//! refused    what cannot be translated, in words for its user
//! pod        Pod          → PodV1       (containers, volumes, env: one file each)
//! http       annotations on how containers serve HTTP → HttpV1
//! config     ConfigMap, Secret → ConfigV1
//! storage    what a Pod says of the disk → PodStorageV1, a part of it
//! service    Service + its EndpointSlices → ServiceV1
//! node       leased pod ranges, the node's own settings
//! fit        what stays out of a plan that is larger than a spoke can hold
//! amount     quantities as whole numbers and thousandths
//! ```
//!
//! [`records`] makes the whole set; the functions per kind remake one record after a change. Equal objects
//! give equal bytes, in one order. What cannot be translated is [`Refused`] with words for its user, and
//! disturbs nothing else.
//!
//! A record's `revision` is that of the newest object it came from, so a pod's own status writes raise
//! it. Push a record only when [`differs`] says so.

mod amount;
mod config;
mod containers;
mod fit;
mod http;
mod node;
mod plan;
mod pod;
mod refused;
mod service;
mod source;
mod storage;
#[cfg(test)]
mod tests;
mod volumes;

pub use config::{config_map_record, secret_record};
pub use http::{HTTP_CONCURRENCY, HTTP_REUSE, HTTP_TIMEOUT};
pub use node::{NodeSettings, node_record, pod_cidr_record};
pub use plan::{Plan, differs, records};
pub use pod::{config_of, pod_record};
pub(crate) use refused::Fault;
pub use refused::Refused;
pub use service::{has_node_port, service_record};
pub use source::{Found, Source, ToldService};

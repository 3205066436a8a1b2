//! Kinds of flowcontrol.apiserver.k8s.io: who gets how much of the API server. This hub bounds memory instead, whoever
//! asks, and does not go by them.

mod conditions;
pub(super) mod flow_schema;
pub mod mandatory;
pub(super) mod priority_level;

/// Why nothing comes of them.
const UNUSED: &str = "requests share the hub's memory, and are not ordered by levels";

//! Kinds of flowcontrol.apiserver.k8s.io: who gets how much of the API server.

mod conditions;
pub(super) mod flow_schema;
pub mod mandatory;
pub(super) mod priority_level;

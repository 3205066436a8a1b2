//! Kinds of networking.k8s.io.

mod address;
pub(super) mod ingress;
pub(super) mod ingress_class;
pub(super) mod ip_address;
pub(super) mod network_policy;
mod reference;
pub(super) mod service_cidr;

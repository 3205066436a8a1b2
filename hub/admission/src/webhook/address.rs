//! Where a webhook is called.

use freewheel_link::names::ClusterName;

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `https://HOST[:PORT][/PATH]`, with what is asked.
    pub url: String,
    /// Who vouches for it, as PEM; empty: whom the host trusts.
    pub authorities: String,
    /// The Service that it is behind, whose pods the name in its URL stands for.
    pub service: Option<ServicePort>,
    /// It is somebody's who owns one cluster: nothing that the hub's host keeps to itself may be reached by it.
    pub of_tenant: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its logical cluster.
    pub cluster: ClusterName,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its port, which is a pod's by its name.
    pub port: u16,
}

//! Namespaces: what each has from the start, which ones each cluster has, and how they end.
//!
//! ```text
//! bootstrap   namespaces and the Service `kubernetes` of every cluster
//! bootstrap_objects  what there is from the start without a namespace
//! service_range  the range that Services get their addresses from
//! service_account_root_ca  ServiceAccount `default` and ConfigMap `kube-root-ca.crt` of every namespace
//! authentication_trust  ConfigMap `kube-system/extension-apiserver-authentication` of every cluster
//! deletion    deletes the content of a namespace that goes, then lets it go
//! ```

mod authentication_trust;
mod bootstrap;
mod bootstrap_objects;
mod deletion;
mod service_account_root_ca;
mod service_range;

pub use authentication_trust::AuthenticationTrust;
pub use bootstrap::ClusterBootstrap;
pub use bootstrap_objects::BootstrapObjects;
pub use deletion::NamespaceDeletion;
pub use service_account_root_ca::ServiceAccountRootCa;
pub use service_range::ServiceRange;

//! Where a cluster's own API is served: its ManagedCluster says so, as with OCM's klusterlet.
//!
//! Guarantees:
//! - it is written when a device asks to join, and only where nobody has said anything
//!   (`a_cluster_that_joins_says_where_its_api_is_unless_somebody_has_said_so`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_pki::encode;
use freewheel_link::names::ClusterName;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

/// The hub's API, as clients reach it.
#[derive(Debug)]
pub(crate) struct OwnApi {
    root: String,
    ca_bundle: String,
}

impl OwnApi {
    /// `root` is `https://HOST:PORT`; its certificate descends from `ca`.
    pub(crate) fn new(root: &str, ca: &CertificateDer<'_>) -> Self {
        let ca_bundle = STANDARD.encode(encode("CERTIFICATE", ca));
        Self { root: root.trim_end_matches('/').to_owned(), ca_bundle }
    }

    /// Puts it into a ManagedCluster that says nothing about it.
    pub(crate) fn put(&self, cluster: &ClusterName, value: &mut Value) {
        let configs = &mut value["spec"]["managedClusterClientConfigs"];
        if configs.as_array().is_none_or(Vec::is_empty) {
            let url = format!("{}/clusters/{cluster}", self.root);
            *configs = json!([{"url": url, "caBundle": self.ca_bundle}]);
        }
    }
}

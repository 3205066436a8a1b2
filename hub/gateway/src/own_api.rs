//! Where a cluster's own API is served: its ManagedCluster says so, as with OCM's klusterlet.
//!
//! Guarantees:
//! - it is written when a device asks to join, and only where nobody has said anything
//!   (`a_cluster_that_joins_says_where_its_api_is_unless_somebody_has_said_so`);
//! - a hub that has moved says so at the next session, in place of what it has said itself alone
//!   (`a_hub_that_moved_renews_what_it_has_said_itself`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::{Actor, Objects, WriteOptions};
use freewheel_hub_pki::encode;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::object_refs::{CLUSTERS, object_ref};

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
            *configs = self.configs(cluster);
        }
    }

    /// Renews what the hub has said in a ManagedCluster before it moved.
    pub(crate) async fn renew(
        &self,
        objects: &Objects,
        cluster: &ClusterName,
    ) -> Result<(), ApiError> {
        let place = object_ref(CLUSTERS, &ClusterName::root(), "", cluster.as_str())?;
        if !self.is_old(cluster, &objects.get(&place)?.object.value()?) {
            return Ok(());
        }
        let renew = |mut value: Value| {
            // Somebody may have said something meanwhile.
            if self.is_old(cluster, &value) {
                value["spec"]["managedClusterClientConfigs"] = self.configs(cluster);
            }
            Ok(value)
        };
        objects.modify(&WriteOptions::by(Actor::Joining), &place, None, renew).await.map(drop)
    }

    /// Whether it says something else, and nobody but the hub has said it.
    fn is_old(&self, cluster: &ClusterName, value: &Value) -> bool {
        let owners = value["metadata"]["managedFields"].as_array().into_iter().flatten();
        let mut owners = owners.filter(|owner| {
            owner.pointer("/fieldsV1/f:spec/f:managedClusterClientConfigs").is_some()
        });
        let is_hub = |owner: &Value| owner["manager"] == Actor::Joining.manager();
        owners.next().is_some_and(is_hub)
            && owners.all(is_hub)
            && value["spec"]["managedClusterClientConfigs"] != self.configs(cluster)
    }

    fn configs(&self, cluster: &ClusterName) -> Value {
        let url = format!("{}/clusters/{cluster}", self.root);
        json!([{"url": url, "caBundle": self.ca_bundle}])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_store::memory::MemoryStore;

    use super::*;

    fn api(root: &str) -> OwnApi {
        OwnApi::new(root, &CertificateDer::from(vec![1]))
    }

    #[tokio::test]
    async fn a_hub_that_moved_renews_what_it_has_said_itself() {
        let objects = Objects::new(Arc::new(MemoryStore::new()));
        let place = |name: &str| object_ref(CLUSTERS, &ClusterName::root(), "", name).unwrap();
        let (old, new) = (api("https://old:6443"), api("https://new:6443/"));
        let url = |name: &str| {
            let value = objects.get(&place(name)).unwrap().object.value().unwrap();
            value["spec"]["managedClusterClientConfigs"][0]["url"].as_str().unwrap().to_owned()
        };
        for name in ["pi-7", "pi-8"] {
            let cluster = ClusterName::try_from(name).unwrap();
            let mut value = json!({
                "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
                "metadata": {"name": name}, "spec": {},
            });
            old.put(&cluster, &mut value);
            objects.create(&WriteOptions::by(Actor::Joining), &place(name), value).await.unwrap();
        }
        let mine = |mut value: Value| {
            value["spec"]["managedClusterClientConfigs"] = json!([{"url": "https://proxy/pi-8"}]);
            Ok(value)
        };
        objects.modify(&WriteOptions::default(), &place("pi-8"), None, mine).await.unwrap();
        for name in ["pi-7", "pi-8"] {
            new.renew(&objects, &ClusterName::try_from(name).unwrap()).await.unwrap();
        }
        assert_eq!(url("pi-7"), "https://new:6443/clusters/pi-7");
        assert_eq!(url("pi-8"), "https://proxy/pi-8", "what a person has set stays");
        // And again, wherever it moves.
        old.renew(&objects, &ClusterName::try_from("pi-7").unwrap()).await.unwrap();
        assert_eq!(url("pi-7"), "https://old:6443/clusters/pi-7");
    }
}

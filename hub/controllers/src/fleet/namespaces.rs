//! A namespace of the root for each accepted cluster, with its name: what is said of the cluster and meant for it lies
//! there. It goes with the cluster ([`crate::cluster_cleanup`]).
//!
//! A namespace that is there already is used as it is, and is not the cluster's: it stays.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::kinds::managed_cluster::CLUSTER_NAME_LABEL;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::json;

use super::api_group::CLUSTER_GROUP;
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;

/// The controller.
pub struct ClusterNamespaces {
    client: Client,
    clusters: Arc<Kind>,
    namespaces: Arc<Kind>,
}

impl ClusterNamespaces {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let clusters = kind(CLUSTER_GROUP, "v1", "managedclusters")?;
        Ok(Self { client, clusters, namespaces: kind("", "v1", "namespaces")? })
    }
}

/// Whether a namespace of the root was made for the cluster of its name.
pub(crate) fn is_of_cluster(namespace: &Stored) -> bool {
    let own = namespace.object.header.labels.get(CLUSTER_NAME_LABEL);
    own.is_some_and(|own| *own == *namespace.key.name)
}

#[async_trait]
impl Controller for ClusterNamespaces {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.clusters), everywhere(&self.namespaces)]
    }

    fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.clusters.storage() {
            return vec![key.clone()];
        }
        // What goes comes back, as long as its cluster is there.
        if !key.cluster.is_root() || event.now.is_some() {
            return Vec::new();
        }
        vec![key_of(&self.clusters, &ClusterName::root(), "", &key.name)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(cluster) = snapshot.get(key).filter(|cluster| is_accepted(cluster)) else {
            return Ok(None);
        };
        let root = ClusterName::root();
        if snapshot.get(&key_of(&self.namespaces, &root, "", &key.name)).is_some() {
            return Ok(None);
        }
        let own =
            json!({"metadata": {"name": &*key.name, "labels": {CLUSTER_NAME_LABEL: &*key.name}}});
        let client = self.client.while_there(&cluster);
        match client.create(&self.namespaces, &root, "", &own).await {
            Err(taken) if taken.reason == "AlreadyExists" => Ok(None),
            made => made.map(|_| None).map_err(Error::api("make the namespace of a cluster")),
        }
    }
}

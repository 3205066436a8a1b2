//! What every cluster has from the start: four namespaces and the Service `kubernetes`, by which guests
//! find the API of their own cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;

/// Namespaces of every cluster.
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// clusterIP of `default/kubernetes`.
pub const API_ADDRESS: &str = "10.128.0.1";
const API: &str = "kubernetes";

/// The controller.
pub struct ClusterBootstrap {
    client: Client,
    clusters: Arc<Kind>,
    namespaces: Arc<Kind>,
    services: Arc<Kind>,
    slices: Arc<Kind>,
    endpoints: Arc<Kind>,
    hub: SocketAddr,
}

impl ClusterBootstrap {
    /// The hub's API answers at `hub`.
    pub fn new(client: Client, hub: SocketAddr) -> Result<Self, Error> {
        Ok(Self {
            client,
            clusters: kind("cluster.open-cluster-management.io", "v1", "managedclusters")?,
            namespaces: kind("", "v1", "namespaces")?,
            services: kind("", "v1", "services")?,
            slices: kind("discovery.k8s.io", "v1", "endpointslices")?,
            endpoints: kind("", "v1", "endpoints")?,
            hub,
        })
    }

    fn key_for(&self, cluster: &str) -> Key {
        key_of(&self.clusters, &ClusterName::root(), "", cluster)
    }

    /// Writes an object of `default` as it has to be, where `parts` are what matters.
    async fn keep(
        client: &Client,
        cluster: &ClusterName,
        kind: &Arc<Kind>,
        wanted: &Value,
        parts: &[&str],
    ) -> Result<(), Error> {
        let key = key_of(kind, cluster, "default", API);
        let is_right = |stored: &Stored| {
            stored.object.value().is_ok_and(|v| parts.iter().all(|p| v[*p] == wanted[*p]))
        };
        // Most of the time, in thousands of clusters.
        if client.snapshot().get(&key).is_some_and(|stored| parts.is_empty() || is_right(&stored)) {
            return Ok(());
        }
        let change = |old: Option<Value>| {
            let Some(mut value) = old else { return Ok(wanted.clone()) };
            for part in parts {
                value[*part] = wanted[*part].clone();
            }
            Ok(value)
        };
        let written = client.create_or_modify(kind, &key, change).await;
        written.map(drop).map_err(Error::api("write default/kubernetes"))
    }

    async fn api_service(&self, client: &Client, cluster: &ClusterName) -> Result<(), Error> {
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let port = json!({"name": "https", "port": 443, "protocol": "TCP",
            "targetPort": self.hub.port()});
        let service = json!({
            "metadata": {"name": API, "namespace": "default", "labels": labels},
            "spec": {"type": "ClusterIP", "clusterIP": API_ADDRESS, "clusterIPs": [API_ADDRESS],
                "ports": [port], "sessionAffinity": "None"},
        });
        // Nothing of the spec is put back: it is made once, and its address cannot change.
        Self::keep(client, cluster, &self.services, &service, &[]).await?;
        let address = self.hub.ip().to_string();
        let port = json!({"name": "https", "port": self.hub.port(), "protocol": "TCP"});
        let slice = json!({
            "metadata": {"name": API, "namespace": "default",
                "labels": {"kubernetes.io/service-name": API}},
            "addressType": if self.hub.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            "ports": [port.clone()],
        });
        Self::keep(client, cluster, &self.slices, &slice, &["endpoints", "ports"]).await?;
        let endpoints = json!({
            "metadata": {"name": API, "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address}], "ports": [port]}],
        });
        Self::keep(client, cluster, &self.endpoints, &endpoints, &["subsets"]).await
    }
}

#[async_trait]
impl Controller for ClusterBootstrap {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let kinds =
            [&self.clusters, &self.namespaces, &self.services, &self.slices, &self.endpoints];
        kinds.into_iter().map(|kind| everywhere(kind)).collect()
    }

    fn first(&self) -> Vec<Key> {
        vec![self.key_for("root")]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let cluster = if key.resource == *self.clusters.storage() {
            &key.name
        } else if key.resource == *self.namespaces.storage() {
            if event.now.is_some() || !NAMESPACES.contains(&&*key.name) {
                return Vec::new();
            }
            key.cluster.as_str()
        } else if &*key.namespace == "default" && &*key.name == API {
            key.cluster.as_str()
        } else {
            return Vec::new();
        };
        vec![self.key_for(cluster)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let cluster =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        let snapshot = self.client.snapshot();
        let client = match snapshot.get(key).filter(|cluster| is_accepted(cluster)) {
            Some(accepted) => self.client.while_there(&accepted),
            None if cluster.is_root() => self.client.clone(),
            None => return Ok(None),
        };
        for name in NAMESPACES {
            if snapshot.get(&key_of(&self.namespaces, &cluster, "", name)).is_some() {
                continue;
            }
            let namespace = json!({"metadata": {"name": name}});
            if let Err(error) = client.create(&self.namespaces, &cluster, "", &namespace).await
                && error.reason != "AlreadyExists"
            {
                return Err(Error::api("create a namespace")(error));
            }
        }
        self.api_service(&client, &cluster).await?;
        Ok(None)
    }
}

//! The range that Services of a cluster get their addresses from, as the ServiceCIDR `kubernetes`, and IPAddresses that
//! somebody deleted while a Service holds the address.
//!
//! ```text
//! cluster ─▶ ServiceCIDR kubernetes, Ready      deleted ─▶ held by its finalizer, Terminating: addresses are in it
//! IPAddress of a Service gone ─▶ is the address still held? ─▶ made again
//! ```
//!
//! Guarantees:
//! - every cluster shows its range, and keeps it (`every_cluster_shows_the_range_of_its_services`);
//! - the object of an address that is held comes back (`the_object_of_an_address_that_is_held_comes_back`).
//!
//! Assumes: the Service `default/kubernetes` holds an address of the range as long as there is a cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{Condition, SERVICE_RANGE_READY};
use freewheel_hub_api::kinds::service::CLUSTER_IPS;
use freewheel_hub_objects::ip_address::{self, MANAGED_BY_LABEL, MANAGER};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;

/// Its name, in every cluster.
const RANGE: &str = "kubernetes";
/// It is not to go while addresses of it are held.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The controller.
pub struct ServiceRange {
    client: Client,
    clusters: Arc<Kind>,
    ranges: Arc<Kind>,
    addresses: Arc<Kind>,
}

fn cidr() -> String {
    let (base, length) = CLUSTER_IPS;
    format!("{base}/{length}")
}

/// Which Service holds an address, as its claim says.
fn claim(cluster: &ClusterName, address: &str) -> Key {
    Key::new(&Resource::new("internal", "clusterips"), cluster, "", address)
}

impl ServiceRange {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            client,
            clusters: kind("cluster.open-cluster-management.io", "v1", "managedclusters")?,
            ranges: kind("networking.k8s.io", "v1", "servicecidrs")?,
            addresses: kind("networking.k8s.io", "v1", "ipaddresses")?,
        })
    }

    fn key_for(&self, cluster: &str) -> Key {
        key_of(&self.clusters, &ClusterName::root(), "", cluster)
    }

    /// The client for writes to a cluster while that is there; `None` when it is not.
    fn client_of(&self, cluster: &ClusterName, snapshot: &dyn Snapshot) -> Option<Client> {
        let accepted = snapshot.get(&self.key_for(cluster.as_str()));
        match accepted.filter(|accepted| is_accepted(accepted)) {
            Some(accepted) => Some(self.client.while_there(&accepted)),
            None => cluster.is_root().then(|| self.client.clone()),
        }
    }

    /// Makes the range, and says how it is.
    async fn show_range(&self, client: &Client, cluster: &ClusterName) -> Result<(), Error> {
        let key = key_of(&self.ranges, cluster, "", RANGE);
        if client.snapshot().get(&key).is_none() {
            let range = json!({
                "metadata": {"name": RANGE, "finalizers": [FINALIZER]},
                "spec": {"cidrs": [cidr()]},
            });
            let made = client.create(&self.ranges, cluster, "", &range).await;
            match made {
                Err(error) if error.reason != "AlreadyExists" => {
                    return Err(Error::api("create a cluster's range of addresses")(error));
                }
                _ => {}
            }
        }
        let Some(stored) = client.snapshot().get(&key) else { return Ok(()) };
        let value = stored.object.value().map_err(Error::api("read a range of addresses"))?;
        // Somebody's own range under this name is theirs to explain.
        if value["spec"]["cidrs"] != json!([cidr()]) {
            return Ok(());
        }
        self.hold(client, &stored).await?;
        self.tell(client, &stored).await
    }

    /// Puts the finalizer on where it was taken off.
    async fn hold(&self, client: &Client, stored: &Stored) -> Result<(), Error> {
        let header = &stored.object.header;
        if header.deleting || header.finalizers.iter().any(|name| name == FINALIZER) {
            return Ok(());
        }
        let change = |mut value: Value| {
            let finalizers = &mut value["metadata"]["finalizers"];
            match finalizers.as_array_mut() {
                Some(all) => all.push(json!(FINALIZER)),
                None => *finalizers = json!([FINALIZER]),
            }
            Ok(value)
        };
        let written = client.modify_this(&self.ranges, stored, None, change).await;
        written.map(drop).or_else(|error| gone_is_fine(error, "hold a range of addresses"))
    }

    async fn tell(&self, client: &Client, stored: &Stored) -> Result<(), Error> {
        let said = if stored.object.header.deleting {
            let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            Condition::new(&SERVICE_RANGE_READY, false, "Terminating", why)
        } else {
            let why = "Kubernetes default Service CIDR is ready";
            Condition::new(&SERVICE_RANGE_READY, true, "", why)
        };
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            said.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        let written = client.modify_this(&self.ranges, stored, Some("status"), change).await;
        written.map(drop).or_else(|error| gone_is_fine(error, "tell of a range of addresses"))
    }

    /// Makes the object of an address again that a Service holds.
    async fn show_address(&self, key: &Key) -> Result<(), Error> {
        let snapshot = self.client.snapshot();
        let held = snapshot.get(&claim(&key.cluster, &key.name));
        let (Some(held), None) = (held, snapshot.get(key)) else { return Ok(()) };
        let Some(client) = self.client_of(&key.cluster, &*snapshot) else { return Ok(()) };
        let holder: Value = serde_json::from_slice(&held.object.body)
            .map_err(|error| Error::Refused(error.to_string()))?;
        let said = |field: &str| holder[field].as_str().unwrap_or_default();
        let object = ip_address::of_service(&key.name, said("namespace"), said("name"));
        let client = client.while_there(&held);
        match client.create(&self.addresses, &key.cluster, "", &object).await {
            Err(error) if error.reason != "AlreadyExists" => {
                Err(Error::api("make the object of an address again")(error))
            }
            _ => Ok(()),
        }
    }
}

fn gone_is_fine(
    error: freewheel_hub_schema::error::ApiError,
    doing: &'static str,
) -> Result<(), Error> {
    if error.code == 404 { Ok(()) } else { Err(Error::api(doing)(error)) }
}

#[async_trait]
impl Controller for ServiceRange {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        [&self.clusters, &self.ranges, &self.addresses].map(|kind| everywhere(kind)).into()
    }

    fn first(&self) -> Vec<Key> {
        vec![self.key_for("root")]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.clusters.storage() {
            return vec![self.key_for(&key.name)];
        }
        if key.resource == *self.ranges.storage() {
            let own = (&*key.name == RANGE).then(|| self.key_for(key.cluster.as_str()));
            return own.into_iter().collect();
        }
        let was_ours = event.before.as_ref().is_some_and(|stored| {
            let manager = stored.object.header.labels.get(MANAGED_BY_LABEL);
            manager.is_some_and(|manager| manager == MANAGER)
        });
        let gone = was_ours && event.now.is_none();
        gone.then(|| key.clone()).into_iter().collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        if key.resource == *self.addresses.storage() {
            return self.show_address(key).await.map(|()| None);
        }
        let cluster =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        if let Some(client) = self.client_of(&cluster, &*self.client.snapshot()) {
            self.show_range(&client, &cluster).await?;
        }
        Ok(None)
    }
}

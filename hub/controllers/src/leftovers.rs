//! Removes what a spoke leaves behind with its ManagedCluster, then lets that go.
//!
//! ```text
//! deleted ─▶ its pods in the root ─▶ its Nodes, its signing requests
//!         ─▶ all of its logical cluster, namespaces first ─▶ sessions, acked plans, ranges of addresses ─▶ gone
//! ```
//!
//! Guarantees: the ManagedCluster goes last, so that the next one of its name finds nothing of it, and a hub
//! that is killed in between goes on; what turns up in a cluster that is not there is removed as well; what
//! is deleted is what was read while the cluster was gone or going, by its revision, never what came later.
//! Assumes: the gateway cuts the spoke off as soon as its ManagedCluster is being deleted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::kinds;
use freewheel_hub_api::kinds::managed_cluster::LEFTOVERS;
use freewheel_hub_api::object::{Key, Resource};
use freewheel_hub_store::objects::{DeleteOptions, Propagation};
use freewheel_hub_store::{
    CommitError, Event, Expect, MAX_OPERATIONS, Operation, Scope, Snapshot, Stored, Txn,
};
use freewheel_link::names::ClusterName;
use serde_json::Value;
use tracing::info;

use crate::engine::desk::{everywhere, in_cluster, key as key_of, kind, place};
use crate::engine::{Controller, Desk, Error};
use crate::node::is_ours;

/// Looked at again even when no event says that something went.
const PATIENCE: Duration = Duration::from_secs(2);
/// Label of a device's signing request.
const CLUSTER_OF_REQUEST: &str = "open-cluster-management.io/cluster-name";

/// The controller.
pub struct Leftovers {
    desk: Desk,
    clusters: &'static Kind,
    pods: &'static Kind,
    nodes: &'static Kind,
    requests: &'static Kind,
    services: &'static Kind,
    /// Every kind once, namespaces first.
    content: Vec<&'static Kind>,
}

fn internal(plural: &str) -> Resource {
    Resource::new("internal", plural)
}

impl Leftovers {
    /// Deletes through this desk.
    pub fn new(desk: Desk) -> Result<Self, Error> {
        let namespaces = kind("", "v1", "namespaces")?;
        let mut content: Vec<&'static Kind> = kinds::all().to_vec();
        content.sort_by_key(|k| k.storage());
        content.dedup_by_key(|k| k.storage());
        content.sort_by_key(|k| k.storage() != namespaces.storage());
        Ok(Self {
            desk,
            clusters: kind("cluster.open-cluster-management.io", "v1", "managedclusters")?,
            pods: kind("", "v1", "pods")?,
            nodes: kind("", "v1", "nodes")?,
            requests: kind("certificates.k8s.io", "v1", "certificatesigningrequests")?,
            services: kind("", "v1", "services")?,
            content,
        })
    }

    fn key_for(&self, cluster: &str) -> Key {
        key_of(self.clusters, &ClusterName::root(), "", cluster)
    }

    /// Everything of a cluster in the root that goes through the pipeline. Whether it is all gone.
    async fn clear_root(&self, name: &ClusterName, snapshot: &dyn Snapshot) -> Result<bool, Error> {
        let root = ClusterName::root();
        for stored in self.bound(name, snapshot) {
            let options = DeleteOptions {
                grace_period_seconds: Some(0),
                uid: Some(stored.object.header.uid.clone()),
                ..DeleteOptions::default()
            };
            let place = place(self.pods, &stored.key);
            tolerate(self.desk.objects().delete(self.desk.how(), &place, &options).await)
                .map_err(Error::api("delete a pod of a removed cluster"))?;
        }
        let node = key_of(self.nodes, &root, "", name.as_str());
        if let Some(node) = snapshot.get(&node).filter(|node| is_ours(node)) {
            let uid = &node.object.header.uid;
            self.desk
                .delete(self.nodes, &node.key, uid, Propagation::Background)
                .await
                .map_err(Error::api("delete the Node of a removed cluster"))?;
        }
        for request in snapshot.range(&in_cluster(self.requests, &root), None) {
            let header = &request.object.header;
            if header.labels.get(CLUSTER_OF_REQUEST).is_some_and(|of| of == name.as_str()) {
                self.desk
                    .delete(self.requests, &request.key, &header.uid, Propagation::Background)
                    .await
                    .map_err(Error::api("delete a request of a removed cluster"))?;
            }
        }
        // A pod that somebody's finalizer holds is still bound here, and would be the next device's.
        Ok(self.bound(name, &*self.desk.snapshot()).is_empty())
    }

    /// Pods of the root that are bound to this spoke.
    fn bound(&self, name: &ClusterName, snapshot: &dyn Snapshot) -> Vec<Arc<Stored>> {
        let pods = snapshot.range(&in_cluster(self.pods, &ClusterName::root()), None);
        let node = |pod: &Arc<Stored>| {
            pod.object.header.fields.get("spec.nodeName").is_some_and(|node| node == name.as_str())
        };
        pods.filter(node).collect()
    }

    /// Services give back their addresses and ports; who holds them by a finalizer holds nothing any more.
    async fn release_services(
        &self,
        name: &ClusterName,
        snapshot: &dyn Snapshot,
    ) -> Result<(), Error> {
        for service in snapshot.range(&in_cluster(self.services, name), None) {
            let uid = &service.object.header.uid;
            self.desk
                .delete(self.services, &service.key, uid, Propagation::Background)
                .await
                .map_err(Error::api("delete a Service of a removed cluster"))?;
            if !service.object.header.finalizers.is_empty() {
                let free = |mut value: Value| {
                    value["metadata"]["finalizers"] = Value::Array(Vec::new());
                    Ok(value)
                };
                tolerate(self.desk.modify(self.services, &service.key, None, free).await)
                    .map_err(Error::api("release a Service of a removed cluster"))?;
            }
        }
        Ok(())
    }

    /// What is in a logical cluster, and what is remembered under its name, at this revision.
    fn rest(&self, name: &ClusterName, snapshot: &dyn Snapshot) -> Vec<Arc<Stored>> {
        let mut all = Vec::new();
        let content = self.content.iter().map(|kind| kind.storage());
        for resource in content.chain([internal("podcidrs"), internal("clusterips")]) {
            let scope = Scope { resource, cluster: Some(name.clone()), namespace: None };
            all.extend(snapshot.range(&scope, None));
        }
        let root = ClusterName::root();
        let leases =
            Scope { resource: internal("podcidrs"), cluster: Some(root.clone()), namespace: None };
        let of_it = |lease: &Arc<Stored>| *lease.object.body == *name.as_str().as_bytes();
        all.extend(snapshot.range(&leases, None).filter(of_it));
        let records = ["sessions", "acked"]
            .map(|plural| snapshot.get(&Key::new(&internal(plural), &root, "", name.as_str())));
        all.extend(records.into_iter().flatten());
        all
    }

    /// Deletes these as they were read. Finalizers in a cluster that is gone hold nothing.
    async fn delete(&self, all: &[Arc<Stored>]) -> Result<(), Error> {
        for part in all.chunks(MAX_OPERATIONS) {
            let txn = Txn {
                expect: part.iter().map(|s| Expect::Revision(s.key.clone(), s.revision)).collect(),
                operations: part.iter().map(|s| Operation::Delete(s.key.clone())).collect(),
            };
            match self.desk.objects().store().commit(txn).await {
                // Something has changed meanwhile: the next look sees what.
                Ok(_) | Err(CommitError::Unmet { .. }) => {}
                Err(error) => {
                    let error = ApiError::new(503, "ServiceUnavailable", error.to_string());
                    return Err(Error::api("delete what a removed cluster left")(error));
                }
            }
        }
        Ok(())
    }

    async fn let_go(&self, key: &Key) -> Result<(), Error> {
        let free = |mut value: Value| {
            if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
                list.retain(|name| name != LEFTOVERS);
            }
            Ok(value)
        };
        tolerate(self.desk.modify(self.clusters, key, None, free).await)
            .map_err(Error::api("let a removed cluster go"))?;
        info!(cluster = %key.name, "a removed cluster has left nothing behind");
        Ok(())
    }
}

/// What is gone already is fine.
fn tolerate<T>(outcome: Result<T, ApiError>) -> Result<(), ApiError> {
    match outcome {
        Err(error) if error.code != 404 && error.code != 409 => Err(error),
        _ => Ok(()),
    }
}

#[async_trait]
impl Controller for Leftovers {
    fn name(&self) -> &'static str {
        self.desk.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let records = ["podcidrs", "sessions", "acked"];
        let records = records.map(|plural| Scope {
            resource: internal(plural),
            cluster: None,
            namespace: None,
        });
        self.content.iter().map(|kind| everywhere(kind)).chain(records).collect()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let name: &str = if key.resource == self.clusters.storage() {
            &key.name
        } else if !key.cluster.is_root() {
            key.cluster.as_str()
        } else if key.resource == internal("sessions") || key.resource == internal("acked") {
            &key.name
        } else {
            return Vec::new();
        };
        let cluster = self.key_for(name);
        let stays = now.get(&cluster).is_some_and(|cluster| !cluster.object.header.deleting);
        // What goes is what this controller is at: it looks again by itself.
        let news = event.now.is_some() || key.resource == self.clusters.storage();
        if stays || !news { Vec::new() } else { vec![cluster] }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let name =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        let snapshot = self.desk.snapshot();
        let cluster = snapshot.get(key);
        if name.is_root() || cluster.as_ref().is_some_and(|c| !c.object.header.deleting) {
            return Ok(None);
        }
        let cleared = self.clear_root(&name, &*snapshot).await?;
        self.release_services(&name, &*snapshot).await?;
        // Read before anything that came later: namespaces go first, and nothing gets into what is not there.
        self.delete(&self.rest(&name, &*snapshot)).await?;
        let left = self.rest(&name, &*self.desk.snapshot());
        if !cleared || !left.is_empty() {
            return Ok(Some(PATIENCE));
        }
        let ours = |c: &Arc<Stored>| c.object.header.finalizers.iter().any(|f| f == LEFTOVERS);
        if cluster.as_ref().is_some_and(ours) {
            self.let_go(key).await?;
        }
        Ok(None)
    }
}

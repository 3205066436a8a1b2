//! Removes what a spoke leaves behind with its ManagedCluster, then lets that go.
//!
//! ```text
//! deleted ─▶ its pods in the root ─▶ its Nodes, its signing requests, the roles of its agent
//!         ─▶ all of its logical cluster, namespaces first ─▶ sessions, ranges of addresses ─▶ gone
//! ```
//!
//! Guarantees:
//! - the ManagedCluster goes last, so that the next one of its name finds nothing of it
//!   (`a_removed_cluster_leaves_nothing_to_the_next_one_of_its_name`);
//! - what cannot be deleted holds up the ManagedCluster and nothing else
//!   (`what_cannot_be_deleted_holds_up_nothing_else`);
//! - what turns up in a cluster that is not there is removed as well
//!   (`what_turns_up_in_a_cluster_that_is_not_there_is_removed`).
//!
//! Assumes: the gateway cuts the spoke off as soon as its ManagedCluster is being deleted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::kinds::managed_cluster::CLEANUP_FINALIZER;
use freewheel_hub_api::kinds::managed_cluster::CLUSTER_NAME_LABEL;
use freewheel_hub_objects::internal;
use freewheel_hub_objects::{DeleteOptions, Propagation};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::registry::Registries;
use freewheel_hub_store::{CommitError, Event, Expect, Operation, Scope, Snapshot, Stored, Txn};
use freewheel_link::names::ClusterName;
use serde_json::Value;
use tracing::info;

use crate::engine::client::{all_of, in_cluster, key as key_of, kind, object_ref};
use crate::engine::{Client, Controller, Error, Faults};
use crate::fleet::{RoleKinds, is_of_cluster};
use crate::node::is_ours;

/// Looked at again even when no event says that something went.
const RECHECK_AFTER: Duration = Duration::from_secs(2);
/// Deleted in one transaction: one that is no longer as it was read keeps so many for the next look.
const DELETES_AT_ONCE: usize = 128;

/// The controller.
pub struct ClusterCleanup {
    client: Client,
    clusters: Arc<Kind>,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
    requests: Arc<Kind>,
    services: Arc<Kind>,
    namespaces: Arc<Kind>,
    definitions: Arc<Kind>,
    roles: RoleKinds,
}

fn internal(plural: &str) -> Resource {
    Resource::new("internal", plural)
}

impl ClusterCleanup {
    /// Deletes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            client,
            clusters: kind("cluster.open-cluster-management.io", "v1", "managedclusters")?,
            pods: kind("", "v1", "pods")?,
            nodes: kind("", "v1", "nodes")?,
            requests: kind("certificates.k8s.io", "v1", "certificatesigningrequests")?,
            services: kind("", "v1", "services")?,
            namespaces: kind("", "v1", "namespaces")?,
            definitions: kind("apiextensions.k8s.io", "v1", "customresourcedefinitions")?,
            roles: RoleKinds::new()?,
        })
    }

    fn key_for(&self, cluster: &str) -> Key {
        key_of(&self.clusters, &ClusterName::root(), "", cluster)
    }

    /// Everything of a cluster in the root that goes through the pipeline. Whether it is all gone.
    async fn clear_root(
        &self,
        name: &ClusterName,
        snapshot: &dyn Snapshot,
        faults: &mut Faults,
    ) -> bool {
        let root = ClusterName::root();
        for stored in self.bound(name, snapshot) {
            let options = DeleteOptions {
                grace_period_seconds: Some(0),
                uid: Some(stored.object.header.uid.clone()),
                ..DeleteOptions::default()
            };
            let place = object_ref(&self.pods, &stored.key);
            let deleted = self.client.objects().delete(self.client.how(), &place, &options).await;
            faults.note(tolerate(deleted).map_err(Error::api("delete a pod of a removed cluster")));
        }
        let node = key_of(&self.nodes, &root, "", name.as_str());
        let node = snapshot.get(&node).filter(|node| is_ours(node));
        let requests = snapshot.range(&in_cluster(&self.requests, &root), None).filter(|request| {
            let of = request.object.header.labels.get(CLUSTER_NAME_LABEL);
            of.is_some_and(|of| of == name.as_str())
        });
        let roles = self.roles.all(name.as_str());
        let roles = roles.into_iter().filter_map(|(kind, key)| Some((kind, snapshot.get(&key)?)));
        let all = node.map(|node| (&self.nodes, node)).into_iter().chain(roles);
        for (kind, stored) in all.chain(requests.map(|request| (&self.requests, request))) {
            let uid = &stored.object.header.uid;
            let deleted = self.client.delete(kind, &stored.key, uid, Propagation::Background).await;
            let doing = "delete the Node, a request or a role of a removed cluster";
            faults.note(deleted.map(drop).map_err(Error::api(doing)));
        }
        let emptied = self.clear_namespace(name, snapshot, faults).await;
        // A pod that somebody's finalizer holds is still bound here, and would be the next device's.
        emptied && self.bound(name, &*self.client.snapshot()).is_empty()
    }

    /// The namespace that was made for the cluster. Whether it is gone.
    async fn clear_namespace(
        &self,
        name: &ClusterName,
        snapshot: &dyn Snapshot,
        faults: &mut Faults,
    ) -> bool {
        let key = key_of(&self.namespaces, &ClusterName::root(), "", name.as_str());
        let Some(namespace) = snapshot.get(&key).filter(|it| is_of_cluster(it)) else {
            return true;
        };
        if !namespace.object.header.deleting {
            let uid = &namespace.object.header.uid;
            let deleted =
                self.client.delete(&self.namespaces, &key, uid, Propagation::Background).await;
            let doing = "delete the namespace of a removed cluster";
            faults.note(deleted.map(drop).map_err(Error::api(doing)));
        }
        false
    }

    /// Pods of the root that are bound to this spoke.
    fn bound(&self, name: &ClusterName, snapshot: &dyn Snapshot) -> Vec<Arc<Stored>> {
        let pods = snapshot.range(&in_cluster(&self.pods, &ClusterName::root()), None);
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
        faults: &mut Faults,
    ) {
        for service in snapshot.range(&in_cluster(&self.services, name), None) {
            let uid = &service.object.header.uid;
            let deleted =
                self.client.delete(&self.services, &service.key, uid, Propagation::Background);
            let doing = "delete a Service of a removed cluster";
            let going = faults.note(deleted.await.map(drop).map_err(Error::api(doing)));
            if going && !service.object.header.finalizers.is_empty() {
                let free = |mut value: Value| {
                    value["metadata"]["finalizers"] = Value::Array(Vec::new());
                    Ok(value)
                };
                let freed = self.client.modify_this(&self.services, &service, None, free).await;
                let doing = "release a Service of a removed cluster";
                faults.note(tolerate(freed).map_err(Error::api(doing)));
            }
        }
    }

    /// What is in a logical cluster, and what is remembered under its name, at this revision.
    fn rest(&self, name: &ClusterName, snapshot: &dyn Snapshot) -> Vec<Arc<Stored>> {
        let mut all = Vec::new();
        let registry = self.client.registry(name);
        let mut content: Vec<Resource> =
            registry.stored().into_iter().map(|kind| kind.storage().clone()).collect();
        content.sort_by_key(|resource| resource != self.namespaces.storage());
        // What a definition is about is not found any more when that is gone.
        content.retain(|resource| resource != self.definitions.storage());
        let kept = [
            internal::pod_cidrs(),
            internal("clusterips"),
            internal("definitions"),
            internal::token_signers(),
            internal::token_keys(),
        ];
        for resource in content.into_iter().chain(kept) {
            let scope = Scope { resource, cluster: Some(name.clone()), namespace: None };
            all.extend(snapshot.range(&scope, None));
        }
        if all.is_empty() {
            all.extend(snapshot.range(&in_cluster(&self.definitions, name), None));
        }
        let root = Some(ClusterName::root());
        let leases = Scope { resource: internal::pod_cidrs(), cluster: root, namespace: None };
        let of_it = |lease: &Arc<Stored>| *lease.object.body == *name.as_str().as_bytes();
        all.extend(snapshot.range(&leases, None).filter(of_it));
        all.extend(snapshot.get(&internal::session_key(name.as_str())));
        all
    }

    /// Deletes these as they were read. Finalizers in a cluster that is gone hold nothing.
    async fn delete(&self, mut all: Vec<Arc<Stored>>, faults: &mut Faults) {
        // A Service goes with what it holds in the root, or stays.
        all.retain(|stored| stored.key.resource != *self.services.storage());
        let now = self.client.snapshot();
        all.retain(|s| now.get(&s.key).is_some_and(|there| there.revision == s.revision));
        for part in all.chunks(DELETES_AT_ONCE) {
            let txn = Txn {
                expect: part.iter().map(|s| Expect::Revision(s.key.clone(), s.revision)).collect(),
                operations: part.iter().map(|s| Operation::Delete(s.key.clone())).collect(),
            };
            match self.client.objects().store().commit(txn).await {
                // Something has changed meanwhile: the next look sees what.
                Ok(_) | Err(CommitError::Unmet { .. }) => {}
                Err(source) => {
                    let doing = "delete what a removed cluster left";
                    faults.note(Err(Error::Commit { doing, source }));
                }
            }
        }
    }

    async fn let_go(&self, cluster: &Stored) -> Result<(), Error> {
        let free = |mut value: Value| {
            if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
                list.retain(|name| name != CLEANUP_FINALIZER);
            }
            Ok(value)
        };
        tolerate(self.client.modify_this(&self.clusters, cluster, None, free).await)
            .map_err(Error::api("let a removed cluster go"))?;
        info!(cluster = %cluster.key.name, "a removed cluster has left nothing behind");
        Ok(())
    }
}

/// What is gone already is fine.
fn tolerate<T>(outcome: Result<T, ApiError>) -> Result<(), ApiError> {
    if let Err(error) = outcome
        && !matches!(error.code, 404 | 409)
    {
        return Err(error);
    }
    Ok(())
}

#[async_trait]
impl Controller for ClusterCleanup {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let records = ["podcidrs", "sessions"];
        let content = self.client.objects().kinds().stored().storages(|_| true);
        content.into_iter().chain(records.map(internal)).map(all_of).collect()
    }

    fn kinds(&self) -> Option<&Registries> {
        Some(self.client.objects().kinds())
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let name: &str = if key.resource == *self.clusters.storage() {
            &key.name
        } else if !key.cluster.is_root() {
            key.cluster.as_str()
        } else if key.resource == internal::sessions() {
            &key.name
        } else {
            return Vec::new();
        };
        let cluster = self.key_for(name);
        let stays = now.get(&cluster).is_some_and(|cluster| !cluster.object.header.deleting);
        // What goes is what this controller is at: it looks again by itself.
        let news = event.now.is_some() || key.resource == *self.clusters.storage();
        if stays || !news { Vec::new() } else { vec![cluster] }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let name =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        let snapshot = self.client.snapshot();
        let cluster = snapshot.get(key);
        if name.is_root() || cluster.as_ref().is_some_and(|c| !c.object.header.deleting) {
            return Ok(None);
        }
        let mut faults = Faults::default();
        let cleared = self.clear_root(&name, &*snapshot, &mut faults).await;
        self.release_services(&name, &*snapshot, &mut faults).await;
        // Read before anything that came later: namespaces go first, and nothing gets into what is not there.
        self.delete(self.rest(&name, &*snapshot), &mut faults).await;
        faults.end()?;
        let left = self.rest(&name, &*self.client.snapshot());
        if !cleared || !left.is_empty() {
            return Ok(Some(RECHECK_AFTER));
        }
        // Its own kinds are none of the next cluster's of its name.
        self.client.objects().kinds().forget(&name);
        let ours =
            |c: &Arc<Stored>| c.object.header.finalizers.iter().any(|f| f == CLEANUP_FINALIZER);
        if let Some(cluster) = cluster.filter(ours) {
            self.let_go(&cluster).await?;
        }
        Ok(None)
    }
}

//! Keeps each Service's EndpointSlices and Endpoints true to the pods that it selects.
//!
//! ```text
//! Service + pods ─▶ facts (one per pod that has an address) ─▶ slices (≤ 100 each), Endpoints
//! ```
//!
//! Guarantees: an endpoint that stays keeps its slice; a pod that is being deleted is never ready; a
//! Service without a selector is left to whoever wrote its endpoints.

pub mod facts;
mod legacy;
pub mod slices;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_store::objects::Propagation;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use k8s_openapi::api::core::v1::{Node, Service};
use serde_json::json;

use crate::engine::desk::{everywhere, in_cluster, in_namespace, key as key_of, kind, typed};
use crate::engine::{Controller, Desk, Error};
use crate::pods::PodFacts;
use crate::replicaset::owner_reference;
use crate::selector::Selector;
use facts::{Facts, facts_of};
use slices::{MANAGED_BY, MANAGER, Present, SERVICE_NAME, Write};

/// Label of the Endpoints that this controller writes.
const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const ENDPOINTS_MANAGER: &str = "endpoint-controller";

/// The controller.
pub struct EndpointsOfServices {
    desk: Desk,
    services: &'static Kind,
    pods: &'static Kind,
    nodes: &'static Kind,
    slices: &'static Kind,
    endpoints: &'static Kind,
}

impl EndpointsOfServices {
    /// Writes through this desk.
    pub fn new(desk: Desk) -> Result<Self, Error> {
        Ok(Self {
            desk,
            services: kind("", "v1", "services")?,
            pods: kind("", "v1", "pods")?,
            nodes: kind("", "v1", "nodes")?,
            slices: kind("discovery.k8s.io", "v1", "endpointslices")?,
            endpoints: kind("", "v1", "endpoints")?,
        })
    }

    fn services_of(&self, pod: &Stored, now: &dyn Snapshot) -> Vec<Key> {
        let labels = &pod.object.header.labels;
        now.range(&in_namespace(self.services, &pod.key.cluster, &pod.key.namespace), None)
            .filter(|stored| {
                let spec = typed::<Service>(stored).ok().and_then(|s| s.spec);
                let selector = spec.and_then(|s| Selector::of_service(s.selector.as_ref()));
                selector.is_some_and(|s| s.matches(labels))
            })
            .map(|service| service.key.clone())
            .collect()
    }

    /// A spoke that falls silent or comes back touches the Services of its realm.
    fn services_on(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let (Some(node), Some(before)) = (&event.now, &event.before) else { return Vec::new() };
        if is_silent(node) == is_silent(before) {
            return Vec::new();
        }
        let scope = in_cluster(self.services, &node.key.cluster);
        now.range(&scope, None).map(|service| service.key.clone()).collect()
    }

    /// Whether the pod's spoke is heard of; a Node that is not there says nothing either way.
    fn is_reachable(
        &self,
        pod: &PodFacts,
        silent: &mut HashMap<String, bool>,
        snapshot: &dyn Snapshot,
    ) -> bool {
        let known = silent.entry(pod.node().to_owned()).or_insert_with(|| {
            let key = key_of(self.nodes, &pod.key().cluster, "", pod.node());
            snapshot.get(&key).is_some_and(|node| is_silent(&node))
        });
        !*known
    }

    fn present(&self, service: &Key, snapshot: &dyn Snapshot) -> Result<Vec<Present>, Error> {
        let scope = in_namespace(self.slices, &service.cluster, &service.namespace);
        snapshot
            .range(&scope, None)
            .filter(|slice| {
                let labels = &slice.object.header.labels;
                labels.get(SERVICE_NAME).is_some_and(|n| **n == *service.name)
                    && labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER)
            })
            .map(Present::read)
            .collect()
    }

    async fn write_slices(
        &self,
        stored: &Stored,
        service: &Service,
        pods: &[Facts],
        present: &[Present],
    ) -> Result<(), Error> {
        let owner = owner_reference(self.services, stored);
        let key = &stored.key;
        for write in slices::decide(service, &owner, pods, present) {
            match write {
                Write::Create(slice) => {
                    let made =
                        self.desk.create(self.slices, &key.cluster, &key.namespace, &slice).await;
                    made.map_err(Error::api("create an EndpointSlice"))?;
                }
                Write::Update(old, slice) => {
                    self.desk
                        .modify_at(self.slices, &old, None, |mut value| {
                            value["endpoints"] = slice["endpoints"].clone();
                            value["ports"] = slice["ports"].clone();
                            value["metadata"]["labels"] = slice["metadata"]["labels"].clone();
                            Ok(value)
                        })
                        .await
                        .map_err(Error::api("write an EndpointSlice"))?;
                }
                Write::Delete(old) => self.delete_slice(&old).await?,
            }
        }
        Ok(())
    }

    async fn delete_slice(&self, slice: &Stored) -> Result<(), Error> {
        let uid = &slice.object.header.uid;
        self.desk
            .delete(self.slices, &slice.key, uid, Propagation::Background)
            .await
            .map_err(Error::api("delete an EndpointSlice"))?;
        Ok(())
    }

    async fn write_endpoints(
        &self,
        stored: &Stored,
        service: &Service,
        pods: &[Facts],
        snapshot: &dyn Snapshot,
    ) -> Result<(), Error> {
        let key =
            key_of(self.endpoints, &stored.key.cluster, &stored.key.namespace, &stored.key.name);
        let subsets = legacy::subsets(service, pods);
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.insert(ENDPOINTS_MANAGED_BY.to_owned(), ENDPOINTS_MANAGER.to_owned());
        if slices::is_headless(service) {
            labels.insert(slices::HEADLESS.to_owned(), String::new());
        }
        let Some(present) = snapshot.get(&key) else {
            let new = json!({
                "metadata": {"name": &*key.name, "namespace": &*key.namespace, "labels": labels},
                "subsets": subsets,
            });
            let (cluster, namespace) = (&key.cluster, &*key.namespace);
            let made = self.desk.create(self.endpoints, cluster, namespace, &new).await;
            return made.map(|_| ()).map_err(Error::api("create Endpoints"));
        };
        let written = self
            .desk
            .modify_at(self.endpoints, &present, None, |mut value| {
                value["subsets"] = subsets.clone();
                value["metadata"]["labels"] = json!(labels);
                Ok(value)
            })
            .await;
        written.map(|_| ()).map_err(Error::api("write Endpoints"))
    }

    /// The Service is gone, or selects nothing any more: what was written for it goes too.
    async fn clean(&self, key: &Key, snapshot: &dyn Snapshot) -> Result<(), Error> {
        for slice in self.present(key, snapshot)? {
            self.delete_slice(&slice.stored).await?;
        }
        let endpoints = key_of(self.endpoints, &key.cluster, &key.namespace, &key.name);
        let Some(stored) = snapshot.get(&endpoints) else { return Ok(()) };
        let header = &stored.object.header;
        if header.labels.get(ENDPOINTS_MANAGED_BY).is_some_and(|m| m == ENDPOINTS_MANAGER) {
            self.desk
                .delete(self.endpoints, &endpoints, &header.uid, Propagation::Background)
                .await
                .map_err(Error::api("delete Endpoints"))?;
        }
        Ok(())
    }
}

/// Condition Ready is Unknown.
fn is_silent(node: &Stored) -> bool {
    let status = typed::<Node>(node).ok().and_then(|n| n.status);
    let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "Unknown")
}

/// Nothing new can be made in a namespace that goes.
fn is_ending(error: &Error) -> bool {
    let ends = |e: &ApiError| e.code == 403 && e.message.contains("being terminated");
    matches!(error, Error::Api { source, .. } if ends(source))
}

#[async_trait]
impl Controller for EndpointsOfServices {
    fn name(&self) -> &'static str {
        self.desk.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let kinds = [self.services, self.pods, self.nodes, self.slices, self.endpoints];
        kinds.map(everywhere).to_vec()
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let service = |name: &str| vec![key_of(self.services, &key.cluster, &key.namespace, name)];
        if key.resource == self.services.storage() || key.resource == self.endpoints.storage() {
            return service(&key.name);
        }
        if key.resource == self.nodes.storage() {
            return self.services_on(event, now);
        }
        let sides = event.now.iter().chain(event.before.iter());
        let mut keys: Vec<Key> = if key.resource == self.slices.storage() {
            let labels = sides.filter_map(|s| s.object.header.labels.get(SERVICE_NAME));
            labels.flat_map(|name| service(name)).collect()
        } else {
            sides.flat_map(|pod| self.services_of(pod, now)).collect()
        };
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.desk.snapshot();
        let Some(stored) = snapshot.get(key) else {
            self.clean(key, &*snapshot).await?;
            return Ok(None);
        };
        let service: Service = typed(&stored)?;
        let spec = service.spec.clone().unwrap_or_default();
        let external = spec.type_.as_deref() == Some("ExternalName");
        let selector = Selector::of_service(spec.selector.as_ref()).filter(|_| !external);
        if stored.object.header.deleting {
            return Ok(None);
        }
        let Some(selector) = selector else {
            self.clean(key, &*snapshot).await?;
            return Ok(None);
        };
        let mut pods = Vec::new();
        let mut silent = HashMap::new();
        for pod in snapshot.range(&in_namespace(self.pods, &key.cluster, &key.namespace), None) {
            if selector.matches(&pod.object.header.labels) {
                let pod = PodFacts::read(pod)?;
                let reachable = self.is_reachable(&pod, &mut silent, &*snapshot);
                pods.extend(facts_of(&service, &pod, reachable));
            }
        }
        let present = self.present(key, &*snapshot)?;
        let written = match self.write_slices(&stored, &service, &pods, &present).await {
            Ok(()) => self.write_endpoints(&stored, &service, &pods, &*snapshot).await,
            failed => failed,
        };
        match written {
            Err(error) if is_ending(&error) => Ok(None),
            other => other.map(|()| None),
        }
    }
}

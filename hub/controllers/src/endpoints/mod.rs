//! Keeps each Service's EndpointSlices and Endpoints true to the pods that it selects.
//!
//! ```text
//! Service + pods ─▶ facts (one per pod that has an address) ─▶ slices (≤ 100 each), Endpoints
//! ```
//!
//! Guarantees:
//! - a change of a pod costs what its Services select, not what the namespace holds
//!   (`a_change_of_one_pod_costs_its_own_set`);
//! - the endpoints of a large Service are written every now and then while they change, not for each pod
//!   (`a_thousand_replicas_cost_few_writes_that_are_not_about_one_of_them`);
//! - an endpoint that stays keeps its slice (`slices_hold_a_hundred_and_keep_who_stays`);
//! - a pod that is being deleted is not ready (`only_ready_pods_with_an_address_are_ready`);
//! - a pod whose address may be nobody's is left out, and no other one
//!   (`a_pod_whose_address_may_be_nobody_s_is_left_out_alone`);
//! - a Service without a selector is left to whoever wrote its endpoints, which `mirror` takes over into slices
//!   (`endpoints_by_hand_are_mirrored`).

pub mod facts;
mod legacy;
mod mirror;
pub mod slices;
mod unserved;

pub use unserved::Handlers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::Mutex;
use serde_json::json;

use crate::control::owner_reference;
use crate::engine::client::{everywhere, key as key_of, kind, typed};
use crate::engine::{Client, Controller, Error, Throttle};
use crate::index::{Entry, IndexTerm, Indexes, NodeReachability, PodEntry};
use crate::selector::Selector;
use facts::{PodEndpoint, pod_endpoint};
pub use mirror::EndpointSliceMirroring;
use slices::{MANAGED_BY, MANAGER, PresentSlice, SERVICE_NAME, SliceWrite};

/// Label of the Endpoints that this controller writes.
const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const ENDPOINTS_MANAGER: &str = "endpoint-controller";

/// The controller.
pub struct EndpointSlices {
    client: Client,
    indexes: Indexes,
    handlers: Arc<dyn Handlers>,
    services: Arc<Kind>,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
    slices: Arc<Kind>,
    endpoints: Arc<Kind>,
    /// When the endpoints of each Service were last written.
    throttle: Throttle,
    /// What was last said about the ports of each Service.
    hints: Mutex<HashMap<Key, String>>,
}

impl EndpointSlices {
    /// Writes through this client.
    pub fn new(
        client: Client,
        indexes: Indexes,
        handlers: Arc<dyn Handlers>,
    ) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            handlers,
            services: kind("", "v1", "services")?,
            pods: kind("", "v1", "pods")?,
            nodes: kind("", "v1", "nodes")?,
            slices: kind("discovery.k8s.io", "v1", "endpointslices")?,
            endpoints: kind("", "v1", "endpoints")?,
            throttle: Throttle::default(),
            hints: Mutex::default(),
        })
    }

    /// The Services that a change of a pod touches.
    fn services_of(&self, now: Option<&Arc<Stored>>, before: Option<&Arc<Stored>>) -> Vec<Key> {
        let mut keys: Vec<Key> =
            now.into_iter().chain(before).flat_map(|pod| self.selecting(pod)).collect();
        if !keys.is_empty() && now.zip(before).is_some_and(|(now, before)| same(now, before)) {
            keys.clear();
        }
        keys
    }

    fn selecting(&self, pod: &Stored) -> Vec<Key> {
        self.indexes.selector_owners_of(&self.services, pod)
    }

    /// A spoke that falls silent, comes back or moves to another zone touches the Services of the pods that run there.
    fn services_on(&self, event: &Event) -> Vec<Key> {
        let (Some(node), Some(before)) = (&event.now, &event.before) else { return Vec::new() };
        let (now, was) =
            (NodeReachability::read(node.clone()), NodeReachability::read(before.clone()));
        if now.is_silent() == was.is_silent() && now.zone() == was.zone() {
            return Vec::new();
        }
        let pods = self.indexes.pods.find(IndexTerm::Node(&node.key.cluster, &node.key.name));
        pods.iter().flat_map(|pod| self.selecting(&pod.stored)).collect()
    }

    /// What the pods that the Service selects contribute, and how many these are.
    fn facts(
        &self,
        key: &Key,
        service: &Service,
        selector: &Selector,
    ) -> Result<(Vec<PodEndpoint>, usize), Error> {
        let label = |(k, v)| IndexTerm::Label(&key.cluster, &key.namespace, k, v);
        let labels: Vec<IndexTerm<'_>> = selector.pairs().map(label).collect();
        let mut pods = self.indexes.pods.rarest(&labels);
        pods.retain(|pod| selector.matches(&pod.stored.object.header.labels));
        pods.sort_by(|a, b| a.stored.key.name.cmp(&b.stored.key.name));
        let nodes: HashMap<&str, Arc<NodeReachability>> = self.indexes.nodes.look(|nodes| {
            let named: HashSet<&str> = pods.iter().map(|pod| pod.node()).collect();
            let find =
                |name: &'_ str| nodes.get(&key_of(&self.nodes, &key.cluster, "", name)).cloned();
            named.into_iter().filter_map(|name| Some((name, find(name)?))).collect()
        });
        let mut facts = Vec::with_capacity(pods.len());
        for pod in &pods {
            // A Node that is not there says nothing either way.
            let node = nodes.get(pod.node());
            let silent = node.is_some_and(|node| node.is_silent());
            facts.extend(pod_endpoint(service, pod, !silent)?.map(|facts| PodEndpoint {
                zone: node.and_then(|node| node.zone()).map(str::to_owned),
                ..facts
            }));
        }
        Ok((facts, pods.len()))
    }

    fn present(&self, service: &Key) -> Result<Vec<PresentSlice>, Error> {
        let term = IndexTerm::Service(&service.cluster, &service.namespace, &service.name);
        let mut slices = self.indexes.slices.find(term);
        slices.retain(|slice| {
            slice.stored.object.header.labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER)
        });
        slices.sort_by(|a, b| a.stored.key.name.cmp(&b.stored.key.name));
        slices.iter().map(|slice| PresentSlice::read(slice.stored.clone())).collect()
    }

    async fn write_slices(
        &self,
        stored: &Stored,
        service: &Service,
        pods: &[PodEndpoint],
        present: &[PresentSlice],
    ) -> Result<(), Error> {
        let owner = owner_reference(&self.services, stored);
        let key = &stored.key;
        for write in slices::decide(service, &owner, pods, present) {
            match write {
                SliceWrite::Create(slice) => {
                    let made = self
                        .client
                        .create(&self.slices, &key.cluster, &key.namespace, &slice)
                        .await;
                    made.map_err(Error::api("create an EndpointSlice"))?;
                }
                SliceWrite::Update(old, slice) => {
                    self.client
                        .modify_at(&self.slices, &old, None, |mut value| {
                            value["endpoints"] = slice["endpoints"].clone();
                            value["ports"] = slice["ports"].clone();
                            value["metadata"]["labels"] = slice["metadata"]["labels"].clone();
                            Ok(value)
                        })
                        .await
                        .map_err(Error::api("write an EndpointSlice"))?;
                }
                SliceWrite::Delete(old) => self.delete_slice(&old).await?,
            }
        }
        Ok(())
    }

    async fn delete_slice(&self, slice: &Stored) -> Result<(), Error> {
        let uid = &slice.object.header.uid;
        self.client
            .delete(&self.slices, &slice.key, uid, Propagation::Background)
            .await
            .map_err(Error::api("delete an EndpointSlice"))?;
        Ok(())
    }

    async fn write_endpoints(
        &self,
        stored: &Stored,
        service: &Service,
        pods: &[PodEndpoint],
    ) -> Result<(), Error> {
        let key =
            key_of(&self.endpoints, &stored.key.cluster, &stored.key.namespace, &stored.key.name);
        let subsets = legacy::subsets(service, pods);
        let truncated = legacy::is_truncated(service, pods);
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.insert(ENDPOINTS_MANAGED_BY.to_owned(), ENDPOINTS_MANAGER.to_owned());
        if slices::is_headless(service) {
            labels.insert(slices::HEADLESS.to_owned(), String::new());
        }
        let Some(present) = self.client.snapshot().get(&key) else {
            let new = json!({
                "metadata": {"name": &*key.name, "namespace": &*key.namespace, "labels": labels,
                    "annotations": truncated.then(|| json!({legacy::OVER_CAPACITY: "truncated"}))},
                "subsets": subsets,
            });
            let (cluster, namespace) = (&key.cluster, &*key.namespace);
            let made = self.client.create(&self.endpoints, cluster, namespace, &new).await;
            return made.map(|_| ()).map_err(Error::api("create Endpoints"));
        };
        let written = self
            .client
            .modify_at(&self.endpoints, &present, None, |mut value| {
                value["subsets"] = subsets.clone();
                value["metadata"]["labels"] = json!(labels);
                if truncated {
                    value["metadata"]["annotations"][legacy::OVER_CAPACITY] = json!("truncated");
                } else if let Some(all) = value["metadata"]["annotations"].as_object_mut() {
                    all.remove(legacy::OVER_CAPACITY);
                }
                Ok(value)
            })
            .await;
        written.map(|_| ()).map_err(Error::api("write Endpoints"))
    }

    /// Says once when the Service sends to a port on which the first of its pods serves nothing.
    fn hint(
        &self,
        stored: &Arc<Stored>,
        service: &Service,
        pods: &[PodEndpoint],
    ) -> Result<(), Error> {
        let Some(first) = pods.first() else { return Ok(()) };
        let key = key_of(&self.pods, &stored.key.cluster, &first.namespace, &first.pod);
        let Some(pod) = self.client.snapshot().get(&key) else { return Ok(()) };
        let pod: Pod = typed(&pod)?;
        let hint = unserved::hint(service, &pod, &*self.handlers);
        let mut hints = self.hints.lock();
        if hints.get(&stored.key) == hint.as_ref() {
            return Ok(());
        }
        let Some(hint) = hint else {
            hints.remove(&stored.key);
            return Ok(());
        };
        hints.insert(stored.key.clone(), hint.clone());
        drop(hints);
        let by = "endpoint-slice-controller";
        self.client.recorder.warning(&self.services, stored, by, "PortNotServed", hint);
        Ok(())
    }

    /// The Service is gone, or selects nothing any more: what was written for it goes too.
    async fn clean(&self, key: &Key) -> Result<(), Error> {
        self.throttle.forget(key);
        self.hints.lock().remove(key);
        for slice in self.present(key)? {
            self.delete_slice(&slice.stored).await?;
        }
        let endpoints = key_of(&self.endpoints, &key.cluster, &key.namespace, &key.name);
        let Some(stored) = self.client.snapshot().get(&endpoints) else { return Ok(()) };
        let header = &stored.object.header;
        if header.labels.get(ENDPOINTS_MANAGED_BY).is_some_and(|m| m == ENDPOINTS_MANAGER) {
            self.client
                .delete(&self.endpoints, &endpoints, &header.uid, Propagation::Background)
                .await
                .map_err(Error::api("delete Endpoints"))?;
        }
        Ok(())
    }
}

/// Whether both versions of a pod are the same to every Service.
fn same(now: &Arc<Stored>, before: &Arc<Stored>) -> bool {
    let (now, before) = (PodEntry::read(now.clone()), PodEntry::read(before.clone()));
    let header = |pod: &PodEntry| {
        let header = &pod.stored.object.header;
        (header.uid.clone(), header.labels.clone(), header.deleting)
    };
    let (Ok(a), Ok(b)) = (now.summary(), before.summary()) else { return false };
    (now.node(), now.phase()) == (before.node(), before.phase())
        && header(&now) == header(&before)
        && a == b
}

/// Nothing new can be made in a namespace that goes.
fn is_ending(error: &Error) -> bool {
    matches!(error, Error::Api { source, .. } if source.is_namespace_terminating())
}

#[async_trait]
impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let kinds = [&self.services, &self.pods, &self.nodes, &self.slices, &self.endpoints];
        kinds.map(|kind| everywhere(kind)).to_vec()
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let service = |name: &str| vec![key_of(&self.services, &key.cluster, &key.namespace, name)];
        if key.resource == *self.services.storage() || key.resource == *self.endpoints.storage() {
            return service(&key.name);
        }
        if key.resource == *self.nodes.storage() {
            return self.services_on(event);
        }
        let mut keys: Vec<Key> = if key.resource == *self.slices.storage() {
            let sides = event.now.iter().chain(event.before.iter());
            let labels = sides.filter_map(|s| s.object.header.labels.get(SERVICE_NAME));
            labels.flat_map(|name| service(name)).collect()
        } else {
            self.services_of(event.now.as_ref(), event.before.as_ref())
        };
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else {
            self.clean(key).await?;
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
            self.clean(key).await?;
            return Ok(None);
        };
        let (pods, selected) = self.facts(key, &service, &selector)?;
        // Twice: slices and Endpoints both tell of every pod.
        if let Some(rest) = self.throttle.wait(key, 2 * selected) {
            return Ok(Some(rest));
        }
        self.hint(&stored, &service, &pods)?;
        let present = self.present(key)?;
        let written = match self.write_slices(&stored, &service, &pods, &present).await {
            Ok(()) => self.write_endpoints(&stored, &service, &pods).await,
            failed => failed,
        };
        match written {
            Err(error) if is_ending(&error) => Ok(None),
            other => other.map(|()| None),
        }
    }
}

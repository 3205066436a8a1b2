//! What is read of an object, once per version.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_placement as placement;
use freewheel_hub_schema::kind::Selection;
use freewheel_hub_store::Stored;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use super::IndexTerm;
use crate::endpoints::slices::SERVICE_NAME;
use crate::engine::Error;
use crate::engine::client::typed;
use crate::pods::{Availability, controller_of, is_active};
use crate::selector::Selector;

/// What an index keeps of an object.
pub trait Entry: Send + Sync + 'static {
    /// Whether an object without any term can be found by its key.
    const KEPT_WITHOUT_TERMS: bool = false;

    /// Takes the object in. Cheap: it is called for every version of every object.
    fn read(stored: Arc<Stored>) -> Self;

    /// The object.
    fn stored(&self) -> &Arc<Stored>;

    /// Names every term that the object is found by, always in the same order.
    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>));
}

/// Terms of what somebody may control or adopt.
fn control_terms<'a>(stored: &'a Stored, name: &mut dyn FnMut(IndexTerm<'a>)) {
    let (cluster, namespace) = (&stored.key.cluster, &*stored.key.namespace);
    if let Some(uid) = controller_of(stored) {
        return name(IndexTerm::Controller(cluster, namespace, uid));
    }
    name(IndexTerm::Orphan(cluster, namespace));
    for (key, value) in &stored.object.header.labels {
        name(IndexTerm::OrphanWith(cluster, namespace, key, value));
    }
}

/// A pod.
#[derive(Debug)]
pub struct PodEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
    summary: OnceLock<PodSummary>,
}

/// What sets and Services want to know of a pod's body: most of it is of no interest to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSummary {
    /// Condition Ready is True: since when.
    ready: Option<Option<Timestamp>>,
    /// status.podIP, else empty.
    pub ip: Box<str>,
    /// spec.hostname
    pub hostname: Option<Box<str>>,
    /// spec.subdomain
    pub subdomain: Option<Box<str>>,
    /// Named ports of containers and sidecars, in their order.
    pub ports: Box<[NamedPort]>,
}

/// A container port with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// name
    pub name: Box<str>,
    /// `TCP`, `UDP`, `SCTP`
    pub protocol: Box<str>,
    /// containerPort
    pub number: i32,
}

#[derive(Deserialize)]
struct RawPod {
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    hostname: Option<Box<str>>,
    subdomain: Option<Box<str>>,
    #[serde(default)]
    containers: Vec<RawContainer>,
    #[serde(default)]
    init_containers: Vec<RawContainer>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    restart_policy: Option<Box<str>>,
    #[serde(default)]
    ports: Vec<RawPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    name: Option<Box<str>>,
    protocol: Option<Box<str>>,
    container_port: i32,
}

#[derive(Default, Deserialize)]
struct RawStatus {
    #[serde(default, rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(default)]
    conditions: Vec<PodCondition>,
}

impl From<RawPod> for PodSummary {
    fn from(raw: RawPod) -> Self {
        let mut conditions = raw.status.conditions.into_iter();
        let ready = conditions.find(|c| c.type_ == "Ready" && c.status == "True");
        let sidecar = |c: &RawContainer| c.restart_policy.as_deref() == Some("Always");
        let sidecars = raw.spec.init_containers.into_iter().filter(sidecar);
        let ports = raw.spec.containers.into_iter().chain(sidecars).flat_map(|c| c.ports);
        let named = ports.filter_map(|port| {
            let protocol = port.protocol.unwrap_or_else(|| "TCP".into());
            Some(NamedPort { name: port.name?, protocol, number: port.container_port })
        });
        Self {
            ready: ready.map(|c| c.last_transition_time.map(|t| t.0)),
            ip: raw.status.pod_ip,
            hostname: raw.spec.hostname,
            subdomain: raw.spec.subdomain,
            ports: named.collect(),
        }
    }
}

impl PodSummary {
    /// Condition Ready is True.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Whether it has been ready for `min_ready`; if it is ready but not yet long enough, the rest.
    #[must_use]
    pub fn availability(&self, min_ready: Duration, now: Timestamp) -> Availability {
        let Some(since) = self.ready else { return Availability::No };
        if min_ready.is_zero() {
            return Availability::Yes;
        }
        let Some(since) = since else { return Availability::No };
        let ready_for = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        match min_ready.checked_sub(ready_for) {
            None | Some(Duration::ZERO) => Availability::Yes,
            Some(rest) => Availability::In(rest),
        }
    }
}

impl PodEntry {
    /// What its body says, parsed at the first call.
    pub fn summary(&self) -> Result<&PodSummary, Error> {
        if let Some(known) = self.summary.get() {
            return Ok(known);
        }
        let raw: RawPod = typed(&self.stored)?;
        Ok(self.summary.get_or_init(|| PodSummary::from(raw)))
    }

    /// Neither finished nor being deleted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        is_active(&self.stored)
    }

    /// `spec.nodeName`, empty when unbound.
    #[must_use]
    pub fn node(&self) -> &str {
        self.field("spec.nodeName")
    }

    /// `status.phase`, empty when nobody said anything yet.
    #[must_use]
    pub fn phase(&self) -> &str {
        self.field("status.phase")
    }

    fn field(&self, name: &str) -> &str {
        self.stored.object.header.fields.get(name).map(String::as_str).unwrap_or_default()
    }
}

impl Entry for PodEntry {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored, summary: OnceLock::new() }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        control_terms(&self.stored, name);
        let (cluster, namespace) = (&self.stored.key.cluster, &*self.stored.key.namespace);
        for (key, value) in &self.stored.object.header.labels {
            name(IndexTerm::Label(cluster, namespace, key, value));
        }
        if !self.node().is_empty() {
            name(IndexTerm::Node(cluster, self.node()));
        }
    }
}

/// What selects others: a Service, a ReplicaSet, a Deployment.
#[derive(Debug)]
pub struct SelectorOwner {
    /// The stored object.
    pub stored: Arc<Stored>,
    /// Its selector, when it has one that does not match everything.
    pub selector: Option<Selector>,
}

#[derive(Deserialize)]
struct RawSelectorOwner {
    #[serde(default)]
    spec: RawSelectorSpec,
}

#[derive(Default, Deserialize)]
struct RawSelectorSpec {
    #[serde(default)]
    selector: Value,
}

impl Entry for SelectorOwner {
    fn read(stored: Arc<Stored>) -> Self {
        let raw: Option<RawSelectorOwner> = typed(&stored).ok();
        let raw = raw.map(|r| r.spec.selector).unwrap_or_default();
        let registry = kinds::registry(&stored.key.cluster);
        let kind = registry.by_storage(&stored.key.resource);
        let selector = kind.and_then(|kind| kind.selection).and_then(|how| match how {
            Selection::Labels => Selector::of_service(serde_json::from_value(raw).ok().as_ref()),
            Selection::LabelSelector => {
                let selector: LabelSelector = serde_json::from_value(raw).ok()?;
                Selector::of_workload(&selector)
            }
            Selection::LabelSelectorOrAll => {
                let selector: LabelSelector = serde_json::from_value(raw).ok()?;
                Selector::of_budget(&selector)
            }
        });
        Self { stored, selector }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    /// By one of the labels that it asks for: who has that is asked about the others too.
    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        let Some(selector) = &self.selector else { return };
        let at = &self.stored.key;
        match selector.pairs().next() {
            Some((key, value)) => {
                name(IndexTerm::Asks(&at.resource, &at.cluster, &at.namespace, key, value));
            }
            None => name(IndexTerm::AsksOtherwise(&at.resource, &at.cluster, &at.namespace)),
        }
    }
}

/// What others own.
#[derive(Debug)]
pub struct Dependent {
    /// The stored object.
    pub stored: Arc<Stored>,
}

impl Entry for Dependent {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        for owner in &self.stored.object.header.owners {
            name(IndexTerm::Owner(&owner.uid));
        }
    }
}

/// What a controller makes beside pods: a ReplicaSet, a ControllerRevision.
#[derive(Debug)]
pub struct Controllable {
    /// The stored object.
    pub stored: Arc<Stored>,
}

impl Entry for Controllable {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        control_terms(&self.stored, name);
    }
}

/// An EndpointSlice.
#[derive(Debug)]
pub struct SliceEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
}

impl Entry for SliceEntry {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        let key = &self.stored.key;
        if let Some(service) = self.stored.object.header.labels.get(SERVICE_NAME) {
            name(IndexTerm::Service(&key.cluster, &key.namespace, service));
        }
    }
}

/// A Node: whether its spoke is heard of, and where it is.
#[derive(Debug)]
pub struct NodeReachability {
    stored: Arc<Stored>,
    silent: OnceLock<bool>,
    as_placed: OnceLock<Option<placement::node::Node>>,
}

impl NodeReachability {
    /// Label `topology.kubernetes.io/zone`.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.stored.object.header.labels.get("topology.kubernetes.io/zone").map(String::as_str)
    }

    /// The Node as placement sees it, parsed at the first call; `None` when it cannot be read.
    #[must_use]
    pub fn as_placed(&self) -> Option<&placement::node::Node> {
        let read =
            || typed::<Node>(&self.stored).ok().map(|node| placement::node::Node::read(&node));
        self.as_placed.get_or_init(read).as_ref()
    }

    /// Condition Ready is Unknown.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self.silent.get_or_init(|| {
            let status = typed::<Node>(&self.stored).ok().and_then(|n| n.status);
            let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
            conditions.iter().any(|c| c.type_ == "Ready" && c.status == "Unknown")
        })
    }
}

impl Entry for NodeReachability {
    const KEPT_WITHOUT_TERMS: bool = true;

    fn read(stored: Arc<Stored>) -> Self {
        Self { stored, silent: OnceLock::new(), as_placed: OnceLock::new() }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, _name: &mut dyn FnMut(IndexTerm<'a>)) {}
}

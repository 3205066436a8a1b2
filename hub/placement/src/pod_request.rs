//! A pod as placement sees it, read once for many decisions.

use freewheel_link::names::ClusterName;
use freewheel_link::plan::feature;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::affinity::Term;
use crate::extended::Extended;
use crate::resources::Resources;
use crate::taint::Toleration;

/// A port of the device that a pod wants for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Number.
    pub port: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

/// What a pod asks for. Equal asks get equal answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRequest {
    /// Its logical cluster.
    pub realm: ClusterName,
    /// What it reserves.
    pub requests: Resources,
    /// What it reserves of what only some devices have.
    pub extended: Extended,
    /// What it counts as in scores.
    pub weight: Resources,
    /// spec.nodeSelector
    pub selector: Vec<(String, String)>,
    /// Required nodeAffinity: one term has to match. Empty: none is required.
    pub required: Vec<Term>,
    /// Preferred nodeAffinity with its weights.
    pub preferred: Vec<(i64, Term)>,
    /// spec.tolerations
    pub tolerations: Vec<Toleration>,
    /// hostPorts of all containers.
    pub ports: Vec<HostPort>,
    /// Tells apart whose replicas are spread; 0 for a pod of its own.
    pub group: u64,
    /// Bits of [`feature`].
    pub needs: u64,
    /// spec.priority
    pub priority: i32,
}

impl PodRequest {
    /// Reads a pod.
    #[must_use]
    pub fn read(realm: ClusterName, pod: &Pod) -> Self {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required =
            affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred =
            affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let requests = Resources::of_pod(spec);
        Self {
            realm,
            requests,
            extended: Extended::of_pod(spec),
            weight: Resources::weight_of_pod(spec, requests),
            selector: spec.node_selector.clone().unwrap_or_default().into_iter().collect(),
            required: required
                .map(|r| r.node_selector_terms.iter().map(Term::read).collect())
                .unwrap_or_default(),
            preferred: preferred
                .into_iter()
                .flatten()
                .map(|p| (i64::from(p.weight), Term::read(&p.preference)))
                .collect(),
            tolerations: spec.tolerations.iter().flatten().filter_map(Toleration::read).collect(),
            ports: host_ports(spec),
            group: group(pod),
            needs: needs(spec),
            priority: spec.priority.unwrap_or_default(),
        }
    }
}

impl PodRequest {
    /// The only Node that it may go to, when it names one: a DaemonSet's pods do.
    #[must_use]
    pub fn only_node(&self) -> Option<&str> {
        match self.required.as_slice() {
            [term] => term.only_node(),
            _ => None,
        }
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let init = spec.init_containers.iter().flatten();
    let all = spec.containers.iter().chain(init).flat_map(|c| c.ports.iter().flatten());
    all.filter_map(|p| {
        let port = u16::try_from(p.host_port?).ok().filter(|p| *p != 0)?;
        Some(HostPort { port, udp: p.protocol.as_deref() == Some("UDP") })
    })
    .collect()
}

/// Replicas of one owner; FNV-1a over the owner's UID.
fn group(pod: &Pod) -> u64 {
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|o| o.controller == Some(true)) else { return 0 };
    owner.uid.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What can be told from the spec alone; which kind of component an image is shows only later.
fn needs(spec: &PodSpec) -> u64 {
    let several = spec.containers.len() > 1 || spec.init_containers.iter().flatten().count() > 0;
    if several { feature::SIDECARS } else { 0 }
}

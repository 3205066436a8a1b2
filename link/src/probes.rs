//! How a container's health is looked at: a part of the pod's record.

use serde::{Deserialize, Serialize};

use crate::part::InPart;

/// The probes of a pod's containers; a part of those that have any. Who cannot read it would count as ready what is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodProbesV1 {
    /// Each kind at most once for each container.
    pub probes: Vec<ProbeV1>,
}

impl InPart for PodProbesV1 {
    const KIND: u16 = 4;
}

/// One probe of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeV1 {
    /// Name of the container.
    pub container: String,
    /// What it decides.
    pub kind: ProbeKindV1,
    /// How it looks.
    pub handler: ProbeHandlerV1,
    /// initialDelaySeconds
    pub initial_delay_seconds: u32,
    /// periodSeconds
    pub period_seconds: u32,
    /// timeoutSeconds
    pub timeout_seconds: u32,
    /// successThreshold
    pub success_threshold: u32,
    /// failureThreshold
    pub failure_threshold: u32,
    /// terminationGracePeriodSeconds, where it is not the pod's.
    pub grace_seconds: Option<u32>,
}

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeKindV1 {
    /// Whether the container has come up: the other probes wait for that.
    Startup,
    /// Whether it has to be started again.
    Liveness,
    /// Whether it takes connections.
    Readiness,
}

/// How a probe looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeHandlerV1 {
    /// httpGet
    Http(HttpGetV1),
    /// tcpSocket, with its port.
    Tcp(u16),
    /// exec, with its command.
    Exec(Vec<String>),
}

/// A request to the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpGetV1 {
    /// port
    pub port: u16,
    /// path
    pub path: String,
    /// httpHeaders, in order.
    pub headers: Vec<(String, String)>,
}

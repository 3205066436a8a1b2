//! The pods of a target, as far as their number depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_schema::quantity::Quantity;
use freewheel_hub_store::Stored;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use super::samples::PodSample;
use crate::engine::Error;
use crate::engine::client::typed;

/// How long a pod may take for its start, whose processor time says nothing.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that has been unready since before this has never been ready.
const INITIAL_READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// A pod.
#[derive(Clone, Debug)]
pub struct ScaledPod {
    /// metadata.name
    pub name: Arc<str>,
    /// How far it has come.
    pub stage: Stage,
    /// status.startTime
    pub started: Option<Timestamp>,
    /// What its condition Ready says.
    pub ready: Option<Ready>,
    containers: Vec<RawContainer>,
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its containers have not started.
    Pending,
    /// It runs, or it is not known whether it does.
    Started,
    /// It has ended, or is to.
    Ending,
}

/// A pod's condition Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// It says no.
    pub is_false: bool,
    /// Since when it says what it says.
    pub since: Timestamp,
}

/// Why it cannot be told what is requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRequest {
    /// A container requests nothing of it.
    #[error("missing request for {resource} in container {container} of Pod {pod}")]
    Missing {
        /// Of what.
        resource: String,
        /// Which container.
        container: String,
        /// Of which pod.
        pod: Arc<str>,
    },
    /// There is no such container.
    #[error("container {container} not found in Pod {pod}")]
    NoContainer {
        /// Which.
        container: String,
        /// In which pod.
        pod: Arc<str>,
    },
}

#[derive(Default, Deserialize)]
struct RawPod {
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    #[serde(default)]
    containers: Vec<RawContainer>,
    #[serde(default)]
    init_containers: Vec<RawContainer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    #[serde(default)]
    name: String,
    restart_policy: Option<Box<str>>,
    #[serde(default)]
    resources: RawResources,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct RawResources {
    #[serde(default)]
    requests: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStatus {
    #[serde(default)]
    phase: Box<str>,
    start_time: Option<Time>,
    #[serde(default)]
    conditions: Vec<PodCondition>,
}

impl ScaledPod {
    /// Reads a stored pod.
    pub fn read(stored: &Stored) -> Result<Self, Error> {
        let RawPod { spec, status } = typed(stored)?;
        let has_ended = matches!(&*status.phase, "Succeeded" | "Failed");
        let stage = if has_ended || stored.object.header.deleting {
            Stage::Ending
        } else if &*status.phase == "Pending" {
            Stage::Pending
        } else {
            Stage::Started
        };
        let ready = status.conditions.into_iter().find(|one| one.type_ == "Ready");
        let ready = ready.map(|one| Ready {
            is_false: one.status == "False",
            since: one.last_transition_time.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        });
        let is_sidecar = |one: &RawContainer| one.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.init_containers.into_iter().filter(is_sidecar);
        Ok(Self {
            name: stored.key.name.clone(),
            stage,
            started: status.start_time.map(|time| time.0),
            ready,
            containers: spec.containers.into_iter().chain(sidecars).collect(),
        })
    }

    /// Whether what it takes counts, and is worth a question.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        match self.stage {
            Stage::Started => true,
            Stage::Pending | Stage::Ending => false,
        }
    }

    /// What its containers request of a resource, or one of them, in thousandths.
    pub fn request(&self, resource: &str, container: Option<&str>) -> Result<i64, NoRequest> {
        let mut sum = None;
        let wanted = |one: &&RawContainer| container.is_none_or(|name| one.name == name);
        for one in self.containers.iter().filter(wanted) {
            let amount = one.resources.requests.get(resource);
            let amount: Option<Quantity> = amount.and_then(|text| text.parse().ok());
            let amount = amount.ok_or_else(|| NoRequest::Missing {
                resource: resource.to_owned(),
                container: one.name.clone(),
                pod: self.name.clone(),
            })?;
            sum = Some(amount.milli_value().saturating_add(sum.unwrap_or_default()));
        }
        match (sum, container) {
            (Some(sum), _) => Ok(sum),
            (None, None) => Ok(0),
            (None, Some(container)) => Err(NoRequest::NoContainer {
                container: container.to_owned(),
                pod: self.name.clone(),
            }),
        }
    }

    /// Whether the processor time of this sample says nothing of how it will be: it starts, or has never been ready.
    #[must_use]
    pub fn is_warming_up(&self, sample: &PodSample, now: Timestamp) -> bool {
        let (Some(started), Some(ready)) = (self.started, self.ready) else { return true };
        if now < later(started, CPU_INITIALIZATION) {
            let window = SignedDuration::try_from(sample.window).unwrap_or(SignedDuration::MAX);
            return ready.is_false || sample.at < later(ready.since, window);
        }
        ready.is_false && ready.since < later(started, INITIAL_READINESS_DELAY)
    }
}

fn later(moment: Timestamp, by: SignedDuration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freewheel_hub_schema::object::Resource;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::stored;

    fn pod(mut value: Value) -> ScaledPod {
        if value.get("metadata").is_none() {
            value["metadata"] = json!({"name": "p"});
        }
        ScaledPod::read(&stored(&Resource::new("", "pods"), "p", value)).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_pod_comes_to_its_end_by_its_phase_or_by_its_deletion() {
        let stage = |value| pod(value).stage;
        assert_eq!(stage(json!({"status": {"phase": "Pending"}})), Stage::Pending);
        assert_eq!(stage(json!({"status": {"phase": "Running"}})), Stage::Started);
        assert_eq!(stage(json!({"status": {"phase": "Unknown"}})), Stage::Started);
        assert_eq!(stage(json!({"status": {"phase": "Failed"}})), Stage::Ending);
        let meta = json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let going = json!({"metadata": meta, "status": {"phase": "Pending"}});
        assert_eq!(stage(going), Stage::Ending);
    }

    #[test]
    fn who_runs_is_measured() {
        let is_measured = |phase: &str| pod(json!({"status": {"phase": phase}})).is_measured();
        assert!(is_measured("Running") && is_measured("Unknown"));
        assert!(!is_measured("Pending") && !is_measured("Succeeded") && !is_measured("Failed"));
    }

    #[test]
    fn all_containers_that_go_on_request_something() {
        let container =
            |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("side", "50m");
        sidecar["restartPolicy"] = json!("Always");
        let pod = pod(json!({"spec": {
            "containers": [container("a", "1"), container("b", "250m")],
            "initContainers": [container("once", "4"), sidecar],
        }}));
        assert_eq!(pod.request("cpu", None), Ok(1300));
        assert_eq!(pod.request("cpu", Some("b")), Ok(250));
        assert_eq!(pod.request("cpu", Some("side")), Ok(50));
        let said = |resource, container| pod.request(resource, container).unwrap_err().to_string();
        assert_eq!(said("memory", None), "missing request for memory in container a of Pod p");
        assert_eq!(said("cpu", Some("once")), "container once not found in Pod p");
    }

    /// Started at 1000, with a condition since then, looked at then, by a sample of the second before.
    #[track_caller]
    fn warms_up(ready: &str, since: i64, now: i64, expected: bool) {
        let pod = ScaledPod {
            started: Some(at(1000)),
            ready: Some(Ready { is_false: ready == "False", since: at(since) }),
            ..pod(json!({}))
        };
        let (at, window) = (at(now - 1), Duration::from_secs(15));
        let sample = PodSample { name: "p".into(), at, window, containers: Vec::new() };
        assert_eq!(pod.is_warming_up(&sample, self::at(now)), expected, "{ready} {since} {now}");
    }

    #[test]
    fn processor_time_of_a_start_says_nothing() {
        // Ready, and a whole window since then, or not yet.
        warms_up("True", 1010, 1026, false);
        warms_up("True", 1010, 1025, true);
        warms_up("False", 1010, 1200, true);
        // After five minutes: who was ready once counts, also while it is not.
        warms_up("True", 1299, 1300, false);
        warms_up("False", 1030, 1301, false);
        warms_up("False", 1029, 1301, true);
        let (at, window) = (at(5000), Duration::from_secs(15));
        let sample = PodSample { name: "p".into(), at, window, containers: Vec::new() };
        assert!(pod(json!({})).is_warming_up(&sample, at), "nothing is said of it yet");
    }
}

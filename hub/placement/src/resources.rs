//! What a pod asks for and a device has.

use std::collections::BTreeMap;

use freewheel_hub_schema::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// Counts of what is scheduled by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of ephemeral storage.
    pub storage: i64,
    /// Pods.
    pub pods: i64,
}

/// What a container that asks for nothing counts as in scores (kube-scheduler's figures), so that a
/// crowd of such containers is spread too.
const DEFAULT_CPU_MILLIS: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

impl Resources {
    /// From `requests` or `allocatable`; what cannot be read counts as nothing.
    #[must_use]
    pub fn from_map(map: &BTreeMap<String, Text>) -> Self {
        let read = |name: &str| map.get(name).and_then(|q| q.0.parse::<Quantity>().ok());
        Self {
            cpu: read("cpu").map_or(0, |q| q.milli_value()),
            memory: read("memory").map_or(0, |q| q.value()),
            storage: read("ephemeral-storage").map_or(0, |q| q.value()),
            pods: read("pods").map_or(0, |q| q.value()),
        }
    }

    /// What a pod asks for: its containers and sidecars together, or more while it is initialised.
    #[must_use]
    pub fn of_pod(spec: &PodSpec) -> Self {
        let mut total = of_phases(spec, of_container);
        if let Some(overhead) = &spec.overhead {
            total.add(Self::from_map(overhead));
        }
        total.pods = 1;
        total
    }

    /// What a pod counts as in scores.
    #[must_use]
    pub fn weight_of_pod(spec: &PodSpec, requests: Self) -> Self {
        let silent = |asks: fn(&Resources) -> i64| {
            let all = spec.containers.iter().map(of_container);
            i64::try_from(all.filter(|r| asks(r) == 0).count()).unwrap_or_default()
        };
        Self {
            cpu: requests.cpu.saturating_add(DEFAULT_CPU_MILLIS * silent(|r| r.cpu)),
            memory: requests.memory.saturating_add(DEFAULT_MEMORY_BYTES * silent(|r| r.memory)),
            ..requests
        }
    }

    /// Adds.
    pub fn add(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.storage = self.storage.saturating_add(other.storage);
        self.pods = self.pods.saturating_add(other.pods);
    }

    /// Takes away.
    pub fn take(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_sub(other.cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        self.storage = self.storage.saturating_sub(other.storage);
        self.pods = self.pods.saturating_sub(other.pods);
    }

    fn max(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
            storage: self.storage.max(other.storage),
            pods: self.pods.max(other.pods),
        }
    }
}

/// What the containers of a pod can ask for together.
pub(crate) trait Amount: Clone + Default {
    /// Adds.
    fn add(&mut self, other: &Self);

    /// Raises each part to at least the other's.
    fn raise_to(&mut self, other: &Self);
}

impl Amount for Resources {
    fn add(&mut self, other: &Self) {
        Self::add(self, *other);
    }

    fn raise_to(&mut self, other: &Self) {
        *self = self.max(*other);
    }
}

/// A pod's containers and sidecars together, or more while it is initialised.
pub(crate) fn of_phases<A: Amount>(spec: &PodSpec, of: impl Fn(&Container) -> A) -> A {
    let mut sidecars = A::default();
    let mut peak = A::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut with = sidecars.clone();
            with.add(&own);
            peak.raise_to(&with);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        total.add(&of(container));
    }
    total.raise_to(&peak);
    total
}

fn of_container(container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref());
    let limits = resources.and_then(|r| r.limits.as_ref());
    let asked = requests.map(Resources::from_map).unwrap_or_default();
    let Some(limits) = limits else { return asked };
    // What is limited without being asked for is asked for.
    let limited = Resources::from_map(limits);
    let has = |name: &str| requests.is_some_and(|r| r.contains_key(name));
    Resources {
        cpu: if has("cpu") { asked.cpu } else { limited.cpu },
        memory: if has("memory") { asked.memory } else { limited.memory },
        storage: if has("ephemeral-storage") { asked.storage } else { limited.storage },
        pods: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(spec: serde_json::Value, cpu: i64, memory: i64) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let got = Resources::of_pod(&spec);
        assert_eq!((got.cpu, got.memory, got.pods), (cpu, memory, 1));
    }

    fn asks(cpu: &str, memory: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn a_pod_asks_for_its_peak() {
        check(json!({"containers": [asks("100m", "1Ki"), asks("1", "2Ki")]}), 1100, 3072);
        check(
            json!({"containers": [asks("100m", "1Ki")], "initContainers": [asks("2", "1")]}),
            2000,
            1024,
        );
        let mut sidecar = asks("50m", "1Ki");
        sidecar["restartPolicy"] = json!("Always");
        check(
            json!({"containers": [asks("100m", "1Ki")], "initContainers": [sidecar, asks("120m", "0")]}),
            170,
            2048,
        );
        check(
            json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}),
            2000,
            0,
        );
    }
}

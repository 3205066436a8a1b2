//! What pods take, as controllers ask it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use jiff::Timestamp;

/// What a pod took for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSample {
    /// Its name.
    pub name: Arc<str>,
    /// The end of that while.
    pub at: Timestamp,
    /// How long processor time was counted.
    pub window: Duration,
    /// Its containers.
    pub containers: Vec<ContainerSample>,
}

/// What a container took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSample {
    /// Its name in the pod.
    pub name: String,
    /// Of processors, in billionths of one.
    pub cpu_nanos: u64,
    /// In bytes.
    pub memory: u64,
}

/// Who knows that; the hub's binary brings it.
#[async_trait]
pub trait PodSamples: Send + Sync {
    /// Of these pods of one cluster, each of whom it is known.
    async fn of(&self, cluster: &ClusterName, pods: Vec<Arc<Stored>>) -> Vec<PodSample>;
}

impl ContainerSample {
    /// What it takes of a resource, in thousandths; nothing of one that nobody measures.
    fn milli(&self, resource: &str) -> Option<i64> {
        const NANOS_PER_MILLI: u64 = 1_000_000;
        let milli = if resource == "cpu" {
            self.cpu_nanos.div_ceil(NANOS_PER_MILLI)
        } else if resource == "memory" {
            self.memory.saturating_mul(1000)
        } else {
            return None;
        };
        Some(i64::try_from(milli).unwrap_or(i64::MAX))
    }
}

impl PodSample {
    /// What the pod takes of a resource, or one of its containers, in thousandths: nothing unless it is known of all.
    #[must_use]
    pub fn milli(&self, resource: &str, container: Option<&str>) -> Option<i64> {
        let mut chosen =
            self.containers.iter().filter(|one| container.is_none_or(|name| one.name == name));
        let first = chosen.next()?.milli(resource)?;
        chosen.try_fold(first, |sum, one| Some(sum.saturating_add(one.milli(resource)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_takes_what_its_containers_take() {
        let container = |name: &str, cpu_nanos, memory| ContainerSample {
            name: name.to_owned(),
            cpu_nanos,
            memory,
        };
        let containers = vec![container("a", 1_500_000, 2), container("b", 1_000_000, 3)];
        let (at, window) = (Timestamp::UNIX_EPOCH, Duration::from_secs(1));
        let mut pod = PodSample { name: "p".into(), at, window, containers };
        assert_eq!(pod.milli("cpu", None), Some(3), "each is rounded up");
        assert_eq!(pod.milli("memory", None), Some(5000));
        assert_eq!(pod.milli("memory", Some("b")), Some(3000));
        assert_eq!(pod.milli("memory", Some("c")), None);
        assert_eq!(pod.milli("ephemeral-storage", None), None);
        pod.containers.clear();
        assert_eq!(pod.milli("cpu", None), None);
    }
}

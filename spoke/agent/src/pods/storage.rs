//! What a pod may have on the disk, and what is said when it has more. Pure; in kubelet's words.
//!
//! A container's part is its logs, the pod's is that of all its containers and its emptyDirs, with files out of them
//! that are kept by being mounted alone. Configuration is not counted: it is the hub's.

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_link::plan::{PodStorageV1, PodV1, VolumeSourceV1};

/// What still runs of an evicted pod is killed after this, as kubelet does it: it must not go on writing for its
/// whole grace period.
pub const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// A pod on its way out because of what it has on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// For the user.
    pub message: String,
    /// When what still runs is killed.
    pub until: Duration,
}

/// Bytes that a pod may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// sizeLimit of its emptyDirs.
    pub volumes: BTreeMap<String, u64>,
    /// limits.ephemeral-storage of its containers.
    pub containers: BTreeMap<String, u64>,
    /// All that it has together; `None`: no container has a limit.
    pub total: Option<u64>,
}

/// What a pod has, in bytes but for the inodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By emptyDir.
    pub volumes: BTreeMap<String, u64>,
    /// Logs by container.
    pub logs: BTreeMap<String, u64>,
    /// Files that are kept by being mounted alone, when any are.
    pub shown: Option<u64>,
    /// Files and directories, all of them together.
    pub inodes: u64,
}

impl Usage {
    /// What is no container's log.
    #[must_use]
    pub fn in_volumes(&self) -> u64 {
        self.volumes.values().chain(&self.shown).fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

impl Limits {
    /// The limits of a pod; `None`: it has none.
    #[must_use]
    pub fn of(pod: &PodV1, storage: Option<&PodStorageV1>) -> Option<Self> {
        let mut limits = Self::default();
        for volume in &pod.volumes {
            // As with Kubernetes, 0 is no limit.
            if let VolumeSourceV1::EmptyDir(Some(limit)) = volume.source
                && 0 < limit
            {
                limits.volumes.insert(volume.name.clone(), limit);
            }
        }
        for one in storage.iter().flat_map(|storage| &storage.containers) {
            if let Some(limit) = one.limit {
                limits.containers.insert(one.container.clone(), limit);
            }
        }
        limits.total = limits.sum(pod);
        (!limits.volumes.is_empty() || !limits.containers.is_empty()).then_some(limits)
    }

    /// What all containers may have at a time, as Kubernetes sums it: sidecars run beside everything after them,
    /// other init containers alone.
    fn sum(&self, pod: &PodV1) -> Option<u64> {
        if self.containers.is_empty() {
            return None;
        }
        let of = |name: &str| self.containers.get(name).copied().unwrap_or(0);
        let (mut sidecars, mut peak) = (0_u64, 0_u64);
        for init in &pod.init {
            let own = sidecars.saturating_add(of(&init.name));
            peak = peak.max(own);
            if init.sidecar {
                sidecars = own;
            }
        }
        let main = pod.containers.iter().map(|c| of(&c.name)).fold(sidecars, u64::saturating_add);
        Some(peak.max(main))
    }

    /// Why the pod has to go; `None`: it stays within all of its limits.
    #[must_use]
    pub fn exceeded(&self, usage: &Usage) -> Option<String> {
        for (name, limit) in &self.volumes {
            if usage.volumes.get(name).is_some_and(|used| limit < used) {
                let limit = amount(*limit);
                return Some(format!(
                    "Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. "
                ));
            }
        }
        let logs = usage.logs.values();
        let used = logs.fold(usage.in_volumes(), |sum, bytes| sum.saturating_add(*bytes));
        if let Some(limit) = self.total.filter(|limit| *limit < used) {
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
                amount(limit)
            ));
        }
        let over = |(name, limit): &(&String, &u64)| {
            usage.logs.get(*name).is_some_and(|used| **limit < *used)
        };
        let (name, limit) = self.containers.iter().find(over)?;
        let limit = amount(*limit);
        Some(format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. "))
    }
}

/// Bytes as Kubernetes writes a quantity: with the largest unit that leaves a whole number.
pub(crate) fn amount(bytes: u64) -> String {
    let with = |base: u64, units: [&str; 6]| {
        let (mut left, mut unit) = (bytes, "");
        for next in units {
            if left == 0 || !left.is_multiple_of(base) {
                break;
            }
            left /= base;
            unit = next;
        }
        format!("{left}{unit}")
    };
    if bytes.is_multiple_of(1024) {
        with(1024, ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    } else {
        with(1000, ["k", "M", "G", "T", "P", "E"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()
    }

    #[track_caller]
    fn check(volumes: &[(&str, u64)], logs: &[(&str, u64)], said: Option<&str>) {
        let limits = Limits {
            volumes: map(&[("cache", 1 << 20)]),
            containers: map(&[("web", 100), ("side", 5 << 20)]),
            total: Some((5 << 20) + 100),
        };
        let usage = Usage { volumes: map(volumes), logs: map(logs), ..Usage::default() };
        assert_eq!(limits.exceeded(&usage).as_deref(), said);
    }

    #[test]
    fn what_exceeds_a_limit_is_said_in_kubelets_words() {
        check(&[], &[], None);
        check(&[("cache", 1 << 20)], &[("web", 100)], None);
        let volume = "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". ";
        check(&[("cache", (1 << 20) + 1)], &[("web", 101)], Some(volume));
        let total =
            "Pod ephemeral local storage usage exceeds the total limit of containers 5242980. ";
        check(&[("free", 6 << 20)], &[], Some(total));
        let web = "Container web exceeded its local ephemeral storage limit \"100\". ";
        check(&[], &[("web", 101)], Some(web));
    }

    #[test]
    fn amounts_read_as_quantities() {
        for (bytes, text) in [
            (0, "0"),
            (100, "100"),
            (1024, "1Ki"),
            (1536, "1536"),
            (3 << 20, "3Mi"),
            (1_000_000_001, "1000000001"),
            (100_000_001_000, "100000001k"),
        ] {
            // 1536 is no whole number of Ki, and 1536 thousandths say no more.
            assert_eq!(amount(bytes), text, "{bytes}");
        }
    }
}

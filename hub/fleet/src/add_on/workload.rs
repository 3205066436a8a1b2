//! What the agent of an add-on runs as: how it is watched, and when it is well.
//!
//! Guarantees:
//! - what is no workload of `apps` is none, whatever its kind is called (`a_workload_is_one_of_apps`);
//! - who says how many pods it wants is well with one, and others with all
//!   (`one_pod_is_enough_of_replicas_and_daemons_are_well_together`).

use serde_json::Value;

/// A kind of workloads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Workload {
    kind: &'static str,
    pub(super) plural: &'static str,
    /// The value that says how many pods it wants.
    pub(super) wanted: &'static str,
    /// The value that says how many of them are ready.
    pub(super) ready: &'static str,
    /// It says itself how many pods it wants, and is well with one of them; one that does not is well with all alone.
    has_replicas: bool,
}

/// Where an agent is, the first of these says before the others.
pub(super) static WORKLOADS: [Workload; 2] = [
    Workload {
        kind: "Deployment",
        plural: "deployments",
        wanted: "Replicas",
        ready: "ReadyReplicas",
        has_replicas: true,
    },
    Workload {
        kind: "DaemonSet",
        plural: "daemonsets",
        wanted: "DesiredNumberScheduled",
        ready: "NumberReady",
        has_replicas: false,
    },
];

impl Workload {
    /// What a manifest is, in whatever version.
    pub(super) fn of(manifest: &Value) -> Option<&'static Self> {
        WORKLOADS.iter().find(|one| one.is(manifest))
    }

    pub(super) fn is(&self, manifest: &Value) -> bool {
        let version = manifest["apiVersion"].as_str().unwrap_or_default();
        version.starts_with("apps/") && manifest["kind"] == self.kind
    }

    /// It wants no pods, and is well whatever it says.
    pub(super) fn rests(&self, manifest: &Value) -> bool {
        self.has_replicas && manifest["spec"]["replicas"] == 0
    }

    pub(super) fn is_well(&self, wanted: i64, ready: i64) -> bool {
        if self.has_replicas { wanted == 0 || 1 <= ready } else { ready == wanted }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_is_one_of_apps() {
        let of = |version: &str, kind: &str| {
            Workload::of(&json!({"apiVersion": version, "kind": kind})).map(|one| one.plural)
        };
        assert_eq!(of("apps/v1", "Deployment"), Some("deployments"));
        assert_eq!(of("apps/v1beta2", "DaemonSet"), Some("daemonsets"));
        assert_eq!(of("apps/v1", "StatefulSet"), None);
        assert_eq!(of("example.com/v1", "Deployment"), None);
        assert_eq!(of("v1", "DaemonSet"), None);
    }

    #[test]
    fn one_pod_is_enough_of_replicas_and_daemons_are_well_together() {
        let [deployment, daemons] = &WORKLOADS;
        let well =
            |one: &Workload| [(0, 0), (2, 0), (2, 1), (2, 2)].map(|(w, r)| one.is_well(w, r));
        assert_eq!(well(deployment), [true, false, true, true]);
        assert_eq!(well(daemons), [true, false, false, true]);
        let none = json!({"spec": {"replicas": 0}});
        assert!(deployment.rests(&none) && !daemons.rests(&none));
        assert!(!deployment.rests(&json!({})));
    }
}

//! Which manifests of a work come first: what others stand on before what stands on it.
//!
//! Guarantees:
//! - manifests of one rank keep their order (`what_others_stand_on_comes_first`).

use serde_json::Value;

/// Ranks of kinds, lowest first; what is in none of them comes after all that are.
const RANKS: [&[&str]; 7] = [
    &["CustomResourceDefinition", "Namespace", "PersistentVolume", "PriorityClass", "StorageClass"],
    &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    &["LimitRange", "NetworkPolicy", "PodDisruptionBudget", "ResourceQuota", "ServiceAccount"],
    &["ConfigMap", "PersistentVolumeClaim", "Secret"],
    &["Service"],
    &[
        "CronJob",
        "DaemonSet",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Job",
        "Pod",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
    ],
    &[
        "APIService",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    ],
];

/// Positions of these manifests, in the order in which they are applied.
#[must_use]
pub fn order(manifests: &[Value]) -> Vec<usize> {
    let rank = |at: &usize| {
        let kind = manifests.get(*at).and_then(|it| it["kind"].as_str()).unwrap_or_default();
        RANKS.iter().position(|kinds| kinds.contains(&kind)).unwrap_or(RANKS.len())
    };
    let mut all: Vec<usize> = (0..manifests.len()).collect();
    all.sort_by_key(rank);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_stand_on_comes_first() {
        let kinds = ["Widget", "Deployment", "Service", "Job", "Namespace", "ConfigMap", "Role"];
        let all = kinds.map(|kind| json!({"kind": kind}));
        let ordered: Vec<&str> = order(&all).into_iter().map(|at| kinds[at]).collect();
        assert_eq!(
            ordered,
            ["Namespace", "Role", "ConfigMap", "Service", "Deployment", "Job", "Widget"]
        );
    }
}

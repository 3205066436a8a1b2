//! Labels that a device may not give itself.
//!
//! The rule is kubelet's and the NodeRestriction admission's, with our domain and Open Cluster Management's beside
//! Kubernetes' own.
//!
//! Guarantees:
//! - what others decide by (roles, isolation, cluster sets, what the hub says of a node) no device can claim
//!   (`a_device_says_where_it_is_and_not_what_it_is_trusted_with`).

/// Domains whose labels are not a device's to set, with everything below them.
const RESERVED: [&str; 4] =
    ["kubernetes.io", "k8s.io", "freewheel.dev", "open-cluster-management.io"];
/// Domains below those that are.
const OPEN: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Single labels that are.
const ALLOWED: [&str; 10] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// Whether a device may not set this label.
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    let within = |reserved: &str| {
        domain.strip_suffix(reserved).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    RESERVED.iter().any(|domain| within(domain))
        && !OPEN.iter().any(|domain| within(domain))
        && !ALLOWED.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_says_where_it_is_and_not_what_it_is_trusted_with() {
        for key in [
            "site",
            "example.com/tier",
            "notkubernetes.io/x",
            "topology.kubernetes.io/zone",
            "node.kubernetes.io/instance-type",
        ] {
            assert!(!is_reserved(key), "{key}");
        }
        for key in [
            "node-restriction.kubernetes.io/pci",
            "node-role.kubernetes.io/control-plane",
            "kubernetes.io/anything",
            "cluster.open-cluster-management.io/clusterset",
            "freewheel.dev/engine-profile",
            "x.k8s.io/y",
        ] {
            assert!(is_reserved(key), "{key}");
        }
    }
}

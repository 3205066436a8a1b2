//! Which types of Service have an address, and which node ports.

pub(super) fn has_cluster_ip(kind: &str) -> bool {
    matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer")
}

pub(super) fn has_node_port(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

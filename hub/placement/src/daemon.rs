//! Whether a DaemonSet's pod belongs on a Node: by the scheduler's own filters, without the room that it takes.

use crate::decide::{matches_affinity, matches_selector, untolerated};
use crate::node::Node;
use crate::pod_request::PodRequest;
use crate::taint::Effect;

/// Whether it belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaemonFit {
    /// One is to be made where there is none.
    pub should_run: bool,
    /// One that is there may stay.
    pub should_continue: bool,
}

/// Asks the filters; `node_name` is the template's own, else empty. The request's tolerations are those that the pod
/// is to have.
#[must_use]
pub fn daemon_fit(node: &Node, request: &PodRequest, node_name: &str) -> DaemonFit {
    let named = node_name.is_empty() || node_name == &*node.name;
    if !named || !matches_selector(node, request) || !matches_affinity(node, request) {
        return DaemonFit { should_run: false, should_continue: false };
    }
    let should_run = untolerated(node, request, |_| true).is_none();
    let executes = |effect: Effect| effect == Effect::NoExecute;
    let should_continue = should_run || untolerated(node, request, executes).is_none();
    DaemonFit { should_run, should_continue }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_link::names::ClusterName;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(node: Value, pod: Value, name: &str, expected: (bool, bool)) {
        let node = Node::read(&serde_json::from_value(node).unwrap());
        let spec = serde_json::from_value(pod).unwrap();
        let pod = Pod { spec: Some(spec), ..Pod::default() };
        let request = PodRequest::read(ClusterName::root(), &pod);
        let fit = daemon_fit(&node, &request, name);
        assert_eq!((fit.should_run, fit.should_continue), expected);
    }

    #[test]
    fn selectors_names_and_taints_say_where_daemons_run() {
        let node = json!({"metadata": {"name": "pi-1", "labels": {"arch": "arm64"}}, "spec": {}});
        let pod = json!({"containers": []});
        check(node.clone(), pod.clone(), "", (true, true));
        check(node.clone(), pod.clone(), "pi-1", (true, true));
        check(node.clone(), pod.clone(), "pi-2", (false, false));
        let arch = |value: &str| json!({"containers": [], "nodeSelector": {"arch": value}});
        check(node.clone(), arch("arm64"), "", (true, true));
        check(node.clone(), arch("amd64"), "", (false, false));
        let required = |operator: &str| {
            json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "arch", "operator": operator}]}]}}}})
        };
        check(node.clone(), required("Exists"), "", (true, true));
        check(node.clone(), required("DoesNotExist"), "", (false, false));
        let tainted = |effect: &str| {
            let mut node = node.clone();
            node["spec"]["taints"] = json!([{"key": "mine", "effect": effect}]);
            node
        };
        check(tainted("NoSchedule"), pod.clone(), "", (false, true));
        check(tainted("NoExecute"), pod.clone(), "", (false, false));
        check(tainted("PreferNoSchedule"), pod, "", (true, true));
        let tolerant =
            json!({"containers": [], "tolerations": [{"key": "mine", "operator": "Exists"}]});
        check(tainted("NoExecute"), tolerant, "", (true, true));
    }
}

//! FlowSchemas and PriorityLevelConfigurations that Kubernetes has from the start, as data.
//!
//! Guarantees:
//! - they are valid, and defaults change nothing of them (`what_is_there_from_the_start_is_valid_and_whole`).

use freewheel_link::identities::{MASTERS, NODES};
use serde_json::{Value, json};

/// Their spec is the server's: `exempt` and `catch-all` may not be changed.
const FIXED: [&str; 2] = ["exempt", "catch-all"];

const EVERYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];

/// Name, shares, percent to lend, and queues with the size of a hand, where requests wait.
type Level = (&'static str, u32, u32, Option<(u32, u32)>);

const LEVELS: [Level; 7] = [
    ("catch-all", 5, 0, None),
    ("global-default", 20, 50, Some((128, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("node-high", 40, 25, Some((64, 6))),
    ("system", 30, 33, Some((64, 6))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
];

/// All levels, as they are to be.
#[must_use]
pub fn levels() -> Vec<Value> {
    let exempt = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0});
    let mut all = vec![named("exempt", &json!({"type": "Exempt", "exempt": exempt}))];
    for (name, shares, lend, queues) in LEVELS {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand)) => json!({"type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}),
        };
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lend,
            "limitResponse": response});
        all.push(named(name, &json!({"type": "Limited", "limited": limited})));
    }
    all
}

/// All schemas, as they are to be.
#[must_use]
pub fn schemas() -> Vec<Value> {
    let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
        "clusterScope": true});
    let urls = json!({"verbs": ["*"], "nonResourceURLs": ["*"]});
    let anything = |subjects: Vec<Value>| json!({"subjects": subjects, "resourceRules": [all], "nonResourceRules": [urls]});
    let health = json!({"subjects": groups(&EVERYBODY), "nonResourceRules":
        [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    let leases = |verbs: &[&str]| {
        json!({"verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "namespaces": ["*"]})
    };
    let mut leaders = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    leaders.push(system_accounts());
    let leaders =
        json!({"subjects": leaders, "resourceRules": [leases(&["get", "create", "update"])]});
    let nodes = groups(&[NODES]);
    let of_nodes = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"],
        "namespaces": ["*"], "clusterScope": true});
    let health_of_nodes = json!({"subjects": nodes, "resourceRules": [of_nodes, leases(&["*"])]});
    let manager = anything(users(&["system:kube-controller-manager"]));
    let accounts = anything(groups(&["system:serviceaccounts"]));
    let (user, namespace) = (Some("ByUser"), Some("ByNamespace"));
    vec![
        schema("exempt", ("exempt", 1), None, &anything(groups(&[MASTERS]))),
        schema("catch-all", ("catch-all", 10_000), user, &anything(groups(&EVERYBODY))),
        schema("system-nodes", ("system", 500), user, &anything(nodes)),
        schema("system-node-high", ("node-high", 400), user, &health_of_nodes),
        schema("probes", ("exempt", 2), None, &health),
        schema("system-leader-election", ("leader-election", 100), user, &leaders),
        schema("kube-controller-manager", ("workload-high", 800), namespace, &manager),
        schema(
            "kube-scheduler",
            ("workload-high", 800),
            namespace,
            &anything(users(&["system:kube-scheduler"])),
        ),
        schema(
            "kube-system-service-accounts",
            ("workload-high", 900),
            namespace,
            &anything(vec![system_accounts()]),
        ),
        schema("service-accounts", ("workload-low", 9000), user, &accounts),
        schema("global-default", ("global-default", 9900), user, &anything(groups(&EVERYBODY))),
    ]
}

/// The spec that this one has to have, if it is one of the two that may not be changed.
pub(super) fn fixed_spec(all: Vec<Value>, name: &str) -> Option<Value> {
    let fixed = FIXED.contains(&name);
    let own = all.into_iter().filter(|_| fixed).find(|one| one["metadata"]["name"] == name)?;
    Some(own["spec"].clone())
}

fn named(name: &str, spec: &Value) -> Value {
    let annotations = json!({"apf.kubernetes.io/autoupdate-spec": "true"});
    json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec})
}

fn schema(name: &str, (level, precedence): (&str, u32), by: Option<&str>, rule: &Value) -> Value {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence, "rules": [rule]});
    if let Some(by) = by {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    named(name, &spec)
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount",
        "serviceAccount": {"name": "*", "namespace": "kube-system"}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    #[test]
    fn what_is_there_from_the_start_is_valid_and_whole() {
        let version = "flowcontrol.apiserver.k8s.io/v1";
        for (kind, all, count) in
            [("PriorityLevelConfiguration", levels(), 8), ("FlowSchema", schemas(), 11)]
        {
            assert_eq!(all.len(), count);
            let rules = &kinds::by_kind(version, kind).unwrap().strategy;
            for one in all {
                let mut filled = one.clone();
                rules.default(&mut filled);
                assert_eq!(filled, one);
                assert_eq!(rules.validate(&one), [], "{}", one["metadata"]["name"]);
            }
        }
    }
}

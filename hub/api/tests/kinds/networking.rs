//! What is said of how traffic goes, where it is wrong, in the words of a kube-apiserver 1.36.

use serde_json::json;

use super::shared::{change, mistakes, named, wrong};

#[test]
fn an_ingress_that_leads_nowhere() {
    let path = json!({"path": "x", "pathType": "Maybe", "backend": {}});
    let rule = json!({"host": "A_", "http": {"paths": [path]}});
    let found =
        mistakes(named("networking.k8s.io/v1", "Ingress", json!({"spec": {"rules": [rule]}})));
    assert!(
        found[0].starts_with(
            "spec.rules[0].host: Invalid value: \"A_\": a lowercase RFC 1123 subdomain"
        )
    );
    assert_eq!(
        found[1..],
        [
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Maybe\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
            "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
        ]
    );
}

#[test]
fn networking() {
    let peer =
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}, "podSelector": {}});
    wrong(
        named(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}, "policyTypes": ["Both"],
        "ingress": [{"from": [peer, {}], "ports": [{"port": "A-long-name-it-is"}, {"port": 80, "endPort": 70}]}]}}),
        ),
        &[
            "spec.ingress[0].ports[0].port: Invalid value: \"A-long-name-it-is\": must be no more than 15 characters",
            "spec.ingress[0].ports[0].port: Invalid value: \"A-long-name-it-is\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            "spec.ingress[0].ports[1].endPort: Invalid value: 80: must be greater than or equal to `port`",
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`",
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            "spec.ingress[0].from[1]: Required value: must specify a peer",
            "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"",
        ],
    );
    wrong(
        named(
            "networking.k8s.io/v1",
            "IngressClass",
            json!({"spec": {"controller": "nginx", "parameters": {"kind": "C", "name": "c", "scope": "Namespace"}}}),
        ),
        &[
            "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ],
    );
    wrong(
        named(
            "networking.k8s.io/v1",
            "ServiceCIDR",
            json!({"spec": {"cidrs": ["10.0.0.0/8", "11.0.0.1/8"]}}),
        ),
        &[
            "spec.cidrs[1]: Invalid value: \"11.0.0.1/8\": must not have bits set beyond the prefix length",
            "spec.cidrs: Invalid value: [\"10.0.0.0/8\",\"11.0.0.1/8\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    let range =
        named("networking.k8s.io/v1", "ServiceCIDR", json!({"spec": {"cidrs": ["10.0.0.0/8"]}}));
    change(
        &range,
        None,
        |new| new["spec"]["cidrs"] = json!(["11.0.0.0/8"]),
        &["spec.cidrs[0]: Invalid value: \"11.0.0.0/8\": field is immutable"],
    );
    wrong(
        named("networking.k8s.io/v1", "IPAddress", json!({"spec": {}})),
        &[
            "metadata.name: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.parentRef: Required value",
        ],
    );
}

#[test]
fn flow_control() {
    let rule = json!({"subjects": [{"kind": "User", "group": {"name": "g"}}], "nonResourceRules": [{"verbs": ["eat"], "nonResourceURLs": ["x"]}]});
    wrong(
        named(
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            json!({"spec": {"matchingPrecedence": 1, "priorityLevelConfiguration": {}, "rules": [rule]}}),
        ),
        &[
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            "spec.rules[0].nonResourceRules[0].verbs: Unsupported value: [\"eat\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"x\": must start with slash",
        ],
    );
    wrong(
        named(
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({"spec": {"type": "Limited", "limited": {"lendablePercent": 101, "limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 5, "queueLengthLimit": 1}}}}}),
        ),
        &[
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)",
        ],
    );
    let mut catch_all = named(
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}),
    );
    catch_all["metadata"]["name"] = json!("catch-all");
    assert!(mistakes(catch_all)[0].ends_with("spec of 'catch-all' must equal the fixed value"));
}

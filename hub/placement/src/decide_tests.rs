//! The rules of placement, one test each.

use std::collections::HashMap;

use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, change: impl Fn(&mut Value)) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10", "ephemeral-storage": "8Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    change(&mut node);
    Node::read(&serde_json::from_value(node).unwrap())
}

fn fleet(nodes: &[Node]) -> Fleet {
    let mut fleet = Fleet::new();
    for node in nodes {
        fleet.set_node(&ClusterName::root(), node.clone());
    }
    fleet
}

fn plain(name: &str) -> Node {
    node(name, |_| {})
}

fn ask_in(realm: ClusterName, change: impl Fn(&mut Value)) -> PodRequest {
    let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}});
    change(&mut pod);
    PodRequest::read(realm, &serde_json::from_value(pod).unwrap())
}

fn request(change: impl Fn(&mut Value)) -> PodRequest {
    ask_in(ClusterName::root(), change)
}

fn cpu(amount: &str) -> PodRequest {
    request(|pod| {
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": amount}});
    })
}

#[track_caller]
fn goes_to(fleet: &Fleet, request: &PodRequest, expected: &str) {
    for seed in 0..8 {
        let pick = decide(fleet, request, usize::try_from(seed).unwrap(), seed).unwrap();
        assert_eq!(&*pick.node, expected);
    }
}

#[track_caller]
fn refused(fleet: &Fleet, request: &PodRequest, expected: &str) {
    assert_eq!(decide(fleet, request, 0, 0).unwrap_err().to_string(), expected);
}

#[test]
fn rare_things_are_counted_and_never_promised_twice() {
    let gpus = |pod: &mut Value| {
        pod["spec"]["containers"][0]["resources"] =
            json!({"limits": {"nvidia.com/gpu": "1", "hugepages-2Mi": "2Mi"}});
    };
    let rare = request(gpus);
    let mut fleet = fleet(&[
        plain("a"),
        node("b", |node| {
            node["status"]["allocatable"]["nvidia.com/gpu"] = json!("1");
            node["status"]["allocatable"]["hugepages-2Mi"] = json!("4Mi");
        }),
    ]);
    goes_to(&fleet, &rare, "b");
    fleet.place(&"u".into(), "b", &rare);
    refused(
        &fleet,
        &rare,
        "0/2 nodes are available: 1 Insufficient hugepages-2Mi, 2 Insufficient nvidia.com/gpu.",
    );
    fleet.remove("u");
    goes_to(&fleet, &rare, "b");
}

#[test]
fn without_nodes_nothing_runs() {
    refused(&fleet(&[]), &cpu("1"), "no nodes available to schedule pods");
}

#[test]
fn a_pod_goes_where_there_is_room() {
    let mut fleet = fleet(&[plain("a"), plain("b")]);
    fleet.place(&"u".into(), "a", &cpu("3"));
    goes_to(&fleet, &cpu("2"), "b");
    fleet.place(&"v".into(), "b", &cpu("4"));
    refused(&fleet, &cpu("2"), "0/2 nodes are available: 2 Insufficient cpu.");
    fleet.remove("v");
    goes_to(&fleet, &cpu("2"), "b");
}

#[test]
fn the_pods_of_a_device_are_limited() {
    let mut fleet = fleet(&[node("a", |n| n["status"]["allocatable"]["pods"] = json!("1"))]);
    fleet.place(&"u".into(), "a", &request(|_| {}));
    refused(&fleet, &request(|_| {}), "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn both_realms_of_a_device_share_one_ledger() {
    let mut fleet = fleet(&[plain("pi-1")]);
    let realm = ClusterName::try_from("pi-1").unwrap();
    fleet.set_node(&realm, plain("pi-1"));
    fleet.place(&"u".into(), "pi-1", &cpu("3"));
    let mut own = cpu("2");
    own.realm = realm;
    refused(&fleet, &own, "0/1 nodes are available: 1 Insufficient cpu.");
    fleet.remove("u");
    goes_to(&fleet, &own, "pi-1");
}

#[test]
fn what_one_tenant_writes_moves_no_ledger_of_another() {
    let mut fleet = fleet(&[plain("pi-1")]);
    let (own, other) =
        (ClusterName::try_from("pi-1").unwrap(), ClusterName::try_from("pi-2").unwrap());
    let mut greedy = cpu("4");
    greedy.realm = other.clone();
    fleet.place(&"u".into(), "pi-1", &greedy);
    goes_to(&fleet, &cpu("4"), "pi-1");
    let sized = |cpu: &str| node("pi-1", |n| n["status"]["allocatable"]["cpu"] = json!(cpu));
    for (realm, cpus) in [(&other, "1m"), (&own, "1m"), (&own, "1000"), (&other, "1000")] {
        fleet.set_node(realm, sized(cpus));
        goes_to(&fleet, &cpu("4"), "pi-1");
        refused(&fleet, &cpu("5"), "0/1 nodes are available: 1 Insufficient cpu.");
    }
    // Where the root says nothing, the device's own cluster knows what it has.
    fleet.remove_node(&ClusterName::root(), "pi-1");
    fleet.set_node(&own, sized("2"));
    let mut small = cpu("2");
    small.realm = own;
    goes_to(&fleet, &small, "pi-1");
}

#[test]
fn a_realm_sees_its_own_nodes_only() {
    let fleet = fleet(&[plain("pi-1")]);
    let foreign = ask_in(ClusterName::try_from("pi-2").unwrap(), |_| {});
    refused(&fleet, &foreign, "no nodes available to schedule pods");
}

#[test]
fn selectors_and_affinity_choose() {
    let fleet = fleet(&[plain("a"), node("b", |n| n["metadata"]["labels"]["disk"] = json!("ssd"))]);
    goes_to(&fleet, &request(|p| p["spec"]["nodeSelector"] = json!({"disk": "ssd"})), "b");
    let none = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    refused(&fleet, &request(|p| p["spec"]["nodeSelector"] = json!({"disk": "tape"})), none);
    let terms =
        |operator: &str| json!({"matchExpressions": [{"key": "disk", "operator": operator}]});
    let required = |operator: &str| {
        request(|p| {
            p["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!({"nodeSelectorTerms": [terms(operator)]});
        })
    };
    goes_to(&fleet, &required("Exists"), "b");
    goes_to(&fleet, &required("DoesNotExist"), "a");
    let preferred = request(|p| {
        p["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
            json!([{"weight": 1, "preference": terms("Exists")}]);
    });
    goes_to(&fleet, &preferred, "b");
}

#[test]
fn taints_keep_away_and_tolerations_let_in() {
    let tainted = |effect: &str| {
        fleet(&[
            plain("a"),
            node("b", |n| {
                n["spec"]["taints"] = json!([{"key": "gpu", "value": "yes", "effect": effect}]);
                n["status"]["allocatable"]["cpu"] = json!("400");
            }),
        ])
    };
    goes_to(&tainted("NoSchedule"), &cpu("1"), "a");
    goes_to(&tainted("PreferNoSchedule"), &cpu("1"), "a");
    refused(
        &tainted("NoSchedule"),
        &cpu("5"),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}.",
    );
    let mut tolerant = cpu("5");
    let toleration = json!({"key": "gpu", "operator": "Exists"});
    let read = crate::taint::Toleration::read(&serde_json::from_value(toleration).unwrap());
    tolerant.tolerations.extend(read);
    goes_to(&tainted("NoSchedule"), &tolerant, "b");
}

#[test]
fn cordoned_and_unready_nodes_get_nothing() {
    let fleet = fleet(&[
        node("a", |n| n["spec"]["unschedulable"] = json!(true)),
        node("b", |n| n["status"]["conditions"] = json!([])),
    ]);
    refused(
        &fleet,
        &cpu("1"),
        "0/2 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable.",
    );
}

#[test]
fn host_ports_are_taken_once() {
    let wants = request(|p| {
        p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    });
    let mut fleet = fleet(&[plain("a")]);
    fleet.place(&"u".into(), "a", &wants);
    refused(
        &fleet,
        &wants,
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
    );
}

#[test]
fn a_spoke_that_cannot_is_not_asked() {
    let fleet = fleet(&[node("a", |n| {
        n["metadata"]["annotations"] = json!({crate::node::FEATURES: "3"});
    })]);
    let two = request(|p| p["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]));
    refused(
        &fleet,
        &two,
        "0/1 nodes are available: 1 node(s) lacked a feature that the pod needs.",
    );
}

#[test]
fn replicas_are_spread() {
    let mut fleet = fleet(&[plain("a"), plain("b"), plain("c")]);
    let replica = request(|p| {
        p["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "name": "web", "uid": "x", "controller": true}]);
    });
    let mut counts: HashMap<String, usize> = HashMap::new();
    for n in 0..9 {
        let pick = decide(&fleet, &replica, 0, n).unwrap();
        fleet.place(&format!("u{n}").into(), &pick.node, &replica);
        *counts.entry(pick.node.to_string()).or_default() += 1;
    }
    assert_eq!(counts.values().collect::<Vec<_>>(), [&3, &3, &3]);
}

#[test]
fn ties_are_broken_by_the_seed_alone() {
    let fleet = fleet(&[plain("a"), plain("b"), plain("c"), plain("d")]);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let one = decide(&fleet, &cpu("1"), 0, seed).unwrap();
        assert_eq!(one, decide(&fleet, &cpu("1"), 0, seed).unwrap());
        seen.insert(one.node);
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_removed_node_is_not_picked_and_others_stay() {
    let mut fleet = fleet(&[plain("a"), plain("b"), plain("c")]);
    fleet.remove_node(&ClusterName::root(), "a");
    fleet.remove_node(&ClusterName::root(), "c");
    goes_to(&fleet, &cpu("1"), "b");
    assert_eq!(fleet.nodes(&ClusterName::root()), 1);
}

#[test]
fn a_decision_in_a_large_fleet_looks_at_a_part_of_it() {
    let nodes: Vec<Node> = (0..10_000).map(|n| plain(&format!("n{n}"))).collect();
    let mut fleet = fleet(&nodes);
    let (mut start, asked) = (0, cpu("10m"));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for n in 0..10_000_u64 {
        let pick = decide(&fleet, &asked, start, n).unwrap();
        start = pick.next;
        assert_eq!(pick.looked_at, 500, "5 % of 10,000 nodes are enough to choose from");
        fleet.place(&format!("u{n}").into(), &pick.node, &asked);
        *counts.entry(pick.node.to_string()).or_default() += 1;
    }
    assert!(counts.values().all(|n| *n <= 2), "the start moves on, so all nodes are used");
}

#[test]
fn who_names_one_node_costs_one_look() {
    let nodes: Vec<Node> = (0..1000).map(|n| plain(&format!("n{n}"))).collect();
    let fleet = fleet(&nodes);
    let daemon = |node: &str| {
        request(|pod| {
            pod["spec"]["affinity"] = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{
                "matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}],
            }]}}});
        })
    };
    let pick = decide(&fleet, &daemon("n700"), 3, 1).unwrap();
    assert_eq!((&*pick.node, pick.looked_at), ("n700", 1));
    assert_eq!(decide(&fleet, &daemon("gone"), 3, 1).unwrap_err().nodes, 1000);
}

#[test]
fn a_refusal_stands_until_something_gets_easier() {
    let mut fleet = fleet(&[plain("a")]);
    fleet.place(&"u".into(), "a", &cpu("3"));
    let refused = fleet.eased();
    fleet.place(&"v".into(), "a", &cpu("1"));
    fleet.set_node(&ClusterName::root(), plain("a"));
    assert_eq!(fleet.eased(), refused, "neither less room nor the same Node lets anything in");
    fleet.remove("u");
    assert_ne!(fleet.eased(), refused);
    let freed = fleet.eased();
    fleet.set_node(&ClusterName::root(), plain("b"));
    assert_ne!(fleet.eased(), freed);
}

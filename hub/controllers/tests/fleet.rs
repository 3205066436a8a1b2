//! Nodes, scheduling, services and namespaces, with every controller running.

#[path = "fleet/add_on_agents.rs"]
mod add_on_agents;
#[path = "fleet/add_on_costs.rs"]
mod add_on_costs;
#[path = "fleet/add_on_ends.rs"]
mod add_on_ends;
#[path = "fleet/add_on_grants.rs"]
mod add_on_grants;
#[path = "fleet/add_ons.rs"]
mod add_ons;
#[path = "fleet/cluster_profiles.rs"]
mod cluster_profiles;
#[path = "fleet/cluster_roles.rs"]
mod cluster_roles;
mod cluster_sets;
#[path = "fleet/executors.rs"]
mod executors;
#[path = "fleet/held_works.rs"]
mod held_works;
#[path = "fleet/managed_namespaces.rs"]
mod managed_namespaces;
#[path = "fleet/multicluster_decisions.rs"]
mod multicluster_decisions;
mod placements;
mod plans;
mod rollbacks;
mod windows;
mod work_kinds;
#[path = "fleet/work_sets.rs"]
mod work_sets;
#[path = "fleet/works.rs"]
mod works;

use crate::hub::{self, Hub, condition, deployment, get, is_rolled_out, list, reason};
use freewheel_hub_objects::Propagation;
use serde_json::{Value, json};

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "a:1",
        "resources": {"requests": {"cpu": cpu}}}]}})
}

fn node_of(s: &dyn freewheel_hub_store::Snapshot, realm: &str, name: &str) -> String {
    let pod = get(s, realm, "pods", "default", name).unwrap_or_default();
    pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()
}

/// Ready endpoints of a Service of the root.
fn ready_endpoints(s: &dyn freewheel_hub_store::Snapshot, service: &str) -> usize {
    let slices = list(s, "root", "endpointslices", "default");
    let mine =
        slices.iter().filter(|x| x["metadata"]["labels"]["kubernetes.io/service-name"] == service);
    let endpoints = mine.flat_map(|x| x["endpoints"].as_array().into_iter().flatten());
    endpoints.filter(|e| e["conditions"]["ready"] == true).count()
}

#[tokio::test(start_paused = true)]
async fn every_cluster_has_what_it_begins_with() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.eventually("both clusters have it", |s| {
        // The root has a namespace for the spoke, too, one with the account that agents ask to join as, and the one of
        // the account by which agents of add-ons are given their rights.
        [("root", 7, 8), ("pi-1", 4, 4)].iter().all(|(realm, namespaces, accounts)| {
            list(s, realm, "namespaces", "").len() == *namespaces
                && list(s, realm, "serviceaccounts", "").len() == *accounts
                && list(s, realm, "configmaps", "").len() == *namespaces + 1
                && get(s, realm, "services", "default", "kubernetes")
                    .is_some_and(|svc| svc["spec"]["clusterIP"] == "10.128.0.1")
                && get(s, realm, "endpointslices", "default", "kubernetes")
                    .is_some_and(|e| e["endpoints"][0]["addresses"][0] == "10.0.0.1")
                && get(s, realm, "endpoints", "default", "kubernetes")
                    .is_some_and(|e| e["subsets"][0]["ports"][0]["port"] == 6443)
        })
    })
    .await;
    hub.delete("configmaps", "default", "kube-root-ca.crt", Propagation::Background).await;
    hub.eventually("it is put back", |s| {
        get(s, "root", "configmaps", "default", "kube-root-ca.crt").is_some()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_node_is_told_in_the_words_of_the_node_controller() {
    let hub = Hub::with_spokes(&[]).await;
    let accepted = json!({"metadata": {"name": "pi-7"}, "spec": {"hubAcceptsClient": true}});
    hub.create("root", "managedclusters", "", accepted).await;
    hub.eventually("it is told", |s| {
        list(s, "root", "events", "default").iter().any(|event| {
            event["reason"] == "RegisteredNode"
                && event["message"] == "Node pi-7 event: Registered Node pi-7 in Controller"
        })
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_spoke_is_unknown_and_keeps_its_pods() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "deployments", "default", deployment("web", 2, "a:1")).await;
    hub.eventually("rolled out", |s| is_rolled_out(s, "web", "a:1", 2)).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "ports": [{"port": 80}]}});
    hub.create("root", "services", "default", service).await;
    hub.eventually("both serve", |s| ready_endpoints(s, "web") == 2).await;
    let before = list(&*hub.snapshot(), "root", "pods", "default");
    hub.connect("pi-1", false).await;
    hub.eventually("unknown everywhere", |s| {
        let cluster = get(s, "root", "managedclusters", "", "pi-1").unwrap();
        condition(&cluster, "ManagedClusterConditionAvailable") == "Unknown"
            && ["root", "pi-1"].iter().all(|realm| {
                let node = get(s, realm, "nodes", "", "pi-1").unwrap();
                condition(&node, "Ready") == "Unknown"
                    && node["spec"]["taints"][0]["key"] == "node.kubernetes.io/unreachable"
            })
    })
    .await;
    hub.eventually("endpoints lose its pod", |s| ready_endpoints(s, "web") == 1).await;
    hub.create("root", "pods", "default", pod("late", "100m")).await;
    hub.eventually("new pods go elsewhere", |s| node_of(s, "root", "late") == "pi-2").await;
    let after = list(&*hub.snapshot(), "root", "pods", "default");
    assert!(
        before.iter().all(|b| after.iter().any(|a| a["metadata"]["uid"] == b["metadata"]["uid"]))
    );
    hub.connect("pi-1", true).await;
    hub.eventually("back", |s| {
        let node = get(s, "root", "nodes", "", "pi-1").unwrap();
        condition(&node, "Ready") == "True"
            && node["spec"]["taints"].is_null()
            && ready_endpoints(s, "web") == 2
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_waits_for_room() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "pods", "default", pod("big", "3")).await;
    hub.eventually("bound", |s| node_of(s, "root", "big") == "pi-1").await;
    hub.create("root", "pods", "default", pod("more", "2")).await;
    hub.eventually("it says why", |s| {
        let more = get(s, "root", "pods", "default", "more").unwrap();
        let text = "0/1 nodes are available: 1 Insufficient cpu.";
        let events = list(s, "root", "events", "default");
        reason(&more, "PodScheduled") == "Unschedulable"
            && events.iter().any(|e| e["reason"] == "FailedScheduling" && e["message"] == text)
    })
    .await;
    hub.join("pi-2").await;
    hub.eventually("a new spoke takes it", |s| {
        node_of(s, "root", "more") == "pi-2"
            && condition(&get(s, "root", "pods", "default", "more").unwrap(), "PodScheduled")
                == "True"
    })
    .await;
    let more = get(&*hub.snapshot(), "root", "pods", "default", "more").unwrap();
    let mut conditions = more["status"]["conditions"].as_array().unwrap().iter();
    let scheduled = conditions.find(|c| c["type"] == "PodScheduled").unwrap();
    assert_eq!(scheduled["observedGeneration"], 1);
    hub.create("root", "pods", "default", pod("third", "3")).await;
    hub.eventually("full again", |s| {
        let third = get(s, "root", "pods", "default", "third").unwrap();
        reason(&third, "PodScheduled") == "Unschedulable"
    })
    .await;
    hub.delete("pods", "default", "big", Propagation::Background).await;
    hub.eventually("room was made", |s| node_of(s, "root", "third") == "pi-1").await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_realms_share_a_device_and_never_overcommit_it() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.eventually("its namespaces stand", |s| {
        get(s, "pi-1", "namespaces", "", "default").is_some()
    })
    .await;
    for n in 0..6 {
        hub.create("root", "pods", "default", pod(&format!("r{n}"), "700m")).await;
        hub.create("pi-1", "pods", "default", pod(&format!("c{n}"), "700m")).await;
    }
    hub.eventually("all were looked at", |s| {
        let pods: Vec<Value> =
            ["root", "pi-1"].iter().flat_map(|r| list(s, r, "pods", "default")).collect();
        pods.len() == 12 && pods.iter().all(|p| !condition(p, "PodScheduled").is_empty())
    })
    .await;
    let snapshot = hub.snapshot();
    let bound = |realm: &str| {
        let pods = list(&*snapshot, realm, "pods", "default");
        pods.iter().filter(|p| p["spec"]["nodeName"] == "pi-1").count()
    };
    assert_eq!(bound("root") + bound("pi-1"), 5, "5 × 700m fit in 4 cores");
    assert!(bound("root") > 0 && bound("pi-1") > 0);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_follow_pods() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 3000}]}});
    hub.create("root", "services", "default", service).await;
    let slice = |s: &dyn freewheel_hub_store::Snapshot| {
        let slices = list(s, "root", "endpointslices", "default");
        slices.into_iter().find(|x| x["metadata"]["labels"]["kubernetes.io/service-name"] == "web")
    };
    hub.eventually("an empty slice", |s| slice(s).is_some()).await;
    hub.create("root", "deployments", "default", deployment("web", 3, "a:1")).await;
    hub.eventually("three ready endpoints", |s| {
        let slice = slice(s).unwrap();
        let ready = slice["endpoints"].as_array().into_iter().flatten();
        let endpoints = get(s, "root", "endpoints", "default", "web").unwrap_or_default();
        ready.filter(|e| e["conditions"]["ready"] == true).count() == 3
            && slice["ports"][0]["port"] == 3000
            && endpoints["subsets"][0]["addresses"].as_array().is_some_and(|a| a.len() == 3)
    })
    .await;
    hub.eventually("the Service says that nobody serves the port", |s| {
        let events = list(s, "root", "events", "default");
        events.iter().any(|event| {
            event["reason"] == "PortNotServed" && event["involvedObject"]["name"] == "web"
        })
    })
    .await;
    hub.change("root", "nodes", "", "pi-1", |n| {
        n["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("attic");
    })
    .await;
    hub.eventually("they tell their zone", |s| {
        let slice = slice(s).unwrap();
        slice["endpoints"].as_array().unwrap().iter().all(|e| e["zone"] == "attic")
    })
    .await;
    hub.change("root", "deployments", "default", "web", |d| d["spec"]["replicas"] = json!(1)).await;
    hub.eventually("two left", |s| {
        slice(s).is_some_and(|x| x["endpoints"].as_array().is_some_and(|e| e.len() == 1))
    })
    .await;
    hub.delete("services", "default", "web", Propagation::Background).await;
    hub.eventually("nothing is left of it", |s| {
        slice(s).is_none() && get(s, "root", "endpoints", "default", "web").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_everything_in_it() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "site"}})).await;
    hub.create("root", "deployments", "site", deployment("web", 3, "a:1")).await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    hub.create("root", "configmaps", "site", held).await;
    hub.eventually("pods run", |s| {
        list(s, "root", "pods", "site").iter().filter(|p| hub::serves(p)).count() == 3
    })
    .await;
    hub.delete("namespaces", "", "site", Propagation::Background).await;
    hub.eventually("only what is held is left, and it is said", |s| {
        let site = get(s, "root", "namespaces", "", "site").unwrap();
        condition(&site, "NamespaceContentRemaining") == "True"
            && condition(&site, "NamespaceFinalizersRemaining") == "True"
            && list(s, "root", "pods", "site").is_empty()
            && list(s, "root", "configmaps", "site").len() == 1
    })
    .await;
    hub.change("root", "configmaps", "site", "held", |c| c["metadata"]["finalizers"] = json!([]))
        .await;
    hub.eventually("gone", |s| get(s, "root", "namespaces", "", "site").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_guards_pods_outlives_them_in_a_namespace_that_goes() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "site"}})).await;
    let mut held = pod("held", "100m");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    hub.create("root", "pods", "site", held).await;
    hub.create("root", "configmaps", "site", json!({"metadata": {"name": "guard"}})).await;
    hub.delete("namespaces", "", "site", Propagation::Background).await;
    hub.eventually("the pod stands in the way", |s| {
        let site = get(s, "root", "namespaces", "", "site").unwrap();
        condition(&site, "NamespaceFinalizersRemaining") == "True"
            && get(s, "root", "pods", "site", "held")
                .is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let guard = get(&*hub.snapshot(), "root", "configmaps", "site", "guard").unwrap();
    assert!(guard["metadata"]["deletionTimestamp"].is_null());
    hub.change("root", "pods", "site", "held", |p| p["metadata"]["finalizers"] = json!([])).await;
    hub.eventually("gone", |s| get(s, "root", "namespaces", "", "site").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_says_so_and_is_bound_once_its_gates_are_gone() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let mut gated = pod("gated", "100m");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    hub.create("root", "pods", "default", gated).await;
    hub.eventually("it says so", |s| {
        let gated = get(s, "root", "pods", "default", "gated").unwrap();
        reason(&gated, "PodScheduled") == "SchedulingGated"
    })
    .await;
    assert_eq!(node_of(&*hub.snapshot(), "root", "gated"), "");
    hub.change("root", "pods", "default", "gated", |p| {
        p["spec"].as_object_mut().unwrap().remove("schedulingGates");
    })
    .await;
    hub.eventually("it is bound", |s| node_of(s, "root", "gated") == "pi-1").await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_says_so_in_a_taint() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let cordon = |yes: bool| move |n: &mut Value| n["spec"]["unschedulable"] = json!(yes);
    hub.change("root", "nodes", "", "pi-1", cordon(true)).await;
    let taint = |s: &dyn freewheel_hub_store::Snapshot| {
        let node = get(s, "root", "nodes", "", "pi-1").unwrap();
        node.pointer("/spec/taints/0/key").cloned().unwrap_or_default()
    };
    hub.eventually("tainted", |s| taint(s) == "node.kubernetes.io/unschedulable").await;
    hub.create("root", "pods", "default", pod("late", "100m")).await;
    hub.eventually("and nothing goes there", |s| {
        let events = list(s, "root", "events", "default");
        let text = "0/1 nodes are available: 1 node(s) were unschedulable.";
        events.iter().any(|e| e["reason"] == "FailedScheduling" && e["message"] == text)
    })
    .await;
    hub.change("root", "nodes", "", "pi-1", cordon(false)).await;
    hub.eventually("open again", |s| taint(s).is_null() && node_of(s, "root", "late") == "pi-1")
        .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_under_pressure_has_the_taint_that_keeps_new_pods_away() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let pressure = |yes: &'static str| {
        move |node: &mut Value| {
            let conditions = node["status"]["conditions"].as_array_mut().unwrap();
            conditions.retain(|condition| condition["type"] != "DiskPressure");
            conditions.push(json!({"type": "DiskPressure", "status": yes, "reason": "Test",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}));
        }
    };
    let key = |s: &dyn freewheel_hub_store::Snapshot| {
        let node = get(s, "root", "nodes", "", "pi-1").unwrap();
        node.pointer("/spec/taints/0/key").cloned().unwrap_or_default()
    };
    hub.change_status("root", "nodes", "", "pi-1", pressure("True")).await;
    hub.eventually("tainted", |s| key(s) == "node.kubernetes.io/disk-pressure").await;
    hub.create("root", "pods", "default", pod("late", "100m")).await;
    hub.eventually("and nothing goes there", |s| {
        let events = list(s, "root", "events", "default");
        let text = "0/1 nodes are available: 1 node(s) had untolerated taint \
                    {node.kubernetes.io/disk-pressure: }.";
        events.iter().any(|e| e["reason"] == "FailedScheduling" && e["message"] == text)
    })
    .await;
    hub.change_status("root", "nodes", "", "pi-1", pressure("False")).await;
    hub.eventually("open again", |s| key(s).is_null() && node_of(s, "root", "late") == "pi-1")
        .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_cluster_takes_its_node_and_then_its_pods() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "pods", "default", pod("a", "1")).await;
    hub.eventually("bound", |s| node_of(s, "root", "a") == "pi-1").await;
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("node gone", |s| get(s, "root", "nodes", "", "pi-1").is_none()).await;
    hub.eventually("pod gone", |s| get(s, "root", "pods", "default", "a").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_node_has_a_lease_that_is_written_per_transition() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let lease = |s: &dyn freewheel_hub_store::Snapshot, realm: &str| {
        get(s, realm, "leases", "kube-node-lease", "pi-1")
    };
    let renewed = |s: &dyn freewheel_hub_store::Snapshot| {
        ["root", "pi-1"]
            .map(|realm| lease(s, realm).unwrap_or_default()["spec"]["renewTime"].take())
    };
    hub.eventually("both Nodes have one", |s| renewed(s).iter().all(Value::is_string)).await;
    let snapshot = hub.snapshot();
    for realm in ["root", "pi-1"] {
        let (lease, node) = (
            lease(&*snapshot, realm).unwrap(),
            get(&*snapshot, realm, "nodes", "", "pi-1").unwrap(),
        );
        assert_eq!(lease["spec"]["holderIdentity"], "pi-1");
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
        assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);
    }
    let connected = renewed(&*snapshot);
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(renewed(&*hub.snapshot()), connected, "nothing is written while nothing changes");
    hub.connect("pi-1", false).await;
    hub.eventually("the end is noted", |s| {
        renewed(s).iter().zip(&connected).all(|(now, before)| now != before)
    })
    .await;
    hub.delete("leases", "kube-node-lease", "pi-1", Propagation::Background).await;
    hub.eventually("it is put back", |s| lease(s, "root").is_some()).await;
    let node = |s: &dyn freewheel_hub_store::Snapshot| {
        Some(get(s, "root", "nodes", "", "pi-1")?["metadata"]["uid"].take())
    };
    let before = node(&*hub.snapshot());
    hub.delete("nodes", "", "pi-1", Propagation::Background).await;
    hub.eventually("a Node that is made anew has one, too", |s| {
        let owner =
            lease(s, "root").map(|mut it| it["metadata"]["ownerReferences"][0]["uid"].take());
        node(s).is_some() && node(s) != before && owner == node(s)
    })
    .await;
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("it goes with its Node", |s| lease(s, "root").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_here_before_its_cluster_is_taken_over_as_it_is() {
    let hub = Hub::with_spokes(&[]).await;
    let last = "kubectl.kubernetes.io/last-applied-configuration";
    let early = json!({"metadata": {"name": "pi-1", "labels": {"disk": "ssd"},
        "annotations": {last: "{}"}}, "spec": {"unschedulable": true}});
    let made = hub.create("root", "nodes", "", early).await;
    hub.join("pi-2").await;
    hub.join("pi-1").await;
    hub.connect("pi-1", false).await;
    hub.eventually("it is silent", |s| {
        condition(&get(s, "root", "nodes", "", "pi-1").unwrap(), "Ready") == "Unknown"
    })
    .await;
    let node = get(&*hub.snapshot(), "root", "nodes", "", "pi-1").unwrap();
    assert_eq!(node["metadata"]["uid"], made["metadata"]["uid"], "it was not made anew");
    assert_eq!(node["metadata"]["annotations"][last], "{}");
    assert_eq!(node["metadata"]["labels"]["disk"], "ssd");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "pi-1");
    assert_eq!(node["spec"]["unschedulable"], true);
    assert!(node["status"]["allocatable"].is_object(), "what the spoke reported stays");
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("from then on it goes with its cluster", |s| {
        get(s, "root", "nodes", "", "pi-1").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_cluster_leaves_nothing_to_the_next_one_of_its_name() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.eventually("its namespaces stand", |s| {
        get(s, "pi-1", "namespaces", "", "default").is_some()
    })
    .await;
    let secret = json!({"metadata": {"name": "key", "finalizers": ["example.com/hold"]},
        "stringData": {"password": "x"}});
    hub.create("pi-1", "secrets", "default", secret).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort",
        "ports": [{"port": 80, "nodePort": 30080}]}});
    hub.create("pi-1", "services", "default", service.clone()).await;
    hub.create("pi-1", "pods", "default", pod("own", "1")).await;
    hub.create("root", "pods", "default", pod("a", "1")).await;
    hub.eventually("bound", |s| node_of(s, "root", "a") == "pi-1").await;
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("the cluster is gone", |s| {
        get(s, "root", "managedclusters", "", "pi-1").is_none()
    })
    .await;
    let snapshot = hub.snapshot();
    for plural in ["secrets", "services", "pods", "configmaps", "serviceaccounts", "events"] {
        assert_eq!(list(&*snapshot, "pi-1", plural, "default"), Vec::<Value>::new(), "{plural}");
    }
    for plural in ["namespaces", "nodes"] {
        assert_eq!(list(&*snapshot, "pi-1", plural, ""), Vec::<Value>::new(), "{plural}");
    }
    assert!(get(&*snapshot, "root", "pods", "default", "a").is_none(), "what was bound to it");
    assert!(get(&*snapshot, "root", "nodes", "", "pi-1").is_none());
    hub.create("root", "services", "default", service).await;

    // The next device of that name asks, and nobody has accepted it yet.
    let body = json!({"metadata": {"name": "pi-1"}, "spec": {"hubAcceptsClient": false}});
    hub.create("root", "managedclusters", "", body).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let cluster = get(&*hub.snapshot(), "root", "managedclusters", "", "pi-1").unwrap();
    assert_eq!(condition(&cluster, "ManagedClusterJoined"), "", "it was never here");
    assert_eq!(list(&*hub.snapshot(), "pi-1", "secrets", "default"), Vec::<Value>::new());
    hub.stop().await;
}

/// Events about this object with this reason, and how often they are counted.
fn told(s: &dyn freewheel_hub_store::Snapshot, about: &str, reason: &str) -> u64 {
    let events = list(s, "root", "events", "default");
    let mine = events
        .iter()
        .filter(|event| event["involvedObject"]["name"] == about && event["reason"] == reason);
    mine.map(|event| event["count"].as_u64().unwrap_or(1)).sum()
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_silent_spoke_are_not_ready_until_it_says_so() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "deployments", "default", deployment("web", 2, "a:1")).await;
    hub.eventually("rolled out", |s| is_rolled_out(s, "web", "a:1", 2)).await;
    let own = |s: &dyn freewheel_hub_store::Snapshot| -> Vec<Value> {
        let pods = list(s, "root", "pods", "default");
        pods.into_iter().filter(|pod| pod["spec"]["nodeName"] == "pi-1").collect()
    };
    let before = own(&*hub.snapshot());
    let name = before[0]["metadata"]["name"].as_str().unwrap().to_owned();
    hub.connect("pi-1", false).await;
    hub.eventually("not ready", |s| {
        own(s)
            .iter()
            .all(|pod| condition(pod, "Ready") == "False" && reason(pod, "Ready") == "NodeNotReady")
            && told(s, &name, "NodeNotReady") == 1
    })
    .await;
    hub.eventually("its Deployment knows", |s| {
        let web = get(s, "root", "deployments", "default", "web").unwrap();
        web["status"]["availableReplicas"] == 1
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    let after = own(&*hub.snapshot());
    assert_eq!(after.len(), before.len(), "and it stays");
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
        assert_eq!(before["status"]["phase"], after["status"]["phase"]);
        assert_eq!(before["status"]["podIP"], after["status"]["podIP"]);
    }
    assert_eq!(told(&*hub.snapshot(), &name, "NodeNotReady"), 1, "it is told once");
    let other = list(&*hub.snapshot(), "root", "pods", "default");
    let other = other.iter().find(|pod| pod["spec"]["nodeName"] == "pi-2").unwrap();
    assert_eq!(condition(other, "Ready"), "True");
    hub.connect("pi-1", true).await;
    hub.eventually("it says how they are", |s| {
        own(s).iter().all(hub::serves) && is_rolled_out(s, "web", "a:1", 2)
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_made_anew_is_whole_before_it_is_ready() {
    let mut hub = Hub::with_spokes(&["pi-1"]).await;
    hub.always("nodes", |s| {
        for realm in ["root", "pi-1"] {
            let Some(node) = get(s, realm, "nodes", "", "pi-1") else { continue };
            let is_ready = condition(&node, "Ready") == "True";
            let is_whole = node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.0";
            assert!(!is_ready || is_whole, "{node}");
        }
    });
    let ready = |s: &dyn freewheel_hub_store::Snapshot| {
        let node = get(s, "root", "nodes", "", "pi-1");
        node.map(|node| condition(&node, "Ready").to_owned())
    };
    // Away, and not silent yet.
    hub.connect("pi-1", false).await;
    hub.delete("nodes", "", "pi-1", Propagation::Background).await;
    hub.eventually("nobody says that it takes pods", |s| ready(s).as_deref() == Some("Unknown"))
        .await;
    let node = get(&*hub.snapshot(), "root", "nodes", "", "pi-1").unwrap();
    assert_eq!(reason(&node, "Ready"), "NodeStatusNeverUpdated");
    hub.eventually("it is told of", |s| told(s, "pi-1", "RegisteredNode") == 2).await;
    hub.connect("pi-1", true).await;
    hub.eventually("its device has said what it is", |s| ready(s).as_deref() == Some("True")).await;
    // In session nobody but the device makes it.
    for _ in 0..5 {
        hub.delete("nodes", "", "pi-1", Propagation::Background).await;
        hub.eventually("it is back", |s| ready(s).as_deref() == Some("True")).await;
    }
    hub.eventually("each is told of", |s| told(s, "pi-1", "RegisteredNode") == 7).await;
    hub.stop().await;
}

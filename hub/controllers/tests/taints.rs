//! Taints of Nodes that nobody hears of, and what they do to pods, with every controller running.

use std::time::Duration;

use crate::hub::{Hub, condition, get, list};
use freewheel_hub_store::{MAX_OBJECT_BYTES, Snapshot};
use serde_json::{Value, json};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

fn pod(name: &str, node: &str, tolerations: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "tolerations": tolerations,
        "containers": [{"name": "c", "image": "a:1"}]}})
}

fn tolerates(key: &str, seconds: &Value) -> Value {
    json!([{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}])
}

/// Gone, or told to go.
fn ends(s: &dyn Snapshot, name: &str) -> bool {
    let pod = get(s, "root", "pods", "default", name);
    pod.is_none_or(|pod| pod["metadata"]["deletionTimestamp"].is_string())
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_executes_ends_whom_it_concerns() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "pods", "default", pod("plain", "pi-1", &json!([]))).await;
    hub.create("root", "pods", "default", pod("patient", "pi-1", &tolerates("mine", &json!(30))))
        .await;
    hub.create("root", "pods", "default", pod("immune", "pi-1", &tolerates("mine", &Value::Null)))
        .await;
    hub.create("root", "pods", "default", pod("through", "pi-1", &json!([]))).await;
    hub.eventually("it runs", |s| {
        get(s, "root", "pods", "default", "through")
            .is_some_and(|pod| pod["status"]["phase"] == "Running")
    })
    .await;
    hub.change_status("root", "pods", "default", "through", |pod| {
        pod["status"]["phase"] = json!("Succeeded");
    })
    .await;
    let taint = |taints: Value| move |node: &mut Value| node["spec"]["taints"] = taints.clone();
    let mine = json!([{"key": "mine", "value": "1", "effect": "NoExecute"}]);
    hub.change("root", "nodes", "", "pi-1", taint(mine)).await;
    hub.eventually("who does not tolerate it goes", |s| ends(s, "plain")).await;
    hub.eventually("who has ended goes as well", |s| ends(s, "through")).await;
    let now = hub.snapshot();
    assert!(!ends(&*now, "patient") && !ends(&*now, "immune"));
    let told = |event: &Value| {
        event["reason"] == "TaintManagerEviction"
            && event["message"] == "Marking for deletion Pod default/plain"
    };
    hub.eventually("it is told", |s| list(s, "root", "events", "default").iter().any(told)).await;
    hub.eventually("patience ends", |s| ends(s, "patient")).await;
    hub.create("root", "pods", "default", pod("late", "pi-1", &tolerates("mine", &json!(5)))).await;
    hub.change("root", "nodes", "", "pi-1", taint(json!([]))).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = hub.snapshot();
    assert!(!ends(&*now, "immune"), "it tolerates the taint for ever");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn silence_evicts_whoever_asks_for_it() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "pods", "default", pod("plain", "pi-1", &json!([]))).await;
    // As long as what the others get, and its own word.
    let own = pod("own", "pi-1", &tolerates(UNREACHABLE, &json!(300)));
    hub.create("root", "pods", "default", own).await;
    let roaming = pod("roaming", "pi-1", &tolerates(UNREACHABLE, &json!(60)));
    hub.create("root", "pods", "default", roaming).await;
    hub.connect("pi-1", false).await;
    hub.eventually("who asks for it goes", |s| ends(s, "roaming")).await;
    let roaming = get(&*hub.snapshot(), "root", "pods", "default", "roaming").unwrap();
    let conditions = roaming["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
    assert_eq!(
        (&target["reason"], &target["observedGeneration"]),
        (&json!("DeletionByTaintManager"), &json!(1))
    );
    let node = get(&*hub.snapshot(), "root", "nodes", "", "pi-1").unwrap();
    assert_eq!(condition(&node, "Ready"), "Unknown");
    let effects: Vec<_> =
        node["spec"]["taints"].as_array().unwrap().iter().map(|t| &t["effect"]).collect();
    assert_eq!(effects, ["NoSchedule", "NoExecute"]);
    assert!(!ends(&*hub.snapshot(), "own"), "its time is not over");
    hub.eventually("who asks for five minutes goes after them", |s| ends(s, "own")).await;
    let plain = get(&*hub.snapshot(), "root", "pods", "default", "plain").unwrap();
    assert_eq!(plain["spec"]["tolerations"][1]["tolerationSeconds"], 300);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!ends(&*hub.snapshot(), "plain"), "nobody else does, however long");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_evicted_when_all_are_silent() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let roaming = pod("roaming", "pi-1", &tolerates(UNREACHABLE, &json!(60)));
    hub.create("root", "pods", "default", roaming).await;
    hub.connect("pi-1", false).await;
    hub.connect("pi-2", false).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!ends(&*hub.snapshot(), "roaming"));
    hub.connect("pi-2", true).await;
    hub.eventually("one comes back, and the other is alone", |s| ends(s, "roaming")).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_of_somebody_s_own_counts_while_all_are_silent() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    for name in ["roaming", "guest"] {
        let mut tolerated = tolerates(UNREACHABLE, &json!(60));
        if name == "guest" {
            tolerated.as_array_mut().unwrap().push(json!({"key": "mine", "operator": "Exists"}));
        }
        hub.create("root", "pods", "default", pod(name, "pi-1", &tolerated)).await;
    }
    hub.connect("pi-1", false).await;
    hub.connect("pi-2", false).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!ends(&*hub.snapshot(), "roaming"));
    hub.change("root", "nodes", "", "pi-1", |node| {
        let taints = node["spec"]["taints"].as_array_mut().unwrap();
        taints.push(json!({"key": "mine", "effect": "NoExecute"}));
    })
    .await;
    hub.eventually("who does not tolerate it goes", |s| ends(s, "roaming")).await;
    assert!(!ends(&*hub.snapshot(), "guest"), "who does is silent's, and all are");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_spoke_says_that_nobody_is_there() {
    let hub = Hub::with_spokes(&[]).await;
    let made = hub.create("root", "nodes", "", json!({"metadata": {"name": "by-hand"}})).await;
    let taint = |key: &str| json!([{"key": key, "effect": "NoSchedule"}]);
    assert_eq!(made["spec"]["taints"], taint("node.kubernetes.io/not-ready"));
    hub.eventually("nobody is there", |s| {
        let node = get(s, "root", "nodes", "", "by-hand").unwrap();
        let unknown = |kind| condition(&node, kind) == "Unknown";
        ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].into_iter().all(unknown)
            && node["spec"]["taints"][0]["key"] == "node.kubernetes.io/unreachable"
            && node["spec"]["taints"].as_array().unwrap().len() == 1
    })
    .await;
    let node = get(&*hub.snapshot(), "root", "nodes", "", "by-hand").unwrap();
    assert_eq!(node["status"]["conditions"][0]["reason"], "NodeStatusNeverUpdated");
    // Whoever says that it is ready is believed.
    hub.change_status("root", "nodes", "", "by-hand", |node| {
        for condition in node["status"]["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("True");
            }
        }
    })
    .await;
    hub.eventually("it takes pods", |s| {
        get(s, "root", "nodes", "", "by-hand").unwrap()["spec"]["taints"].is_null()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_under_the_name_of_another_clusters_spoke_is_nobodys() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("pi-1", "nodes", "", json!({"metadata": {"name": "pi-2"}})).await;
    hub.eventually("nobody is there", |s| {
        let node = get(s, "pi-1", "nodes", "", "pi-2").unwrap();
        condition(&node, "Ready") == "Unknown"
            && node["spec"]["taints"][0]["key"] == "node.kubernetes.io/unreachable"
    })
    .await;
    for (cluster, node) in [("root", "pi-2"), ("pi-2", "pi-2"), ("pi-1", "pi-1")] {
        let node = get(&*hub.snapshot(), cluster, "nodes", "", node).unwrap();
        assert_eq!(condition(&node, "Ready"), "True", "{cluster}");
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_room_for_a_condition_is_told_by_events_why_it_has_no_node() {
    let hub = Hub::with_spokes(&[]).await;
    let filled = |name: &str, bytes: usize| {
        let env = json!([{"name": "E", "value": "x".repeat(bytes)}]);
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "a:1", "env": env}]}})
    };
    let small = hub.create("root", "pods", "default", filled("full-1", 1000)).await;
    // What is too large with its owners is stored without them.
    let owners = small["metadata"]["managedFields"].to_string().len() + "\"managedFields\":,".len();
    let room = 1000 + MAX_OBJECT_BYTES - (small.to_string().len() - owners);
    let full = hub.create("root", "pods", "default", filled("full-2", room)).await;
    assert_eq!(full.to_string().len(), MAX_OBJECT_BYTES, "not one more byte");
    let told = |s: &dyn Snapshot, what: &str| {
        list(s, "root", "events", "default").iter().any(|event| {
            event["reason"] == "FailedScheduling"
                && event["involvedObject"]["name"] == "full-2"
                && event["message"].as_str().is_some_and(|message| message.contains(what))
        })
    };
    hub.eventually("why it has no node", |s| told(s, "no nodes available to schedule pods")).await;
    hub.join("pi-1").await;
    hub.eventually("why it gets none", |s| told(s, "cannot be assigned to pi-1")).await;
    hub.eventually("another one gets it", |s| {
        get(s, "root", "pods", "default", "full-1").unwrap()["spec"]["nodeName"] == "pi-1"
    })
    .await;
    hub.stop().await;
}

//! DaemonSets, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::collections::BTreeMap;

use crate::hub::{Hub, get, list, serves};
use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

fn daemon_set(image: &str) -> Value {
    json!({
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

/// The pods that serve by their nodes, with UID and image.
fn daemons(s: &dyn Snapshot, realm: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = list(s, realm, "pods", "default");
    let one = |pod: &Value| {
        let image = text(&pod["spec"]["containers"][0]["image"]);
        (text(&pod["spec"]["nodeName"]), (text(&pod["metadata"]["uid"]), image))
    };
    pods.iter().filter(|pod| serves(pod)).map(one).collect()
}

fn status(s: &dyn Snapshot, realm: &str) -> Value {
    let found = get(s, realm, "daemonsets", "default", "agent");
    found.map(|set| set["status"].clone()).unwrap_or_default()
}

/// All of so many nodes run this image, and the set says so.
fn is_through(s: &dyn Snapshot, realm: &str, nodes: usize, image: &str) -> bool {
    let (daemons, status) = (daemons(s, realm), status(s, realm));
    let set = get(s, realm, "daemonsets", "default", "agent").unwrap();
    daemons.len() == nodes
        && daemons.values().all(|(_, its)| its == image)
        && list(s, realm, "pods", "default").len() == nodes
        && status["observedGeneration"] == set["metadata"]["generation"]
        && ["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"]
            .iter()
            .all(|field| status[*field] == json!(nodes))
}

#[tokio::test(start_paused = true)]
async fn every_device_gets_its_daemon_and_keeps_it_while_it_is_silent() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    for realm in ["root", "pi-1"] {
        hub.create(realm, "daemonsets", "default", daemon_set("a:1")).await;
    }
    hub.eventually("a pod on each", |s| is_through(s, "root", 2, "a:1")).await;
    hub.eventually("a cluster has its one", |s| is_through(s, "pi-1", 1, "a:1")).await;
    hub.join("pi-3").await;
    hub.eventually("a pod on the new one", |s| is_through(s, "root", 3, "a:1")).await;
    let before = daemons(&*hub.snapshot(), "root");

    hub.connect("pi-2", false).await;
    hub.eventually("it is not wanted there anew", |s| {
        status(s, "root")["desiredNumberScheduled"] == 2
            && status(s, "root")["numberMisscheduled"] == 1
    })
    .await;
    assert_eq!(list(&*hub.snapshot(), "root", "pods", "default").len(), 3);
    hub.connect("pi-2", true).await;
    hub.eventually("all are back", |s| is_through(s, "root", 3, "a:1")).await;
    assert_eq!(daemons(&*hub.snapshot(), "root"), before, "nothing was replaced");

    hub.change("root", "daemonsets", "default", "agent", |set| {
        set["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "pi-3"});
    })
    .await;
    hub.eventually("only where it is to be", |s| is_through(s, "root", 1, "a:1")).await;
    assert!(daemons(&*hub.snapshot(), "root").contains_key("pi-3"));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_is_rolled_out_and_back() {
    let mut hub = Hub::with_spokes(&["pi-1", "pi-2", "pi-3"]).await;
    hub.create("root", "daemonsets", "default", daemon_set("a:1")).await;
    hub.eventually("first", |s| is_through(s, "root", 3, "a:1")).await;
    hub.always("pods", |s| {
        let serving = list(s, "root", "pods", "default").iter().filter(|pod| serves(pod)).count();
        // Deleted as a whole at the end.
        let stays = get(s, "root", "daemonsets", "default", "agent").is_some();
        assert!(!stays || 2 <= serving, "two nodes have none at once");
    });
    let image = |image: &'static str| {
        move |set: &mut Value| {
            set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        }
    };
    let numbers = |s: &dyn Snapshot| -> Vec<i64> {
        let all = list(s, "root", "controllerrevisions", "default");
        let mut all: Vec<i64> = all.iter().map(|one| one["revision"].as_i64().unwrap()).collect();
        all.sort_unstable();
        all
    };
    hub.change("root", "daemonsets", "default", "agent", image("a:2")).await;
    hub.eventually("second", |s| is_through(s, "root", 3, "a:2")).await;
    assert_eq!(numbers(&*hub.snapshot()), [1, 2]);
    hub.change("root", "daemonsets", "default", "agent", image("a:1")).await;
    hub.eventually("back", |s| is_through(s, "root", 3, "a:1")).await;
    assert_eq!(numbers(&*hub.snapshot()), [2, 3], "the first one is the newest again");
    hub.change("root", "daemonsets", "default", "agent", |set| {
        set["spec"]["revisionHistoryLimit"] = json!(0);
    })
    .await;
    hub.eventually("history is forgotten", |s| numbers(s) == [3]).await;

    hub.change("root", "daemonsets", "default", "agent", |set| {
        set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        image("a:3")(set);
    })
    .await;
    hub.eventually("it is known", |s| numbers(s) == [3, 4]).await;
    let victim = list(&*hub.snapshot(), "root", "pods", "default")[0]["metadata"]["name"].clone();
    hub.delete("pods", "default", victim.as_str().unwrap(), Propagation::Background).await;
    hub.eventually("who is deleted comes back new", |s| {
        status(s, "root")["updatedNumberScheduled"] == 1 && status(s, "root")["numberReady"] == 3
    })
    .await;
    hub.delete("daemonsets", "default", "agent", Propagation::Background).await;
    hub.eventually("nothing is left", |s| {
        ["pods", "controllerrevisions"].iter().all(|all| list(s, "root", all, "default").is_empty())
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_surging_rollout_never_leaves_a_node_without() {
    let mut hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let mut set = daemon_set("a:1");
    set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    hub.create("root", "daemonsets", "default", set).await;
    hub.eventually("first", |s| is_through(s, "root", 2, "a:1")).await;
    hub.always("pods", |s| assert_eq!(daemons(s, "root").len(), 2, "a node has none"));
    hub.change("root", "daemonsets", "default", "agent", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
    })
    .await;
    hub.eventually("second", |s| is_through(s, "root", 2, "a:2")).await;
    hub.stop().await;
}

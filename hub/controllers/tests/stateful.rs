//! StatefulSets, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use crate::hub::{Hub, get, list, serves};
use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

fn stateful_set(replicas: u32) -> Value {
    json!({
        "metadata": {"name": "db"},
        "spec": {
            "replicas": replicas, "serviceName": "dbs", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "a:1"}]}},
        },
    })
}

/// The pods that serve, by name, with their images.
fn serving(s: &dyn Snapshot) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = list(s, "root", "pods", "default");
    let one = |pod: &Value| {
        (text(&pod["metadata"]["name"]), text(&pod["spec"]["containers"][0]["image"]))
    };
    pods.iter().filter(|pod| serves(pod)).map(one).collect()
}

fn has(s: &dyn Snapshot, expected: &[(&str, &str)]) -> bool {
    let serving = serving(s);
    let serving: Vec<(&str, &str)> = serving.iter().map(|(a, b)| (&**a, &**b)).collect();
    serving == expected && list(s, "root", "pods", "default").len() == expected.len()
}

fn status(s: &dyn Snapshot) -> Value {
    get(s, "root", "statefulsets", "default", "db").unwrap()["status"].clone()
}

#[tokio::test(start_paused = true)]
async fn ordinals_come_and_go_in_order() {
    let mut hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.always("pods", |s| {
        let pods = list(s, "root", "pods", "default");
        let ordinal = |pod: &Value| -> usize {
            let name = pod["metadata"]["name"].as_str().unwrap();
            name.rsplit_once('-').unwrap().1.parse().unwrap()
        };
        // Below each one that is there, all are there; below each that does not serve yet, all serve.
        let mut sorted: Vec<&Value> = pods.iter().collect();
        sorted.sort_by_key(|pod| ordinal(pod));
        for (at, pod) in sorted.iter().enumerate() {
            assert_eq!(ordinal(pod), at, "one is missing below");
            assert!(at + 1 == sorted.len() || serves(pod), "one came before its turn");
        }
    });
    hub.create("root", "statefulsets", "default", stateful_set(3)).await;
    let names = [("db-0", "a:1"), ("db-1", "a:1"), ("db-2", "a:1")];
    hub.eventually("three", |s| has(s, &names)).await;
    hub.eventually("it is counted", |s| {
        let status = status(s);
        ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"]
            .iter()
            .all(|field| status[*field] == 3)
            && status["currentRevision"] == status["updateRevision"]
    })
    .await;
    let snapshot = hub.snapshot();
    let pod = get(&*snapshot, "root", "pods", "default", "db-1").unwrap();
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(labels["controller-revision-hash"], status(&*snapshot)["updateRevision"]);
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("db-1"), &json!("dbs"))
    );
    hub.change("root", "statefulsets", "default", "db", |set| set["spec"]["replicas"] = json!(1))
        .await;
    hub.eventually("one", |s| has(s, &names[..1])).await;
    hub.delete("statefulsets", "default", "db", Propagation::Background).await;
    hub.eventually("nothing is left", |s| {
        ["pods", "controllerrevisions"].iter().all(|all| list(s, "root", all, "default").is_empty())
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_is_rolled_out_by_parts_and_back() {
    let mut hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    hub.create("root", "statefulsets", "default", stateful_set(3)).await;
    let all = |image: &'static str| [("db-0", image), ("db-1", image), ("db-2", image)];
    hub.eventually("three", move |s| has(s, &all("a:1"))).await;
    hub.always("pods", |s| assert!(2 <= serving(s).len(), "two are away at once"));
    let update = |image: &'static str, partition: u32| {
        move |set: &mut Value| {
            set["spec"]["updateStrategy"] =
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
            set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        }
    };
    hub.change("root", "statefulsets", "default", "db", update("a:2", 2)).await;
    hub.eventually("the highest alone", |s| {
        has(s, &[("db-0", "a:1"), ("db-1", "a:1"), ("db-2", "a:2")])
            && status(s)["updatedReplicas"] == 1
            && status(s)["currentReplicas"] == 2
    })
    .await;
    // Below the partition, who is deleted comes back as it was.
    hub.delete("pods", "default", "db-0", Propagation::Background).await;
    hub.eventually("as it was", |s| has(s, &[("db-0", "a:1"), ("db-1", "a:1"), ("db-2", "a:2")]))
        .await;
    hub.change("root", "statefulsets", "default", "db", update("a:2", 0)).await;
    hub.eventually("all", move |s| has(s, &all("a:2"))).await;
    hub.eventually("it is the current one", |s| {
        status(s)["currentRevision"] == status(s)["updateRevision"]
    })
    .await;
    hub.change("root", "statefulsets", "default", "db", update("a:1", 0)).await;
    hub.eventually("back", move |s| has(s, &all("a:1"))).await;
    let revisions = list(&*hub.snapshot(), "root", "controllerrevisions", "default");
    let mut numbers: Vec<i64> =
        revisions.iter().map(|one| one["revision"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn claims_are_made_for_pods_and_go_with_their_set() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let mut set = stateful_set(2);
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete"});
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    hub.create("root", "statefulsets", "default", set).await;
    hub.eventually("the first claim", |s| {
        get(s, "root", "persistentvolumeclaims", "default", "data-db-0").is_some()
    })
    .await;
    hub.eventually("a pod that names it", |s| {
        get(s, "root", "pods", "default", "db-0").is_some_and(|pod| {
            pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "data-db-0"
        })
    })
    .await;
    hub.delete("statefulsets", "default", "db", Propagation::Background).await;
    hub.eventually("the claim goes with the set", |s| {
        list(s, "root", "persistentvolumeclaims", "default").is_empty()
    })
    .await;
    hub.stop().await;
}

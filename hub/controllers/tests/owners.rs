//! Owners and dependents, adopted, released, orphaned and collected, with every controller running.

use std::time::Duration;

use crate::hub::{self, Hub, deployment, get, list};
use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

fn config(name: &str, owners: &Value) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": owners}})
}

/// The reference that names this object as an owner that waits for its dependents.
fn owner(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
        "name": object["metadata"]["name"], "uid": object["metadata"]["uid"],
        "blockOwnerDeletion": true})
}

fn there(s: &dyn freewheel_hub_store::Snapshot, name: &str) -> bool {
    get(s, "root", "configmaps", "default", name).is_some()
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}

#[tokio::test(start_paused = true)]
async fn a_dependent_with_another_owner_stays_and_lets_the_first_one_go() {
    let hub = Hub::with_spokes(&[]).await;
    let a = hub.create("root", "configmaps", "default", config("a", &json!([]))).await;
    let b = hub.create("root", "configmaps", "default", config("b", &json!([]))).await;
    let both = json!([owner(&a), owner(&b)]);
    hub.create("root", "configmaps", "default", config("child", &both)).await;
    hub.delete("configmaps", "default", "a", Propagation::Foreground).await;
    hub.eventually("the first owner is gone", |s| !there(s, "a")).await;
    settle().await;
    let child = get(&*hub.snapshot(), "root", "configmaps", "default", "child").unwrap();
    assert_eq!(child["metadata"]["ownerReferences"], json!([owner(&b)]));
    hub.delete("configmaps", "default", "b", Propagation::Background).await;
    hub.eventually("without owners it goes", |s| !there(s, "child")).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_waits_for_who_blocks_it_and_no_longer() {
    let hub = Hub::with_spokes(&[]).await;
    let a = hub.create("root", "configmaps", "default", config("a", &json!([]))).await;
    let mut held = config("held", &json!([owner(&a)]));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    hub.create("root", "configmaps", "default", held).await;
    hub.delete("configmaps", "default", "a", Propagation::Foreground).await;
    settle().await;
    let held = get(&*hub.snapshot(), "root", "configmaps", "default", "held").unwrap();
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "it is asked to go");
    assert!(there(&*hub.snapshot(), "a"), "and its owner waits");
    hub.change("root", "configmaps", "default", "held", |c| {
        c["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = json!(false);
    })
    .await;
    hub.eventually("nobody holds it up any more", |s| !there(s, "a")).await;
    assert!(there(&*hub.snapshot(), "held"));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn owners_of_each_other_do_not_wait_for_ever() {
    let hub = Hub::with_spokes(&[]).await;
    let a = hub.create("root", "configmaps", "default", config("a", &json!([]))).await;
    let b = hub.create("root", "configmaps", "default", config("b", &json!([owner(&a)]))).await;
    hub.change("root", "configmaps", "default", "a", |c| {
        c["metadata"]["ownerReferences"] = json!([owner(&b)]);
    })
    .await;
    hub.delete("configmaps", "default", "a", Propagation::Foreground).await;
    hub.eventually("both are gone", |s| !there(s, "a") && !there(s, "b")).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_lives_in_no_namespace_cannot_miss_an_owner_that_lives_in_one() {
    let hub = Hub::with_spokes(&[]).await;
    let a = hub.create("root", "configmaps", "default", config("a", &json!([]))).await;
    let node = json!({"metadata": {"name": "n", "ownerReferences": [owner(&a)]}});
    hub.create("root", "nodes", "", node).await;
    hub.eventually("it is told", |s| {
        let events = list(s, "root", "events", "default");
        events.iter().any(|e| e["reason"] == "OwnerRefInvalidNamespace")
    })
    .await;
    settle().await;
    assert!(get(&*hub.snapshot(), "root", "nodes", "", "n").is_some());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_namespace_is_no_dependent() {
    let hub = Hub::with_spokes(&[]).await;
    let a = hub.create("root", "configmaps", "default", config("a", &json!([]))).await;
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "far"}})).await;
    let mut claims = config("claims", &json!([owner(&a)]));
    claims["metadata"]["finalizers"] = json!(["example.com/hold"]);
    hub.create("root", "configmaps", "far", claims).await;
    hub.delete("configmaps", "default", "a", Propagation::Foreground).await;
    hub.eventually("it is not held up from afar", |s| !there(s, "a")).await;
    hub.stop().await;
}

/// Realms and namespaces never meet: a pod elsewhere that names a set as its owner is not counted by it
/// and cannot be deleted through it.
#[tokio::test(start_paused = true)]
async fn a_pod_of_another_namespace_is_not_the_sets_own() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 2, "a:1")).await;
    hub.eventually("rolled out", |s| hub::is_rolled_out(s, "web", "a:1", 2)).await;
    let mut claims = list(&*hub.snapshot(), "root", "pods", "default").remove(0);
    let labels = claims["metadata"]["labels"].take();
    let owners = claims["metadata"]["ownerReferences"].take();
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "far"}})).await;
    let body = json!({"metadata": {"name": "claims", "labels": labels, "ownerReferences": owners,
        "finalizers": ["example.com/hold"]}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}});
    hub.create("root", "pods", "far", body).await;
    hub.change("root", "deployments", "default", "web", |d| d["spec"]["replicas"] = json!(3)).await;
    hub.eventually("three of its own", |s| hub::is_rolled_out(s, "web", "a:1", 3)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_adopted_set_keeps_its_other_owners() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.eventually("rolled out", |s| hub::is_rolled_out(s, "web", "a:1", 1)).await;
    hub.delete("deployments", "default", "web", Propagation::Orphan).await;
    hub.eventually("orphaned", |s| {
        let sets = list(s, "root", "replicasets", "default");
        get(s, "root", "deployments", "default", "web").is_none()
            && sets[0]["metadata"]["ownerReferences"].is_null()
    })
    .await;
    let a = hub.create("root", "configmaps", "default", config("a", &json!([]))).await;
    let set = list(&*hub.snapshot(), "root", "replicasets", "default").remove(0);
    let name = set["metadata"]["name"].as_str().unwrap().to_owned();
    hub.change("root", "replicasets", "default", &name, |set| {
        set["metadata"]["ownerReferences"] = json!([owner(&a)]);
    })
    .await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.eventually("adopted beside its other owner", |s| {
        let set = get(s, "root", "replicasets", "default", &name).unwrap();
        let owners = set["metadata"]["ownerReferences"].as_array().unwrap();
        let kinds: Vec<&str> = owners.iter().filter_map(|o| o["kind"].as_str()).collect();
        kinds == ["ConfigMap", "Deployment"]
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_by_another_template_leads_to_another_hash() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.eventually("rolled out", |s| hub::is_rolled_out(s, "web", "a:1", 1)).await;
    hub.delete("deployments", "default", "web", Propagation::Orphan).await;
    hub.eventually("orphaned", |s| get(s, "root", "deployments", "default", "web").is_none()).await;
    let set = list(&*hub.snapshot(), "root", "replicasets", "default").remove(0);
    let taken = set["metadata"]["name"].as_str().unwrap().to_owned();
    hub.change("root", "replicasets", "default", &taken, |set| {
        set["metadata"]["labels"]["app"] = json!("other");
        set["spec"]["replicas"] = json!(0);
    })
    .await;
    hub.eventually("its pod is gone", |s| list(s, "root", "pods", "default").is_empty()).await;
    hub.create("root", "deployments", "default", deployment("web", 1, "a:1")).await;
    hub.eventually("rolled out under another name", |s| hub::is_rolled_out(s, "web", "a:1", 1))
        .await;
    let snapshot = hub.snapshot();
    let web = get(&*snapshot, "root", "deployments", "default", "web").unwrap();
    assert_eq!(web["status"]["collisionCount"], 1);
    let sets = list(&*snapshot, "root", "replicasets", "default");
    assert_eq!(sets.len(), 2);
    assert!(sets.iter().any(|s| s["metadata"]["name"] != json!(taken)
        && s["metadata"]["ownerReferences"][0]["name"] == "web"));
    hub.stop().await;
}

/// On real threads, where an informer is behind its workers: each pod is made once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_makes_no_pod_too_many() {
    let hub = Hub::with_spokes(&[]).await;
    let store = hub.objects.store().clone();
    let mut watch = store.watch(Vec::new(), store.snapshot().revision()).unwrap();
    let made = tokio::spawn(async move {
        let mut made = 0;
        loop {
            for event in watch.next().await.unwrap() {
                let key = event.key().unwrap();
                let pod = key.resource.as_str() == "pods";
                made += usize::from(pod && event.before.is_none());
                if &*key.name == "the-end" {
                    return made;
                }
            }
        }
    });
    hub.create("root", "deployments", "default", deployment("web", 300, "a:1")).await;
    hub.eventually("all are made", |s| {
        let web = get(s, "root", "deployments", "default", "web").unwrap();
        web["status"]["replicas"] == 300
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    hub.create("root", "configmaps", "default", config("the-end", &json!([]))).await;
    assert_eq!(made.await.unwrap(), 300);
    hub.stop().await;
}

/// The EndpointSlices of the Service `db`.
fn slices(s: &dyn Snapshot) -> Vec<Value> {
    let mut all = list(s, "root", "endpointslices", "default");
    all.retain(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "db");
    all
}

/// The Service `db` without a selector, and its Endpoints.
async fn by_hand(hub: &Hub, subsets: Value) {
    let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}});
    hub.create("root", "services", "default", service).await;
    let by_hand = json!({"metadata": {"name": "db"}, "subsets": subsets});
    hub.create("root", "endpoints", "default", by_hand).await;
}

/// One address of it.
fn one() -> Value {
    json!([{"addresses": [{"ip": "10.9.8.7"}], "ports": [{"port": 5432}]}])
}

#[tokio::test(start_paused = true)]
async fn endpoints_by_hand_are_mirrored() {
    let hub = Hub::with_spokes(&[]).await;
    by_hand(&hub, one()).await;
    hub.eventually("they are mirrored", |s| {
        let slices = slices(s);
        slices.len() == 1
            && slices[0]["endpoints"][0]["addresses"] == json!(["10.9.8.7"])
            && slices[0]["endpoints"][0]["conditions"]["ready"] == true
            && slices[0]["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
    })
    .await;
    let before = slices(&*hub.snapshot())[0]["metadata"]["uid"].clone();
    hub.change("root", "endpoints", "default", "db", |endpoints| {
        endpoints["subsets"][0]["addresses"] = json!([{"ip": "10.9.8.7"}, {"ip": "10.9.8.8"}]);
        endpoints["subsets"][0]["ports"][0]["port"] = json!(5433);
    })
    .await;
    hub.eventually("the same slice follows", |s| {
        let slices = slices(s);
        slices.len() == 1
            && slices[0]["metadata"]["uid"] == before
            && slices[0]["endpoints"].as_array().unwrap().len() == 2
            && slices[0]["ports"][0]["port"] == 5433
    })
    .await;
    hub.change("root", "services", "default", "db", |service| {
        service["spec"]["selector"] = json!({"app": "db"});
    })
    .await;
    hub.eventually("a selector leaves nothing of it", |s| {
        slices(s).iter().all(|slice| {
            slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
                == "endpointslice-controller.k8s.io"
        })
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_ask_for_it_and_those_of_an_election_are_left_alone() {
    let hub = Hub::with_spokes(&[]).await;
    by_hand(&hub, one()).await;
    hub.eventually("they are mirrored", |s| slices(s).len() == 1).await;
    let skip = |skip: bool| {
        move |endpoints: &mut Value| {
            endpoints["metadata"]["labels"] =
                json!({"endpointslice.kubernetes.io/skip-mirror": skip.to_string()});
        }
    };
    hub.change("root", "endpoints", "default", "db", skip(true)).await;
    hub.eventually("whoever asks is left alone", |s| slices(s).is_empty()).await;
    hub.change("root", "endpoints", "default", "db", skip(false)).await;
    hub.eventually("and mirrored again", |s| slices(s).len() == 1).await;
    hub.change("root", "endpoints", "default", "db", |endpoints| {
        endpoints["metadata"]["annotations"] =
            json!({"control-plane.alpha.kubernetes.io/leader": "{}"});
    })
    .await;
    hub.eventually("nobody is led to who was elected", |s| slices(s).is_empty()).await;
    hub.change("root", "endpoints", "default", "db", |endpoints| {
        endpoints["metadata"]["annotations"] = json!({});
    })
    .await;
    hub.eventually("and once more", |s| slices(s).len() == 1).await;
    hub.stop().await;
}

/// Addresses `10.first.0.0` and up.
fn addresses(first: u8, much: u32) -> Value {
    let base = u32::from_be_bytes([10, first, 0, 0]);
    (base..base + much).map(|ip| json!({"ip": std::net::Ipv4Addr::from(ip).to_string()})).collect()
}

#[tokio::test(start_paused = true)]
async fn many_endpoints_by_hand_are_several_slices_and_what_is_cut_is_told() {
    let hub = Hub::with_spokes(&[]).await;
    let ports = json!([{"port": 5432}]);
    let subsets = json!([
        {"addresses": addresses(1, 700), "ports": ports},
        {"addresses": addresses(2, 700), "ports": ports},
        {"addresses": addresses(3, 900), "notReadyAddresses": addresses(4, 200), "ports": ports},
    ]);
    by_hand(&hub, subsets).await;
    let sizes = |s: &dyn Snapshot| -> Vec<usize> {
        let all = slices(s);
        let mut sizes: Vec<_> =
            all.iter().map(|s| s["endpoints"].as_array().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    };
    hub.eventually("all of them but a hundred", |s| sizes(s) == [400, 1000, 1000]).await;
    hub.eventually("what is cut is told", |s| {
        list(s, "root", "events", "default").iter().any(|event| {
            event["reason"] == "TooManyAddressesToMirror"
                && event["type"] == "Warning"
                && event["involvedObject"]["kind"] == "Endpoints"
                && event["message"]
                    == "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. \
                        100 addresses were skipped"
        })
    })
    .await;
    settle().await;
    let before = slices(&*hub.snapshot());
    hub.change("root", "endpoints", "default", "db", |endpoints| {
        endpoints["subsets"].as_array_mut().unwrap().pop();
    })
    .await;
    hub.eventually("a slice less", |s| sizes(s) == [400, 1000]).await;
    let after = slices(&*hub.snapshot());
    assert!(after.iter().any(|slice| before.contains(slice)), "what fits stays as it is");
    hub.stop().await;
}

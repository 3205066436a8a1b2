//! What somebody deletes, or makes anew under its name, while its device is in session.

use std::collections::BTreeMap;

use crate::running;
use crate::support::*;

const NODES: (&str, &str, &str) = ("", "v1", "nodes");

/// The Node of pi-7 in this realm.
fn node_in(realm: &str) -> ObjectRef {
    ObjectRef { cluster: ClusterName::try_from(realm).unwrap(), ..place(NODES, "", "pi-7") }
}

/// Whether a Node has all that its device said last, and another UID than this.
fn is_whole(hub: &Hub, realm: &str, but: &Value) -> bool {
    let Ok(found) = hub.objects.get(&node_in(realm)) else { return false };
    let node = found.object.value().unwrap();
    let status = &node["status"];
    node["metadata"]["uid"] != *but
        && node["metadata"]["labels"]["kubernetes.io/arch"] == "arm64"
        && node["metadata"]["annotations"]["freewheel.dev/features"] == "3"
        && status["nodeInfo"]["kernelVersion"] == "7.0"
        && status["addresses"][0]["address"] == "127.0.0.11"
        && ["capacity", "allocatable"].iter().all(|list| status[list]["pods"] == "110")
}

async fn say(session: &mut Session, sequence: u64, report: Report) {
    let stamp = ReportStamp { boot_epoch: 1, sequence };
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    while heard(session).await != HubToSpoke::ReportsTaken(stamp) {}
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_deleted_or_made_anew_has_all_that_its_device_said() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    // Newer than what it greeted with.
    let said = NodeStatusV1 { kernel: "7.0".into(), ..node() };
    say(&mut session, 1, Report::Node(said)).await;
    let uid = |realm: &str| {
        let node = hub.objects.get(&node_in(realm)).unwrap().object.value().unwrap();
        node["metadata"]["uid"].clone()
    };
    for realm in ["root", "pi-7"] {
        eventually("it is written", || is_whole(&hub, realm, &Value::Null)).await;
        let before = uid(realm);
        let options = DeleteOptions::default();
        hub.objects.delete(&WriteOptions::default(), &node_in(realm), &options).await.unwrap();
        eventually("it comes back whole", || is_whole(&hub, realm, &before)).await;

        // Somebody was faster: a Node with nothing in it.
        let before = uid(realm);
        let hollow = json!({
            "apiVersion": "v1", "kind": "Node", "spec": {},
            "metadata": {"name": "pi-7", "uid": "somebody's"},
        });
        let object = Object::from_value(hollow, BTreeMap::new()).unwrap();
        let operations = vec![Operation::Put(node_in(realm).key(), object)];
        hub.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        eventually("it is filled", || is_whole(&hub, realm, &before)).await;
        assert_eq!(uid(realm), "somebody's", "it stays theirs");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = hub.objects.store().snapshot().revision();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(hub.objects.store().snapshot().revision(), before, "and then there is rest");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_writes_into_a_node_s_status_is_as_its_device_said_again() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    say(&mut session, 1, Report::Node(NodeStatusV1 { kernel: "7.0".into(), ..node() })).await;
    for realm in ["root", "pi-7"] {
        eventually("it is written", || is_whole(&hub, realm, &Value::Null)).await;
        let patch = |mut value: Value| {
            let status = &mut value["status"];
            status["addresses"] = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
            status["capacity"]["pods"] = json!("9000");
            status["capacity"]["nvidia.com/gpu"] = json!("2");
            status["nodeInfo"]["kernelVersion"] = json!("1.0");
            Ok(value)
        };
        let how = WriteOptions::default();
        hub.objects.modify(&how, &node_in(realm), Some("status"), patch).await.unwrap();
        assert!(!is_whole(&hub, realm, &Value::Null));
        eventually("it is put back", || is_whole(&hub, realm, &Value::Null)).await;
        let node = hub.objects.get(&node_in(realm)).unwrap().object.value().unwrap();
        assert_eq!(
            node["status"]["capacity"]["nvidia.com/gpu"], "2",
            "that is not the device's to say"
        );
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = hub.objects.store().snapshot().revision();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(hub.objects.store().snapshot().revision(), before, "and then there is rest");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_deleted_again_and_again_is_written_now_and_then() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    let mut deleted = 0;
    for _ in 0..600 {
        let options = DeleteOptions::default();
        let gone = hub.objects.delete(&WriteOptions::default(), &node_in("root"), &options).await;
        deleted += usize::from(gone.is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((2..=20).contains(&deleted), "made {deleted} times in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_pod_made_anew_under_its_name_has_nothing_of_the_one_before() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    let make = async || {
        hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
        let web = hub.get(PODS, "default", "web").await;
        web["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let first = make().await;
    say(&mut session, 1, running("root", &first)).await;
    assert_eq!(hub.get(PODS, "default", "web").await["status"]["phase"], "Running");
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    hub.objects
        .delete(&WriteOptions::default(), &place(PODS, "default", "web"), &now)
        .await
        .unwrap();
    let second = make().await;
    // What was on its way, and what its end says.
    say(&mut session, 2, running("root", &first)).await;
    say(&mut session, 3, Report::PodGone { realm: ClusterName::root(), uid: first }).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let web = hub.get(PODS, "default", "web").await;
    assert_eq!(web["metadata"]["uid"], second.as_str());
    let status = &web["status"];
    assert_ne!(status["phase"], "Running", "{web}");
    assert!(status["podIP"].is_null() && status["startTime"].is_null(), "{web}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_made_anew_has_what_its_device_says_once_it_has_joined_again() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    let version = || {
        let found = hub.objects.get(&place(CLUSTERS, "", "pi-7"));
        let cluster = found.ok()?.object.value().unwrap();
        cluster["status"]["version"]["kubernetes"].as_str().map(str::to_owned)
    };
    eventually("its facts are there", || version().is_some()).await;
    hub.remove_cluster("pi-7").await;
    hub.let_cluster_go("pi-7").await;
    link.closed().await;
    assert_eq!(version(), None);
    let (_link, _session) = hub.spoke("pi-7").await;
    eventually("they are there again", || version().is_some()).await;
    assert_eq!(hub.get(CLUSTERS, "", "pi-7").await["status"]["capacity"]["cpu"], "4");
}

#[tokio::test(start_paused = true)]
async fn a_label_that_a_device_has_no_more_goes_from_its_nodes() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    let labelled = |keys: &[&str]| {
        let labels = keys.iter().map(|key| ((*key).to_owned(), "x".to_owned())).collect();
        Report::Node(NodeStatusV1 { labels, ..node() })
    };
    let has = |realm: &str, key: &str| {
        let node = hub.objects.get(&node_in(realm)).unwrap().object.value().unwrap();
        node["metadata"]["labels"].get(key).is_some()
    };
    say(&mut session, 1, labelled(&["a", "b"])).await;
    for realm in ["root", "pi-7"] {
        eventually("it has both", || has(realm, "a") && has(realm, "b")).await;
        let label = |mut value: Value| {
            value["metadata"]["labels"]["theirs"] = json!("x");
            Ok(value)
        };
        let by = WriteOptions::default();
        hub.objects.modify(&by, &node_in(realm), None, label).await.unwrap();
    }
    say(&mut session, 2, labelled(&["b"])).await;
    for realm in ["root", "pi-7"] {
        eventually("one is gone", || !has(realm, "a")).await;
        let stay = ["b", "theirs", "kubernetes.io/arch"];
        assert!(stay.iter().all(|key| has(realm, key)), "{realm}");
    }
}

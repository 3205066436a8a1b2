//! Labels that a device tells of itself, start after start.

use crate::support::*;

const NODES: (&str, &str, &str) = ("", "v1", "nodes");

/// The value of a label, of the ManagedCluster or of the Node in a realm.
fn label(hub: &Hub, realm: Option<&str>, key: &str) -> Option<String> {
    let at = match realm {
        None => place(CLUSTERS, "", "pi-7"),
        Some(realm) => {
            ObjectRef { cluster: ClusterName::try_from(realm).unwrap(), ..place(NODES, "", "pi-7") }
        }
    };
    hub.objects.get(&at).ok()?.object.header.labels.get(key).cloned()
}

/// Whether it is so on the ManagedCluster and on both Nodes.
fn is_everywhere(hub: &Hub, key: &str, value: Option<&str>) -> bool {
    [None, Some("root"), Some("pi-7")].iter().all(|at| label(hub, *at, key).as_deref() == value)
}

/// It says these of itself, and is heard: the kernel tells this word from the others.
async fn say(hub: &Hub, session: &mut Session, sequence: u64, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let kernel = format!("7.{sequence}");
    let status = NodeStatusV1 { labels: labels.collect(), kernel: kernel.clone(), ..node() };
    let (stamp, report) = (ReportStamp { boot_epoch: 1, sequence }, Report::Node(status));
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    while heard(session).await != HubToSpoke::ReportsTaken(stamp) {}
    let is_heard = || {
        let cluster = ClusterName::try_from("pi-7").unwrap();
        let found = hub.objects.get(&ObjectRef { cluster, ..place(NODES, "", "pi-7") });
        found.is_ok_and(|it| {
            it.object.value().unwrap()["status"]["nodeInfo"]["kernelVersion"] == kernel
        })
    };
    eventually("it is heard", is_heard).await;
}

/// What somebody makes of the labels of the ManagedCluster.
async fn relabel(hub: &Hub, key: &str, value: Option<&str>) {
    let change = |mut cluster: Value| {
        match value {
            Some(value) => cluster["metadata"]["labels"][key] = json!(value),
            None => drop(cluster["metadata"]["labels"].as_object_mut().unwrap().remove(key)),
        }
        Ok(cluster)
    };
    let place = place(CLUSTERS, "", "pi-7");
    hub.objects.modify(&WriteOptions::default(), &place, None, change).await.unwrap();
}

/// What Events at the ManagedCluster say of labels.
fn told(hub: &Hub) -> Vec<String> {
    let scope = Scope {
        resource: freewheel_hub_schema::object::Resource::new("", "events"),
        cluster: Some(ClusterName::root()),
        namespace: None,
    };
    let snapshot = hub.objects.store().snapshot();
    let events = snapshot.range(&scope, None).map(|it| it.object.value().unwrap());
    let of_labels = events.filter(|it| {
        it["reason"] == "LabelsNotSet" && it["involvedObject"]["kind"] == "ManagedCluster"
    });
    of_labels.map(|it| it["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn labels_of_a_later_start_are_brought_to_its_cluster_and_nodes() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    eventually("it is as it joined", || is_everywhere(&hub, "site", Some("attic"))).await;
    say(&hub, &mut session, 1, &[("site", "cellar")]).await;
    assert!(is_everywhere(&hub, "site", Some("cellar")));
    // A start without labels says nothing about them.
    say(&hub, &mut session, 2, &[]).await;
    assert!(is_everywhere(&hub, "site", Some("cellar")));
    // One that says others takes back what it said; as what it did not join with, nobody has accepted it.
    say(&hub, &mut session, 3, &[("tier", "secret")]).await;
    assert!(is_everywhere(&hub, "site", None));
    assert_eq!(label(&hub, None, "tier"), None);
    assert_eq!(label(&hub, Some("root"), "tier").as_deref(), Some("secret"));
    say(&hub, &mut session, 4, &[("site", "attic"), ("tier", "secret")]).await;
    assert!(is_everywhere(&hub, "site", Some("attic")));
    assert_eq!(told(&hub), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_label_of_somebody_else_stays_and_is_told_of() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    relabel(&hub, "site", Some("roof")).await;
    relabel(&hub, "tier", Some("edge")).await;
    // As it has said before: nothing is new.
    say(&hub, &mut session, 1, &[("site", "attic")]).await;
    assert!(is_everywhere(&hub, "site", Some("roof")));
    assert_eq!(told(&hub), [""; 0]);
    say(&hub, &mut session, 2, &[("site", "cellar"), ("tier", "secret")]).await;
    eventually("it is told", || !told(&hub).is_empty()).await;
    let notice = loop {
        match heard(&mut session).await {
            HubToSpoke::Notice(text) if text.contains("cellar") => break text,
            _ => {}
        }
    };
    assert!(notice.contains("site=cellar (it is \"roof\"), tier=secret"), "{notice}");
    assert!(is_everywhere(&hub, "site", Some("roof")));
    assert_eq!(label(&hub, None, "tier").as_deref(), Some("edge"));
    assert_ne!(label(&hub, Some("root"), "tier").as_deref(), Some("secret"));
    let said = told(&hub).remove(0);
    assert!(said.contains("site=cellar (it is \"roof\"), tier=secret"), "{said}");
    assert!(said.contains("kubectl label managedcluster pi-7"), "{said}");
    // What somebody has taken off stays off.
    relabel(&hub, "site", None).await;
    say(&hub, &mut session, 3, &[("site", "attic")]).await;
    assert!(is_everywhere(&hub, "site", None));
}

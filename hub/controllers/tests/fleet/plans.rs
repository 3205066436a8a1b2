//! What dry runs tell of Placements and ManifestWorkReplicaSets.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::sync::Arc;

use freewheel_hub_objects::{Notes, ObjectRef, Person, WriteOptions};
use serde_json::{Value, json};

use super::hub::{Hub, cluster, get, kind};
use super::work_sets;

/// A dry run of somebody, and where the hub says something of it.
fn dry_run(person: &str) -> (WriteOptions, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let person = Person { name: person.to_owned(), ..Person::default() };
    let notes_here = Some(notes.clone());
    (WriteOptions { dry_run: true, notes: notes_here, ..WriteOptions::by(person) }, notes)
}

fn place(plural: &str, name: &str) -> ObjectRef {
    let (namespace, name) = ("default".into(), name.to_owned());
    ObjectRef { kind: kind(plural), cluster: cluster("root"), namespace, name }
}

/// What is said to somebody who would make this.
async fn made(hub: &Hub, person: &str, plural: &str, mut body: Value) -> Vec<String> {
    let (how, notes) = dry_run(person);
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let place = place(plural, &name);
    body["apiVersion"] = json!(place.kind.api_version());
    body["kind"] = json!(place.kind.kind());
    hub.objects.create(&how, &place, body).await.unwrap();
    notes.warnings()
}

/// What is said to somebody who would change the set.
async fn changed(hub: &Hub, change: impl Fn(&mut Value) + Send + Sync) -> Vec<String> {
    let (how, notes) = dry_run("all");
    let change = |mut value: Value| {
        change(&mut value);
        Ok(value)
    };
    let place = place("manifestworkreplicasets", "web");
    hub.objects.modify(&how, &place, None, change).await.unwrap();
    notes.warnings()
}

fn template(image: &str) -> Value {
    json!({"workload": {"manifests": [{"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": image}]}}]}})
}

fn set(strategy: Value) -> Value {
    let mut reference = json!({"name": "all"});
    reference["rolloutStrategy"] = strategy;
    json!({"metadata": {"name": "web"}, "spec": {
        "manifestWorkTemplate": template("web:1"), "placementRefs": [reference]}})
}

async fn hub() -> Hub {
    let hub = work_sets::hub(&["pi-1", "pi-2", "pi-3"]).await;
    hub.eventually("all are chosen", |s| {
        let placement = get(s, "root", "placements", "default", "all").unwrap();
        placement["status"]["numberOfSelectedClusters"] == 3
    })
    .await;
    hub
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_what_would_be_done() {
    let hub = hub().await;
    let two = json!({"metadata": {"name": "two"}, "spec": {"numberOfClusters": 2}});
    assert_eq!(
        made(&hub, "all", "placements", two).await,
        [
            "plan: placement two chooses: 2 clusters: pi-1, pi-2",
            "plan: placement two does not choose, others come first (numberOfClusters, spreadPolicy): 1 cluster: pi-3",
        ]
    );
    let strategy = json!({"type": "Progressive", "progressive": {"maxConcurrency": 2}});
    let all = ": 3 clusters: pi-1, pi-2, pi-3";
    assert_eq!(
        made(&hub, "all", "manifestworkreplicasets", set(strategy.clone())).await,
        [
            &*format!("plan: placement all chooses{all}"),
            &format!("plan: 1 module of 5 bytes to fetch{all}"),
            "plan: they import what modules there did not: 1",
            "plan: placement all, wave 1: 2 clusters: pi-1, pi-2",
            "plan: placement all, wave 2 when those are well: 1 cluster: pi-3",
        ]
    );
    let s = hub.snapshot();
    assert!(get(&*s, "root", "manifestworkreplicasets", "default", "web").is_none());
    assert!(get(&*s, "root", "placements", "default", "two").is_none());
    hub.create("root", "manifestworkreplicasets", "default", set(json!({"type": "All"}))).await;
    hub.eventually("all have it", |s| {
        let all = ["pi-1", "pi-2", "pi-3"];
        all.iter().all(|spoke| get(s, spoke, "pods", "default", "web").is_some())
    })
    .await;
    let new = changed(&hub, |it| it["spec"]["manifestWorkTemplate"] = template("web:2")).await;
    assert_eq!(
        new,
        [
            format!("plan: placement all chooses{all}"),
            format!("plan: 1 module of 5 bytes to fetch{all}"),
            "plan: they import what modules there did not: 2".to_owned(),
            format!("plan: placement all, wave 1{all}"),
        ]
    );
    let slower = changed(&hub, |it| {
        it["spec"]["placementRefs"][0]["rolloutStrategy"] = strategy.clone();
    })
    .await;
    assert!(slower.contains(&format!("plan: placement all, have it already{all}")), "{slower:?}");
    let left = changed(&hub, |it| it["spec"]["placementRefs"][0]["name"] = json!("none")).await;
    assert_eq!(
        left,
        [
            format!("plan: their placement is named no more, their works go{all}"),
            "plan: placement none is not there, or nobody has decided: no cluster is given anything".to_owned(),
        ]
    );
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_of_what_a_change_leads_to() {
    let hub = hub().await;
    hub.create("root", "manifestworkreplicasets", "default", set(json!({"type": "All"}))).await;
    let same = changed(&hub, |it| it["metadata"]["labels"] = json!({"a": "b"})).await;
    assert_eq!(same, Vec::<String>::new());
    let led = changed(&hub, |it| {
        it["metadata"]["annotations"] = json!({"freewheel.dev/abort-rollout": "1"});
    })
    .await;
    let head =
        "plan: nothing in the spec would change, and what these annotations lead to is not planned";
    assert_eq!(led, [format!("{head}: freewheel.dev/abort-rollout")]);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn modules_are_told_to_administrators_alone() {
    let hub = hub().await;
    let set = || set(json!({"type": "All"}));
    let told = made(&hub, "all", "manifestworkreplicasets", set()).await;
    assert!(told.iter().any(|line| line.contains("1 module of 5 bytes to fetch")), "{told:?}");
    let told = made(&hub, "bob", "manifestworkreplicasets", set()).await;
    assert!(told.contains(&"plan: 1 module to fetch: 3 clusters".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("import")), "{told:?}");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_who_waits_and_that_nobody_is_begun_with() {
    let hub = hub().await;
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["annotations"]["freewheel.dev/maintenance-window"] = json!("0 0 1 7 *; 1h");
    })
    .await;
    let mut set = set(json!({"type": "All"}));
    set["metadata"]["annotations"] = json!({"freewheel.dev/rollout-paused": "true"});
    let told = made(&hub, "all", "manifestworkreplicasets", set).await;
    let waits = "plan: placement all, wait for a maintenance window: 1 cluster: pi-1";
    assert!(told.iter().any(|line| line == waits), "{told:?}");
    let wave = "plan: placement all, wave 1: 2 clusters: pi-2, pi-3";
    assert!(told.iter().any(|line| line == wave), "{told:?}");
    let rests = "plan: the rollout is paused";
    assert!(told.iter().any(|line| line.starts_with(rests)), "{told:?}");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_names_no_clusters_to_who_may_not_list_them() {
    let hub = hub().await;
    let two = json!({"metadata": {"name": "two"}, "spec": {"numberOfClusters": 2}});
    let told = made(&hub, "bob", "placements", two).await;
    assert_eq!(told[0], "plan: placement two chooses: 2 clusters");
    assert!(!told.iter().any(|line| line.contains("pi-")), "{told:?}");
    let told = made(&hub, "bob", "manifestworkreplicasets", set(json!({"type": "All"}))).await;
    assert!(told.contains(&"plan: placement all, wave 1: 3 clusters".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("pi-")), "{told:?}");
    hub.stop().await;
}

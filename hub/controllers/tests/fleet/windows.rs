//! Clusters that are given something new in their maintenance windows alone.

use std::time::Duration;

use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::hub::{Hub, condition, get};
use super::work_sets::{given, hub, is_well, pairs, set};

const WINDOW: &str = "freewheel.dev/maintenance-window";
const SPOKES: [&str; 2] = ["pi-1", "pi-2"];

fn site(s: &dyn Snapshot) -> Value {
    get(s, "root", "manifestworkreplicasets", "default", "site").unwrap_or_default()
}

fn cluster(s: &dyn Snapshot, name: &str) -> Value {
    get(s, "root", "managedclusters", "", name).unwrap_or_default()
}

async fn has_window(hub: &Hub, name: &str, window: &str) {
    hub.change("root", "managedclusters", "", name, |it| {
        it["metadata"]["annotations"][WINDOW] = json!(window);
    })
    .await;
}

async fn both_are_chosen(hub: &Hub) {
    hub.eventually("both are chosen", |s| {
        let placement = get(s, "root", "placements", "default", "all").unwrap_or_default();
        placement["status"]["numberOfSelectedClusters"] == 2
            && SPOKES.iter().all(|name| {
                condition(&cluster(s, name), "ManagedClusterConditionAvailable") == "True"
            })
    })
    .await;
}

/// A window that opens in five minutes, by the clock of a zone that is an hour ahead in winter; and when that is.
fn in_five_minutes(hub: &Hub) -> (i64, String) {
    let at = (hub.objects.clock().unix_seconds() / 60 + 5) * 60;
    let local = at + 3600;
    let (hour, minute) = (local / 3600 % 24, local / 60 % 60);
    (at, format!("{minute} {hour} * * *; 1h; Europe/Vaduz"))
}

#[tokio::test(start_paused = true)]
async fn a_cluster_waits_for_its_maintenance_window() {
    let hub = hub(&SPOKES).await;
    both_are_chosen(&hub).await;
    let (opens, window) = in_five_minutes(&hub);
    has_window(&hub, "pi-1", &window).await;
    let one = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1}});
    hub.create("root", "manifestworkreplicasets", "default", set("1", one, "Background")).await;
    hub.eventually("it takes nobody's place", |s| {
        get(s, "pi-2", "configmaps", "default", "site").is_some()
            && given(s, "site") == pairs(&[("pi-2", "1")])
    })
    .await;
    is_well(&hub, "pi-2", "1").await;
    hub.eventually("it waits, and that is said", |s| {
        given(s, "site").len() == 1 && condition(&site(s), "RolloutWaiting") == "True"
    })
    .await;
    hub.eventually("it has it", |s| given(s, "site").len() == 2).await;
    assert!(opens <= hub.objects.clock().unix_seconds(), "its window is open");
    hub.eventually("nobody waits", |s| condition(&site(s), "RolloutWaiting").is_empty()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_window_of_the_set_is_for_who_has_none_and_no_longer_than_it_stands_there() {
    let hub = hub(&SPOKES).await;
    both_are_chosen(&hub).await;
    has_window(&hub, "pi-1", "* * * * *; 1h").await;
    let (_, window) = in_five_minutes(&hub);
    let mut set = set("1", json!({"type": "All"}), "Background");
    set["metadata"]["annotations"][WINDOW] = json!(window);
    hub.create("root", "manifestworkreplicasets", "default", set).await;
    hub.eventually("one has it", |s| given(s, "site") == pairs(&[("pi-1", "1")])).await;
    hub.eventually("that is said", |s| condition(&site(s), "RolloutWaiting") == "True").await;
    hub.change("root", "manifestworkreplicasets", "default", "site", |it| {
        it["metadata"]["annotations"] = json!({});
    })
    .await;
    hub.eventually("both have it", |s| given(s, "site").len() == 2).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_in_its_window_is_begun_with_when_it_is_back() {
    let hub = hub(&SPOKES).await;
    both_are_chosen(&hub).await;
    has_window(&hub, "pi-2", "* * * * *; 1h").await;
    hub.connect("pi-2", false).await;
    hub.eventually("it is silent", |s| {
        condition(&cluster(s, "pi-2"), "ManagedClusterConditionAvailable") != "True"
    })
    .await;
    let all = set("1", json!({"type": "All"}), "Background");
    hub.create("root", "manifestworkreplicasets", "default", all).await;
    hub.eventually("it waits", |s| condition(&site(s), "RolloutWaiting") == "True").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(given(&*hub.snapshot(), "site"), pairs(&[("pi-1", "1")]));
    hub.connect("pi-2", true).await;
    hub.eventually("it has it", |s| given(s, "site").len() == 2).await;
    hub.stop().await;
}

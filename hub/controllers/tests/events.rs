//! Events, and how long they are kept.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_objects::ObjectRef;
use freewheel_hub_schema::object::Object;
use freewheel_hub_store::{Operation, Txn};
use serde_json::json;

use crate::hub::{Hub, cluster, get, kind};

/// An Event as a hub has stored it whose clock said this.
async fn put(hub: &Hub, name: &str, made: &str) {
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": "R", "message": "m",
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": made},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "firstTimestamp": made, "lastTimestamp": made, "count": 1,
    });
    let object = Object::from_value(event, BTreeMap::new()).unwrap();
    let place = ObjectRef {
        kind: kind("events"),
        cluster: cluster("root"),
        namespace: "default".into(),
        name: name.to_owned(),
    };
    let operations = vec![Operation::Put(place.key(), object)];
    hub.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
}

fn is_there(hub: &Hub, name: &str) -> bool {
    get(&*hub.snapshot(), "root", "events", "default", name).is_some()
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_clock_that_was_ahead_goes_an_hour_after_it_is_seen() {
    let hub = Hub::with_spokes(&[]).await;
    // It is 2026 there.
    put(&hub, "ahead", "2027-02-05T00:00:00Z").await;
    tokio::time::sleep(Duration::from_secs(50 * 60)).await;
    assert!(is_there(&hub, "ahead"), "it has happened just now");
    hub.eventually("it goes", |s| get(s, "root", "events", "default", "ahead").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_made_anew_has_an_hour_of_its_own() {
    let hub = Hub::with_spokes(&[]).await;
    put(&hub, "ahead", "2027-02-05T00:00:00Z").await;
    tokio::time::sleep(Duration::from_secs(50 * 60)).await;
    put(&hub, "ahead", "2027-02-06T00:00:00Z").await;
    tokio::time::sleep(Duration::from_secs(50 * 60)).await;
    assert!(is_there(&hub, "ahead"), "it was made anew 50 minutes ago");
    hub.eventually("it goes", |s| get(s, "root", "events", "default", "ahead").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_seems_old_when_a_hub_starts_stays_for_a_while() {
    let hub = Hub::with_spokes(&[]).await;
    put(&hub, "old", "2025-06-01T00:00:00Z").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(is_there(&hub, "old"), "the clock may be set yet");
    hub.eventually("it goes", |s| get(s, "root", "events", "default", "old").is_none()).await;
    put(&hub, "later", "2025-06-01T00:00:00Z").await;
    hub.eventually("at once", |s| get(s, "root", "events", "default", "later").is_none()).await;
    hub.stop().await;
}

//! Deletes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freewheel_hub_objects::{DeleteOptions, Deleted, Propagation, WriteOptions};
use freewheel_hub_store::MAX_OBJECT_BYTES;
use serde_json::{Value, json};

use super::crowd::Crowd;
use super::kit::{PATIENCE, World, config, deployment, of, place, pod, refused, value};

fn going(deleted: Deleted) -> Value {
    match deleted {
        Deleted::Going(stored) => value(&stored),
        Deleted::Gone(_) => panic!("it is gone at once"),
    }
}

fn gone(deleted: Deleted) -> Value {
    match deleted {
        Deleted::Gone(stored) => value(&stored),
        Deleted::Going(_) => panic!("it is still there"),
    }
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
}

#[tokio::test]
async fn what_nobody_holds_goes_at_once() {
    let world = World::new().await;
    world.create("configmaps", config("a", "1")).await.unwrap();
    assert_eq!(gone(world.delete("configmaps", "a").await.unwrap())["data"]["is"], "1");
    assert!(world.read("configmaps", "a").is_none());
    refused(world.delete("configmaps", "a").await, 404, r#"configmaps "a" not found"#);
}

#[tokio::test]
async fn preconditions_of_a_delete_are_kept() {
    let world = World::new().await;
    let made = world.create("configmaps", config("a", "1")).await.unwrap();
    let uid = DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() };
    assert_eq!(world.delete_with("configmaps", "a", uid).await.unwrap_err().reason, "Conflict");
    let revision = DeleteOptions { revision: Some(1), ..DeleteOptions::default() };
    assert_eq!(world.delete_with("configmaps", "a", revision).await.unwrap_err().code, 409);
    let right = DeleteOptions {
        uid: Some(made.stored.object.header.uid.clone()),
        revision: Some(made.stored.revision),
        ..DeleteOptions::default()
    };
    gone(world.delete_with("configmaps", "a", right).await.unwrap());
}

#[tokio::test]
async fn a_finalizer_holds_until_it_is_taken_off() {
    let world = World::new().await;
    let mut held = deployment("a");
    held["metadata"]["finalizers"] = json!(["example.com/one", "example.com/two"]);
    world.create("deployments", held).await.unwrap();
    let marked = going(world.delete("deployments", "a").await.unwrap());
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(marked["metadata"]["generation"], 2);
    world.clock.pass(60);
    let again = going(world.delete("deployments", "a").await.unwrap());
    assert_eq!(again, marked, "a second delete changes nothing");
    let added = world
        .set(
            "deployments",
            "a",
            "/metadata/finalizers",
            json!(["example.com/one", "example.com/two", "example.com/x"]),
        )
        .await;
    let error = added.unwrap_err();
    assert_eq!(error.code, 422);
    assert!(error.message.contains(r#"found new finalizers []string{"example.com/x"}"#), "{error}");
    world
        .set("deployments", "a", "/metadata/finalizers", json!(["example.com/two"]))
        .await
        .unwrap();
    assert!(world.read("deployments", "a").is_some());
    world.set("deployments", "a", "/metadata/finalizers", json!([])).await.unwrap();
    assert!(world.read("deployments", "a").is_none());
}

#[tokio::test]
async fn propagation_becomes_a_finalizer() {
    let world = World::new().await;
    let with = |propagation| DeleteOptions { propagation, ..DeleteOptions::default() };
    for (name, propagation, finalizer) in [
        ("orphan", Propagation::Orphan, "orphan"),
        ("foreground", Propagation::Foreground, "foregroundDeletion"),
    ] {
        world.create("deployments", deployment(name)).await.unwrap();
        let marked = world.delete_with("deployments", name, with(Some(propagation))).await.unwrap();
        assert_eq!(going(marked)["metadata"]["finalizers"], json!([finalizer]));
    }
    // Who no longer wants to wait for the dependents may say so.
    let background = with(Some(Propagation::Background));
    gone(world.delete_with("deployments", "foreground", background).await.unwrap());
    world.create("deployments", deployment("background")).await.unwrap();
    gone(world.delete_with("deployments", "background", with(None)).await.unwrap());
}

#[tokio::test]
async fn a_bound_pod_waits_for_its_spoke() {
    let world = World::new().await;
    world.pod("bound", "pi-7").await;
    world.pod("unbound", "").await;
    gone(world.delete("pods", "unbound").await.unwrap());
    let marked = going(world.delete("pods", "bound").await.unwrap());
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    // No finalizer is left, and yet an update must not remove it.
    world.set("pods", "bound", "/metadata/labels", json!({"x": "y"})).await.unwrap();
    let longer = going(world.delete_with("pods", "bound", grace(90)).await.unwrap());
    assert_eq!(longer["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    let shorter = going(world.delete_with("pods", "bound", grace(5)).await.unwrap());
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
    gone(world.delete_with("pods", "bound", grace(0)).await.unwrap());
    assert!(world.read("pods", "bound").is_none());
}

#[tokio::test]
async fn a_grace_period_without_end_is_as_long_as_can_be_said() {
    let world = World::new().await;
    let mut endless = pod("spec");
    endless["spec"]["nodeName"] = json!("pi-7");
    endless["spec"]["terminationGracePeriodSeconds"] = json!(i64::MAX);
    world.create("pods", endless).await.unwrap();
    world.pod("asked", "pi-7").await;
    for (name, options) in [("spec", DeleteOptions::default()), ("asked", grace(i64::MAX))] {
        let marked = going(world.delete_with("pods", name, options).await.unwrap());
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2094-01-19T03:14:07Z", "{name}");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], i32::MAX, "{name}");
        let shorter = going(world.delete_with("pods", name, grace(5)).await.unwrap());
        assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z", "{name}");
    }
    world.pod("negative", "pi-7").await;
    let marked = going(world.delete_with("pods", "negative", grace(i64::MIN)).await.unwrap());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 1);
}

#[tokio::test]
async fn a_forced_delete_does_not_wait_but_for_finalizers() {
    let world = World::new().await;
    world.pod("a", "pi-7").await;
    gone(world.delete_with("pods", "a", grace(0)).await.unwrap());
    world.pod("b", "pi-7").await;
    world.set("pods", "b", "/metadata/finalizers", json!(["example.com/hold"])).await.unwrap();
    going(world.delete_with("pods", "b", grace(0)).await.unwrap());
    world.set("pods", "b", "/metadata/finalizers", json!([])).await.unwrap();
    assert!(world.read("pods", "b").is_none());
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let world = World::new().await;
    world.create("namespaces", json!({"metadata": {"name": "attic"}})).await.unwrap();
    let made = world.read("namespaces", "attic").unwrap();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
    let marked = going(world.delete("namespaces", "attic").await.unwrap());
    assert_eq!(marked["status"]["phase"], "Terminating");
    world.set("namespaces", "attic", "/spec/finalizers", json!([])).await.unwrap();
    assert!(world.read("namespaces", "attic").is_some(), "spec goes through its own door");
    let finalize = |mut value: Value| {
        value["spec"] = json!({});
        Ok(value)
    };
    let at = of("namespaces", "attic");
    world.objects.modify(&WriteOptions::default(), &at, Some("finalize"), finalize).await.unwrap();
    assert!(world.read("namespaces", "attic").is_none());
}

#[tokio::test]
async fn some_namespaces_stay() {
    let world = World::new().await;
    let message = r#"namespaces "default" is forbidden: this namespace may not be deleted"#;
    refused(world.delete("namespaces", "default").await, 403, message);
}

#[tokio::test]
async fn a_collection_is_deleted_within_its_scope() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.create("configmaps", config(name, "1")).await.unwrap();
    }
    let other = place("configmaps", "pi-7", "default", "a");
    world.objects.create(&WriteOptions::default(), &other, config("a", "1")).await.unwrap();
    let wanted = |stored: &freewheel_hub_store::Stored| &*stored.key.name != "b";
    let (all, mut deleted) = (of("configmaps", ""), 0);
    world
        .objects
        .delete_collection(
            &WriteOptions::default(),
            &all,
            &DeleteOptions::default(),
            wanted,
            |_| {
                deleted += 1;
            },
        )
        .await
        .unwrap();
    assert_eq!(deleted, 2);
    assert!(world.read("configmaps", "a").is_none());
    assert!(world.read("configmaps", "b").is_some());
    assert!(world.objects.get(&other).is_ok());
}

#[tokio::test]
async fn a_collection_is_deleted_side_by_side() {
    let crowd = Crowd::new();
    let world = World::over(crowd.clone()).await;
    for number in 0..40 {
        let name = format!("c{number:02}");
        world.create("configmaps", config(&name, "1")).await.unwrap();
    }
    // One after the other, the second would wait for the first, which waits for more.
    crowd.gather(16);
    let (how, all) = (WriteOptions::default(), of("configmaps", ""));
    let options = DeleteOptions::default();
    let mut deleted = Vec::new();
    let each = |one| deleted.push(gone(one)["metadata"]["name"].clone());
    let deleting = world.objects.delete_collection(&how, &all, &options, |_| true, each);
    tokio::time::timeout(PATIENCE, deleting).await.unwrap().unwrap();
    assert!(
        deleted.into_iter().eq((0..40).map(|number| format!("c{number:02}"))),
        "in the order of a list"
    );
    assert!(world.read("configmaps", "c39").is_none());
}

#[tokio::test]
async fn a_deletion_that_waits_for_nothing_lets_others_have_their_turn() {
    let world = World::new().await;
    for number in 0..500 {
        world.create("configmaps", config(&format!("c{number}"), "1")).await.unwrap();
    }
    let turns = Arc::new(AtomicUsize::new(0));
    let counts = turns.clone();
    let others = tokio::spawn(async move {
        loop {
            counts.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let (how, all) =
        (WriteOptions { dry_run: true, ..WriteOptions::default() }, of("configmaps", ""));
    let options = DeleteOptions::default();
    let mut deleted = 0;
    let each = |_| deleted += 1;
    world.objects.delete_collection(&how, &all, &options, |_| true, each).await.unwrap();
    let turns = turns.load(Ordering::Relaxed);
    assert!(deleted == 500 && deleted / 2 <= turns, "{turns} turns while {deleted} were deleted");
    others.abort();
}

#[tokio::test]
async fn what_is_made_while_a_large_collection_goes_stays() {
    let crowd = Crowd::new();
    let world = World::over(crowd.clone()).await;
    for number in 0..2_500 {
        world.create("configmaps", config(&format!("c{number:04}"), "1")).await.unwrap();
    }
    crowd.gather(1_000);
    let (how, all) = (WriteOptions::default(), of("configmaps", ""));
    let options = DeleteOptions::default();
    let mut deleted = 0;
    let each = |_| deleted += 1;
    let mut deleting =
        Box::pin(world.objects.delete_collection(&how, &all, &options, |_| true, each));
    while crowd.came() < 64 {
        assert!(futures::poll!(&mut deleting).is_pending());
    }
    crowd.let_go();
    world.create("configmaps", config("later", "1")).await.unwrap();
    tokio::time::timeout(PATIENCE, deleting).await.unwrap().unwrap();
    assert_eq!(deleted, 2_500);
    assert!(world.read("configmaps", "c2499").is_none());
    assert!(world.read("configmaps", "later").is_some());
}

/// However many there are, no more than some megabytes of them are on their way.
#[tokio::test]
async fn large_objects_are_deleted_a_few_at_a_time() {
    let crowd = Crowd::new();
    let world = World::over(crowd.clone()).await;
    for number in 0..10 {
        let large = "x".repeat(1_000_000);
        world.create("configmaps", config(&format!("c{number}"), &large)).await.unwrap();
    }
    crowd.gather(5);
    let (how, all) = (WriteOptions::default(), of("configmaps", ""));
    let options = DeleteOptions::default();
    let mut deleting =
        Box::pin(world.objects.delete_collection(&how, &all, &options, |_| true, drop));
    for _ in 0..10 {
        assert!(futures::poll!(&mut deleting).is_pending());
    }
    assert_eq!(crowd.came(), 4);
    crowd.let_go();
    tokio::time::timeout(PATIENCE, deleting).await.unwrap().unwrap();
    assert!(world.read("configmaps", "c9").is_none());
}

#[tokio::test]
async fn what_refuses_in_a_collection_ends_its_deletion() {
    let world = World::new().await;
    for name in ["attic", "cellar"] {
        world.create("namespaces", json!({"metadata": {"name": name}})).await.unwrap();
    }
    let (how, all) = (WriteOptions::default(), of("namespaces", ""));
    let options = DeleteOptions::default();
    let deleting = world.objects.delete_collection(&how, &all, &options, |_| true, drop);
    let refused = deleting.await.unwrap_err();
    assert_eq!(refused.code, 403, "{refused}");
    assert!(world.read("namespaces", "default").is_some());
}

/// What a delete adds to an object never keeps it from being deleted.
#[tokio::test]
async fn an_object_of_the_largest_size_can_be_deleted() {
    let world = World::new().await;
    let padded = |padding: usize| {
        let mut value = deployment("large");
        value["metadata"]["finalizers"] = json!(["example.com/hold"]);
        value["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["x".repeat(padding)]);
        value
    };
    let small = world.create("deployments", padded(0)).await.unwrap();
    // What is too large with its owners is stored without them.
    let owners = &value(&small.stored)["metadata"]["managedFields"];
    let owners = owners.to_string().len() + "\"managedFields\":,".len();
    let room = MAX_OBJECT_BYTES - (small.stored.object.body.len() - owners);
    let full = world.update("deployments", padded(room)).await.unwrap();
    assert_eq!(full.stored.object.body.len(), MAX_OBJECT_BYTES);
    let refused = world.update("deployments", padded(room + 1)).await.unwrap_err();
    assert_eq!(refused.code, 413, "{refused}");
    let foreground =
        DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    let going = world.delete_with("deployments", "large", foreground).await.unwrap();
    assert!(matches!(going, Deleted::Going(_)));
    world.set("deployments", "large", "/metadata/finalizers", json!([])).await.unwrap();
    assert!(world.read("deployments", "large").is_none());
}

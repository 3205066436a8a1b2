//! What the tags of images stand for, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

#[expect(dead_code, reason = "each test file uses its part of the played hub")]
mod hub;

use std::collections::BTreeSet;
use std::time::Duration;

use freewheel_hub_api::images::{Running as _, Users};
use freewheel_hub_api::pins::{Pins, RESOLVED};
use freewheel_hub_controllers::running;
use freewheel_hub_store::Snapshot;
use freewheel_link::digest::Digest;
use hub::{Hub, deployment, get, is_rolled_out, list};
use serde_json::{Value, json};

/// What the pods with this label are to run.
fn run(s: &dyn Snapshot, app: &str, image: &str) -> BTreeSet<String> {
    let pods = list(s, "root", "pods", "default");
    let mine = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app);
    mine.map(|pod| Pins::of(pod).apply(image)).collect()
}

fn by(image: &str, manifest: Digest) -> BTreeSet<String> {
    let name = image.split(':').next().unwrap();
    BTreeSet::from([format!("{name}@{manifest}")])
}

fn replicas(count: u32) -> impl Fn(&mut Value) + Send + Sync {
    move |d: &mut Value| d["spec"]["replicas"] = json!(count)
}

/// As `kubectl rollout restart` writes it.
fn restart(when: &'static str) -> impl Fn(&mut Value) + Send + Sync {
    move |d: &mut Value| {
        let meta = &mut d["spec"]["template"]["metadata"];
        meta["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": when});
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_looks_its_images_up_once_and_its_pods_get_that() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "deployments", "default", deployment("web", 1, "web:1")).await;
    hub.eventually("rolled out", |s| is_rolled_out(s, "web", "web:1", 1)).await;
    let second = hub.registry.push("web:1", "second");
    hub.change("root", "deployments", "default", "web", replicas(3)).await;
    hub.eventually("grown", |s| is_rolled_out(s, "web", "web:1", 3)).await;
    assert_eq!(run(&*hub.snapshot(), "web", "web:1"), by("web:1", first));
    hub.change("root", "deployments", "default", "web", restart("now")).await;
    hub.eventually("the next set runs the next build", |s| {
        is_rolled_out(s, "web", "web:1", 3) && run(s, "web", "web:1") == by("web:1", second)
    })
    .await;
    // `kubectl rollout undo` writes the old template, and the old set's annotations onto the Deployment.
    let old = json!({"web:1": first.to_string()}).to_string();
    hub.change("root", "deployments", "default", "web", |d| {
        d["spec"]["template"]["metadata"]["annotations"] = Value::Null;
        d["metadata"]["annotations"][RESOLVED] = json!(old);
    })
    .await;
    hub.eventually("the old set runs the old build", |s| {
        is_rolled_out(s, "web", "web:1", 3) && run(s, "web", "web:1") == by("web:1", first)
    })
    .await;
    hub.change("root", "deployments", "default", "web", restart("later")).await;
    hub.eventually("what a Deployment was told of one set is none of the next", |s| {
        is_rolled_out(s, "web", "web:1", 3) && run(s, "web", "web:1") == by("web:1", second)
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_later_is_looked_up_once_for_all_pods_of_a_set() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.create("root", "deployments", "default", deployment("web", 3, "gone:1")).await;
    hub.eventually("made all the same", |s| list(s, "root", "pods", "default").len() == 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(run(&*hub.snapshot(), "web", "gone:1"), BTreeSet::from(["gone:1".to_owned()]));
    let first = hub.registry.push("gone:1", "first");
    hub.eventually("looked up", |s| run(s, "web", "gone:1") == by("gone:1", first)).await;
    hub.registry.push("gone:1", "second");
    hub.change("root", "deployments", "default", "web", replicas(5)).await;
    hub.eventually("grown", |s| is_rolled_out(s, "web", "gone:1", 5)).await;
    assert_eq!(run(&*hub.snapshot(), "web", "gone:1"), by("gone:1", first));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_its_own_is_looked_up_when_it_has_a_node() {
    let hub = Hub::with_spokes(&[]).await;
    hub.registry.push("web:1", "zeroth");
    let pod = json!({"metadata": {"name": "alone", "labels": {"app": "alone"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}, {"name": "d", "image": "gone:1"}]}});
    hub.create("root", "pods", "default", pod).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let alone = get(&*hub.snapshot(), "root", "pods", "default", "alone").unwrap();
    assert_eq!(Pins::of(&alone), Pins::default(), "nothing runs it yet");
    let first = hub.registry.push("web:1", "first");
    hub.join("pi-1").await;
    hub.eventually("looked up", |s| run(s, "alone", "web:1") == by("web:1", first)).await;
    hub.registry.push("web:1", "second");
    let late = hub.registry.push("gone:1", "late");
    hub.eventually("the other one too", |s| run(s, "alone", "gone:1") == by("gone:1", late)).await;
    assert_eq!(run(&*hub.snapshot(), "alone", "web:1"), by("web:1", first));
    let other = hub.registry.push("web:2", "other");
    hub.change("root", "pods", "default", "alone", |pod| {
        pod["spec"]["containers"][0]["image"] = json!("web:2");
    })
    .await;
    hub.eventually("another image", |s| run(s, "alone", "web:2") == by("web:2", other)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_runs_a_build_is_counted_and_called_by_its_deployment() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "deployments", "default", deployment("web", 3, "web:1")).await;
    hub.create("root", "deployments", "default", deployment("other", 2, "other:1")).await;
    let alone = json!({"metadata": {"name": "alone"},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
    hub.create("root", "pods", "default", alone).await;
    hub.eventually("rolled out", |s| {
        let alone = get(s, "root", "pods", "default", "alone");
        is_rolled_out(s, "web", "web:1", 3)
            && is_rolled_out(s, "other", "other:1", 2)
            && alone.is_some_and(|pod| Pins::of(&pod) != Pins::default())
    })
    .await;
    let running = running::Pods::new(hub.objects.clone());
    let users = running.users(&first, &|image| image == "web:1");
    let restarts = vec!["kubectl -n default rollout restart deployment/web".to_owned()];
    assert_eq!(users, Users { pods: 4, restarts, loose: 1 });
    assert_eq!(running.users(&first, &|image| image == "web:2"), Users::default(), "another tag");
    assert_eq!(running.users(&Digest::of(b"x"), &|_| true), Users::default());
    hub.change("root", "deployments", "default", "web", replicas(0)).await;
    hub.eventually("gone", |s| list(s, "root", "pods", "default").len() == 3).await;
    assert_eq!(running.users(&first, &|image| image == "web:1").pods, 1);
    hub.stop().await;
}

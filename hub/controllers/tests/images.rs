//! What the tags of images stand for, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::collections::BTreeSet;
use std::time::Duration;

use crate::hub::{Hub, deployment, get, is_rolled_out, list};
use freewheel_hub_api::images::{Running as _, Users};
use freewheel_hub_api::pins::{Pins, RESOLVED};
use freewheel_hub_controllers::module_users;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::metadata::ANNOTATION_BYTES_MAX;
use freewheel_hub_store::{MAX_OBJECT_BYTES, Snapshot};
use freewheel_link::digest::Digest;
use serde_json::{Value, json};

/// What the pods with this label are to run.
pub(crate) fn run(s: &dyn Snapshot, app: &str, image: &str) -> BTreeSet<String> {
    let pods = list(s, "root", "pods", "default");
    let mine = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app);
    mine.map(|pod| Pins::of(pod).apply(image)).collect()
}

pub(crate) fn by(image: &str, manifest: Digest) -> BTreeSet<String> {
    let name = image.split(':').next().unwrap();
    BTreeSet::from([format!("{name}@{manifest}")])
}

pub(crate) fn replicas(count: u32) -> impl Fn(&mut Value) + Send + Sync {
    move |d: &mut Value| d["spec"]["replicas"] = json!(count)
}

/// As `kubectl rollout restart` writes it.
pub(crate) fn restart(when: &'static str) -> impl Fn(&mut Value) + Send + Sync {
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

/// Names of what has this label.
pub(crate) fn named(s: &dyn Snapshot, plural: &str, app: &str) -> Vec<String> {
    let all = list(s, "root", plural, "default").into_iter();
    let mine = all.filter(|one| one["metadata"]["labels"]["app"] == app);
    mine.map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// What an object says that its images stand for.
pub(crate) fn pins(s: &dyn Snapshot, plural: &str, name: &str) -> Pins {
    Pins::of(&get(s, "root", plural, "default", name).unwrap())
}

fn replica_set(name: &str, app: &str, replicas: u32) -> Value {
    let mut set = deployment(app, replicas, "web:1");
    set["metadata"] = json!({"name": name, "labels": {"app": app}});
    set["spec"].as_object_mut().unwrap().remove("strategy");
    set
}

fn lone(name: &str, app: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]}})
}

#[tokio::test(start_paused = true)]
async fn what_somebody_takes_off_or_writes_over_stays() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "deployments", "default", deployment("web", 1, "web:1")).await;
    hub.eventually("rolled out", |s| is_rolled_out(s, "web", "web:1", 1)).await;
    let second = hub.registry.push("web:1", "second");
    let other = json!({"web:1": second.to_string()}).to_string();
    for plural in ["replicasets", "pods"] {
        let name = named(&*hub.snapshot(), plural, "web").remove(0);
        for text in [None, Some("{}"), Some(&other)] {
            let change = |it: &mut Value| {
                let annotations = it["metadata"]["annotations"].as_object_mut().unwrap();
                annotations.remove(RESOLVED);
                if let Some(text) = text {
                    annotations.insert(RESOLVED.to_owned(), json!(text));
                }
            };
            hub.change("root", plural, "default", &name, change).await;
            hub.change_status("root", plural, "default", &name, change).await;
            let said = pins(&*hub.snapshot(), plural, &name);
            assert_eq!(said.apply("web:1"), format!("web@{first}"), "{plural} {text:?}");
        }
    }
    hub.change("root", "deployments", "default", "web", replicas(3)).await;
    hub.eventually("grown", |s| is_rolled_out(s, "web", "web:1", 3)).await;
    assert_eq!(run(&*hub.snapshot(), "web", "web:1"), by("web:1", first));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_copied_object_says_is_looked_up_anew() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    let elsewhere = json!({"web:1": Digest::of(b"elsewhere").to_string()}).to_string();
    let copied = json!({ RESOLVED: elsewhere });
    let mut pod = lone("alone", "alone");
    pod["metadata"]["annotations"] = copied.clone();
    hub.create("root", "pods", "default", pod).await;
    hub.eventually("a pod", |s| run(s, "alone", "web:1") == by("web:1", first)).await;
    let mut set = replica_set("set", "set", 2);
    set["metadata"]["annotations"] = copied.clone();
    hub.create("root", "replicasets", "default", set).await;
    hub.eventually("a set", |s| run(s, "set", "web:1") == by("web:1", first)).await;
    let mut web = deployment("web", 2, "web:1");
    web["metadata"]["annotations"] = copied.clone();
    web["spec"]["template"]["metadata"]["annotations"] = copied;
    hub.create("root", "deployments", "default", web).await;
    hub.eventually("a template", |s| {
        is_rolled_out(s, "web", "web:1", 2) && run(s, "web", "web:1") == by("web:1", first)
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_set_and_the_pods_that_it_adopts_run_one_build() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    for name in ["one", "two"] {
        hub.create("root", "pods", "default", lone(name, "web")).await;
        hub.eventually("kept", move |s| pins(s, "pods", name) != Pins::default()).await;
    }
    hub.registry.push("web:1", "second");
    hub.create("root", "replicasets", "default", replica_set("web", "web", 3)).await;
    hub.eventually("the set takes over what its first pods run", |s| {
        named(s, "pods", "web").len() == 3
            && run(s, "web", "web:1") == by("web:1", first)
            && pins(s, "replicasets", "web").apply("web:1") == format!("web@{first}")
    })
    .await;
    hub.create("root", "pods", "default", lone("late", "late")).await;
    hub.eventually("kept", |s| pins(s, "pods", "late") != Pins::default()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let third = hub.registry.push("web:1", "third");
    hub.create("root", "replicasets", "default", replica_set("other", "other", 1)).await;
    hub.eventually("another set", |s| run(s, "other", "web:1") == by("web:1", third)).await;
    let one_of_it = |pod: &mut Value| pod["metadata"]["labels"]["app"] = json!("other");
    hub.change("root", "pods", "default", "late", one_of_it).await;
    hub.eventually("who comes late goes over to what the set runs", |s| {
        named(s, "pods", "other") == ["late"] && run(s, "other", "web:1") == by("web:1", third)
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_image_any_more_is_kept_no_longer() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "pods", "default", lone("alone", "alone")).await;
    hub.create("root", "replicasets", "default", replica_set("set", "set", 1)).await;
    let kept = |s: &dyn Snapshot, plural: &str, name: &str| -> Vec<String> {
        pins(s, plural, name).iter().map(|(image, _)| image.to_owned()).collect()
    };
    hub.eventually("kept", |s| {
        kept(s, "pods", "alone") == ["web:1"] && kept(s, "replicasets", "set") == ["web:1"]
    })
    .await;
    hub.change("root", "pods", "default", "alone", |pod| {
        pod["spec"]["containers"][0]["image"] = json!("web:2");
    })
    .await;
    hub.change("root", "replicasets", "default", "set", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
        set["spec"]["replicas"] = json!(2);
    })
    .await;
    hub.eventually("the new one alone", |s| {
        kept(s, "pods", "alone") == ["web:2"] && kept(s, "replicasets", "set") == ["web:2"]
    })
    .await;
    let running = module_users::RunningPods::new(hub.objects.clone());
    assert_eq!(running.users(&first, &|_| true).pods, 1, "the set's first pod");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn annotations_up_to_the_limit_leave_room_for_what_is_kept() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    let full = json!({"a": "x".repeat(ANNOTATION_BYTES_MAX - 1)});
    let mut pod = lone("alone", "alone");
    pod["metadata"]["annotations"] = full.clone();
    hub.create("root", "pods", "default", pod).await;
    hub.eventually("a pod", |s| run(s, "alone", "web:1") == by("web:1", first)).await;
    let mut web = deployment("web", 2, "web:1");
    web["spec"]["template"]["metadata"]["annotations"] = full;
    hub.create("root", "deployments", "default", web).await;
    hub.eventually("rolled out", |s| {
        is_rolled_out(s, "web", "web:1", 2) && run(s, "web", "web:1") == by("web:1", first)
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_no_room_for_it_says_so() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.registry.push("web:1", "first");
    let padded = |bytes: usize| {
        let mut pod = lone("alone", "alone");
        pod["spec"]["nodeName"] = json!("pi-1");
        pod["spec"]["containers"][0]["env"] = json!([{"name": "E", "value": "x".repeat(bytes)}]);
        pod
    };
    let least = hub.create("root", "pods", "default", padded(1000)).await;
    // What is too large with its owners is stored without them.
    let owners = least["metadata"]["managedFields"].to_string().len() + "\"managedFields\":,".len();
    let least = least.to_string().len() - owners - 1000;
    hub.delete("pods", "default", "alone", Propagation::Background).await;
    hub.eventually("gone", |s| get(s, "root", "pods", "default", "alone").is_none()).await;
    hub.create("root", "pods", "default", padded(MAX_OBJECT_BYTES - least - 20)).await;
    hub.eventually("its user reads it", |s| {
        let told = |event: &Value| event["reason"] == "ImageNotKept" && event["type"] == "Warning";
        list(s, "root", "events", "default").iter().any(told)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let events = list(&*hub.snapshot(), "root", "events", "default");
    let told = events.iter().find(|event| event["reason"] == "ImageNotKept").unwrap();
    assert_eq!(told["count"], 1, "and it is tried no more");
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
    let running = module_users::RunningPods::new(hub.objects.clone());
    let users = running.users(&first, &|image| image == "web:1");
    let restarts = vec!["kubectl -n default rollout restart deployment/web".to_owned()];
    assert_eq!(users, Users { pods: 4, without_pods: 0, restarts, loose: 1 });
    assert_eq!(running.users(&first, &|image| image == "web:2"), Users::default(), "another tag");
    assert_eq!(running.users(&Digest::of(b"x"), &|_| true), Users::default());
    hub.change("root", "deployments", "default", "web", replicas(0)).await;
    hub.eventually("gone", |s| list(s, "root", "pods", "default").len() == 3).await;
    assert_eq!(running.users(&first, &|image| image == "web:1").pods, 1);
    let by_digest = json!({"metadata": {"name": "digest"},
        "spec": {"containers": [{"name": "c", "image": format!("web@{first}")}]}});
    hub.create("root", "pods", "default", by_digest).await;
    assert_eq!(running.users(&first, &|_| true).pods, 2, "who says it in its image");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_will_run_a_build_again_is_counted_too() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "deployments", "default", deployment("web", 2, "web:1")).await;
    hub.eventually("rolled out", |s| is_rolled_out(s, "web", "web:1", 2)).await;
    let running = module_users::RunningPods::new(hub.objects.clone());
    hub.change("root", "deployments", "default", "web", replicas(0)).await;
    let no_pods = |s: &dyn Snapshot| named(s, "pods", "web").is_empty();
    hub.eventually("scaled down", no_pods).await;
    let restarts = vec!["kubectl -n default rollout restart deployment/web".to_owned()];
    let users = running.users(&first, &|image| image == "web:1");
    assert_eq!(users, Users { pods: 0, without_pods: 1, restarts, loose: 0 });
    hub.registry.push("web:1", "second");
    hub.change("root", "deployments", "default", "web", |d| {
        restart("now")(d);
        replicas(2)(d);
    })
    .await;
    hub.eventually("the next set", |s| is_rolled_out(s, "web", "web:1", 2)).await;
    let users = running.users(&first, &|image| image == "web:1");
    assert_eq!(
        users,
        Users { without_pods: 1, ..Users::default() },
        "for a roll-back, which nobody has to type"
    );
    hub.stop().await;
}

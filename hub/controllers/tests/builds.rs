//! Which build the pods of StatefulSets, DaemonSets and Jobs run when their tag is pushed again, with every controller
//! running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::collections::BTreeSet;

use crate::hub::{EXITS, Hub, condition, get, list, serves};
use crate::images::{by, named, pins, replicas, restart, run};
use freewheel_hub_api::images::{Running as _, Users};
use freewheel_hub_api::pins::{Pins, RESOLVED};
use freewheel_hub_controllers::module_users;
use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use freewheel_link::digest::Digest;
use serde_json::{Value, json};

/// A template of one container, of pods with this label.
fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]}})
}

fn stateful_set(replicas: u32) -> Value {
    json!({"metadata": {"name": "db"}, "spec": {"replicas": replicas, "serviceName": "dbs",
        "selector": {"matchLabels": {"app": "db"}}, "template": template("db")}})
}

fn daemon_set() -> Value {
    json!({"metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}}, "template": template("agent")}})
}

/// A Job whose pods run on.
fn job(name: &str, parallelism: u32) -> Value {
    let mut template = template(name);
    template["spec"]["restartPolicy"] = json!("Never");
    json!({"metadata": {"name": name},
        "spec": {"parallelism": parallelism, "template": template}})
}

fn parallelism(count: u32) -> impl Fn(&mut Value) + Send + Sync {
    move |job: &mut Value| job["spec"]["parallelism"] = json!(count)
}

/// As `kubectl rollout undo` writes the first template.
fn undo(set: &mut Value) {
    set["spec"]["template"]["metadata"]["annotations"] = Value::Null;
}

/// What those run that serve, by their names.
fn builds(s: &dyn Snapshot, app: &str) -> Vec<String> {
    let pods = list(s, "root", "pods", "default");
    let mine = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app && serves(pod));
    mine.map(|pod| Pins::of(pod).apply("web:1")).collect()
}

fn of<const N: usize>(builds: [Digest; N]) -> [String; N] {
    builds.map(|build| format!("web@{build}"))
}

/// There are so many pods, all of which serve and run this.
fn all_run(s: &dyn Snapshot, app: &str, count: usize, build: Digest) -> bool {
    named(s, "pods", app).len() == count
        && builds(s, app).len() == count
        && run(s, app, "web:1") == by("web:1", build)
}

/// One that runs this.
fn one_of(s: &dyn Snapshot, app: &str, build: Digest) -> String {
    let runs = |name: &String| pins(s, "pods", name).apply("web:1") == format!("web@{build}");
    named(s, "pods", app).into_iter().find(runs).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_revision_of_a_stateful_set_runs_what_its_tags_stood_for() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "statefulsets", "default", stateful_set(1)).await;
    hub.eventually("it runs", |s| all_run(s, "db", 1, first)).await;
    let second = hub.registry.push("web:1", "second");
    hub.change("root", "statefulsets", "default", "db", replicas(3)).await;
    hub.eventually("grown", |s| builds(s, "db").len() == 3).await;
    assert_eq!(builds(&*hub.snapshot(), "db"), of([first; 3]), "one revision runs one build");
    hub.change("root", "statefulsets", "default", "db", restart("now")).await;
    hub.eventually("the next one the next", |s| all_run(s, "db", 3, second)).await;
    let third = hub.registry.push("web:1", "third");
    hub.delete("pods", "default", "db-1", Propagation::Background).await;
    hub.eventually("who is made anew as well", |s| builds(s, "db") == of([second; 3])).await;
    hub.change("root", "statefulsets", "default", "db", undo).await;
    hub.eventually("the first one again", |s| all_run(s, "db", 3, first)).await;
    hub.change("root", "statefulsets", "default", "db", restart("now")).await;
    hub.eventually("an equal template is its revision", |s| all_run(s, "db", 3, second)).await;
    hub.change("root", "statefulsets", "default", "db", restart("later")).await;
    hub.eventually("another one is not", |s| all_run(s, "db", 3, third)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_push_in_the_middle_of_a_rollout_by_parts_mixes_nothing() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "statefulsets", "default", stateful_set(3)).await;
    hub.eventually("all run", |s| all_run(s, "db", 3, first)).await;
    let from = |partition: u32| {
        move |set: &mut Value| {
            set["spec"]["updateStrategy"] =
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
        }
    };
    let second = hub.registry.push("web:1", "second");
    hub.change("root", "statefulsets", "default", "db", |set| {
        from(2)(set);
        restart("now")(set);
    })
    .await;
    hub.eventually("the highest", |s| builds(s, "db") == of([first, first, second])).await;
    hub.registry.push("web:1", "third");
    hub.delete("pods", "default", "db-0", Propagation::Background).await;
    hub.eventually("as it was", |s| builds(s, "db") == of([first, first, second])).await;
    hub.delete("pods", "default", "db-2", Propagation::Background).await;
    hub.eventually("as it was", |s| builds(s, "db") == of([first, first, second])).await;
    hub.change("root", "statefulsets", "default", "db", from(1)).await;
    hub.eventually("the next", |s| builds(s, "db") == of([first, second, second])).await;
    hub.change("root", "statefulsets", "default", "db", undo).await;
    hub.eventually("back in the middle", |s| builds(s, "db") == of([first; 3])).await;
    hub.change("root", "statefulsets", "default", "db", |set| {
        from(0)(set);
        restart("now")(set);
        replicas(4)(set);
    })
    .await;
    hub.eventually("to its end", |s| all_run(s, "db", 4, second)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_that_is_made_anew_runs_what_it_finds_or_what_there_is() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "statefulsets", "default", stateful_set(2)).await;
    hub.eventually("all run", |s| all_run(s, "db", 2, first)).await;
    let second = hub.registry.push("web:1", "second");
    let is_there = |s: &dyn Snapshot| get(s, "root", "statefulsets", "default", "db").is_some();
    hub.delete("statefulsets", "default", "db", Propagation::Orphan).await;
    hub.eventually("its pods stay", |s| !is_there(s)).await;
    hub.create("root", "statefulsets", "default", stateful_set(3)).await;
    hub.eventually("its pods are found", |s| builds(s, "db").len() == 3).await;
    assert_eq!(builds(&*hub.snapshot(), "db"), of([first; 3]));
    hub.delete("statefulsets", "default", "db", Propagation::Background).await;
    hub.eventually("it goes", |s| !is_there(s)).await;
    // Its revision may still be there, with the name that the next one would have.
    hub.create("root", "statefulsets", "default", stateful_set(2)).await;
    hub.eventually("another one", |s| all_run(s, "db", 2, second)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_revision_of_a_daemon_set_runs_what_its_tags_stood_for() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "daemonsets", "default", daemon_set()).await;
    hub.eventually("it runs", |s| all_run(s, "agent", 2, first)).await;
    let second = hub.registry.push("web:1", "second");
    hub.join("pi-3").await;
    hub.eventually("a device comes", |s| builds(s, "agent").len() == 3).await;
    assert_eq!(builds(&*hub.snapshot(), "agent"), of([first; 3]), "one revision runs one build");
    hub.change("root", "daemonsets", "default", "agent", restart("now")).await;
    hub.eventually("the next one the next", |s| all_run(s, "agent", 3, second)).await;
    hub.change("root", "daemonsets", "default", "agent", undo).await;
    hub.eventually("the first one again", |s| all_run(s, "agent", 3, first)).await;

    let third = hub.registry.push("web:1", "third");
    hub.change("root", "daemonsets", "default", "agent", |set| {
        set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        restart("later")(set);
    })
    .await;
    hub.eventually("it is known", |s| named(s, "controllerrevisions", "agent").len() == 3).await;
    for replaced in 1..3 {
        let victim = one_of(&*hub.snapshot(), "agent", first);
        hub.delete("pods", "default", &victim, Propagation::Background).await;
        hub.eventually("who is deleted is of the newest revision", |s| {
            let builds = builds(s, "agent");
            let newest = builds.iter().filter(|build| **build == format!("web@{third}")).count();
            builds.len() == 3 && newest == replaced && !named(s, "pods", "agent").contains(&victim)
        })
        .await;
        hub.registry.push("web:1", "fourth");
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_pods_of_a_job_run_one_build_and_the_next_job_the_next_one() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "jobs", "default", job("one", 1)).await;
    hub.eventually("it runs", |s| all_run(s, "one", 1, first)).await;
    let second = hub.registry.push("web:1", "second");
    hub.change("root", "jobs", "default", "one", parallelism(3)).await;
    hub.eventually("grown", |s| builds(s, "one").len() == 3).await;
    assert_eq!(builds(&*hub.snapshot(), "one"), of([first; 3]), "one Job runs one build");
    let victim = one_of(&*hub.snapshot(), "one", first);
    hub.delete("pods", "default", &victim, Propagation::Background).await;
    hub.eventually("who is made anew as well", |s| builds(s, "one") == of([first; 3])).await;
    hub.create("root", "jobs", "default", job("other", 2)).await;
    hub.eventually("another Job", |s| all_run(s, "other", 2, second)).await;

    let elsewhere = json!({"web:1": Digest::of(b"elsewhere").to_string()}).to_string();
    let spec = job("tick", 1)["spec"].clone();
    let cron = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "* * * * *",
        "jobTemplate": {"metadata": {"annotations": {RESOLVED: elsewhere}}, "spec": spec}}});
    hub.create("root", "cronjobs", "default", cron).await;
    hub.eventually("a CronJob's first", |s| builds(s, "tick") == of([second])).await;
    let third = hub.registry.push("web:1", "third");
    hub.eventually("and its next", |s| builds(s, "tick") == of([second, third])).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_later_is_looked_up_once_for_a_revision_and_for_a_job() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let (mut set, mut job) = (stateful_set(2), job("job", 2));
    for made in [&mut set, &mut job] {
        made["spec"]["template"]["spec"]["containers"][0]["image"] = json!("gone:1");
    }
    hub.create("root", "statefulsets", "default", set).await;
    hub.create("root", "jobs", "default", job).await;
    let have = |s: &dyn Snapshot, count: usize| {
        ["db", "job"].iter().all(|app| builds(s, app).len() == count)
    };
    hub.eventually("made all the same", |s| have(s, 2)).await;
    let runs = |s: &dyn Snapshot| -> BTreeSet<String> {
        ["db", "job"].iter().flat_map(|app| run(s, app, "gone:1")).collect()
    };
    assert_eq!(runs(&*hub.snapshot()), BTreeSet::from(["gone:1".to_owned()]));
    let first = hub.registry.push("gone:1", "first");
    hub.eventually("looked up", |s| runs(s) == by("gone:1", first)).await;
    hub.registry.push("gone:1", "second");
    hub.change("root", "statefulsets", "default", "db", replicas(3)).await;
    hub.change("root", "jobs", "default", "job", parallelism(3)).await;
    hub.eventually("grown", |s| have(s, 3)).await;
    assert_eq!(runs(&*hub.snapshot()), by("gone:1", first));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_people_write_to_a_revision_or_a_job_counts_for_nothing() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    let elsewhere = json!({"web:1": Digest::of(b"elsewhere").to_string()}).to_string();
    let copied = json!({ RESOLVED: elsewhere });
    for (plural, mut made) in
        [("statefulsets", stateful_set(1)), ("daemonsets", daemon_set()), ("jobs", job("job", 1))]
    {
        made["metadata"]["annotations"] = copied.clone();
        made["spec"]["template"]["metadata"]["annotations"] = copied.clone();
        hub.create("root", plural, "default", made).await;
    }
    for app in ["db", "agent", "job"] {
        hub.eventually("it is looked up", |s| all_run(s, app, 1, first)).await;
    }
    let second = hub.registry.push("web:1", "second");
    let other = json!({"web:1": second.to_string()}).to_string();
    for (plural, app) in [("controllerrevisions", "db"), ("jobs", "job")] {
        let name = named(&*hub.snapshot(), plural, app).remove(0);
        for text in [None, Some(&other)] {
            hub.change("root", plural, "default", &name, |it| {
                it["metadata"]["annotations"] =
                    text.map_or(Value::Null, |text| json!({ RESOLVED: text }));
            })
            .await;
            let said = pins(&*hub.snapshot(), plural, &name);
            assert_eq!(said.apply("web:1"), format!("web@{first}"), "{plural} {text:?}");
        }
    }
    hub.change("root", "statefulsets", "default", "db", replicas(2)).await;
    hub.change("root", "jobs", "default", "job", parallelism(2)).await;
    for app in ["db", "job"] {
        hub.eventually("grown", |s| builds(s, app).len() == 2).await;
        assert_eq!(builds(&*hub.snapshot(), app), of([first; 2]));
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn stateful_sets_daemon_sets_and_jobs_that_run_a_build_are_known() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let first = hub.registry.push("web:1", "first");
    hub.create("root", "statefulsets", "default", stateful_set(2)).await;
    hub.create("root", "daemonsets", "default", daemon_set()).await;
    hub.create("root", "jobs", "default", job("job", 2)).await;
    let mut done = job("done", 1);
    done["spec"]["template"]["metadata"]["annotations"] = json!({EXITS: "0"});
    hub.create("root", "jobs", "default", done).await;
    hub.eventually("one is over, and the others run", |s| {
        let done = get(s, "root", "jobs", "default", "done").unwrap();
        condition(&done, "Complete") == "True"
            && all_run(s, "db", 2, first)
            && all_run(s, "agent", 1, first)
            && all_run(s, "job", 2, first)
    })
    .await;
    let running = module_users::RunningPods::new(hub.objects.clone());
    let users = || running.users(&first, &|image| image == "web:1");
    let [of_agent, of_db] = ["daemonset/agent", "statefulset/db"]
        .map(|what| format!("kubectl -n default rollout restart {what}"));
    let restarts = vec![of_agent.clone(), of_db];
    let all = Users { pods: 5, without_pods: 0, restarts: restarts.clone(), loose: 2 };
    assert_eq!(users(), all);

    hub.change("root", "statefulsets", "default", "db", replicas(0)).await;
    hub.change("root", "jobs", "default", "job", |job| job["spec"]["suspend"] = json!(true)).await;
    hub.eventually("two rest", |s| {
        ["db", "job"].iter().all(|app| named(s, "pods", app).is_empty())
    })
    .await;
    assert_eq!(users(), Users { pods: 1, without_pods: 2, restarts, loose: 0 });

    let second = hub.registry.push("web:1", "second");
    hub.change("root", "statefulsets", "default", "db", |set| {
        restart("now")(set);
        replicas(2)(set);
    })
    .await;
    hub.eventually("the next revision", |s| all_run(s, "db", 2, second)).await;
    let kept = Users { pods: 1, without_pods: 2, restarts: vec![of_agent], loose: 0 };
    assert_eq!(
        users(),
        kept,
        "the first revision is kept for a roll-back, which nobody has to type"
    );
    hub.stop().await;
}

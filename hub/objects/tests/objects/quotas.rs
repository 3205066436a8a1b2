//! What quotas, ranges and classes of a cluster say of pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use freewheel_hub_api::quota;
use freewheel_hub_objects::{
    Claims, DeleteOptions, Objects, Plugin, Refusal, Review, WriteOptions,
};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::crowd::Crowd;
use super::kit::{PATIENCE, World, config, of, pod, refused, value};

fn limiting(hard: &Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})
}

/// A quota of which a controller has said what is used: nothing.
pub(super) async fn in_force(world: &World, hard: &Value) -> String {
    let made = value(&world.create("resourcequotas", limiting(hard)).await.unwrap().stored);
    let known = |mut quota: Value| {
        quota["status"] = json!({"hard": hard, "used": {}});
        Ok(quota)
    };
    let (how, at) = (WriteOptions::default(), of("resourcequotas", "q"));
    world.objects.modify(&how, &at, Some("status"), known).await.unwrap();
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// What is counted of a name, in thousandths.
fn counted(objects: &Objects, uid: &str, name: &str) -> u64 {
    let counter = quota::counter(&ClusterName::root(), "default", uid, name);
    objects.store().snapshot().counter(&counter)
}

#[tokio::test]
async fn a_crowd_gets_what_a_quota_has_left() {
    const WRITERS: usize = 200;
    let store = Crowd::new();
    let world = World::over(store.clone()).await;
    let uid = in_force(&world, &json!({"configmaps": "70"})).await;
    store.gather(WRITERS);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let objects = world.objects.clone();
        writers.spawn(async move {
            let name = format!("c{writer}");
            let at = of("configmaps", &name);
            objects.create(&WriteOptions::default(), &at, config(&name, "1")).await
        });
    }
    let outcomes = timeout(PATIENCE, writers.join_all()).await.unwrap();
    let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), WRITERS - 70);
    let why =
        "exceeded quota: q, requested: configmaps=1, used: configmaps=70, limited: configmaps=70";
    assert!(errors.iter().all(|error| error.code == 403 && error.message.ends_with(why)));
    assert_eq!(counted(&world.objects, &uid, "configmaps"), 70_000);
}

#[tokio::test]
async fn a_quota_says_what_is_too_much() {
    let world = World::new().await;
    let hard = json!({"requests.cpu": "1", "limits.memory": "1Gi", "pods": "2", "services.nodeports": "1"});
    let uid = in_force(&world, &hard).await;
    let asks = |name: &str, cpu: &str, memory: &str| {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": cpu}, "limits": {"memory": memory}});
        pod
    };
    refused(
        world.create("pods", pod("a")).await,
        403,
        "pods \"a\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c",
    );
    world.create("pods", asks("a", "600m", "512Mi")).await.unwrap();
    refused(
        world.create("pods", asks("b", "500m", "600Mi")).await,
        403,
        "pods \"b\" is forbidden: exceeded quota: q, requested: limits.memory=600Mi,requests.cpu=500m, \
         used: limits.memory=512Mi,requests.cpu=600m, limited: limits.memory=1Gi,requests.cpu=1",
    );
    world.create("pods", asks("b", "400m", "512Mi")).await.unwrap();
    assert_eq!(counted(&world.objects, &uid, "requests.cpu"), 1000);
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let port = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    world.create("services", port.clone()).await.unwrap();
    let open = |mut service: Value| {
        service["spec"]["type"] = json!("NodePort");
        Ok(service)
    };
    world.objects.modify(&dry, &of("services", "s"), None, open).await.unwrap();
    assert_eq!(counted(&world.objects, &uid, "services.nodeports"), 0, "nothing was written");
    let how = WriteOptions::default();
    world.objects.modify(&how, &of("services", "s"), None, open).await.unwrap();
    assert_eq!(counted(&world.objects, &uid, "services.nodeports"), 1000);
    let mut more = port;
    more["metadata"]["name"] = json!("t");
    more["spec"]["type"] = json!("NodePort");
    let error = world.create("services", more).await.unwrap_err();
    let why = "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1";
    assert!(error.message.ends_with(why), "{}", error.message);
    world.delete_with("resourcequotas", "q", DeleteOptions::default()).await.unwrap();
    assert_eq!(counted(&world.objects, &uid, "requests.cpu"), 0, "it leaves nothing behind");
    world.create("pods", pod("c")).await.unwrap();
}

/// Makes a quota while the first ConfigMap is looked at.
struct Between(Objects, AtomicBool);

#[async_trait]
impl Plugin for Between {
    fn name(&self) -> &'static str {
        "Between"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.plural() == "configmaps"
    }

    async fn validate(&self, _: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        if !self.1.swap(true, Ordering::SeqCst) {
            let quota = limiting(&json!({"configmaps": "1"}));
            let at = of("resourcequotas", "q");
            self.0.create(&WriteOptions::default(), &at, quota).await.unwrap();
        }
        Ok(Claims::default())
    }
}

#[tokio::test]
async fn a_quota_that_comes_between_is_looked_at() {
    let world = World::new().await;
    let between = Between(world.objects.clone(), AtomicBool::new(false));
    let objects = world.objects.clone().admitting(Arc::new(between));
    let how = WriteOptions::default();
    objects.create(&how, &of("configmaps", "a"), config("a", "1")).await.unwrap();
    let quota = world.read("resourcequotas", "q").unwrap();
    let uid = quota["metadata"]["uid"].as_str().unwrap();
    assert_eq!(counted(&objects, uid, "configmaps"), 1000);
}

#[tokio::test]
async fn a_pod_gets_the_limits_and_the_class_of_its_place() {
    let world = World::new().await;
    let limit = json!({"type": "Container", "default": {"cpu": "500m"}, "max": {"cpu": "1"}});
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [limit]}});
    world.create("limitranges", range).await.unwrap();
    let class = |name: &str, value: i32, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
    let made = world.create("priorityclasses", class("usual", 7, true)).await.unwrap();
    assert_eq!(value(&made.stored)["preemptionPolicy"], "PreemptLowerPriority");
    refused(
        world.create("priorityclasses", class("other", 8, true)).await,
        403,
        "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. \
         Only one default can exist",
    );
    world.create("priorityclasses", class("gold", 9, false)).await.unwrap();
    let made = value(&world.create("pods", pod("a")).await.unwrap().stored);
    let spec = &made["spec"];
    assert_eq!((&spec["priority"], &spec["priorityClassName"]), (&json!(7), &json!("usual")));
    assert_eq!(
        spec["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}})
    );
    assert!(made["metadata"]["annotations"]["kubernetes.io/limit-ranger"].is_string());
    let mut greedy = pod("b");
    greedy["spec"]["priorityClassName"] = json!("gold");
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    refused(
        world.create("pods", greedy.clone()).await,
        403,
        "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2",
    );
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    let made = value(&world.create("pods", greedy).await.unwrap().stored);
    assert_eq!(made["spec"]["priority"], 9);
}

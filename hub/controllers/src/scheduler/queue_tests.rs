//! The scheduler's memory, without a store.

use freewheel_hub_schema::object::{Object, Resource};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::*;

fn stored(plural: &str, name: &str, mut value: Value) -> Arc<Stored> {
    let namespace = if plural == "pods" { "default" } else { "" };
    let key = Key::new(&Resource::new("", plural), &ClusterName::root(), namespace, name);
    value["metadata"]["name"] = json!(name);
    value["metadata"]["uid"] = json!(format!("uid-{name}"));
    let field = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let fields = BTreeMap::from([
        ("spec.nodeName".to_owned(), field("/spec/nodeName").to_owned()),
        ("spec.schedulerName".to_owned(), field("/spec/schedulerName").to_owned()),
        ("status.phase".to_owned(), field("/status/phase").to_owned()),
    ]);
    let object = Object::from_value(value, fields).unwrap();
    Arc::new(Stored { key, object, revision: 1, created: 1 })
}

fn node(name: &str, cpu: &str) -> Event {
    let value = json!({"metadata": {}, "status": {"allocatable": {"cpu": cpu, "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True"}]}});
    Event { revision: 1, now: Some(stored("nodes", name, value)), before: None }
}

fn pod(name: &str, change: impl Fn(&mut Value)) -> Event {
    let mut value = json!({"metadata": {}, "spec": {"schedulerName": SCHEDULER_NAME, "containers": [
        {"name": "c", "resources": {"requests": {"cpu": "1"}}}]}});
    change(&mut value);
    Event { revision: 1, now: Some(stored("pods", name, value)), before: None }
}

fn with_node(cpu: &str) -> SchedulingQueue {
    let mut state = SchedulingQueue::new(1);
    state.node(&node("n", cpu)).unwrap();
    state
}

/// Names of what is bound now, in order.
fn bound(state: &mut SchedulingQueue) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(verdict) = state.next(Instant::now()) {
        if let Decision::Bind { pod, .. } = verdict {
            names.push(pod.name.to_string());
        }
    }
    names
}

#[tokio::test(start_paused = true)]
async fn pods_of_others_gated_and_dying_ones_are_left_alone() {
    let mut state = with_node("4");
    state.pod(&pod("other", |p| p["spec"]["schedulerName"] = json!("mine"))).unwrap();
    state.pod(&pod("gated", |p| p["spec"]["schedulingGates"] = json!([{"name": "g"}]))).unwrap();
    state.pod(&pod("dying", |p| p["metadata"]["deletionTimestamp"] = json!("x"))).unwrap();
    state.pod(&pod("over", |p| p["status"] = json!({"phase": "Failed"}))).unwrap();
    state.pod(&pod("good", |_| {})).unwrap();
    assert_eq!(bound(&mut state), ["good"]);
}

#[tokio::test(start_paused = true)]
async fn higher_priority_is_first_and_equals_keep_their_order() {
    let mut state = with_node("10");
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
        state.pod(&pod(name, |p| p["spec"]["priority"] = json!(priority))).unwrap();
    }
    assert_eq!(bound(&mut state), ["b", "d", "a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_booked_is_not_given_twice_and_comes_back_when_the_write_fails() {
    let mut state = with_node("1");
    state.pod(&pod("a", |_| {})).unwrap();
    state.pod(&pod("b", |_| {})).unwrap();
    assert_eq!(bound(&mut state), ["a"]);
    let a = pod("a", |_| {}).now.unwrap();
    state.not_bound(&a.key, &"uid-a".into(), Instant::now());
    tokio::time::advance(BACKOFF_FIRST).await;
    assert_eq!(bound(&mut state), ["a"], "b waits for an event, a for its back-off");
}

#[tokio::test(start_paused = true)]
async fn a_binding_is_for_the_very_node_that_was_looked_at() {
    let mut state = with_node("4");
    let there = |state: &mut SchedulingQueue, name: &str| {
        state.pod(&pod(name, |_| {})).unwrap();
        let Some(Decision::Bind { there, .. }) = state.next(Instant::now()) else {
            panic!("{name}")
        };
        there
    };
    let first = node("n", "4").now.unwrap();
    assert_eq!(there(&mut state, "a"), Expect::Created(first.key.clone(), 1));
    // Another device of that name.
    let (key, object) = (first.key.clone(), first.object.clone());
    let next = Arc::new(Stored { key, object, revision: 3, created: 3 });
    let next = Event { revision: 3, now: Some(next), before: None };
    state.node(&next).unwrap();
    assert_eq!(there(&mut state, "b"), Expect::Created(first.key.clone(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_else_bound_stays_booked() {
    let mut state = with_node("1");
    state.pod(&pod("a", |_| {})).unwrap();
    assert_eq!(bound(&mut state), ["a"]);
    let elsewhere = pod("a", |p| p["spec"]["nodeName"] = json!("n"));
    state.pod(&elsewhere).unwrap();
    state.not_bound(&elsewhere.now.unwrap().key, &"uid-a".into(), Instant::now());
    state.pod(&pod("b", |_| {})).unwrap();
    assert_eq!(bound(&mut state), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn who_fits_nowhere_is_woken_by_a_better_node() {
    let mut state = with_node("500m");
    state.pod(&pod("a", |_| {})).unwrap();
    assert_eq!(bound(&mut state), Vec::<String>::new());
    state.node(&node("n", "500m")).unwrap();
    tokio::time::advance(BACKOFF_FIRST).await;
    assert!(!state.has_work() && bound(&mut state).is_empty(), "nothing changed");
    state.node(&node("n", "2")).unwrap();
    assert_eq!(bound(&mut state), ["a"]);
}

/// Pods of one set that fit nowhere, and what is told about them in one round.
fn crowd(state: &mut SchedulingQueue, pods: usize) {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "w",
        "controller": true}]);
    for n in 0..pods {
        let of_set = |p: &mut Value| p["metadata"]["ownerReferences"] = owner.clone();
        state.pod(&pod(&format!("p{n:04}"), of_set)).unwrap();
    }
}

fn refused(state: &mut SchedulingQueue) -> usize {
    std::iter::from_fn(|| state.next(Instant::now())).count()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_equal_pods_that_fit_nowhere_cost_one_search_and_are_told_once() {
    let mut state = with_node("500m");
    crowd(&mut state, 1_000);
    let seed = state.seed;
    assert_eq!(refused(&mut state), 1_000);
    assert_eq!(state.seed - seed, 1, "the nodes were searched once");
    // Again and again something small gets free: they are tried, and nothing new is told.
    for n in 0..5 {
        let small = |p: &mut Value| {
            p["spec"]["nodeName"] = json!("n");
            p["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1m");
        };
        let small = pod(&format!("small-{n}"), small);
        state.pod(&small).unwrap();
        state.pod(&Event { revision: 2, now: None, before: small.now }).unwrap();
        tokio::time::advance(BACKOFF_MAX).await;
        assert_eq!(refused(&mut state), 0);
    }
    assert_eq!(state.seed - seed, 6, "one search each time");
    tokio::time::advance(UNSCHEDULABLE_RETRY_AFTER).await;
    assert_eq!(refused(&mut state), 1_000, "after a while it is told again");
}

#[tokio::test(start_paused = true)]
async fn another_reason_is_told_at_once() {
    let mut state = with_node("500m");
    crowd(&mut state, 1);
    let Some(Decision::Refuse { why, .. }) = state.next(Instant::now()) else { panic!() };
    assert_eq!(why.to_string(), "0/1 nodes are available: 1 Insufficient cpu.");
    state.node(&node("m", "100m")).unwrap();
    tokio::time::advance(BACKOFF_FIRST).await;
    let Some(Decision::Refuse { why, .. }) = state.next(Instant::now()) else { panic!() };
    assert_eq!(why.to_string(), "0/2 nodes are available: 2 Insufficient cpu.");
}

//! What the rules of some clusters may take from those of others: nothing that these would miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freewheel_hub_objects::{Actor, ObjectRef, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::gvk::{Gvk, Gvr};
use freewheel_hub_schema::kind::{Converter, Converting, Kind, Strategy};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::kit::{PATIENCE, World, constraints, deny, person, place};

/// Nothing is special about it.
struct Plain;

impl Strategy for Plain {}

/// Shows what is stored in v2, and never comes back to v1.
struct Stuck(tokio::sync::mpsc::UnboundedSender<()>);

impl Converter for Stuck {
    fn convert<'a>(&'a self, to: &'a str, mut objects: Vec<Value>) -> Converting<'a> {
        Box::pin(async move {
            if to == "example.com/v1" {
                let _ = self.0.send(());
                std::future::pending::<()>().await;
            }
            objects.iter_mut().for_each(|object| object["apiVersion"] = to.into());
            Ok(objects)
        })
    }
}

/// A kind of a cluster in two versions.
fn widgets(world: &World, cluster: &str, converter: &Arc<dyn Converter>) -> ObjectRef {
    let cluster = ClusterName::try_from(cluster).unwrap();
    let kind = |version: &'static str| {
        let kind = Kind::new(Gvk::new("example.com", version, "Widget"), "widgets", Plain);
        kind.cluster_scoped().converted_by(converter.clone())
    };
    let kinds = world.objects.kinds();
    let own = kinds.add(&cluster, kind("v1")).unwrap();
    let stored = Gvr::new("example.com", "v1", "widgets");
    kinds.add(&cluster, kind("v2").stored_as(stored)).unwrap();
    ObjectRef { kind: own, cluster, namespace: "".into(), name: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_conversion_holds_up_no_other_clusters_policy() {
    let world = World::new().await;
    let (told, mut stuck) = tokio::sync::mpsc::unbounded_channel();
    let converter: Arc<dyn Converter> = Arc::new(Stuck(told));
    let mut writes = JoinSet::new();
    for cluster in ["pi-1", "pi-2"] {
        let at = widgets(&world, cluster, &converter);
        let rule = json!({"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["widgets"]});
        let change = json!({"patchType": "JSONPatch", "jsonPatch": {
            "expression": "[JSONPatch{op: 'add', path: '/spec', value: 'x'}]"}});
        let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "reinvocationPolicy": "Never", "mutations": [change]});
        world.policy_in(cluster, "MutatingAdmissionPolicy", spec, json!({})).await;
        for number in 0..2 {
            let (objects, at) = (world.objects.clone(), at.clone());
            let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": format!("w{number}")}});
            writes.spawn(async move {
                objects.create(&WriteOptions::by(person("ada")), &at, widget).await.map(drop)
            });
        }
    }
    for _ in 0..4 {
        timeout(PATIENCE, stuck.recv()).await.expect("it is converted").unwrap();
    }
    let spec = json!({"matchConstraints": constraints("", "configmaps"), "validations": [{"expression": "false"}]});
    world.policy_in("pi-7", "ValidatingAdmissionPolicy", spec, deny()).await;
    let value = json!({"metadata": {"name": "c"}});
    let asked = world.create_in("pi-7", person("ada"), ("v1", "ConfigMap"), value);
    let refused = timeout(Duration::from_secs(5), asked).await.expect("it has a turn").unwrap_err();
    assert_eq!(refused.code, 422, "{}", refused.message);
    writes.abort_all();
}

#[tokio::test(start_paused = true)]
async fn slow_webhooks_of_some_clusters_hold_up_no_other() {
    let world = World::new().await;
    let mut waiting = JoinSet::new();
    for number in 0..8 {
        let cluster = format!("pi-1{number}");
        let home = json!({"metadata": {"name": "default"}});
        let at = place(&cluster, "v1", "Namespace", "");
        world.objects.create(&WriteOptions::default(), &at, home).await.unwrap();
        for path in ["slow-a", "slow-b"] {
            world.webhook_in(&cluster, "Mutating", path, json!({"timeoutSeconds": 30})).await;
        }
        for name in 0..32 {
            let (objects, at) = (world.objects.clone(), place(&cluster, "v1", "ConfigMap", ""));
            let value = json!({"metadata": {"name": format!("c{name}")}});
            waiting.spawn(async move {
                objects.create(&WriteOptions::by(person("ada")), &at, value).await.map(drop)
            });
        }
    }
    sleep(Duration::from_millis(10)).await;
    world.webhook_in("pi-7", "Validating", "quick", json!({"timeoutSeconds": 1})).await;
    for actor in [person("ada"), Actor::Controller("job-controller")] {
        let begun = Instant::now();
        let value = json!({"metadata": {"generateName": "c"}});
        world.create_in("pi-7", actor, ("v1", "ConfigMap"), value).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    waiting.abort_all();
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_was_not_called_has_not_failed() {
    let world = World::new().await;
    // As many calls as the cluster may have, of which none comes back.
    let mut waiting = JoinSet::new();
    for path in ["slow-a", "slow-b"] {
        let rule =
            json!({"rules": [super::kit::about(&["*"], "", "secrets")], "timeoutSeconds": 30});
        world.webhook_in("pi-7", "Validating", path, rule).await;
    }
    for name in 0..16 {
        let (objects, at) = (world.objects.clone(), place("pi-7", "v1", "Secret", ""));
        let value = json!({"metadata": {"name": format!("s{name}")}});
        waiting.spawn(async move {
            objects.create(&WriteOptions::by(person("ada")), &at, value).await.map(drop)
        });
    }
    sleep(Duration::from_millis(10)).await;
    world.webhook_in("pi-7", "Validating", "quick", json!({})).await;
    let create = async || {
        let value = json!({"metadata": {"generateName": "c"}});
        let actor = Actor::Controller("job-controller");
        world.create_in("pi-7", actor, ("v1", "ConfigMap"), value).await.map(drop)
    };
    let begun = Instant::now();
    let busy = create().await.unwrap_err();
    // A controller comes again by itself: it does not queue.
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!((busy.code, busy.reason), (503, "ServiceUnavailable"), "{}", busy.message);
    waiting.shutdown().await;
    create().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_others_keep_busy_has_not_failed() {
    let world = World::new().await;
    world.webhook_in("pi-7", "Validating", "slow", json!({"timeoutSeconds": 30})).await;
    let mut waiting = JoinSet::new();
    for name in 0..16 {
        let (objects, at) = (world.objects.clone(), place("pi-7", "v1", "ConfigMap", ""));
        let value = json!({"metadata": {"name": format!("c{name}")}});
        waiting.spawn(async move {
            objects.create(&WriteOptions::by(person("ada")), &at, value).await.map(drop)
        });
    }
    sleep(Duration::from_millis(10)).await;
    let begun = Instant::now();
    for _ in 0..2 {
        let value = json!({"metadata": {"generateName": "d"}});
        let actor = Actor::Controller("job-controller");
        let busy = world.create_in("pi-7", actor, ("v1", "ConfigMap"), value).await.unwrap_err();
        assert_eq!((busy.code, busy.reason), (503, "ServiceUnavailable"), "{}", busy.message);
    }
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    waiting.shutdown().await;
}

/// Shows what is stored as `max` in v1 as `limit` in v2, and converts nothing in which there is a `bad`, which it counts.
#[derive(Default)]
struct Renames(AtomicUsize);

impl Converter for Renames {
    fn convert<'a>(&'a self, to: &'a str, mut objects: Vec<Value>) -> Converting<'a> {
        Box::pin(async move {
            let (from, into) = if to.ends_with("v2") { ("max", "limit") } else { ("limit", "max") };
            for object in &mut objects {
                if object.get("bad").is_some() {
                    self.0.fetch_add(1, Ordering::SeqCst);
                    return Err(ApiError::new(500, "InternalError", "it cannot be converted"));
                }
                object["apiVersion"] = to.into();
                let fields = object.as_object_mut().unwrap();
                if let Some(value) = fields.remove(from) {
                    fields.insert(into.to_owned(), value);
                }
            }
            Ok(objects)
        })
    }
}

#[tokio::test]
async fn a_parameter_is_shown_in_the_version_of_its_policy() {
    let world = World::new().await;
    let converter: Arc<dyn Converter> = Arc::new(Renames::default());
    let at = widgets(&world, "pi-7", &converter);
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "max": 3});
    world.objects.create(&WriteOptions::by(person("ada")), &at, widget).await.unwrap();
    for (name, version, field) in [("a", "v1", "max"), ("b", "v2", "limit")] {
        let spec = json!({"name": name, "matchConstraints": constraints("", "configmaps"),
            "paramKind": {"apiVersion": format!("example.com/{version}"), "kind": "Widget"},
            "validations": [{"expression": format!("params.{field} == 3")}]});
        let mut binding = deny();
        binding["paramRef"] = json!({"name": "w", "parameterNotFoundAction": "Deny"});
        world.policy_in("pi-7", "ValidatingAdmissionPolicy", spec, binding).await;
    }
    let value = json!({"metadata": {"name": "c"}});
    world.create_in("pi-7", person("ada"), ("v1", "ConfigMap"), value).await.unwrap();
}

#[tokio::test]
async fn a_parameter_that_cannot_be_converted_takes_no_room() {
    let world = World::new().await;
    let renames = Arc::new(Renames::default());
    let converter: Arc<dyn Converter> = renames.clone();
    let at = widgets(&world, "pi-7", &converter);
    for (name, field, bytes) in [("w-bad", "bad", 1_300_000), ("w-good", "text", 400_000)] {
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name},
            "max": 3, field: "x".repeat(bytes)});
        world.objects.create(&WriteOptions::by(person("ada")), &at, widget).await.unwrap();
    }
    // Thrice the one and the other are more than a write may take.
    for (name, param, fails) in [
        ("a", "w-bad", "Ignore"),
        ("b", "w-bad", "Ignore"),
        ("c", "w-bad", "Ignore"),
        ("d", "w-good", "Fail"),
    ] {
        let spec = json!({"name": name, "matchConstraints": constraints("", "configmaps"), "failurePolicy": fails,
            "paramKind": {"apiVersion": "example.com/v2", "kind": "Widget"},
            "validations": [{"expression": "params.limit == 3"}]});
        let mut binding = deny();
        binding["paramRef"] = json!({"name": param, "parameterNotFoundAction": "Deny"});
        world.policy_in("pi-7", "ValidatingAdmissionPolicy", spec, binding).await;
    }
    let value = json!({"metadata": {"name": "c"}});
    world.create_in("pi-7", person("ada"), ("v1", "ConfigMap"), value).await.unwrap();
    assert_eq!(renames.0.load(Ordering::SeqCst), 1, "it is tried once");
}

#[tokio::test]
async fn what_cannot_be_converted_back_fails_all_that_changed_it() {
    let world = World::new().await;
    let converter: Arc<dyn Converter> = Arc::new(Renames::default());
    let at = widgets(&world, "pi-7", &converter);
    for (name, fails, path) in [("a-must", "Fail", "good"), ("b-nice", "Ignore", "bad")] {
        let rule = json!({"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["widgets"]});
        let change = json!({"patchType": "JSONPatch", "jsonPatch": {
            "expression": format!("[JSONPatch{{op: 'add', path: '/{path}', value: 'x'}}]")}});
        let spec = json!({"name": name, "matchConstraints": {"resourceRules": [rule]}, "failurePolicy": fails,
            "reinvocationPolicy": "Never", "mutations": [change]});
        world.policy_in("pi-7", "MutatingAdmissionPolicy", spec, json!({})).await;
    }
    let widget =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let made = world.objects.create(&WriteOptions::by(person("ada")), &at, widget).await;
    let refused = made.map(drop).unwrap_err();
    assert!(refused.message.contains("it cannot be converted"), "{}", refused.message);
}

//! Who else has a say in writes.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use freewheel_hub_objects::{
    Actor, Claims, DeleteOptions, ObjectRef, Person, Plugin, Refusal, Review, Verb, WriteOptions,
};
use freewheel_hub_schema::error::{Cause, FieldError};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::crowd::Crowd;
use super::kit::{PATIENCE, World, config, of, place, pod, refused, value};

/// Notes who writes what.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, step: &str, review: &Review<'_>) {
        let (who, place) = (review.actor.user(), review.target);
        let door = review.subresource.unwrap_or("-");
        let was = if review.old.is_some() { "was" } else { "new" };
        let line = format!("{step} {who} {} {} {door} {was}", review.verb.as_str(), place.name);
        self.0.lock().unwrap().push(line);
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[async_trait]
impl Plugin for Notes {
    fn name(&self) -> &'static str {
        "Notes"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.target.kind.plural() == "pods"
    }

    async fn mutate(&self, review: &Review<'_>, _: &mut Value) -> Result<(), Refusal> {
        self.note("mutate", review);
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        self.note("validate", review);
        Ok(Claims::default())
    }
}

#[tokio::test]
async fn every_writer_is_asked_about_by_every_plugin() {
    let world = World::new().await;
    let notes = Arc::new(Notes::default());
    let objects = world.objects.clone().admitting(notes.clone());
    let ada = WriteOptions::by(Person { name: "ada".into(), ..Person::default() });
    let at = of("pods", "a");
    objects.create(&ada, &at, pod("a")).await.unwrap();
    assert_eq!(notes.told(), ["mutate ada create a - new", "validate ada create a - new"]);
    let status = |mut value: Value| {
        value["status"]["phase"] = json!("Running");
        Ok(value)
    };
    let device = WriteOptions::by(Actor::Device(ClusterName::try_from("pi-7").unwrap()));
    objects.modify(&device, &at, Some("status"), status).await.unwrap();
    let node = "system:node:pi-7 update a status was";
    assert_eq!(notes.told(), [format!("mutate {node}"), format!("validate {node}")]);
    let gc = WriteOptions::by(Actor::Controller("generic-garbage-collector"));
    objects.delete(&gc, &at, &DeleteOptions::default()).await.unwrap();
    let by = "system:serviceaccount:kube-system:generic-garbage-collector";
    assert_eq!(notes.told(), [format!("validate {by} delete a - was")]);
    objects.create(&ada, &of("configmaps", "a"), config("a", "1")).await.unwrap();
    assert_eq!(notes.told(), Vec::<String>::new());
}

/// Writes what is right in another form, as a program far away may.
struct Careless;

#[async_trait]
impl Plugin for Careless {
    fn name(&self) -> &'static str {
        "Careless"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.asks_for_it() && review.target.kind.plural() == "pods"
    }

    async fn mutate(&self, _: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2000m"}});
        pod["spec"]["initContainers"] = json!([{"name": "i", "image": "hello"}]);
        pod["spec"]["hostname"] = Value::Null;
        Ok(())
    }
}

#[tokio::test]
async fn what_a_plugin_makes_is_made_canonical() {
    let world = World::new().await;
    let objects = world.objects.clone().admitting(Arc::new(Careless));
    let made = objects.create(&WriteOptions::default(), &of("pods", "a"), pod("a")).await.unwrap();
    let spec = &value(&made.stored)["spec"];
    assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "2");
    assert_eq!(spec["initContainers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(spec.get("hostname"), None);
}

/// Changes what others saw before it, each time.
struct Late;

#[async_trait]
impl Plugin for Late {
    fn name(&self) -> &'static str {
        "Late"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.plural() == "pods"
    }

    async fn mutate(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        let mut invoked = review.rounds.of("Late");
        invoked.begin(review.rounds.is_second(), pod);
        if invoked.is_due(review.rounds.is_second(), "hook") {
            pod["metadata"]["labels"]["round"] = json!(review.rounds.is_second().to_string());
            review.rounds.ask_again();
            invoked.asked("hook");
            invoked.changed();
        }
        invoked.end(pod);
        review.rounds.remember("Late", invoked);
        review.warn("late");
        Ok(())
    }
}

#[tokio::test]
async fn who_changes_what_others_saw_has_all_asked_once_more() {
    let world = World::new().await;
    let notes = Arc::new(Notes::default());
    let objects = world.objects.clone().admitting(notes.clone()).admitting(Arc::new(Late));
    let said = Arc::new(freewheel_hub_objects::Notes::default());
    let ada = WriteOptions {
        notes: Some(said.clone()),
        ..WriteOptions::by(Person { name: "ada".into(), ..Person::default() })
    };
    let made = objects.create(&ada, &of("pods", "a"), pod("a")).await.unwrap();
    assert_eq!(value(&made.stored)["metadata"]["labels"]["round"], "true");
    let asked = ["mutate ada create a - new"; 2].into_iter().chain(["validate ada create a - new"]);
    assert_eq!(notes.told(), asked.collect::<Vec<_>>());
    assert_eq!(said.warnings(), ["late"]);
}

/// So many ConfigMaps in a namespace, and no more.
struct Quota(u64);

impl Quota {
    fn counter(place: &ObjectRef) -> Key {
        let quotas = Resource::new("internal", "quotas");
        Key::new(&quotas, &place.cluster, &place.namespace, "configmaps")
    }
}

#[async_trait]
impl Plugin for Quota {
    fn name(&self) -> &'static str {
        "Quota"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.plural() == "configmaps"
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        let counter = Self::counter(review.target);
        if self.0 <= review.state().counter(&counter) {
            return Err(Refusal::forbidden("exceeded quota: configmaps"));
        }
        let mut claims = Claims::default();
        claims.count_within(counter, 1, self.0);
        Ok(claims)
    }

    fn release(&self, place: &ObjectRef, _: &Value) -> Claims {
        let mut claims = Claims::default();
        if place.kind.plural() == "configmaps" {
            claims.count(Self::counter(place), -1);
        }
        claims
    }
}

#[tokio::test]
async fn a_quota_holds_against_a_crowd() {
    const WRITERS: usize = 256;
    let store = Crowd::new();
    let world = World::over(store.clone()).await;
    let objects = world.objects.clone().admitting(Arc::new(Quota(100)));
    store.gather(WRITERS);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let objects = objects.clone();
        writers.spawn(async move {
            let name = format!("c{writer}");
            objects
                .create(&WriteOptions::default(), &of("configmaps", &name), config(&name, "1"))
                .await
        });
    }
    let outcomes = timeout(PATIENCE, writers.join_all()).await.unwrap();
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(refused.clone().all(|error| error.code == 403 && error.reason == "Forbidden"));
    assert_eq!(refused.count(), WRITERS - 100);
    // Nobody was in anybody's way: who counts does not have to know what was counted.
    assert_eq!(store.came(), WRITERS);
    let counted = || objects.store().snapshot().counter(&Quota::counter(&of("configmaps", "")));
    assert_eq!(counted(), 100);
    let made = outcomes.into_iter().find_map(Result::ok).unwrap();
    let at = of("configmaps", &made.stored.key.name);
    objects.delete(&WriteOptions::default(), &at, &DeleteOptions::default()).await.unwrap();
    assert_eq!(counted(), 99);
    objects
        .create(&WriteOptions::default(), &of("configmaps", "z"), config("z", "1"))
        .await
        .unwrap();
    assert_eq!(counted(), 100);
}

/// Refuses ConfigMaps.
struct Wall(Refusal);

#[async_trait]
impl Plugin for Wall {
    fn name(&self) -> &'static str {
        "Wall"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.verb == Verb::Create && review.target.kind.plural() == "configmaps"
    }

    async fn validate(&self, _: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn a_refusal_becomes_a_status_with_reason_and_causes() {
    let world = World::new().await;
    let cause = Cause { reason: "Full".into(), message: "no room".into(), field: "data".into() };
    let why = Refusal::Forbidden { why: "no".into(), causes: vec![cause] };
    let wrong = Refusal::Invalid(vec![FieldError::invalid("data", &json!(1), "must be 2")]);
    for (refusal, status) in [
        (
            why,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "configmaps \"a\" is forbidden: no", "reason": "Forbidden", "code": 403,
                "details": {"name": "a", "kind": "configmaps",
                    "causes": [{"reason": "Full", "message": "no room", "field": "data"}]},
            }),
        ),
        (
            wrong,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "ConfigMap \"a\" is invalid: data: Invalid value: 1: must be 2",
                "reason": "Invalid", "code": 422,
                "details": {"name": "a", "kind": "ConfigMap", "causes": [{
                    "reason": "FieldValueInvalid", "message": "Invalid value: 1: must be 2",
                    "field": "data",
                }]},
            }),
        ),
    ] {
        let objects = world.objects.clone().admitting(Arc::new(Wall(refusal)));
        let sent = config("a", "1");
        let error = objects
            .create(&WriteOptions::default(), &of("configmaps", ""), sent)
            .await
            .unwrap_err();
        assert_eq!(error.to_status(), status);
    }
}

/// The pod's own name is told, also by the entry that takes it from the body.
#[tokio::test]
async fn what_may_not_come_into_a_namespace_that_goes_is_named() {
    let world = World::new().await;
    world.create("namespaces", json!({"metadata": {"name": "attic"}})).await.unwrap();
    world.delete("namespaces", "attic").await.unwrap();
    for (plural, sent) in [("pods", pod("a")), ("configmaps", config("a", "1"))] {
        let at = place(plural, "root", "attic", "");
        let error = world.objects.create(&WriteOptions::default(), &at, sent).await.unwrap_err();
        assert!(error.is_namespace_terminating());
        assert!(error.message.starts_with(&format!("{plural} \"a\" is forbidden: ")), "{error}");
    }
}

fn token_volumes(pod: &Value) -> Vec<&str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let named = volumes.filter_map(|volume| volume["name"].as_str());
    named.filter(|name| name.starts_with("kube-api-access-")).collect()
}

#[tokio::test]
async fn a_pod_gets_the_token_of_its_account_unless_somebody_says_otherwise() {
    let world = World::new().await;
    let pulls = json!([{"name": "registry"}]);
    let quiet = json!({"metadata": {"name": "quiet"}, "automountServiceAccountToken": false,
        "imagePullSecrets": pulls});
    world.create("serviceaccounts", quiet).await.unwrap();
    for (name, account, said, mounts) in [
        ("a", None, None, true),
        ("b", None, Some(false), false),
        ("c", Some("quiet"), None, false),
        ("d", Some("quiet"), Some(true), true),
    ] {
        let mut sent = pod(name);
        if let Some(account) = account {
            sent["spec"]["serviceAccountName"] = json!(account);
        }
        if let Some(said) = said {
            sent["spec"]["automountServiceAccountToken"] = json!(said);
        }
        world.create("pods", sent).await.unwrap();
        let made = world.read("pods", name).unwrap();
        let (spec, volumes) = (&made["spec"], token_volumes(&made));
        let account = account.unwrap_or("default");
        assert_eq!(
            (&spec["serviceAccountName"], &spec["serviceAccount"]),
            (&json!(account), &json!(account))
        );
        assert_eq!(volumes.len(), usize::from(mounts), "{name}");
        let mounted = spec.pointer("/containers/0/volumeMounts/0/name").and_then(Value::as_str);
        assert_eq!(mounted, volumes.first().copied(), "{name}");
        let pulled = spec.get("imagePullSecrets");
        assert_eq!(pulled, (account == "quiet").then_some(&pulls), "{name}");
    }
}

#[tokio::test]
async fn an_account_may_be_held_to_its_own_secrets() {
    let world = World::new().await;
    let held = json!({"metadata": {"name": "held", "annotations":
        {"kubernetes.io/enforce-mountable-secrets": "true"}}, "secrets": [{"name": "own"}]});
    world.create("serviceaccounts", held).await.unwrap();
    let with = |name: &str, secret: &str| {
        let mut sent = pod(name);
        sent["spec"]["serviceAccountName"] = json!("held");
        sent["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": secret}}]);
        sent
    };
    world.create("pods", with("a", "own")).await.unwrap();
    let text = "pods \"b\" is forbidden: container c with envFrom referencing secret.secretName=\"other\" is not \
                allowed because service account held does not reference that secret";
    refused(world.create("pods", with("b", "other")).await, 403, text);
}

#[tokio::test]
async fn a_mirror_pod_has_neither_account_nor_secrets() {
    let world = World::new().await;
    let mirror = |name: &str| {
        let mut sent = pod(name);
        sent["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        sent
    };
    world.create("pods", mirror("a")).await.unwrap();
    let made = world.read("pods", "a").unwrap();
    assert_eq!((token_volumes(&made).len(), made["spec"].get("serviceAccountName")), (0, None));
    let mut sent = mirror("b");
    sent["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "s"}}]);
    let text = "pods \"b\" is forbidden: a mirror pod may not reference secrets";
    refused(world.create("pods", sent).await, 403, text);
    let mut sent = mirror("c");
    sent["spec"]["serviceAccountName"] = json!("default");
    let text = "pods \"c\" is forbidden: a mirror pod may not reference service accounts";
    refused(world.create("pods", sent).await, 403, text);
}

#[tokio::test]
async fn a_pod_is_run_as_its_runtime_class_says() {
    let world = World::new().await;
    let mut sent = pod("a");
    sent["spec"]["runtimeClassName"] = json!("tiny");
    let text = "pods \"a\" is forbidden: pod rejected: RuntimeClass \"tiny\" not found";
    refused(world.create("pods", sent.clone()).await, 403, text);
    let class = json!({"metadata": {"name": "tiny"}, "handler": "wasm",
        "overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {"nodeSelector": {"size": "tiny"}}});
    world.create("runtimeclasses", class).await.unwrap();
    world.create("pods", sent).await.unwrap();
    let made = world.read("pods", "a").unwrap();
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "250m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"size": "tiny"}));
    let mut sent = pod("b");
    sent["spec"]["overhead"] = json!({"cpu": "1"});
    let text = "pods \"b\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined \
                Overhead";
    refused(world.create("pods", sent).await, 403, text);
}

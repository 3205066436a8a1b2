//! What is asked of objects and stores none.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use freewheel_hub_objects::{
    Action, Binding, Claims, Person, Plugin, Refusal, Review, Verb, WriteOptions,
};
use freewheel_hub_schema::error::ApiError;
use serde_json::{Value, json};

use super::kit::{World, of, place, pod, value};

/// Adds a word to each command, forbids those that say `no`, and notes what it is shown.
#[derive(Default)]
struct Rule(Mutex<Vec<String>>);

impl Rule {
    fn note(&self, step: &str, review: &Review<'_>, object: &Value) {
        let (verb, target) = (review.verb.as_str(), &review.target.kind);
        let kind = if review.stores { target.kind() } else { object["kind"].as_str().unwrap() };
        let (door, plural) = (review.subresource.unwrap_or("-"), target.plural());
        self.0.lock().unwrap().push(format!("{step} {verb} {plural}/{door} {kind}"));
    }
}

#[async_trait]
impl Plugin for Rule {
    fn name(&self) -> &'static str {
        "Rule"
    }

    fn handles(&self, _: &Review<'_>) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Refusal> {
        self.note("mutate", review, object);
        if let Some(command) = object.get_mut("command").and_then(Value::as_array_mut) {
            command.push(json!("--safe"));
        }
        if object["kind"] == "Binding" {
            object["metadata"]["labels"] = json!({"bound": "here"});
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        self.note("validate", review, object);
        match object["command"][0] == "no" {
            true => Err(Refusal::forbidden("not that")),
            false => Ok(Claims::default()),
        }
    }
}

fn exec(command: &str) -> Action<'static> {
    let object = json!({"apiVersion": "v1", "kind": "PodExecOptions", "command": [command]});
    Action { verb: Verb::Connect, subresource: Some("exec"), object }
}

#[tokio::test]
async fn who_has_a_say_in_writes_has_one_in_actions() {
    let world = World::new().await;
    world.create("pods", pod("a")).await.unwrap();
    let rule = Arc::new(Rule::default());
    let objects = world.objects.clone().admitting(rule.clone());
    let (ada, at) =
        (WriteOptions::by(Person { name: "ada".into(), ..Person::default() }), of("pods", "a"));
    let asked = objects.admit(&ada, &at, exec("ls"), Ok).await.unwrap();
    assert_eq!(asked["command"], json!(["ls", "--safe"]));
    let refused = objects.admit(&ada, &at, exec("no"), Ok).await.unwrap_err();
    assert_eq!((refused.code, &*refused.message), (403, "pods \"a\" is forbidden: not that"));
    // Whoever looks at it in between looks at what was made of it.
    let check = |object: Value| match object["command"].as_array().map(Vec::len) {
        Some(2) => Err(ApiError::bad_request("two words")),
        _ => Ok(object),
    };
    let refused = objects.admit(&ada, &at, exec("ls"), check).await.unwrap_err();
    assert_eq!(refused.message, "two words");
    rule.0.lock().unwrap().clear();
    let binding = Binding { node: "pi-7", uid: None, metadata: &Value::Null, is_named: false };
    let bound = value(&objects.bind(&ada, &at, &binding).await.unwrap().stored);
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["labels"]["bound"]),
        (&json!("pi-7"), &json!("here"))
    );
    world.create("pods", pod("b")).await.unwrap();
    let named = Binding { is_named: true, ..binding };
    objects.bind(&ada, &of("pods", "b"), &named).await.unwrap();
    let told: Vec<String> = std::mem::take(&mut *rule.0.lock().unwrap());
    let by = |door: &str| {
        [
            format!("mutate create {door} Binding"),
            format!("validate create {door} Binding"),
            "mutate update pods/binding Pod".to_owned(),
            "validate update pods/binding Pod".to_owned(),
        ]
    };
    assert_eq!(told, [by("pods/binding"), by("bindings/-")].concat());
}

#[tokio::test]
async fn nothing_is_asked_for_in_a_namespace_that_goes() {
    let world = World::new().await;
    world.create("namespaces", json!({"metadata": {"name": "attic"}})).await.unwrap();
    let (how, at) = (WriteOptions::default(), place("pods", "root", "attic", "a"));
    world.objects.create(&how, &at, pod("a")).await.unwrap();
    world.delete("namespaces", "attic").await.unwrap();
    let object = json!({"apiVersion": "policy/v1", "kind": "Eviction"});
    let eviction = Action { verb: Verb::Create, subresource: Some("eviction"), object };
    let refused = world.objects.admit(&how, &at, eviction, Ok).await.unwrap_err();
    assert!(refused.code == 403 && refused.message.contains("is being terminated"), "{refused}");
    // Whoever looks into what still runs there may.
    world.objects.admit(&how, &at, exec("ls"), Ok).await.unwrap();
}

//! What webhooks are asked, and what comes of their answers.

use std::time::Duration;

use freewheel_hub_admission::{CallError, ServicePort, Unsuccessful};
use freewheel_hub_objects::{Actor, DeleteOptions, Person, WriteOptions};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::kit::{PATIENCE, World, about, by, patch, person, place};

#[tokio::test]
async fn a_webhook_is_told_who_does_what() {
    let world = World::new().await;
    world.webhook("Validating", "asked", json!({})).await;
    let (mut how, _) = by(person("ada"));
    how.dry_run = true;
    let at = place("root", "v1", "ConfigMap", "");
    let value = json!({"metadata": {"name": "a"}, "data": {"x": "y"}});
    world.objects.create(&how, &at, value).await.unwrap();
    let call = world.webhooks.calls.lock()[0].clone();
    assert_eq!(call.address.url, "https://hooks.example.com/asked?timeout=10s");
    assert!(!call.address.of_tenant);
    let mut request = call.request;
    assert_eq!(request["object"]["data"], json!({"x": "y"}));
    for key in ["uid", "object"] {
        request.as_object_mut().unwrap().remove(key).unwrap();
    }
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    assert_eq!(
        request,
        json!({
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": "a", "namespace": "default", "operation": "CREATE", "oldObject": null, "dryRun": true,
            "userInfo": {"username": "ada", "groups": ["system:authenticated"]},
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "dryRun": ["All"]},
        })
    );
}

#[tokio::test]
async fn a_webhook_says_no_and_more() {
    let world = World::with(|call| {
        let bad = call.request["object"]["data"]["bad"] == "yes";
        Ok(json!({"allowed": !bad, "status": {"message": "bad data"}, "warnings": ["looked at"],
            "auditAnnotations": {"seen": "yes"}}))
    })
    .await;
    world.webhook("Validating", "asked", json!({})).await;
    let (how, notes) = by(person("ada"));
    let at = place("root", "v1", "ConfigMap", "");
    let value = json!({"metadata": {"name": "a"}, "data": {"bad": "yes"}});
    let refused = world.objects.create(&how, &at, value).await.unwrap_err();
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.message,
        "admission webhook \"asked.example.com\" denied the request: bad data"
    );
    assert_eq!(notes.warnings(), ["looked at"]);
    assert_eq!(notes.annotations(true)["asked.example.com/seen"], "yes");
    world.config_map("b", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_refuses_or_not() {
    let world = World::with(|call| match call.address.url.contains("broken") {
        true => Err(CallError::Answered(Unsuccessful::of(500, "", b"oops"))),
        false => Err(CallError::Unreachable("dial tcp: connection refused".to_owned())),
    })
    .await;
    world.webhook("Validating", "away", json!({})).await;
    let refused = world.config_map("a", json!({})).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (500, "InternalError"));
    assert_eq!(
        refused.message,
        "Internal error occurred: failed calling webhook \"away.example.com\": failed to call webhook: \
         Post \"https://hooks.example.com/away?timeout=10s\": dial tcp: connection refused"
    );
    let causes = refused.details.unwrap().causes;
    assert_eq!(
        causes[0].message,
        "ValidatingWebhookConfiguration \"away\" has failurePolicy Fail; if its webhook is not to come back, take it out of \
         the way: kubectl delete validatingwebhookconfiguration away"
    );
    world.remove("ValidatingWebhookConfiguration", "away").await;
    for kind in ["Validating", "Mutating"] {
        world.webhook(kind, "broken", json!({"failurePolicy": "Ignore"})).await;
    }
    let (how, notes) = by(person("ada"));
    let at = place("root", "v1", "ConfigMap", "");
    world.objects.create(&how, &at, json!({"metadata": {"name": "a"}})).await.unwrap();
    let said = notes.annotations(true);
    assert_eq!(
        said["failed-open.validating.webhook.admission.k8s.io/round_0_index_0"],
        "broken.example.com"
    );
    assert_eq!(
        said["failed-open.mutating.webhook.admission.k8s.io/round_0_index_0"],
        "broken.example.com"
    );
}

#[tokio::test]
async fn webhooks_change_what_is_written_and_are_asked_again() {
    let world = World::with(|call| {
        let data = &call.request["object"]["data"];
        let add = |key: &str, value: Value| json!([{"op": "add", "path": format!("/data/{key}"), "value": value}]);
        Ok(match call.address.url.contains("/first") {
            true => {
                let count = data["count"].as_str().and_then(|it| it.parse::<u32>().ok()).unwrap_or(0);
                patch(&add("count", json!((count + 1).to_string())))
            }
            false => patch(&add("second", json!("here"))),
        })
    })
    .await;
    world.webhook("Mutating", "first", json!({"reinvocationPolicy": "IfNeeded"})).await;
    world.webhook("Mutating", "second", json!({})).await;
    let (how, notes) = by(person("ada"));
    let at = place("root", "v1", "ConfigMap", "");
    let value = json!({"metadata": {"name": "a"}, "data": {"own": "x"}});
    let written = world.objects.create(&how, &at, value).await.unwrap();
    let made = freewheel_hub_objects::stored_value(&written.stored).unwrap();
    assert_eq!(made["data"], json!({"own": "x", "count": "2", "second": "here"}));
    assert_eq!(world.asked(), 3, "the second does not ask for another round");
    let said = notes.annotations(true);
    assert!(said["mutation.webhook.admission.k8s.io/round_1_index_0"].contains("\"mutated\":true"));
    let patched: Value =
        serde_json::from_str(&said["patch.webhook.admission.k8s.io/round_0_index_1"]).unwrap();
    assert_eq!(patched["patchType"], "JSONPatch");
    assert_eq!(patched["patch"][0]["path"], "/data/second");
    // It repeats what is in the object.
    let without = notes.annotations(false);
    assert!(without.contains_key("mutation.webhook.admission.k8s.io/round_0_index_1"));
    assert!(!without.contains_key("patch.webhook.admission.k8s.io/round_0_index_1"));
}

#[tokio::test]
async fn what_a_webhook_makes_is_valid_or_refused() {
    let world = World::with(|call| {
        let operations = match call.request["object"]["metadata"]["name"].as_str() {
            Some("wrong") => json!([{"op": "replace", "path": "/data", "value": "text"}]),
            Some("missing") => json!([{"op": "remove", "path": "/nothing"}]),
            _ => json!([{"op": "add", "path": "/immutable", "value": true}, {"op": "add", "path": "/unknown", "value": 1}]),
        };
        Ok(patch(&operations))
    })
    .await;
    world.webhook("Mutating", "asked", json!({})).await;
    let made = world.config_map("fine", json!({"a": "b"})).await.unwrap();
    assert_eq!((&made["immutable"], made.get("unknown")), (&json!(true), None));
    for name in ["wrong", "missing"] {
        assert_eq!(
            world.config_map(name, json!({"a": "b"})).await.unwrap_err().code,
            500,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_delete_is_asked_about_and_not_changed() {
    let world = World::with(|call| {
        assert_eq!(call.request["operation"], "DELETE");
        assert_eq!(call.request["object"], Value::Null);
        Ok(match call.request["oldObject"]["data"]["keep"] == "yes" {
            true => json!({"allowed": false}),
            false => json!({"allowed": true}),
        })
    })
    .await;
    for kind in ["Validating", "Mutating"] {
        world
            .webhook(kind, "asked", json!({"rules": [about(&["DELETE"], "", "configmaps")]}))
            .await;
    }
    world.config_map("kept", json!({"keep": "yes"})).await.unwrap();
    world.config_map("free", json!({})).await.unwrap();
    let how = WriteOptions::by(person("ada"));
    for (name, goes) in [("kept", false), ("free", true)] {
        let at = place("root", "v1", "ConfigMap", name);
        let deleted = world.objects.delete(&how, &at, &DeleteOptions::default()).await;
        assert_eq!(deleted.is_ok(), goes, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_webhook_is_given_up_in_time() {
    let world = World::new().await;
    world.webhook("Validating", "slow", json!({"timeoutSeconds": 2})).await;
    let begun = Instant::now();
    let refused = world.config_map("a", json!({})).await.unwrap_err();
    assert!(refused.message.ends_with("context deadline exceeded"), "{}", refused.message);
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_slow_webhook_holds_up_nobody_else() {
    let world = World::new().await;
    world.webhook("Validating", "slow", json!({"timeoutSeconds": 30})).await;
    let waiting: Vec<_> = (0..40)
        .map(|n| {
            let objects = world.objects.clone();
            tokio::spawn(async move {
                let at = place("root", "v1", "ConfigMap", "");
                let value = json!({"metadata": {"name": format!("c{n}")}});
                let how = WriteOptions::by(person("ada"));
                objects.create(&how, &at, value).await.map(drop)
            })
        })
        .collect();
    let secret = world.create("v1", "Secret", json!({"metadata": {"name": "s"}}));
    timeout(PATIENCE, secret).await.expect("nobody is asked about it").unwrap();
    waiting.into_iter().for_each(|one| one.abort());
}

#[tokio::test(start_paused = true)]
async fn a_controller_is_not_held_up_by_a_spokes_webhook() {
    let world = World::new().await;
    world.webhook_in("pi-7", "Validating", "slow", json!({"timeoutSeconds": 30})).await;
    let create = async |actor: Actor| {
        let begun = Instant::now();
        let value = json!({"metadata": {"name": "c"}});
        let refused = world.create_in("pi-7", actor, ("v1", "ConfigMap"), value).await;
        (begun.elapsed(), refused.unwrap_err().message)
    };
    let controller = || Actor::Controller("job-controller");
    let (took, why) = create(controller()).await;
    assert!(
        took <= Duration::from_secs(1) && why.ends_with("context deadline exceeded"),
        "{took:?} {why}"
    );
    let (took, why) = create(controller()).await;
    assert!(
        took < Duration::from_millis(100) && why.contains("it has just not answered"),
        "{took:?} {why}"
    );
    // Nor is one that writes in the name of what it stands for.
    let agent = Person { name: "agent".into(), by_controller: true, ..Person::default() };
    let (took, why) = create(agent.into()).await;
    assert!(
        took < Duration::from_millis(100) && why.contains("it has just not answered"),
        "{took:?} {why}"
    );
    let (took, _) = create(person("ada")).await;
    assert_eq!(took.as_secs(), 30);
    assert!(world.webhooks.calls.lock().iter().all(|call| call.address.of_tenant));
}

#[tokio::test(start_paused = true)]
async fn many_webhooks_have_one_time_for_a_controllers_write() {
    let world = World::new().await;
    for number in 0..10 {
        world.webhook_in("pi-7", "Mutating", &format!("late-{number}"), json!({})).await;
    }
    let create = async |actor: Actor| {
        let begun = Instant::now();
        let value = json!({"metadata": {"generateName": "c"}});
        let outcome = world.create_in("pi-7", actor, ("v1", "ConfigMap"), value).await;
        (begun.elapsed(), outcome)
    };
    let (took, outcome) = create(Actor::Controller("job-controller")).await;
    assert_eq!(took.as_secs(), 3);
    let why = outcome.unwrap_err().message;
    assert!(why.contains("late-3") && why.ends_with("context deadline exceeded"), "{why}");
    let (took, outcome) = create(person("ada")).await;
    assert_eq!((took.as_secs(), outcome.is_ok()), (9, true), "each of them is in time");
}

#[tokio::test]
async fn conditions_of_a_webhook_are_asked_first() {
    let world = World::new().await;
    let conditions = json!({"matchConditions": [{"name": "some", "expression": "object.metadata.name.startsWith('a')"}]});
    world.webhook("Validating", "asked", conditions).await;
    world.config_map("b", json!({})).await.unwrap();
    assert_eq!(world.asked(), 0);
    world.config_map("a", json!({})).await.unwrap();
    assert_eq!(world.asked(), 1);
    let failing =
        json!({"matchConditions": [{"name": "none", "expression": "object.nothing == 1"}]});
    world.webhook("Validating", "failing", failing).await;
    let refused = world.config_map("c", json!({})).await.unwrap_err();
    assert_eq!(
        refused.message,
        "configmaps \"c\" is forbidden: expression 'object.nothing == 1' resulted in error: no such key: nothing"
    );
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_called_by_its_name() {
    let world = World::new().await;
    let service = json!({"namespace": "hooks", "name": "checks", "path": "/maps"});
    let client = json!({"service": service, "caBundle": "Y2E="});
    for cluster in ["root", "pi-7"] {
        let more = json!({"clientConfig": client});
        world.webhook_in(cluster, "Validating", "asked", more).await;
        let value = json!({"metadata": {"name": "a"}});
        world.create_in(cluster, person("ada"), ("v1", "ConfigMap"), value).await.unwrap();
        let address = world.webhooks.calls.lock().pop().unwrap().address;
        assert_eq!(address.url, "https://checks.hooks.svc:443/maps?timeout=10s");
        assert_eq!(address.authorities, "ca");
        let port = ServicePort {
            cluster: cluster.try_into().unwrap(),
            namespace: "hooks".to_owned(),
            name: "checks".to_owned(),
            port: 443,
        };
        assert_eq!(address.service, Some(port));
    }
}

//! Rules about what stores no object: ways into pods, evictions, tokens, bindings; and what rules see of how a write is made.

use freewheel_hub_objects::{
    Action, Binding, DeleteOptions, ObjectRef, Propagation, Verb, WriteOptions, stored_value,
};
use freewheel_hub_schema::error::ApiError;
use serde_json::{Value, json};

use super::kit::{World, about, by, constraints, deny, patch, person, place};

const KIND: &str = "ValidatingAdmissionPolicy";

fn pod() -> ObjectRef {
    place("root", "v1", "Pod", "web")
}

async fn exec(world: &World, user: &str, command: &str) -> Result<Value, ApiError> {
    let object = json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdout": true,
        "command": [command]});
    let action = Action { verb: Verb::Connect, subresource: Some("exec"), object };
    world.objects.admit(&WriteOptions::by(person(user)), &pod(), action, Ok).await
}

async fn post(world: &World, door: &str, object: Value) -> Result<Value, ApiError> {
    let action = Action { verb: Verb::Create, subresource: Some(door), object };
    world.objects.admit(&WriteOptions::by(person("ada")), &pod(), action, Ok).await
}

fn eviction(labels: &Value) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": "web", "namespace": "default", "labels": labels}})
}

#[tokio::test]
async fn a_policy_refuses_a_way_in() {
    let world = World::new().await;
    let mut rule = json!({"matchConstraints": {"resourceRules": [about(&["CONNECT"], "", "pods/exec")]},
        "validations": [{"expression": "object.command[0] != 'sh'",
            "messageExpression": "request.kind.kind + ' of ' + request.name + ' by ' + request.userInfo.username"}]});
    rule["matchConditions"] = json!([
        {"name": "way", "expression": "request.subResource == 'exec' && request.operation == 'CONNECT'"},
        {"name": "bare", "expression": "request.options == null && oldObject == null"},
        {"name": "bob", "expression": "request.userInfo.username == 'bob'"},
    ]);
    world.policy(KIND, rule, deny()).await;
    exec(&world, "ada", "sh").await.unwrap();
    exec(&world, "bob", "ls").await.unwrap();
    let refused = exec(&world, "bob", "sh").await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    assert_eq!(
        refused.message,
        "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'rule' with binding 'rule-here' denied request: \
         PodExecOptions of web by bob"
    );
}

#[tokio::test]
async fn a_webhook_is_told_of_a_way_in_and_may_change_it() {
    let world = World::with(|call| {
        let is_exec = call.request["subResource"] == "exec";
        let to_safe = json!([{"op": "replace", "path": "/command/0", "value": "safe-sh"}]);
        Ok(if is_exec { patch(&to_safe) } else { json!({"allowed": false}) })
    })
    .await;
    let rules = json!({"rules": [about(&["CONNECT"], "", "pods/*")]});
    world.webhook("Mutating", "ways", rules).await;
    let asked = exec(&world, "ada", "sh").await.unwrap();
    assert_eq!((&asked["command"], &asked["stdout"]), (&json!(["safe-sh"]), &json!(true)));
    let mut request = world.webhooks.calls.lock()[0].request.clone();
    request.as_object_mut().unwrap().remove("uid").unwrap();
    let kind = json!({"group": "", "version": "v1", "kind": "PodExecOptions"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    assert_eq!(
        request,
        json!({
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "subResource": "exec", "requestSubResource": "exec", "name": "web", "namespace": "default",
            "operation": "CONNECT", "oldObject": null, "options": null, "dryRun": false,
            "object": {"apiVersion": "v1", "kind": "PodExecOptions", "stdout": true, "command": ["sh"]},
            "userInfo": {"username": "ada", "groups": ["system:authenticated"]},
        })
    );
    let object = json!({"apiVersion": "v1", "kind": "PodPortForwardOptions", "ports": [80]});
    let ports = Action { verb: Verb::Connect, subresource: Some("portforward"), object };
    let how = WriteOptions::by(person("ada"));
    let refused = world.objects.admit(&how, &pod(), ports, Ok).await.unwrap_err();
    assert!(refused.message.contains("denied the request"), "{refused}");
}

#[tokio::test]
async fn evictions_and_tokens_are_asked_about_as_what_they_are() {
    let world = World::new().await;
    let mut spec = json!({"matchConstraints": {"resourceRules": [about(&["CREATE"], "", "pods/eviction")],
        "objectSelector": {"matchLabels": {"tier": "core"}}}, "validations": [{"expression": "false",
        "messageExpression": "request.kind.group + '/' + request.kind.kind"}]});
    spec["name"] = json!("evictions");
    world.policy(KIND, spec, deny()).await;
    post(&world, "eviction", eviction(&json!({}))).await.unwrap();
    let refused = post(&world, "eviction", eviction(&json!({"tier": "core"}))).await;
    assert!(refused.unwrap_err().message.ends_with("denied request: policy/Eviction"));
    let spec = json!({"matchConstraints": {"resourceRules": [about(&["CREATE"], "", "serviceaccounts/token")]},
        "validations": [{"expression": "object.spec.expirationSeconds <= 3600"}]});
    world.policy(KIND, spec, deny()).await;
    let token = async |seconds: u64| {
        let object = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds}});
        let action = Action { verb: Verb::Create, subresource: Some("token"), object };
        let at = place("root", "v1", "ServiceAccount", "builder");
        world.objects.admit(&WriteOptions::by(person("ada")), &at, action, Ok).await
    };
    token(3_600).await.unwrap();
    let refused = token(7_200).await.unwrap_err();
    assert!(refused.message.starts_with("serviceaccounts \"builder\" is forbidden:"), "{refused}");
}

#[tokio::test]
async fn a_binding_is_asked_about_as_one() {
    let world = World::new().await;
    let pods =
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world.create_in("root", freewheel_hub_objects::Actor::Hub, ("v1", "Pod"), pods).await.unwrap();
    let spec = json!({"matchConstraints": {"resourceRules": [about(&["*"], "", "pods/binding")]},
        "validations": [{"expression": "request.operation == 'CREATE' && object.target.name != 'pi-8'"}]});
    world.policy(KIND, spec, deny()).await;
    let how = WriteOptions::by(person("ada"));
    let bind = async |node: &str, is_named: bool| {
        let binding = Binding { node, uid: None, metadata: &Value::Null, is_named };
        world.objects.bind(&how, &pod(), &binding).await
    };
    assert_eq!(bind("pi-8", false).await.unwrap_err().code, 422);
    let spec = json!({"name": "named", "matchConstraints": {"resourceRules": [about(&["CREATE"], "", "bindings")]},
        "validations": [{"expression": "false"}]});
    world.policy(KIND, spec, deny()).await;
    assert!(bind("pi-7", true).await.unwrap_err().message.starts_with("bindings \"web\" is"));
    let bound = bind("pi-7", false).await.unwrap();
    assert_eq!(stored_value(&bound.stored).unwrap()["spec"]["nodeName"], "pi-7");
}

#[tokio::test]
async fn a_mutating_policy_changes_what_is_asked_for() {
    let world = World::new().await;
    let operations = "[JSONPatch{op: 'add', path: '/stdin', value: false}, JSONPatch{op: 'add', path: '/container', value: 'c'}]";
    let laid = "Object{tty: true}";
    let spec = json!({"matchConstraints": {"resourceRules": [about(&["CONNECT"], "", "pods/exec")]},
    "failurePolicy": "Fail", "reinvocationPolicy": "Never", "mutations": [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": operations}},
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": laid}},
    ]});
    world.policy("MutatingAdmissionPolicy", spec, json!({})).await;
    let asked = exec(&world, "ada", "ls").await.unwrap();
    // A flag that is off is not said.
    assert_eq!(
        asked,
        json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdout": true, "tty": true,
            "container": "c", "command": ["ls"]})
    );
}

#[tokio::test]
async fn rules_see_how_a_write_is_made() {
    let world = World::new().await;
    let mut spec = json!({"matchConstraints": constraints("", "secrets"), "validations": [{"expression": "false"}]});
    let created = "request.options.kind == 'CreateOptions' && has(request.options.fieldManager) \
                   && request.options.fieldManager == 'helm'";
    let deleted = "request.options.kind == 'DeleteOptions' && has(request.options.propagationPolicy) \
                   && request.options.propagationPolicy == 'Orphan' && request.options.gracePeriodSeconds == 7 \
                   && request.options.preconditions.uid == 'u' && request.options.dryRun == ['All']";
    let either = format!("{created} || {deleted}");
    spec["matchConditions"] = json!([{"name": "options", "expression": either}]);
    world.policy(KIND, spec, deny()).await;
    let (mut how, _) = by(person("ada"));
    let at = place("root", "v1", "Secret", "");
    let value = |name: &str| json!({"metadata": {"name": name}});
    world.objects.create(&how, &at, value("a")).await.unwrap();
    how.options.insert("fieldManager".to_owned(), json!("helm"));
    assert_eq!(world.objects.create(&how, &at, value("b")).await.unwrap_err().code, 422);
    let at = place("root", "v1", "Secret", "a");
    let options = DeleteOptions {
        grace_period_seconds: Some(7),
        uid: Some("u".into()),
        propagation: Some(Propagation::Orphan),
        ..DeleteOptions::default()
    };
    how.dry_run = true;
    assert_eq!(world.objects.delete(&how, &at, &options).await.unwrap_err().code, 422);
    world.objects.delete(&how, &at, &DeleteOptions::default()).await.unwrap();
}

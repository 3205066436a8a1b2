//! What validating policies say.

use freewheel_hub_objects::{Actor, DeleteOptions, WriteOptions};
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::{MAX_OPERATIONS, Operation, Txn};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::kit::{World, by, constraints, deny, person, place};

const KIND: &str = "ValidatingAdmissionPolicy";

#[expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]
fn on_config_maps(validation: Value) -> Value {
    json!({"matchConstraints": constraints("", "configmaps"), "validations": [validation]})
}

#[tokio::test]
async fn a_policy_refuses_in_upstreams_words() {
    let world = World::new().await;
    let spec = json!({
        "matchConstraints": constraints("apps", "deployments"),
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": [
            {"expression": "variables.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(variables.replicas)"},
            {"expression": "namespaceObject.metadata.name == 'default'", "message": "elsewhere"},
        ],
    });
    world.policy(KIND, spec, deny()).await;
    let deployment = |name: &str, replicas: u32| {
        json!({"metadata": {"name": name}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    };
    let refused = world.create("apps/v1", "Deployment", deployment("one", 1)).await.unwrap_err();
    let why = "ValidatingAdmissionPolicy 'rule' with binding 'rule-here' denied request: wants replicas > 1, got 1";
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    assert_eq!(refused.message, format!("deployments.apps \"one\" is forbidden: {why}"));
    let details = refused.details.unwrap();
    assert_eq!((details.name.as_str(), details.causes[0].message.as_str()), ("one", why));
    world.create("apps/v1", "Deployment", deployment("two", 2)).await.unwrap();
    // The messages of expressions that make none.
    let spec = json!({"name": "plain", "matchConstraints": constraints("", "configmaps"),
        "validations": [{"expression": " object.data.a == 'x' ", "messageExpression": "'got ' + object.data.a + dyn(1)", "reason": "Forbidden"}]});
    world.policy(KIND, spec, deny()).await;
    let refused = world.config_map("c", json!({"a": "y"})).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (403, "Forbidden"));
    assert!(
        refused.message.ends_with("denied request: failed expression: object.data.a == 'x'"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn what_cannot_be_evaluated_is_refused_or_ignored() {
    let world = World::new().await;
    world
        .policy(KIND, on_config_maps(json!({"expression": "object.data.limit == 'x'"})), deny())
        .await;
    let refused = world.config_map("a", json!({})).await.unwrap_err();
    assert_eq!(
        refused.message,
        "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'rule' with binding 'rule-here' denied request: \
         expression 'object.data.limit == 'x'' resulted in error: no such key: data"
    );
    world.remove(KIND, "rule").await;
    let mut spec = on_config_maps(json!({"expression": "object.data.limit == 'x'"}));
    spec["failurePolicy"] = json!("Ignore");
    spec["name"] = json!("mild");
    world.policy(KIND, spec, deny()).await;
    world.config_map("a", json!({})).await.unwrap();
    assert_eq!(world.config_map("b", json!({"limit": "y"})).await.unwrap_err().code, 422);
    // One that never ends.
    let spec = json!({"name": "endless", "matchConstraints": constraints("", "configmaps"), "validations": [{"expression":
        "[1,2,3,4,5,6,7,8,9,0].all(a, [1,2,3,4,5,6,7,8,9,0].all(b, [1,2,3,4,5,6,7,8,9,0].all(c, [1,2,3,4,5,6,7,8,9,0].all(d, [1,2,3,4,5,6,7,8,9,0].all(e, [1,2,3,4,5,6,7,8,9,0].all(f, [1,2,3,4,5,6,7,8,9,0].all(g, true)))))))"}]});
    world.policy(KIND, spec, deny()).await;
    let refused = world.config_map("c", json!({"limit": "x"})).await.unwrap_err();
    assert!(refused.message.contains("running out of cost budget"), "{}", refused.message);
}

#[tokio::test]
async fn a_binding_says_what_comes_of_it() {
    let world = World::new().await;
    let mut spec = on_config_maps(json!({"expression": "false", "message": "never"}));
    spec["auditAnnotations"] = json!([
        {"key": "who", "valueExpression": "'by ' + request.userInfo.username"},
        {"key": "none", "valueExpression": "null"},
    ]);
    let binding = json!({"validationActions": ["Warn", "Audit"]});
    world.policy(KIND, spec, binding).await;
    let (how, notes) = by(person("ada"));
    let at = place("root", "v1", "ConfigMap", "");
    world.objects.create(&how, &at, json!({"metadata": {"name": "a"}})).await.unwrap();
    let warning =
        "Validation failed for ValidatingAdmissionPolicy 'rule' with binding 'rule-here': never";
    assert_eq!(notes.warnings(), [warning]);
    let said = notes.annotations(true);
    assert_eq!(said["rule/who"], "by ada");
    let failure: Value =
        serde_json::from_str(&said["validation.policy.admission.k8s.io/validation_failure"])
            .unwrap();
    assert_eq!(failure[0]["policy"], "rule");
    assert_eq!(failure[0]["validationActions"], json!(["Warn", "Audit"]));
    assert_eq!(said.len(), 2);
}

#[tokio::test]
async fn conditions_say_who_is_asked() {
    let world = World::new().await;
    let mut spec = on_config_maps(json!({"expression": "false"}));
    spec["matchConditions"] = json!([
        {"name": "not-mine", "expression": "request.userInfo.username != 'ada'"},
        {"name": "may-not", "expression": "!authorizer.group('').resource('secrets').check('get').allowed()"},
    ]);
    world.policy(KIND, spec, deny()).await;
    world.config_map("a", json!({})).await.unwrap();
    let what = ("v1", "ConfigMap");
    let value = json!({"metadata": {"name": "b"}});
    let refused = world.create_in("root", person("bob"), what, value.clone()).await.unwrap_err();
    assert_eq!(refused.code, 422);
    // Controllers are asked about by the names that they have upstream; the hub's own writes are not.
    let gc = Actor::Controller("generic-garbage-collector");
    assert_eq!(world.create_in("root", gc, what, value.clone()).await.unwrap_err().code, 422);
    world.create_in("root", Actor::Hub, what, value).await.unwrap();
}

#[tokio::test]
async fn who_names_figures_for_parameters_reads_no_pods() {
    let world = World::new().await;
    let how = WriteOptions::default();
    let pods = place("root", "v1", "Pod", "");
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [
        {"name": "c", "image": "app:v1", "env": [{"name": "PASSWORD", "value": "hush"}]},
    ]}});
    world.objects.create(&how, &pods, pod).await.unwrap();
    let events = place("root", "v1", "Event", "");
    let event = json!({"metadata": {"name": "e"}, "reason": "Hurt", "message": "it hurts", "type": "Normal",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "web"}});
    world.objects.create(&how, &events, event).await.unwrap();
    let rule = |name: &str, version: &str, kind: &str, resource: &str, says: &str| {
        json!({
            "name": name, "paramKind": {"apiVersion": version, "kind": kind},
            "matchConstraints": constraints("", resource),
            "validations": [{"expression": "false", "messageExpression": says}],
        })
    };
    let of = |name: &str| json!({"validationActions": ["Deny"], "paramRef": {"name": name, "parameterNotFoundAction": "Deny"}});
    let says = "params.spec.containers[0].env[0].value";
    let figures = rule("figures", "metrics.k8s.io/v1beta1", "PodMetrics", "secrets", says);
    world.policy(KIND, figures, of("web")).await;
    let refused = world.create("v1", "Secret", json!({"metadata": {"name": "a"}})).await;
    let refused = refused.unwrap_err().message;
    let why = "failed to find resource referenced by paramKind: 'metrics.k8s.io/v1beta1, Kind=PodMetrics'";
    assert!(refused.contains(why) && !refused.contains("hush"), "{refused}");
    // A view of what is stored is read as what it is.
    let view = rule("view", "events.k8s.io/v1", "Event", "configmaps", "params.note");
    world.policy(KIND, view, of("e")).await;
    let refused = world.config_map("c", json!({})).await.unwrap_err().message;
    assert!(refused.ends_with("denied request: it hurts"), "{refused}");
}

#[tokio::test]
async fn parameters_are_those_of_the_requests_namespace() {
    let world = World::new().await;
    let at = place("root", "v1", "Namespace", "");
    let how = WriteOptions::default();
    world.objects.create(&how, &at, json!({"metadata": {"name": "other"}})).await.unwrap();
    let mut other = place("root", "v1", "ConfigMap", "");
    other.namespace = "other".into();
    let limits = |max: &str| json!({"metadata": {"name": "limits", "labels": {"limits": "yes"}}, "data": {"max": max}});
    world.objects.create(&how, &other, limits("9")).await.unwrap();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": constraints("", "secrets"),
        "validations": [{"expression": "int(object.metadata.labels.size) <= int(params.data.max)",
            "messageExpression": "'at most ' + params.data.max"}],
    });
    let reference = json!({"name": "limits", "parameterNotFoundAction": "Deny"});
    world
        .policy(KIND, spec.clone(), json!({"validationActions": ["Deny"], "paramRef": reference}))
        .await;
    let secret =
        |name: &str, size: &str| json!({"metadata": {"name": name, "labels": {"size": size}}});
    let refused = world.create("v1", "Secret", secret("a", "5")).await.unwrap_err();
    assert!(
        refused.message.ends_with(
            "denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ),
        "{}",
        refused.message
    );
    world.create("v1", "ConfigMap", limits("4")).await.unwrap();
    let refused = world.create("v1", "Secret", secret("a", "5")).await.unwrap_err();
    assert!(refused.message.ends_with("denied request: at most 4"), "{}", refused.message);
    let mut there = place("root", "v1", "Secret", "");
    there.namespace = "other".into();
    let ada = WriteOptions::by(person("ada"));
    world.objects.create(&ada, &there, secret("a", "5")).await.unwrap();
    world.remove("ValidatingAdmissionPolicyBinding", "rule-here").await;
    // All that a selector finds, and none of it is no reason to refuse.
    let selector = json!({"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Allow", "namespace": "other"});
    let mut second = spec;
    second["name"] = json!("selected");
    world.policy(KIND, second, json!({"validationActions": ["Deny"], "paramRef": selector})).await;
    world.create("v1", "Secret", secret("b", "9")).await.unwrap();
    assert_eq!(world.create("v1", "Secret", secret("c", "10")).await.unwrap_err().code, 422);
}

#[tokio::test]
async fn a_delete_is_asked_about_with_what_goes() {
    let world = World::new().await;
    let spec = json!({"matchConstraints": {"resourceRules": [super::kit::about(&["DELETE"], "", "configmaps")]},
        "validations": [{"expression": "object == null && oldObject.data.keep != 'yes'", "message": "it stays"}]});
    world.policy(KIND, spec, deny()).await;
    world.config_map("kept", json!({"keep": "yes"})).await.unwrap();
    world.config_map("free", json!({"keep": "no"})).await.unwrap();
    let how = WriteOptions::by(person("ada"));
    let delete = async |name: &str| {
        let at = place("root", "v1", "ConfigMap", name);
        world.objects.delete(&how, &at, &DeleteOptions::default()).await
    };
    assert!(delete("kept").await.unwrap_err().message.ends_with("denied request: it stays"));
    delete("free").await.unwrap();
}

#[tokio::test]
async fn a_policy_that_is_none_is_not_kept() {
    let world = World::new().await;
    let at = "admissionregistration.k8s.io/v1";
    let policy = |expression: &str| {
        json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": constraints("", "configmaps"),
            "variables": [{"name": "a", "expression": "object.data"}],
            "validations": [{"expression": expression}]}})
    };
    for (expression, why) in [
        ("object.data.", "compilation failed"),
        ("nobody.data == 'x'", "undeclared reference to 'nobody'"),
        ("params.data == 'x'", "undeclared reference to 'params'"),
        ("variables.b == 'x'", "undefined field 'b'"),
    ] {
        let refused = world.create(at, KIND, policy(expression)).await.unwrap_err();
        assert!(
            refused.code == 422 && refused.message.contains(why),
            "{expression}: {}",
            refused.message
        );
        assert!(
            refused.message.contains("spec.validations[0].expression: Invalid value"),
            "{}",
            refused.message
        );
    }
    world.create(at, KIND, policy("variables.a.x == 'y'")).await.unwrap();
}

#[tokio::test]
async fn a_write_takes_as_many_parameters_as_it_may() {
    let world = World::new().await;
    for number in 0..40 {
        let value = json!({"metadata": {"name": format!("p{number}"), "labels": {"params": "yes"}},
            "data": {"text": "x".repeat(100_000)}});
        world.create("v1", "ConfigMap", value).await.unwrap();
    }
    let spec = |name: &str, fails: &str| {
        json!({"name": name, "matchConstraints": constraints("", "secrets"), "failurePolicy": fails,
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{"expression": "true"}]})
    };
    let selector = json!({"matchLabels": {"params": "yes"}});
    let binding = json!({"validationActions": ["Deny"],
        "paramRef": {"selector": selector, "parameterNotFoundAction": "Deny"}});
    world.policy(KIND, spec("many", "Fail"), binding.clone()).await;
    let bind = async |policy: &str, numbers: std::ops::Range<usize>| {
        for number in numbers {
            let mut spec = binding.clone();
            spec["policyName"] = json!(policy);
            let value = json!({"metadata": {"name": format!("{policy}-{number}")}, "spec": spec});
            let kind = "ValidatingAdmissionPolicyBinding";
            world.create("admissionregistration.k8s.io/v1", kind, value).await.unwrap();
        }
    };
    bind("many", 0..20).await;
    let secret =
        async |name: &str| world.create("v1", "Secret", json!({"metadata": {"name": name}})).await;
    // Each parameter is read once: without that they would be more than they may be together.
    secret("a").await.unwrap();
    bind("many", 20..30).await;
    let refused = secret("b").await.unwrap_err();
    assert!(refused.message.contains("failed to configure binding: "), "{}", refused.message);
    assert!(refused.message.contains("1000 bindings and parameters"), "{}", refused.message);
    world.remove(KIND, "many").await;
    world.policy(KIND, spec("ignored", "Ignore"), binding.clone()).await;
    bind("ignored", 0..30).await;
    secret("b").await.unwrap();
}

#[tokio::test]
async fn parameters_that_are_too_many_for_one_policy_are_there_for_another() {
    let world = World::new().await;
    let made = async |name: String, labels: Value, bytes: usize| {
        let value = json!({"metadata": {"name": name, "labels": labels}, "data": {"text": "x".repeat(bytes)}});
        world.create("v1", "ConfigMap", value).await.unwrap();
    };
    for number in 0..6 {
        made(format!("large-{number}"), json!({"params": "large"}), 1_000_000).await;
    }
    made("small".to_owned(), json!({"params": "small"}), 1_000).await;
    for (name, fails, validation) in [("a-large", "Ignore", "true"), ("b-small", "Fail", "false")] {
        let spec = json!({"name": name, "matchConstraints": constraints("", "secrets"), "failurePolicy": fails,
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{"expression": validation, "message": "asked"}]});
        let selector = json!({"matchLabels": {"params": &name[2..]}});
        let binding = json!({"validationActions": ["Deny"],
            "paramRef": {"selector": selector, "parameterNotFoundAction": "Deny"}});
        world.policy(KIND, spec, binding).await;
    }
    let refused = world.create("v1", "Secret", json!({"metadata": {"name": "s"}})).await;
    let refused = refused.unwrap_err();
    assert!(refused.message.ends_with("denied request: asked"), "{}", refused.message);
}

#[tokio::test]
async fn a_collection_that_is_too_large_for_one_policy_leaves_others_theirs() {
    let world = World::new().await;
    let root = ClusterName::root();
    let resource = Resource::new("", "configmaps");
    let put = |number: usize| {
        let key = Key::new(&resource, &root, "default", &format!("c{number}"));
        Operation::Put(key, Object { header: Header::default(), body: "{}".into() })
    };
    for first in (0..=100_000).step_by(MAX_OPERATIONS) {
        let operations = (first..first + MAX_OPERATIONS).map(put).collect();
        let store = world.objects.store();
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }
    let of = json!({"metadata": {"name": "p", "labels": {"params": "yes"}}});
    world.create("v1", "ServiceAccount", of).await.unwrap();
    let two = [("a-large", "ConfigMap", "Ignore"), ("b-small", "ServiceAccount", "Fail")];
    for (name, kind, fails) in two {
        let spec = json!({"name": name, "matchConstraints": constraints("", "secrets"), "failurePolicy": fails,
            "paramKind": {"apiVersion": "v1", "kind": kind}, "validations": [{"expression": "false", "message": "asked"}]});
        let selector = json!({"matchLabels": {"params": "yes"}});
        let binding = json!({"validationActions": ["Deny"],
            "paramRef": {"selector": selector, "parameterNotFoundAction": "Deny"}});
        world.policy(KIND, spec, binding).await;
    }
    let refused = world.create("v1", "Secret", json!({"metadata": {"name": "s"}})).await;
    let refused = refused.unwrap_err();
    assert!(refused.message.ends_with("denied request: asked"), "{}", refused.message);
}

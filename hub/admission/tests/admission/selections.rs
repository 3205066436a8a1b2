//! Who is asked about what.

use freewheel_hub_admission::CallError;
use freewheel_hub_objects::{Actor, WriteOptions};
use serde_json::{Value, json};

use super::kit::{World, about, deny, person, place};

const KIND: &str = "ValidatingAdmissionPolicy";

#[expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]
fn never(constraints: Value) -> Value {
    json!({"matchConstraints": constraints, "validations": [{"expression": "false"}]})
}

#[tokio::test]
async fn a_cluster_without_rules_asks_nobody() {
    let world = World::new().await;
    world.config_map("a", json!({})).await.unwrap();
    world.webhook("Validating", "asked", json!({"rules": [about(&["*"], "", "secrets")]})).await;
    world.config_map("b", json!({})).await.unwrap();
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn what_was_written_counts_when_it_is_answered() {
    let world = World::new().await;
    let rules = json!({"resourceRules": [about(&["CREATE"], "", "configmaps")]});
    for _ in 0..3 {
        world.policy(KIND, never(rules.clone()), deny()).await;
        assert_eq!(world.config_map("a", json!({})).await.unwrap_err().code, 422);
        world.remove("ValidatingAdmissionPolicyBinding", "rule-here").await;
        let made = world.config_map("", json!({})).await.unwrap_err();
        assert!(!made.message.contains("denied"), "a policy that is bound to nothing asks nobody");
        world.remove(KIND, "rule").await;
    }
}

#[tokio::test]
async fn a_rule_of_one_cluster_is_none_of_another() {
    let world = World::new().await;
    let rules = json!({"resourceRules": [about(&["*"], "", "configmaps")]});
    world.policy_in("pi-7", KIND, never(rules), deny()).await;
    world.config_map("a", json!({})).await.unwrap();
    let what = ("v1", "ConfigMap");
    let value = json!({"metadata": {"name": "a"}});
    let refused = world.create_in("pi-7", person("ada"), what, value.clone()).await;
    assert_eq!(refused.unwrap_err().code, 422);
    let cleanup = Actor::Controller("cluster-leftovers");
    world.create_in("pi-7", cleanup, what, value).await.unwrap();
}

#[tokio::test]
async fn whether_a_device_is_there_is_for_nobody_to_forbid() {
    let world = World::new().await;
    let rules = json!({"resourceRules": [about(&["*"], "", "nodes")]});
    world.policy_in("pi-7", KIND, never(rules), deny()).await;
    let node = |name: &str| json!({"metadata": {"name": name}});
    for actor in [person("ada"), Actor::Controller("replicaset-controller")] {
        let refused = world.create_in("pi-7", actor, ("v1", "Node"), node("a")).await;
        assert_eq!(refused.unwrap_err().code, 422);
    }
    let presence = Actor::Controller("node-controller");
    world.create_in("pi-7", presence, ("v1", "Node"), node("a")).await.unwrap();
}

#[tokio::test]
async fn a_rule_for_one_version_finds_the_others() {
    let world = World::new().await;
    let old = json!({"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"]});
    let scaler = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"maxReplicas": 3, "minReplicas": 1,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]}})
    };
    let mut exact = never(json!({"resourceRules": [old], "matchPolicy": "Exact"}));
    exact["name"] = json!("exact");
    world.policy(KIND, exact, deny()).await;
    world.create("autoscaling/v2", "HorizontalPodAutoscaler", scaler("a")).await.unwrap();
    let spec = json!({"matchConstraints": {"resourceRules": [old]}, "validations": [
        {"expression": "object.spec.targetCPUUtilizationPercentage < 70 && request.kind.version == 'v1'",
         "messageExpression": "string(object.spec.targetCPUUtilizationPercentage) + ' as ' + request.kind.version + ' of ' + request.requestKind.version"}]});
    world.policy(KIND, spec, deny()).await;
    let refused = world.create("autoscaling/v2", "HorizontalPodAutoscaler", scaler("b")).await;
    let refused = refused.unwrap_err().message;
    assert!(refused.ends_with("denied request: 70 as v1 of v2"), "{refused}");
}

#[tokio::test]
async fn selectors_and_exclusions_are_kept() {
    let world = World::new().await;
    let rule = about(&["CREATE"], "", "configmaps");
    let mut left_out = rule.clone();
    left_out["resourceNames"] = json!(["free"]);
    let constraints = json!({
        "resourceRules": [rule], "excludeResourceRules": [left_out],
        "namespaceSelector": {"matchLabels": {"stage": "test"}},
        "objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]},
    });
    world.policy(KIND, never(constraints), deny()).await;
    assert_eq!(world.config_map("a", json!({})).await.unwrap_err().code, 422);
    world.config_map("free", json!({})).await.unwrap();
    let skipped = json!({"metadata": {"name": "b", "labels": {"skip": "me"}}});
    world.create("v1", "ConfigMap", skipped).await.unwrap();
    let home = json!({"metadata": {"name": "other"}});
    world.create("v1", "Namespace", home).await.unwrap();
    let mut there = place("root", "v1", "ConfigMap", "");
    there.namespace = "other".into();
    let how = WriteOptions::by(person("ada"));
    world.objects.create(&how, &there, json!({"metadata": {"name": "c"}})).await.unwrap();
}

#[tokio::test]
async fn configurations_are_not_asked_about() {
    let world = World::with(|_| Err(CallError::Unreachable("nobody is there".to_owned()))).await;
    let everything = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    world.webhook("Validating", "all", everything).await;
    let refused = world.config_map("a", json!({})).await.unwrap_err();
    assert_eq!(refused.code, 500);
    assert!(refused.message.ends_with("nobody is there"), "{}", refused.message);
    // A wrong one can be taken away.
    world.remove("ValidatingWebhookConfiguration", "all").await;
    world.config_map("a", json!({})).await.unwrap();
}

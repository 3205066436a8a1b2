//! What mutating policies make of objects.

use freewheel_hub_objects::{WriteOptions, stored_value};
use serde_json::{Value, json};

use super::kit::{World, constraints, person, place};

const KIND: &str = "MutatingAdmissionPolicy";

#[expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]
fn spec(name: &str, mutation: Value) -> Value {
    json!({"name": name, "matchConstraints": constraints("", "configmaps"), "reinvocationPolicy": "Never",
        "mutations": [mutation]})
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn json_patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

#[tokio::test]
async fn a_policy_changes_what_is_written() {
    let world = World::new().await;
    let first = apply(
        "Object{metadata: Object.metadata{labels: {'seen': object.metadata.name}}, data: {'a': '1'}}",
    );
    world.policy(KIND, spec("1-apply", first), json!({})).await;
    let second = json_patch(
        "[JSONPatch{op: 'test', path: '/data/a', value: '1'}, \
          JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/x'), value: 'y'}, \
          JSONPatch{op: 'replace', path: '/data/a', value: object.data.a + '2'}]",
    );
    world.policy(KIND, spec("2-patch", second), json!({})).await;
    let never = json_patch(
        "[JSONPatch{op: 'test', path: '/data/a', value: 'no'}, JSONPatch{op: 'remove', path: '/data/a'}]",
    );
    world.policy(KIND, spec("3-test", never), json!({})).await;
    let made = world.config_map("c", json!({"own": "x"})).await.unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"seen": "c", "example.com/x": "y"}));
    assert_eq!(made["data"], json!({"own": "x", "a": "12"}));
}

#[tokio::test]
async fn policies_double_a_text_until_it_is_too_large() {
    let world = World::new().await;
    let double =
        "[JSONPatch{op: 'replace', path: '/data/a', value: object.data.a + object.data.a}]";
    let mut rule = spec("double", json_patch(double));
    rule["mutations"] = json!(vec![json_patch(double); 16]);
    world.policy(KIND, rule, json!({})).await;
    let made = world.config_map("c", json!({"a": "v"})).await.unwrap();
    assert_eq!(made["data"]["a"].as_str().unwrap().len(), 1 << 16);
    let error = world.config_map("d", json!({"a": "v".repeat(1_000)})).await.unwrap_err();
    assert!(error.message.contains("and may have 3145728 like a request"), "{error:?}");
}

#[tokio::test]
async fn all_policies_of_a_request_share_what_they_may_use() {
    let world = World::new().await;
    // Each of its turns looks at the text, which is half of what all of them may use.
    let ten = "[1,2,3,4,5,6,7,8,9,0]";
    let looks = format!(
        "[JSONPatch{{op: 'test', path: '/data/b', value: {ten}.all(a, {ten}.all(b, {ten}.all(c, object.data.a.contains('w')))) ? '' : 'b'}}]"
    );
    let rule = |name: &str| {
        let mut rule = spec(name, json_patch(&looks));
        rule["mutations"] = json!(vec![json_patch(&looks); 8]);
        rule
    };
    world.policy(KIND, rule("one"), json!({})).await;
    let data = || json!({"a": "v".repeat(110_000) + "w", "b": ""});
    world.config_map("c", data()).await.unwrap();
    world.policy(KIND, rule("two"), json!({})).await;
    let error = world.config_map("d", data()).await.unwrap_err();
    assert!(error.message.contains("running out of cost budget"), "{error:?}");
}

#[tokio::test]
async fn what_is_changed_has_defaults_and_keys() {
    let world = World::new().await;
    let sidecar = apply(
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{ \
           containers: [Object.spec.template.spec.containers{name: 'side', image: 'side:1'}] }}}}",
    );
    let mut rule = spec("sidecar", sidecar);
    rule["matchConstraints"] = constraints("apps", "deployments");
    rule["matchConditions"] = json!([{"name": "once", "expression": "!object.spec.template.spec.containers.exists(c, c.name == 'side')"}]);
    world.policy(KIND, rule, json!({})).await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let made = world.create("apps/v1", "Deployment", deployment).await.unwrap();
    let containers = &made["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["name"], &containers[1]["name"]), (&json!("c"), &json!("side")));
    assert_eq!(containers[1]["terminationMessagePolicy"], "File");
    // A status is no question to who is asked about the whole.
    let how = WriteOptions::by(person("ada"));
    let status = |mut value: Value| {
        value["status"]["observedGeneration"] = json!(1);
        Ok(value)
    };
    let at = place("root", "apps/v1", "Deployment", "d");
    let written = world.objects.modify(&how, &at, Some("status"), status).await.unwrap();
    assert_eq!(stored_value(&written.stored).unwrap()["status"]["observedGeneration"], 1);
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_or_ignored() {
    let world = World::new().await;
    world.policy(KIND, spec("wrong", apply("Object{data: Object.wrong{a: '1'}}")), json!({})).await;
    let refused = world.config_map("c", json!({})).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (403, "Invalid"));
    assert_eq!(
        refused.message,
        "policy 'wrong' with binding 'wrong-here' denied request: type mismatch: unexpected type name \"Object.wrong\", \
         expected \"Object.data\", which matches field name path from root Object type"
    );
    world.remove(KIND, "wrong").await;
    let mut atomic = spec(
        "atomic",
        apply(
            "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', args: ['x']}]}}",
        ),
    );
    atomic["matchConstraints"] = constraints("", "pods");
    world.policy(KIND, atomic, json!({})).await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let service_account = json!({"metadata": {"name": "default"}});
    world.create("v1", "ServiceAccount", service_account).await.unwrap();
    let refused = world.create("v1", "Pod", pod.clone()).await.unwrap_err();
    assert!(
        refused.message.ends_with(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        ),
        "{}",
        refused.message
    );
    world.remove(KIND, "atomic").await;
    let mut mild = spec("mild", json_patch("[JSONPatch{op: 'remove', path: '/nothing'}]"));
    mild["failurePolicy"] = json!("Ignore");
    world.policy(KIND, mild, json!({})).await;
    world.config_map("c", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_policy_is_asked_again_where_it_says_so() {
    let world = World::new().await;
    let count = "Object{data: {'count': string((has(object.data) && 'count' in object.data ? int(object.data.count) : 0) + 1)}}";
    world.policy(KIND, spec("1-once", apply(count)), json!({})).await;
    let made = world.config_map("once", json!({})).await.unwrap();
    assert_eq!(made["data"]["count"], "1");
    world.remove(KIND, "1-once").await;
    let mut again = spec("2-again", apply(count));
    again["reinvocationPolicy"] = json!("IfNeeded");
    world.policy(KIND, again, json!({})).await;
    world.policy(KIND, spec("3-other", apply("Object{data: {'other': 'x'}}")), json!({})).await;
    let made = world.config_map("both", json!({})).await.unwrap();
    assert_eq!(made["data"], json!({"count": "2", "other": "x"}));
}

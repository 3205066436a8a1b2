//! What is said of admission policies.

use crate::hub::{Hub, get};
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

const POLICIES: &str = "validatingadmissionpolicies";

fn policy(name: &str, group: &str, resource: &str, expression: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"],
            "operations": ["CREATE"], "resources": [resource]}]},
        "validations": [{"expression": expression}],
    }})
}

fn typing(s: &dyn Snapshot, realm: &str, name: &str) -> Value {
    get(s, realm, POLICIES, "", name).unwrap_or_default()["status"].clone()
}

fn warning(s: &dyn Snapshot, realm: &str, name: &str) -> String {
    let all = typing(s, realm, name)["typeChecking"]["expressionWarnings"].clone();
    all[0]["warning"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_told_what_its_expressions_get_wrong() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let right = policy("right", "apps", "deployments", "object.spec.replicas > 1");
    hub.create("root", POLICIES, "", right).await;
    let done = json!({"observedGeneration": 1, "typeChecking": {}});
    hub.eventually("nothing is wrong with it", |s| typing(s, "root", "right") == done).await;

    let wrong = policy("wrong", "apps", "deployments", "object.spec.replicas > '1'");
    hub.create("pi-1", POLICIES, "", wrong).await;
    let why = "found no matching overload for '_>_' applied to '(int, string)'";
    hub.eventually("it is warned of", |s| warning(s, "pi-1", "wrong").contains(why)).await;
    let told = typing(&*hub.snapshot(), "pi-1", "wrong")["typeChecking"].clone();
    assert_eq!(told["expressionWarnings"].as_array().unwrap().len(), 1);
    assert_eq!(told["expressionWarnings"][0]["fieldRef"], "spec.validations[0].expression");

    let mend = |policy: &mut Value| {
        policy["spec"]["validations"][0]["expression"] = json!("object.spec.replicas > 1");
    };
    hub.change("pi-1", POLICIES, "", "wrong", mend).await;
    let done = json!({"observedGeneration": 2, "typeChecking": {}});
    hub.eventually("it is right by now", |s| typing(s, "pi-1", "wrong") == done).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_for_custom_resources_is_told_as_well() {
    let hub = Hub::with_spokes(&[]).await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "cronSpec": {"type": "string"}, "replicas": {"type": "integer"}}}}});
    let names = json!({"plural": "crontabs", "singular": "crontab", "kind": "CronTab"});
    let definition = json!({"metadata": {"name": "crontabs.stable.example.com"}, "spec": {
        "group": "stable.example.com", "scope": "Namespaced", "names": names,
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    hub.create("root", "customresourcedefinitions", "", definition).await;
    hub.eventually("it is established", |s| {
        let all = get(s, "root", "customresourcedefinitions", "", "crontabs.stable.example.com");
        all.is_some_and(|it| crate::hub::condition(&it, "Established") == "True")
    })
    .await;
    let group = "stable.example.com";
    for (name, expression, why) in [
        ("right", "object.spec.replicas > 1 && object.spec.cronSpec != ''", ""),
        ("wrong", "object.spec.replicas > '1'", {
            "stable.example.com/v1, Kind=CronTab: ERROR: <input>:1:22: found no matching overload for '_>_' applied to \
             '(int, string)'\n"
        }),
        ("none", "object.spec.replica > 1", "undefined field 'replica'"),
    ] {
        hub.create("root", POLICIES, "", policy(name, group, "crontabs", expression)).await;
        hub.eventually("it was looked at", |s| {
            typing(s, "root", name)["observedGeneration"] == 1
                && warning(s, "root", name).contains(why)
        })
        .await;
        let is_right = warning(&*hub.snapshot(), "root", name).is_empty();
        assert_eq!(is_right, why.is_empty(), "{name}");
    }
    hub.stop().await;
}

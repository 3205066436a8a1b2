//! Rules about writes, as their writers meet them.

use serde_json::{Value, json};

use crate::support::Hub;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const EXAMPLE: &str = include_str!("../../../../manifests/examples/admission-policy.yaml");

async fn make(hub: &Hub, path: &str, value: Value) {
    let answer = hub.admin().post(path, &value).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert!(!answer.headers.contains_key("warning"), "{:?}", answer.headers);
}

#[tokio::test]
async fn the_example_of_a_policy_does_what_it_says() {
    let hub = Hub::start().await;
    let (policy, binding) = EXAMPLE.split_once("---\n").unwrap();
    for (plural, body) in
        [("validatingadmissionpolicies", policy), ("validatingadmissionpolicybindings", binding)]
    {
        let yaml = [("content-type", "application/yaml")];
        let path = format!("{GROUP}/{plural}");
        let answer = hub.admin().send("POST", &path, &yaml, body.to_owned()).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
    let attic = json!({"metadata": {"name": "attic", "labels": {"replicas": "bounded"}}});
    make(&hub, "/api/v1/namespaces", attic).await;
    let web = |replicas: u32| {
        json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "hello"}]}}}})
    };
    let path = "/apis/apps/v1/namespaces/attic/deployments";
    let refused = hub.admin().post(path, &web(4)).await;
    assert_eq!((refused.code, &refused.json()["reason"]), (422, &json!("Invalid")));
    assert_eq!(
        refused.json()["message"],
        "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'bounded-replicas' with binding \
         'bounded-replicas' denied request: at most 3 replicas, and not 4"
    );
    make(&hub, path, web(3)).await;
    make(&hub, "/apis/apps/v1/namespaces/default/deployments", web(4)).await;
}

#[tokio::test]
async fn what_is_said_of_a_write_is_said_to_its_writer_also_when_it_is_refused() {
    let hub = Hub::start().await;
    let rules = |operation: &str| json!({"resourceRules": [{"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
    for (name, operation, expression, action) in [
        ("warns", "*", "false", "Warn"),
        ("keeps", "DELETE", "oldObject.metadata.name != 'kept'", "Deny"),
        ("asks", "CREATE", "authorizer.requestResource.check('bless').allowed()", "Deny"),
    ] {
        let spec = json!({"matchConstraints": rules(operation), "validations": [{"expression": expression}]});
        let policy = json!({"metadata": {"name": name}, "spec": spec});
        make(&hub, &format!("{GROUP}/validatingadmissionpolicies"), policy).await;
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": [action]}});
        make(&hub, &format!("{GROUP}/validatingadmissionpolicybindings"), binding).await;
    }
    let path = "/api/v1/namespaces/default/configmaps";
    let warning = "299 - \"Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns': failed expression: false\"";
    let made = hub.admin().post(path, &json!({"metadata": {"name": "kept"}})).await;
    assert_eq!((made.code, made.headers["warning"].to_str().unwrap()), (201, warning));
    let kept = hub.admin().send("DELETE", &format!("{path}/kept"), &[], "").await;
    assert_eq!((kept.code, kept.headers["warning"].to_str().unwrap()), (422, warning));
    // Who may do everything may bless; who was given one right has that.
    let role = json!({"metadata": {"name": "writer"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]});
    make(&hub, "/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await;
    let binding = json!({"metadata": {"name": "writer"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    make(&hub, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let jane = hub.client(Some(&hub.authority.client("jane", "people")));
    let refused = jane.post(path, &json!({"metadata": {"name": "other"}})).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    assert!(refused.text().contains("ValidatingAdmissionPolicy 'asks'"), "{}", refused.text());
}

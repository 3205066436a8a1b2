//! Rules about what stores no object, as those meet them who ask for it.

use serde_json::{Value, json};

use crate::port_forwards::upgrade;
use crate::support::{Client, Hub};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const ALL: &str = "/api/v1/namespaces/default";
const SPDY: [(&str, &str); 3] = [
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("x-stream-protocol-version", "v4.channel.k8s.io"),
];

async fn make(client: &Client, path: &str, value: Value) {
    let answer = client.post(path, &value).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert!(!answer.headers.contains_key("warning"), "{:?}", answer.headers);
}

/// A policy about these resources of the core that denies what does not fit.
async fn policy(admin: &Client, name: &str, resources: &[&str], fits: &str) {
    let rule = json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": resources});
    let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": fits}]});
    let value = json!({"metadata": {"name": name}, "spec": spec});
    make(admin, &format!("{GROUP}/validatingadmissionpolicies"), value).await;
    let spec = json!({"policyName": name, "validationActions": ["Deny"]});
    let value = json!({"metadata": {"name": name}, "spec": spec});
    make(admin, &format!("{GROUP}/validatingadmissionpolicybindings"), value).await;
}

async fn pod(admin: &Client, name: &str) {
    let value = json!({"metadata": {"name": name}, "spec": {"nodeName": "pi-7", "containers": [
        {"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]}});
    make(admin, &format!("{ALL}/pods"), value).await;
}

#[tokio::test]
async fn ways_into_pods_are_asked_about() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p").await;
    let jane = hub.client(Some(&hub.authority.client("jane", "system:masters")));
    let ways = ["pods/exec", "pods/attach", "pods/portforward"];
    policy(
        &admin,
        "not-jane",
        &ways,
        "request.userInfo.username != 'jane' || request.operation != 'CONNECT'",
    )
    .await;
    for path in ["exec?command=cat&stdin=true", "attach?stdout=true", "portforward"] {
        let path = format!("{ALL}/pods/p/{path}");
        let (code, text) = upgrade(&jane, "POST", &path, &SPDY).await.err().unwrap();
        assert_eq!(code, 422, "{text}");
        assert!(text.contains("ValidatingAdmissionPolicy 'not-jane' with"), "{text}");
    }
    let path = format!("{ALL}/pods/p/exec?command=cat&stdin=true");
    upgrade(&admin, "POST", &path, &SPDY).await.unwrap();
}

#[tokio::test]
async fn what_a_rule_makes_of_a_command_is_run() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p").await;
    let rule = json!({"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"]});
    let change = "[JSONPatch{op: 'replace', path: '/command', value: ['nothing']}]";
    let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": change}}]});
    let value = json!({"metadata": {"name": "safe"}, "spec": spec});
    make(&admin, &format!("{GROUP}/mutatingadmissionpolicies"), value).await;
    let value = json!({"metadata": {"name": "safe"}, "spec": {"policyName": "safe"}});
    make(&admin, &format!("{GROUP}/mutatingadmissionpolicybindings"), value).await;
    let path = format!("{ALL}/pods/p/exec?command=cat&stdin=true");
    let (code, text) = upgrade(&admin, "POST", &path, &SPDY).await.err().unwrap();
    assert!(code == 400 && text.contains("c has no program"), "{code} {text}");
}

#[tokio::test]
async fn requests_through_proxies_are_asked_about() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let doors = ["pods/proxy", "services/proxy", "nodes/proxy"];
    policy(&admin, "paths", &doors, "!has(object.path) || !object.path.startsWith('/admin')").await;
    for (path, kind) in [
        (format!("{ALL}/pods/p:8080/proxy/%61dmin/x"), "pods \\\"p:8080\\\""),
        (format!("{ALL}/services/web/proxy/admin/"), "services \\\"web\\\""),
        ("/api/v1/nodes/pi-7/proxy/admin".to_owned(), "nodes \\\"pi-7\\\""),
    ] {
        let refused = admin.get(&path).await;
        assert_eq!(refused.code, 422, "{path}: {}", refused.text());
        assert!(refused.text().contains(kind), "{}", refused.text());
    }
    assert_eq!(admin.get(&format!("{ALL}/pods/p:8080/proxy/other")).await.code, 404);
}

#[tokio::test]
async fn evictions_and_tokens_are_asked_about() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for name in ["kept", "free"] {
        pod(&admin, name).await;
    }
    policy(&admin, "evictions", &["pods/eviction"], "object.metadata.name != 'kept'").await;
    // An eviction is asked about as one, and its end of a pod is its own.
    policy(&admin, "deletes", &["pods", "pods/status"], "request.operation == 'CREATE'").await;
    let evict = async |name: &str| {
        let eviction =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        admin.post(&format!("{ALL}/pods/{name}/eviction"), &eviction).await
    };
    let refused = evict("kept").await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    assert!(refused.text().contains("ValidatingAdmissionPolicy 'evictions'"), "{}", refused.text());
    let evicted = evict("free").await;
    assert_eq!(evicted.code, 201, "{}", evicted.text());
    let kept = admin.get(&format!("{ALL}/pods/kept")).await.json();
    assert_eq!(kept["metadata"].get("deletionTimestamp"), None);
    assert_eq!(kept["status"].get("conditions"), None);
    make(&admin, &format!("{ALL}/serviceaccounts"), json!({"metadata": {"name": "builder"}})).await;
    policy(&admin, "tokens", &["serviceaccounts/token"], "object.spec.expirationSeconds <= 600 && object.metadata.name == 'builder' && size(object.spec.audiences) == 1").await;
    let path = format!("{ALL}/serviceaccounts/builder/token");
    let refused = admin.post(&path, &json!({})).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    let given = admin.post(&path, &json!({"spec": {"expirationSeconds": 600}})).await;
    assert_eq!(given.code, 201, "{}", given.text());
}

const EVERY_ACTION: [(&str, &str, &str); 12] = [
    (
        "/api/v1/namespaces/default/pods/a/eviction",
        r#"{"metadata":{"name":"a"},"deleteOptions":{"gracePeriodSeconds":0,"gracePeriodSeconds":30}}"#,
        r#"duplicate field "deleteOptions.gracePeriodSeconds""#,
    ),
    (
        "/api/v1/namespaces/default/pods/b/eviction",
        r#"{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"b"},"reason":"x"}"#,
        r#"unknown field "reason""#,
    ),
    (
        "/api/v1/namespaces/default/pods/c/binding",
        r#"{"metadata":{"name":"c"},"target":{"name":"pi-8","name":"pi-7"}}"#,
        r#"duplicate field "target.name""#,
    ),
    (
        "/api/v1/namespaces/default/bindings",
        r#"{"metadata":{"name":"d"},"target":{"name":"pi-7","node":"pi-8"}}"#,
        r#"unknown field "target.node""#,
    ),
    (
        "/api/v1/namespaces/default/serviceaccounts/builder/token",
        r#"{"spec":{"expirationSeconds":600,"expirationSeconds":86400}}"#,
        r#"duplicate field "spec.expirationSeconds""#,
    ),
    (
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        r#"{"spec":{}}"#,
        r#"unknown field "spec""#,
    ),
    (
        "/apis/authentication.k8s.io/v1/tokenreviews",
        r#"{"spec":{"token":"a","token":"b"}}"#,
        r#"duplicate field "spec.token""#,
    ),
    (
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        r#"{"spec":{"resourceAttributes":{"verb":"get","verb":"list","resource":"pods"}}}"#,
        r#"duplicate field "spec.resourceAttributes.verb""#,
    ),
    (
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        r#"{"spec":{"namespace":"default","name":"p"}}"#,
        r#"unknown field "spec.name""#,
    ),
    (
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        r#"{"spec":{"user":"jane","group":["a"],"nonResourceAttributes":{"verb":"get","path":"/"}}}"#,
        r#"unknown field "spec.group""#,
    ),
    (
        "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
        r#"{"metadata":{"namespace":"default"},"spec":{"user":"jane","user":"joe","resourceAttributes":{"namespace":"default","verb":"get"}}}"#,
        r#"duplicate field "spec.user""#,
    ),
    (
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "kind: SubjectAccessReview\nspec: {user: jane, user: joe, nonResourceAttributes: {verb: get}}\n",
        r#"duplicate field "spec.user""#,
    ),
];

#[tokio::test]
async fn an_action_says_each_thing_once_and_nothing_that_nobody_knows() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for name in ["a", "b"] {
        pod(&admin, name).await;
    }
    for name in ["c", "d"] {
        let value = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        make(&admin, &format!("{ALL}/pods"), value).await;
    }
    make(&admin, &format!("{ALL}/serviceaccounts"), json!({"metadata": {"name": "builder"}})).await;
    let before = admin.get(&format!("{ALL}/pods")).await.json()["items"].clone();
    let send = async |path: &str, body: &str| {
        let yaml = !body.starts_with('{');
        let media = if yaml { "application/yaml" } else { "application/json" };
        admin.send("POST", path, &[("content-type", media)], body.to_owned()).await
    };
    for (path, body, told) in EVERY_ACTION {
        let refused = send(&format!("{path}?fieldValidation=Strict"), body).await;
        let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(refused.code, 400, "{path}: {}", refused.text());
        assert!(message.contains(&format!("strict decoding error: {told}")), "{path}: {message}");
        let refused = send(&format!("{path}?fieldValidation=Somewhat"), body).await;
        assert_eq!(refused.code, 422, "{path}: {}", refused.text());
    }
    assert_eq!(admin.get(&format!("{ALL}/pods")).await.json()["items"], before);
    for (path, body, told) in EVERY_ACTION {
        let ignored = send(&format!("{path}?fieldValidation=Ignore&dryRun=All"), body).await;
        assert_eq!((ignored.code, ignored.headers.get("warning")), (201, None), "{path}");
        let warned = send(path, body).await;
        assert_eq!(warned.code, 201, "{path}: {}", warned.text());
        let warning = warned.headers["warning"].to_str().unwrap().replace('\\', "");
        assert!(warning.contains(told), "{path}: {warning}");
    }
}

#[tokio::test]
async fn an_action_that_cannot_be_answered_is_not_done() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let value =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    make(&admin, &format!("{ALL}/pods"), value).await;
    let before = admin.get(&format!("{ALL}/pods/p")).await.json();
    let binding = json!({"metadata": {"name": "p"}, "target": {"name": "pi-7"}});
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (path, body) in [
        ("pods/p/eviction", json!({"metadata": {"name": "p"}})),
        ("pods/p/binding", binding.clone()),
        ("bindings", binding),
    ] {
        let headers = [("accept", table), ("content-type", "application/json")];
        let path = format!("{ALL}/{path}");
        let answer = admin.send("POST", &path, &headers, body.to_string()).await;
        assert_eq!(
            (answer.code, &answer.json()["reason"]),
            (406, &json!("NotAcceptable")),
            "{path}"
        );
        assert_eq!(admin.get(&format!("{ALL}/pods/p")).await.json(), before);
    }
}

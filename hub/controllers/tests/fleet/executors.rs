//! ManifestWorks that name an executor: what it may not do itself is not done for it.

use std::time::Duration;

use serde_json::{Value, json};

use super::hub::{condition, get};
use super::works::{hub, map, value, work, work_of};

pub fn executor(namespace: &str, name: &str) -> Value {
    json!({"subject": {"type": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}})
}

pub fn applied<'a>(work: &'a Value, ordinal: usize, field: &str) -> &'a str {
    let all = work["status"]["resourceStatus"]["manifests"][ordinal]["conditions"].as_array();
    let found = all.into_iter().flatten().find(|it| it["type"] == "Applied");
    found.and_then(|it| it[field].as_str()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn an_executor_applies_what_it_may_and_nothing_else() {
    let hub = hub().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}});
    let rest = json!({"executor": executor("default", "configmaps")});
    let both = work("mixed", &[map("a", "1"), secret], rest);
    hub.create("root", "manifestworks", "pi-1", both).await;
    hub.eventually("what it may is applied, and what it may not is told", |s| {
        let work = work_of(s, "pi-1", "mixed");
        value(s, "a") == "1"
            && applied(&work, 0, "status") == "True"
            && applied(&work, 1, "reason") == "AppliedManifestFailed"
            && applied(&work, 1, "message")
                == "Failed to apply manifest: not allowed to apply the resource  secrets, default s, will try again in 1m0s"
            && condition(&work, "Applied") == "False"
    })
    .await;
    assert!(get(&*hub.snapshot(), "pi-1", "secrets", "default", "s").is_none());
    hub.change("root", "manifestworks", "pi-1", "mixed", |it| {
        it["spec"]["executor"] = executor("default", "all");
    })
    .await;
    hub.eventually("another one may do all of it", |s| {
        get(s, "pi-1", "secrets", "default", "s").is_some()
            && condition(&work_of(s, "pi-1", "mixed"), "Applied") == "True"
    })
    .await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "r", "namespace": "default"}, "rules": []});
    let gives =
        work("gives", std::slice::from_ref(&role), json!({"executor": executor("pi", "all")}));
    hub.create("root", "manifestworks", "pi-1", gives).await;
    hub.eventually("nobody gives away what they do not have", |s| {
        applied(&work_of(s, "pi-1", "gives"), 0, "message")
            == "Failed to apply manifest: not allowed to apply the resource rbac.authorization.k8s.io roles, default r, error: roles.rbac.authorization.k8s.io \"r\" is forbidden: it gives away what it does not have, will try again in 1m0s"
    })
    .await;
    assert!(get(&*hub.snapshot(), "pi-1", "roles", "default", "r").is_none());
    hub.stop().await;
}

fn of_rbac(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(name);
    object["metadata"]["namespace"] = json!("default");
    object
}

#[tokio::test(start_paused = true)]
async fn an_executor_gives_away_nothing_by_another_way() {
    let hub = hub().await;
    for name in ["there", "by-apply"] {
        hub.create("pi-1", "roles", "default", json!({"metadata": {"name": name}, "rules": []}))
            .await;
    }
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let subject = json!({"kind": "ServiceAccount", "name": "all", "namespace": "pi"});
    let role_ref =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "later"});
    let manifests = [
        of_rbac("Role", "there", json!({"rules": all.clone()})),
        of_rbac("Role", "by-apply", json!({"rules": all.clone()})),
        of_rbac("Role", "new", json!({"metadata": {"resourceVersion": "1"}, "rules": all})),
        of_rbac("RoleBinding", "bound", json!({"subjects": [subject], "roleRef": role_ref})),
    ];
    let by_apply = json!({"resourceIdentifier": {"group": "rbac.authorization.k8s.io",
            "resource": "roles", "name": "by-apply", "namespace": "default"},
        "updateStrategy": {"type": "ServerSideApply", "serverSideApply": {"force": true}}});
    let rest = json!({"executor": executor("pi", "all"), "manifestConfigs": [by_apply]});
    hub.create("root", "manifestworks", "pi-1", work("gives", &manifests, rest)).await;
    hub.eventually("none of it is applied", |s| {
        let work = work_of(s, "pi-1", "gives");
        let why = |at: usize| applied(&work, at, "message").to_owned();
        (0..3).all(|at| why(at).contains("it gives away what it does not have"))
            && why(3)
                == "Failed to apply manifest: roles.rbac.authorization.k8s.io \"later\" not found"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(150)).await;
    let snapshot = hub.snapshot();
    for name in ["there", "by-apply"] {
        let role = get(&*snapshot, "pi-1", "roles", "default", name).unwrap();
        assert_eq!(role["rules"], json!([]), "{name}");
    }
    assert!(get(&*snapshot, "pi-1", "roles", "default", "new").is_none());
    assert!(get(&*snapshot, "pi-1", "rolebindings", "default", "bound").is_none());
    let rest = json!({"executor": executor("default", "all")});
    hub.create("root", "manifestworks", "pi-1", work("has", &manifests, rest)).await;
    hub.eventually("who has it gives it", |s| {
        let role = get(s, "pi-1", "roles", "default", "there").unwrap_or_default();
        condition(&work_of(s, "pi-1", "has"), "Applied") == "True" && role["rules"] != json!([])
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_executor_is_told_what_stands_in_its_way() {
    let hub = hub().await;
    hub.create("pi-1", "namespaces", "", json!({"metadata": {"name": "going"}})).await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    hub.create("pi-1", "configmaps", "going", held).await;
    hub.delete_in("pi-1", "namespaces", "", "going").await;
    let mut role = of_rbac("Role", "r", json!({"rules": []}));
    role["metadata"]["namespace"] = json!("going");
    let rest = json!({"executor": executor("default", "all")});
    hub.create("root", "manifestworks", "pi-1", work("late", &[role], rest)).await;
    hub.eventually("it is the namespace, and not what the role gives", |s| {
        let why = applied(&work_of(s, "pi-1", "late"), 0, "message").to_owned();
        why.contains("because it is being terminated") && !why.contains("escalation")
    })
    .await;
    hub.stop().await;
}

fn shows(resource: &str, name: &str, path: &str) -> Value {
    json!({"resourceIdentifier": {"resource": resource, "name": name, "namespace": "default"},
        "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [{"name": "word", "path": path}]}],
        "conditionRules": [{"type": "CEL", "condition": "Complete", "celExpressions": ["has(object.data)"]}]})
}

#[tokio::test(start_paused = true)]
async fn what_an_executor_may_not_read_is_not_shown() {
    let hub = hub().await;
    let secret = json!({"metadata": {"name": "s"}, "data": {"word": "c2VjcmV0"}});
    hub.create("pi-1", "secrets", "default", secret).await;
    let manifest = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
        "data": {"word": "b3duCg=="}});
    for strategy in ["Update", "ReadOnly", "ServerSideApply"] {
        let mut config = shows("secrets", "s", ".data.word");
        config["updateStrategy"] = json!({"type": strategy});
        let rest =
            json!({"executor": executor("default", "configmaps"), "manifestConfigs": [config]});
        let name = strategy.to_lowercase();
        hub.create(
            "root",
            "manifestworks",
            "pi-1",
            work(&name, std::slice::from_ref(&manifest), rest),
        )
        .await;
        hub.eventually("it is not even told whether it is there", |s| {
            let work = work_of(s, "pi-1", &name);
            let all = work["status"]["resourceStatus"]["manifests"][0]["conditions"].clone();
            let available = all.as_array().into_iter().flatten().find(|it| it["type"] == "Available");
            available.is_some_and(|it| {
                (&it["status"], &it["reason"]) == (&json!("Unknown"), &json!("FetchingResourceFailed"))
                    && it["message"]
                        == "Failed to fetch resource: not allowed to get the resource  secrets, default s"
            }) && applied(&work, 0, "status") == "False"
        })
        .await;
        let status = work_of(&*hub.snapshot(), "pi-1", &name)["status"].to_string();
        assert!(!status.contains("c2VjcmV0") && !status.contains("\"Complete\""), "{status}");
    }
    hub.change("root", "manifestworks", "pi-1", "readonly", |it| {
        it["spec"]["executor"] = executor("default", "secrets");
    })
    .await;
    hub.eventually("who may read it is shown it", |s| {
        work_of(s, "pi-1", "readonly")["status"].to_string().contains("c2VjcmV0")
    })
    .await;
    hub.change("root", "manifestworks", "pi-1", "readonly", |it| {
        it["spec"]["executor"] = executor("default", "configmaps");
    })
    .await;
    hub.eventually("also of a work that is complete and writes nothing", |s| {
        let work = work_of(s, "pi-1", "readonly");
        condition(&work, "Complete") == "True"
            && !work["status"]["resourceStatus"].to_string().contains("c2VjcmV0")
    })
    .await;
    hub.stop().await;
}

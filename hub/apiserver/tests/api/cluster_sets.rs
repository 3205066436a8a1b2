//! Who puts clusters into sets, binds namespaces to them, and has works applied by others' rights.

use serde_json::json;

use crate::roles::{RBAC, binding, made, role, rule, user};
use crate::support::Hub;

#[tokio::test]
async fn sets_are_joined_and_bound_by_right() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let group = "cluster.open-cluster-management.io";
    let clusters = format!("/apis/{group}/v1/managedclusters");
    let bindings = format!("/apis/{group}/v1beta2/namespaces/default/managedclustersetbindings");
    let of = |subresource: &str, set: &str| {
        json!({"verbs": ["create"], "apiGroups": [group], "resources": [format!("managedclustersets/{subresource}")],
            "resourceNames": [set]})
    };
    let rules = [
        rule(&["create", "patch"], group, &["managedclusters", "managedclustersetbindings"]),
        of("join", "default"),
        of("join", "north"),
        of("bind", "north"),
    ];
    let roles = format!("{RBAC}/clusterroles");
    made(&admin.post(&roles, &role("ClusterRole", "north", &rules)).await);
    let gives = binding("north", ("ClusterRole", "north"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    made(&jane.post(&clusters, &json!({"metadata": {"name": "pi-7"}})).await);
    let path = format!("{clusters}/pi-7");
    let into = |set: &str| json!({"metadata": {"labels": {"cluster.open-cluster-management.io/clusterset": set}}});
    made(&jane.patch(&path, "merge-patch+json", &into("north")).await);
    let refused = jane.patch(&path, "merge-patch+json", &into("south")).await;
    let why = r#"user "jane" cannot add/remove a ManagedCluster to/from ManagedClusterSet "south""#;
    assert_eq!(refused.code, 403);
    assert!(refused.text().contains(&why.replace('"', r#"\""#)), "{}", refused.text());
    made(&admin.patch(&path, "merge-patch+json", &into("south")).await);
    let refused = jane.patch(&path, "merge-patch+json", &into("north")).await;
    assert_eq!(refused.code, 403, "out of a set needs the right, too");
    let bound = |set: &str| json!({"metadata": {"name": set}, "spec": {"clusterSet": set}});
    made(&jane.post(&bindings, &bound("north")).await);
    let refused = jane.post(&bindings, &bound("south")).await;
    let why = r#"user "jane" is not allowed to bind cluster set "south""#;
    assert_eq!(refused.code, 403);
    assert!(refused.text().contains(&why.replace('"', r#"\""#)), "{}", refused.text());
    let odd = json!({"metadata": {"name": "north-2"}, "spec": {"clusterSet": "north"}});
    assert_eq!(jane.post(&bindings, &odd).await.code, 422);
}

#[tokio::test]
async fn who_names_an_executor_may_execute_as_it() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let group = "work.open-cluster-management.io";
    let works = format!("/apis/{group}/v1/namespaces/default/manifestworks");
    let may = json!({"verbs": ["execute-as"], "apiGroups": [group], "resources": ["manifestworks"],
        "resourceNames": ["system:serviceaccount:default:mine"]});
    let rules = [rule(&["create", "patch"], group, &["manifestworks"]), may];
    let roles = format!("{RBAC}/clusterroles");
    made(&admin.post(&roles, &role("ClusterRole", "works", &rules)).await);
    let gives = binding("works", ("ClusterRole", "works"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    let work = |name: &str, account: &str| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}});
        let mut work =
            json!({"metadata": {"name": name}, "spec": {"workload": {"manifests": [map]}}});
        if !account.is_empty() {
            let account = json!({"namespace": "default", "name": account});
            work["spec"]["executor"] =
                json!({"subject": {"type": "ServiceAccount", "serviceAccount": account}});
        }
        work
    };
    made(&jane.post(&works, &work("plain", "")).await);
    made(&jane.post(&works, &work("own", "mine")).await);
    let refused = jane.post(&works, &work("others", "theirs")).await;
    assert_eq!(refused.code, 403);
    let why = "user jane cannot manipulate the Manifestwork with executor default/theirs in namespace default";
    assert!(refused.text().contains(why), "{}", refused.text());
    let path = format!("{works}/plain");
    let into = json!({"spec": {"executor": work("x", "theirs")["spec"]["executor"]}});
    assert_eq!(jane.patch(&path, "merge-patch+json", &into).await.code, 403);
    made(
        &jane.patch(&path, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})).await,
    );
    made(&admin.patch(&path, "merge-patch+json", &into).await);
    let labelled = json!({"metadata": {"labels": {"a": "c"}}});
    made(&jane.patch(&path, "merge-patch+json", &labelled).await);
}

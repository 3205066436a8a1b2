//! What the agents of clusters may do at the hub, as Open Cluster Management has it.

use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use crate::hub::{Hub, get};

const OWN: &str = "open-cluster-management:managedcluster:pi-1";
const BINDINGS: [(&str, &str); 2] = [
    (
        "open-cluster-management:managedcluster:pi-1:registration",
        "open-cluster-management:managedcluster:registration",
    ),
    (
        "open-cluster-management:managedcluster:pi-1:work",
        "open-cluster-management:managedcluster:work",
    ),
];

/// The verbs that a role gives for a resource.
fn verbs(role: &Value, resource: &str) -> Value {
    let rules = role["rules"].as_array().cloned().unwrap_or_default();
    let about = rules.into_iter().find(|rule| rule["resources"] == json!([resource]));
    about.map_or(Value::Null, |rule| rule["verbs"].clone())
}

/// Whether a binding gives this role to the cluster's group, and is marked as the cluster's.
fn gives(binding: Option<Value>, role: &str) -> bool {
    binding.is_some_and(|binding| {
        binding["roleRef"]["name"] == role
            && binding["subjects"]
                == json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group",
                    "name": "system:open-cluster-management:pi-1"}])
            && binding["metadata"]["labels"]["open-cluster-management.io/cluster-name"] == "pi-1"
    })
}

fn is_granted(s: &dyn Snapshot) -> bool {
    let role = get(s, "root", "clusterroles", "", OWN).unwrap_or_default();
    verbs(&role, "managedclusters") == json!(["get", "list", "update", "watch"])
        && verbs(&role, "managedclusters/status") == json!(["patch", "update"])
        && verbs(&role, "managedclusters/clientcertificates") == json!(["renew"])
        && role["aggregationRule"].is_null()
        && gives(get(s, "root", "clusterrolebindings", "", OWN), OWN)
        && BINDINGS.iter().all(|(name, role)| {
            gives(get(s, "root", "rolebindings", "pi-1", name), role)
                && get(s, "root", "clusterroles", "", role).is_some()
        })
}

fn is_left(s: &dyn Snapshot) -> usize {
    let roles = ["clusterroles", "clusterrolebindings"];
    let own = roles.iter().filter(|plural| get(s, "root", plural, "", OWN).is_some()).count();
    let bound = |name: &str| get(s, "root", "rolebindings", "pi-1", name).is_some();
    own + BINDINGS.iter().filter(|(name, _)| bound(name)).count()
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_may_do_follows_its_acceptance() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.eventually("it is given", is_granted).await;
    // Deleted and changed, each of them.
    hub.delete("clusterrolebindings", "", OWN, Propagation::Background).await;
    hub.delete("rolebindings", "pi-1", BINDINGS[1].0, Propagation::Background).await;
    hub.change("root", "clusterroles", "", OWN, |role| {
        role["rules"] = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    })
    .await;
    hub.change("root", "rolebindings", "pi-1", BINDINGS[0].0, |binding| {
        binding["subjects"] = json!([]);
    })
    .await;
    hub.eventually("it is set right", is_granted).await;
    let accept = async |accepts: bool| {
        hub.change("root", "managedclusters", "", "pi-1", |cluster| {
            cluster["spec"]["hubAcceptsClient"] = json!(accepts);
        })
        .await;
    };
    accept(false).await;
    hub.eventually("a look at its own cluster is left", |s| {
        let role = get(s, "root", "clusterroles", "", OWN).unwrap_or_default();
        verbs(&role, "managedclusters") == json!(["get", "list", "watch"])
            && role["rules"].as_array().is_some_and(|rules| rules.len() == 1)
            && is_left(s) == 2
    })
    .await;
    accept(true).await;
    hub.eventually("it is given again", is_granted).await;
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("the cluster is gone", |s| {
        get(s, "root", "managedclusters", "", "pi-1").is_none()
    })
    .await;
    assert_eq!(is_left(&*hub.snapshot()), 0, "nothing is left to the next one of its name");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_binding_to_another_role_is_made_anew_and_who_was_never_accepted_has_nothing() {
    let hub = Hub::with_spokes(&[]).await;
    let odd = json!({"metadata": {"name": OWN}, "subjects": [],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    hub.create("root", "clusterrolebindings", "", odd).await;
    hub.join("pi-1").await;
    hub.eventually("it is set right", is_granted).await;
    hub.create("root", "managedclusters", "", json!({"metadata": {"name": "pi-2"}})).await;
    hub.join("pi-3").await;
    let name = "open-cluster-management:managedcluster:pi-3";
    hub.eventually("the later one has its role", |s| {
        get(s, "root", "clusterroles", "", name).is_some()
    })
    .await;
    let name = "open-cluster-management:managedcluster:pi-2";
    assert!(get(&*hub.snapshot(), "root", "clusterroles", "", name).is_none());
    hub.stop().await;
}

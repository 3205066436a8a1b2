//! Roles that clusters have from the start, and roles that are made of others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use crate::hub::{Hub, get, list};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_controllers::engine::{Client, Controller as _};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::roles::BootstrapPolicy;
use freewheel_hub_objects::{Objects, Propagation};
use freewheel_hub_rbac::policy;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

const ALL: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// But for those of the agents of clusters, which come with these.
fn count(s: &dyn Snapshot, realm: &str) -> usize {
    let is_of_a_cluster = |it: &Value| {
        let of = &it["metadata"]["labels"]["open-cluster-management.io/cluster-name"];
        of.as_str().is_some_and(|of| !of.is_empty())
    };
    let all = ALL.iter().flat_map(|plural| list(s, realm, plural, ""));
    all.filter(|it| !is_of_a_cluster(it)).count()
}

fn rules(s: &dyn Snapshot, realm: &str, role: &str) -> Vec<Value> {
    let role = get(s, realm, "clusterroles", "", role).unwrap_or_default();
    role["rules"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn every_cluster_has_its_roles_from_the_start() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.eventually("all of them are there", |s| {
        count(s, "root") == policy::of(true).count()
            && count(s, "pi-1") == policy::of(false).count()
    })
    .await;
    hub.eventually("what is made of others is made", |s| {
        ["root", "pi-1"].iter().all(|realm| {
            let reads = |role: &str, resource: &str| {
                let rules = rules(s, realm, role);
                rules.iter().any(|rule| {
                    rule["resources"].as_array().is_some_and(|all| all.contains(&json!(resource)))
                })
            };
            reads("view", "pods")
                && !reads("view", "secrets")
                && reads("edit", "secrets")
                && reads("admin", "rolebindings")
                && reads("admin", "pods")
        })
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_made_of_others_has_their_rules() {
    let hub = Hub::with_spokes(&[]).await;
    let rule = json!({"verbs": ["get"], "apiGroups": ["acme.com"], "resources": ["anvils"]});
    let label = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let anvils = json!({"metadata": {"name": "anvils", "labels": label}, "rules": [rule]});
    hub.create("root", "clusterroles", "", anvils).await;
    hub.eventually("all three have it", |s| {
        ["view", "edit", "admin"].iter().all(|role| rules(s, "root", role).contains(&rule))
    })
    .await;
    let stray = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
    let with_stray = |role: &mut Value| role["rules"].as_array_mut().unwrap().push(stray.clone());
    hub.change("root", "clusterroles", "", "view", with_stray).await;
    hub.eventually("what somebody wrote is gone", |s| !rules(s, "root", "view").contains(&stray))
        .await;
    hub.delete("clusterroles", "", "anvils", Propagation::Background).await;
    hub.eventually("and so is what is gone", |s| {
        ["view", "edit", "admin"].iter().all(|role| !rules(s, "root", role).contains(&rule))
    })
    .await;
    hub.stop().await;
}

/// What a hub does when it starts.
async fn start(objects: &Objects) {
    let (recorder, _said) = Recorder::channel(objects);
    let client = Client::new(objects.clone(), "rbac-bootstrap", recorder);
    let policy = BootstrapPolicy::new(client).unwrap();
    for key in policy.first() {
        policy.reconcile(&key).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_brings_back_what_is_missing_and_takes_nothing() {
    let hub = Hub::with_spokes(&[]).await;
    hub.eventually("it has all", |s| count(s, "root") == policy::of(true).count()).await;
    let own = json!({"verbs": ["get"], "nonResourceURLs": ["/own"]});
    hub.change("root", "clusterroles", "", "system:discovery", |role| {
        role["rules"] = json!([own.clone()]);
    })
    .await;
    hub.change("root", "clusterroles", "", "system:basic-user", |role| {
        role["rules"] = json!([]);
        role["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] =
            json!("false");
    })
    .await;
    hub.change("root", "clusterrolebindings", "", "system:discovery", |binding| {
        binding["subjects"] = json!([{"kind": "User", "name": "jane",
            "apiGroup": "rbac.authorization.k8s.io"}]);
    })
    .await;
    hub.delete("clusterroles", "", "cluster-admin", Propagation::Background).await;
    start(&hub.objects).await;
    let now: Arc<dyn Snapshot> = hub.snapshot();
    let discovery = rules(&*now, "root", "system:discovery");
    assert!(discovery.len() == 12 && discovery.contains(&own), "{discovery:#?}");
    assert!(rules(&*now, "root", "system:basic-user").is_empty(), "it is kept so");
    let binding = get(&*now, "root", "clusterrolebindings", "", "system:discovery").unwrap();
    let names: Vec<_> =
        binding["subjects"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["jane", "system:authenticated"]);
    assert!(get(&*now, "root", "clusterroles", "", "cluster-admin").is_some());
    let revision = hub.snapshot().revision();
    start(&hub.objects).await;
    assert_eq!(hub.snapshot().revision(), revision, "another start writes nothing");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_for_a_token_is_filled_and_goes_with_its_account() {
    let hub = Hub::with_spokes(&[]).await;
    let account = json!({"metadata": {"name": "a"}});
    hub.create("root", "serviceaccounts", "default", account).await;
    let secret = json!({"metadata": {"name": "s",
        "annotations": {"kubernetes.io/service-account.name": "a"}},
        "type": "kubernetes.io/service-account-token"});
    hub.create("root", "secrets", "default", secret.clone()).await;
    let find = |s: &dyn Snapshot| get(s, "root", "secrets", "default", "s");
    hub.eventually("it is filled", |s| {
        find(s).is_some_and(|secret| secret["data"]["token"].is_string())
    })
    .await;
    let filled = find(&*hub.snapshot()).unwrap();
    let text = |key: &str| {
        let bytes = STANDARD.decode(filled["data"][key].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let uid = get(&*hub.snapshot(), "root", "serviceaccounts", "default", "a").unwrap();
    let uid = uid["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(text("token"), format!("root/default/s/a/{uid}"));
    assert_eq!(text("namespace"), "default");
    assert!(text("ca.crt").starts_with("-----BEGIN CERTIFICATE"));
    assert_eq!(filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"], uid);
    hub.delete("serviceaccounts", "default", "a", Propagation::Background).await;
    hub.eventually("it is gone", |s| find(s).is_none()).await;
    hub.create("root", "secrets", "default", secret).await;
    hub.eventually("for nobody there is none", |s| find(s).is_none()).await;
    hub.stop().await;
}

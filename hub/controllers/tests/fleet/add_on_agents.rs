//! Agents of add-ons: what they are given for the hub, and when that goes.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::add_ons::{
    GROUP, add_on, by_placements, by_template, hub, installed, message, on_cluster, template,
};
use super::hub::{Hub, STRICT, condition, get, list, reason};

pub const NAMESPACE: &str = "open-cluster-management-agent-addon";
pub const SECRET: &str = "web-hub-kubeconfig";
pub const BINDING: &str = "open-cluster-management:web:clusterrole:agent";

/// An agent of the hub's own API, with these rights there.
pub fn kube(permissions: &[Value]) -> Value {
    json!({"type": "KubeClient", "kubeClient": {"hubPermissions": permissions}})
}

pub fn current(role: &str) -> Value {
    json!({"type": "CurrentCluster", "currentCluster": {"clusterRoleName": role}})
}

pub fn single(namespace: &str, role: &str) -> Value {
    let role = json!({"kind": "ClusterRole", "name": role});
    json!({"type": "SingleNamespace", "singleNamespace": {"namespace": namespace, "roleRef": role}})
}

pub fn custom(ca: &str) -> Value {
    json!({"type": "CustomSigner", "customSigner": {"signerName": "example.com/signer",
        "signingCA": {"namespace": "default", "name": ca}, "subject": {"user": "user1", "groups": ["g1"]}}})
}

/// The add-on `web` on all of these clusters, registered as this.
pub async fn registered(spokes: &[&str], registration: Value) -> Hub {
    let hub = hub(spokes).await;
    let mut template = template("1");
    template["spec"]["registration"] = registration;
    hub.create("root", "addontemplates", "", template).await;
    let web = add_on(&by_placements(Value::Null), &by_template());
    hub.create("root", "clustermanagementaddons", "", web).await;
    hub
}

pub fn secret(s: &dyn Snapshot, cluster: &str, name: &str) -> Option<Value> {
    get(s, cluster, "secrets", NAMESPACE, name)
}

pub fn held(secret: &Value, key: &str) -> String {
    let text = secret["data"][key].as_str().unwrap_or_default();
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// Names of those whom a binding names.
fn bound(binding: &Value) -> Vec<&str> {
    let all = binding["subjects"].as_array().unwrap();
    all.iter().map(|it| it["name"].as_str().unwrap()).collect()
}

/// A cluster is not chosen any more.
async fn leave(hub: &Hub, cluster: &str) {
    hub.change("root", "managedclusters", "", cluster, |it| {
        it["metadata"]["labels"]["left"] = json!("out");
    })
    .await;
    hub.change("root", "placements", "default", "all", |it| {
        let out = json!([{"key": "left", "operator": "DoesNotExist"}]);
        it["spec"]["predicates"] =
            json!([{"requiredClusterSelector": {"labelSelector": {"matchExpressions": out}}}]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_gets_credentials_and_rights_that_go_with_it() {
    let rights = kube(&[current("cm-admin"), single("default", "view")]);
    let hub = registered(&["pi-1", "pi-2"], json!([rights])).await;
    hub.eventually("both have their credentials", |s| {
        ["pi-1", "pi-2"].iter().all(|cluster| {
            let instance = installed(s, cluster);
            secret(s, cluster, SECRET).is_some()
                && instance.is_some_and(|it| condition(&it, "ClusterCertificateRotated") == "True")
        })
    })
    .await;
    let now = hub.snapshot();
    let instance = installed(&*now, "pi-1").unwrap();
    assert_eq!(reason(&instance, "RegistrationApplied"), "SetPermissionApplied");
    let group = "system:open-cluster-management:cluster:pi-1:addon:web";
    let user = format!("{group}:agent:web-agent");
    let groups = json!([group, "system:open-cluster-management:addon:web"]);
    assert_eq!(
        instance["status"]["registrations"],
        json!([{"signerName": "kubernetes.io/kube-apiserver-client",
            "subject": {"user": user, "groups": groups}}])
    );
    assert_eq!(instance["status"]["kubeClientDriver"], "csr");
    let own = secret(&*now, "pi-1", SECRET).unwrap();
    assert_eq!((&*held(&own, "cluster-name"), &*held(&own, "tls.key")), ("pi-1", &*user));
    let config: Value = serde_json::from_str(&held(&own, "kubeconfig")).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://hub.test:6443");
    assert_eq!(config["users"][0]["user"]["client-key"], "tls.key");
    let of_cluster = get(&*now, "root", "rolebindings", "pi-1", BINDING).unwrap();
    assert_eq!(of_cluster["roleRef"]["name"], "cm-admin");
    // Not the group that agents of other clusters are in as well.
    assert_eq!(bound(&of_cluster), [&*user, group]);
    let shared = list(&*now, "root", "rolebindings", "default");
    let names: Vec<&str> =
        shared.iter().map(|it| it["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, [format!("{BINDING}:pi-1"), format!("{BINDING}:pi-2")]);
    assert_eq!(bound(&shared[0]), [&*user, group]);
    // What is a cluster's own goes with the add-on there, and nothing of another one.
    leave(&hub, "pi-2").await;
    hub.eventually("what the other had is gone", |s| {
        installed(s, "pi-2").is_none()
            && secret(s, "pi-2", SECRET).is_none()
            && get(s, "root", "rolebindings", "pi-2", BINDING).is_none()
            && list(s, "root", "rolebindings", "default").len() == 1
    })
    .await;
    assert_eq!(secret(&*hub.snapshot(), "pi-1", SECRET), Some(own));
    hub.delete("clustermanagementaddons", "", "web", Propagation::Background).await;
    hub.eventually("all of it is gone", |s| {
        secret(s, "pi-1", SECRET).is_none()
            && get(s, "root", "rolebindings", "pi-1", BINDING).is_none()
            && list(s, "root", "rolebindings", "default").is_empty()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_credentials_has_its_namespace() {
    let hub = registered(&["pi-1"], json!([])).await;
    hub.eventually("it is there", |s| get(s, "pi-1", "namespaces", "", NAMESPACE).is_some()).await;
    assert!(secret(&*hub.snapshot(), "pi-1", SECRET).is_none());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_refuses_the_namespace_of_agents_keeps_no_add_on_from_others() {
    let hub = registered(&[STRICT], json!([])).await;
    hub.eventually("the add-on is deployed, and its namespace is asked for again", |s| {
        on_cluster(s, STRICT, "cluster").as_deref() == Some(STRICT)
            && installed(s, STRICT).is_some_and(|it| condition(&it, "ManifestApplied") == "True")
            && get(s, STRICT, "namespaces", "", NAMESPACE).is_none()
    })
    .await;
    hub.eventually("it is there", |s| get(s, STRICT, "namespaces", "", NAMESPACE).is_some()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_namespace_is_refused_says_so_until_it_is_let_in() {
    let hub = registered(&[STRICT], json!([kube(&[])])).await;
    hub.eventually("why it has no credentials is told", |s| {
        installed(s, STRICT).is_some_and(|it| {
            condition(&it, "ClusterCertificateRotated") == "False"
                && message(&it, "ClusterCertificateRotated").contains("strict.example.com")
        })
    })
    .await;
    hub.eventually("it has them once it may", |s| {
        secret(s, STRICT, SECRET).is_some()
            && installed(s, STRICT)
                .is_some_and(|it| condition(&it, "ClusterCertificateRotated") == "True")
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_agents_that_goes_is_made_anew() {
    let uid = |s: &dyn Snapshot| {
        let namespace = get(s, "pi-1", "namespaces", "", NAMESPACE);
        namespace.map(|it| it["metadata"]["uid"].clone())
    };
    let has_secret = |s: &dyn Snapshot| secret(s, "pi-1", SECRET).is_some();
    for registration in [json!([]), json!([kube(&[])])] {
        let asks = registration != json!([]);
        let hub = registered(&["pi-1"], registration).await;
        hub.eventually("all is there", |s| uid(s).is_some() && has_secret(s) == asks).await;
        // Whatever is under way is done by then.
        tokio::time::sleep(Duration::from_secs(1_300)).await;
        let old = uid(&*hub.snapshot());
        hub.delete_in("pi-1", "namespaces", "", NAMESPACE).await;
        hub.eventually("it is there anew, with what was in it", |s| {
            uid(s).is_some() && uid(s) != old && has_secret(s) == asks
        })
        .await;
        hub.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_board_gets_credentials_of_its_own() {
    let hub = registered(&["pi-1"], json!([kube(&[])])).await;
    hub.eventually("it has its credentials", |s| secret(s, "pi-1", SECRET).is_some()).await;
    let mark = |s: &dyn Snapshot| {
        let secret = secret(s, "pi-1", SECRET).unwrap();
        secret["metadata"]["annotations"]["freewheel.dev/credential"].clone()
    };
    let old = mark(&*hub.snapshot());
    hub.change("root", "managedclusters", "", "pi-1", |it| {
        it["metadata"]["annotations"]["freewheel.dev/agent-key"] = json!("sha256:cd");
    })
    .await;
    hub.eventually("they are made anew", |s| mark(s) != old).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_no_more_goes() {
    let hub = registered(&["pi-1"], json!([kube(&[current("cm-admin"), current("view")])])).await;
    hub.eventually("it has its credentials", |s| secret(s, "pi-1", SECRET).is_some()).await;
    let second = format!("{BINDING}::view");
    hub.eventually("and all of its rights", |s| {
        get(s, "root", "rolebindings", "pi-1", &second).is_some()
    })
    .await;
    hub.change("root", "addontemplates", "", "web", |it| {
        it["spec"]["registration"] = json!([kube(&[current("view")])]);
    })
    .await;
    hub.eventually("it has fewer rights", |s| {
        let first = get(s, "root", "rolebindings", "pi-1", BINDING);
        first.is_some_and(|it| it["roleRef"]["name"] == "view")
            && get(s, "root", "rolebindings", "pi-1", &second).is_none()
    })
    .await;
    hub.change("root", "addontemplates", "", "web", |it| {
        it["spec"]["registration"] = Value::Null;
    })
    .await;
    hub.eventually("it has nothing", |s| {
        let instance = installed(s, "pi-1").unwrap();
        secret(s, "pi-1", SECRET).is_none()
            && get(s, "root", "rolebindings", "pi-1", BINDING).is_none()
            && instance["status"]["registrations"].is_null()
            && instance["status"]["kubeClientDriver"].is_null()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn credentials_are_where_the_agent_is() {
    let hub = registered(&["pi-1"], json!([kube(&[])])).await;
    hub.eventually("they are there", |s| secret(s, "pi-1", SECRET).is_some()).await;
    let spec = json!({"agentInstallNamespace": "agents"});
    let config = json!({"metadata": {"name": "own"}, "spec": spec});
    hub.create("root", "addondeploymentconfigs", "default", config).await;
    hub.change("root", "managedclusteraddons", "pi-1", "web", |it| {
        it["spec"]["configs"] = json!([{"group": GROUP, "resource": "addondeploymentconfigs",
            "namespace": "default", "name": "own"}]);
    })
    .await;
    hub.eventually("they wait for the namespace", |s| {
        let instance = installed(s, "pi-1").unwrap();
        message(&instance, "ClusterCertificateRotated").contains("namespaces \"agents\" not found")
            && secret(s, "pi-1", SECRET).is_none()
    })
    .await;
    hub.create("pi-1", "namespaces", "", json!({"metadata": {"name": "agents"}})).await;
    hub.eventually("they have moved", |s| {
        get(s, "pi-1", "secrets", "agents", SECRET).is_some()
            && condition(&installed(s, "pi-1").unwrap(), "ClusterCertificateRotated") == "True"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_add_on_of_its_own_controller_is_registered_as_itself() {
    let hub = hub(&["pi-1"]).await;
    hub.create(
        "root",
        "clustermanagementaddons",
        "",
        add_on(&by_placements(Value::Null), &json!([])),
    )
    .await;
    hub.eventually("it is there", |s| installed(s, "pi-1").is_some()).await;
    let group = "system:open-cluster-management:cluster:pi-1:addon:web";
    let ask = |user: String| {
        move |it: &mut Value| {
            it["status"]["registrations"] = json!([{"signerName": "kubernetes.io/kube-apiserver-client",
                "subject": {"user": user, "groups": [group]}}]);
            it["status"]["namespace"] = json!("default");
        }
    };
    let of_another = "system:open-cluster-management:cluster:pi-2:addon:web:agent:x".to_owned();
    hub.change_status("root", "managedclusteraddons", "pi-1", "web", ask(of_another)).await;
    hub.eventually("nobody is given another's name", |s| {
        let instance = installed(s, "pi-1").unwrap();
        message(&instance, "ClusterCertificateRotated").contains("is no name of an agent")
    })
    .await;
    assert!(get(&*hub.snapshot(), "pi-1", "secrets", "default", SECRET).is_none());
    let own = format!("{group}:agent:x");
    hub.change_status("root", "managedclusteraddons", "pi-1", "web", ask(own.clone())).await;
    hub.eventually("it has its credentials", |s| {
        let secret = get(s, "pi-1", "secrets", "default", SECRET);
        secret.is_some_and(|it| held(&it, "tls.key") == own)
            && installed(s, "pi-1").unwrap()["status"]["kubeClientDriver"] == "csr"
    })
    .await;
    hub.delete("clustermanagementaddons", "", "web", Propagation::Background).await;
    hub.eventually("they go with it", |s| {
        installed(s, "pi-1").is_none() && get(s, "pi-1", "secrets", "default", SECRET).is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_not_given_are_told_of() {
    let hub = registered(&["pi-1"], json!([kube(&[current("too-much"), current("view")])])).await;
    hub.eventually("that is told", |s| {
        installed(s, "pi-1").is_some_and(|it| {
            let why = message(&it, "RegistrationApplied");
            reason(&it, "RegistrationApplied") == "SetPermissionFailed"
                && why.starts_with("Failed to set permission for hub agent: ")
                && why.contains("gives away what it does not have")
        })
    })
    .await;
    let given = list(&*hub.snapshot(), "root", "rolebindings", "pi-1");
    let roles = given.iter().filter_map(|it| it["roleRef"]["name"].as_str());
    let own = "open-cluster-management:managedcluster:";
    let roles: Vec<&str> = roles.filter(|role| !role.starts_with(own)).collect();
    assert_eq!(roles, ["view"], "beside those of the agent of the cluster");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_custom_signer_signs_with_its_own_ca() {
    let hub = registered(&["pi-1"], json!([custom("hidden")])).await;
    let told = |text: &'static str| {
        move |s: &dyn Snapshot| {
            installed(s, "pi-1")
                .is_some_and(|it| message(&it, "ClusterCertificateRotated").contains(text))
        }
    };
    hub.eventually("what may not be read signs nothing", told("\"hidden\" is forbidden")).await;
    hub.change("root", "addontemplates", "", "web", |it| {
        it["spec"]["registration"] = json!([custom("signing-ca")]);
    })
    .await;
    hub.eventually("nor does what is not there", told("\"signing-ca\" not found")).await;
    let data = json!({"tls.crt": STANDARD.encode("broken"), "tls.key": STANDARD.encode("key")});
    let ca = json!({"metadata": {"name": "signing-ca"}, "data": data});
    hub.create("root", "secrets", "default", ca).await;
    hub.eventually("nor what is no CA", told("it cannot sign")).await;
    hub.change("root", "secrets", "default", "signing-ca", |it| {
        it["data"]["tls.crt"] = json!(STANDARD.encode("theirs"));
    })
    .await;
    let name = "web-example.com-signer-client-cert";
    hub.eventually("it is signed", |s| secret(s, "pi-1", name).is_some()).await;
    let signed = secret(&*hub.snapshot(), "pi-1", name).unwrap();
    assert!(held(&signed, "tls.crt").ends_with(" theirs"));
    assert_eq!(held(&signed, "tls.key"), "user1");
    assert_eq!(signed["data"]["kubeconfig"], Value::Null);
    let instance = installed(&*hub.snapshot(), "pi-1").unwrap();
    assert_eq!(instance["status"]["registrations"][0]["signerName"], "example.com/signer");
    assert!(instance["status"]["kubeClientDriver"].is_null());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn credentials_are_made_anew_before_they_end() {
    let hub = registered(&["pi-1"], json!([custom("signing-ca")])).await;
    let data = json!({"tls.crt": STANDARD.encode("theirs"), "tls.key": STANDARD.encode("key")});
    let ca = json!({"metadata": {"name": "signing-ca"}, "data": data});
    hub.create("root", "secrets", "default", ca).await;
    let name = "web-example.com-signer-client-cert";
    hub.eventually("it is signed", |s| secret(s, "pi-1", name).is_some()).await;
    let first = secret(&*hub.snapshot(), "pi-1", name).unwrap();
    // A day, of which a quarter to a fifth is left.
    tokio::time::sleep(Duration::from_secs(17 * 3600)).await;
    assert_eq!(secret(&*hub.snapshot(), "pi-1", name).unwrap(), first);
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    let second = secret(&*hub.snapshot(), "pi-1", name).unwrap();
    assert_ne!(held(&second, "tls.crt"), held(&first, "tls.crt"));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_does_to_credentials_is_set_right() {
    let hub = registered(&["pi-1"], json!([kube(&[])])).await;
    hub.eventually("it has its credentials", |s| secret(s, "pi-1", SECRET).is_some()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let first = secret(&*hub.snapshot(), "pi-1", SECRET).unwrap();
    hub.delete_in("pi-1", "secrets", NAMESPACE, SECRET).await;
    hub.eventually("they are there again", |s| secret(s, "pi-1", SECRET).is_some()).await;
    let began = tokio::time::Instant::now();
    hub.change("pi-1", "secrets", NAMESPACE, SECRET, |it| {
        it["data"]["tls.key"] = json!(STANDARD.encode("mine"));
    })
    .await;
    hub.eventually("they are the hub's again", |s| {
        secret(s, "pi-1", SECRET).is_some_and(|it| held(&it, "tls.key") == held(&first, "tls.key"))
    })
    .await;
    let took = began.elapsed().as_secs();
    assert!((5..30).contains(&took), "two who disagree write once in ten seconds: {took}");
    hub.stop().await;
}

//! Agents of add-ons that ask for more than is theirs, or whose place somebody else has: what is refused, and that it is said.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::Propagation;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};

use super::add_on_agents::{
    BINDING, NAMESPACE, SECRET, current, custom, held, kube, registered, secret, single,
};
use super::add_ons::{add_on, by_placements, hub, installed, message, template};
use super::hub::{Hub, condition, get, list, reason};

const CUSTOM_SECRET: &str = "web-example.com-signer-client-cert";

/// Whether a condition of the add-on on a cluster says this.
fn says(s: &dyn Snapshot, cluster: &str, kind: &str, text: &str) -> bool {
    installed(s, cluster).is_some_and(|it| message(&it, kind).contains(text))
}

/// Names of the bindings in a namespace of the root that are the add-on's.
fn bindings(s: &dyn Snapshot, namespace: &str) -> Vec<String> {
    let all = list(s, "root", "rolebindings", namespace).into_iter();
    let names = all.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with(BINDING)).collect()
}

async fn ask_for(hub: &Hub, registration: Value) {
    hub.change("root", "addontemplates", "", "web", |it| {
        it["spec"]["registration"] = registration.clone();
    })
    .await;
}

async fn make_ca(hub: &Hub, by: &str) {
    let data = json!({"tls.crt": STANDARD.encode(by), "tls.key": STANDARD.encode("key")});
    let ca = json!({"metadata": {"name": "signing-ca"}, "data": data});
    hub.create("root", "secrets", "default", ca).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_write_no_bindings_gives_no_rights() {
    let hub = registered(&["pi-1"], json!([kube(&[current("view")])])).await;
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "unbound"}})).await;
    ask_for(&hub, json!([kube(&[current("view"), single("unbound", "view")])])).await;
    hub.eventually("that is told", |s| {
        says(s, "pi-1", "RegistrationApplied", "cannot create resource \"rolebindings\"")
            && says(s, "pi-1", "RegistrationApplied", "in the namespace \"unbound\"")
    })
    .await;
    let now = hub.snapshot();
    assert_eq!(bindings(&*now, "unbound"), Vec::<String>::new());
    assert_eq!(bindings(&*now, "pi-1"), [BINDING], "what may be given is given");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_rights_are_given_in_the_namespace_of_another_cluster() {
    let hub = registered(&["pi-1", "pi-2"], json!([kube(&[single("pi-2", "view")])])).await;
    hub.eventually("the other one's agent is refused", |s| {
        says(
            s,
            "pi-1",
            "RegistrationApplied",
            "the namespace \"pi-2\" is of the cluster of that name",
        ) && installed(s, "pi-2").is_some_and(|it| condition(&it, "RegistrationApplied") == "True")
    })
    .await;
    assert_eq!(bindings(&*hub.snapshot(), "pi-2"), [format!("{BINDING}:pi-2")]);
    // A namespace that becomes a cluster's later.
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "late"}})).await;
    ask_for(&hub, json!([kube(&[single("late", "view")])])).await;
    hub.eventually("both have rights there", |s| bindings(s, "late").len() == 2).await;
    let late = json!({"metadata": {"name": "late"}, "spec": {"hubAcceptsClient": false}});
    hub.create("root", "managedclusters", "", late).await;
    hub.eventually("they have none any more", |s| {
        bindings(s, "late").is_empty()
            && ["pi-1", "pi-2"].iter().all(|cluster| {
                says(s, cluster, "RegistrationApplied", "the namespace \"late\" is of the cluster")
            })
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_an_agents_is_left_alone() {
    let hub = hub(&["pi-1"]).await;
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"});
    let theirs = json!({"metadata": {"name": BINDING}, "roleRef": role});
    hub.create("root", "rolebindings", "pi-1", theirs).await;
    hub.create("pi-1", "namespaces", "", json!({"metadata": {"name": NAMESPACE}})).await;
    let labels = json!({"open-cluster-management.io/addon-name": "other", "freewheel.dev/agent-cluster": "pi-1"});
    let theirs = json!({"metadata": {"name": SECRET, "labels": labels},
        "data": {"tls.key": STANDARD.encode("theirs")}});
    hub.create("pi-1", "secrets", NAMESPACE, theirs).await;
    let mut template = template("1");
    template["spec"]["registration"] = json!([kube(&[current("view")])]);
    hub.create("root", "addontemplates", "", template).await;
    let web = add_on(&by_placements(Value::Null), &super::add_ons::by_template());
    hub.create("root", "clustermanagementaddons", "", web).await;
    hub.eventually("both are told of", |s| {
        let taken = "is there and was not made for this agent";
        says(s, "pi-1", "RegistrationApplied", taken)
            && says(s, "pi-1", "ClusterCertificateRotated", taken)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let now = hub.snapshot();
    let left = get(&*now, "root", "rolebindings", "pi-1", BINDING).unwrap();
    assert_eq!((&left["roleRef"]["name"], &left["subjects"]), (&json!("edit"), &Value::Null));
    assert_eq!(held(&secret(&*now, "pi-1", SECRET).unwrap(), "tls.key"), "theirs");
    hub.delete("rolebindings", "pi-1", BINDING, Propagation::Background).await;
    hub.delete_in("pi-1", "secrets", NAMESPACE, SECRET).await;
    hub.eventually("then the agent has its own", |s| {
        let binding = get(s, "root", "rolebindings", "pi-1", BINDING);
        binding.is_some_and(|it| it["roleRef"]["name"] == "view")
            && secret(s, "pi-1", SECRET).is_some_and(|it| held(&it, "tls.key") != "theirs")
            && condition(&installed(s, "pi-1").unwrap(), "RegistrationApplied") == "True"
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_binding_or_a_secret_is_nobodys() {
    let hub = registered(&["pi-1"], json!([kube(&[current("view")])])).await;
    hub.eventually("it has its rights", |s| {
        bindings(s, "pi-1") == [BINDING] && secret(s, "pi-1", SECRET).is_some()
    })
    .await;
    let now = hub.snapshot();
    let copy = |mut it: Value| {
        let labels = it["metadata"]["labels"].take();
        it["metadata"] = json!({"name": "copy", "labels": labels});
        it
    };
    let binding = copy(get(&*now, "root", "rolebindings", "pi-1", BINDING).unwrap());
    hub.create("root", "rolebindings", "default", binding).await;
    hub.create("pi-1", "secrets", NAMESPACE, copy(secret(&*now, "pi-1", SECRET).unwrap())).await;
    ask_for(&hub, json!([kube(&[current("view"), current("edit")])])).await;
    hub.eventually("it has another right", |s| bindings(s, "pi-1").len() == 2).await;
    ask_for(&hub, Value::Null).await;
    hub.eventually("it has nothing", |s| {
        bindings(s, "pi-1").is_empty() && secret(s, "pi-1", SECRET).is_none()
    })
    .await;
    let now = hub.snapshot();
    assert!(get(&*now, "root", "rolebindings", "default", "copy").is_some());
    assert!(secret(&*now, "pi-1", "copy").is_some());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_that_ask_for_one_secret_the_first_has_it() {
    let hub = hub(&["pi-1"]).await;
    let own = add_on(&by_placements(Value::Null), &json!([]));
    hub.create("root", "clustermanagementaddons", "", own).await;
    hub.eventually("it is there", |s| installed(s, "pi-1").is_some()).await;
    let group = "system:open-cluster-management:cluster:pi-1:addon:web";
    let (x, y) = (format!("{group}:agent:x"), format!("{group}:agent:y"));
    let one = |user: &str| {
        json!({"signerName": "kubernetes.io/kube-apiserver-client",
            "subject": {"user": user, "groups": [group]}})
    };
    hub.change_status("root", "managedclusteraddons", "pi-1", "web", |it| {
        it["status"]["registrations"] = json!([one(&x), one(&y)]);
        it["status"]["namespace"] = json!("default");
    })
    .await;
    hub.eventually("the other one is told of", |s| {
        let says = |text: &str| says(s, "pi-1", "ClusterCertificateRotated", text);
        says(&format!("registration of {y:?}"))
            && says(&format!("is that of registration of {x:?}"))
            && get(s, "pi-1", "secrets", "default", SECRET).is_some()
    })
    .await;
    let first = get(&*hub.snapshot(), "pi-1", "secrets", "default", SECRET).unwrap();
    assert_eq!(held(&first, "tls.key"), x);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let later = get(&*hub.snapshot(), "pi-1", "secrets", "default", SECRET).unwrap();
    assert_eq!(later, first, "nobody fights for it");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn signers_whose_secrets_have_one_name_are_told_apart() {
    let signer = |name: &str| {
        let mut one = custom("signing-ca");
        one["customSigner"]["signerName"] = json!(name);
        one
    };
    let both = json!([signer("aa.io/bb.cc-e"), signer("aa.io-bb.cc/e")]);
    let hub = registered(&["pi-1"], both).await;
    make_ca(&hub, "theirs").await;
    hub.eventually("the second is told of, with the first", |s| {
        let says = |text: &str| says(s, "pi-1", "RegistrationApplied", text);
        says("by \"aa.io-bb.cc/e\" is left out")
            && says("is that of registration of \"user1\" by \"aa.io/bb.cc-e\"")
            && secret(s, "pi-1", "web-aa.io-bb.cc-e-client-cert").is_some()
    })
    .await;
    let told = &installed(&*hub.snapshot(), "pi-1").unwrap()["status"]["registrations"];
    assert_eq!(
        (told.as_array().unwrap().len(), &told[0]["signerName"]),
        (1, &json!("aa.io/bb.cc-e"))
    );
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_template_leaves_agents_what_they_have() {
    let good = json!([kube(&[current("view")]), custom("signing-ca")]);
    let hub = registered(&["pi-1"], good.clone()).await;
    make_ca(&hub, "theirs").await;
    hub.eventually("it has its credentials", |s| {
        secret(s, "pi-1", SECRET).is_some() && secret(s, "pi-1", CUSTOM_SECRET).is_some()
    })
    .await;
    let keeps = |is_rights: bool| {
        move |s: &dyn Snapshot| {
            let what = "; the agent keeps the rights and credentials that it has";
            says(s, "pi-1", "RegistrationApplied", what)
                && says(s, "pi-1", "RegistrationApplied", "HubPermission type is CurrentCluster")
                    == is_rights
                && reason(&installed(s, "pi-1").unwrap(), "RegistrationApplied")
                    == "SetPermissionFailed"
        }
    };
    let broken = json!([kube(&[json!({"type": "CurrentCluster"})]), custom("signing-ca")]);
    ask_for(&hub, broken).await;
    hub.eventually("that is told", keeps(true)).await;
    let first = secret(&*hub.snapshot(), "pi-1", CUSTOM_SECRET).unwrap();
    tokio::time::sleep(Duration::from_secs(20 * 3600)).await;
    let second = secret(&*hub.snapshot(), "pi-1", CUSTOM_SECRET).unwrap();
    assert_ne!(held(&second, "tls.crt"), held(&first, "tls.crt"), "it is made anew in time");
    hub.delete("addontemplates", "", "web", Propagation::Background).await;
    hub.eventually("that it is gone is told", keeps(false)).await;
    assert!(secret(&*hub.snapshot(), "pi-1", CUSTOM_SECRET).is_some());
    hub.delete_in("pi-1", "secrets", NAMESPACE, SECRET).await;
    hub.eventually("what the hub signs is there again", |s| {
        secret(s, "pi-1", SECRET).is_some() && bindings(s, "pi-1") == [BINDING]
    })
    .await;
    let mut mended = template("1");
    mended["spec"]["registration"] = good;
    hub.create("root", "addontemplates", "", mended).await;
    hub.eventually("it is mended", |s| {
        condition(&installed(s, "pi-1").unwrap(), "RegistrationApplied") == "True"
    })
    .await;
    hub.delete("addontemplates", "", "web", Propagation::Background).await;
    hub.delete("clustermanagementaddons", "", "web", Propagation::Background).await;
    hub.eventually("it goes with the add-on", |s| {
        bindings(s, "pi-1").is_empty()
            && [SECRET, CUSTOM_SECRET].iter().all(|name| secret(s, "pi-1", name).is_none())
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_accepted_has_no_credentials() {
    let hub =
        registered(&["pi-1"], json!([kube(&[current("view"), single("default", "view")])])).await;
    let has = |s: &dyn Snapshot| {
        secret(s, "pi-1", SECRET).is_some()
            && bindings(s, "pi-1") == [BINDING]
            && bindings(s, "default").len() == 1
    };
    hub.eventually("it has its credentials", has).await;
    for (accepts, status) in [(false, "False"), (true, "True")] {
        hub.change("root", "managedclusters", "", "pi-1", |it| {
            it["spec"]["hubAcceptsClient"] = json!(accepts);
        })
        .await;
        hub.eventually("it has what it is to have", |s| {
            let told = installed(s, "pi-1").unwrap();
            let nothing = secret(s, "pi-1", SECRET).is_none()
                && bindings(s, "pi-1").is_empty()
                && bindings(s, "default").is_empty();
            condition(&told, "RegistrationApplied") == status
                && if accepts { has(s) } else { nothing }
        })
        .await;
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_changes_signs_anew() {
    let hub = registered(&["pi-1"], json!([custom("signing-ca")])).await;
    hub.eventually("there is none", |s| {
        says(s, "pi-1", "ClusterCertificateRotated", "\"signing-ca\" not found")
    })
    .await;
    let began = tokio::time::Instant::now();
    make_ca(&hub, "first").await;
    let by = |name: &'static str| {
        move |s: &dyn Snapshot| {
            let signed = secret(s, "pi-1", CUSTOM_SECRET);
            signed.is_some_and(|it| held(&it, "tls.crt").ends_with(name))
        }
    };
    hub.eventually("it is signed", by(" first")).await;
    hub.change("root", "secrets", "default", "signing-ca", |it| {
        it["data"]["tls.crt"] = json!(STANDARD.encode("second"));
    })
    .await;
    hub.eventually("it is signed anew", by(" second")).await;
    assert!(began.elapsed() < Duration::from_secs(30), "who is signed for is woken");
    hub.stop().await;
}

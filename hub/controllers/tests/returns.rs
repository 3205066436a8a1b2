//! What controllers keep comes back when somebody deletes it: one object of each kind, and of each kind of its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{DeleteOptions, ObjectRef, Propagation, WriteOptions};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::{Scope, Snapshot, Stored};
use serde_json::{Value, json};

use crate::hub::{Hub, cluster, condition, deployment, get, list};

/// In which cluster, of which kind, and of which controller; of nobody's the namespace and the name.
type Group = (String, String, String);
/// An object and its kind.
type Found = (&'static Arc<Kind>, Arc<Stored>);

fn owner(stored: &Stored) -> Option<String> {
    let owner = stored.object.header.owners.iter().find(|owner| owner.controller)?;
    Some(format!("{} {}", owner.kind, owner.name))
}

fn group(realm: &str, kind: &Kind, stored: &Stored) -> Group {
    let named = || format!("{}/{}", &*stored.key.namespace, stored.key.name);
    (realm.to_owned(), kind.plural().to_owned(), owner(stored).unwrap_or_else(named))
}

fn stored_kinds() -> impl Iterator<Item = &'static Arc<Kind>> {
    // Events tell of what was, and come back for nobody.
    kinds::all().iter().filter(|kind| {
        !kind.is_view() && kind.verbs.contains(&"delete") && kind.plural() != "events"
    })
}

/// Every object, by its group.
fn census(s: &dyn Snapshot) -> BTreeMap<Group, Vec<Found>> {
    let mut all = BTreeMap::<Group, Vec<_>>::new();
    for realm in ["root", "pi-1"] {
        for kind in stored_kinds() {
            let scope = Scope {
                resource: kind.storage().clone(),
                cluster: Some(cluster(realm)),
                namespace: None,
            };
            for stored in s.range(&scope, None).filter(|stored| !stored.object.header.deleting) {
                all.entry(group(realm, kind, &stored)).or_default().push((kind, stored));
            }
        }
    }
    all
}

fn template(name: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "a:1"}]}})
}

/// What a test makes itself, or somebody in its place.
const PEOPLE_S: [(&str, &str); 13] = [
    ("deployments", "web"),
    ("replicasets", "plain"),
    ("statefulsets", "set"),
    ("replicationcontrollers", "old"),
    ("daemonsets", "agent"),
    ("jobs", "job"),
    ("services", "web"),
    ("services", "plain"),
    ("endpoints", "plain"),
    ("managedclusters", "pi-1"),
    ("managedclustersetbindings", "global"),
    ("placements", "all"),
    ("manifestworkreplicasets", "site"),
];

/// What does not come back by itself: roles that every cluster has from the start until the hub starts again, and a
/// ControllerRevision until its set is looked at, both as upstream; an AppliedManifestWork until its work changes. The
/// range of Services is never gone: it is on its way for ever.
const LATER: [&str; 7] = [
    "appliedmanifestworks",
    "clusterrolebindings",
    "clusterroles",
    "controllerrevisions",
    "rolebindings",
    "roles",
    "servicecidrs",
];

/// Something of each kind that has controllers make more.
async fn people_s(hub: &Hub) {
    let selector = |name: &str| json!({"matchLabels": {"app": name}});
    hub.create("root", "deployments", "default", deployment("web", 2, "a:1")).await;
    for (plural, name) in [("replicasets", "plain"), ("statefulsets", "set")] {
        let spec = json!({"replicas": 2, "selector": selector(name), "template": template(name)});
        let body = json!({"metadata": {"name": name}, "spec": spec});
        hub.create("root", plural, "default", body).await;
    }
    let old = json!({"metadata": {"name": "old"},
        "spec": {"replicas": 1, "template": template("old")}});
    hub.create("root", "replicationcontrollers", "default", old).await;
    let agent = json!({"metadata": {"name": "agent"},
        "spec": {"selector": selector("agent"), "template": template("agent")}});
    hub.create("pi-1", "daemonsets", "default", agent).await;
    let mut once = template("job");
    once["spec"]["restartPolicy"] = json!("Never");
    let job = json!({"metadata": {"name": "job"}, "spec": {"template": once}});
    hub.create("root", "jobs", "default", job).await;
    let chosen = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    hub.create("root", "services", "default", chosen).await;
    let plain = json!({"metadata": {"name": "plain"}, "spec": {"ports": [{"port": 80}]}});
    hub.create("root", "services", "default", plain).await;
    let addresses = json!([{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]);
    let by_hand = json!({"metadata": {"name": "plain"}, "subsets": addresses});
    hub.create("root", "endpoints", "default", by_hand).await;
    let bound = json!({"metadata": {"name": "global"}, "spec": {"clusterSet": "global"}});
    hub.create("root", "managedclustersetbindings", "default", bound).await;
    let all = json!({"metadata": {"name": "all"}, "spec": {}});
    hub.create("root", "placements", "default", all).await;
    let site = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "site", "namespace": "default"}, "data": {"a": "b"}});
    let works = json!({"metadata": {"name": "site"}, "spec": {
        "manifestWorkTemplate": {"workload": {"manifests": [site]}},
        "placementRefs": [{"name": "all"}]}});
    hub.create("root", "manifestworkreplicasets", "default", works).await;
}

/// Who has a pod of each that makes some, and all that is made of others.
fn stands(s: &dyn Snapshot) -> bool {
    let ready = |realm: &str| {
        let pods = list(s, realm, "pods", "default");
        pods.iter().filter(|pod| condition(pod, "Ready") == "True").count()
    };
    ready("root") == 8
        && ready("pi-1") == 1
        && !list(s, "root", "placementdecisions", "default").is_empty()
        && get(s, "pi-1", "configmaps", "default", "site").is_some()
        && list(s, "root", "endpointslices", "default").len() == 3
}

/// Deletes it, and waits until there are as many of its group again, of which it is none.
async fn comes_back(hub: &Hub, group: &Group, (kind, stored): (&Arc<Kind>, &Stored)) -> bool {
    let key = &stored.key;
    let place = ObjectRef {
        kind: kind.clone(),
        cluster: key.cluster.clone(),
        namespace: key.namespace.clone(),
        name: key.name.to_string(),
    };
    let propagation = Some(Propagation::Background);
    let options = DeleteOptions { propagation, ..DeleteOptions::default() };
    let before = census(&*hub.snapshot()).get(group).map_or(0, Vec::len);
    if hub.objects.delete(&WriteOptions::default(), &place, &options).await.is_err() {
        // It cannot be taken away at all.
        return true;
    }
    let (store, uid) = (hub.objects.store().clone(), &stored.object.header.uid);
    let is_back = |s: &dyn Snapshot| {
        let all = census(s).remove(group).unwrap_or_default();
        all.len() == before && all.iter().all(|(_, one)| one.object.header.uid != *uid)
    };
    let wait = async {
        let mut now = store.snapshot();
        while !is_back(&*now) {
            now = store.wait_for(now.revision() + 1).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(900), wait).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_comes_back() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    people_s(&hub).await;
    hub.eventually("all stands", stands).await;
    // Long enough for everything that is late.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut tried = BTreeSet::new();
    let mut lost = Vec::new();
    for (group, all) in census(&*hub.snapshot()) {
        let (kind, stored) = &all[0];
        let of = group.2.split(' ').next().filter(|_| owner(stored).is_some());
        let of = (group.0.clone(), group.1.clone(), of.unwrap_or_default().to_owned());
        if PEOPLE_S.contains(&(kind.plural(), &*stored.key.name)) || !tried.insert(of) {
            continue;
        }
        if !comes_back(&hub, &group, (*kind, &**stored)).await && !LATER.contains(&kind.plural()) {
            lost.push(group);
        }
    }
    assert_eq!(lost, Vec::<Group>::new());
    let kinds: BTreeSet<_> = tried.iter().map(|(_, plural, _)| plural.as_str()).collect();
    for plural in [
        "configmaps",
        "endpoints",
        "endpointslices",
        "manifestworks",
        "nodes",
        "placementdecisions",
        "pods",
        "replicasets",
        "serviceaccounts",
    ] {
        assert!(kinds.contains(plural), "{kinds:?}");
    }
    hub.stop().await;
}

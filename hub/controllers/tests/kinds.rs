//! What kinds of all groups have in common, quotas, and what clusters have from the start, with every controller
//! running.

use crate::hub::{self, Hub, cluster, condition, get, kind, list};
use freewheel_hub_controllers::engine::{Client, Controller as _};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::namespace::NamespaceDeletion;
use freewheel_hub_objects::{DeleteOptions, ObjectRef, Propagation, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, Strategy};
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::{Event, Operation, Snapshot, Txn};
use serde_json::{Value, json};
use std::time::Duration;

async fn make(hub: &Hub, name: &str) -> Result<(), ApiError> {
    let place = ObjectRef {
        kind: kind("configmaps"),
        cluster: cluster("root"),
        namespace: "default".into(),
        name: name.to_owned(),
    };
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    hub.objects.create(&WriteOptions::default(), &place, body).await.map(drop)
}

fn used(s: &dyn Snapshot) -> Value {
    let quota = get(s, "root", "resourcequotas", "default", "q").unwrap_or_default();
    quota["status"]["used"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_quota_counts_what_was_there_and_what_comes_and_goes() {
    let hub = Hub::with_spokes(&[]).await;
    hub.eventually("it has a CA", |s| {
        get(s, "root", "configmaps", "default", "kube-root-ca.crt").is_some()
    })
    .await;
    make(&hub, "a").await.unwrap();
    let hard = json!({"configmaps": "3", "requests.memory": "1Gi"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    hub.create("root", "resourcequotas", "default", quota).await;
    let told = |configs: &'static str| {
        move |s: &dyn Snapshot| used(s) == json!({"configmaps": configs, "requests.memory": "0"})
    };
    hub.eventually("what was there counts", told("2")).await;
    let quota = get(&*hub.snapshot(), "root", "resourcequotas", "default", "q").unwrap();
    assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
    make(&hub, "b").await.unwrap();
    let full = make(&hub, "c").await.unwrap_err();
    assert_eq!(
        full.message,
        "configmaps \"c\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, \
         limited: configmaps=3"
    );
    hub.eventually("what came counts", told("3")).await;
    hub.delete("configmaps", "default", "a", Propagation::Background).await;
    hub.eventually("what went does not", told("2")).await;
    make(&hub, "c").await.unwrap();
    hub.change("root", "resourcequotas", "default", "q", |quota| {
        quota["spec"]["hard"] = json!({"secrets": "1", "pods": "4"});
    })
    .await;
    hub.eventually("it is about others", |s| used(s) == json!({"pods": "0", "secrets": "0"})).await;
    make(&hub, "d").await.unwrap();
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_counts_a_kind_that_is_only_called_as_events_are() {
    let hub = Hub::with_spokes(&[]).await;
    let gvk = Gvk::new("example.com", "v1", "Event");
    let own = hub.objects.kinds().add(&cluster("root"), Kind::new(gvk, "events", Plain)).unwrap();
    let make = async |name: &str| {
        let place = ObjectRef {
            kind: own.clone(),
            cluster: cluster("root"),
            namespace: "default".into(),
            name: name.to_owned(),
        };
        let body =
            json!({"apiVersion": "example.com/v1", "kind": "Event", "metadata": {"name": name}});
        hub.objects.create(&WriteOptions::default(), &place, body).await.map(drop)
    };
    let counts = |count: &'static str| {
        move |s: &dyn Snapshot| used(s) == json!({"count/events.example.com": count})
    };
    make("first").await.unwrap();
    let hard = json!({"count/events.example.com": "2"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    hub.create("root", "resourcequotas", "default", quota).await;
    hub.eventually("what was there counts", counts("1")).await;
    make("second").await.unwrap();
    let full = make("third").await.unwrap_err();
    assert!(full.message.contains("exceeded quota: q"), "{}", full.message);
    hub.eventually("what came counts", counts("2")).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_gives_its_place_in_a_quota_back() {
    let hub = Hub::with_spokes(&[]).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "cpu": "1"}}});
    hub.create("root", "resourcequotas", "default", quota).await;
    hub.eventually("it is in force", |s| used(s) == json!({"cpu": "0", "pods": "0"})).await;
    let container = json!({"name": "c", "image": "x", "resources": {"requests": {"cpu": "250m"}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    hub.create("root", "pods", "default", pod).await;
    hub.eventually("it counts", |s| used(s) == json!({"cpu": "250m", "pods": "1"})).await;
    hub.change_status("root", "pods", "default", "p", |pod| {
        pod["status"]["phase"] = json!("Succeeded");
    })
    .await;
    hub.eventually("it is through", |s| used(s) == json!({"cpu": "0", "pods": "0"})).await;
    hub.stop().await;
}

/// After a minute the next try is forty seconds off.
#[tokio::test(start_paused = true)]
async fn a_set_that_a_quota_holds_back_waits_for_its_back_off() {
    for plural in ["replicasets", "replicationcontrollers", "daemonsets", "statefulsets", "jobs"] {
        let hub = Hub::with_spokes(&["pi-7", "pi-8"]).await;
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
        hub.create("root", "resourcequotas", "default", quota).await;
        hub.eventually("it is in force", |s| used(s) == json!({"pods": "0"})).await;
        hub.create("root", plural, "default", set_of_three(plural)).await;
        hub.eventually("it is refused", |s| refusals(s) != 0).await;
        // A loop without rests never lets the time go on, but has written so often soon.
        let store = hub.objects.store().clone();
        let first = refusals(&*hub.snapshot());
        let writes = async {
            let mut now = store.snapshot();
            for _ in 0..400 {
                now = store.wait_for(now.revision() + 1).await;
            }
        };
        let restless = tokio::time::timeout(Duration::from_secs(60), writes).await.is_ok();
        assert!(!restless, "{plural} writes all the time");
        let more = refusals(&*hub.snapshot()) - first;
        assert!((1..=20).contains(&more), "{plural} was refused {more} times");
        hub.stop().await;
    }
}

/// How often it was said that a pod could not be made.
fn refusals(s: &dyn Snapshot) -> i64 {
    let events = list(s, "root", "events", "default");
    let refused = events.iter().filter(|event| event["reason"] == "FailedCreate");
    refused.filter_map(|event| event["count"].as_i64()).sum()
}

/// Something that wants more than one pod, whatever kind it is.
fn set_of_three(plural: &str) -> Value {
    let container = json!({"name": "c", "image": "x"});
    let template = json!({
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]},
    });
    let selector = json!({"matchLabels": {"app": "web"}});
    let spec = match plural {
        "replicationcontrollers" => {
            json!({"replicas": 3, "selector": {"app": "web"}, "template": template})
        }
        "daemonsets" => json!({"selector": selector, "template": template}),
        "statefulsets" => json!({
            "replicas": 3, "selector": selector, "template": template,
            "podManagementPolicy": "Parallel", "serviceName": "web",
        }),
        "jobs" => {
            let mut template = template;
            template["spec"]["restartPolicy"] = json!("Never");
            json!({"parallelism": 3, "completions": 3, "template": template})
        }
        _ => json!({"replicas": 3, "selector": selector, "template": template}),
    };
    json!({"metadata": {"name": "web"}, "spec": spec})
}

#[tokio::test(start_paused = true)]
async fn clusters_have_their_classes_and_levels_from_the_start() {
    let hub = Hub::with_spokes(&["pi-7"]).await;
    let value = |s: &dyn Snapshot, realm: &str| {
        let class = get(s, realm, "priorityclasses", "", "system-node-critical");
        class.map(|class| class["value"].clone())
    };
    for realm in ["root", "pi-7"] {
        hub.eventually("there are classes", |s| value(s, realm) == Some(json!(2_000_001_000)))
            .await;
    }
    hub.eventually("the root has levels and services", |s| {
        get(s, "root", "flowschemas", "", "catch-all").is_some()
            && get(s, "root", "prioritylevelconfigurations", "", "exempt").is_some()
            && get(s, "root", "apiservices", "", "v1.apps").is_some()
    })
    .await;
    let local = get(&*hub.snapshot(), "root", "apiservices", "", "v1.apps").unwrap();
    assert_eq!(hub::condition(&local, "Available"), "True");
    hub.delete("flowschemas", "", "catch-all", Propagation::Background).await;
    hub.eventually("what has to be there comes back", |s| {
        get(s, "root", "flowschemas", "", "catch-all").is_some()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_root_has_what_tools_for_open_cluster_management_look_for() {
    let hub = Hub::with_spokes(&["pi-7"]).await;
    let (namespace, account) = ("open-cluster-management", "agent-registration-bootstrap");
    let established = |s: &dyn Snapshot, name: &str| {
        let definition = get(s, "root", "customresourcedefinitions", "", name);
        definition.is_some_and(|it| condition(&it, "Established") == "True")
    };
    hub.eventually("the root has definitions, and whom agents ask as", |s| {
        established(s, "clustermanagers.operator.open-cluster-management.io")
            && established(s, "klusterlets.operator.open-cluster-management.io")
            && established(s, "managedclusters.cluster.open-cluster-management.io")
            && get(s, "root", "serviceaccounts", namespace, account).is_some()
            && get(s, "root", "clusterroles", "", "open-cluster-management:bootstrap").is_some()
    })
    .await;
    let binding = "open-cluster-management:bootstrap:agent-registration";
    let binding = get(&*hub.snapshot(), "root", "clusterrolebindings", "", binding).unwrap();
    assert_eq!(binding["subjects"][0]["name"], account);
    let of_spoke = list(&*hub.snapshot(), "pi-7", "customresourcedefinitions", "");
    assert_eq!(of_spoke, Vec::<Value>::new(), "there are thousands of them");
    // Whoever takes it away has ended what was given out under it.
    let before = get(&*hub.snapshot(), "root", "serviceaccounts", namespace, account).unwrap();
    hub.delete("serviceaccounts", namespace, account, Propagation::Background).await;
    hub.eventually("there is another one", |s| {
        let now = get(s, "root", "serviceaccounts", namespace, account);
        now.is_some_and(|now| now["metadata"]["uid"] != before["metadata"]["uid"])
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn levels_are_the_hubs_until_somebody_says_no() {
    let hub = Hub::with_spokes(&[]).await;
    let (plural, name) = ("prioritylevelconfigurations", "workload-low");
    let shares = |s: &dyn Snapshot| {
        let level = get(s, "root", plural, "", name)?;
        level["spec"]["limited"]["nominalConcurrencyShares"].as_u64()
    };
    hub.eventually("it is there", |s| shares(s) == Some(100)).await;
    let more = |level: &mut Value| {
        level["spec"]["limited"]["nominalConcurrencyShares"] = json!(300);
    };
    hub.change("root", plural, "", name, more).await;
    hub.eventually("it is again what it was", |s| shares(s) == Some(100)).await;
    hub.change("root", plural, "", name, |level| {
        level["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] = json!("false");
        more(level);
    })
    .await;
    // Something that is kept comes after it.
    hub.change("root", "flowschemas", "", "service-accounts", |schema| {
        schema["spec"]["matchingPrecedence"] = json!(8_000);
    })
    .await;
    let precedence = |s: &dyn Snapshot| {
        let schema = get(s, "root", "flowschemas", "", "service-accounts")?;
        schema["spec"]["matchingPrecedence"].as_u64()
    };
    hub.eventually("the other is kept", |s| precedence(s) == Some(9_000)).await;
    assert_eq!(shares(&*hub.snapshot()), Some(300), "this one is somebody's");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flow_schema_says_whether_its_level_is_there() {
    let hub = Hub::with_spokes(&["pi-7"]).await;
    let schema = |name: &str, level: &str| {
        json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": 700,
            "priorityLevelConfiguration": {"name": level}}})
    };
    for (name, level) in [("own", "site"), ("common", "workload-low")] {
        hub.create("pi-7", "flowschemas", "", schema(name, level)).await;
    }
    let says = |s: &dyn Snapshot, name: &str, status: &str, reason: &str, end: &str| {
        let schema = get(s, "pi-7", "flowschemas", "", name).unwrap();
        let condition = &schema["status"]["conditions"][0];
        let message = condition["message"].as_str().unwrap_or_default();
        (&condition["type"], &condition["status"], &condition["reason"])
            == (&json!("Dangling"), &json!(status), &json!(reason))
            && message.ends_with(end)
    };
    let exists = |name: &str| format!("named \"{name}\" and it exists");
    let lost = "named \"site\" but there is no such object";
    hub.eventually("one has no level", |s| says(s, "own", "True", "NotFound", lost)).await;
    let suggested = exists("workload-low");
    hub.eventually("the other one's is suggested", |s| {
        says(s, "common", "False", "Found", &suggested)
    })
    .await;
    let level = json!({"metadata": {"name": "site"}, "spec": {"type": "Limited",
        "limited": {"limitResponse": {"type": "Reject"}}}});
    hub.create("pi-7", "prioritylevelconfigurations", "", level).await;
    let own = exists("site");
    hub.eventually("it has come", |s| says(s, "own", "False", "Found", &own)).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flow_schema_says_that_its_level_is_one_too_many() {
    let hub = Hub::with_spokes(&["pi-7"]).await;
    let level = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Reject"}}}})
    };
    for number in 0..100 {
        let level = level(&format!("l-{number:03}"));
        hub.create("pi-7", "prioritylevelconfigurations", "", level).await;
    }
    for (name, of) in [("first", "l-000"), ("last", "l-099")] {
        let schema = json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": 700,
            "priorityLevelConfiguration": {"name": of}}});
        hub.create("pi-7", "flowschemas", "", schema).await;
    }
    let says = |s: &dyn Snapshot, name: &str| {
        let schema = get(s, "pi-7", "flowschemas", "", name).unwrap();
        let all = schema["status"]["conditions"].as_array().into_iter().flatten();
        let condition = all.into_iter().find(|it| it["type"] == "Dangling").cloned();
        let condition = condition.unwrap_or_default();
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", text("status"), text("reason"))
    };
    hub.eventually("one acts", |s| says(s, "first") == "False Found").await;
    hub.eventually("one is too many", |s| says(s, "last") == "True TooManyLevels").await;
    hub.change_status("pi-7", "flowschemas", "", "last", |schema| {
        let other = json!({"type": "Other", "status": "True", "reason": "Own", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let own = schema["status"]["conditions"][0].clone();
        schema["status"]["conditions"] = json!([other, own]);
    })
    .await;
    for number in 0..20 {
        let name = format!("l-{number:03}");
        hub.delete_in("pi-7", "prioritylevelconfigurations", "", &name).await;
    }
    hub.eventually("there is room for it", |s| says(s, "last") == "False Found").await;
    hub.eventually("its own is gone", |s| says(s, "first") == "True NotFound").await;
    for number in 0..20 {
        let level = level(&format!("k-{number:03}"));
        hub.create("pi-7", "prioritylevelconfigurations", "", level).await;
    }
    hub.eventually("others are before it", |s| says(s, "last") == "True TooManyLevels").await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_keeps_its_number_and_lets_pods_go() {
    let hub = Hub::with_spokes(&["pi-7"]).await;
    let labels = json!({"app": "old"});
    let template = json!({"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let sent = json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "template": template}});
    let made = hub.create("root", "replicationcontrollers", "default", sent).await;
    let pods = |s: &dyn Snapshot| list(s, "root", "pods", "default");
    let owned = |s: &dyn Snapshot| {
        let uid = &made["metadata"]["uid"];
        let is_own = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"] == *uid;
        pods(s).into_iter().filter(is_own).collect::<Vec<_>>()
    };
    let controller = |s: &dyn Snapshot| get(s, "root", "replicationcontrollers", "default", "old");
    hub.eventually("both are ready, and it says so", |s| {
        controller(s).unwrap()["status"]["readyReplicas"] == 2
    })
    .await;
    let lost = owned(&*hub.snapshot()).remove(0);
    let lost = lost["metadata"]["name"].as_str().unwrap();
    hub.change("root", "pods", "default", lost, |pod| {
        pod["metadata"]["labels"] = json!({"app": "new"});
    })
    .await;
    hub.eventually("who leaves is replaced and stays", |s| {
        owned(s).len() == 2 && pods(s).len() == 3
    })
    .await;
    hub.change("root", "replicationcontrollers", "default", "old", |it| {
        it["spec"]["replicas"] = json!(1);
    })
    .await;
    hub.eventually("one is too many", |s| pods(s).len() == 2).await;
    let place = ObjectRef {
        kind: kind("replicationcontrollers"),
        cluster: cluster("root"),
        namespace: "default".into(),
        name: "old".to_owned(),
    };
    hub.objects.delete(&WriteOptions::default(), &place, &DeleteOptions::default()).await.unwrap();
    hub.eventually("it goes", |s| controller(s).is_none()).await;
    let left = pods(&*hub.snapshot());
    assert_eq!(left.len(), 2, "and leaves its pods, as nothing else was said");
    assert!(left.iter().all(|pod| pod["metadata"]["ownerReferences"].is_null()));
    hub.stop().await;
}

/// One kind of each group that has some in namespaces.
const IN_NAMESPACES: &[&str] = &[
    "podtemplates",
    "persistentvolumeclaims",
    "statefulsets",
    "cronjobs",
    "horizontalpodautoscalers",
    "ingresses",
    "poddisruptionbudgets",
    "csistoragecapacities",
    "resourceclaims",
];

fn body(plural: &str) -> Value {
    let pods = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "x"}]}});
    let mut once = pods.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let selector = json!({"matchLabels": {"a": "b"}});
    let spec = match plural {
        "podtemplates" => return json!({"template": pods}),
        "csistoragecapacities" => return json!({"storageClassName": "s"}),
        "persistentvolumeclaims" => {
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
        }
        "statefulsets" => json!({"selector": selector, "template": pods, "serviceName": "s"}),
        "cronjobs" => {
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": once}}})
        }
        "horizontalpodautoscalers" => {
            json!({"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}})
        }
        "ingresses" => {
            json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}})
        }
        "poddisruptionbudgets" => json!({"selector": selector, "minAvailable": 1}),
        _ => json!({}),
    };
    json!({"spec": spec})
}

#[tokio::test(start_paused = true)]
async fn kinds_of_all_groups_go_with_their_owner_and_their_namespace() {
    let hub = Hub::with_spokes(&[]).await;
    let owner = json!({"metadata": {"name": "owner"}});
    let owner = hub.create("root", "configmaps", "default", owner).await;
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
        "uid": owner["metadata"]["uid"]}]);
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "attic"}})).await;
    for plural in IN_NAMESPACES {
        let mut one = body(plural);
        one["metadata"] = json!({"name": "x"});
        hub.create("root", plural, "attic", one.clone()).await;
        one["metadata"]["ownerReferences"] = reference.clone();
        hub.create("root", plural, "default", one).await;
    }
    let left = |s: &dyn Snapshot, namespace: &str| {
        IN_NAMESPACES.iter().map(|plural| list(s, "root", plural, namespace).len()).sum::<usize>()
    };
    assert_eq!(left(&*hub.snapshot(), "default"), IN_NAMESPACES.len());
    hub.delete("configmaps", "default", "owner", Propagation::Background).await;
    hub.eventually("what it owned is gone", |s| left(s, "default") == 0).await;
    assert_eq!(left(&*hub.snapshot(), "attic"), IN_NAMESPACES.len());
    hub.delete("namespaces", "", "attic", Propagation::Background).await;
    hub.eventually("what lay in it is gone", |s| left(s, "attic") == 0).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_cluster_shows_the_range_of_its_services() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let ready = |s: &dyn Snapshot, realm: &str, is: &str| {
        get(s, realm, "servicecidrs", "", "kubernetes").is_some_and(|range| {
            range["spec"]["cidrs"] == json!(["10.128.0.0/12"])
                && range["metadata"]["finalizers"]
                    == json!(["networking.k8s.io/service-cidr-finalizer"])
                && condition(&range, "Ready") == is
        })
    };
    hub.eventually("both show it", |s| {
        ["root", "pi-1"].iter().all(|realm| ready(s, realm, "True"))
    })
    .await;
    hub.delete("servicecidrs", "", "kubernetes", Propagation::Background).await;
    hub.eventually("it stays, and says why", |s| {
        let range = get(s, "root", "servicecidrs", "", "kubernetes").unwrap();
        range["metadata"]["deletionTimestamp"].is_string()
            && range["status"]["conditions"][0]["reason"] == "Terminating"
            && ready(s, "root", "False")
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_object_of_an_address_that_is_held_comes_back() {
    let hub = Hub::with_spokes(&[]).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.128.0.9",
        "ports": [{"port": 80}]}});
    hub.create("root", "services", "default", service).await;
    let shown = |s: &dyn Snapshot| get(s, "root", "ipaddresses", "", "10.128.0.9");
    let first = shown(&*hub.snapshot()).unwrap();
    hub.delete("ipaddresses", "", "10.128.0.9", Propagation::Background).await;
    hub.eventually("another one is there", |s| {
        shown(s).is_some_and(|again| {
            again["metadata"]["uid"] != first["metadata"]["uid"]
                && again["metadata"]["labels"] == first["metadata"]["labels"]
                && again["spec"] == first["spec"]
        })
    })
    .await;
    hub.delete("services", "default", "web", Propagation::Background).await;
    hub.eventually("it goes with its Service", |s| shown(s).is_none()).await;
    hub.stop().await;
}

struct Plain;

impl Strategy for Plain {}

#[tokio::test(start_paused = true)]
async fn no_namespace_goes_with_an_object_of_its_name() {
    let hub = Hub::with_spokes(&["pi-1", "pi-2"]).await;
    let widgets = Resource::new("example.com", "widgets");
    let own = || Kind::new(Gvk::new("example.com", "v1", "Widget"), "widgets", Plain);
    for (name, kind) in [("pi-1", own().cluster_scoped()), ("pi-2", own())] {
        hub.objects.kinds().put(&cluster(name), &widgets, vec![kind]).unwrap();
    }
    hub.create("pi-1", "namespaces", "", json!({"metadata": {"name": "prod"}})).await;
    hub.create("pi-1", "configmaps", "prod", json!({"metadata": {"name": "kept"}})).await;
    let widget = Key::new(&widgets, &cluster("pi-1"), "", "prod");
    let finalizers = vec!["example.com/hold".to_owned()];
    let header = Header { deleting: true, finalizers, ..Header::default() };
    let object = Object { header, body: "{}".into() };
    let operations = vec![Operation::Put(widget.clone(), object)];
    hub.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    let recorder = Recorder::channel(&hub.objects).0;
    let client = Client::new(hub.objects.clone(), "namespace-controller", recorder);
    let controller = NamespaceDeletion::new(client).unwrap();
    let now = hub.snapshot().get(&widget);
    let event = Event { revision: hub.snapshot().revision(), now, before: None };
    for key in controller.keys(&event, &*hub.snapshot()).iter().chain([&widget]) {
        controller.reconcile(key).await.unwrap();
        let kept = get(&*hub.snapshot(), "pi-1", "configmaps", "prod", "kept");
        assert!(kept.is_some(), "{key:?} empties the namespace of its name");
    }
    hub.stop().await;
}

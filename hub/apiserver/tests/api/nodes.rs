//! What a node may read and write through the API: what its own pods need, and what it has to say of itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_link::names::ClusterName;
use rcgen::{DnType, DnValue};
use serde_json::{Value, json};

use crate::roles::made;
use crate::signing_requests::named;
use crate::support::{Client, Hub, bootstrap, create, create_in};

const HERE: &str = "/api/v1/namespaces/default";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CSI_NODES: &str = "/apis/storage.k8s.io/v1/csinodes";

fn node(hub: &Hub, name: &str) -> Client {
    hub.client(Some(&hub.authority.client(&format!("system:node:{name}"), "system:nodes")))
}

/// A pod that is bound to a node and needs what is called like it.
fn pod(name: &str, on: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": on, "serviceAccountName": name,
            "containers": [{"name": "c", "image": "hello:1",
                "envFrom": [{"secretRef": {"name": name}}, {"configMapRef": {"name": name}}]}],
            "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": name}},
                {"name": "t", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "t", "audience": "vault"}},
                ]}},
            ],
        },
    })
}

/// Two nodes, each with a pod that needs something of each kind.
async fn hub() -> Hub {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for namespace in ["kube-node-lease", "other"] {
        made(&admin.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await);
    }
    for (name, on) in [("mine", "pi-7"), ("theirs", "pi-8")] {
        made(&admin.post("/api/v1/nodes", &json!({"metadata": {"name": on}})).await);
        let named = json!({"metadata": {"name": name}});
        for plural in ["secrets", "configmaps", "serviceaccounts"] {
            made(&admin.post(&format!("{HERE}/{plural}"), &named).await);
        }
        let secret = json!({"metadata": {"name": format!("disk-of-{name}")}});
        made(&admin.post("/api/v1/namespaces/other/secrets", &secret).await);
        let resources = json!({"requests": {"storage": "1Gi"}});
        let claim = json!({"metadata": {"name": name}, "spec": {"volumeName": name,
            "accessModes": ["ReadWriteOnce"], "resources": resources}});
        made(&admin.post(&format!("{HERE}/persistentvolumeclaims"), &claim).await);
        let volume = json!({"metadata": {"name": name}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "default", "name": name},
            "csi": {"driver": "d", "volumeHandle": "h", "nodeStageSecretRef":
                {"namespace": "other", "name": format!("disk-of-{name}")}},
        }});
        made(&admin.post("/api/v1/persistentvolumes", &volume).await);
        made(&admin.post(&format!("{HERE}/pods"), &pod(name, on)).await);
    }
    hub
}

#[tokio::test]
async fn a_node_reads_what_its_own_pods_need_and_nothing_else() {
    let hub = hub().await;
    let pi = node(&hub, "pi-7");
    for (path, mine) in [
        (format!("{HERE}/secrets"), true),
        (format!("{HERE}/configmaps"), true),
        (format!("{HERE}/serviceaccounts"), true),
        (format!("{HERE}/persistentvolumeclaims"), true),
        (format!("{HERE}/pods"), true),
        ("/api/v1/persistentvolumes".to_owned(), true),
        ("/api/v1/namespaces/other/secrets/disk-of-mine".to_owned(), false),
    ] {
        if mine {
            assert_eq!(pi.get(&format!("{path}/mine")).await.code, 200, "{path}");
            let refused = pi.get(&format!("{path}/theirs")).await;
            assert_eq!(refused.code, 403, "{path}");
            let why = "no relationship found between node 'pi-7' and this object";
            assert!(refused.text().contains(why), "{}", refused.text());
            assert_eq!(pi.get(&path).await.code, 403, "all of {path}");
        } else {
            assert_eq!(pi.get(&path).await.code, 200, "{path}");
        }
    }
    assert_eq!(pi.get("/api/v1/namespaces/other/secrets/disk-of-theirs").await.code, 403);
    for (path, code) in [
        (format!("{HERE}/secrets?fieldSelector=metadata.name%3Dmine"), 200),
        (format!("{HERE}/secrets?fieldSelector=metadata.name%3Dtheirs"), 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dpi-7".to_owned(), 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dpi-8".to_owned(), 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%21%3Dpi-7".to_owned(), 403),
        // A path that names an object shows that one, whatever its selector says.
        (
            "/api/v1/watch/namespaces/default/pods/theirs?fieldSelector=spec.nodeName%3Dpi-7"
                .to_owned(),
            403,
        ),
        // And so it is of all that begin with `watch/`.
        ("/api/v1/watch/pods?fieldSelector=spec.nodeName%3Dpi-7&timeoutSeconds=1".to_owned(), 403),
        (
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dpi-7&timeoutSeconds=1".to_owned(),
            200,
        ),
        ("/api/v1/nodes/pi-7".to_owned(), 200),
        ("/api/v1/nodes/pi-8".to_owned(), 403),
        ("/api/v1/nodes".to_owned(), 403),
        ("/api/v1/services".to_owned(), 200),
        (format!("{HERE}/pods/mine/log"), 403),
    ] {
        assert_eq!(pi.get(&path).await.code, code, "{path}");
    }
    // Who says so without being in the group is nobody in particular.
    let alone = hub.client(Some(&hub.authority.client("system:node:pi-7", "people")));
    assert_eq!(alone.get(&format!("{HERE}/secrets/mine")).await.code, 403);
    // What its pod needs it may read as long as that is there.
    made(&hub.admin().delete(&format!("{HERE}/pods/mine?gracePeriodSeconds=0")).await);
    assert_eq!(pi.get(&format!("{HERE}/secrets/mine")).await.code, 403);
    made(&hub.admin().post(&format!("{HERE}/pods"), &pod("mine", "pi-7")).await);
    assert_eq!(pi.get(&format!("{HERE}/secrets/mine")).await.code, 200);
}

#[tokio::test]
async fn a_node_of_the_root_is_nobody_in_another_cluster() {
    let hub = Hub::start().await;
    let group = "cluster.open-cluster-management.io/v1";
    let body = json!({"metadata": {"name": "pi-7"}, "spec": {"hubAcceptsClient": true}});
    create(&hub.objects, group, "ManagedCluster", body).await;
    let cluster = ClusterName::try_from("pi-7").unwrap();
    bootstrap(&hub.objects, &cluster).await;
    for (kind, value) in [
        ("Namespace", json!({"metadata": {"name": "default"}})),
        ("Node", json!({"metadata": {"name": "pi-7"}})),
        ("Secret", json!({"metadata": {"name": "s", "namespace": "default"}})),
        (
            "Pod",
            json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "pi-7",
            "imagePullSecrets": [{"name": "s"}], "containers": [{"name": "c", "image": "hello:1"}]}}),
        ),
    ] {
        create_in(&hub.objects, &cluster, ("v1", kind), value).await;
    }
    let pi = node(&hub, "pi-7");
    for path in ["nodes/pi-7", "namespaces/default/secrets/s", "namespaces/default/pods/p"] {
        assert_eq!(pi.get(&format!("/clusters/pi-7/api/v1/{path}")).await.code, 403, "{path}");
    }
}

/// A refusal with this in its words.
#[track_caller]
fn refused(answer: &crate::support::Answer, why: &str) {
    assert_eq!(answer.code, 403, "{}", answer.text());
    let said = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(said.ends_with(why), "{said}");
}

#[tokio::test]
async fn a_node_writes_of_itself_and_its_pods_and_nothing_else() {
    let hub = hub().await;
    let pi = node(&hub, "pi-7");
    let phase = json!({"status": {"phase": "Running"}});
    let merge = "merge-patch+json";
    made(&pi.patch(&format!("{HERE}/pods/mine/status"), merge, &phase).await);
    refused(
        &pi.patch(&format!("{HERE}/pods/theirs/status"), merge, &phase).await,
        r#"node "pi-7" can only update pod status for pods with spec.nodeName set to itself"#,
    );
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    refused(
        &pi.patch(&format!("{HERE}/pods/mine/status"), merge, &labels).await,
        r#"node "pi-7" cannot update labels through pod status"#,
    );
    assert_eq!(pi.patch(&format!("{HERE}/pods/mine"), merge, &labels).await.code, 403);
    refused(
        &pi.delete(&format!("{HERE}/pods/theirs")).await,
        r#"node "pi-7" can only delete pods with spec.nodeName set to itself"#,
    );
    let eviction = |name: &str| json!({"metadata": {"name": name}});
    refused(
        &pi.post(&format!("{HERE}/pods/theirs/eviction"), &eviction("theirs")).await,
        "node pi-7 can only evict pods with spec.nodeName set to itself",
    );
    made(&pi.post(&format!("{HERE}/pods/mine/eviction"), &eviction("mine")).await);
    // What it has beside being a node gives it no more.
    let all = json!({"metadata": {"name": "all"}, "roleRef": {"kind": "ClusterRole",
        "apiGroup": "rbac.authorization.k8s.io", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"}]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    made(&hub.admin().post(bindings, &all).await);
    refused(
        &pi.patch("/api/v1/nodes/pi-8", merge, &labels).await,
        r#"node "pi-7" is not allowed to modify node "pi-8""#,
    );
    refused(
        &pi.patch(&format!("{HERE}/pods/theirs"), merge, &labels).await,
        r#"unexpected operation "UPDATE", node "pi-7" can only create and delete mirror pods"#,
    );
    refused(
        &pi.patch(&format!("{HERE}/persistentvolumeclaims/mine"), merge, &labels).await,
        "may only update PVC status",
    );
    let claim = format!("{HERE}/persistentvolumeclaims/mine/status");
    made(&pi.patch(&claim, merge, &json!({"status": {"capacity": {"storage": "2Gi"}}})).await);
    let bound = json!({"status": {"phase": "Bound"}});
    assert_eq!(pi.patch(&claim, merge, &bound).await.code, 403);
}

#[tokio::test]
async fn a_node_makes_leases_and_csi_nodes_of_its_own_name_alone() {
    let hub = hub().await;
    let pi = node(&hub, "pi-7");
    let named = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    let csi = |name: &str| json!({"metadata": {"name": name}, "spec": {"drivers": []}});
    for (path, body, why) in [
        (
            LEASES,
            named("pi-8"),
            "can only access node lease with the same name as the requesting node",
        ),
        (
            CSI_NODES,
            csi("pi-8"),
            "can only access CSINode with the same name as the requesting node",
        ),
    ] {
        refused(&pi.post(path, &body).await, why);
    }
    made(&pi.post(CSI_NODES, &csi("pi-7")).await);
    assert_eq!(pi.get(&format!("{CSI_NODES}/pi-7")).await.code, 200);
    assert_eq!(pi.get(&format!("{CSI_NODES}/pi-8")).await.code, 403);
    let elsewhere = LEASES.replace("kube-node-lease", "default");
    refused(
        &pi.post(&elsewhere, &named("pi-7")).await,
        r#"can only access leases in the "kube-node-lease" system namespace"#,
    );
}

#[tokio::test]
async fn a_node_makes_slices_that_name_it_alone() {
    let hub = hub().await;
    let pi = node(&hub, "pi-7");
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
    let slice = |node: &str| {
        json!({"metadata": {"name": format!("of-{node}")},
            "spec": {"driver": "gpu.example.com", "nodeName": node, "pool": pool}})
    };
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    refused(
        &pi.post(slices, &slice("pi-8")).await,
        "can only create ResourceSlice with the same NodeName as the requesting node",
    );
    made(&pi.post(slices, &slice("pi-7")).await);
}

#[tokio::test]
async fn a_node_makes_mirror_pods_of_its_own_alone() {
    let hub = hub().await;
    let pi = node(&hub, "pi-7");
    let uid = pi.get("/api/v1/nodes/pi-7").await.json()["metadata"]["uid"].clone();
    let owner =
        json!({"apiVersion": "v1", "kind": "Node", "name": "pi-7", "uid": uid, "controller": true});
    let mirror = json!({
        "metadata": {"name": "static", "ownerReferences": [owner],
            "annotations": {"kubernetes.io/config.mirror": "h"}},
        "spec": {"nodeName": "pi-7", "containers": [{"name": "c", "image": "hello:1"}]},
    });
    let pods = format!("{HERE}/pods");
    let cases: [(&str, Value, &str); 6] = [
        (
            "/metadata/annotations",
            json!({}),
            r#"pod does not have "kubernetes.io/config.mirror" annotation, node "pi-7" can only create mirror pods"#,
        ),
        (
            "/spec/nodeName",
            json!("pi-8"),
            r#"node "pi-7" can only create pods with spec.nodeName set to itself"#,
        ),
        (
            "/metadata/ownerReferences",
            json!([]),
            r#"node "pi-7" can only create pods with an owner reference set to itself"#,
        ),
        (
            "/metadata/ownerReferences/0/controller",
            json!(false),
            r#"node "pi-7" can only create pods with a controller owner reference set to itself"#,
        ),
        ("/metadata/ownerReferences/0/uid", json!("u"), "mismatch: expected u got UID"),
        (
            "/spec/containers/0",
            json!({"name": "c", "image": "hello:1",
            "envFrom": [{"configMapRef": {"name": "theirs"}}]}),
            r#"node "pi-7" can not create pods that reference configmaps"#,
        ),
    ];
    for (path, value, why) in cases {
        let mut wrong = mirror.clone();
        *wrong.pointer_mut(path).unwrap() = value;
        refused(&pi.post(&pods, &wrong).await, &why.replace("UID", uid.as_str().unwrap()));
    }
    made(&pi.post(&pods, &mirror).await);
    assert_eq!(pi.get(&format!("{pods}/static")).await.code, 200);
    made(&pi.delete(&format!("{pods}/static?gracePeriodSeconds=0")).await);
}

#[tokio::test]
async fn a_node_sets_no_label_that_others_decide_by() {
    let hub = hub().await;
    let (pi, new) = (node(&hub, "pi-7"), node(&hub, "pi-9"));
    let labelled = |key: &str| json!({"metadata": {"name": "pi-9", "labels": {key: "x"}}});
    refused(
        &new.post("/api/v1/nodes", &labelled("node-restriction.kubernetes.io/a")).await,
        r#"node "pi-9" is not allowed to set the following labels: node-restriction.kubernetes.io/a"#,
    );
    made(&new.post("/api/v1/nodes", &labelled("example.com/site")).await);
    let merge = "merge-patch+json";
    for path in ["/api/v1/nodes/pi-7", "/api/v1/nodes/pi-7/status"] {
        let label = json!({"metadata": {"labels": {"node-role.kubernetes.io/x": ""}}});
        refused(
            &pi.patch(path, merge, &label).await,
            "is not allowed to modify labels: node-role.kubernetes.io/x",
        );
    }
    let taints = json!({"spec": {"taints": []}});
    let tainted = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    made(&hub.admin().patch("/api/v1/nodes/pi-7", merge, &tainted).await);
    refused(
        &pi.patch("/api/v1/nodes/pi-7", merge, &taints).await,
        r#"node "pi-7" is not allowed to modify taints"#,
    );
    made(
        &pi.patch("/api/v1/nodes/pi-7", merge, &json!({"metadata": {"labels": {"site": "x"}}}))
            .await,
    );
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    made(&pi.patch("/api/v1/nodes/pi-7/status", merge, &ready).await);
}

#[tokio::test]
async fn a_node_gets_tokens_of_its_own_pods_alone() {
    let hub = hub().await;
    let pi = node(&hub, "pi-7");
    let uid = |name: &'static str| {
        let admin = hub.admin();
        async move {
            let pod = admin.get(&format!("{HERE}/pods/{name}")).await.json();
            pod["metadata"]["uid"].as_str().unwrap().to_owned()
        }
    };
    let (mine, theirs) = (uid("mine").await, uid("theirs").await);
    let spec = |pod: &str, uid: &str, audience: &str| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
        json!({"spec": {"boundObjectRef": bound, "audiences": [audience]}})
    };
    let token = format!("{HERE}/serviceaccounts/mine/token");
    made(&pi.post(&token, &spec("mine", &mine, "vault")).await);
    refused(
        &pi.post(&token, &json!({"spec": {}})).await,
        "node requested token not bound to a pod",
    );
    refused(
        &pi.post(&token, &spec("mine", "", "vault")).await,
        "node requested token with a pod binding without a uid",
    );
    refused(
        &pi.post(&token, &spec("theirs", &theirs, "vault")).await,
        "node requested token bound to a pod scheduled on a different node",
    );
    refused(
        &pi.post(&token, &spec("mine", &mine, "bank")).await,
        r#"audience "bank" not found in pod spec volume, system:node:pi-7 is not authorized to request tokens for this audience"#,
    );
    let other = format!("{HERE}/serviceaccounts/theirs/token");
    assert_eq!(pi.post(&other, &spec("theirs", &theirs, "vault")).await.code, 403);
}

#[tokio::test]
async fn a_review_says_of_a_node_what_it_is_answered() {
    let hub = hub().await;
    let admin = hub.admin();
    let ask = |what: Value| {
        let spec = json!({"user": "system:node:pi-7", "groups": ["system:nodes"],
            "resourceAttributes": what});
        json!({"spec": spec})
    };
    let one = |key: &str, value: &str| {
        let requirement = json!({"key": key, "operator": "In", "values": [value]});
        json!({"requirements": [requirement]})
    };
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (what, may) in [
        (
            json!({"verb": "get", "resource": "secrets", "namespace": "default", "name": "mine"}),
            true,
        ),
        (
            json!({"verb": "get", "resource": "secrets", "namespace": "default", "name": "theirs"}),
            false,
        ),
        (json!({"verb": "list", "resource": "pods"}), false),
        (
            json!({"verb": "list", "resource": "pods", "fieldSelector": one("spec.nodeName", "pi-7")}),
            true,
        ),
        (
            json!({"verb": "list", "resource": "pods", "fieldSelector": one("spec.nodeName", "pi-8")}),
            false,
        ),
        (
            json!({"verb": "list", "resource": "pods",
            "fieldSelector": {"rawSelector": "spec.nodeName=pi-7"}}),
            true,
        ),
    ] {
        let answer = admin.post(reviews, &ask(what.clone())).await.json();
        assert_eq!(answer["status"]["allowed"], may, "{what} {answer}");
    }
}

#[tokio::test]
async fn a_review_says_what_it_has_not_understood_of_a_selector() {
    let hub = hub().await;
    let admin = hub.admin();
    let ask = |requirements: Value| {
        let what = json!({"verb": "list", "resource": "pods",
            "fieldSelector": {"requirements": requirements}});
        json!({"spec": {"user": "system:node:pi-7", "groups": ["system:nodes"], "resourceAttributes": what}})
    };
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let near = json!({"key": "spec.nodeName", "operator": "Near", "values": ["pi-7"]});
    let own = json!({"key": "spec.nodeName", "operator": "In", "values": ["pi-7"]});
    for (requirements, status) in [
        (
            json!([own, near]),
            json!({"allowed": true,
                "evaluationError": "spec.resourceAttributes.fieldSelector partially ignored due to parse error"}),
        ),
        (
            json!([near]),
            json!({"allowed": false,
                "reason": "can only list/watch pods with spec.nodeName field selector",
                "evaluationError": "spec.resourceAttributes.fieldSelector ignored due to parse error"}),
        ),
    ] {
        let answer = admin.post(reviews, &ask(requirements)).await.json();
        assert_eq!(answer["status"], status);
    }
    let refused = admin.post(reviews, &ask(json!([]))).await;
    assert_eq!(refused.code, 422);
    assert_eq!(
        refused.json()["details"]["causes"][0]["field"],
        "spec.resourceAttributes.fieldSelector.requirements"
    );
}

#[tokio::test]
async fn a_node_asks_for_a_certificate_of_its_own_name_alone() {
    let hub = hub().await;
    let pi = node(&hub, "pi-7");
    // A kind for itself, though it is the common name: rcgen keeps one value of each.
    let other = || DnType::CustomDnType(vec![2, 5, 4, 3]);
    let own = || (DnType::CommonName, "system:node:pi-7".into());
    let hidden = DnValue::BmpString("system:node:pi-8".try_into().unwrap());
    for (pem, code, why) in [
        (named([own()]), 201, ""),
        (named([own(), (other(), "system:node:pi-8".into())]), 403, "can only create a node CSR"),
        (named([own(), (other(), hidden)]), 403, "unable to parse csr"),
    ] {
        let request = json!({"metadata": {"generateName": "pi-"}, "spec": {
            "request": STANDARD.encode(pem), "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["server auth"],
        }});
        let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        let answer = pi.post(path, &request).await;
        assert_eq!(answer.code, code, "{}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
    }
}

//! Who gets in, and what nobody may do.

use std::time::Duration;

use crate::roles::{RBAC, binding, made as made_of, role, rule, user};
use crate::support::{Answer, Authority, Client, Hub, create};
use bytes::Bytes;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

#[tokio::test]
async fn strangers_read_the_version_and_health_and_nothing_else() {
    let hub = Hub::start().await;
    let foreign = Authority::new().client("admin", "system:masters");
    for nobody in [hub.client(None), hub.client(Some(&foreign))] {
        assert_eq!(nobody.get("/version").await.code, 200);
        assert_eq!(nobody.get("/readyz").await.text(), "ok");
        let hidden = ["/api", "/apis", "/api/v1/namespaces", "/openapi/v3", "/nonsense"];
        for path in hidden.into_iter().chain(["/readyz/store"]) {
            let answer = nobody.get(path).await;
            assert_eq!(answer.code, 403, "{path}");
            assert_eq!(answer.json()["reason"], "Forbidden");
        }
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_opens_nothing() {
    let hub = Hub::start().await;
    let stolen = hub.impostor(&hub.authority.client("admin", "system:masters"));
    let mut stream = stolen.connect("http/1.1").await;
    let ask = b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let _ = stream.write_all(ask).await;
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(ended.is_err() && answer.is_empty(), "{ended:?}");
}

#[tokio::test]
async fn a_known_caller_without_the_group_is_forbidden() {
    let hub = Hub::start().await;
    let someone = hub.client(Some(&hub.authority.client("x", "people")));
    let answer = someone.get("/api/v1/namespaces/default/pods").await;
    assert_eq!(answer.code, 403);
    assert_eq!(
        answer.json()["message"],
        r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    assert_eq!(someone.get("/apis").await.code, 200);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = someone.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await;
    assert_eq!(answer.code, 201);
    assert_eq!(answer.json()["status"]["userInfo"]["username"], "x");
    let review = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let headers = [("accept", table), ("content-type", "application/json")];
    let answer = someone.send("POST", path, &headers, review.to_string()).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (406, &json!("NotAcceptable")));
    let either = format!("{table},application/json");
    let headers = [("accept", either.as_str()), ("content-type", "application/json")];
    let answer = someone.send("POST", path, &headers, review.to_string()).await;
    assert_eq!(answer.json()["kind"], "SelfSubjectAccessReview");
    assert_eq!(someone.post(path, &review).await.json()["status"]["allowed"], false);
    assert_eq!(hub.admin().post(path, &review).await.json()["status"]["allowed"], true);
}

#[tokio::test]
async fn a_review_says_what_a_request_is_answered() {
    let hub = Hub::start().await;
    let someone = hub.client(Some(&hub.authority.client("x", "people")));
    let admin = hub.admin();
    let of_resource = |verb: &str, group: &str, resource: &str| {
        let what = json!({"verb": verb, "group": group, "resource": resource});
        json!({"spec": {"resourceAttributes": what}})
    };
    let of_path =
        |path: &str| json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": path}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (review, someone_may, admin_may) in [
        (of_resource("create", "authorization.k8s.io", "selfsubjectaccessreviews"), true, true),
        (of_resource("create", "authentication.k8s.io", "selfsubjectreviews"), true, true),
        (of_resource("delete", "authentication.k8s.io", "selfsubjectreviews"), false, true),
        (of_resource("list", "", "pods"), false, true),
        (of_path("/apis/apps/v1"), true, true),
        (of_path("/metrics"), false, true),
        (of_resource("impersonate", "", "users"), false, true),
    ] {
        for (caller, may) in [(&someone, someone_may), (&admin, admin_may)] {
            let answer = caller.post(path, &review).await;
            assert_eq!(answer.json()["status"]["allowed"], may, "{review}");
        }
    }
    let review = of_resource("create", "authentication.k8s.io", "selfsubjectreviews");
    assert_eq!(
        someone.post(path, &review).await.json()["status"]["reason"],
        r#"RBAC: allowed by ClusterRoleBinding "system:basic-user" of ClusterRole "system:basic-user" to Group "system:authenticated""#
    );
    let both = json!({"spec": {"resourceAttributes": {}, "nonResourceAttributes": {"path": "/"}}});
    for review in [both, json!({"spec": {}})] {
        assert_eq!(someone.post(path, &review).await.code, 422, "{review}");
    }
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_before_they_are_read() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    // The length alone is announced: had the server waited for the body, this would never end.
    let headers = [("content-type", "application/json"), ("content-length", "104857600")];
    let path = "/api/v1/namespaces/default/configmaps";
    let stream = futures::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
    let answer = admin.send_stream("POST", path, &headers, stream).await;
    assert_eq!(answer.code, 413);
    assert_eq!(answer.json()["reason"], "RequestEntityTooLarge");
    assert_eq!(admin.get("/api/v1/namespaces/default").await.code, 200);
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_say_so() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    for path in [
        "/api/v1/nonsense",
        "/apis/apps/v9/deployments",
        "/apis/nonsense",
        "/nonsense",
        "/api/v1/pods/x",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/pods/x/nonsense",
        "/apis/internal/v1/clusterips",
    ] {
        let answer = admin.get(path).await;
        assert_eq!(answer.code, 404, "{path}");
        assert_eq!(answer.json()["message"], "the server could not find the requested resource");
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}});
    for path in ["/api/v1/pods", "/api/v1/namespaces/default/pods/x", "/apis"] {
        let answer = admin.post(path, &pod).await;
        assert_eq!(
            (answer.code, &answer.json()["reason"]),
            (405, &json!("MethodNotAllowed")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn each_accepted_cluster_is_served_under_its_name() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let answer = admin.get("/clusters/pi-7/api/v1/namespaces").await;
    assert_eq!(answer.code, 404);
    assert_eq!(
        answer.json()["message"],
        r#"managedclusters.cluster.open-cluster-management.io "pi-7" not found: there is no cluster of this name here; `kubectl get managedclusters` in the root lists them"#
    );
    for path in ["", "/version", "/readyz"] {
        assert_eq!(admin.get(&format!("/clusters/pi-7{path}")).await.code, 404, "{path}");
    }
    // kubectl asks for these first, and would say five times no more than that something is not found.
    for path in ["/api", "/apis", "/api/v1", "/apis/apps/v1", "/openapi/v3"] {
        for name in ["pi-7", "No_Name"] {
            let answer = admin.get(&format!("/clusters/{name}{path}")).await;
            assert_eq!(answer.code, 200, "{name}{path}");
        }
    }
    let group = "cluster.open-cluster-management.io/v1";
    crate::support::create(
        &hub.objects,
        group,
        "ManagedCluster",
        json!({"metadata": {"name": "pi-7"}}),
    )
    .await;
    let namespace = json!({"metadata": {"name": "default"}});
    let answer = admin.post("/clusters/pi-7/api/v1/namespaces", &namespace).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let map = json!({"metadata": {"name": "same"}, "data": {"where": "pi-7"}});
    let path = "/clusters/pi-7/api/v1/namespaces/default/configmaps";
    assert_eq!(admin.post(path, &map).await.code, 201);
    assert_eq!(admin.get("/api/v1/namespaces/default/configmaps/same").await.code, 404);
    assert_eq!(admin.get(&format!("{path}/same")).await.json()["data"]["where"], "pi-7");
    assert_eq!(admin.get("/clusters/pi-7/apis").await.code, 200);
    let clusters = format!("/clusters/pi-7/apis/{group}/managedclusters");
    assert_eq!(admin.get(&clusters).await.code, 404);
}

#[tokio::test]
async fn a_certificate_for_one_cluster_opens_that_cluster_alone() {
    let hub = Hub::start().await;
    let group = "cluster.open-cluster-management.io/v1";
    let mut uids = Vec::new();
    for name in ["pi-7", "pi-8"] {
        let body = json!({"metadata": {"name": name}});
        let made = crate::support::create(&hub.objects, group, "ManagedCluster", body).await;
        uids.push(made["metadata"]["uid"].as_str().unwrap().to_owned());
    }
    let admin_of = |name: &str, uid: &str| {
        let group = format!("freewheel:cluster-admin:{name}:{uid}");
        hub.client(Some(&hub.authority.client("site", &group)))
    };
    let site = admin_of("pi-7", &uids[0]);
    let namespace = json!({"metadata": {"name": "default"}});
    let answer = site.post("/clusters/pi-7/api/v1/namespaces", &namespace).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(site.get(&format!("/clusters/pi-7{secrets}")).await.code, 200);
    for path in [
        secrets.to_owned(),
        format!("/clusters/pi-8{secrets}"),
        format!("/apis/{group}/managedclusters"),
        "/api/v1/nodes".to_owned(),
        "/metrics".to_owned(),
    ] {
        assert_eq!(site.get(&path).await.code, 403, "{path}");
    }
    let path = format!("/clusters/pi-7{secrets}");
    // Of an earlier cluster of that name, or of another one.
    for stale in [admin_of("pi-7", &uids[1]), admin_of("pi-7", "")] {
        assert_eq!(stale.get(&path).await.code, 403);
    }
}

#[tokio::test]
async fn http_2_is_spoken() {
    let hub = Hub::start().await;
    let answer = hub.admin().get_over_h2("/api/v1/namespaces/default").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.json()["kind"], "Namespace");
}

#[tokio::test]
async fn headers_have_a_bound() {
    let hub = Hub::start().await;
    let long = "x".repeat(100 * 1024);
    let answer = hub.admin().send("GET", "/version", &[("x-long", long.as_str())], "").await;
    assert_eq!(answer.code, 431);
}

#[tokio::test]
async fn a_refusal_arrives_even_when_the_body_has_not() {
    let hub = Hub::start().await;
    let path = "/api/v1/namespaces/default/configmaps";
    // More than a stream's window: the client still has to send when the answer comes.
    let body = vec![b' '; 5 * 1024 * 1024];
    assert_eq!(hub.client(None).post_over_h2(path, body.clone()).await.code, 403);
    let someone = hub.client(Some(&hub.authority.client("x", "people")));
    assert_eq!(someone.post_over_h2(path, body.clone()).await.code, 403);
    assert_eq!(hub.admin().post_over_h2(path, body).await.code, 413);
}

#[tokio::test]
async fn the_registrys_paths_go_to_its_handler() {
    let hub = Hub::start().await;
    assert_eq!(hub.admin().get("/v2/").await.text(), "admin /v2/");
    assert_eq!(hub.client(None).get("/v2/a/manifests/b").await.text(), "nobody /v2/a/manifests/b");
    assert_eq!(hub.client(None).get("/v2x").await.code, 403);
}

const CLUSTERS: &str = "cluster.open-cluster-management.io/v1";
const ADD_ONS: &str = "addon.open-cluster-management.io/v1alpha1";

/// The key of the device of every cluster, as its annotation has it.
const BOARD: &str = "sha256:ab";

/// The certificate that the agent of the add-on `web` on a cluster has, for the ManagedClusterAddOn and the ManagedCluster with
/// these UIDs.
fn agent(hub: &Hub, cluster: &str, uids: &str) -> Client {
    agent_on(hub, cluster, &format!("{uids}/{BOARD}"))
}

/// The same, with the key of the device behind the UIDs.
fn agent_on(hub: &Hub, cluster: &str, given_for: &str) -> Client {
    let group = format!("system:open-cluster-management:cluster:{cluster}:addon:web");
    let mut params = Authority::of_client(&format!("{group}:agent:web-agent"), &group);
    let id = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57_683, 2]);
    params.distinguished_name.push(id, given_for);
    hub.client(Some(&hub.authority.sign(params, ExtendedKeyUsagePurpose::ClientAuth)))
}

fn uid(made: &Value) -> String {
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// An accepted cluster; its UID.
async fn accepted(hub: &Hub, cluster: &str) -> String {
    let meta = json!({"name": cluster, "annotations": {"freewheel.dev/agent-key": BOARD}});
    let accepted = json!({"metadata": meta, "spec": {"hubAcceptsClient": true}});
    uid(&create(&hub.objects, CLUSTERS, "ManagedCluster", accepted).await)
}

/// The add-on `web` on a cluster, registered as its agent; its UID.
async fn add_on(hub: &Hub, cluster: &str) -> String {
    let web = json!({"metadata": {"name": "web", "namespace": cluster}, "spec": {}});
    let made = create(&hub.objects, ADD_ONS, "ManagedClusterAddOn", web).await;
    register(hub, cluster, true).await;
    uid(&made)
}

/// Says in an add-on's status whether it is registered.
async fn register(hub: &Hub, cluster: &str, is: bool) {
    let group = format!("system:open-cluster-management:cluster:{cluster}:addon:web");
    let subject = json!({"user": format!("{group}:agent:web-agent"), "groups": [group]});
    let one = json!({"signerName": "kubernetes.io/kube-apiserver-client", "subject": subject});
    let all = if is { vec![one] } else { Vec::new() };
    let patch = json!({"status": {"registrations": all}});
    let status = format!("/apis/{ADD_ONS}/namespaces/{cluster}/managedclusteraddons/web/status");
    assert_eq!(hub.admin().patch(&status, "merge-patch+json", &patch).await.code, 200);
}

/// Lets the agents of the add-on read ConfigMaps of their cluster's namespace.
async fn may_read_maps(hub: &Hub, cluster: &str) {
    let reader = role("Role", "reader", &[rule(&["get", "list", "watch"], "", &["configmaps"])]);
    let of = format!("{RBAC}/namespaces/{cluster}");
    made_of(&hub.admin().post(&format!("{of}/roles"), &reader).await);
    let group = format!("system:open-cluster-management:cluster:{cluster}:addon:web");
    let subject = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group});
    let bound = binding("agents", ("Role", "reader"), &subject);
    made_of(&hub.admin().post(&format!("{of}/rolebindings"), &bound).await);
}

fn maps(cluster: &str) -> String {
    format!("/api/v1/namespaces/{cluster}/configmaps")
}

#[tokio::test]
async fn an_agent_is_known_as_long_as_its_add_on_is_there() {
    let hub = Hub::start().await;
    let mut uids = Vec::new();
    for cluster in ["pi-7", "pi-8"] {
        create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": cluster}})).await;
        let managed = accepted(&hub, cluster).await;
        uids.push(format!("{}/{managed}", add_on(&hub, cluster).await));
        may_read_maps(&hub, cluster).await;
    }
    let own = agent(&hub, "pi-7", &uids[0]);
    assert_eq!(own.get(&maps("pi-7")).await.code, 200);
    assert_eq!(own.get(&maps("pi-8")).await.code, 403, "of another cluster it reads nothing");
    assert_eq!(own.get("/api/v1/namespaces/pi-7/secrets").await.code, 403);
    let pi = format!("/apis/{CLUSTERS}/managedclusters/pi-7");
    for (accepts, code) in [(false, 401), (true, 200)] {
        let patch = json!({"spec": {"hubAcceptsClient": accepts}});
        assert_eq!(hub.admin().patch(&pi, "merge-patch+json", &patch).await.code, 200);
        assert_eq!(own.get(&maps("pi-7")).await.code, code);
    }
    for (is, code) in [(false, 401), (true, 200)] {
        register(&hub, "pi-7", is).await;
        assert_eq!(own.get(&maps("pi-7")).await.code, code);
    }
    // What was given for one is nothing on another cluster, or to an add-on that was made anew.
    assert_eq!(agent(&hub, "pi-8", &uids[0]).get(&maps("pi-8")).await.code, 401);
    let place = format!("/apis/{ADD_ONS}/namespaces/pi-7/managedclusteraddons/web");
    assert_eq!(hub.admin().delete(&place).await.code, 200);
    assert_eq!(own.get(&maps("pi-7")).await.code, 401);
    add_on(&hub, "pi-7").await;
    assert_eq!(own.get(&maps("pi-7")).await.code, 401);
}

#[tokio::test]
async fn what_an_agent_had_on_the_old_board_is_nothing_when_another_has_its_place() {
    let hub = Hub::start().await;
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "pi-7"}})).await;
    let managed = accepted(&hub, "pi-7").await;
    let uids = format!("{}/{managed}", add_on(&hub, "pi-7").await);
    may_read_maps(&hub, "pi-7").await;
    let old = agent(&hub, "pi-7", &uids);
    assert_eq!(old.get(&maps("pi-7")).await.code, 200);
    let mut watch = old.watch(&format!("{}?watch=true", maps("pi-7"))).await;
    let key = json!({"metadata": {"annotations": {"freewheel.dev/agent-key": "sha256:cd"}}});
    let pi = format!("/apis/{CLUSTERS}/managedclusters/pi-7");
    assert_eq!(hub.admin().patch(&pi, "merge-patch+json", &key).await.code, 200);
    assert_eq!(old.get(&maps("pi-7")).await.code, 401);
    let last = watch.next().await.expect("a last event");
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(401)));
    let new = agent_on(&hub, "pi-7", &format!("{uids}/sha256:cd"));
    assert_eq!(new.get(&maps("pi-7")).await.code, 200);
}

#[tokio::test]
async fn what_an_agent_watches_ends_with_its_add_on() {
    let hub = Hub::start().await;
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "pi-7"}})).await;
    let managed = accepted(&hub, "pi-7").await;
    let own = agent(&hub, "pi-7", &format!("{}/{managed}", add_on(&hub, "pi-7").await));
    may_read_maps(&hub, "pi-7").await;
    let path = format!("{}?watch=true", maps("pi-7"));
    let pi = format!("/apis/{CLUSTERS}/managedclusters/pi-7");
    let accept = async |accepts: bool| {
        let patch = json!({"spec": {"hubAcceptsClient": accepts}});
        assert_eq!(hub.admin().patch(&pi, "merge-patch+json", &patch).await.code, 200);
    };
    let place = format!("/apis/{ADD_ONS}/namespaces/pi-7/managedclusteraddons/web");
    for end in ["registration", "acceptance", "add-on"] {
        let mut watch = own.watch(&path).await;
        // What changes about it and leaves it an agent ends nothing.
        let labels = json!({"metadata": {"labels": {"before": end}}});
        assert_eq!(hub.admin().patch(&place, "merge-patch+json", &labels).await.code, 200);
        let map = json!({"metadata": {"name": end.replace('-', "")}});
        assert_eq!(hub.admin().post(&maps("pi-7"), &map).await.code, 201);
        while watch.brief().await != ("ADDED".to_owned(), end.replace('-', "")) {}
        match end {
            "registration" => register(&hub, "pi-7", false).await,
            "acceptance" => accept(false).await,
            _ => assert_eq!(hub.admin().delete(&place).await.code, 200),
        }
        let last = watch.next().await.expect("a last event");
        assert_eq!(
            (&last["type"], &last["object"]["code"]),
            (&json!("ERROR"), &json!(401)),
            "{end}"
        );
        assert!(watch.next().await.is_none());
        if end != "add-on" {
            register(&hub, "pi-7", true).await;
            accept(true).await;
        }
    }
}

#[tokio::test]
async fn who_writes_a_template_has_what_its_agents_get() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let group = "addon.open-cluster-management.io";
    let writes = [rule(&["get", "create", "update", "patch"], group, &["addontemplates"])];
    let maps = [rule(&["get", "list"], "", &["configmaps"])];
    for (name, rules) in [("writes", &writes), ("maps", &maps)] {
        made_of(
            &admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", name, rules)).await,
        );
    }
    let to_jane = |name: &str| binding(name, ("ClusterRole", name), &user("jane"));
    made_of(&admin.post(&format!("{RBAC}/clusterrolebindings"), &to_jane("writes")).await);
    let current = json!({"type": "CurrentCluster", "currentCluster": {"clusterRoleName": "maps"}});
    let single = |namespace: &str| {
        let role =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maps"});
        json!({"type": "SingleNamespace", "singleNamespace": {"namespace": namespace, "roleRef": role}})
    };
    let template = |name: &str, permissions: &[Value]| {
        let client = json!({"type": "KubeClient", "kubeClient": {"hubPermissions": permissions}});
        json!({"apiVersion": format!("{group}/v1alpha1"), "kind": "AddOnTemplate", "metadata": {"name": name},
            "spec": {"addonName": "web", "agentSpec": {"workload": {"manifests": []}}, "registration": [client]}})
    };
    let templates = format!("/apis/{group}/v1alpha1/addontemplates");
    let refused = async |permissions: &[Value]| {
        let answer = jane.post(&templates, &template("more", permissions)).await;
        let why = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.code, 403, "{why}");
        why
    };
    made_of(&jane.post(&templates, &template("none", &[])).await);
    for more in [current.clone(), single("default")] {
        let why = refused(&[more]).await;
        assert!(
            why.contains("is attempting to grant RBAC permissions not currently held"),
            "{why}"
        );
    }
    let many: Vec<Value> = (0..65).map(|number| single(&format!("n-{number}"))).collect();
    assert!(refused(&many).await.contains("more than 64 hubPermissions"));
    // Who has it in one namespace gives it there alone.
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    made_of(&admin.post(&bindings, &to_jane("maps")).await);
    made_of(&jane.post(&templates, &template("single", &[single("default")])).await);
    refused(&[single("kube-system")]).await;
    refused(std::slice::from_ref(&current)).await;
    // What is in it already is no question to who changes the rest.
    made_of(&admin.post(&templates, &template("theirs", std::slice::from_ref(&current))).await);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let theirs = format!("{templates}/theirs");
    assert_eq!(jane.patch(&theirs, "merge-patch+json", &labels).await.code, 200);
    made_of(&admin.post(&format!("{RBAC}/clusterrolebindings"), &to_jane("maps")).await);
    made_of(&jane.post(&templates, &template("more", &[current])).await);
}

#[tokio::test]
async fn who_names_a_template_has_what_its_agents_get() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "pi-7"}})).await;
    let group = "addon.open-cluster-management.io";
    let (api, doors) = (format!("/apis/{group}/v1alpha1"), ["managedclusteraddons"]);
    let (statuses, add_ons) = (["managedclusteraddons/status"], ["clustermanagementaddons"]);
    let writes = [&doors[..], &statuses, &add_ons]
        .map(|plurals| rule(&["get", "create", "update", "patch"], group, plurals));
    let maps = [rule(&["get"], "", &["configmaps"])];
    for (name, rules) in [("writes", &writes[..]), ("maps", &maps[..])] {
        let role = role("ClusterRole", name, rules);
        made_of(&admin.post(&format!("{RBAC}/clusterroles"), &role).await);
    }
    let to_jane = |name: &str| binding(name, ("ClusterRole", name), &user("jane"));
    made_of(&admin.post(&format!("{RBAC}/clusterrolebindings"), &to_jane("writes")).await);
    let current = json!({"type": "CurrentCluster", "currentCluster": {"clusterRoleName": "maps"}});
    for (name, permissions) in
        [("none", json!([])), ("default", json!([current])), ("theirs", json!([current]))]
    {
        let client = json!({"type": "KubeClient", "kubeClient": {"hubPermissions": permissions}});
        let template = json!({"metadata": {"name": name}, "spec": {"addonName": "web",
            "agentSpec": {"workload": {"manifests": []}}, "registration": [client]}});
        made_of(&admin.post(&format!("{api}/addontemplates"), &template).await);
    }
    let named = |name: &str| json!({"group": group, "resource": "addontemplates", "name": name});
    let web = |name: &str, default: &str| {
        let config = json!({"group": group, "resource": "addontemplates", "defaultConfig": {"name": default}});
        json!({"metadata": {"name": name}, "spec": {"supportedConfigs": [config]}})
    };
    let catalogue = format!("{api}/clustermanagementaddons");
    made_of(&admin.post(&catalogue, &web("web", "default")).await);
    let instances = format!("{api}/namespaces/pi-7/managedclusteraddons");
    let one = json!({"metadata": {"name": "web"}, "spec": {"configs": [named("theirs")]}});
    let lacks = "is attempting to grant RBAC permissions not currently held";
    let refused = |answer: &Answer| {
        let why = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.code == 403 && why.contains(lacks), "{} {why}", answer.code);
    };
    refused(&jane.post(&instances, &one).await);
    refused(&jane.post(&catalogue, &web("own", "theirs")).await);
    made_of(&jane.post(&catalogue, &web("own", "none")).await);
    made_of(&jane.post(&instances, &json!({"metadata": {"name": "web"}, "spec": {}})).await);
    let path = format!("{instances}/web");
    let names = |name: &str| json!({"spec": {"configs": [named(name)]}});
    let patch = async |path: &str, body: &Value| jane.patch(path, "merge-patch+json", body).await;
    assert_eq!(patch(&path, &names("missing")).await.code, 404);
    // What the add-on gives everybody, and what gives nothing.
    for name in ["default", "none"] {
        assert_eq!(patch(&path, &names(name)).await.code, 200, "{name}");
    }
    let mut reference = named("");
    reference["desiredConfig"] = json!({"name": "theirs", "specHash": "x"});
    let status = json!({"status": {"configReferences": [reference]}});
    refused(&patch(&format!("{path}/status"), &status).await);
    // Who has it in the namespace of that cluster gives it there alone.
    let bindings = format!("{RBAC}/namespaces/pi-7/rolebindings");
    made_of(&admin.post(&bindings, &to_jane("maps")).await);
    assert_eq!(patch(&path, &names("theirs")).await.code, 200);
    refused(&jane.post(&catalogue, &web("more", "theirs")).await);
}

#[tokio::test]
async fn an_agent_is_known_on_the_cluster_that_it_was_given_for() {
    let hub = Hub::start().await;
    create(&hub.objects, "v1", "Namespace", json!({"metadata": {"name": "pi-7"}})).await;
    let managed = accepted(&hub, "pi-7").await;
    let own = agent(&hub, "pi-7", &format!("{}/{managed}", add_on(&hub, "pi-7").await));
    may_read_maps(&hub, "pi-7").await;
    assert_eq!(own.get(&maps("pi-7")).await.code, 200);
    let pi = format!("/apis/{CLUSTERS}/managedclusters/pi-7");
    let held = |by: Value| json!({"metadata": {"finalizers": by}});
    let hold = held(json!(["example.com/waits"]));
    assert_eq!(hub.admin().patch(&pi, "merge-patch+json", &hold).await.code, 200);
    assert_eq!(hub.admin().delete(&pi).await.code, 200);
    assert_eq!(own.get(&maps("pi-7")).await.code, 401, "it goes");
    assert_eq!(hub.admin().patch(&pi, "merge-patch+json", &held(json!([]))).await.code, 200);
    accepted(&hub, "pi-7").await;
    assert_eq!(own.get(&maps("pi-7")).await.code, 401, "the next one of its name is another");
}

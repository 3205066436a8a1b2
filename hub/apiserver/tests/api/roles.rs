//! What roles give, through the API: in one cluster, in one namespace, and to whom else.

use std::sync::atomic::Ordering;
use std::time::Duration;

use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::support::{Client, Hub, bootstrap, create};

pub const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Headers of a JSON body, and these.
fn headers(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(more);
    all
}

pub fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

pub fn role(kind: &str, name: &str, rules: &[Value]) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "rules": rules})
}

pub fn binding(name: &str, (kind, role): (&str, &str), subject: &Value) -> Value {
    json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": [subject]})
}

pub fn user(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": GROUP, "name": name})
}

#[track_caller]
pub fn made(answer: &crate::support::Answer) {
    assert!(matches!(answer.code, 200 | 201), "{}", answer.text());
}

impl Hub {
    pub fn person(&self, name: &str) -> Client {
        self.client(Some(&self.authority.client(name, "people")))
    }
}

async fn cluster(hub: &Hub, name: &str) -> String {
    let group = "cluster.open-cluster-management.io/v1";
    let body = json!({"metadata": {"name": name}, "spec": {"hubAcceptsClient": true}});
    let made_of = create(&hub.objects, group, "ManagedCluster", body).await;
    bootstrap(&hub.objects, &ClusterName::try_from(name).unwrap()).await;
    let namespace = json!({"metadata": {"name": "default"}});
    made(&hub.admin().post(&format!("/clusters/{name}/api/v1/namespaces"), &namespace).await);
    made_of["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_role_gives_what_it_says_from_the_answer_on_and_as_long_as_it_is_there() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let pods = "/api/v1/namespaces/default/pods";
    let refusal = r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#;
    assert_eq!(jane.get(pods).await.json()["message"], refusal);
    let reader = role("Role", "pod-reader", &[rule(&["get", "watch", "list"], "", &["pods"])]);
    made(&admin.post(&format!("{RBAC}/namespaces/default/roles"), &reader).await);
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let read_pods = binding("read-pods", ("Role", "pod-reader"), &user("jane"));
    made(&admin.post(&bindings, &read_pods).await);
    for _ in 0..5 {
        assert_eq!(jane.get(pods).await.code, 200);
        for path in [
            "/api/v1/pods",
            "/api/v1/namespaces/kube-system/pods",
            "/api/v1/namespaces/default/secrets",
        ] {
            assert_eq!(jane.get(path).await.code, 403, "{path}");
        }
        assert_eq!(jane.delete(&format!("{pods}/x")).await.code, 403);
        assert_eq!(
            jane.get(&format!("{pods}/x/log")).await.code,
            403,
            "a part is another resource"
        );
        made(&admin.delete(&format!("{bindings}/read-pods")).await);
        assert_eq!(jane.get(pods).await.code, 403);
        made(&admin.post(&bindings, &read_pods).await);
    }
    // Without its role a binding gives nothing, and says so.
    made(&admin.delete(&format!("{RBAC}/namespaces/default/roles/pod-reader")).await);
    let said = jane.get(pods).await.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(
        said,
        format!(r#"{refusal}: RBAC: role.rbac.authorization.k8s.io "pod-reader" not found"#)
    );
}

#[tokio::test]
async fn names_groups_namespaces_and_paths_are_held_to_the_letter() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    for name in ["one", "two"] {
        made(
            &admin
                .post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": name}}))
                .await,
        );
    }
    let mut one = rule(&["get", "list", "watch"], "", &["configmaps"]);
    one["resourceNames"] = json!(["one"]);
    let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/readyz/*"]});
    made(
        &admin
            .post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "one", &[one, paths]))
            .await,
    );
    let people = json!({"kind": "Group", "apiGroup": GROUP, "name": "people"});
    let all = binding("one", ("ClusterRole", "one"), &people);
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &all).await);
    let maps = "/api/v1/namespaces/default/configmaps";
    for (path, code) in [
        (format!("{maps}/one"), 200),
        (format!("{maps}/two"), 403),
        (maps.to_owned(), 403),
        // A list of one name is that object.
        (format!("{maps}?fieldSelector=metadata.name%3Done"), 200),
        (format!("{maps}?fieldSelector=metadata.name%3Dtwo"), 403),
        (format!("{maps}?fieldSelector=metadata.name%21%3Done"), 403),
        ("/metrics".to_owned(), 200),
        ("/readyz/store".to_owned(), 200),
        ("/livez/ping".to_owned(), 403),
    ] {
        assert_eq!(jane.get(&path).await.code, code, "{path}");
    }
    // A namespace is in itself.
    let view = rule(&["get"], "", &["namespaces"]);
    made(
        &admin
            .post(&format!("{RBAC}/namespaces/default/roles"), &role("Role", "self", &[view]))
            .await,
    );
    let own = binding("self", ("Role", "self"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/namespaces/default/rolebindings"), &own).await);
    assert_eq!(jane.get("/api/v1/namespaces/default").await.code, 200);
    assert_eq!(
        jane.get("/api/v1/namespaces/kube-system").await.json()["message"],
        r#"namespaces "kube-system" is forbidden: User "jane" cannot get resource "namespaces" in API group "" in the namespace "kube-system""#
    );
}

#[tokio::test]
async fn what_a_cluster_gives_is_nothing_elsewhere() {
    let hub = Hub::start().await;
    let uid = cluster(&hub, "pi-7").await;
    cluster(&hub, "pi-8").await;
    let admin = hub.admin();
    let everything = binding("jane", ("ClusterRole", "cluster-admin"), &user("jane"));
    made(&admin.post(&format!("/clusters/pi-7{RBAC}/clusterrolebindings"), &everything).await);
    let secrets = "/api/v1/namespaces/default/secrets";
    let jane = hub.person("jane");
    assert_eq!(jane.get(&format!("/clusters/pi-7{secrets}")).await.code, 200);
    for path in [
        secrets.to_owned(),
        format!("/clusters/pi-8{secrets}"),
        format!("/clusters/pi-8{secrets}?watch=true"),
        "/metrics".to_owned(),
        "/apis/cluster.open-cluster-management.io/v1/managedclusters".to_owned(),
    ] {
        assert_eq!(jane.get(&path).await.code, 403, "{path}");
    }
    // Whom they run as there is nobody elsewhere either.
    let masters = [("impersonate-user", "root"), ("impersonate-group", "system:masters")];
    let there = jane.send("GET", &format!("/clusters/pi-7{secrets}"), &masters, "").await;
    assert_eq!(there.code, 200);
    for path in [secrets.to_owned(), format!("/clusters/pi-8{secrets}")] {
        assert_eq!(jane.send("GET", &path, &masters, "").await.code, 403, "{path}");
    }
    // Who is confined does not even hear which clusters there are.
    let group = format!("freewheel:cluster:pi-7:{uid}");
    let confined = hub.client(Some(&hub.authority.client("jane", &group)));
    assert_eq!(confined.get(&format!("/clusters/pi-7{secrets}")).await.code, 200);
    let mut texts = Vec::new();
    for name in ["pi-8", "pi-9"] {
        for rest in [secrets, "/api", "/apis", "/openapi/v3", "/version", "/nonsense"] {
            let answer = confined.get(&format!("/clusters/{name}{rest}")).await;
            assert_eq!(answer.code, 403, "{name}{rest}");
            texts.push(answer.text().replace(name, "NAME"));
        }
    }
    let (there, not_there) = texts.split_at(texts.len() / 2);
    assert_eq!(there, not_there);
    for path in ["/api", "/version", "/readyz", secrets, "/v2/"] {
        let answer = confined.get(path).await;
        assert!(
            answer.code == 403 || path == "/v2/" && answer.text() == "jane /v2/",
            "{path}: {}",
            answer.code
        );
    }
    let stale = hub.client(Some(&hub.authority.client("jane", "freewheel:cluster:pi-7:another")));
    assert_eq!(stale.get(&format!("/clusters/pi-7{secrets}")).await.code, 403);
}

#[tokio::test]
async fn nobody_gives_away_what_they_do_not_have() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let own = [
        rule(&["*"], GROUP, &["roles", "rolebindings", "clusterroles", "clusterrolebindings"]),
        rule(&["get", "list"], "", &["pods"]),
    ];
    // "*" of roles has the verbs escalate and bind in it.
    let mut own = own.to_vec();
    own[0]["verbs"] = json!(["get", "list", "create", "update", "patch", "delete"]);
    made(&admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "janes", &own)).await);
    let bound = binding("janes", ("ClusterRole", "janes"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &bound).await);
    let roles = format!("{RBAC}/namespaces/default/roles");
    made(&jane.post(&roles, &role("Role", "pods", &[rule(&["get"], "", &["pods"])])).await);
    let secrets = rule(&["get", "list"], "", &["secrets"]);
    let refused = |name: &str| {
        format!(
            "roles.rbac.authorization.k8s.io {name:?} is forbidden: user \"jane\" (groups=[\"people\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}}"
        )
    };
    let answer = jane.post(&roles, &role("Role", "secrets", std::slice::from_ref(&secrets))).await;
    assert_eq!((answer.code, &answer.json()["message"]), (403, &json!(refused("secrets"))));
    let more = json!({"rules": [secrets]});
    for answer in [
        jane.patch(&format!("{roles}/pods"), "merge-patch+json", &more).await,
        jane.put(&format!("{roles}/pods"), &role("Role", "pods", std::slice::from_ref(&secrets)))
            .await,
    ] {
        assert_eq!((answer.code, &answer.json()["message"]), (403, &json!(refused("pods"))));
    }
    // A role that is made of others gathers whatever they come to say.
    let mut gathers = role("ClusterRole", "gathers", &[]);
    gathers["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let answer = jane.post(&format!("{RBAC}/clusterroles"), &gathers).await;
    assert_eq!(
        answer.json()["message"],
        r#"clusterroles.rbac.authorization.k8s.io "gathers" is forbidden: must have cluster-admin privileges to use the aggregationRule"#
    );
    // Bindings give what their role does.
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let to_bob = |name: &str, role| binding(name, ("ClusterRole", role), &user("bob"));
    made(&jane.post(&bindings, &to_bob("same", "janes")).await);
    for role in ["cluster-admin", "system:discovery"] {
        let answer = jane.post(&bindings, &to_bob(role, role)).await;
        // Discovery is everybody's, so hers as well.
        let code = if role == "cluster-admin" { 403 } else { 201 };
        assert_eq!(answer.code, code, "{role}: {}", answer.text());
    }
    let answer = jane.post(&bindings, &to_bob("none", "none")).await;
    assert_eq!(
        (answer.code, &answer.json()["message"]),
        (404, &json!(r#"clusterroles.rbac.authorization.k8s.io "none" not found"#))
    );
    // The verbs by which somebody may.
    let mut rights = rule(&["bind"], GROUP, &["clusterroles"]);
    rights["resourceNames"] = json!(["cluster-admin"]);
    let rights = role("ClusterRole", "rights", &[rights, rule(&["escalate"], GROUP, &["roles"])]);
    made(&admin.post(&format!("{RBAC}/clusterroles"), &rights).await);
    let gives = binding("rights", ("ClusterRole", "rights"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    made(&jane.post(&roles, &role("Role", "secrets", &[secrets])).await);
    made(&jane.post(&bindings, &to_bob("admin", "cluster-admin")).await);
}

#[tokio::test]
async fn a_put_that_makes_an_object_asks_for_the_right_to() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let updates = rule(&["get", "update"], "coordination.k8s.io", &["leases"]);
    made(&admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "u", &[updates])).await);
    let gives = binding("u", ("ClusterRole", "u"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease = json!({"metadata": {"name": "l"}});
    let answer = jane.put(path, &lease).await;
    assert_eq!(
        (answer.code, &answer.json()["message"]),
        (
            403,
            &json!(
                r#"leases.coordination.k8s.io "l" is forbidden: User "jane" cannot create resource "leases" in API group "coordination.k8s.io" in the namespace "default""#
            )
        )
    );
    made(&admin.put(path, &lease).await);
    let there = admin.get(path).await.json();
    made(&jane.put(path, &there).await);
}

#[tokio::test]
async fn a_watch_of_one_name_shows_that_name_whatever_its_selector_says() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    for name in ["mine", "other"] {
        let secret = json!({"metadata": {"name": name}});
        made(&admin.post("/api/v1/namespaces/default/secrets", &secret).await);
    }
    let mut mine = rule(&["get", "list", "watch"], "", &["secrets"]);
    mine["resourceNames"] = json!(["mine"]);
    made(&admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "mine", &[mine])).await);
    let gives = binding("mine", ("ClusterRole", "mine"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    let watch = "/api/v1/watch/namespaces/default/secrets";
    for path in [
        format!("{watch}/other"),
        format!("{watch}/other?fieldSelector=metadata.name%3Dmine"),
        "/api/v1/namespaces/default/secrets/other?fieldSelector=metadata.name%3Dmine".to_owned(),
    ] {
        assert_eq!(jane.get(&path).await.code, 403, "{path}");
    }
    let path = format!("{watch}/mine?fieldSelector=metadata.name%3Dother");
    assert_eq!(jane.watch(&path).await.next().await.unwrap()["object"]["metadata"]["name"], "mine");
}

#[tokio::test]
async fn a_review_says_of_strangers_what_they_are_answered() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let reader = role("Role", "pods", &[rule(&["list"], "", &["pods"])]);
    made(&admin.post(&format!("{RBAC}/namespaces/default/roles"), &reader).await);
    let reads = binding("pods", ("Role", "pods"), &user("system:anonymous"));
    made(&admin.post(&format!("{RBAC}/namespaces/default/rolebindings"), &reads).await);
    let opens = json!({"verbs": ["get"], "nonResourceURLs": ["/api/*"]});
    made(&admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "api", &[opens])).await);
    let gives = binding("api", ("ClusterRole", "api"), &user("system:anonymous"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    let stranger = hub.client(None);
    assert_eq!(stranger.get("/api/v1/namespaces/default/pods").await.code, 200);
    assert_eq!(stranger.get("/api/v1/namespaces/default/secrets").await.code, 403);
    assert_eq!(stranger.get("/version").await.code, 200);
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let groups = json!(["system:unauthenticated"]);
    let asks = |what: Value| {
        let mut spec = json!({"user": "system:anonymous", "groups": groups});
        spec.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    let pods = asks(
        json!({"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}),
    );
    assert_eq!(admin.post(path, &pods).await.json()["status"]["allowed"], true);
    let version = asks(json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}}));
    assert_eq!(admin.post(path, &version).await.json()["status"]["allowed"], true);
    cluster(&hub, "pi-7").await;
    let there = format!("/clusters/pi-7{path}");
    assert_eq!(admin.post(&there, &version).await.json()["status"]["allowed"], true);
    for any in ["pi-7", "none"] {
        assert_eq!(stranger.get(&format!("/clusters/{any}/version")).await.code, 200);
    }
    // Where it is given, it holds; and a cluster that is not there looks like one where nothing is.
    let [there, nowhere] =
        ["pi-7", "none"].map(|name| format!("/clusters/{name}/api/v1/namespaces/default/pods"));
    let (refused, unknown) = (stranger.get(&there).await, stranger.get(&nowhere).await);
    assert_eq!((refused.code, refused.text()), (403, unknown.text()));
    let roles = format!("/clusters/pi-7{RBAC}/namespaces/default");
    made(&admin.post(&format!("{roles}/roles"), &reader).await);
    made(&admin.post(&format!("{roles}/rolebindings"), &reads).await);
    assert_eq!(stranger.get(&there).await.code, 200);
    // Whoever verifies tokens of a cluster elsewhere may be let see its keys.
    let keys = "/.well-known/openid-configuration";
    let reads = json!({"verbs": ["get"], "nonResourceURLs": [keys]});
    let all = format!("/clusters/pi-7{RBAC}");
    made(&admin.post(&format!("{all}/clusterroles"), &role("ClusterRole", "keys", &[reads])).await);
    let gives = binding("keys", ("ClusterRole", "keys"), &user("system:anonymous"));
    made(&admin.post(&format!("{all}/clusterrolebindings"), &gives).await);
    assert_eq!(stranger.get(&format!("/clusters/pi-7{keys}")).await.code, 200);
    for elsewhere in ["", "/clusters/none"] {
        assert_eq!(stranger.get(&format!("{elsewhere}{keys}")).await.code, 403, "{elsewhere}");
    }
}

#[tokio::test]
async fn who_accepts_a_cluster_has_the_right_to_accept_it() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let group = "cluster.open-cluster-management.io";
    let clusters = format!("/apis/{group}/v1/managedclusters");
    let writes = [
        rule(&["create", "patch"], group, &["managedclusters"]),
        // Who names no set is in the default one.
        rule(&["create"], group, &["managedclustersets/join"]),
    ];
    made(
        &admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "write", &writes)).await,
    );
    let gives = binding("write", ("ClusterRole", "write"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    let named = |name: &str, accepted: bool| json!({"metadata": {"name": name}, "spec": {"hubAcceptsClient": accepted}});
    made(&jane.post(&clusters, &named("pi-7", false)).await);
    let accept = json!({"spec": {"hubAcceptsClient": true}});
    let path = format!("{clusters}/pi-7");
    let why = |name: &str| {
        format!(
            r#"managedclusters.{group} "{name}" is forbidden: user "jane" cannot update the HubAcceptsClient field"#
        )
    };
    let refused = jane.patch(&path, "merge-patch+json", &accept).await;
    assert_eq!((refused.code, &refused.json()["message"]), (403, &json!(why("pi-7"))));
    let refused = jane.post(&clusters, &named("pi-8", true)).await;
    assert_eq!((refused.code, &refused.json()["message"]), (403, &json!(why("pi-8"))));
    let labels = json!({"metadata": {"labels": {"site": "attic"}}});
    made(&jane.patch(&path, "merge-patch+json", &labels).await);
    let accepts = json!({"verbs": ["update"], "apiGroups": ["register.open-cluster-management.io"],
        "resources": ["managedclusters/accept"], "resourceNames": ["pi-7"]});
    made(
        &admin
            .post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "accept", &[accepts]))
            .await,
    );
    let gives = binding("accept", ("ClusterRole", "accept"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    made(&jane.patch(&path, "merge-patch+json", &accept).await);
}

#[tokio::test]
async fn a_question_of_another_shape_is_no_question() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let what = json!({"verb": "get", "resource": "pods"});
    for body in [
        json!({"spec": {"user": "jane", "groups": "x", "resourceAttributes": what}}),
        json!({"spec": {"user": "jane", "groups": [1], "resourceAttributes": what}}),
        json!({"spec": {"user": "jane", "extra": {"a/b": "x"}, "resourceAttributes": what}}),
        json!({"spec": {"user": "jane", "resourceAttributes": {"verb": ["get"], "resource": "pods"}}}),
        json!({"spec": {"user": "jane", "resourceAttributes": "pods"}}),
        json!({"spec": [what]}),
        json!([]),
    ] {
        assert_eq!(admin.post(path, &body).await.code, 400, "{body}");
    }
}

#[tokio::test]
async fn a_review_of_somebody_else_says_what_they_are_answered() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let reader = role("Role", "pods", &[rule(&["list"], "", &["pods"])]);
    made(&admin.post(&format!("{RBAC}/namespaces/default/roles"), &reader).await);
    let reads = binding("pods", ("Role", "pods"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/namespaces/default/rolebindings"), &reads).await);
    let group = "/apis/authorization.k8s.io/v1";
    let what = json!({"verb": "list", "resource": "pods", "namespace": "default"});
    let asks = |name: &str| json!({"spec": {"user": name, "resourceAttributes": what}});
    for (name, may) in [("jane", true), ("bob", false)] {
        let answer = admin.post(&format!("{group}/subjectaccessreviews"), &asks(name)).await;
        assert_eq!(answer.json()["status"]["allowed"], may, "{name}");
        let mut here = asks(name);
        here["metadata"] = json!({"namespace": "default"});
        let local = format!("{group}/namespaces/default/localsubjectaccessreviews");
        let answer = admin.post(&local, &here).await;
        assert_eq!(answer.json()["status"]["allowed"], may, "{name}");
        here["metadata"] = json!({"namespace": "kube-system"});
        assert_eq!(admin.post(&local, &here).await.code, 422);
    }
    assert_eq!(
        admin.post(&format!("{group}/subjectaccessreviews"), &asks("jane")).await.json()["status"]
            ["reason"],
        r#"RBAC: allowed by RoleBinding "pods/default" of Role "pods" to User "jane""#
    );
    assert_eq!(jane.post(&format!("{group}/subjectaccessreviews"), &asks("bob")).await.code, 403);
    assert_eq!(admin.post(&format!("{group}/subjectaccessreviews"), &asks("")).await.code, 422);
    let path = format!("{group}/selfsubjectrulesreviews");
    let rules = jane.post(&path, &json!({"spec": {"namespace": "default"}})).await.json();
    let rules = rules["status"].to_string();
    assert!(rules.contains(r#""resources":["pods"]"#) && rules.contains("/openapi/*"), "{rules}");
    let elsewhere = jane.post(&path, &json!({"spec": {"namespace": "kube-system"}})).await.text();
    assert!(!elsewhere.contains("pods"));
    assert_eq!(jane.post(&path, &json!({"spec": {}})).await.code, 400);
}

#[tokio::test]
async fn nobody_runs_as_somebody_else_without_the_right() {
    let hub = Hub::start().await;
    let jane = hub.person("jane");
    for (asked, resource, group, place) in [
        (&[("impersonate-user", "bob")][..], "users", "", "at the cluster scope"),
        (
            &[("impersonate-user", "system:serviceaccount:n:a")],
            "serviceaccounts",
            "",
            r#"in the namespace "n""#,
        ),
    ] {
        for (method, path) in [
            ("GET", "/api/v1/namespaces/default/secrets"),
            ("POST", WHOAMI),
            ("GET", "/api"),
            ("GET", "/version"),
            ("GET", "/v2/"),
        ] {
            let answer = jane.send(method, path, &headers(asked), "{}").await;
            let said = answer.json();
            assert_eq!((answer.code, &said["reason"]), (403, &json!("Forbidden")), "{path}");
            let why =
                format!("cannot impersonate resource {resource:?} in API group {group:?} {place}");
            assert!(said["message"].as_str().unwrap().ends_with(&why), "{said}");
        }
    }
}

#[tokio::test]
async fn who_may_be_somebody_runs_as_them_and_as_nobody_else() {
    let hub = Hub::start().await;
    let (admin, jane) = (hub.admin(), hub.person("jane"));
    let rights = [
        json!({"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]}),
        json!({"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scope"], "resourceNames": ["view"]}),
        json!({"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["uids"]}),
    ];
    made(
        &admin.post(&format!("{RBAC}/clusterroles"), &role("ClusterRole", "as-bob", &rights)).await,
    );
    let gives = binding("as-bob", ("ClusterRole", "as-bob"), &user("jane"));
    made(&admin.post(&format!("{RBAC}/clusterrolebindings"), &gives).await);
    let bob = [
        ("impersonate-user", "bob"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Scope", "view"),
    ];
    let said = jane.send("POST", WHOAMI, &headers(&bob), "{}").await.json();
    assert_eq!(
        said["status"]["userInfo"],
        json!({"username": "bob", "uid": "7", "groups": ["system:authenticated"], "extra": {"scope": ["view"]}})
    );
    for (more, why) in [
        (
            ("impersonate-group", "system:masters"),
            r#"groups "system:masters" is forbidden: User "jane" cannot impersonate resource "groups" in API group "" at the cluster scope"#,
        ),
        (
            ("impersonate-extra-scope", "edit"),
            r#"userextras.authentication.k8s.io "edit" is forbidden: User "jane" cannot impersonate resource "userextras/scope" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
    ] {
        let asked = headers(&[("impersonate-user", "bob"), more]);
        let said = jane.send("POST", WHOAMI, &asked, "{}").await.json();
        assert_eq!(said["message"], why);
    }
    assert_eq!(jane.send("GET", "/api", &[("impersonate-group", "a")], "").await.code, 400);
    // Bob's rights are his, and not hers.
    assert_eq!(jane.send("GET", "/metrics", &[("impersonate-user", "bob")], "").await.code, 403);
    let nobody = [("impersonate-user", "system:anonymous")];
    assert_eq!(admin.send("GET", "/api", &nobody, "").await.code, 403);
    assert_eq!(admin.send("GET", "/version", &nobody, "").await.code, 200);
    assert_eq!(hub.client(None).send("GET", "/version", &nobody, "").await.code, 401);
}

#[tokio::test]
async fn who_runs_as_somebody_else_ends_with_their_certificate() {
    let hub = Hub::start().await;
    let life = Duration::from_secs(3600);
    let hour = hub.client(Some(&hub.authority.client_for(life, "hour", "system:masters")));
    let bob = [("impersonate-user", "bob"), ("impersonate-group", "system:masters")];
    let mut watch = hour.watch_with("/api/v1/namespaces/default/secrets?watch=true", &bob).await;
    hub.ahead.store(2 * 3600, Ordering::SeqCst);
    let secret = json!({"metadata": {"name": "after"}});
    made(&hub.admin().post("/api/v1/namespaces/default/secrets", &secret).await);
    let last = watch.next().await.expect("a last event");
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(401)), "{last}");
    assert!(watch.next().await.is_none());
}

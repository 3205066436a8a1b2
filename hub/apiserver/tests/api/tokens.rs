//! Tokens: who is known by one, where, and for how long.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use freewheel_hub_apiserver::authn::TokenFile;
use freewheel_hub_apiserver::{AccessOptions, Issuer, PodToken};
use serde_json::{Value, json};

use crate::support::{Answer, Client, Hub, bootstrap, create, create_in};
use freewheel_link::names::ClusterName;

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

async fn account(hub: &Hub, prefix: &str, name: &str) -> String {
    let body = json!({"metadata": {"name": name}});
    let made = hub.admin().post(&format!("{prefix}{ACCOUNTS}"), &body).await;
    assert_eq!(made.code, 201, "{}", made.text());
    made.json()["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn request(hub: &Hub, prefix: &str, name: &str, spec: Value) -> Answer {
    let path = format!("{prefix}{ACCOUNTS}/{name}/token");
    hub.admin().post(&path, &json!({"spec": spec})).await
}

async fn token(hub: &Hub, prefix: &str, name: &str, spec: Value) -> String {
    let answer = request(hub, prefix, name, spec).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()["status"]["token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

impl Hub {
    /// What somebody without a certificate is answered who shows this.
    async fn with_token(&self, token: &str, path: &str) -> Answer {
        bearer(&self.client(None), token, path).await
    }
}

async fn bearer(client: &Client, token: &str, path: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    let method = if path.ends_with("reviews") { "POST" } else { "GET" };
    client.send(method, path, &headers, "{}").await
}

async fn cluster(hub: &Hub, name: &str) {
    let body = json!({"metadata": {"name": name}, "spec": {"hubAcceptsClient": true}});
    create(&hub.objects, "cluster.open-cluster-management.io/v1", "ManagedCluster", body).await;
    let cluster = ClusterName::try_from(name).unwrap();
    bootstrap(&hub.objects, &cluster).await;
    let namespace = json!({"metadata": {"name": "default"}});
    create_in(&hub.objects, &cluster, ("v1", "Namespace"), namespace).await;
}

#[tokio::test]
async fn an_account_is_known_by_its_token_and_may_what_it_was_given() {
    let hub = Hub::start().await;
    let uid = account(&hub, "", "builder").await;
    let answer = request(&hub, "", "builder", json!({})).await.json();
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"], json!(["https://hub:6443"]));
    let shown = answer["status"]["token"].as_str().unwrap();
    let said = claims(shown);
    assert_eq!(
        (&said["iss"], &said["aud"]),
        (&json!("https://hub:6443"), &json!(["https://hub:6443"]))
    );
    assert_eq!(said["sub"], "system:serviceaccount:default:builder");
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 3600);
    assert_eq!(said["nbf"], said["iat"]);
    assert_eq!(
        said["kubernetes.io"],
        json!({"namespace": "default", "serviceaccount": {"name": "builder", "uid": uid}})
    );
    let who = hub.with_token(shown, WHOAMI).await.json()["status"]["userInfo"].clone();
    let groups =
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
    assert_eq!(who["username"], "system:serviceaccount:default:builder");
    assert_eq!((&who["uid"], &who["groups"]), (&json!(uid), &json!(groups)));
    let credential = format!("JTI={}", said["jti"].as_str().unwrap());
    assert_eq!(who["extra"]["authentication.kubernetes.io/credential-id"], json!([credential]));
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(
        hub.with_token(shown, pods).await.json()["message"],
        r#"pods is forbidden: User "system:serviceaccount:default:builder" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "builder", "namespace": "default"}]});
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    assert_eq!(hub.admin().post(path, &binding).await.code, 201);
    assert_eq!(hub.with_token(shown, pods).await.code, 200);
    assert_eq!(hub.with_token(shown, "/api/v1/pods").await.code, 403);
    // Who has a certificate is whom it names.
    let who = bearer(&hub.admin(), shown, WHOAMI).await.json();
    assert_eq!(who["status"]["userInfo"]["username"], "admin");
    // For others, it is none here.
    let other = token(&hub, "", "builder", json!({"audiences": ["vault"]})).await;
    assert_eq!(hub.with_token(&other, WHOAMI).await.code, 401);
}

#[tokio::test]
async fn a_token_that_nobody_knows_is_nobodys() {
    let hub = Hub::start().await;
    account(&hub, "", "a").await;
    let good = token(&hub, "", "a", json!({})).await;
    let forged = format!("{}A", &good[..good.len() - 2]);
    for wrong in ["x", "a.b.c", "abcdef.0123456789abcdef", &*forged] {
        for path in ["/version", "/readyz", "/api", WHOAMI] {
            assert_eq!(hub.with_token(wrong, path).await.code, 401, "{wrong} {path}");
        }
    }
    let basic = [("authorization", "Basic eDp5")];
    assert_eq!(hub.client(None).send("GET", "/version", &basic, "").await.code, 200);
    assert_eq!(hub.with_token(&good, "/clusters/none/api").await.code, 401);
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let hub = Hub::start().await;
    account(&hub, "", "a").await;
    let short = token(&hub, "", "a", json!({"expirationSeconds": 600})).await;
    assert_eq!(hub.with_token(&short, WHOAMI).await.code, 201);
    hub.ahead.store(600 + 55, Ordering::SeqCst);
    assert_eq!(hub.with_token(&short, WHOAMI).await.code, 201, "clocks differ");
    hub.ahead.store(600 + 70, Ordering::SeqCst);
    assert_eq!(hub.with_token(&short, WHOAMI).await.code, 401);
    let review = hub.admin().post(REVIEWS, &json!({"spec": {"token": short}})).await.json();
    assert_eq!(
        review["status"]["error"],
        "[invalid bearer token, service account token has expired]"
    );
    hub.ahead.store(-600, Ordering::SeqCst);
    assert_eq!(hub.with_token(&short, WHOAMI).await.code, 401, "it has not begun");
    for (seconds, why) in [
        (599, "may not specify a duration less than 10 minutes"),
        ((1_i64 << 32) + 1, "may not specify a duration larger than 2^32 seconds"),
    ] {
        let answer = request(&hub, "", "a", json!({"expirationSeconds": seconds})).await;
        let said = answer.json();
        let expected = format!(
            r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: {seconds}: {why}"#
        );
        assert_eq!((answer.code, &said["message"]), (422, &json!(expected)));
    }
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    let (secrets, pods) = ("/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/pods");
    let secret = json!({"metadata": {"name": "s"}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "a",
        "nodeName": "pi-7", "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "a:1"}]}});
    let node = json!({"metadata": {"name": "pi-7"}});
    account(&hub, "", "a").await;
    account(&hub, "", "b").await;
    for (kind, path, body) in
        [("Secret", secrets, &secret), ("Pod", pods, &pod), ("Node", "/api/v1/nodes", &node)]
    {
        let made = admin.post(path, body).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let (name, uid) =
            (body["metadata"]["name"].as_str().unwrap(), made.json()["metadata"]["uid"].clone());
        let bound = json!({"apiVersion": "v1", "kind": kind, "name": name});
        let this = token(&hub, "", "a", json!({"boundObjectRef": bound})).await;
        let said = claims(&this)["kubernetes.io"].clone();
        assert_eq!(said[kind.to_lowercase()], json!({"name": name, "uid": uid}));
        assert_eq!(hub.with_token(&this, WHOAMI).await.code, 201, "{kind}");
        let mut other = bound.clone();
        other["uid"] = json!("another");
        assert_eq!(request(&hub, "", "a", json!({"boundObjectRef": other})).await.code, 409);
        other["name"] = json!("none");
        assert_eq!(request(&hub, "", "a", json!({"boundObjectRef": other})).await.code, 404);
        // The next one of its name is another one.
        let gone = admin.delete(&format!("{path}/{name}?gracePeriodSeconds=0")).await;
        assert_eq!(gone.code, 200, "{}", gone.text());
        assert_eq!(hub.with_token(&this, WHOAMI).await.code, 401, "{kind}");
        assert_eq!(admin.post(path, body).await.code, 201);
        assert_eq!(hub.with_token(&this, WHOAMI).await.code, 401, "{kind}");
    }
    let of_pod = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    let answer = request(&hub, "", "b", of_pod.clone()).await;
    assert_eq!(
        (answer.code, &answer.json()["message"]),
        (
            400,
            &json!(
                r#"cannot bind token for serviceaccount "b" to pod running with different serviceaccount name."#
            )
        )
    );
    // A program that reads its token once is let be for a while longer.
    let mut renewed = of_pod;
    renewed["expirationSeconds"] = json!(3607);
    let said = claims(&token(&hub, "", "a", renewed).await);
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 365 * 86_400);
    let warn = said["kubernetes.io"]["warnafter"].as_i64().unwrap();
    assert_eq!(warn - said["iat"].as_i64().unwrap(), 3607);
    assert_eq!(said["kubernetes.io"]["node"]["name"], "pi-7");
    let plain = token(&hub, "", "a", json!({})).await;
    assert_eq!(admin.delete(&format!("{ACCOUNTS}/a")).await.code, 200);
    assert_eq!(hub.with_token(&plain, WHOAMI).await.code, 401);
    account(&hub, "", "a").await;
    assert_eq!(hub.with_token(&plain, WHOAMI).await.code, 401, "another account of that name");
}

#[tokio::test]
async fn a_pods_token_is_that_of_a_request_bound_to_it() {
    let hub = Hub::start().await;
    cluster(&hub, "pi-7").await;
    let prefix = "/clusters/pi-7";
    let account_uid = account(&hub, prefix, "a").await;
    let pods = format!("{prefix}/api/v1/namespaces/default/pods");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "a",
        "nodeName": "pi-7", "containers": [{"name": "c", "image": "a:1"}]}});
    let made = hub.admin().post(&pods, &pod).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let uid = made.json()["metadata"]["uid"].as_str().unwrap().to_owned();
    let (store, clock) = (hub.objects.store().clone(), hub.objects.clock().clone());
    let issuer = Issuer::new(store, clock, "https://hub:6443");
    let realm = ClusterName::try_from("pi-7").unwrap();
    let asked = PodToken {
        cluster: &realm,
        namespace: "default",
        account: "a",
        pod: ("p", &uid),
        node: "pi-7",
        audience: "",
        seconds: 3607,
    };
    assert_eq!(issuer.for_pod(&asked).unwrap_err().code, 503, "there is no key yet");
    issuer.prepare(&realm).await.unwrap();
    assert_eq!(issuer.for_pod(&PodToken { account: "none", ..asked }).unwrap_err().code, 404);
    let own = issuer.for_pod(&asked).unwrap();
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"},
        "expirationSeconds": 3607});
    let [said, same] = [&own, &token(&hub, prefix, "a", bound).await].map(|one| {
        let mut said = claims(one);
        let life = said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap();
        for moment in ["exp", "iat", "nbf", "jti"] {
            said.as_object_mut().unwrap().remove(moment);
        }
        said["kubernetes.io"].as_object_mut().unwrap().remove("warnafter");
        (said, life)
    });
    assert_eq!(said, same);
    assert_eq!(said.0["kubernetes.io"]["serviceaccount"]["uid"], json!(account_uid));
    let whoami = format!("{prefix}{WHOAMI}");
    assert_eq!(hub.with_token(&own, &whoami).await.code, 201);
    let others = issuer.for_pod(&PodToken { audience: "vault", ..asked }).unwrap();
    assert_eq!(claims(&others)["aud"], json!(["vault"]));
    assert_eq!(hub.with_token(&others, &whoami).await.code, 401);
    let gone = hub.admin().delete(&format!("{pods}/p?gracePeriodSeconds=0")).await;
    assert_eq!(gone.code, 200, "{}", gone.text());
    assert_eq!(hub.with_token(&own, &whoami).await.code, 401);
}

#[tokio::test]
async fn a_token_in_a_secret_is_good_until_it_is_marked() {
    let hub = Hub::start().await;
    let uid = account(&hub, "", "a").await;
    let (store, clock) = (hub.objects.store().clone(), hub.objects.clock().clone());
    let issuer = Issuer::new(store, clock, "https://hub:6443");
    let root = ClusterName::root();
    let shown = issuer.in_secret(&root, ("default", "s"), ("a", &uid), &[]).await.unwrap();
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "data": {"token": STANDARD.encode(&shown)}});
    assert_eq!(hub.admin().post(secrets, &secret).await.code, 201);
    assert_eq!(hub.with_token(&shown, WHOAMI).await.code, 201);
    let label = |since: Value| json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": since}}});
    let path = format!("{secrets}/s");
    let patch = async |body: Value| hub.admin().patch(&path, "merge-patch+json", &body).await.code;
    assert_eq!(patch(label(json!("2026-01-01"))).await, 200);
    assert_eq!(hub.with_token(&shown, WHOAMI).await.code, 401);
    let review = hub.admin().post(REVIEWS, &json!({"spec": {"token": shown}})).await.json();
    let why = review["status"]["error"].as_str().unwrap().to_owned();
    assert!(
        why.contains("default/s for service account default/a has been marked invalid"),
        "{why}"
    );
    assert_eq!(patch(label(Value::Null)).await, 200);
    assert_eq!(hub.with_token(&shown, WHOAMI).await.code, 201);
}

#[tokio::test]
async fn a_token_of_one_cluster_is_none_in_another() {
    let hub = Hub::start().await;
    for name in ["pi-7", "pi-8"] {
        cluster(&hub, name).await;
        account(&hub, &format!("/clusters/{name}"), "a").await;
    }
    account(&hub, "", "a").await;
    let own = token(&hub, "/clusters/pi-7", "a", json!({})).await;
    assert_eq!(claims(&own)["iss"], "https://hub:6443/clusters/pi-7");
    assert_eq!(hub.with_token(&own, &format!("/clusters/pi-7{WHOAMI}")).await.code, 201);
    let roots = token(&hub, "", "a", json!({})).await;
    for (shown, path) in [
        (&own, WHOAMI.to_owned()),
        (&own, format!("/clusters/pi-8{WHOAMI}")),
        (&own, "/clusters/pi-8/api".to_owned()),
        (&roots, format!("/clusters/pi-7{WHOAMI}")),
    ] {
        assert_eq!(hub.with_token(shown, &path).await.code, 401, "{path}");
    }
    // Not even for the same audience.
    let audience = json!({"audiences": ["https://hub:6443/clusters/pi-8"]});
    let meant = token(&hub, "/clusters/pi-7", "a", audience).await;
    assert_eq!(hub.with_token(&meant, &format!("/clusters/pi-8{WHOAMI}")).await.code, 401);
    let keys = |prefix: &'static str| {
        let admin = hub.admin();
        async move {
            let path = format!("{prefix}/.well-known/openid-configuration");
            let configuration = admin.get(&path).await.json();
            assert_eq!(configuration["issuer"], format!("https://hub:6443{prefix}"));
            let keys = admin.get(&format!("{prefix}/openid/v1/jwks")).await;
            assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
            keys.json()["keys"].clone()
        }
    };
    let (root, pi_7) = (keys("").await, keys("/clusters/pi-7").await);
    assert_eq!(
        (&root[0]["kty"], &root[0]["alg"], &root[0]["use"]),
        (&json!("EC"), &json!("ES256"), &json!("sig"))
    );
    assert_ne!(root[0]["kid"], pi_7[0]["kid"]);
    // Service accounts may know how they are verified, strangers not.
    assert_eq!(hub.with_token(&roots, "/openid/v1/jwks").await.code, 200);
    assert_eq!(hub.client(None).get("/openid/v1/jwks").await.code, 403);
}

#[tokio::test]
async fn a_review_of_a_token_names_so_many_audiences_at_most() {
    let hub = Hub::start().await;
    let ask = async |audiences: &[String]| {
        let spec = json!({"token": "t", "audiences": audiences});
        hub.admin().post(REVIEWS, &json!({"spec": spec})).await
    };
    let [some, many] = [64, 65].map(|number| vec!["https://vault".to_owned(); number]);
    assert_eq!(ask(&some).await.code, 201);
    let refused = ask(&many).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    let text = "spec.audiences: Too many: 65: must have at most 64 items";
    assert!(refused.text().contains(text), "{}", refused.text());
    let refused = ask(&["a".to_owned(), "x".repeat(1_025)]).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    assert!(refused.text().contains("spec.audiences[1]: Too long"), "{}", refused.text());
    assert_eq!(ask(&["x".repeat(1_024)]).await.code, 201);
}

#[tokio::test]
async fn a_request_of_another_shape_gets_no_token() {
    let hub = Hub::start().await;
    account(&hub, "", "a").await;
    for spec in [
        json!({"audiences": "vault"}),
        json!({"audiences": [1, 2]}),
        json!({"boundObjectRef": {"kind": 1}}),
        json!({"boundObjectRef": "pod"}),
        json!(["vault"]),
    ] {
        let answer = request(&hub, "", "a", spec.clone()).await;
        assert_eq!(answer.code, 400, "{spec}: {}", answer.text());
    }
    let whole = hub.admin().post(&format!("{ACCOUNTS}/a/token"), &json!([])).await;
    assert_eq!(whole.code, 400, "{}", whole.text());
    for spec in [json!({"token": ["x"]}), json!({"token": "x", "audiences": "vault"})] {
        assert_eq!(hub.admin().post(REVIEWS, &json!({"spec": spec})).await.code, 400);
    }
}

#[tokio::test]
async fn a_token_to_join_with_is_nobody_at_the_api() {
    let hub = Hub::start().await;
    let text = |text: &str| json!(STANDARD.encode(text));
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "data": {"token-id": text("abcdef"), "token-secret": text("0123456789abcdef"),
            "usage-freewheel-join": text("true")}});
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    assert_eq!(hub.admin().post(secrets, &secret).await.code, 201);
    assert_eq!(hub.with_token("abcdef.0123456789abcdef", WHOAMI).await.code, 401);
}

#[tokio::test]
async fn a_review_says_whose_a_token_is_and_for_whom() {
    let hub = Hub::start().await;
    let uid = account(&hub, "", "a").await;
    let admin = hub.admin();
    let own = token(&hub, "", "a", json!({"audiences": ["vault", "https://hub:6443"]})).await;
    let review = |audiences: Value| {
        let body = json!({"spec": {"token": own, "audiences": audiences}});
        let admin = admin.clone();
        async move { admin.post(REVIEWS, &body).await.json()["status"].clone() }
    };
    let status = review(json!([])).await;
    assert_eq!((&status["authenticated"], &status["user"]["uid"]), (&json!(true), &json!(uid)));
    assert_eq!(status["audiences"], json!(["https://hub:6443"]));
    assert_eq!(review(json!(["vault", "other"])).await["audiences"], json!(["vault"]));
    let status = review(json!(["other"])).await;
    assert!(status.get("authenticated").is_none() && status["error"].is_string(), "{status}");
    assert_eq!(admin.post(REVIEWS, &json!({"spec": {}})).await.code, 400);
    let person = hub.client(Some(&hub.authority.client("x", "people")));
    assert_eq!(person.post(REVIEWS, &json!({"spec": {"token": own}})).await.code, 403);
}

#[tokio::test]
async fn bootstrap_tokens_and_those_of_a_file_are_known() {
    let tokens = TokenFile::read("s3cret,jane,u-1,\"people,system:masters\"\n").unwrap();
    let hub = Hub::with(AccessOptions { tokens, ..AccessOptions::default() }).await;
    let who = hub.with_token("s3cret", WHOAMI).await.json()["status"]["userInfo"].clone();
    assert_eq!((&who["username"], &who["uid"]), (&json!("jane"), &json!("u-1")));
    assert_eq!(hub.with_token("s3cret", "/api/v1/secrets").await.code, 200);
    let text = |text: &str| json!(STANDARD.encode(text));
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "data": {"token-id": text("abcdef"), "token-secret": text("0123456789abcdef"),
            "usage-bootstrap-authentication": text("true"),
            "auth-extra-groups": text("system:bootstrappers:ci")}});
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    assert_eq!(hub.admin().post(secrets, &secret).await.code, 201);
    let shown = "abcdef.0123456789abcdef";
    let who = hub.with_token(shown, WHOAMI).await.json()["status"]["userInfo"].clone();
    assert_eq!(who["username"], "system:bootstrap:abcdef");
    let groups = ["system:bootstrappers", "system:bootstrappers:ci", "system:authenticated"];
    assert_eq!(who["groups"], json!(groups));
    assert_eq!(hub.with_token(shown, "/api/v1/secrets").await.code, 403);
    assert_eq!(hub.admin().delete(&format!("{secrets}/bootstrap-token-abcdef")).await.code, 200);
    assert_eq!(hub.with_token(shown, WHOAMI).await.code, 401);
}

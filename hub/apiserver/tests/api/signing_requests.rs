//! Certificate requests at the door: who asks, what may be asked for, what never changes again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
use serde_json::{Value, json};

use crate::support::{Authority, Hub};

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn pem(group: impl Into<DnValue>) -> String {
    named([(DnType::CommonName, "jane".into()), (DnType::OrganizationName, group.into())])
}

/// A request whose subject has these.
pub(crate) fn named<const N: usize>(subject: [(DnType, DnValue); N]) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    for (kind, text) in subject {
        params.distinguished_name.push(kind, text);
    }
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn request(name: &str, pem: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"], "username": "somebody else",
    }})
}

#[tokio::test]
async fn a_signing_request_names_who_really_asks() {
    let hub = Hub::start().await;
    let answer = hub.admin().post(PATH, &request("jane", &pem("dev"))).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.json()["spec"]["username"], "admin");
}

#[tokio::test]
async fn nobody_asks_as_a_device() {
    let hub = Hub::start().await;
    let as_device = [
        ("content-type", "application/json"),
        ("impersonate-user", "jane"),
        ("impersonate-group", "system:masters"),
        ("impersonate-extra-freewheel.dev%2Fjoining-cluster", "pi-7"),
        ("impersonate-extra-site", "attic"),
    ];
    let mut asked = request("jane", &pem("dev"));
    asked["spec"]["extra"] = json!({"freewheel.dev/joining-cluster": ["pi-7"]});
    let answer = hub.admin().send("POST", PATH, &as_device, asked.to_string()).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.json()["spec"]["username"], "jane");
    assert_eq!(answer.json()["spec"]["extra"], json!({"site": ["attic"]}));
}

#[tokio::test]
async fn nobody_asks_to_be_an_administrator() {
    let hub = Hub::start().await;
    let answer = hub.admin().post(PATH, &request("jane", &pem("system:masters"))).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (403, &json!("Forbidden")));
    assert_eq!(
        answer.json()["message"],
        "certificatesigningrequests.certificates.k8s.io \"jane\" is forbidden: use of \
         kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    let mut elsewhere = request("jane", &pem("system:masters"));
    elsewhere["spec"]["signerName"] = json!("example.com/mine");
    let answer = hub.admin().post(PATH, &elsewhere).await;
    assert_eq!(answer.code, 201, "what others sign is their business");
    let warning = answer.headers["warning"].to_str().unwrap();
    assert!(warning.contains("this hub signs for"), "{warning}");
}

#[tokio::test]
async fn what_others_read_more_in_than_we_do_is_refused_at_once() {
    let hub = Hub::start().await;
    let hidden = || DnValue::BmpString("system:masters".try_into().unwrap());
    let answer = hub.admin().post(PATH, &request("jane", &pem(hidden()))).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    let cause = answer.json()["details"]["causes"][0].clone();
    assert_eq!(cause["field"], "spec.request");
    assert!(cause["message"].as_str().unwrap().contains("UTF8String"), "{cause}");
    let mut elsewhere = request("jane", &pem(hidden()));
    elsewhere["spec"]["signerName"] = json!("example.com/mine");
    let answer = hub.admin().post(PATH, &elsewhere).await;
    assert_eq!(answer.code, 201, "what others sign is their business");
}

#[tokio::test]
async fn what_is_no_request_is_refused_at_once() {
    let hub = Hub::start().await;
    let whole = pem("dev");
    let cut: String = whole.lines().filter(|line| !line.ends_with('=')).take(3).collect();
    for bad in [
        "hello".to_owned(),
        whole.replace("REQUEST", "RESPONSE"),
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n{cut}"
        ),
    ] {
        let answer = hub.admin().post(PATH, &request("jane", &bad)).await;
        assert_eq!(answer.code, 422, "{}", answer.text());
        assert_eq!(answer.json()["details"]["causes"][0]["field"], "spec.request");
    }
}

#[tokio::test]
async fn a_certificate_is_issued_once_and_decisions_have_a_time() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    admin.post(PATH, &request("jane", &pem("dev"))).await;
    let mut object = admin.get(&format!("{PATH}/jane")).await.json();
    object["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
    let answer = admin.put(&format!("{PATH}/jane/approval"), &object).await;
    let condition = answer.json()["status"]["conditions"][0].clone();
    assert!(condition["lastUpdateTime"].is_string(), "{condition}");

    let certificate = |text: &str| json!({"status": {"certificate": STANDARD.encode(text)}});
    let issued = |authority: &Authority| {
        let der = STANDARD.encode(&authority.certificate);
        format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
    };
    let status = format!("{PATH}/jane/status");
    let merge = "merge-patch+json";
    for (text, why) in [
        ("no PEM".to_owned(), "must contain at least one CERTIFICATE PEM block"),
        (pem("dev"), "only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\""),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            "x509: malformed certificate",
        ),
    ] {
        let answer = admin.patch(&status, merge, &certificate(&text)).await;
        assert_eq!(answer.code, 422, "{}", answer.text());
        let cause = answer.json()["details"]["causes"][0].clone();
        assert!(cause["message"].as_str().unwrap().ends_with(why), "{cause}");
    }
    let first = issued(&hub.authority);
    let answer = admin.patch(&status, merge, &certificate(&first)).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let answer = admin.patch(&status, merge, &certificate(&issued(&Authority::new()))).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    assert_eq!(answer.json()["details"]["causes"][0]["field"], "status.certificate");

    let spec = json!({"spec": {"usages": ["server auth"]}});
    let answer = admin.patch(&format!("{PATH}/jane"), merge, &spec).await;
    assert_eq!(answer.json()["spec"]["usages"], json!(["client auth"]), "the spec never changes");
}

#[tokio::test]
async fn who_approves_has_the_right_for_that_signer() {
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    let hub = Hub::start().await;
    let admin = hub.admin();
    let bob = hub.client(Some(&hub.authority.client("bob", "people")));
    let certificates = "certificates.k8s.io";
    let writes = json!({"verbs": ["get", "create", "update", "patch"], "apiGroups": [certificates],
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"]});
    let gives = |name: &'static str, rules: Value| {
        let admin = admin.clone();
        async move {
            let role = json!({"metadata": {"name": name}, "rules": rules});
            assert_eq!(admin.post(&format!("{RBAC}/clusterroles"), &role).await.code, 201);
            let group = "rbac.authorization.k8s.io";
            let binding = json!({"metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "User", "apiGroup": group, "name": "bob"}]});
            assert_eq!(
                admin.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.code,
                201
            );
        }
    };
    let signers = |verb: &str, name: &str| json!({"verbs": [verb], "apiGroups": [certificates], "resources": ["signers"], "resourceNames": [name]});
    gives("other", json!([writes, signers("approve", "example.com/*")])).await;
    let mut other = request("other", &pem("dev"));
    other["spec"]["signerName"] = json!("example.com/mine");
    for body in [request("jane", &pem("dev")), other] {
        assert_eq!(bob.post(PATH, &body).await.code, 201);
    }
    let approve = |name: &'static str| {
        let bob = bob.clone();
        async move {
            let mut object = bob.get(&format!("{PATH}/{name}")).await.json();
            object["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
            bob.put(&format!("{PATH}/{name}/approval"), &object).await
        }
    };
    let refused = |verb: &str| {
        format!(
            "certificatesigningrequests.certificates.k8s.io \"jane\" is forbidden: user not permitted to \
             {verb} requests with signerName \"kubernetes.io/kube-apiserver-client\""
        )
    };
    let answer = approve("jane").await;
    assert_eq!((answer.code, &answer.json()["message"]), (403, &json!(refused("approve"))));
    let conditions = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let path = format!("{PATH}/jane/approval");
    assert_eq!(bob.patch(&path, "merge-patch+json", &conditions).await.code, 403);
    assert_eq!(approve("other").await.code, 200, "of that domain");
    let der = STANDARD.encode(&hub.authority.certificate);
    let text = format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    let certificate = json!({"status": {"certificate": STANDARD.encode(text)}});
    let status = format!("{PATH}/jane/status");
    let answer = bob.patch(&status, "merge-patch+json", &certificate).await;
    assert_eq!((answer.code, &answer.json()["message"]), (403, &json!(refused("sign"))));
    let own = "kubernetes.io/kube-apiserver-client";
    gives("own", json!([signers("approve", own), signers("sign", own)])).await;
    assert_eq!(approve("jane").await.code, 200);
    assert_eq!(bob.patch(&status, "merge-patch+json", &certificate).await.code, 200);
}

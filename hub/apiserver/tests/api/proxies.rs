//! Requests that go on to a pod, named itself or by its Service.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::port_forwards::upgrade;
use crate::support::{Client, Hub};

const ALL: &str = "/api/v1/namespaces/default";

/// A pod that has an address.
pub async fn pod(client: &Client, name: &str, node: &str) {
    let ports = json!([{"containerPort": 8080}]);
    let pod = json!({"metadata": {"name": name}, "spec": {
        "nodeName": node, "containers": [{"name": "c", "image": "i", "ports": ports}]}});
    let answer = client.post(&format!("{ALL}/pods"), &pod).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let mut pod = answer.json();
    pod["status"]["podIP"] = json!("10.64.0.2");
    let answer = client.put(&format!("{ALL}/pods/{name}/status"), &pod).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_request_goes_on_to_a_pod_without_its_credentials() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let headers =
        [("impersonate-user", "eve"), ("impersonate-group", "system:masters"), ("x-own", "1")];
    for name in ["p", "p:8080", "http:p:8080", "http:p:"] {
        let path = format!("{ALL}/pods/{name}/proxy/a%20b/?limit=x&watch=1");
        let answer = admin.send("GET", &path, &headers, Bytes::new()).await;
        assert_eq!(answer.code, 200, "{name}: {}", answer.text());
        let text = answer.text();
        assert!(text.starts_with("GET /a%20b/?limit=x&watch=1 "), "{text}");
        assert!(text.contains("x-own") && text.contains("x-forwarded-uri"), "{text}");
        assert!(!text.contains("impersonate"), "{text}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let path = format!("{ALL}/pods/p/proxy/x/");
        let answer = admin.send(method, &path, &[], "body").await;
        let text = answer.text();
        assert!(answer.code == 200 && text.starts_with(method) && text.ends_with("body"), "{text}");
    }
    let over_h2 = admin.send_over_h2("POST", &format!("{ALL}/pods/p/proxy/x"), "body".into()).await;
    assert!(over_h2.code == 200 && over_h2.text().ends_with("body"), "{}", over_h2.text());
    let bare = admin.get(&format!("{ALL}/pods/p/proxy?a=b")).await;
    assert_eq!(bare.code, 301);
    assert_eq!(bare.headers["location"], format!("{ALL}/pods/p/proxy/?a=b"));
    let away = admin.get(&format!("{ALL}/pods/p/proxy/away")).await;
    assert_eq!(away.code, 302);
    assert_eq!(away.headers["location"], format!("{ALL}/pods/p/proxy/login"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let path = format!("{ALL}/pods/p/proxy/half");
    let answer = admin.open("GET", &path, &[], Bytes::new()).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_pod_may_change_the_protocol_behind_a_proxy() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let headers = [("connection", "upgrade"), ("upgrade", "echo")];
    let path = format!("{ALL}/pods/p/proxy/x");
    let mut raw = upgrade(&admin, "GET", &path, &headers).await.unwrap();
    raw.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    raw.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
}

#[tokio::test]
async fn a_service_leads_to_its_pods_alone() {
    let hub = Hub::start().await;
    let admin = hub.admin();
    pod(&admin, "p", "pi-7").await;
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    let answer = admin.post(&format!("{ALL}/services"), &service).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let get = async |name: &str| {
        let answer = admin.get(&format!("{ALL}/services/{name}/proxy/x")).await;
        (answer.code, answer.text())
    };
    let (code, text) = get("web:80").await;
    assert!(code == 503 && text.contains("no endpoints available for service"), "{code} {text}");
    let endpoint = |name: &str, ready: bool| {
        json!({"addresses": ["10.64.0.2"], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": name, "namespace": "default"}})
    };
    let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "endpoints": [endpoint("gone", true), endpoint("p", true), endpoint("late", false)]});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let answer = admin.post(slices, &slice).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    for name in ["web:80", "web:http", "http:web:http"] {
        let (code, text) = get(name).await;
        assert!(code == 200 && text.starts_with("GET /x "), "{name}: {code} {text}");
    }
    for (name, code, told) in [
        ("web:81", 503, "no service port 81 found for service"),
        ("none:80", 404, "not found"),
        ("https:web:80", 503, "no TLS to pods"),
        ("ftp:web:80", 400, "invalid service request"),
    ] {
        let (got, text) = get(name).await;
        assert!(got == code && text.contains(told), "{name}: {got} {text}");
    }
    pod(&admin, "far", "away").await;
    let answer = admin.get(&format!("{ALL}/pods/far/proxy/x")).await;
    assert!(answer.code == 503 && answer.text().contains("error trying to reach service"));
}

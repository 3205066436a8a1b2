//! What becomes of a device's signing request when it gets old.

use freewheel_hub_objects::{DeleteOptions, WriteOptions};
use freewheel_link::join::{self, JoinRefusal};
use freewheel_link::message::ALPN_JOIN;
use serde_json::json;

use crate::support::*;

async fn delete(hub: &Hub, csr: &str) {
    let place = place(REQUESTS, "", csr);
    hub.objects.delete(&WriteOptions::default(), &place, &DeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_device_whose_request_has_expired_comes_back_with_a_new_one() {
    let hub = Hub::new(false).await;
    let device = Device::new();
    let link = hub.connect(ALPN_JOIN, None);
    let request = device.ask("pi-7", TOKEN);
    let asking = tokio::spawn(async move { join::ask(&*link, &request, |_| {}).await });
    eventually("a request", || !hub.requests().is_empty()).await;
    let csr = hub.requests().remove(0);
    delete(&hub, &csr).await;
    // It is told to come back, which it does by itself; nobody has denied it.
    refused(asking.await.unwrap(), JoinRefusal::Busy, "expired");

    let link = hub.connect(ALPN_JOIN, None);
    let request = device.ask("pi-7", TOKEN);
    let again = tokio::spawn(async move { join::ask(&*link, &request, |_| {}).await });
    eventually("a new request", || !hub.requests().is_empty()).await;
    hub.accept("pi-7", true).await;
    hub.decide(&csr, "Approved").await;
    again.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_spent_certificate_is_no_answer_and_takes_a_new_approval() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    let first = hub.join(&device, "pi-7", TOKEN).await.unwrap();
    let csr = hub.requests().remove(0);
    delete(&hub, &csr).await;
    assert!(hub.join(&device, "pi-7", TOKEN).await.is_ok(), "its request was cleaned away");

    // What stands in the request is of no use to this device: another's key, or too little time.
    let other = hub.join(&Device::new(), "pi-8", TOKEN).await.unwrap();
    delete(&hub, &csr).await;
    let mut value = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": csr}, "spec": {
            "request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K",
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
        },
    });
    let pem = freewheel_hub_pki::encode("CERTIFICATE", &other.certificate);
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    value["status"] = json!({"certificate": encoded});
    hub.create(REQUESTS, "", &csr, value.clone()).await;
    let status = |_| Ok(value.clone());
    let place = place(REQUESTS, "", &csr);
    hub.objects.modify(&WriteOptions::default(), &place, Some("status"), status).await.unwrap();
    let before = hub.get(REQUESTS, "", &csr).await["metadata"]["uid"].clone();
    let second = hub.join(&device, "pi-7", TOKEN).await.unwrap();
    assert_ne!(hub.get(REQUESTS, "", &csr).await["metadata"]["uid"], before, "a new request");
    assert_ne!(second.certificate, other.certificate);
    assert_ne!(second.certificate, first.certificate);
}

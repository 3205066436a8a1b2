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
    let asking = tokio::spawn(async move { join::submit(&*link, &request, |_| {}).await });
    eventually("a request", || !hub.requests().is_empty()).await;
    let csr = hub.requests().remove(0);
    delete(&hub, &csr).await;
    // It is told to come back, which it does by itself; nobody has denied it.
    refused(asking.await.unwrap(), JoinRefusal::Busy, "expired");

    let link = hub.connect(ALPN_JOIN, None);
    let request = device.ask("pi-7", TOKEN);
    let again = tokio::spawn(async move { join::submit(&*link, &request, |_| {}).await });
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
    let spec = hub.get(REQUESTS, "", &csr).await["spec"].take();
    delete(&hub, &csr).await;
    let mut value = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": csr}, "spec": spec,
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

#[tokio::test]
async fn what_somebody_else_asks_for_is_no_device_s() {
    let hub = Hub::new(false).await;
    let device = Device::new();
    let request = device.ask("pi-7", TOKEN);
    let mark = freewheel_hub_pki::VerifiedRequest::read(&request.csr).unwrap().fingerprint();
    let csr = format!("pi-7-{}", &mark.hex()[..10]);
    let in_pem = |der: &[u8]| {
        let pem = freewheel_hub_pki::encode("CERTIFICATE REQUEST", der);
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem)
    };
    let (own, other) = (in_pem(&request.csr), in_pem(&Device::new().ask("pi-7", TOKEN).csr));
    let client = "kubernetes.io/kube-apiserver-client";
    let joins = |name: &str| json!({"freewheel.dev/joining-cluster": [name]});
    for (signer, request, extra) in [
        ("example.com/x", &own, json!({})),
        (client, &own, json!({})),
        ("example.com/x", &own, joins("pi-7")),
        (client, &other, joins("pi-7")),
        (client, &own, joins("pi-8")),
    ] {
        let value = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": csr}, "spec": {"request": request, "signerName": signer,
                "usages": ["client auth"], "username": "eve", "extra": extra},
        });
        hub.create(REQUESTS, "", &csr, value).await;
        hub.decide(&csr, "Approved").await;
        // The owner expects the device, and has said half of the yes.
        if hub.objects.get(&place(CLUSTERS, "", "pi-7")).is_ok() {
            hub.accept("pi-7", true).await;
        }
        let joined = hub.join(&device, "pi-7", TOKEN).await;
        refused(joined, JoinRefusal::Busy, "not this device's own");
        delete(&hub, &csr).await;
    }
    hub.accept("pi-7", true).await;
    let link = hub.connect(ALPN_JOIN, None);
    let asking = tokio::spawn(async move { join::submit(&*link, &request, |_| {}).await });
    eventually("a request of its own", || !hub.requests().is_empty()).await;
    hub.decide(&csr, "Approved").await;
    asking.await.unwrap().unwrap();
}

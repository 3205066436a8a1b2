//! Admission webhooks are called over HTTPS, each call on a connection of its own.
//!
//! Guarantees:
//! - an answer is bounded, and whom no authority vouches for that the configuration names is told nothing
//!   (`webhooks_are_asked_over_tls`);
//! - a webhook of a spoke's cluster reaches nothing that the hub's host keeps to itself
//!   (`a_tenants_webhook_reaches_nothing_of_the_host`).

use async_trait::async_trait;
use freewheel_hub_admission::{Address, CallError, Caller};

use super::webhook::Https;
use crate::client::ClientError;

/// Largest answer that is read: an object's worth of patches.
const ANSWER_BYTES_MAX: usize = 3 << 20;
/// Bytes of an answer that is no success that are told.
const TOLD_BYTES_MAX: usize = 512;

/// Calls them.
pub(super) struct AdmissionWebhooks;

#[async_trait]
impl Caller for AdmissionWebhooks {
    async fn call(&self, address: &Address, review: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let lost = |why: String| CallError::Unreachable(why);
        let https =
            Https::trusting(&address.authorities).map_err(|error| lost(error.to_string()))?;
        let client = https.client(&address.url).map_err(lost)?.reading(ANSWER_BYTES_MAX);
        let client = if address.of_tenant { client.kept_out() } else { client };
        let answer = client.post(review).await.map_err(|error| lost(told(&error)))?;
        if answer.status.is_success() {
            return Ok(answer.body.to_vec());
        }
        let mut body = String::from_utf8_lossy(&answer.body).into_owned();
        body.truncate(body.floor_char_boundary(TOLD_BYTES_MAX));
        Err(CallError::Answered(answer.status.as_u16(), body))
    }
}

fn told(error: &ClientError) -> String {
    match error {
        ClientError::Connect { source, .. } => format!("dial tcp: {source}"),
        other => crate::chain(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use freewheel_hub_api::kinds;
    use freewheel_hub_apiserver::{Access, AccessOptions};
    use freewheel_hub_objects::{ObjectRef, Objects, Person, WriteOptions, stored_value};
    use freewheel_hub_pki::Pki;
    use freewheel_hub_schema::error::ApiError;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::serve::webhook::tests::acceptor;

    type Says = fn(&Value) -> Value;

    /// A webhook over TLS that says this; what it does not answer within, it never does.
    async fn webhook(pki: &Pki, says: Says) -> String {
        let (acceptor, listener) = (acceptor(pki), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let mut asked = Vec::new();
                let review: Value = loop {
                    let mut part = [0; 4096];
                    let read = stream.read(&mut part).await.unwrap();
                    asked.extend_from_slice(&part[..read]);
                    let at = asked.windows(4).position(|four| four == b"\r\n\r\n");
                    let body = at.map(|at| serde_json::from_slice(&asked[at + 4..]));
                    if let Some(Ok(review)) = body {
                        break review;
                    }
                };
                let mut response = says(&review["request"]);
                if response == Value::Null {
                    std::mem::forget(stream);
                    continue;
                }
                response["uid"] = review["request"]["uid"].clone();
                let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
                let answer = answer.to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            }
        });
        url
    }

    fn objects() -> Objects {
        let options = AccessOptions {
            webhooks: Some(Arc::new(AdmissionWebhooks)),
            ..AccessOptions::default()
        };
        let (access, store) = Access::over(Arc::new(MemoryStore::new()), options);
        access.guard(Objects::new(store))
    }

    fn place(cluster: &str, version: &str, kind: &str) -> ObjectRef {
        let cluster = ClusterName::try_from(cluster).unwrap();
        let kind = kinds::registry(&cluster).by_kind(version, kind).unwrap().clone();
        let namespace = if kind.namespaced { "default" } else { "" }.into();
        ObjectRef { kind, cluster, namespace, name: String::new() }
    }

    async fn create(objects: &Objects, place: &ObjectRef, value: Value) -> Result<Value, ApiError> {
        let how = WriteOptions::by(Person { name: "ada".to_owned(), ..Person::default() });
        let written = objects.create(&how, place, value).await?;
        stored_value(&written.stored)
    }

    async fn configure(objects: &Objects, cluster: &str, kind: &str, hook: Value) {
        let mut hook = hook;
        hook["name"] = json!("asks.example.com");
        hook["admissionReviewVersions"] = json!(["v1"]);
        hook["sideEffects"] = json!("None");
        hook["rules"] = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"]}]);
        let value = json!({"metadata": {"name": kind.to_lowercase()}, "webhooks": [hook]});
        let place = place(cluster, "admissionregistration.k8s.io/v1", kind);
        create(objects, &place, value).await.unwrap();
    }

    async fn furnished(cluster: &str) -> Objects {
        let objects = objects();
        create(
            &objects,
            &place(cluster, "v1", "Namespace"),
            json!({"metadata": {"name": "default"}}),
        )
        .await
        .unwrap();
        objects
    }

    fn bundle(pki: &Pki) -> Value {
        json!(STANDARD.encode(&pki.ca_pem))
    }

    fn config_map(name: &str) -> Value {
        json!({"metadata": {"name": name}, "data": {"key": "value"}})
    }

    #[tokio::test]
    async fn webhooks_are_asked_over_tls() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), false).unwrap();
        let objects = furnished("root").await;
        let changes = webhook(&pki, |_| {
            let patch = json!([{"op": "add", "path": "/data/added", "value": "yes"}]);
            json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
        });
        let client = json!({"url": changes.await, "caBundle": bundle(&pki)});
        configure(
            &objects,
            "root",
            "MutatingWebhookConfiguration",
            json!({"clientConfig": client}),
        )
        .await;
        let decides = webhook(&pki, |request| {
            let object = &request["object"];
            if object["metadata"]["name"] == "slow" {
                return Value::Null;
            }
            let right =
                object["data"]["added"] == "yes" && request["userInfo"]["username"] == "ada";
            let named = object["metadata"]["name"] != "bad";
            json!({"allowed": right && named, "status": {"code": 403, "message": "not that one", "reason": "Forbidden"}})
        });
        let client = json!({"url": format!("{}/decide", decides.await), "caBundle": bundle(&pki)});
        let hook = json!({"clientConfig": client, "timeoutSeconds": 1});
        configure(&objects, "root", "ValidatingWebhookConfiguration", hook).await;
        let at = place("root", "v1", "ConfigMap");
        let made = create(&objects, &at, config_map("good")).await.unwrap();
        assert_eq!(made["data"], json!({"key": "value", "added": "yes"}));
        let refused = create(&objects, &at, config_map("bad")).await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (403, "Forbidden"));
        assert_eq!(
            refused.message,
            "admission webhook \"asks.example.com\" denied the request: not that one"
        );
        let late = create(&objects, &at, config_map("slow")).await.unwrap_err();
        assert_eq!(late.code, 500);
        assert!(late.message.starts_with("Internal error occurred: failed calling webhook \"asks.example.com\": failed to call webhook: Post \"https://127.0.0.1:"), "{}", late.message);
        assert!(
            late.message.ends_with("/decide?timeout=1s\": context deadline exceeded"),
            "{}",
            late.message
        );
        // One that nobody vouches for is told nothing.
        let other = tempfile::tempdir().unwrap();
        let stranger = Pki::open(other.path(), false).unwrap();
        let address = Address {
            url: webhook(&stranger, |_| json!({"allowed": true})).await,
            authorities: pki.ca_pem.clone(),
            of_tenant: false,
        };
        let call = AdmissionWebhooks.call(&address, b"{}".to_vec());
        let outcome = tokio::time::timeout(Duration::from_secs(20), call).await.unwrap();
        assert!(matches!(outcome, Err(CallError::Unreachable(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_tenants_webhook_reaches_nothing_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), false).unwrap();
        let url = webhook(&pki, |_| json!({"allowed": true})).await;
        let objects = furnished("pi-7").await;
        let client = json!({"url": url, "caBundle": bundle(&pki)});
        configure(
            &objects,
            "pi-7",
            "ValidatingWebhookConfiguration",
            json!({"clientConfig": client}),
        )
        .await;
        let refused = create(&objects, &place("pi-7", "v1", "ConfigMap"), config_map("a")).await;
        let refused = refused.unwrap_err().message;
        assert!(refused.ends_with("there is no address of it that may be dialled"), "{refused}");
    }
}

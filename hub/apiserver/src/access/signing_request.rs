//! What is added to certificate requests and not let pass, as kube-apiserver's admission does: who asks is who we know;
//! a request has to be one; nobody asks to be an administrator.
//!
//! Guarantees:
//! - nobody says of himself that he is a device (`nobody_asks_as_a_device`).

use async_trait::async_trait;
use freewheel_hub_api::kinds::certificate_signing_request::JOINING_CLUSTER;
use freewheel_hub_objects::{Actor, Plugin, Refusal, Review, Verb};
use freewheel_hub_pki::{MASTERS, Request, Signature, check_chain};
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::time;
use serde_json::{Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The signer whose certificates the API server trusts.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// A key of a size that we do not take cannot prove itself either.
const UNSIGNED: &str =
    "its own key has not signed it, or is of a size that is not taken (RSA: 2048 to 8192 bits)";

/// Prepares requests and what is answered to them, or refuses them. It is for the chain of every hub that serves this
/// API.
pub(crate) struct CertificateRequests;

#[async_trait]
impl Plugin for CertificateRequests {
    fn name(&self) -> &'static str {
        "CertificateRequests"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let answers = review.verb == Verb::Update && review.subresource.is_some();
        review.target.kind.has(Trait::AsksForACertificate) && (review.creates() || answers)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &Review<'_>, request: &mut Value) -> Result<(), Refusal> {
        let Some(old) = review.old else {
            name_requester(review.actor, request);
            return check(request);
        };
        stamp(review.now(), request);
        if review.subresource == Some("status") {
            check_certificate(request, old)?;
        }
        Ok(())
    }
}

/// Who asks is what we know, not what the request says. The gateway asks in the name of a device: that somebody is one is
/// the gateway's word alone, whoever else says it of them (a header of who impersonates, a token, a webhook).
fn name_requester(actor: &Actor, value: &mut Value) {
    let Actor::Person(person) = actor else { return };
    let mut extra = person.extra.clone();
    extra.remove(JOINING_CLUSTER);
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("username".to_owned(), json!(person.name));
        spec.insert("groups".to_owned(), json!(person.groups));
        for (key, value) in [("uid", json!(person.uid)), ("extra", json!(extra))] {
            let is_empty =
                person.uid.is_empty() && key == "uid" || extra.is_empty() && key == "extra";
            if is_empty {
                spec.remove(key);
            } else {
                spec.insert(key.to_owned(), value);
            }
        }
    }
}

fn check(value: &Value) -> Result<(), Refusal> {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let encoded = text("/spec/request");
    // What is not even PEM, the kind's own rules refuse.
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    if !pem.trim_ascii_start().starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
        return Ok(());
    }
    let malformed = |why: &str| {
        Refusal::Invalid(vec![FieldError::invalid("spec.request", &json!(encoded), why)])
    };
    let der = Request::in_pem(&pem).map_err(|error| malformed(&error.to_string()))?;
    let request = Request::read(&der)
        .map_err(|error| malformed(&format!("malformed certificate request: {error}")))?;
    match request.signature() {
        // Somebody else's signer may know the algorithm; ours says that it does not.
        Signature::Own | Signature::Unknown => {}
        Signature::Wrong => return Err(malformed(UNSIGNED)),
    }
    if text("/spec/signerName") != CLIENTS {
        return Ok(());
    }
    let (_, groups) = request.claims().map_err(|error| malformed(&error.to_string()))?;
    if groups.contains(&MASTERS) {
        let why = format!("use of {CLIENTS} signer with {MASTERS} group is not allowed");
        return Err(Refusal::forbidden(why));
    }
    Ok(())
}

/// What is put in as a certificate has to be some.
fn check_certificate(new: &Value, old: &Value) -> Result<(), Refusal> {
    let read = |value: &Value| {
        value.pointer("/status/certificate").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let encoded = read(new);
    if encoded.is_empty() || encoded == read(old) {
        return Ok(());
    }
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    let Err(fault) = check_chain(&pem) else { return Ok(()) };
    let (data, why) = (json!("<certificate data>"), fault.to_string());
    Err(Refusal::Invalid(vec![FieldError::invalid("status.certificate", &data, &why)]))
}

/// Gives conditions of a request their times where the caller has left them out: from when a decision
/// was made, it is known when the request is over.
fn stamp(now: i64, value: &mut Value) {
    let now = json!(time::from_unix(now));
    let conditions = value.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for key in ["lastUpdateTime", "lastTransitionTime"] {
            let time = condition.entry(key).or_insert(Value::Null);
            if time.is_null() {
                *time = now.clone();
            }
        }
    }
}

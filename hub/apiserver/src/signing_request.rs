//! What the API server adds to certificate requests and does not let pass, as kube-apiserver's admission:
//! who asks is who we know; a request has to be one; nobody asks to be an administrator.

use std::sync::Arc;

use freewheel_hub_api::error::{ApiError, Details, FieldError};
use freewheel_hub_api::kind::Trait;
use freewheel_hub_api::time;
use freewheel_hub_objects::{Canonical, Proposal};
use freewheel_hub_pki::{Request, Signature, check_chain};
use serde_json::{Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::authn::{MASTERS, User};
use crate::call::Call;

/// The signer whose certificates the API server trusts.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// A key of a size that we do not take cannot prove itself either.
const UNSIGNED: &str =
    "its own key has not signed it, or is of a size that is not taken (RSA: 2048 to 8192 bits)";

/// Prepares a new request, or refuses it. Other kinds pass as they are.
///
/// # Errors
/// 422 for what is no request, 403 for one that asks for too much.
pub(crate) fn admit(call: &Call, value: Canonical) -> Result<Proposal, ApiError> {
    if !call.view.stored.has(Trait::AsksForACertificate) {
        return Ok(value.into());
    }
    let mut value = Value::clone(&value);
    name_requester(&call.user, &mut value);
    check(&value)?;
    Ok(value.into())
}

/// Who asks is what we know, not what the request says.
fn name_requester(user: &Arc<User>, value: &mut Value) {
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("username".to_owned(), json!(user.name));
        spec.insert("groups".to_owned(), json!(user.groups));
        spec.remove("uid");
        spec.remove("extra");
    }
}

fn check(value: &Value) -> Result<(), ApiError> {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (encoded, name) = (text("/spec/request"), text("/metadata/name"));
    // What is not even PEM, the kind's own rules refuse.
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    if !pem.trim_ascii_start().starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
        return Ok(());
    }
    let malformed = |why: &str| {
        let error = FieldError::invalid("spec.request", &json!(encoded), why);
        ApiError::invalid("certificates.k8s.io", "CertificateSigningRequest", name, &[error])
    };
    let der = Request::in_pem(&pem).map_err(|error| malformed(&error.to_string()))?;
    let request = Request::read(&der)
        .map_err(|error| malformed(&format!("malformed certificate request: {error}")))?;
    match request.signature() {
        // Somebody else's signer may know the algorithm; ours says that it does not.
        Signature::Own | Signature::Unknown => {}
        Signature::Wrong => return Err(malformed(UNSIGNED)),
    }
    if request.groups().any(|group| group == MASTERS) && text("/spec/signerName") == CLIENTS {
        return Err(forbidden(
            name,
            &format!("use of {CLIENTS} signer with {MASTERS} group is not allowed"),
        ));
    }
    Ok(())
}

fn forbidden(name: &str, why: &str) -> ApiError {
    let resource = "certificatesigningrequests.certificates.k8s.io";
    let mut error =
        ApiError::new(403, "Forbidden", format!("{resource} {name:?} is forbidden: {why}"));
    error.details = Some(Box::new(Details {
        name: name.to_owned(),
        group: "certificates.k8s.io".to_owned(),
        kind: "certificatesigningrequests".to_owned(),
        ..Details::default()
    }));
    error
}

/// Whether a certificate may come in here.
pub(crate) fn is_status(call: &Call) -> bool {
    call.subresource == "status" && call.view.stored.has(Trait::AsksForACertificate)
}

/// What is put in as a certificate has to be some.
///
/// # Errors
/// 422.
pub(crate) fn check_certificate(call: &Call, new: &Value, old: &Value) -> Result<(), ApiError> {
    let read = |value: &Value| {
        value.pointer("/status/certificate").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let encoded = read(new);
    if !is_status(call) || encoded.is_empty() || encoded == read(old) {
        return Ok(());
    }
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    let Err(fault) = check_chain(&pem) else { return Ok(()) };
    let (data, why) = (json!("<certificate data>"), fault.to_string());
    let error = FieldError::invalid("status.certificate", &data, &why);
    let (group, kind) = ("certificates.k8s.io", "CertificateSigningRequest");
    Err(ApiError::invalid(group, kind, &call.name, &[error]))
}

/// Gives conditions of a request their times where the caller has left them out: from when a decision
/// was made, it is known when the request is over.
pub(crate) fn stamped(call: &Call, value: Canonical) -> Proposal {
    if call.subresource.is_empty() || !call.view.stored.has(Trait::AsksForACertificate) {
        return value.into();
    }
    let mut value = Value::clone(&value);
    stamp(call, &mut value);
    value.into()
}

/// The same of what a patch makes.
pub(crate) fn stamp(call: &Call, value: &mut Value) {
    if call.subresource.is_empty() || !call.view.stored.has(Trait::AsksForACertificate) {
        return;
    }
    let now = json!(time::from_unix(call.hub.server.objects.clock().unix_seconds()));
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

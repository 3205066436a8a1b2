//! A device's signing request, and its certificate in that: issued once, found again, forgotten when it is spent.
//!
//! Guarantees:
//! - what somebody else asks for is no device's, whatever its name: nothing of it counts for one
//!   (`what_somebody_else_asks_for_is_no_device_s`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_api::kinds::certificate_signing_request::JOINING_CLUSTER;
use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects};
use freewheel_hub_pki::{Authority, Request, VerifiedRequest, certificates, encode};
use freewheel_link::digest::Digest;
use freewheel_link::join::JoinRequestV1;
use freewheel_link::names::ClusterName;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::joining::{REQUESTS_KIND, Refusal, how, how_for};
use crate::object_refs::object_ref;
use crate::spoke_identity::SpokeIdentity;

/// A certificate with less time left is made anew for a device that joins again.
const REUSE_LIFE_SECONDS: i64 = 30 * 24 * 3600;

/// Who is asked to sign it.
pub(crate) const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whether a request is one that the gateway has made for the device that joins as this: nobody else says the cluster in the
/// extra of who asks.
pub(crate) fn is_for(csr: &Value, name: &ClusterName) -> bool {
    let spec = &csr["spec"];
    spec["signerName"] == SIGNER && spec["extra"][JOINING_CLUSTER] == json!([name.as_str()])
}

/// Whether it is for this key as well: another's may share its name. It takes a look at a signature.
pub(crate) fn is_own(csr: &Value, (name, mark): (&ClusterName, &Digest)) -> bool {
    let key = || {
        let pem = STANDARD.decode(csr["spec"]["request"].as_str()?).ok()?;
        let der = Request::in_pem(&pem).ok()?;
        VerifiedRequest::read(&der).ok().map(|asked| asked.fingerprint())
    };
    is_for(csr, name) && key().is_some_and(|key| key == *mark)
}

/// A request is for one certificate. Where that one is of no use any more, a new request has to be
/// approved.
pub(crate) async fn forget_spent(
    objects: &Objects,
    (csr_name, own): (&str, (&ClusterName, &Digest)),
    request: &JoinRequestV1,
    uid: &str,
) -> Result<(), Refusal> {
    let place = object_ref(REQUESTS_KIND, &ClusterName::root(), "", csr_name)?;
    let Ok(stored) = objects.get(&place) else { return Ok(()) };
    let csr = stored.object.value()?;
    let is_spent =
        certificate_text(&csr).is_some() && issued(objects, &csr, request, uid).is_none();
    if !is_spent || !is_own(&csr, own) {
        return Ok(());
    }
    let uid = Some(stored.object.header.uid.clone());
    let options = DeleteOptions { uid, ..DeleteOptions::default() };
    if let Err(error) = objects.delete(&how(), &place, &options).await
        && error.code != 404
    {
        return Err(error.into());
    }
    Ok(())
}

fn certificate_text(csr: &Value) -> Option<&str> {
    csr.pointer("/status/certificate")?.as_str().filter(|text| !text.is_empty())
}

/// The certificate that was issued before, if it is of this key and ManagedCluster and has time left.
pub(crate) fn issued(
    objects: &Objects,
    csr: &Value,
    request: &JoinRequestV1,
    uid: &str,
) -> Option<CertificateDer<'static>> {
    let given = STANDARD.decode(certificate_text(csr)?).ok()?;
    let given = certificates(&given)?.into_iter().next()?;
    let identity = SpokeIdentity::read(&given)?;
    let enough = objects.clock().unix_seconds() + REUSE_LIFE_SECONDS < identity.life.to;
    let same_key = identity.key == VerifiedRequest::read(&request.csr).ok()?.fingerprint();
    (enough && same_key && identity.uid == uid).then_some(given)
}

pub(crate) async fn sign(
    objects: &Objects,
    authority: &Authority,
    (name, uid): (&ClusterName, &str),
    place: &ObjectRef,
    request: &JoinRequestV1,
) -> Result<CertificateDer<'static>, Refusal> {
    let now = objects.clock().unix_seconds();
    let certificate = authority.sign_agent(&request.csr, name, uid, now)?;
    let text = STANDARD.encode(encode("CERTIFICATE", &certificate));
    let write = |mut value: Value| {
        // A second connection of the same device may have been faster; the first certificate stays.
        if certificate_text(&value).is_none() {
            value["status"]["certificate"] = json!(text);
        }
        Ok(value)
    };
    let written =
        objects.modify(&how_for(objects, (name, uid)), place, Some("status"), write).await?;
    Ok(issued(objects, &written.stored.object.value()?, request, uid).unwrap_or(certificate))
}

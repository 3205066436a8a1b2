//! Signs people's certificate requests once somebody has approved them, as kube-controller-manager does.
//!
//! ```text
//! CertificateSigningRequest ─approved─▶ status.certificate
//!                                   └─▶ condition Failed, SignerValidationFailure
//! ```
//!
//! Guarantees:
//! - what is not approved, is denied, has failed or has its certificate is left alone
//!   (`only_what_is_approved_and_open_is_signed`);
//! - only the signer `kubernetes.io/kube-apiserver-client` of the root is ours
//!   (`devices_and_the_signers_of_others_are_left_alone`);
//! - other `kubernetes.io/` signers do not exist here, and an event says so
//!   (`a_request_to_a_signer_that_is_not_here_is_told_about`).
//!
//! Requests of devices are signed where they join, since more than an approval is asked of them.

mod agent;
mod cleaner;

use std::fmt;
use std::time::Duration;

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{Condition, REQUEST_FAILED};
use freewheel_hub_api::kinds::certificate_signing_request::JOINING_CLUSTER;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::Value;
use tracing::info;

use crate::engine::client::{everywhere, kind, typed};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};

pub use agent::{AgentCertificate, AgentSigner, Issued};
pub use cleaner::Cleaner;

/// The signer that is ours.
pub const CLIENT_SIGNER_NAME: &str = "kubernetes.io/kube-apiserver-client";
/// How long a certificate is valid, and at most (`--cluster-signing-duration`).
pub const CERTIFICATE_VALIDITY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// At least: clocks differ by minutes.
const CERTIFICATE_VALIDITY_MIN: Duration = Duration::from_secs(600);

/// What one certificate is asked for.
#[derive(Clone, Copy, Debug)]
pub struct RequestedCertificate<'a> {
    /// The request, in PEM.
    pub pem: &'a [u8],
    /// What the certificate is for, in the words of certificates.k8s.io.
    pub usages: &'a [String],
    /// How long it is to be valid.
    pub life: Duration,
    /// When it is signed.
    pub now: Timestamp,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The request will never be signed.
    #[error("{0}")]
    Refused(String),
    /// The authority cannot sign at the moment.
    #[error("{0}")]
    Failed(String),
}

/// The fleet's CA, as far as this controller needs it; the hub's binary brings it.
pub trait Authority: fmt::Debug + Send + Sync {
    /// A client certificate in PEM.
    ///
    /// # Errors
    /// [`SigningError`].
    fn sign(&self, asked: &RequestedCertificate<'_>) -> Result<Vec<u8>, SigningError>;

    /// A key and a certificate for the agent of an add-on.
    ///
    /// # Errors
    /// [`SigningError`].
    fn issue(&self, asked: &AgentCertificate<'_>) -> Result<Issued, SigningError>;

    /// From when to when the first certificate of a PEM text holds.
    fn holds(&self, pem: &[u8]) -> Option<(Timestamp, Timestamp)>;

    /// When it ends.
    fn ends(&self, pem: &[u8]) -> Option<Timestamp> {
        self.holds(pem).map(|(_, end)| end)
    }
}

/// The controller.
pub struct Signing {
    client: Client,
    requests: Arc<Kind>,
    authority: Arc<dyn Authority>,
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SigningDecision {
    /// Nothing.
    Leave,
    /// Nobody will ever sign it, which somebody may wonder about.
    Unserved(String),
    /// It cannot be signed.
    Fail(String),
    /// Sign it for this long.
    Sign(Duration),
}

fn decide(request: &CertificateSigningRequest, in_root: bool) -> SigningDecision {
    let status = request.status.as_ref();
    let has = |kind: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|c| c.type_ == kind && c.status != "False")
    };
    let issued = status.is_some_and(|s| s.certificate.as_ref().is_some_and(|c| !c.0.is_empty()));
    if !has("Approved") || has("Denied") || has("Failed") || issued {
        return SigningDecision::Leave;
    }
    let signer = request.spec.signer_name.as_str();
    if signer != CLIENT_SIGNER_NAME {
        return if signer.starts_with("kubernetes.io/") {
            let text = format!(
                "this hub has no signer {signer:?}, its only one is {CLIENT_SIGNER_NAME:?}"
            );
            SigningDecision::Unserved(text)
        } else {
            SigningDecision::Leave
        };
    }
    if !in_root {
        let text = "requests are signed in the hub's root only: who has a certificate is somebody \
                    in every cluster of the hub";
        return SigningDecision::Fail(text.to_owned());
    }
    if request.spec.extra.as_ref().is_some_and(|extra| extra.contains_key(JOINING_CLUSTER)) {
        return SigningDecision::Leave;
    }
    SigningDecision::Sign(life(request.spec.expiration_seconds))
}

fn life(asked: Option<i32>) -> Duration {
    let asked = asked.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    asked
        .unwrap_or(CERTIFICATE_VALIDITY_MAX)
        .clamp(CERTIFICATE_VALIDITY_MIN, CERTIFICATE_VALIDITY_MAX)
}

impl Signing {
    /// Signs with this authority.
    pub fn new(client: Client, authority: Arc<dyn Authority>) -> Result<Self, Error> {
        let requests = kind("certificates.k8s.io", "v1", "certificatesigningrequests")?;
        Ok(Self { client, requests, authority })
    }

    async fn issue(&self, stored: &Stored, certificate: Vec<u8>) -> Result<(), Error> {
        let certificate = serde_json::to_value(ByteString(certificate))
            .map_err(|e| Error::Refused(e.to_string()))?;
        let write = |mut value: Value| {
            value["status"]["certificate"] = certificate.clone();
            Ok(value)
        };
        self.client
            .modify_at(&self.requests, stored, Some("status"), write)
            .await
            .map_err(Error::api("write a signed certificate"))?;
        info!(name = %stored.key.name, "a certificate is issued");
        Ok(())
    }

    async fn fail(&self, stored: &Stored, why: &str) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let failed = Condition::new(&REQUEST_FAILED, true, "SignerValidationFailure", why);
        let write = |mut value: Value| {
            failed.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        self.client
            .modify_at(&self.requests, stored, Some("status"), write)
            .await
            .map_err(Error::api("write that a request cannot be signed"))?;
        Ok(())
    }
}

#[async_trait]
impl Controller for Signing {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.requests)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        event.now.iter().map(|stored| stored.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else { return Ok(None) };
        let request: CertificateSigningRequest = typed(&stored)?;
        let life = match decide(&request, key.cluster.is_root()) {
            SigningDecision::Leave => return Ok(None),
            SigningDecision::Unserved(why) => {
                let name = self.client.name();
                self.client.recorder.warning(&self.requests, &stored, name, "NoSigner", why);
                return Ok(None);
            }
            SigningDecision::Fail(why) => return self.fail(&stored, &why).await.map(|()| None),
            SigningDecision::Sign(life) => life,
        };
        let usages = request.spec.usages.unwrap_or_default();
        let now = self.client.clock.now();
        let asked =
            RequestedCertificate { pem: &request.spec.request.0, usages: &usages, life, now };
        match self.authority.sign(&asked) {
            Ok(certificate) => self.issue(&stored, certificate).await?,
            Err(SigningError::Refused(why)) => self.fail(&stored, &why).await?,
            Err(failed @ SigningError::Failed(_)) => return Err(Error::SigningError(failed)),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(signer: &str, decisions: &[&str]) -> CertificateSigningRequest {
        let conditions: Vec<Value> =
            decisions.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        let value = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "jane"},
            "spec": {"request": "eA==", "signerName": signer, "usages": ["client auth"],
                "username": "kubernetes-admin"},
            "status": {"conditions": conditions},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_is_approved_and_open_is_signed() {
        for (decisions, verdict) in [
            (&["Approved"][..], SigningDecision::Sign(CERTIFICATE_VALIDITY_MAX)),
            (&[], SigningDecision::Leave),
            (&["Denied"], SigningDecision::Leave),
            (&["Approved", "Failed"], SigningDecision::Leave),
        ] {
            assert_eq!(
                decide(&request(CLIENT_SIGNER_NAME, decisions), true),
                verdict,
                "{decisions:?}"
            );
        }
        let mut issued = request(CLIENT_SIGNER_NAME, &["Approved"]);
        issued.status.as_mut().unwrap().certificate = Some(ByteString(vec![1]));
        assert_eq!(decide(&issued, true), SigningDecision::Leave);
    }

    #[test]
    fn devices_and_the_signers_of_others_are_left_alone() {
        let mut device = request(CLIENT_SIGNER_NAME, &["Approved"]);
        device.spec.extra = Some([(JOINING_CLUSTER.to_owned(), vec!["pi-7".to_owned()])].into());
        assert_eq!(decide(&device, true), SigningDecision::Leave);
        assert_eq!(
            decide(&request("example.com/mine", &["Approved"]), true),
            SigningDecision::Leave
        );
        let kubelet = decide(&request("kubernetes.io/kubelet-serving", &["Approved"]), true);
        assert!(matches!(kubelet, SigningDecision::Unserved(_)), "{kubelet:?}");
        let elsewhere = decide(&request(CLIENT_SIGNER_NAME, &["Approved"]), false);
        assert!(matches!(elsewhere, SigningDecision::Fail(_)), "{elsewhere:?}");
    }

    #[test]
    fn a_certificate_lives_as_long_as_asked_within_bounds() {
        let seconds = |asked| life(asked).as_secs();
        assert_eq!(seconds(None), 365 * 86_400);
        assert_eq!(seconds(Some(3600)), 3600);
        assert_eq!(seconds(Some(5)), 600);
        assert_eq!(seconds(Some(-5)), 600);
        assert_eq!(seconds(Some(i32::MAX)), 365 * 86_400);
    }
}

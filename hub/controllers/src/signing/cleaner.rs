//! Deletes certificate requests that are over, as kube-controller-manager does.
//!
//! ```text
//! nobody decided   a day after it was made
//! denied, failed   an hour later
//! issued           an hour after the approval, or when the certificate ends
//! ```
//!
//! What is approved and still waits for its signer stays.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use tracing::info;

use super::Authority;
use crate::engine::client::{everywhere, kind, typed};
use crate::engine::{Client, Controller, Error};

const DECIDED_REQUEST_TTL: SignedDuration = SignedDuration::from_hours(1);
const PENDING_REQUEST_TTL: SignedDuration = SignedDuration::from_hours(24);

/// The controller.
pub struct Cleaner {
    client: Client,
    requests: Arc<Kind>,
    authority: Arc<dyn Authority>,
}

impl Cleaner {
    /// Deletes through this client.
    pub fn new(client: Client, authority: Arc<dyn Authority>) -> Result<Self, Error> {
        let requests = kind("certificates.k8s.io", "v1", "certificatesigningrequests")?;
        Ok(Self { client, requests, authority })
    }
}

/// When a request is over; `ends` tells the end of a certificate.
fn over(
    request: &CertificateSigningRequest,
    ends: impl Fn(&[u8]) -> Option<Timestamp>,
) -> Option<Timestamp> {
    let made = request.metadata.creation_timestamp.as_ref().map(|time| time.0)?;
    let status = request.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    if conditions.is_empty() {
        return made.checked_add(PENDING_REQUEST_TTL).ok();
    }
    // Who decided may have left the time out.
    let since = |kind: &str| {
        let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
        Some(condition.last_update_time.as_ref().map_or(made, |time| time.0))
    };
    let hour_after =
        |kind: &str| since(kind).and_then(|time| time.checked_add(DECIDED_REQUEST_TTL).ok());
    let certificate = status.and_then(|s| s.certificate.as_ref()).filter(|c| !c.0.is_empty());
    let issued = certificate.and_then(|certificate| {
        let approved = hour_after("Approved")?;
        Some(ends(&certificate.0).map_or(approved, |end| end.min(approved)))
    });
    [hour_after("Denied"), hour_after("Failed"), issued].into_iter().flatten().min()
}

#[async_trait]
impl Controller for Cleaner {
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
        let Some(end) = over(&request, |pem| self.authority.ends(pem)) else { return Ok(None) };
        let left = Duration::try_from(end.duration_since(self.client.clock.now()));
        if let Ok(left) = left
            && !left.is_zero()
        {
            return Ok(Some(left + Duration::from_secs(1)));
        }
        info!(name = %key.name, "deletes an old certificate request");
        self.client
            .delete(&self.requests, key, &stored.object.header.uid, Propagation::Background)
            .await
            .map_err(Error::api("delete an old certificate request"))?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Everything happened at noon unless it says otherwise; the certificate ends at half past.
    #[track_caller]
    fn check(status: &Value, expected: Option<&str>) {
        let value = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "jane", "creationTimestamp": "2026-01-01T12:00:00Z"},
            "spec": {"request": "eA==", "signerName": "a.b/c", "usages": ["client auth"]},
            "status": status,
        });
        let request = serde_json::from_value(value).unwrap();
        let end = over(&request, |pem| (pem == b"short").then(|| at("2026-01-01T12:30:00Z")));
        assert_eq!(end, expected.map(at), "{status}");
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn decided(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T18:00:00Z"}])
    }

    #[test]
    fn each_kind_of_request_has_its_end() {
        check(&json!({}), Some("2026-01-02T12:00:00Z"));
        check(&json!({"conditions": decided("Denied")}), Some("2026-01-01T19:00:00Z"));
        check(&json!({"conditions": decided("Failed")}), Some("2026-01-01T19:00:00Z"));
        check(&json!({"conditions": decided("Approved")}), None);
        let issued = json!({"conditions": decided("Approved"), "certificate": "bG9uZw=="});
        check(&issued, Some("2026-01-01T19:00:00Z"));
        let expired = json!({"conditions": decided("Approved"), "certificate": "c2hvcnQ="});
        check(&expired, Some("2026-01-01T12:30:00Z"));
        let timeless = json!({"conditions": [{"type": "Denied", "status": "True"}]});
        check(&timeless, Some("2026-01-01T13:00:00Z"));
    }
}

//! A new certificate for a key that has one: over its session, or where devices join with one that has expired.
//!
//! Guarantees:
//! - only the key that the old certificate was given for gets a new one, only as the same ManagedCluster, and only
//!   while its owner accepts that (`a_known_key_whose_certificate_expired_may_renew_and_nothing_else`,
//!   `a_certificate_is_renewed_over_its_session_for_its_own_key`);
//! - whoever comes with an old certificate gets a certificate and nothing else
//!   (`a_known_key_whose_certificate_expired_may_renew_and_nothing_else`);
//! - while the hub's clock is lost nobody gets one, nor spends what it may have of them, and is told to come again
//!   (`a_hub_whose_clock_is_lost_gives_no_certificate_until_it_is_set`);
//! - a device that asks in a loop gets [`RENEWAL_BURST`] certificates and then few, however often it starts anew
//!   (`a_device_that_renews_in_a_loop_gets_few_certificates`).

use freewheel_hub_pki::{AuthorityError, Certificate, VerifiedRequest};
use freewheel_link::frame;
use freewheel_link::join::{AcceptedV1, JoinRefusal, RenewRequestV1};
use freewheel_link::message::{Answer, Reason, RefusalV1, RenewV1, RenewedV1};
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::TOO_MANY_REASON;
use freewheel_link::transport::SendHalf;
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;
use tracing::info;

use crate::inner::Inner;
use crate::joining::{No, Refusal, check_clock};
use crate::spoke_identity::SpokeIdentity;
use crate::{device_orders, session_records};

/// Certificates in a row for one device: an answer may get lost.
pub(crate) const RENEWAL_BURST: u32 = 2;
/// And per second after that, one an hour: a device renews once in months.
pub(crate) const RENEWALS_PER_SECOND: f64 = 1.0 / 3600.0;
/// Longest request that is looked at.
const REQUEST_BYTES_MAX: usize = 4096;

/// Over a session, whose certificate is this identity.
pub(crate) async fn in_session(
    inner: &Inner,
    identity: &SpokeIdentity,
    asked: &RenewV1,
) -> Result<RenewedV1, RefusalV1> {
    if REQUEST_BYTES_MAX < asked.csr.len() {
        return Err(RefusalV1::new("BadRequest", "the signing request is too large"));
    }
    let certificate = sign(inner, identity, &asked.csr).map_err(|no| {
        let refusal = match no {
            No::Refused(refusal) => refusal,
            No::TurnedAway(reason) => Refusal(JoinRefusal::Denied, reason.to_string()),
        };
        let reason = match refusal.0 {
            JoinRefusal::Busy => TOO_MANY_REASON,
            cause if cause.may_pass() => "ServiceUnavailable",
            _ => "Forbidden",
        };
        RefusalV1::new(reason, refusal.1)
    })?;
    if let Some(new) = SpokeIdentity::read(&certificate) {
        let written = session_records::note_certificate(inner.objects.store(), &new).await;
        written.map_err(|error| RefusalV1::new("ServiceUnavailable", error.to_string()))?;
    }
    info!(cluster = %identity.cluster, "a spoke's certificate is renewed");
    Ok(RenewedV1 { certificate: certificate.to_vec() })
}

/// Sends it; a spoke that did not get it asks again.
pub(crate) async fn send(send: &mut Box<dyn SendHalf>, renewed: &RenewedV1) {
    let sent = async {
        frame::write(send, &Answer::Ready).await?;
        frame::write(send, renewed).await?;
        send.shutdown().await.map_err(frame::FrameError::Io)
    };
    let _ = sent.await;
}

/// Where devices join: the handshake has proven nothing. Who has taken another's place gets a certificate for that.
pub(crate) fn without_session(inner: &Inner, asked: &RenewRequestV1) -> Result<AcceptedV1, No> {
    let old = CertificateDer::from(asked.certificate.as_slice());
    let odd = || {
        let text = "the old certificate is none that this hub has given to a spoke";
        Refusal(JoinRefusal::Request, text.to_owned())
    };
    let ours = Certificate::read(&old).is_some_and(|old| inner.authority.has_signed(&old));
    if !ours {
        return Err(odd().into());
    }
    let shown = SpokeIdentity::read(&old).ok_or_else(odd)?;
    // Also while its old name is there yet.
    let identity = successor(inner, &shown).unwrap_or(shown);
    let certificate = sign(inner, &identity, &asked.csr)?;
    Ok(AcceptedV1 {
        cluster: identity.cluster,
        certificate: certificate.to_vec(),
        ca: inner.authority.ca().to_vec(),
        fleet_root: inner.fleet_root,
    })
}

/// Who the device with this certificate is by now, where it has taken another's place.
fn successor(inner: &Inner, identity: &SpokeIdentity) -> Option<SpokeIdentity> {
    let (cluster, uid) = device_orders::renamed(&inner.objects, &identity.key)?;
    Some(SpokeIdentity { cluster, uid, ..identity.clone() })
}

fn sign(
    inner: &Inner,
    identity: &SpokeIdentity,
    csr: &[u8],
) -> Result<CertificateDer<'static>, No> {
    let asked = VerifiedRequest::read(csr).map_err(AuthorityError::from).map_err(Refusal::from)?;
    if asked.fingerprint() != identity.key {
        let text = "the signing request is not of the key that the certificate was given for";
        return Err(Refusal(JoinRefusal::Request, text.to_owned()).into());
    }
    identity.admit(&inner.objects).map_err(|reason| why(&identity.cluster, reason))?;
    check_clock(&inner.objects)?;
    if !inner.renewals.take(&identity.uid) {
        let text = "this device has had new certificates just now: the next one an hour later";
        return Err(Refusal(JoinRefusal::Busy, text.to_owned()).into());
    }
    let now = inner.objects.clock().unix_seconds();
    let signed = inner.authority.sign_agent(csr, &identity.cluster, &identity.uid, now);
    signed.map_err(|error| Refusal::from(error).into())
}

fn why(cluster: &ClusterName, reason: Reason) -> No {
    let refusal = match reason {
        reason @ (Reason::Decommissioned(_) | Reason::Renamed(_)) => {
            return No::TurnedAway(reason);
        }
        Reason::NotAccepted => {
            let text = format!(
                "the hub does not accept {cluster}: on the hub, run `hub accept {cluster}`"
            );
            Refusal(JoinRefusal::Denied, text)
        }
        Reason::Replaced => Refusal(JoinRefusal::NameTaken, reason.to_string()),
        other => Refusal(JoinRefusal::Unknown, other.to_string()),
    };
    refusal.into()
}

//! Who calls: the subject of a client certificate that the cluster's authority signed.
//!
//! Everybody else is nobody, and there is no anonymous access beyond `/version` and health.
//!
//! Guarantees:
//! - nobody is somebody beyond the end of their certificate, however long their connection lasts
//!   (`a_certificate_that_ends_is_refused_over_its_open_connection_and_ends_what_runs`), by the hub's clock
//!   (`a_certificate_ends_by_the_clock_however_it_is_put_on`).

use std::time::Duration;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::uid::Uid;
use freewheel_hub_pki::Certificate;
pub use freewheel_hub_pki::MASTERS;
use freewheel_link::names::ClusterName;
use rustls_pki_types::CertificateDer;

use crate::tls::Tls;

/// How the group begins whose members may do everything in one logical cluster: its name, a colon and the UID of
/// its ManagedCluster follow.
pub const CLUSTER_ADMIN: &str = "freewheel:cluster-admin:";

/// An authenticated caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Common name of the certificate.
    pub name: String,
    /// Its organisations, and `system:authenticated`.
    pub groups: Vec<String>,
    /// The last second of the certificate, since the Unix epoch.
    pub(crate) until: Option<i64>,
    /// Whether it is an administrator of the cluster that this request is about.
    pub(crate) administers: bool,
}

impl User {
    /// Whether the caller may do everything.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.administers || self.groups.iter().any(|group| group == MASTERS)
    }

    /// Whether the certificate has ended: whoever it was is a stranger again.
    #[must_use]
    pub fn has_ended(&self, now: i64) -> bool {
        self.until.is_some_and(|until| until < now)
    }

    /// After which time it will have ended.
    pub(crate) fn ends_in(&self, now: i64) -> Option<Duration> {
        let seconds = self.until?.saturating_add(1).saturating_sub(now);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// Whether it administers some cluster, so that it has to be looked at which one.
    pub(crate) fn is_cluster_admin(&self) -> bool {
        self.groups.iter().any(|group| group.starts_with(CLUSTER_ADMIN))
    }

    /// The same caller in this cluster, the ManagedCluster with this UID.
    pub(crate) fn within(&self, cluster: &ClusterName, uid: &Uid) -> Self {
        let needed = format!("{CLUSTER_ADMIN}{cluster}:{uid}");
        let administers = !uid.is_empty() && self.groups.contains(&needed);
        Self { administers, ..self.clone() }
    }
}

/// The caller behind a connection's certificates; `None` for none and for what we do not trust.
#[must_use]
pub fn identify(tls: &Tls, chain: Option<&[CertificateDer<'_>]>) -> Option<User> {
    let chain = chain?;
    if !tls.trusts(chain) {
        return None;
    }
    let certificate = Certificate::read(chain.first()?)?;
    let name = certificate.name().filter(|name| !name.is_empty())?.to_owned();
    let mut groups: Vec<String> = certificate.groups().map(str::to_owned).collect();
    groups.push("system:authenticated".to_owned());
    Some(User { name, groups, until: Some(certificate.life().to), administers: false })
}

/// 401: we do not know the caller.
#[must_use]
pub fn unauthorized() -> ApiError {
    ApiError::new(401, "Unauthorized", "Unauthorized")
}

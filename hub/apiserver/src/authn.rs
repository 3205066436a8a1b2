//! Who calls: the subject of a client certificate that the cluster's authority signed.
//!
//! Everybody else is nobody, and there is no anonymous access beyond `/version` and health.

use freewheel_hub_api::error::ApiError;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::tls::Tls;

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";

/// An authenticated caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Common name of the certificate.
    pub name: String,
    /// Its organisations, and `system:authenticated`.
    pub groups: Vec<String>,
}

impl User {
    /// Whether the caller may do everything.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

/// The caller behind a connection's certificates; `None` for none and for what we do not trust.
#[must_use]
pub fn identify(tls: &Tls, chain: Option<&[CertificateDer<'_>]>) -> Option<User> {
    let chain = chain?;
    if !tls.trusts(chain) {
        return None;
    }
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let organisations = subject.iter_organization().filter_map(|o| o.as_str().ok());
    let mut groups: Vec<String> = organisations.map(str::to_owned).collect();
    groups.push("system:authenticated".to_owned());
    Some(User { name, groups })
}

/// 401: we do not know the caller.
#[must_use]
pub fn unauthorized() -> ApiError {
    ApiError::new(401, "Unauthorized", "Unauthorized")
}

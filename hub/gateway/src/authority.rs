//! The fleet's CA at work: the hub's own link certificate, and certificates for spokes.
//!
//! Guarantees:
//! - whatever a device's request says, its certificate speaks for one cluster only: subject, usages and time are the hub's
//!   decision, only the key is the device's (`whatever_a_device_asks_for_its_certificate_is_a_spokes`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_link::names::ClusterName;
use freewheel_link::tls::{Credentials, HUB_NAME};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::request::Request;

/// A device's clock may be behind by this much and still find its certificate valid.
const SKEW: time::Duration = time::Duration::hours(24);
/// Life of a spoke's certificate.
pub const SPOKE_LIFE: time::Duration = time::Duration::days(365);

/// How the names of spokes and of their groups begin.
pub(crate) const SPOKES: &str = "system:open-cluster-management:";

/// Attribute of a subject that carries a UID, as Kubernetes reads it from client certificates.
pub(crate) const UID: [u64; 8] = [1, 3, 6, 1, 4, 1, 57683, 2];

/// What the hub is, cryptographically.
pub struct Identity {
    /// The fleet's CA.
    pub ca: CertificateDer<'static>,
    /// Its key.
    pub ca_key: PrivateKeyDer<'static>,
    /// Public half of the key that certifies signers of compiled modules.
    pub fleet_root: [u8; 32],
}

/// Why something cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The CA's certificate or key is of no use.
    #[error("the CA cannot sign")]
    Authority(#[source] rcgen::Error),
    /// The request is malformed, or not signed by its own key.
    #[error("the signing request is not valid: {0}")]
    Request(String),
    /// The request is sound, and asks for what nobody gets this way.
    #[error("{0}")]
    Refused(String),
    /// The CA's own time is over.
    #[error("the CA's certificate has expired")]
    Expired,
}

/// The CA.
pub struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    identity: Identity,
}

impl Authority {
    /// From the hub's identity.
    ///
    /// # Errors
    /// When certificate or key cannot be used.
    pub fn new(identity: Identity) -> Result<Self, AuthorityError> {
        let key = KeyPair::try_from(&identity.ca_key).map_err(AuthorityError::Authority)?;
        let issuer =
            Issuer::from_ca_cert_der(&identity.ca, key).map_err(AuthorityError::Authority)?;
        Ok(Self { issuer, identity })
    }

    /// The CA's certificate.
    #[must_use]
    pub const fn ca(&self) -> &CertificateDer<'static> {
        &self.identity.ca
    }

    /// What only this fleet's hub knows, and knows again after a restart: the CA's key.
    #[must_use]
    pub(crate) fn secret(&self) -> &[u8] {
        self.identity.ca_key.secret_der()
    }

    /// Root of trust for compiled modules.
    #[must_use]
    pub const fn fleet_root(&self) -> [u8; 32] {
        self.identity.fleet_root
    }

    /// A certificate for the hub's end of the link, with a new key of the CA's own kind. The chain
    /// carries the CA, so that a joining device can compare its hash.
    ///
    /// # Errors
    /// When the CA cannot sign.
    pub fn hub_credentials(&self, now: i64) -> Result<Credentials, AuthorityError> {
        let key = KeyPair::generate_for(self.issuer.key().algorithm())
            .map_err(AuthorityError::Authority)?;
        let mut params =
            CertificateParams::new([HUB_NAME.to_owned()]).map_err(AuthorityError::Authority)?;
        params.distinguished_name = subject("freewheel-hub", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        limit(&mut params, now);
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(AuthorityError::Authority)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| AuthorityError::Request(error.to_owned()))?;
        Ok(Credentials { chain: vec![certificate.der().clone(), self.ca().clone()], key })
    }

    /// Whether the CA has signed this certificate, whatever the time.
    pub(crate) fn has_signed(&self, certificate: &CertificateDer<'_>) -> bool {
        let parsed = (X509Certificate::from_der(certificate), X509Certificate::from_der(self.ca()));
        let (Ok(([], certificate)), Ok((_, ca))) = parsed else { return false };
        certificate.issuer().as_raw() == ca.subject().as_raw()
            && certificate.verify_signature(Some(ca.public_key())).is_ok()
    }

    /// A certificate for the agent of this cluster, the ManagedCluster with this UID, with the request's key.
    ///
    /// # Errors
    /// When the request is malformed or not signed by its own key.
    pub fn sign_agent(
        &self,
        csr: &[u8],
        cluster: &ClusterName,
        uid: &str,
        now: i64,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&agent_name(cluster), Some(&agent_group(cluster)));
        params.distinguished_name.push(DnType::CustomDnType(UID.to_vec()), uid);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        limit(&mut params, now);
        self.leaf(&params, &Request::read(csr)?)
    }

    /// A certificate of these params for the request's key.
    pub(crate) fn leaf(
        &self,
        params: &CertificateParams,
        request: &Request<'_>,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let certificate = params.signed_by(&request.key()?, &self.issuer);
        Ok(certificate.map_err(AuthorityError::Authority)?.der().clone())
    }
}

/// DER as PEM.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// `system:open-cluster-management:<cluster>:agent`
#[must_use]
pub fn agent_name(cluster: &ClusterName) -> String {
    format!("{}:agent", agent_group(cluster))
}

/// `system:open-cluster-management:<cluster>`
#[must_use]
pub fn agent_group(cluster: &ClusterName) -> String {
    format!("{SPOKES}{cluster}")
}

/// The public key of a signing request, once its own signature is checked.
///
/// # Errors
/// When it is malformed or not signed by its own key.
pub fn request_key(csr: &[u8]) -> Result<Vec<u8>, AuthorityError> {
    Ok(Request::read(csr)?.key_bits().to_vec())
}

/// The public key of a certificate, in the same form as [`request_key`].
#[must_use]
pub fn certificate_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.public_key().subject_public_key.data.to_vec())
}

/// When a certificate's time is over, in Unix seconds.
#[must_use]
pub fn expires(certificate: &[u8]) -> Option<i64> {
    life(certificate).map(|(_, end)| end)
}

/// First and last second of a certificate, in Unix seconds.
#[must_use]
pub fn life(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

pub(crate) fn subject(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, name);
    subject
}

pub(crate) fn limit(params: &mut CertificateParams, now: i64) {
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - SKEW;
    params.not_after = now + SPOKE_LIFE;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let mut serial = uuid::Uuid::new_v4().into_bytes();
    // Positive, and of the same length every time.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
}

//! The fleet's CA at work: certificates of the API, the link and spokes.
//!
//! Guarantees:
//! - whatever a device's request says, its certificate speaks for one cluster only: subject, usages and time are the
//!   hub's decision, only the key is the device's (`whatever_a_device_asks_for_its_certificate_is_a_spokes`);
//! - a key that is not its certificate's signs nothing (`a_damaged_ca_is_told_by_name_and_never_used`), and nothing is
//!   signed while the clock shows no time that can be (`a_hub_whose_clock_is_lost_gives_no_certificate_until_it_is_set`).

use std::net::IpAddr;

use freewheel_link::identities::MASTERS;
use freewheel_link::names::ClusterName;
use freewheel_link::tls::{Credentials, HUB_NAME};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::Certificate;
use crate::leaf::{leaf, subject};
use crate::request::{RequestError, VerifiedRequest};
use crate::spoke_subject::SpokeSubject;
use crate::validity::{DAY_SECONDS, HOUR_SECONDS, UnsetClock, Validity};

const CA_VALIDITY_SECONDS: i64 = 3650 * DAY_SECONDS;
/// Life of every other certificate that nobody asks a time for.
pub(crate) const LEAF_VALIDITY_SECONDS: i64 = 365 * DAY_SECONDS;
/// A machine's clock may be behind by this much and still find its hub's certificate valid.
const CLOCK_SKEW_SECONDS: i64 = HOUR_SECONDS;
/// A device's clock may be behind by this much.
const DEVICE_CLOCK_SKEW_SECONDS: i64 = DAY_SECONDS;

/// Why something cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The CA's certificate or key is of no use.
    #[error("the CA cannot sign")]
    Authority(#[from] rcgen::Error),
    /// Certificate and key are not of each other.
    #[error("the CA's key is not that of its certificate")]
    Pair,
    /// The request is malformed, or not signed by its own key.
    #[error("the signing request is not valid: {0}")]
    Request(RequestError),
    /// The request is sound, and asks for what nobody gets this way.
    #[error("{0}")]
    Refused(String),
    /// The CA's own time is over.
    #[error("the CA's certificate has expired")]
    Expired,
    /// Nobody can say from when it would hold.
    #[error(transparent)]
    Clock(#[from] UnsetClock),
}

impl From<RequestError> for AuthorityError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// The CA.
pub struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key inside is nobody's business.
        f.write_str("Authority")
    }
}

impl Authority {
    /// Of a certificate and its key.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn new(
        ca: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, AuthorityError> {
        let pair = KeyPair::try_from(&key)?;
        if !Certificate::read(&ca).is_some_and(|ca| ca.is_of(&pair)) {
            return Err(AuthorityError::Pair);
        }
        let issuer = Issuer::from_ca_cert_der(&ca, pair)?;
        Ok(Self { issuer, ca, key })
    }

    /// A new CA, its certificate and key in PEM.
    pub(crate) fn make(now: i64) -> Result<(String, String), AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("freewheel-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        Validity::new(now, CA_VALIDITY_SECONDS, CLOCK_SKEW_SECONDS)?.put(&mut params);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    }

    /// The CA's certificate.
    #[must_use]
    pub const fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// What only this fleet's hub knows, and knows again after a restart: the CA's key.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        self.key.secret_der()
    }

    /// From when to when the CA itself holds.
    #[must_use]
    pub fn validity(&self) -> Validity {
        Certificate::read(&self.ca).map(|ca| ca.validity()).unwrap_or_default()
    }

    /// Whether the CA has signed this certificate, whatever the time.
    #[must_use]
    pub fn has_signed(&self, certificate: &Certificate<'_>) -> bool {
        Certificate::read(&self.ca).is_some_and(|ca| certificate.is_signed_by(&ca))
    }

    /// A certificate for the hub's end of the link, with a new key. The chain carries the CA, so that a joining device
    /// can compare its hash.
    ///
    /// # Errors
    /// When the CA cannot sign.
    pub fn link(&self, now: i64) -> Result<Credentials, AuthorityError> {
        let mut params = hub(now, DEVICE_CLOCK_SKEW_SECONDS)?;
        params.subject_alt_names = vec![SanType::DnsName(HUB_NAME.try_into()?)];
        let mut own = self.issue(&params)?;
        own.chain.push(self.ca.clone());
        Ok(own)
    }

    /// A certificate for the API under these names and addresses, with a new key.
    ///
    /// # Errors
    /// When the CA cannot sign.
    pub fn api(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        now: i64,
    ) -> Result<Credentials, AuthorityError> {
        let mut params = hub(now, CLOCK_SKEW_SECONDS)?;
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.issue(&params)
    }

    /// A certificate and key for the hub's first administrator, in PEM.
    pub(crate) fn administrator(&self, now: i64) -> Result<(String, String), AuthorityError> {
        let life = Validity::new(now, LEAF_VALIDITY_SECONDS, CLOCK_SKEW_SECONDS)?;
        let subject = subject("kubernetes-admin", Some(MASTERS));
        let params = leaf(subject, ExtendedKeyUsagePurpose::ClientAuth, life);
        let key = self.new_key()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// A certificate for the agent of this cluster, the ManagedCluster with this UID, with the request's key.
    ///
    /// # Errors
    /// When the request is malformed or not signed by its own key, or the clock was never set.
    pub fn sign_agent(
        &self,
        csr: &[u8],
        cluster: &ClusterName,
        uid: &str,
        now: i64,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let life = Validity::new(now, LEAF_VALIDITY_SECONDS, DEVICE_CLOCK_SKEW_SECONDS)?;
        let subject = SpokeSubject::subject(cluster, uid);
        self.sign(
            &leaf(subject, ExtendedKeyUsagePurpose::ClientAuth, life),
            &VerifiedRequest::read(csr)?,
        )
    }

    /// A certificate of these params for the request's key.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        asked: &VerifiedRequest<'_>,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        Ok(params.signed_by(&asked.key()?, &self.issuer)?.der().clone())
    }

    fn issue(&self, params: &CertificateParams) -> Result<Credentials, AuthorityError> {
        let key = self.new_key()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok(Credentials { chain: vec![certificate.der().clone()], key })
    }

    /// Of the CA's own kind.
    fn new_key(&self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(self.issuer.key().algorithm())
    }
}

fn hub(now: i64, back: i64) -> Result<CertificateParams, UnsetClock> {
    let life = Validity::new(now, LEAF_VALIDITY_SECONDS, back)?;
    Ok(leaf(subject("freewheel-hub", None), ExtendedKeyUsagePurpose::ServerAuth, life))
}

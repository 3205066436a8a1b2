//! The only rustls configurations: who proves what to whom.
//!
//! ```text
//! joining   hub proves a certificate of the CA whose key hash the device was given; device proves nothing yet
//! session   hub proves a certificate of the CA that the device keeps; device proves the one it got
//! ```
//!
//! Guarantees: TLS 1.3 only, ring only, no early data (nothing can be replayed), the clock is the
//! caller's. The hub's link certificate is for [`HUB_NAME`] whatever its address: a device trusts the
//! fleet's CA, not a name in somebody's DNS.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

pub use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use crate::digest::Digest;
use crate::message::{ALPN_JOIN, ALPN_SESSION};

/// Name in the hub's link certificate.
pub const HUB_NAME: &str = "hub.freewheel.internal";

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key is of no use.
    #[error("the certificate or key cannot be used")]
    Material(#[source] rustls::Error),
    /// The CA's certificate is of no use.
    #[error("the CA's certificate cannot be used: {0}")]
    Authority(String),
}

/// A certificate chain with its key, as the owner holds it.
#[derive(Debug)]
pub struct Credentials {
    /// The certificate, then those that lead to the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// A clock that never shows less than a floor: a device that boots in 1970 still knows that it is not
/// earlier than when it was built or last heard its hub.
#[derive(Debug)]
pub struct FloorClock {
    /// Unix seconds.
    pub floor: u64,
}

impl TimeProvider for FloorClock {
    fn current_time(&self) -> Option<UnixTime> {
        let floor = UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.floor));
        Some(UnixTime::now().max(floor))
    }
}

/// `sha256:<hex>` over the certificate's SubjectPublicKeyInfo, as kubeadm's `--discovery-token-ca-cert-hash`.
///
/// # Errors
/// When it is no certificate.
pub fn key_hash(certificate: &CertificateDer<'_>) -> Result<Digest, TlsError> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(TlsError::Material)?;
    Ok(Digest::of(parsed.subject_public_key_info().as_ref()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    store.add(ca.clone()).map_err(TlsError::Material)?;
    Ok(Arc::new(store))
}

/// Of a device that joins: it knows the hash of the CA's key and has nothing to show.
///
/// # Errors
/// None today; the signature leaves room for what rustls may refuse.
pub fn join_client(ca_hash: Digest, time: Arc<dyn TimeProvider>) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Arc::new(PinnedAuthority { ca_hash, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Material)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Of a device that has joined.
///
/// # Errors
/// When certificate, key or CA are of no use.
pub fn session_client(
    ca: &CertificateDer<'static>,
    own: Credentials,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Material)?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(own.chain, own.key)
        .map_err(TlsError::Material)?;
    config.alpn_protocols = vec![ALPN_SESSION.to_vec()];
    Ok(config)
}

/// Of the hub. A client certificate is verified when there is one; whoever speaks
/// [`ALPN_SESSION`] must have shown one, which the gateway checks after the handshake.
///
/// # Errors
/// When certificate, key or CA are of no use.
pub fn hub_server(
    ca: &CertificateDer<'static>,
    own: Credentials,
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let clients = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Authority(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Material)?
        .with_client_cert_verifier(clients)
        .with_single_cert(own.chain, own.key)
        .map_err(TlsError::Material)?;
    config.alpn_protocols = vec![ALPN_SESSION.to_vec(), ALPN_JOIN.to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}

/// Trusts whatever the CA with this key hash has signed. The hub sends the CA along in its chain.
#[derive(Debug)]
struct PinnedAuthority {
    ca_hash: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned =
            |ca: &&CertificateDer<'_>| key_hash(ca).is_ok_and(|found| found == self.ca_hash);
        let ca = intermediates.iter().take(4).find(pinned).ok_or_else(|| {
            rustls::Error::General(format!(
                "the hub's certificate does not come from the CA {}; check --ca-hash",
                self.ca_hash
            ))
        })?;
        let roots = roots(&ca.clone().into_owned()).map_err(|_| {
            rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding)
        })?;
        WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

//! TLS of the API listener: our certificate, which is exchanged before it ends, and client certificates that may
//! be missing.
//!
//! Guarantees:
//! - the handshake proves that a client owns the key of the certificate it shows
//!   (`a_certificate_without_its_key_opens_nothing`);
//! - whether that certificate is one of ours is decided after it, by [`Tls::trusts`], so that a stranger gets a 401
//!   that says so and not a broken connection (`strangers_read_the_version_and_health_and_nothing_else`).

use std::sync::Arc;

use freewheel_link::tls::{Credentials, Serving};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// What the listener needs to speak TLS.
#[derive(Clone)]
pub struct Tls {
    /// For the acceptor.
    pub config: Arc<rustls::ServerConfig>,
    serving: Arc<Serving>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or its key is not usable.
    #[error("the serving certificate is not usable")]
    Serving(#[source] rustls::Error),
    /// A certificate authority is not usable.
    #[error("a client certificate authority is not usable")]
    Authority(#[source] rustls::Error),
    /// The verifier cannot be built.
    #[error("client certificates cannot be verified")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The certificate's key is of no use.
    #[error(transparent)]
    Key(#[from] freewheel_link::tls::TlsError),
}

impl Tls {
    /// Serves `chain` with `key` and trusts clients whose certificate one of `client_authorities` signed.
    ///
    /// # Errors
    /// When a certificate or the key cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_authorities: &[CertificateDer<'static>],
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in client_authorities {
            roots.add(authority.clone()).map_err(TlsError::Authority)?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(TlsError::Verifier)?;
        let serving = Arc::new(Serving::new(Credentials { chain, key })?);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Serving)?
            .with_client_cert_verifier(Arc::new(Deferred(verifier.clone())))
            .with_cert_resolver(serving.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), serving, verifier })
    }

    /// New connections get this certificate.
    ///
    /// # Errors
    /// When its key cannot be used; the old one stays.
    pub fn exchange(&self, own: Credentials) -> Result<(), TlsError> {
        Ok(self.serving.exchange(own)?)
    }

    /// Whether this chain, the client's own certificate first, leads to one of our authorities now.
    #[must_use]
    pub fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((own, others)) = chain.split_first() else { return false };
        let now = self.config.time_provider.current_time();
        now.is_some_and(|now| self.verifier.verify_client_cert(own, others, now).is_ok())
    }
}

/// Checks the signature of the handshake now, and leaves the chain to [`Tls::trusts`].
#[derive(Debug)]
struct Deferred(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Deferred {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

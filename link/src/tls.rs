//! The only rustls configurations: who proves what to whom.
//!
//! ```text
//! joining   hub proves a certificate of the CA whose key hash the device was given; device proves nothing yet
//! session   hub proves a certificate of the CA that the device keeps; device proves the one it got
//! ```
//!
//! A device's clock may never have been set ([`DeviceClock`]), which is also what one comes to that is days behind what
//! a hub has told. Then the hub's certificate may begin in what
//! it takes for the future: all but that is checked, and its beginning taken for the time.
//!
//! What such a device knows of the time, a hub has told it ([`FloorClock`]), and that keeps certificates away that
//! are over, and whose keys may be lost since. A hub with a wrong clock must not lock it out, and an old certificate
//! must not turn it back: so a time counts only from who has proven a certificate that holds at what the clock shows
//! already, and never reaches near that certificate's end, where it would be refused itself. There is one way left to
//! lose a clockless device: a hub that makes itself a new certificate years ahead and comes back from there. Nothing
//! tells that from a stolen old key; its people say so, by removing what it remembers (`spoke doctor`).
//!
//! The hub's link certificate is for [`HUB_NAME`] whatever its address: a device trusts the fleet's CA, not a name in
//! somebody's DNS. TLS 1.3 and ring only, no early data, which could be replayed.
//!
//! Guarantees:
//! - a hub's time neither falls before the certificate that it has proven nor comes near its end
//!   (`a_hub_is_believed_within_the_life_of_its_certificate`);
//! - a clock that is days behind what a hub told counts as never set
//!   (`a_clock_that_is_far_behind_what_a_hub_told_takes_a_younger_certificate`);
//! - a clock never shows less than when this software was made (`a_floor_is_never_before_the_software`);
//! - a server's certificate is exchanged while it serves (`a_hubs_certificate_is_exchanged_while_it_serves`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
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

/// 2026-11-01: nothing that this software does happened before it was made. A clock that shows less was
/// never set.
pub const BUILT_UNIX_SECONDS: u64 = 1_793_491_200;

/// A clock that is set may be behind what a hub told by so much.
const BEHIND_SECONDS_MAX: u64 = 2 * 24 * 3600;

/// The clock of a device.
pub trait DeviceClock: TimeProvider {
    /// Whether somebody has ever set it, as far as it is known.
    fn is_set(&self) -> bool {
        true
    }
}

impl DeviceClock for DefaultTimeProvider {}

/// A clock that never shows less than a floor, which goes on by itself: a device that boots in 1970 still
/// knows that it is not earlier than when it was built or last heard its hub.
#[derive(Debug)]
pub struct FloorClock {
    /// Unix seconds, and when they were told.
    announced: Mutex<(u64, Instant)>,
}

impl FloorClock {
    /// From this Unix second on, and never before [`BUILT_UNIX_SECONDS`].
    #[must_use]
    pub fn new(floor: u64) -> Self {
        Self { announced: Mutex::new((floor.max(BUILT_UNIX_SECONDS), Instant::now())) }
    }

    /// It is so late, says a hub that has proven a certificate of this life at the time that this clock shows; what
    /// of that is believed. Earlier than before is news, too: that hub knows better than the one that told before.
    pub fn tell(&self, now: u64, (from, to): (u64, u64)) -> u64 {
        // A hub renews its certificate with a quarter of its life left.
        let latest = to.saturating_sub(to.saturating_sub(from) / 8);
        let seconds = now.min(latest).max(from).max(BUILT_UNIX_SECONDS);
        *self.announced.lock() = (seconds, Instant::now());
        seconds
    }

    /// What was told has proven wrong: only the machine's clock counts, until somebody tells again. Whether
    /// that changes anything: where the machine's clock was never set, there is nothing better.
    pub fn forget(&self) -> bool {
        let machine = UnixTime::now().as_secs();
        let leads = (BUILT_UNIX_SECONDS..self.floor()).contains(&machine);
        if leads {
            *self.announced.lock() = (BUILT_UNIX_SECONDS, Instant::now());
        }
        leads
    }

    fn floor(&self) -> u64 {
        let (seconds, at) = *self.announced.lock();
        seconds.saturating_add(at.elapsed().as_secs())
    }

    /// What it shows, in Unix seconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        UnixTime::now().as_secs().max(self.floor())
    }
}

impl TimeProvider for FloorClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}

impl DeviceClock for FloorClock {
    /// What a hub has told counts for more than what the machine shows: where that is days behind, it was not set, or
    /// not by anybody who knows.
    fn is_set(&self) -> bool {
        let machine = UnixTime::now().as_secs();
        BUILT_UNIX_SECONDS <= machine && self.floor() <= machine.saturating_add(BEHIND_SECONDS_MAX)
    }
}

/// A server's certificate that can be exchanged while it serves.
#[derive(Debug)]
pub struct Serving(RwLock<Arc<CertifiedKey>>);

impl Serving {
    /// With this one to begin with.
    ///
    /// # Errors
    /// When the key is of no use.
    pub fn new(own: Credentials) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(Arc::new(certified(own)?))))
    }

    /// New connections get this one.
    ///
    /// # Errors
    /// When the key is of no use; the old one stays.
    pub fn exchange(&self, own: Credentials) -> Result<(), TlsError> {
        let new = Arc::new(certified(own)?);
        *self.0.write() = new;
        Ok(())
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

fn certified(own: Credentials) -> Result<CertifiedKey, TlsError> {
    let key = provider().key_provider.load_private_key(own.key).map_err(TlsError::Material)?;
    Ok(CertifiedKey::new(own.chain, key))
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
pub fn join_client(ca_hash: Digest, time: Arc<dyn DeviceClock>) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier =
        Arc::new(PinnedAuthority { ca_hash, provider: provider.clone(), clock: time.clone() });
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
    time: Arc<dyn DeviceClock>,
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let hub = WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider.clone())
        .build()
        .map_err(|error| TlsError::Authority(error.to_string()))?;
    let verifier = Arc::new(KnownAuthority { hub, clock: time.clone() });
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Material)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
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
    own: Arc<Serving>,
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
        .with_cert_resolver(own);
    config.alpn_protocols = vec![ALPN_SESSION.to_vec(), ALPN_JOIN.to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}

/// Verifies at this time, and at the certificate's beginning where that lies ahead of a clock that was never
/// set.
fn verify(
    clock: &dyn DeviceClock,
    now: UnixTime,
    verify: impl Fn(UnixTime) -> Result<ServerCertVerified, rustls::Error>,
) -> Result<ServerCertVerified, rustls::Error> {
    match verify(now) {
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before,
            ..
        })) if !clock.is_set() => verify(not_before),
        verdict => verdict,
    }
}

/// Trusts the CA that the device keeps.
#[derive(Debug)]
struct KnownAuthority {
    hub: Arc<WebPkiServerVerifier>,
    clock: Arc<dyn DeviceClock>,
}

impl ServerCertVerifier for KnownAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify(&*self.clock, now, |now| {
            let hub = &self.hub;
            hub.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.hub.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.hub.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.hub.supported_verify_schemes()
    }
}

/// Trusts whatever the CA with this key hash has signed. The hub sends the CA along in its chain.
#[derive(Debug)]
struct PinnedAuthority {
    ca_hash: Digest,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn DeviceClock>,
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
        let hub = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verify(&*self.clock, now, |now| {
            hub.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        })
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

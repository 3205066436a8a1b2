//! Whether who answers is whom a client means to reach, by the certificates that it trusts.
//!
//! Guarantees:
//! - a certificate that is trusted itself, to the last byte, is taken although it could sign others as well, as with Go:
//!   its time, name and purpose count as ever, and the handshake shows that its key is there
//!   (`one_that_is_trusted_itself_is_taken_for_its_time_and_names_only`).

use std::sync::Arc;

use freewheel_hub_pki::Certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Asks for chains to what is trusted, and for what is trusted itself.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerVerifier {
    /// By these, of which `roots` are the ones that may have signed others.
    pub(crate) fn new(
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Self { chains: chains.build()?, trusted })
    }
}

/// Whether a certificate that needs nobody to vouch for it serves under this name now.
fn check_itself(
    der: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let own = Certificate::read(der).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < own.validity().from {
        return Err(CertificateError::NotValidYet.into());
    }
    if !own.validity().holds(now) {
        return Err(CertificateError::Expired.into());
    }
    if !own.may_serve() {
        return Err(CertificateError::InvalidPurpose.into());
    }
    verify_server_name(&ParsedCertificate::try_from(der)?, name)
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chained = self.chains.verify_server_cert(end, between, name, ocsp, now);
        if chained.is_ok() || !self.trusted.contains(end) {
            return chained;
        }
        check_itself(end, name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    /// As `openssl req -x509` makes it: one that could sign others.
    fn own(change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, KeyPair) {
        let (mut params, key) =
            (CertificateParams::new(["hook.example".to_owned()]).unwrap(), KeyPair::generate());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) =
            (date_time_ymd(2001, 1, 1), date_time_ymd(2101, 1, 1));
        change(&mut params);
        let key = key.unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    }

    fn trusting(cert: &CertificateDer<'static>) -> ServerVerifier {
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        ServerVerifier::new(roots, vec![cert.clone()], provider()).unwrap()
    }

    #[tokio::test]
    async fn one_that_is_trusted_itself_is_taken_for_its_time_and_names_only() {
        let (cert, key) = own(|_| {});
        let verifier = trusting(&cert);
        let check = |cert: &CertificateDer<'_>, name: &str, year: u64| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let now = Duration::from_secs((year - 1970) * 31_556_952);
            let now = UnixTime::since_unix_epoch(now);
            verifier.verify_server_cert(cert, &[], &name, &[], now).map(drop)
        };
        check(&cert, "hook.example", 2050).unwrap();
        for (name, year) in
            [("other.example", 2050), ("hook.example", 2000), ("hook.example", 2102)]
        {
            assert!(check(&cert, name, year).is_err(), "{name} in {year}");
        }
        let (stranger, _) = own(|_| {});
        assert!(check(&stranger, "hook.example", 2050).is_err(), "one that is named alike");
        let for_clients = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        };
        let (client, _) = own(for_clients);
        let name = ServerName::try_from("hook.example").unwrap();
        let now = UnixTime::now();
        let outcome = trusting(&client).verify_server_cert(&client, &[], &name, &[], now);
        assert!(outcome.is_err(), "one for clients only");

        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 << 10);
        let (connected, accepted) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, near),
            TlsAcceptor::from(Arc::new(server)).accept(far),
        );
        connected.unwrap();
        accepted.unwrap();
    }
}

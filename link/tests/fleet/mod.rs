//! A fleet's CA with a hub and spokes over real QUIC on loopback.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use freewheel_link::quic::{ClientTls, Endpoint, HubTls, Quic, Socket, any_port};
use freewheel_link::tls::{self, Credentials, DefaultTimeProvider, HUB_NAME};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Any port of this machine.
pub const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A fleet's CA.
pub struct Fleet {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Fleet {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().der().clone();
        Self { ca, issuer: Issuer::new(params, key) }
    }

    fn credentials(&self, name: &str) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Credentials { chain: vec![certificate, self.ca.clone()], key }
    }

    /// A hub's endpoint with a certificate of its own, as each start makes one.
    pub fn hub(&self, at: SocketAddr, secret: &[u8]) -> Endpoint {
        let time = Arc::new(DefaultTimeProvider);
        let own = Arc::new(tls::Serving::new(self.credentials(HUB_NAME)).unwrap());
        let config = tls::hub_server(&self.ca, own, time).unwrap();
        Endpoint::hub(Socket::Bind(at), HubTls::new(config, secret).unwrap()).unwrap()
    }

    pub fn spoke(&self) -> ClientTls {
        let time = Arc::new(DefaultTimeProvider);
        let config = tls::session_client(&self.ca, self.credentials("pi-7"), time).unwrap();
        ClientTls::new(config).unwrap()
    }
}

/// A hub with one connection that goes this way, both ends of it.
pub async fn connected(fleet: &Fleet, hub: &Endpoint, way: SocketAddr) -> (Endpoint, Quic, Quic) {
    let spoke = Endpoint::spoke(any_port()).unwrap();
    let tls = fleet.spoke();
    let take = async { hub.accept().await.unwrap().finish().await.unwrap() };
    let (near, far) = tokio::join!(spoke.connect(way, &tls), take);
    (spoke, near.unwrap(), far)
}

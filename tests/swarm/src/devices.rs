//! Devices become spokes: each makes a key, asks with a token, and comes back when the hub has no place for it now.

use std::sync::Arc;
use std::time::Duration;

use freewheel_link::backoff::Backoff;
use freewheel_link::join::{JoinError, Token};
use freewheel_link::names::ClusterName;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint};
use freewheel_link::tls::{self, Credentials, DefaultTimeProvider};
use freewheel_link::transport::DialError;
use freewheel_spoke_agent::uplink::join::{self, Ask, Identity, NoIdentity};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::{Instant, sleep};

use crate::error::SwarmError;
use crate::order::Order;

/// A hub takes 40 devices a second: whoever waits in a row of those that ask at the same time has had its turn by then.
const JOIN_PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// What is asked for, and where.
pub(crate) struct Joining {
    pub(crate) order: Order,
    /// Of devices that have nothing to show yet: one for all.
    tls: ClientTls,
}

impl Joining {
    pub(crate) fn new(order: Order) -> Result<Self, SwarmError> {
        let tls = ClientTls::new(tls::join_client(order.ca_hash, Arc::new(DefaultTimeProvider))?)?;
        Ok(Self { order, tls })
    }

    /// The name of the device with this number.
    fn name(&self, number: usize) -> Result<ClusterName, SwarmError> {
        let name = format!("{}-{number}", self.order.prefix);
        ClusterName::try_from(name.clone()).map_err(|_| SwarmError::Name(name))
    }

    fn token(&self, number: usize) -> Result<&Token, SwarmError> {
        let tokens = &self.order.tokens;
        tokens.get(number % tokens.len().max(1)).ok_or(SwarmError::NoToken)
    }

    /// This device joins over this endpoint: what it is called from then on, and how it connects.
    pub(crate) async fn join(
        &self,
        number: usize,
        endpoint: Endpoint,
    ) -> Result<(ClusterName, Dialer), SwarmError> {
        let key = rcgen::KeyPair::generate()?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?;
        let ask = Ask {
            token: self.token(number)?.clone(),
            name: self.name(number)?,
            csr: csr.der().to_vec(),
            ca_hash: self.order.ca_hash,
            labels: labels(number),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let given = self.ask(&ask, &endpoint).await?;
        let own = Credentials {
            chain: vec![CertificateDer::from(given.certificate)],
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        };
        let ca = CertificateDer::from(given.ca);
        let session = tls::session_client(&ca, own, Arc::new(DefaultTimeProvider))?;
        let dialer = Dialer::new(endpoint, self.order.hub.clone(), ClientTls::new(session)?);
        Ok((given.cluster, dialer))
    }

    async fn ask(&self, ask: &Ask, endpoint: &Endpoint) -> Result<Identity, SwarmError> {
        let dialer = Dialer::new(endpoint.clone(), self.order.hub.clone(), self.tls.clone());
        let (mut backoff, mut chance) = (Backoff::new(RETRY.0, RETRY.1), fastrand::Rng::new());
        let start = Instant::now();
        loop {
            let error = match dialer.connect().await {
                Ok(link) => match join::join(&link, ask, |_| {}).await {
                    Ok(identity) => return Ok(identity),
                    Err(error) => SwarmError::Join(ask.name.clone(), error),
                },
                Err(error) => SwarmError::Dial(error),
            };
            if !may_pass(&error) || JOIN_PATIENCE < start.elapsed() {
                return Err(error);
            }
            sleep(backoff.wait(None, &mut chance)).await;
        }
    }
}

/// Whether the same device may be taken a little later.
fn may_pass(error: &SwarmError) -> bool {
    match error {
        SwarmError::Dial(DialError::Connect { .. })
        | SwarmError::Join(_, NoIdentity::Join(JoinError::Closed(_) | JoinError::Silent)) => true,
        SwarmError::Join(_, NoIdentity::Join(JoinError::Refused(refused))) => {
            refused.cause.may_pass()
        }
        _ => false,
    }
}

/// By which placements choose among them.
fn labels(number: usize) -> Vec<(String, String)> {
    let tier = if number.is_multiple_of(2) { "even" } else { "odd" };
    [("site", format!("s{}", number % 10)), ("tier", tier.to_owned())]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
}

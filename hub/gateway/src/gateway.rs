//! Takes connections, and gives each to whom its protocol is for: who joins, or a session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_hub_api::images::Images;
use freewheel_hub_api::streams::SpokeStreams;
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::Objects;
use freewheel_hub_pki::{Authority, AuthorityError};
use freewheel_link::digest::SetDigest;
use freewheel_link::generation::Generation;
use freewheel_link::message::{ALPN_JOIN, ALPN_SESSION};
use freewheel_link::meter::{Carried, Class};
use freewheel_link::names::ClusterName;
use freewheel_link::quic::{Endpoint, HubTls, Incoming};
use freewheel_link::tls::{Credentials, Serving, TimeProvider, TlsError, hub_server};
use freewheel_link::transport::{Transport, code};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, warn};

use crate::change_fanout::ChangeFanout;
use crate::deleted_clusters::{self, DeletedClusters};
use crate::duplicates::{DuplicateIdentities, HOLDER_ASKED_RATE};
use crate::epochs::Epochs;
use crate::events::EventBuckets;
use crate::handshakes::{HandshakeAnswer, HandshakePermit, Handshakes};
use crate::incarnation::RollbackGuard;
use crate::inner::Inner;
use crate::joins::{self, Joins};
use crate::own_api::OwnApi;
use crate::pending_sessions::PendingSessions;
use crate::plan_metrics::PlanMetrics;
use crate::pod_tokens::{PodTokens, TokenCache};
use crate::reported::AllReported;
use crate::session_ends::SessionEnds;
use crate::spoke_identity::SpokeIdentity;
use crate::stale_sessions::StaleSessions;
use crate::token_bucket::{COMPLAINT_RATE, TokenBuckets};
use crate::write_room::WriteRoom;
use crate::{datagrams, enrol, renew, session, session_metrics, streams};

/// Sessions that a spoke may open in a row, and per second after that: each is written, and so is its end.
const SESSION_RATE: (u32, f64) = (16, 0.2);
/// How often a spoke may have all of its plan sent because it holds something else, in a row and per second after that:
/// once is for a mistake, and one mistake in a while is met.
const RESYNC_RATE: (u32, f64) = (4, 1.0 / 30.0);
/// The same for coming back with nothing known, which is no mistake: it waits, and is not sent away.
const EMPTY_RETURN_RATE: (u32, f64) = (4, 1.0 / 30.0);

/// What the hub is to its devices, cryptographically.
pub struct Identity {
    /// The fleet's CA.
    pub authority: Arc<Authority>,
    /// Public half of the key that certifies signers of compiled modules.
    pub fleet_root: [u8; 32],
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

impl Gateway {
    /// Over the store, with the hub's modules and identity; `hub` names this hub in sessions.
    #[must_use]
    pub fn new(objects: Objects, images: Arc<dyn Images>, identity: Identity, hub: &str) -> Self {
        let inner = Inner {
            objects,
            images,
            authority: identity.authority,
            fleet_root: identity.fleet_root,
            hub: hub.to_owned(),
            fanout: ChangeFanout::default(),
            links: Mutex::default(),
            known: Mutex::default(),
            reported: AllReported::default(),
            write_room: WriteRoom::default(),
            duplicates: DuplicateIdentities::default(),
            events: EventBuckets::default(),
            serving: OnceLock::new(),
            lost: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            rollback_guard: RollbackGuard::default(),
            epochs: Epochs::default(),
            own_api: OnceLock::new(),
            joins: Joins::default(),
            pending_sessions: PendingSessions::default(),
            relays: Arc::default(),
            renewals: TokenBuckets::new(renew::RENEWAL_BURST, renew::RENEWALS_PER_SECOND),
            sessions: TokenBuckets::new(SESSION_RATE.0, SESSION_RATE.1),
            holders_asked: TokenBuckets::new(HOLDER_ASKED_RATE.0, HOLDER_ASKED_RATE.1),
            drifts: TokenBuckets::new(RESYNC_RATE.0, RESYNC_RATE.1),
            returns: TokenBuckets::new(EMPTY_RETURN_RATE.0, EMPTY_RETURN_RATE.1),
            complaints: TokenBuckets::new(COMPLAINT_RATE.0, COMPLAINT_RATE.1),
            turned_away: TokenBuckets::new(COMPLAINT_RATE.0, COMPLAINT_RATE.1),
            datagram_leases: TokenBuckets::new(
                datagrams::DATAGRAM_LEASE_BURST,
                datagrams::DATAGRAM_LEASES_PER_SECOND,
            ),
            session_ends: SessionEnds::default(),
            meters: PlanMetrics::default(),
            tokens: TokenCache::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Where the API is reached, `https://HOST:PORT`: clusters say so from their next join or session on.
    pub fn tell_api(&self, root: &str) {
        let own = OwnApi::new(root, self.inner.authority.ca());
        // Who tells twice means the same: the address is the hub's for its whole life.
        let _ = self.inner.own_api.set(own);
    }

    /// Who signs the tokens of pods. Without one, pods that ask for tokens wait for them.
    pub fn sign_pod_tokens_with(&self, signer: Arc<dyn PodTokens>) {
        self.inner.tokens.signed_by(signer);
    }

    /// TLS for the endpoint that [`Gateway::serve`] gets, with a new certificate of the fleet's CA.
    ///
    /// # Errors
    /// When the CA cannot sign.
    pub fn tls(&self, time: Arc<dyn TimeProvider>) -> Result<HubTls, SetupError> {
        let now = self.inner.objects.clock().unix_seconds();
        let own: Credentials = self.inner.authority.link(now)?;
        let own = Arc::new(Serving::new(own)?);
        let own = self.inner.serving.get_or_init(|| own);
        let config = hub_server(self.inner.authority.ca(), own.clone(), time)?;
        Ok(HubTls::new(config, self.inner.authority.secret())?)
    }

    /// A new certificate for the link; connections that are up keep theirs.
    ///
    /// # Errors
    /// When the CA cannot sign; the old one stays.
    pub fn renew_tls(&self) -> Result<(), SetupError> {
        let now = self.inner.objects.clock().unix_seconds();
        let own = self.inner.authority.link(now)?;
        match self.inner.serving.get() {
            Some(serving) => Ok(serving.exchange(own)?),
            None => Ok(()),
        }
    }

    /// Shows there what is to be seen of sessions and plans.
    pub fn show(&self, metrics: &Metrics) {
        session_metrics::show(metrics, &Arc::downgrade(&self.inner));
    }

    /// The way to connected spokes, for the API server.
    #[must_use]
    pub fn streams(&self) -> Arc<dyn SpokeStreams> {
        Arc::new(streams::ToSpokes(Arc::downgrade(&self.inner)))
    }

    /// Spokes in session with this hub.
    #[must_use]
    pub fn connected(&self) -> Vec<ClusterName> {
        self.inner.links.lock().keys().cloned().collect()
    }

    /// Datagrams of pods that were refused or dropped since the start.
    #[must_use]
    pub fn lost_datagrams(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    /// What the link of a connected spoke has carried of this class since its session began.
    #[must_use]
    pub fn carried(&self, spoke: &ClusterName, class: Class) -> Option<Carried> {
        let link = self.inner.links.lock().get(spoke)?.transport.clone();
        Some(link.carried(class))
    }

    /// Messages of newer spokes that were skipped since the start.
    #[must_use]
    pub fn skipped_messages(&self) -> u64 {
        self.inner.skipped.load(Ordering::Relaxed)
    }

    /// The plan that a connected spoke holds, where nothing newer is wanted or on its way to it.
    #[must_use]
    pub fn agreed(&self, spoke: &ClusterName) -> Option<(Generation, SetDigest)> {
        let state = self.inner.links.lock().get(spoke)?.state.clone();
        state.lock().agreed()
    }

    /// Takes connections until `stop`, then says goodbye to all.
    pub async fn serve(&self, endpoint: Endpoint, stop: CancellationToken) {
        let inner = &self.inner;
        let inherited = StaleSessions::of(&inner.objects, &inner.hub);
        let follow = inner.fanout.follow(inner.objects.store(), inner.images.changed(), &stop);
        let forget = |gone: &DeletedClusters<'_>| inner.forget(gone);
        let departures = deleted_clusters::follow(inner.objects.store(), &stop, forget);
        let accept = self.accept(&endpoint, &stop);
        let inherited = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = inherited.end(&inner.objects) => {}
            }
        };
        tokio::join!(follow, departures, accept, inherited);
        endpoint.close(code::STOPPING, "the hub is stopping");
        let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    }

    async fn accept(&self, endpoint: &Endpoint, stop: &CancellationToken) {
        let handshakes = Arc::new(Handshakes::default());
        let mut serving = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = serving.join_next() => continue,
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => incoming,
                    None => break,
                },
            };
            let asked = handshakes.ask(incoming.address().ip(), incoming.is_validated());
            let place = match asked {
                HandshakeAnswer::Go(place) => place,
                HandshakeAnswer::Prove => {
                    incoming.retry();
                    continue;
                }
                HandshakeAnswer::Refuse => {
                    incoming.refuse();
                    continue;
                }
            };
            let (gateway, stop) = (self.clone(), stop.clone());
            serving.spawn(async move { Box::pin(gateway.take(incoming, place, stop)).await });
        }
        let farewell = async { while serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(3), farewell).await;
    }

    async fn take(&self, incoming: Incoming, place: HandshakePermit, stop: CancellationToken) {
        let address = incoming.address();
        let finished = tokio::select! {
            biased;
            finished = incoming.finish() => finished,
            () = place.lost() => {
                debug!(peer = %address, "a handshake gives way to another address");
                return;
            }
        };
        let quic = match finished {
            Ok(quic) => quic,
            Err(error) => {
                debug!(peer = %address, %error, "a handshake failed");
                return;
            }
        };
        drop(place);
        let protocol = quic.protocol();
        self.serve_link(Arc::new(quic), protocol.as_deref(), &stop).await;
    }

    /// Serves one connection to its end: what [`Gateway::serve`] does with each, whatever carries it.
    pub async fn serve_link(
        &self,
        link: Arc<dyn Transport>,
        protocol: Option<&[u8]>,
        stop: &CancellationToken,
    ) {
        let peer = link.peer();
        match protocol {
            Some(ALPN_JOIN) => {
                let Some(stranger) = self.inner.joins.ask(&link) else {
                    link.close(code::BUSY, joins::NO_PERMIT_MESSAGE);
                    return;
                };
                tokio::select! {
                    biased;
                    () = stop.cancelled() => link.close(code::STOPPING, "the hub is stopping"),
                    () = Box::pin(enrol::serve(&self.inner, link.clone(), stranger)) => {}
                }
            }
            Some(ALPN_SESSION) => match peer.certificate.as_ref().and_then(SpokeIdentity::read) {
                Some(identity) => {
                    let span = session::span(&identity, peer.address);
                    let session = Box::pin(session::serve(&self.inner, link, identity, stop));
                    session.instrument(span).await;
                }
                None => {
                    warn!(peer = %peer.address, "a session without a spoke's certificate is refused");
                    link.close(code::REFUSED, "a session needs the certificate of a spoke");
                }
            },
            _ => {
                info!(peer = %peer.address, "an unknown protocol is refused");
                link.close(code::VIOLATION, "unknown protocol");
            }
        }
    }
}

/// Why the gateway cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The CA cannot sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS does not take what the CA made.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

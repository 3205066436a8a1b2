//! The hub's side of the link: who may connect, what they are told, what is made of what they say.
//!
//! ```text
//! spoke_identity  what a spoke's certificate says, and whether that is let in
//! renew      a new certificate for a key that has one
//! duplicates  two devices with one identity
//! token_bucket  how much one spoke may say
//! (here)     the door: handshakes, admission, which protocol
//! joins      how many devices join at a time     fair_eviction  who makes room, there and at handshakes
//! tokens     what devices join with
//! enrol, register, issue  a token and a key become a certificate, after two yeses
//! deleted_clusters  what is remembered of a cluster goes with it
//! epochs     which of a spoke's sessions is the newest     session_ends  whose end is not written yet
//! own_api    where a cluster says that its API is served
//! handshakes, pending_sessions, opening  from a first packet to a session in force
//! stale_sessions  sessions of this hub's earlier life
//! session, live_session  one connected spoke, and what its parts share     session_end  why it is over
//! speech     what it is told, and whether it listens
//! plan_sync  when and how it is told what it should hold
//! change_fanout  which spokes look again after a change, and at what     sync_signal  what waits for one of them
//! view       what a plan reads            bound_pods  which pods are where
//! pod_tokens  tokens of service accounts for pods, signed anew in time
//! pod_cidr_leases  which spoke has which pod addresses      leasing  one that lacks some gets them
//! services   Services, translated once for all spokes
//! config_records  ConfigMaps and Secrets in the same way     config_readers  whose pods name them
//! reports, events, node  what spokes say, as objects      device  the newest that one says of itself
//! object_refs  where objects are, and of which a spoke may speak
//! refusals   what cannot be planned, where its user looks
//! compiling  whose pods wait for a compiler
//! incarnation  which life of the store this is; a folder put back from a copy is a new one
//! session_records  sessions, leases of pod ranges in the store
//! streams    modules, logs, tunnels      relays  how many tunnels each spoke may have
//! writes     what a session writes, whatever the disk says     pending_reports  what waits for it     answers  what comes of it
//! datagrams  UDP of pods between spokes
//! ```
//!
//! Guarantees:
//! - nobody has a session whose key the handshake has not proven, or whom the hub's owner does not let in
//!   (`over_quic_a_device_joins_once_the_pinned_ca_is_right`, `a_certificate_speaks_for_its_own_cluster_only`);
//! - strangers keep no device out with handshakes (`handshakes_that_never_end_keep_no_device_out`), and with joins none
//!   that has a good token for longer than a moment (`strangers_keep_nobody_with_a_good_token_out`).

mod answers;
mod bound_pods;
mod change_fanout;
mod compiling;
mod config_readers;
mod config_records;
mod datagrams;
mod deleted_clusters;
mod device;
pub mod duplicates;
mod enrol;
mod epochs;
mod events;
mod fair_eviction;
mod handshakes;
mod incarnation;
mod issue;
mod joins;
mod leasing;
mod live_session;
mod node;
mod object_refs;
mod opening;
mod own_api;
mod pending_reports;
mod pending_sessions;
mod plan_sync;
mod pod_cidr_leases;
mod pod_tokens;
mod refusals;
mod register;
mod relays;
mod renew;
mod reported;
mod reports;
mod services;
mod session;
mod session_end;
mod session_ends;
mod session_metrics;
mod session_records;
mod speech;
pub mod spoke_identity;
mod stale_sessions;
mod streams;
mod sync_signal;
mod token_bucket;
mod tokens;
mod view;
mod writes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_hub_api::images::Images;
use freewheel_hub_api::streams::SpokeStreams;
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::Objects;
use freewheel_hub_pki::{Authority, AuthorityError};
use freewheel_hub_plan::SpokeMembers;
use freewheel_hub_store::Revision;
use freewheel_link::digest::SetDigest;
use freewheel_link::generation::Generation;
use freewheel_link::message::{ALPN_JOIN, ALPN_SESSION};
use freewheel_link::meter::{Carried, Class};
use freewheel_link::names::ClusterName;
use freewheel_link::quic::{Endpoint, HubTls, Incoming};
use freewheel_link::record_set::Held;
use freewheel_link::stream_budget::Budget;
use freewheel_link::tls::{Credentials, Serving, TimeProvider, TlsError, hub_server};
use freewheel_link::transport::{Transport, code};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, warn};

use deleted_clusters::DeletedClusters;
pub use freewheel_hub_plan::TokensAsked;
use handshakes::{HandshakeAnswer, HandshakePermit, Handshakes};
pub use pod_tokens::PodTokens;
use spoke_identity::SpokeIdentity;
use stale_sessions::StaleSessions;
use token_bucket::TokenBuckets;

/// Sessions that a spoke may open in a row, and per second after that: each is written, and so is its end.
const SESSION_RATE: (u32, f64) = (16, 0.2);
/// How often a spoke may have all of its plan sent because it holds something else, in a row and per second after that:
/// once is for a mistake, and one mistake in a while is met.
const RESYNC_RATE: (u32, f64) = (4, 1.0 / 30.0);
/// The same for coming back with nothing known, which is no mistake: it waits, and is not sent away.
const EMPTY_RETURN_RATE: (u32, f64) = (4, 1.0 / 30.0);
/// A line of the log about what a spoke says and cannot be, and one in so many seconds after it.
const COMPLAINT_RATE: (u32, f64) = (1, 1.0 / 60.0);

/// A spoke's connection that is in force.
pub(crate) struct Link {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) state: Arc<Mutex<live_session::PlanSession>>,
    /// Places of the streams that the hub opens on it.
    pub(crate) opened: Arc<Budget>,
    /// What its spoke said in its greeting that it can do.
    pub(crate) abilities: u64,
    /// UID of the ManagedCluster whose session it carries, and which of its sessions that is.
    pub(crate) uid: String,
    pub(crate) epoch: u64,
}

pub(crate) struct Inner {
    pub(crate) objects: Objects,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) fleet_root: [u8; 32],
    pub(crate) hub: String,
    pub(crate) fanout: change_fanout::ChangeFanout,
    pub(crate) links: Mutex<BTreeMap<ClusterName, Link>>,
    /// What spokes held when they were last seen, by the UID of their ManagedCluster.
    pub(crate) known: Mutex<BTreeMap<String, Held<SpokeMembers>>>,
    /// Which of the spokes' reports are durable.
    pub(crate) reported: reported::AllReported,
    /// Processes that came with one identity.
    pub(crate) duplicates: duplicates::DuplicateIdentities,
    /// Events that each spoke may still tell.
    pub(crate) events: events::EventBuckets,
    /// The certificate of the link, exchanged before it ends.
    serving: OnceLock<Arc<Serving>>,
    /// Pods' datagrams that were not relayed.
    pub(crate) lost: AtomicU64,
    /// Messages of spokes that are not known here.
    pub(crate) skipped: AtomicU64,
    pub(crate) rollback_guard: incarnation::RollbackGuard,
    pub(crate) epochs: epochs::Epochs,
    /// Told once, before devices join; a hub that is never told leaves it to its people.
    pub(crate) own_api: OnceLock<own_api::OwnApi>,
    pub(crate) joins: joins::Joins,
    /// Connections with certificates that are not let in yet.
    pub(crate) pending_sessions: pending_sessions::PendingSessions,
    /// Connections between spokes.
    pub(crate) relays: Arc<relays::Relays>,
    /// Certificates that each device may still have anew.
    pub(crate) renewals: TokenBuckets,
    /// Sessions that each spoke may still open.
    pub(crate) sessions: TokenBuckets,
    /// How often each spoke may still hold something else than was sent.
    pub(crate) drifts: TokenBuckets,
    /// How often each spoke may still come back with nothing known and have all of its plan at once.
    pub(crate) returns: TokenBuckets,
    /// How often the log still has it that a spoke says what cannot be.
    pub(crate) complaints: TokenBuckets,
    /// Addresses that each spoke may still ask for by datagrams.
    pub(crate) doors: TokenBuckets,
    /// Ends of sessions that are not written yet.
    pub(crate) session_ends: session_ends::SessionEnds,
    pub(crate) meters: session_metrics::GatewayMetrics,
    /// Tokens of pods' service accounts.
    pub(crate) tokens: pod_tokens::TokenShelf,
}

impl Inner {
    /// The revision that a spoke in session is known to have come up to.
    pub(crate) fn reached(&self, spoke: &ClusterName) -> Revision {
        let state = self.links.lock().get(spoke).map(|link| link.state.clone());
        state.map_or(0, |state| state.lock().reached().revision)
    }

    /// What is remembered of a ManagedCluster goes with it.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.known.lock());
        self.duplicates.forget(gone);
        self.events.forget(gone);
        self.epochs.forget(gone);
        self.reported.forget(gone);
        self.session_ends.forget(gone);
        self.tokens.forget(gone);
    }
}

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
            fanout: change_fanout::ChangeFanout::default(),
            links: Mutex::default(),
            known: Mutex::default(),
            reported: reported::AllReported::default(),
            duplicates: duplicates::DuplicateIdentities::default(),
            events: events::EventBuckets::default(),
            serving: OnceLock::new(),
            lost: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            rollback_guard: incarnation::RollbackGuard::default(),
            epochs: epochs::Epochs::default(),
            own_api: OnceLock::new(),
            joins: joins::Joins::default(),
            pending_sessions: pending_sessions::PendingSessions::default(),
            relays: Arc::default(),
            renewals: TokenBuckets::new(renew::RENEWAL_BURST, renew::RENEWALS_PER_SECOND),
            sessions: TokenBuckets::new(SESSION_RATE.0, SESSION_RATE.1),
            drifts: TokenBuckets::new(RESYNC_RATE.0, RESYNC_RATE.1),
            returns: TokenBuckets::new(EMPTY_RETURN_RATE.0, EMPTY_RETURN_RATE.1),
            complaints: TokenBuckets::new(COMPLAINT_RATE.0, COMPLAINT_RATE.1),
            doors: TokenBuckets::new(
                datagrams::DATAGRAM_LEASE_BURST,
                datagrams::DATAGRAM_LEASES_PER_SECOND,
            ),
            session_ends: session_ends::SessionEnds::default(),
            meters: session_metrics::GatewayMetrics::default(),
            tokens: pod_tokens::TokenShelf::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Where the API is reached, `https://HOST:PORT`: clusters that join from now on say so.
    pub fn tell_api(&self, root: &str) {
        let own = own_api::OwnApi::new(root, self.inner.authority.ca());
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
        let inherited = StaleSessions::of(inner);
        let follow = inner.fanout.follow(inner.objects.store(), inner.images.changed(), &stop);
        let forget = |gone: &DeletedClusters<'_>| inner.forget(gone);
        let departures = deleted_clusters::follow(inner.objects.store(), &stop, forget);
        let door = self.door(&endpoint, &stop);
        let inherited = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = inherited.end(inner) => {}
            }
        };
        tokio::join!(follow, departures, door, inherited);
        endpoint.close(code::STOPPING, "the hub is stopping");
        let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    }

    async fn door(&self, endpoint: &Endpoint, stop: &CancellationToken) {
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

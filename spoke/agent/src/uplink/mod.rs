//! The spoke's side of the link: keeps a session with the hub and carries everything over it.
//!
//! ```text
//! driver    dial, greet, listen, beat; wait with jitter and dial again
//! streams   what the hub opens: logs and tunnels, handed to [`Serve`]
//! exec      commands that the hub opens, as at a terminal
//! opened    what serving any of them takes
//! fetch     what the spoke opens: modules with resume, tunnels to other spokes
//! join      a key of its own and a token become an identity
//! ```
//!
//! Without a session reports are dropped, and so are those for a session that is over: the agent sends all that is not
//! taken after the next [`Input::Connected`](crate::ports::Input::Connected). The greeting carries the device's state.
//!
//! Guarantees:
//! - a lost session is made again, and reports meanwhile are not kept here
//!   (`a_lost_session_is_made_again_and_offline_reports_are_the_agents_to_repeat`);
//! - the device's state is in the next greeting, as the agent told it last
//!   (`what_the_device_is_when_a_session_begins_is_in_its_greeting`).
//!
//! Everything runs over [`Transport`] and [`Dial`]: no quinn, no clock but tokio's, no chance but the given seed.

mod driver;
mod exec;
mod fetch;
pub mod join;
mod opened;
mod streams;
mod terminal;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use freewheel_link::digest::SetDigest;
use freewheel_link::figures::Figures;
use freewheel_link::generation::Generation;
use freewheel_link::message::{
    DatagramV1, ExecV1, LogsV1, PortForwardV1, RefusalV1, SpokeToHub, TunnelV1,
};
use freewheel_link::names::ClusterName;
use freewheel_link::report::{NodeStatusV1, Report, ReportStamp};
use freewheel_link::spoke_session::SpokeSession;
use freewheel_link::stream_budget::Budget;
use freewheel_link::transport::{Dial, Stream, Transport};
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use driver::{Driver, End};
pub use exec::{Command, Stdin};
pub use fetch::{FetchError, Fetched, Sink};

use crate::ports;

/// Who greets.
#[derive(Clone, Debug)]
pub struct SpokeInfo {
    /// Name that the certificate is for.
    pub cluster: ClusterName,
    /// Counts the agent's starts: the ledger's epoch.
    pub boot_epoch: u64,
    /// What the ledger holds.
    pub held: Generation,
    /// Fingerprint of its records.
    pub digest: SetDigest,
    /// The device.
    pub node: NodeStatusV1,
}

/// A connection to a pod. What is dropped before it was shut down breaks off for the pod, so that it does not take that
/// for whole: the task that carries it may end anywhere.
#[async_trait]
pub trait Duplex: Send + 'static {
    /// Carries its bytes to and from the hub, until both sides have said all or one of them has broken off.
    async fn carry(self: Box<Self>, stream: Stream);
}

/// A log, as bytes until its end.
pub type LogStream = Box<dyn AsyncRead + Send + Unpin>;

/// What the hub may ask of a spoke.
#[async_trait]
pub trait Serve: Send + Sync + 'static {
    /// The log of a container. Dropped when the reader goes away.
    async fn logs(&self, request: LogsV1) -> Result<LogStream, RefusalV1>;
    /// A connection to a pod here, from a pod elsewhere.
    async fn tunnel(&self, request: TunnelV1) -> Result<Box<dyn Duplex>, RefusalV1>;
    /// A connection to a port of a pod here, for a client of the hub's.
    async fn port_forward(&self, _request: PortForwardV1) -> Result<Box<dyn Duplex>, RefusalV1> {
        Err(RefusalV1::new("BadRequest", "this spoke does not serve that"))
    }
    /// A command in a container here.
    async fn exec(
        &self,
        _request: ExecV1,
        _stdin: Option<Stdin>,
    ) -> Result<Box<dyn Command>, RefusalV1> {
        Err(RefusalV1::new("BadRequest", "this spoke does not serve that"))
    }
    /// The realm of a pod that is here: whose share of the link a stream to it is.
    fn realm_of(&self, _pod_uid: &str) -> Option<ClusterName> {
        None
    }
    /// What is counted here, at the moment; the most important first.
    fn figures(&self) -> Vec<Figures> {
        Vec::new()
    }
    /// A datagram for a pod here, from a pod elsewhere. It must not wait.
    fn datagram(&self, _datagram: DatagramV1) {}
}

/// The uplink as the rest of the spoke holds it. Cheap to clone; works, without effect, while offline.
#[derive(Clone, Default)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<UplinkState>,
    /// Something is to be sent.
    news: Notify,
    /// The connection of the session that is up.
    link: watch::Sender<Option<Arc<dyn Transport>>>,
    /// Sessions that came up since the start.
    sessions: AtomicU64,
    /// Datagrams of pods that the link did not take.
    lost: AtomicU64,
    /// Messages of the hub that are not known here.
    skipped: AtomicU64,
    /// Places of the streams that are opened here.
    opened: Arc<Budget>,
}

impl Default for Shared {
    fn default() -> Self {
        let link = watch::Sender::new(None);
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            link,
            sessions: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            opened: Arc::default(),
        }
    }
}

#[derive(Default)]
struct UplinkState {
    session: Option<SpokeSession>,
    /// Its number, once it is up.
    number: Option<u64>,
    holds: Option<(Generation, SetDigest)>,
    node: Option<NodeStatusV1>,
    /// When the newest session came up.
    up: Option<Instant>,
}

impl Handle {
    /// Not connected yet: see [`Handle::driver`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What keeps this handle connected.
    #[must_use]
    pub fn driver(&self, me: SpokeInfo, dial: Arc<dyn Dial>, rng: fastrand::Rng) -> Driver {
        Driver::new(self.shared.clone(), me, dial, rng)
    }

    /// Whether a session is up, now and whenever that changes.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.link.borrow().is_some()
    }

    /// The number of the session that is up; no later one has it.
    #[must_use]
    pub fn session(&self) -> Option<u64> {
        self.is_up().then(|| self.shared.sessions.load(Ordering::Relaxed))
    }

    /// Resolves when the session that is up has ended, or the next one when none is up.
    pub fn outage(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut link = self.shared.link.subscribe();
        async move {
            // An error says that the uplink itself is gone.
            if link.wait_for(Option::is_some).await.is_ok() {
                let _ = link.wait_for(Option::is_none).await;
            }
        }
    }

    /// Sends a pod's datagram to a pod elsewhere, or drops it: without a session, on a full link, and when
    /// it is larger than a packet of the link.
    pub fn send_datagram(&self, datagram: DatagramV1) {
        let sent = self.shared.link.borrow().as_ref().is_some_and(|link| {
            postcard::to_stdvec(&SpokeToHub::Datagram(datagram))
                .is_ok_and(|bytes| link.offer_datagram(bytes.into()))
        });
        if !sent {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sessions that came up since the start.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// Messages of a newer hub that were skipped.
    #[must_use]
    pub fn skipped_messages(&self) -> u64 {
        self.shared.skipped.load(Ordering::Relaxed)
    }

    /// Datagrams that [`Handle::send_datagram`] has dropped.
    #[must_use]
    pub fn lost_datagrams(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl ports::Uplink for Handle {
    fn report(&self, session: u64, stamp: ReportStamp, report: Report) {
        let mut state = self.shared.state.lock();
        // The agent may not know yet that the one that it speaks to is over. The next one must hear first what that one
        // may have lost: the hub takes what has come as a sign that all before it has.
        let its = state.number == Some(session);
        if let Some(session) = state.session.as_mut().filter(|_| its) {
            session.report(stamp, report);
            drop(state);
            self.shared.news.notify_one();
        }
    }

    fn took(&self, generation: Generation, digest: SetDigest) {
        let mut state = self.shared.state.lock();
        state.holds = Some((generation, digest));
        if let Some(session) = &mut state.session {
            session.took(generation, digest);
            drop(state);
            self.shared.news.notify_one();
        }
    }

    fn runs(&self, generation: Generation, digest: SetDigest) {
        let mut state = self.shared.state.lock();
        if let Some(session) = &mut state.session {
            session.runs(generation, digest);
            drop(state);
            self.shared.news.notify_one();
        }
    }

    fn device(&self, status: &NodeStatusV1) {
        self.shared.state.lock().node = Some(status.clone());
    }
}

#[cfg(test)]
mod tests;

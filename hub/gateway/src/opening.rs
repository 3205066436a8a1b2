//! From a connection with a spoke's certificate to the session that is in force.
//!
//! ```text
//! connected ─▶ greeted ─▶ let in? nobody else in session? ─▶ epoch written ─▶ still the newest? ─▶ in force
//! ```
//!
//! Guarantees:
//! - a certificate opens a session for its own cluster only, and only for the ManagedCluster that it was given for
//!   (`a_certificate_speaks_for_its_own_cluster_only`,
//!   `a_removed_device_is_not_let_in_when_its_name_was_given_to_new_hardware`);
//! - who is not let in has a stranger's room (`who_is_not_let_in_has_a_strangers_room_whatever_its_certificate`);
//! - of sessions that open side by side the one with the highest epoch is in force, whichever is done first
//!   (`of_sessions_that_open_at_the_same_time_the_newest_is_in_force_and_hears_of_changes`);
//! - a device that comes back again and again writes little (`a_device_that_connects_in_a_loop_opens_few_sessions`);
//! - a process counts for one of its identity's only once its session has opened
//!   (`a_process_whose_session_never_opened_is_no_twin`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_plan::NodeSettings;
use freewheel_link::frame::FrameReader;
use freewheel_link::limits::SPOKE_OPENER_BYTES_MAX;
use freewheel_link::message::{ABILITIES, HelloV1, Open, PROTOCOLS, Reason, SpokeToHub, WelcomeV1};
use freewheel_link::report::ReportStamp;
use freewheel_link::transport::{SendHalf, Transport, code};
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::time::timeout;
use tracing::debug;

use crate::inner::Inner;
use crate::links::{self, Link, PlanSession};
use crate::session_end::{End, GOODBYE_TIMEOUT};
use crate::session_records::Begun;
use crate::spoke_identity::SpokeIdentity;
use crate::sync_signal::SyncSignal;
use crate::{duplicates, incarnation, session_records};

/// The greeting is the first thing a spoke says.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// What a spoke says comes from here.
pub(crate) type Recv = FrameReader<Box<dyn AsyncRead + Send + Sync + Unpin>>;

/// Waits for the greeting.
pub(crate) async fn greeted(
    link: &Arc<dyn Transport>,
) -> Result<(Box<dyn SendHalf>, Recv, HelloV1), End> {
    let wait = async {
        let stream = link.accept().await?;
        let (send, mut recv) = (stream.send, FrameReader::new(stream.recv));
        let odd = || End::Left(Reason::Violation("the first stream is no session".into()));
        let Some(Open::Session) = recv.next_within::<Open>(SPOKE_OPENER_BYTES_MAX).await? else {
            return Err(odd());
        };
        let Some(SpokeToHub::Hello(hello)) = recv.next::<SpokeToHub>().await? else {
            return Err(odd());
        };
        Ok((send, recv, *hello))
    };
    timeout(GREETING_TIMEOUT, wait).await.unwrap_or(Err(End::Left(Reason::Silent)))
}

/// A session that is in force.
pub(crate) struct Opened {
    pub(crate) state: Arc<Mutex<PlanSession>>,
    pub(crate) epoch: u64,
    pub(crate) signal: Arc<SyncSignal>,
    pub(crate) begun: Begun,
}

/// Opens a session, and closes the one before it. `up` is the session that the store calls up from here on.
pub(crate) async fn open(
    inner: &Inner,
    identity: &SpokeIdentity,
    link: &Arc<dyn Transport>,
    mut hello: HelloV1,
    up: &Mutex<Option<Begun>>,
) -> Result<Opened, End> {
    let (cluster, clock, store) = (&identity.cluster, inner.objects.clock(), inner.objects.store());
    admit(inner, identity)?;
    let mut welcome = WelcomeV1 {
        protocol: PROTOCOLS.most,
        abilities: ABILITIES,
        incarnation: 0,
        epoch: 0,
        heartbeat_seconds: NodeSettings::default().heartbeat_seconds,
        now: clock.unix_millis(),
        durable_reports: ReportStamp::default(),
    };
    // A greeting that will be refused opens no session.
    PlanSession::accept(&hello, cluster, welcome, None).map_err(End::Left)?;
    refuse_duplicate(inner, identity, link, hello.instance).await?;
    // That may have taken seconds.
    let now = clock.unix_seconds();
    welcome.now = clock.unix_millis();
    hello.held =
        incarnation::known(&inner.rollback_guard, &inner.objects, identity, hello.held).await;
    welcome.incarnation = incarnation::incarnation(&**store, &*store.snapshot());
    if !inner.sessions.take(&identity.uid) {
        return Err(End::Often);
    }
    let begun =
        session_records::open_session(store, &inner.epochs, identity, &inner.hub, now).await;
    let begun = begun.map_err(|error| match identity.admit(&inner.objects) {
        // It was not its name's any more just before the session was written.
        Err(reason) => End::Left(reason),
        Ok(()) => error.into(),
    })?;
    welcome.epoch = begun.session.epoch;
    welcome.durable_reports =
        inner.reported.durable(&inner.fanout, &inner.objects, identity, &hello);
    renew_api(inner, identity).await;
    let opened = into_force(inner, identity, link, &hello, welcome, &begun);
    if opened.is_err() {
        // A newer session's record says nothing of this one.
        *up.lock() = Some(begun);
    }
    opened
}

/// Whether the hub's owner lets it in, now.
fn admit(inner: &Inner, identity: &SpokeIdentity) -> Result<(), End> {
    identity.admit(&inner.objects).map_err(End::Left)?;
    // The handshake has looked at it, but not where a session of TLS was taken up again.
    let is_over = identity.are_over(inner.objects.clock().unix_seconds());
    if is_over { Err(End::Left(Reason::Expired)) } else { Ok(()) }
}

/// Refuses a device while another one with its identity is in session and answers. One that does not has died or its link
/// is cut, and who comes has the session.
async fn refuse_duplicate(
    inner: &Inner,
    identity: &SpokeIdentity,
    link: &Arc<dyn Transport>,
    instance: u64,
) -> Result<(), End> {
    let mut silent = None;
    let holder = loop {
        let holder = links::holder(&inner.links, &identity.cluster, &identity.uid)
            .filter(|holder| holder.instance != instance && silent != Some(holder.epoch));
        let Some(holder) = holder else { return Ok(()) };
        if !inner.holders_asked.take(&identity.uid) {
            return Err(End::Often);
        }
        let answers = tokio::select! {
            biased;
            closed = link.closed() => return Err(End::Closed(closed)),
            answers = duplicates::answers(&inner.objects, &holder) => answers,
        };
        if answers {
            break holder;
        }
        // Meanwhile another one may have opened a session.
        silent = Some(holder.epoch);
    };
    if inner.duplicates.turned_away(&identity.uid, instance) {
        let away = link.peer().address;
        // It is not kept waiting by the disk.
        let reported =
            duplicates::report_duplicate(&inner.objects, &inner.hub, identity, &holder, away);
        let _ = timeout(GOODBYE_TIMEOUT, reported).await;
    }
    Err(End::Left(Reason::Cloned))
}

/// The hub may have moved since the cluster was told of its address. A session does not fail by that, and waits for no
/// disk that stands still.
async fn renew_api(inner: &Inner, identity: &SpokeIdentity) {
    let Some(api) = inner.own_api.get() else { return };
    let renewed = timeout(GOODBYE_TIMEOUT, api.renew(&inner.objects, &identity.cluster)).await;
    if let Ok(Err(error)) = renewed {
        debug!(cluster = %identity.cluster, %error, "where its API is was not renewed");
    }
}

/// Puts a session whose epoch is written where the others are known. Writing took its time: meanwhile a newer one may
/// have opened, and the cluster may have become another.
fn into_force(
    inner: &Inner,
    identity: &SpokeIdentity,
    link: &Arc<dyn Transport>,
    hello: &HelloV1,
    welcome: WelcomeV1,
    begun: &Begun,
) -> Result<Opened, End> {
    let (cluster, epoch) = (&identity.cluster, welcome.epoch);
    let mut links = inner.links.lock();
    identity.admit(&inner.objects).map_err(End::Left)?;
    let newer = |held: &&Link| held.uid == identity.uid && epoch < held.epoch;
    if links.get(cluster).filter(newer).is_some() {
        return Err(End::Left(Reason::Superseded));
    }
    let known = inner.known.lock().remove(&identity.uid);
    let state = PlanSession::accept(hello, cluster, welcome, known).map_err(End::Left)?;
    let state = Arc::new(Mutex::new(state));
    let own = Link {
        transport: link.clone(),
        state: state.clone(),
        opened: Arc::default(),
        figures_request: Arc::default(),
        abilities: hello.abilities,
        uid: identity.uid.clone(),
        epoch,
        instance: hello.instance,
    };
    let older = links.insert(cluster.clone(), own);
    let signal = inner.fanout.join(cluster);
    drop(links);
    link.admit();
    if let Some(older) = older {
        older.transport.close(code::SUPERSEDED, "a newer session of this spoke is in force");
    }
    Ok(Opened { state, epoch, signal, begun: begun.clone() })
}

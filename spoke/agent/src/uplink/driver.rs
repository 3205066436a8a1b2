//! One session after another: dial, greet, listen, beat, and wait with jitter before the next try.
//!
//! Guarantees:
//! - why the hub turns this spoke away is heard in its words, also before there is a session
//!   (`who_is_turned_away_before_it_has_greeted_says_why`);
//! - who shares its identity with another device stands back (`who_shares_its_identity_stands_back_and_says_why`), for less
//!   than two minutes at a time (`who_shares_its_identity_asks_within_two_minutes_however_often_it_was_turned_away`);
//! - who is turned away until somebody does something asks less and less often, however long it was in session before
//!   (`who_is_turned_away_asks_less_and_less_often_from_the_start`);
//! - a device that has taken another's place greets as that (`who_has_another_name_greets_by_it`);
//! - a stream that breaks with its connection is no message that cannot be read
//!   (`a_session_that_breaks_off_is_no_breach_of_the_protocol`, `a_hub_that_breaks_the_protocol_is_left`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use freewheel_link::backoff::Backoff;
use freewheel_link::frame::{self, FrameError, FrameReader};
use freewheel_link::message::{
    ABILITIES, HelloV1, HubToSpoke, Open, PROTOCOLS, Reason, SpokeToHub, WelcomeV1,
};
use freewheel_link::part::Parts;
use freewheel_link::plan::Kind;
use freewheel_link::spoke_session::{Effect, SpokeSession};
use freewheel_link::stream_budget::Budget;
use freewheel_link::transport::{
    Closed, Dial, DialError, Fault, Priority, SendHalf, Transport, Whose, code,
};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, debug, info, info_span, warn};

use super::streams::serve_stream;
use super::{Serve, Shared, SpokeInfo};
use crate::ports::{Input, PlanPart};

/// A session that held this long shows that the way is good: the next wait starts small again.
const STEADY_SESSION_AFTER: Duration = Duration::from_secs(10);
/// Beats in a row without a sign that the hub got any: then the way from it is cut.
const UNANSWERED_BEATS_MAX: u32 = 2;
/// How long a goodbye may take before the connection is cut.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Two devices with one identity: neither can know which of them is the right one, and who is turned away takes nothing
/// from the other by asking. It asks until the other is gone, as it may be the right one: no sooner than this, and less and
/// less often, as it may be one of thousands that were made from one disk.
const DUPLICATE_RETRY_AFTER: Duration = Duration::from_secs(10);
/// And this much later at most: the hub may take seconds to find that the other one is gone, and this one is to be back
/// within two minutes.
const DUPLICATE_RETRY_LATER_MAX: Duration = Duration::from_secs(100);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The hub said something that cannot be read.
    #[error("the hub's message cannot be read")]
    Frame(#[from] FrameError),
    /// One of the two has said goodbye.
    #[error("{0}")]
    Left(Reason),
    /// The spoke stops.
    #[error("the spoke stops")]
    Stopped,
    /// Nobody takes what the hub says any more.
    #[error("the agent is gone")]
    NoAgent,
}

/// Whether coming back helps only when somebody has done something.
const fn is_refusal(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::NotAccepted
            | Reason::Unknown
            | Reason::NotYou(_)
            | Reason::Replaced
            | Reason::Cloned
            | Reason::Expired
            | Reason::Decommissioned(_)
            | Reason::Renamed(_)
    )
}

/// Whether nothing that this device does helps, nor a hub that is back in a moment: somebody has to do something there.
const fn waits_for_people(reason: &Reason) -> bool {
    matches!(reason, Reason::NotAccepted | Reason::Unknown | Reason::NotYou(_) | Reason::Replaced)
}

impl End {
    /// What the connection was closed with says what a goodbye would have said.
    fn in_words_of_the_hub(self) -> Self {
        match self {
            Self::Closed(Closed::ByPeer { code: code::SUPERSEDED, .. }) => {
                Self::Left(Reason::Superseded)
            }
            Self::Closed(Closed::Certificate {
                whose: Whose::Ours, fault: Fault::Time, ..
            }) => Self::Left(Reason::Expired),
            other => other,
        }
    }
}

/// Keeps a [`super::Handle`] connected.
pub struct Driver {
    shared: Arc<Shared>,
    me: SpokeInfo,
    dial: Arc<dyn Dial>,
    rng: fastrand::Rng,
    /// Tells this process from another one with the same identity.
    instance: u64,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        me: SpokeInfo,
        dial: Arc<dyn Dial>,
        mut rng: fastrand::Rng,
    ) -> Self {
        let instance = rng.u64(..);
        Self { shared, me, dial, rng, instance }
    }

    /// Until `stop`, or until nobody listens to `inputs`.
    pub async fn run(
        mut self,
        inputs: mpsc::Sender<Input>,
        serve: Arc<dyn Serve>,
        stop: CancellationToken,
    ) {
        let mut backoff = Backoff::uplink();
        let mut duplicate = Backoff::new(DUPLICATE_RETRY_AFTER, DUPLICATE_RETRY_LATER_MAX);
        let mut last_up: Option<Instant> = None;
        loop {
            let end = self.once(&inputs, &serve, &stop).await;
            if let Some(up) = self.shared.state.lock().up.take() {
                if STEADY_SESSION_AFTER <= up.elapsed() {
                    backoff.reset();
                    duplicate.reset();
                }
                last_up = Some(Instant::now());
            }
            match &end {
                End::Stopped | End::NoAgent => return,
                End::Left(reason @ Reason::Decommissioned(_)) => {
                    warn!(error = %end, "the hub has decommissioned this device");
                    self.dial.turned_away(reason);
                }
                End::Left(reason @ Reason::Renamed(_)) => {
                    info!(error = %end, "the hub has another name for this device");
                    self.dial.turned_away(reason);
                }
                End::Left(reason) if is_refusal(reason) => {
                    warn!(error = %end, "the hub turns this spoke away; pods go on");
                    self.dial.turned_away(reason);
                }
                _ => info!(error = %end, "no session with the hub; pods go on"),
            }
            let wait = match &end {
                End::Left(Reason::Cloned) => {
                    DUPLICATE_RETRY_AFTER + duplicate.wait(None, &mut self.rng)
                }
                End::Left(reason) if waits_for_people(reason) => backoff.wait(None, &mut self.rng),
                _ => backoff.wait(last_up.map(|up| up.elapsed()), &mut self.rng),
            };
            debug!(seconds = wait.as_secs_f32(), "next try");
            select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// One session, from dialling to its end.
    async fn once(
        &mut self,
        inputs: &mpsc::Sender<Input>,
        serve: &Arc<dyn Serve>,
        stop: &CancellationToken,
    ) -> End {
        let link = select! {
            biased;
            () = stop.cancelled() => return End::Stopped,
            dialled = self.dial.dial() => match dialled {
                Ok(link) => link,
                Err(error) => return error.into(),
            },
        };
        if let Some(cluster) = self.dial.cluster() {
            self.me.cluster = cluster;
        }
        let (hub, boot) = (link.peer().address, self.me.boot_epoch);
        let span = info_span!("session", %hub, boot, epoch = Empty);
        let end = match self.run_session(&link, inputs, serve, stop).instrument(span).await {
            Ok(never) => match never {},
            // The stream breaks with its connection: which of the two is heard first is chance.
            Err(End::Frame(FrameError::Io(_))) => End::Closed(over(&link).await),
            Err(end) => end,
        };
        let end = end.in_words_of_the_hub();
        // What the agent reports from here on is dropped; it says it again to the next session.
        {
            let mut state = self.shared.state.lock();
            (state.session, state.number) = (None, None);
        }
        let was_up = self.shared.link.send_replace(None).is_some();
        let code = match &end {
            End::Left(Reason::Violation(_)) | End::Frame(_) => code::VIOLATION,
            _ => code::STOPPING,
        };
        link.close(code, &end.to_string());
        if was_up && inputs.send(Input::Connected(None)).await.is_err() {
            return End::NoAgent;
        }
        end
    }

    async fn run_session(
        &mut self,
        link: &Arc<dyn Transport>,
        inputs: &mpsc::Sender<Input>,
        serve: &Arc<dyn Serve>,
        stop: &CancellationToken,
    ) -> Result<std::convert::Infallible, End> {
        let stream = link.open(Priority::Session).await?;
        let mut send = stream.send;
        let started = Instant::now();
        let hello = self.hello();
        frame::write(&mut send, &Open::Session).await?;
        frame::write(&mut send, &SpokeToHub::Hello(Box::new(hello))).await?;
        let ended = select! {
            biased;
            () = stop.cancelled() => Err(End::Stopped),
            ended = self.listen(FrameReader::new(stream.recv), link, inputs) => ended,
            ended = self.speak(&mut send, started) => ended,
            ended = self.beat(link, started) => ended,
            ended = accept(link, serve) => ended,
            ended = datagrams(link, serve) => ended,
            closed = link.closed() => Err(End::Closed(closed)),
        };
        let goodbye = match &ended {
            Err(End::Stopped) => Some(Reason::Stopping),
            Err(End::Left(reason @ Reason::Violation(_))) => Some(reason.clone()),
            _ => None,
        };
        if let Some(reason) = goodbye {
            let last = async {
                let _ = frame::write(&mut send, &SpokeToHub::Goodbye(reason)).await;
                let _ = send.shutdown().await;
                link.closed().await
            };
            let _ = timeout(GOODBYE_TIMEOUT, last).await;
        }
        ended
    }

    /// The greeting; what the agent tells from here on goes to its session.
    fn hello(&mut self) -> HelloV1 {
        let mut state = self.shared.state.lock();
        if let Some((held, digest)) = state.holds {
            (self.me.held, self.me.digest) = (held, digest);
        }
        if let Some(node) = &state.node {
            self.me.node = node.clone();
        }
        if self.me.node.fit() {
            warn!(
                "the hub is told less of this device than there is: it has too many or too long labels or names"
            );
        }
        let hello = HelloV1 {
            protocols: PROTOCOLS,
            abilities: ABILITIES,
            cluster: self.me.cluster.clone(),
            boot_epoch: self.me.boot_epoch,
            instance: self.instance,
            held: self.me.held,
            digest: self.me.digest,
            node: self.me.node.clone(),
            parts: Parts::default(),
        };
        state.session = Some(SpokeSession::new(&hello, Duration::ZERO));
        hello
    }

    /// What the hub says, on its way to the agent.
    async fn listen<R: AsyncRead + Unpin>(
        &self,
        mut reader: FrameReader<R>,
        link: &Arc<dyn Transport>,
        inputs: &mpsc::Sender<Input>,
    ) -> Result<std::convert::Infallible, End> {
        loop {
            let next = reader.next_known::<HubToSpoke>(&self.shared.skipped);
            let Some(message) = next.await? else {
                return Err(End::Closed(over(link).await));
            };
            let heard = match &mut self.shared.state.lock().session {
                Some(session) => session.receive(message),
                None => return Err(End::Stopped),
            };
            // What came may have to be answered: a resync.
            self.shared.news.notify_one();
            let input = match heard.map_err(End::Left)? {
                None => continue,
                Some(Effect::Left(reason)) => return Err(End::Left(reason)),
                Some(Effect::Welcome(welcome)) => {
                    let number = self.is_up(&welcome, link);
                    let taken = Input::ReportsTaken(welcome.durable_reports);
                    inputs.send(taken).await.map_err(|_| End::NoAgent)?;
                    Input::Connected(Some(number))
                }
                Some(Effect::Now(now)) => {
                    self.dial.hub_time_is(now);
                    continue;
                }
                Some(Effect::Notice(text)) => {
                    warn!(text, "the hub has something to say to the people of this device");
                    continue;
                }
                Some(Effect::ReportsTaken(stamp)) => Input::ReportsTaken(stamp),
                Some(Effect::ReportRefused(stamp, why)) => Input::ReportRefused(stamp, why),
                Some(Effect::Plan(plan)) => {
                    for pod in plan.put.iter().filter(|r| r.key.kind == Kind::POD_V1) {
                        // The start of a pod's way on this device; the runtime tells its end.
                        debug!(target: "freewheel::start", pod = pod.key.key, "assignment received");
                    }
                    Input::Plan(PlanPart {
                        base: plan.base,
                        to: plan.to,
                        snapshot: plan.snapshot,
                        put: plan.put,
                        remove: plan.remove,
                    })
                }
            };
            inputs.send(input).await.map_err(|_| End::NoAgent)?;
        }
    }

    /// The session is up; its number.
    fn is_up(&self, welcome: &WelcomeV1, link: &Arc<dyn Transport>) -> u64 {
        Span::current().record("epoch", welcome.epoch);
        info!("in session with the hub");
        self.dial.welcomed(welcome);
        let number = self.shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut state = self.shared.state.lock();
            (state.up, state.number) = (Some(Instant::now()), Some(number));
        }
        self.shared.link.send_replace(Some(link.clone()));
        number
    }

    /// What the agent says, on its way to the hub.
    async fn speak(
        &self,
        send: &mut Box<dyn SendHalf>,
        started: Instant,
    ) -> Result<std::convert::Infallible, End> {
        loop {
            let (next, wake) = match &mut self.shared.state.lock().session {
                Some(session) => (session.poll(started.elapsed()), session.wake()),
                None => return Err(End::Stopped),
            };
            match next.map_err(End::Left)? {
                Some(SpokeToHub::Report { stamp, report }) => {
                    let report = report.fit();
                    frame::write(send, &SpokeToHub::Report { stamp, report }).await?;
                }
                Some(message) => frame::write(send, &message).await?,
                None => match wake {
                    Some(wake) => select! {
                        biased;
                        () = self.shared.news.notified() => {}
                        () = sleep_until(started + wake) => {}
                    },
                    None => self.shared.news.notified().await,
                },
            }
        }
    }

    /// The heartbeat, whatever else is being sent.
    async fn beat(
        &self,
        link: &Arc<dyn Transport>,
        started: Instant,
    ) -> Result<std::convert::Infallible, End> {
        // The sender lives as long as `self`.
        let _ = self.shared.link.subscribe().wait_for(Option::is_some).await;
        let (mut heard, mut unheard) = (link.heard(), 0);
        loop {
            let (beat, next) = match &mut self.shared.state.lock().session {
                Some(session) => (session.beat(started.elapsed()), session.next_beat()),
                None => return Err(End::Stopped),
            };
            if let Some(message) = beat {
                // The hub's end acknowledges each beat. What this side no longer hears, the hub may still: it is
                // told by the close, and does not call a node ready that it cannot reach.
                let now = link.heard();
                unheard = if now == heard { unheard + 1 } else { 0 };
                heard = now;
                if UNANSWERED_BEATS_MAX <= unheard {
                    return Err(End::Left(Reason::Silent));
                }
                let bytes = postcard::to_stdvec(&message).unwrap_or_default();
                link.send_datagram(bytes.into());
            }
            let soon = started.elapsed() + Duration::from_secs(1);
            sleep_until(started + next.unwrap_or(soon)).await;
        }
    }
}

/// Datagrams from pods elsewhere. One that cannot be read is lost like any other.
async fn datagrams(
    link: &Arc<dyn Transport>,
    serve: &Arc<dyn Serve>,
) -> Result<std::convert::Infallible, End> {
    loop {
        match frame::decode(&link.datagram().await?) {
            Ok(HubToSpoke::Datagram(datagram)) => serve.datagram(datagram),
            Ok(_) => debug!("the hub sent something else than a pod's datagram"),
            Err(error) => debug!(%error, "a datagram of the hub cannot be read"),
        }
    }
}

/// The connection's end, of which a broken stream was the first sign.
async fn over(link: &Arc<dyn Transport>) -> Closed {
    let broken = || Closed::Failed("the session's stream broke off".into());
    timeout(GOODBYE_TIMEOUT, link.closed()).await.unwrap_or_else(|_| broken())
}

/// Streams that the hub opens, a bounded number at a time.
async fn accept(
    link: &Arc<dyn Transport>,
    serve: &Arc<dyn Serve>,
) -> Result<std::convert::Infallible, End> {
    let mut serving = JoinSet::new();
    // The transport bounds how many streams the hub has open, and this what they are for.
    let budget = Arc::new(Budget::default());
    loop {
        let stream = link.accept().await?;
        let stream = serve_stream(stream, serve.clone(), budget.clone());
        serving.spawn(stream.in_current_span());
        while serving.try_join_next().is_some() {}
    }
}

//! The way to the hub as this device: what it has to show is read for each dial, and made good where it is not.
//!
//! ```text
//! dial ─▶ turned away for good, token at hand? ─▶ join again with the same key
//!      ─▶ certificate over, or another name?   ─▶ renew it at the hub's door
//!      ─▶ session
//! ```
//!
//! Guarantees:
//! - an exchanged certificate is used by the next dial (`the_next_dial_shows_what_is_on_the_disk`);
//! - a hub that says that this device is decommissioned ends the agent, at whichever door it says so
//!   (`a_device_that_is_decommissioned_ends`);
//! - one that has expired is renewed with its key before a token is used
//!   (`an_expired_certificate_is_renewed_before_a_token_is_used`);
//! - one that is due is renewed over the session, and a renewal that fails is tried again
//!   (`a_certificate_that_is_due_is_renewed_over_the_session`);
//! - a token is used only by a device that has had no other way in since its start
//!   (`a_token_is_for_a_device_that_had_no_other_way_in`);
//! - the last refusal of the hub is kept for `spoke doctor`, and the hub's time for the next start
//!   (`a_refusal_is_kept_until_the_hub_lets_the_device_in_and_its_time_is_kept_then`), also what it tells when its clock is
//!   set (`a_hub_that_sets_its_clock_is_believed_at_once_and_after_a_start`);
//! - what is written takes one thread, however often it is dialled
//!   (`a_card_that_stands_still_holds_one_thread_of_the_dial`), and what is read holds up nobody else
//!   (`a_card_that_stands_still_holds_up_the_dial_alone`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_link::join::{JoinError, JoinRefusal};
use freewheel_link::message::{Reason, WelcomeV1};
use freewheel_link::names::ClusterName;
use freewheel_link::quic::{Dialer, Endpoint};
use freewheel_link::report::UnixMillis;
use freewheel_link::tls::FloorClock;
use freewheel_link::transport::{Dial, DialError, Transport};
use freewheel_spoke_agent::uplink::join::NoIdentity;
use freewheel_spoke_agent::uplink::{FetchError, Handle};
use freewheel_spoke_runtime::at_turn;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::decommission::{Decommission, Orders};
use crate::identity::{self, Identity, IdentityError, Joining};

/// Between two looks at the certificate, at least and at most: clocks jump, and an idle device sleeps.
const CERTIFICATE_CHECK_MIN_AND_MAX: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(3600));
/// Seconds between two renewals, by the same clock: each costs flash here and a write at the hub.
const RENEWAL_PAUSE_SECONDS: u64 = 24 * 60 * 60;
/// After a renewal that failed.
const RENEWAL_RETRY_AFTER: Duration = Duration::from_secs(600);
/// A certificate is renewed with one part in so many of its life left, each device's its own.
pub(crate) const RENEWAL_SHARES: (f64, f64) = (4.0, 5.0);
/// The hub's time is written down when it differs by this much from what is there: flash wears out.
const TIME_STEP_SECONDS_MIN: u64 = 3600;

/// A card may take so long to keep that this device is decommissioned, before it is wiped all the same.
const NOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the next dial has to do first.
#[derive(Default)]
struct NextDial {
    renew: bool,
    rejoin: bool,
    joining: Option<Joining>,
}

/// Dials as the device that the directory says this is.
pub(crate) struct OwnDial {
    data: PathBuf,
    endpoint: Endpoint,
    clock: Arc<FloorClock>,
    todo: Mutex<NextDial>,
    /// The life of the certificate that the hub proved last.
    proven: Mutex<(u64, u64)>,
    /// Whom the certificate of the newest dial names.
    cluster: Mutex<Option<ClusterName>>,
    /// What ends it all.
    orders: Orders,
    /// Whose turn it is to read, and to write.
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl OwnDial {
    /// `joining` is what to join again with, where the hub lets this identity in no more.
    pub(crate) fn new(
        data: PathBuf,
        endpoint: Endpoint,
        clock: Arc<FloorClock>,
        joining: Option<Joining>,
        orders: Orders,
    ) -> Self {
        let todo = NextDial { joining, ..NextDial::default() };
        let todo = Mutex::new(todo);
        let (reads, writes) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let (proven, cluster) = (Mutex::default(), Mutex::default());
        Self { data, endpoint, clock, todo, proven, cluster, orders, reads, writes }
    }

    async fn load(&self) -> Result<Identity, IdentityError> {
        let identity = beside(&self.data, &self.reads, identity::load).await?;
        identity.ok_or_else(|| IdentityError::Unjoined(self.data.clone()))
    }

    /// The identity, with a certificate that is good as far as this device can tell.
    async fn identity(&self) -> Result<Identity, IdentityError> {
        let identity = self.load().await?;
        let (rejoin, renew) = {
            let mut todo = self.todo.lock();
            (std::mem::take(&mut todo.rejoin), std::mem::take(&mut todo.renew))
        };
        if rejoin && let Some(joined) = self.join_again().await? {
            return Ok(joined);
        }
        if !renew && self.clock.now() <= identity.life().1 {
            return Ok(identity);
        }
        match identity.renew_at_the_door(&self.data, &self.endpoint, &self.clock).await {
            Ok(renewed) => Ok(renewed),
            Err(IdentityError::Renew(NoIdentity::Join(JoinError::Refused(refused))))
                if !refused.cause.may_pass() =>
            {
                self.note(match refused.cause {
                    JoinRefusal::Denied => Reason::NotAccepted,
                    JoinRefusal::NameTaken => Reason::Replaced,
                    JoinRefusal::Unknown => Reason::Unknown,
                    _ => Reason::Expired,
                });
                match self.join_again().await? {
                    Some(joined) => Ok(joined),
                    None => {
                        let refused = JoinError::Refused(refused);
                        Err(IdentityError::Renew(NoIdentity::Join(refused)))
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    /// With the token, if one was given and not used yet.
    async fn join_again(&self) -> Result<Option<Identity>, IdentityError> {
        let Some(joining) = self.todo.lock().joining.take() else { return Ok(None) };
        info!(cluster = %joining.name, "the hub lets this identity in no more; joining again with the token");
        match identity::enrol(&self.data, &self.endpoint, &self.clock, &joining).await {
            Ok(identity) => Ok(Some(identity)),
            Err(error) => {
                // What the hub refuses for good, it refuses again.
                if error.may_pass() {
                    let mut todo = self.todo.lock();
                    (todo.joining, todo.rejoin) = (Some(joining), true);
                }
                Err(error)
            }
        }
    }

    /// A hub whose clock ran ahead has told a time at which its own certificate is over: where the machine's
    /// clock is set, that is better.
    fn forget_wrong_time(&self, error: DialError) -> DialError {
        if matches!(error, DialError::Clock { .. }) && self.clock.forget() {
            warn!(
                "the hub's time as this device remembers it is forgotten: the hub's certificate is not valid then"
            );
            self.write("cannot forget the hub's time", identity::forget_time);
        }
        error
    }

    fn note(&self, reason: Reason) {
        let now = self.clock.now();
        let failure = "cannot write down why the hub refused";
        self.write(failure, move |data| identity::note_refusal(data, now, &reason));
    }

    /// Writes it down, and then ends it all: also where the disk takes no writes.
    fn decommission(&self, order: &str) {
        let (data, turns) = (self.data.clone(), self.writes.clone());
        let (orders, order) = (self.orders.clone(), order.to_owned());
        let own = self.cluster.lock().as_ref().map(ToString::to_string);
        let begun = Decommission::by(&order, own.as_deref());
        tokio::spawn(async move {
            let noted = at_turn(&turns, move || begun.note(&data));
            if !matches!(timeout(NOTE_TIMEOUT, noted).await, Ok(Ok(()))) {
                warn!("cannot write down that this device is decommissioned");
            }
            orders.decommission(&order);
        });
    }

    /// Writes beside the dial, in the order of the calls and one at a time: on a card that stands still each dial would
    /// leave one more thread behind.
    fn write(
        &self,
        failure: &'static str,
        work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) {
        let (data, turns) = (self.data.clone(), self.writes.clone());
        tokio::spawn(async move {
            if let Err(error) = at_turn(&turns, move || work(&data)).await {
                warn!(%error, "{failure}");
            }
        });
    }
}

#[async_trait]
impl Dial for OwnDial {
    async fn dial(&self) -> Result<Arc<dyn Transport>, DialError> {
        let lost = |error: &dyn std::error::Error| DialError::Credentials {
            host: "the hub".to_owned(),
            detail: crate::chain(error),
        };
        let identity = match Box::pin(self.identity()).await {
            Ok(identity) => identity,
            Err(IdentityError::Dial(error)) => return Err(self.forget_wrong_time(error)),
            Err(error) => {
                if let Some(reason) = error.turned_away() {
                    self.turned_away(reason);
                }
                return Err(lost(&error));
            }
        };
        *self.cluster.lock() = Some(identity.cluster.clone());
        let tls = identity.tls(&self.clock).map_err(|error| lost(&error))?;
        let dialer = Dialer::new(self.endpoint.clone(), identity.hub, tls);
        let link = dialer.connect().await.map_err(|error| self.forget_wrong_time(error))?;
        if let Some(certificate) = link.peer().certificate {
            *self.proven.lock() = identity::life(&certificate);
        }
        Ok(Arc::new(link))
    }

    fn welcomed(&self, welcome: &WelcomeV1) {
        // The identity is good: a token is no way around a removal that comes later.
        self.todo.lock().joining = None;
        self.write("cannot forget that the hub refused", identity::forget_refusal);
        self.hub_time_is(welcome.now);
    }

    fn hub_time_is(&self, now: UnixMillis) {
        let now = self.clock.tell(now / 1000, *self.proven.lock());
        self.write("cannot write down the hub's time", move |data| {
            identity::note_time(data, now, TIME_STEP_SECONDS_MIN)
        });
    }

    fn cluster(&self) -> Option<ClusterName> {
        self.cluster.lock().clone()
    }

    fn turned_away(&self, reason: &Reason) {
        let mut todo = self.todo.lock();
        match reason {
            // By it the hub knows whose place this device takes.
            Reason::Expired | Reason::Renamed(_) => todo.renew = true,
            Reason::Decommissioned(order) => {
                drop(todo);
                self.decommission(order);
                return;
            }
            Reason::Unknown | Reason::Replaced => todo.rejoin = true,
            _ => {}
        }
        drop(todo);
        self.note(reason.clone());
    }
}

/// Works at the identity's files beside the runtime: on a card that stands still whoever asked waits, and nobody else.
async fn beside<T: Send + 'static>(
    data: &Path,
    turns: &Arc<Semaphore>,
    work: impl FnOnce(&Path) -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, IdentityError> {
    let home = data.to_owned();
    let failed = |source| IdentityError::Files { dir: data.to_owned(), source };
    at_turn(turns, move || Ok(work(&home))).await.map_err(failed)?
}

/// The session over which a certificate is renewed.
pub(crate) trait RenewalSession {
    /// Ready while it is up.
    async fn online(&self);

    /// A new certificate for what is to be signed.
    async fn renew(&self, csr: Vec<u8>) -> Result<Vec<u8>, FetchError>;
}

impl RenewalSession for Handle {
    async fn online(&self) {
        Self::online(self).await;
    }

    async fn renew(&self, csr: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        Self::renew(self, csr).await
    }
}

/// Renews the certificate over the session, with a quarter to a fifth of its life left, until `stop`.
pub(crate) async fn keep_certificate(
    data: PathBuf,
    uplink: impl RenewalSession,
    clock: Arc<FloorClock>,
    mut rng: fastrand::Rng,
    stop: CancellationToken,
) {
    // All devices of a fleet that joined on one day do not come on one day again.
    let share = RENEWAL_SHARES.0 + (RENEWAL_SHARES.1 - RENEWAL_SHARES.0) * rng.f64();
    let mut wait = CERTIFICATE_CHECK_MIN_AND_MAX.0;
    let mut renewed_at = None;
    let turns = Arc::new(Semaphore::new(1));
    loop {
        let next = async {
            tokio::time::sleep(wait).await;
            uplink.online().await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = next => wait = CERTIFICATE_CHECK_MIN_AND_MAX.0,
        }
        let Ok(Some(identity)) = beside(&data, &turns, identity::load).await else { continue };
        let now = clock.now();
        wait = until_due(identity.life(), now, share);
        if !is_due(identity.life(), now, share) {
            continue;
        }
        // By a clock that is far ahead of the hub's, a new certificate is due as soon as it is there.
        if renewed_at.is_some_and(|at| is_recent(at, now)) {
            wait = CERTIFICATE_CHECK_MIN_AND_MAX.1;
            continue;
        }
        let renewed = async {
            let csr = identity.signing_request()?;
            let certificate = uplink.renew(csr).await?;
            let exchange = move |data: &Path| identity.exchange(data, certificate);
            let new = beside(&data, &turns, exchange).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(new)
        };
        match renewed.await {
            Ok(new) => {
                renewed_at = Some(now);
                info!(until = new.life().1, "the certificate is renewed");
            }
            Err(error) => {
                warn!(error = %crate::chain(&*error), "the certificate is not renewed; trying again");
                wait = RENEWAL_RETRY_AFTER;
            }
        }
    }
}

/// Whether a certificate that was renewed at `at` is too young for the next renewal.
const fn is_recent(at: u64, now: u64) -> bool {
    now.abs_diff(at) < RENEWAL_PAUSE_SECONDS
}

/// How long nobody has to look at a certificate.
fn until_due((from, to): (u64, u64), now: u64, share: f64) -> Duration {
    let (left, life) = (to.saturating_sub(now) as f64, to.saturating_sub(from) as f64);
    Duration::try_from_secs_f64(left - life / share)
        .unwrap_or_default()
        .clamp(CERTIFICATE_CHECK_MIN_AND_MAX.0, CERTIFICATE_CHECK_MIN_AND_MAX.1)
}

/// Whether less than one part in `share` of a certificate's life is left.
pub(crate) fn is_due((from, to): (u64, u64), now: u64, share: f64) -> bool {
    let (left, life) = (to.saturating_sub(now) as f64, to.saturating_sub(from) as f64);
    left * share < life
}

#[cfg(test)]
pub(crate) mod tests;

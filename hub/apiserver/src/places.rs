//! Places at the door: who holds one, and who has to give it up when they are short.
//!
//! ```text
//! accepted ─▶ stranger ──a certificate or a login of ours──▶ known
//!               │ places of strangers are full: the oldest that asks nothing goes
//!               ▼
//! ```
//!
//! Guarantees:
//! - however many strangers come, those whom we know keep places of their own
//!   (`strangers_take_no_place_of_those_whom_the_hub_knows`,
//!   `the_oldest_stranger_that_asks_nothing_goes_and_the_known_stay`);
//! - a stranger is let be for [`GRACE`], so that a crowd that shakes hands does not throw itself out
//!   (`who_has_just_come_is_let_be_and_the_next_waits`);
//! - what moves no request and no bytes for long is told apart from what waits for an event
//!   (`idle_is_who_neither_asks_nor_reads`).

mod greedy;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::account::All;
use crate::unsent::Unsent;

/// No stranger is sent away earlier: a handshake over a slow link takes some round trips.
const GRACE: Duration = Duration::from_secs(2);
/// So many of the oldest strangers are looked at for one that asks nothing.
const LOOKED_AT: usize = 64;
/// A write of less may be a ping, which says nothing about a client.
const MORE_THAN_A_PING: usize = 1024;

/// All places of a listener.
pub(crate) struct Places {
    held: Mutex<Held>,
    /// Somebody has left.
    left: Notify,
    strangers: usize,
    known: usize,
    all: Arc<All>,
}

#[derive(Default)]
struct Held {
    next: u64,
    /// In the order of their coming.
    strangers: BTreeMap<u64, Arc<Seat>>,
    known: BTreeMap<u64, Arc<Seat>>,
}

/// One connection, as the door sees it.
pub(crate) struct Seat {
    number: u64,
    since: Instant,
    task: OnceLock<AbortHandle>,
    /// Who sits there, for messages.
    who: OnceLock<String>,
    known: AtomicBool,
    requests: AtomicUsize,
    /// When something moved last, in milliseconds after `since`.
    moved: AtomicU64,
    /// Bytes that came.
    came: AtomicU64,
    /// A request was answered before its body was read.
    unread: AtomicBool,
    /// What the hub holds for whoever sits there.
    pub(crate) unsent: Unsent,
}

impl Places {
    /// So many for those whom we know, so many for strangers.
    pub(crate) fn new(known: usize, strangers: usize, all: Arc<All>) -> Arc<Self> {
        let (held, left) = (Mutex::default(), Notify::new());
        Arc::new(Self { held, left, strangers: strangers.max(1), known, all })
    }

    /// A stranger's place; waits while all of them are held by people who have just come.
    pub(crate) async fn take(self: &Arc<Self>) -> Place {
        loop {
            match self.try_take() {
                Ok(place) => return place,
                // Whoever leaves without being heard is noticed when the time is over.
                Err(wait) => drop(timeout(wait, self.left.notified()).await),
            }
        }
    }

    /// The place, or after which time the oldest stranger may be sent away.
    fn try_take(self: &Arc<Self>) -> Result<Place, Duration> {
        let mut held = self.held.lock();
        if self.strangers <= held.strangers.len() {
            held.send_one_away()?;
        }
        held.next += 1;
        let seat = Arc::new(Seat::new(held.next, self.all.clone()));
        held.strangers.insert(seat.number, seat.clone());
        Ok(Place { places: self.clone(), seat })
    }

    /// Descriptors are short: the oldest stranger goes, if there is one to send.
    pub(crate) fn make_room(&self) {
        let _ = self.held.lock().send_one_away();
    }

    fn seats(&self) -> Vec<Arc<Seat>> {
        let held = self.held.lock();
        held.known.values().chain(held.strangers.values()).cloned().collect()
    }
}

impl Held {
    fn send_one_away(&mut self) -> Result<(), Duration> {
        let mut old = self.strangers.values().take(LOOKED_AT).filter(|s| GRACE <= s.age());
        let oldest = old.next().map(|seat| (seat.number, seat.requests.load(Ordering::Relaxed)));
        let idle = match oldest {
            Some((number, 0)) => Some(number),
            _ => old.find(|s| s.requests.load(Ordering::Relaxed) == 0).map(|s| s.number),
        };
        let Some(number) = idle.or(oldest.map(|(number, _)| number)) else {
            let age = self.strangers.values().next().map_or(Duration::ZERO, |seat| seat.age());
            return Err(GRACE.saturating_sub(age));
        };
        if let Some(seat) = self.strangers.remove(&number) {
            debug!(seconds = seat.age().as_secs(), "places are short: a stranger is sent away");
            seat.send_away();
        }
        Ok(())
    }
}

/// A place that is held; it is free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    pub(crate) seat: Arc<Seat>,
}

impl Place {
    /// Whoever sits here is known from now on. Beyond the places for such, they sit among the strangers.
    pub(crate) fn known(&self) {
        let mut held = self.places.held.lock();
        if held.known.len() < self.places.known
            && let Some(seat) = held.strangers.remove(&self.seat.number)
        {
            held.known.insert(seat.number, seat);
            self.seat.known.store(true, Ordering::Relaxed);
            self.places.left.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock();
        if self.seat.known.load(Ordering::Relaxed) {
            held.known.remove(&self.seat.number);
        } else {
            held.strangers.remove(&self.seat.number);
        }
        self.places.left.notify_one();
    }
}

impl Seat {
    fn new(number: u64, all: Arc<All>) -> Self {
        Self {
            number,
            since: Instant::now(),
            task: OnceLock::new(),
            who: OnceLock::new(),
            known: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            came: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            unsent: Unsent::new(all),
        }
    }

    fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// What ends when this one is sent away.
    pub(crate) fn served_by(&self, task: AbortHandle) {
        let _ = self.task.set(task);
    }

    /// Who that is, for messages.
    pub(crate) fn taken_by(&self, who: String) {
        let _ = self.who.set(who);
    }

    fn send_away(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Bytes that went, and bytes that came.
    fn traffic(&self) -> (u64, u64) {
        (self.unsent.taken(), self.came.load(Ordering::Relaxed))
    }

    /// So many bytes came.
    pub(crate) fn read(&self, bytes: usize) {
        self.came.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn moves(&self) {
        let now = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// So many bytes went out at once: a client that reads a long answer slowly is not idle.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.unsent.sent(bytes);
        if MORE_THAN_A_PING <= bytes {
            self.moves();
        }
    }

    /// A request comes, and is over when this is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.unread.store(false, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// The client is still sending what nobody reads.
    pub(crate) fn leaves_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether to read on for a while before the connection is closed.
    pub(crate) fn lingers(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Ready when there has been no request and no answer under way for so long: `known` for those
    /// whom we know, `stranger` for others.
    pub(crate) async fn idle_for(&self, known: Duration, stranger: Duration) {
        loop {
            let patience = if self.known.load(Ordering::Relaxed) { known } else { stranger };
            let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
            let quiet = self.age().saturating_sub(moved);
            if self.requests.load(Ordering::Relaxed) != 0 {
                sleep(patience).await;
            } else if quiet < patience {
                sleep(patience - quiet).await;
            } else {
                return;
            }
        }
    }
}

/// A request under way.
pub(crate) struct Busy(Arc<Seat>);

impl Busy {
    /// Where.
    pub(crate) fn seat(&self) -> &Seat {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.moves();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::FutureExt as _;
    use tokio::task::JoinHandle;

    use super::*;

    fn places(known: usize, strangers: usize) -> Arc<Places> {
        Places::new(known, strangers, Arc::default())
    }

    /// Somebody who stays until sent away.
    pub(super) async fn come(places: &Arc<Places>, known: bool) -> (Arc<Seat>, JoinHandle<()>) {
        let place = places.take().await;
        let seat = place.seat.clone();
        if known {
            place.known();
        }
        let task = tokio::spawn(async move {
            let _place = place;
            pending::<()>().await;
        });
        seat.served_by(task.abort_handle());
        (seat, task)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_stranger_that_asks_nothing_goes_and_the_known_stay() {
        let places = places(2, 2);
        let (_, known) = come(&places, true).await;
        let (asks, first) = come(&places, false).await;
        let _busy = asks.busy();
        let (_, second) = come(&places, false).await;
        sleep(GRACE).await;
        let (_, third) = come(&places, false).await;
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(!first.is_finished() && !third.is_finished() && !known.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_come_is_let_be_and_the_next_waits() {
        let places = places(0, 1);
        let (_, first) = come(&places, false).await;
        assert!(places.take().now_or_never().is_none());
        let start = Instant::now();
        let (_, second) = come(&places, false).await;
        assert!(GRACE <= start.elapsed() && start.elapsed() < GRACE * 2);
        assert!(first.await.unwrap_err().is_cancelled());
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        let start = Instant::now();
        drop(places.take().await);
        assert_eq!(start.elapsed(), Duration::ZERO, "who leaves makes room at once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_known_beyond_their_places_sit_among_the_strangers() {
        let places = places(1, 2);
        let (one, _first) = come(&places, true).await;
        let (two, _second) = come(&places, true).await;
        assert!(one.known.load(Ordering::Relaxed) && !two.known.load(Ordering::Relaxed));
        assert_eq!(places.held.lock().strangers.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_is_who_neither_asks_nor_reads() {
        let (long, short) = (Duration::from_secs(90), Duration::from_secs(15));
        let places = places(1, 1);
        let place = places.take().await;
        let start = Instant::now();
        place.seat.idle_for(long, short).await;
        assert_eq!(start.elapsed().as_secs(), 15);
        place.known();
        let start = Instant::now();
        let busy = place.seat.busy();
        let watch = timeout(Duration::from_secs(3600), place.seat.idle_for(long, short));
        assert!(watch.await.is_err(), "a watch may wait for its event");
        drop(busy);
        place.seat.idle_for(long, short).await;
        assert_eq!(start.elapsed().as_secs(), 3600 + 90);
        let start = Instant::now();
        place.seat.wrote(16 * 1024);
        sleep(Duration::from_secs(60)).await;
        place.seat.wrote(17);
        place.seat.idle_for(long, short).await;
        assert_eq!(start.elapsed().as_secs(), 90, "a ping is no sign of life");
    }
}

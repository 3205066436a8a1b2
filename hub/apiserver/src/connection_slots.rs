//! Places at the door: who holds one, and who has to give it up when they are short.
//!
//! ```text
//! accepted ─▶ stranger ──a certificate or a login of ours──▶ known
//!               │ places of strangers are full: of the network with most of them the oldest that ask nothing go
//!               ▼
//! ```
//!
//! Places of the known are [shared](crate::flow::shares) by clusters, and in them by users; beyond their share they sit
//! among the strangers.
//!
//! Whom we know shows only at the end of a handshake, so all come in by one line, and it has to be quick: as many
//! strangers a second as there are places for them, over what a handshake takes.
//!
//! Guarantees:
//! - however many strangers come, those whom we know keep places of their own
//!   (`strangers_take_no_place_of_those_whom_the_hub_knows`,
//!   `the_oldest_stranger_that_asks_nothing_goes_and_the_known_stay`);
//! - nobody takes all places of the known (`nobody_takes_all_places_of_the_known`): when they are short, whoever has
//!   none gets that of the oldest which asks nothing of those who have most
//!   (`who_has_no_place_gets_one_of_those_who_have_most`);
//! - a stranger is let be for a few times what a handshake takes just now (`connection_slots/pace.rs`), so that a crowd that
//!   shakes hands does not throw itself out (`who_has_just_come_is_let_be_and_the_next_waits`), and strangers who flood
//!   keep nobody waiting for long (`those_whom_we_know_get_through_soon_while_strangers_flood`,
//!   `a_flood_of_strangers_keeps_nobody_waiting`); then a crowd goes before who comes alone
//!   (`who_comes_alone_is_let_be_while_a_crowd_has_to_go`);
//! - what moves no request and no bytes for long is told apart from what waits for an event
//!   (`idle_is_who_neither_asks_nor_reads`).

mod crowd;
mod greedy;
mod pace;
#[cfg(test)]
mod tests;
pub(crate) mod unread_window;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_link::address_networks::{self, Networks};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::flow::shares::{Holder, Sharer, Shares};
use crate::memory_account::TotalMemory;
use crate::send_backlog::SendBacklog;
use crate::streaming::upgrade::Upgrade;
use pace::Pace;
use unread_window::UnreadWindow;

/// When strangers have to go it is this part of their places at a time: to find them, all are looked at.
const STRANGERS_EVICTED_DIVISOR: usize = 32;
/// A write of less may be a ping, which says nothing about a client.
const PING_BYTES_MAX: usize = 1024;

/// All places of a listener.
pub(crate) struct ConnectionSlots {
    held: Mutex<HeldSlots>,
    /// Somebody has left.
    left: Notify,
    strangers: usize,
    all: Arc<TotalMemory>,
}

struct HeldSlots {
    next: u64,
    /// In the order of their coming.
    strangers: BTreeMap<u64, Arc<ConnectionSlot>>,
    known: BTreeMap<u64, KnownSlot>,
    /// Places of the known.
    places: Shares,
    pace: Pace,
}

/// One of those whom we know.
struct KnownSlot {
    slot: Arc<ConnectionSlot>,
    holder: Holder,
}

/// One connection, as the door sees it.
pub(crate) struct ConnectionSlot {
    number: u64,
    from: Networks,
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
    pub(crate) backlog: SendBacklog,
    /// What the transport keeps for them of bodies on their way.
    pub(crate) window: UnreadWindow,
    /// What the connection becomes.
    pub(crate) upgrade: Upgrade,
}

impl ConnectionSlots {
    /// So many for those whom we know, so many for strangers.
    pub(crate) fn new(known: usize, strangers: usize, all: Arc<TotalMemory>) -> Arc<Self> {
        let (places, left) = (Shares::of(known), Notify::new());
        let held = HeldSlots {
            next: 0,
            strangers: BTreeMap::new(),
            known: BTreeMap::new(),
            places,
            pace: Pace::default(),
        };
        Arc::new(Self { held: Mutex::new(held), left, strangers: strangers.max(1), all })
    }

    /// A place for a stranger from this address; waits while all of them are held by people who have just come.
    pub(crate) async fn take(self: &Arc<Self>, from: IpAddr) -> ConnectionPermit {
        let from = address_networks::around(from);
        loop {
            match self.try_take(from) {
                Ok(place) => return place,
                // Whoever leaves without being heard is noticed when the time is over.
                Err(wait) => drop(timeout(wait, self.left.notified()).await),
            }
        }
    }

    /// The place, or after which time a stranger may be sent away.
    fn try_take(self: &Arc<Self>, from: Networks) -> Result<ConnectionPermit, Duration> {
        let mut held = self.held.lock();
        if self.strangers <= held.strangers.len() {
            held.send_away(self.strangers.div_ceil(STRANGERS_EVICTED_DIVISOR))?;
        }
        held.next += 1;
        let slot = Arc::new(ConnectionSlot::new((held.next, from), self.all.clone()));
        held.strangers.insert(slot.number, slot.clone());
        Ok(ConnectionPermit { slots: self.clone(), slot })
    }

    /// Descriptors are short: a stranger goes, if there is one to send.
    pub(crate) fn make_room(&self) {
        let _ = self.held.lock().send_away(1);
    }

    fn slots(&self) -> Vec<Arc<ConnectionSlot>> {
        let held = self.held.lock();
        let known = held.known.values().map(|known| &known.slot);
        known.chain(held.strangers.values()).cloned().collect()
    }
}

impl HeldSlots {
    /// Sends so many strangers away: of a crowd the oldest that ask nothing, or else the oldest one. `Err` is after
    /// which time there may be one.
    fn send_away(&mut self, most: usize) -> Result<(), Duration> {
        let grace = self.pace.grace();
        let wait = |slot: &ConnectionSlot| grace.saturating_sub(slot.age());
        let oldest = self.strangers.values().next().map_or(grace, |slot| wait(slot));
        if !oldest.is_zero() {
            return Err(oldest);
        }
        let all = self.strangers.values().map(|slot| (slot.from, slot.clone()));
        let mut crowd = crowd::crowd(all.collect()).peekable();
        let youth = crowd.peek().map_or(grace, |slot| wait(slot));
        if !youth.is_zero() {
            return Err(youth);
        }
        let (idle, busy): (Vec<_>, Vec<_>) = crowd
            .take_while(|slot| wait(slot).is_zero())
            .partition(|slot| slot.requests.load(Ordering::Relaxed) == 0);
        let (gone, most) = if idle.is_empty() { (busy, 1) } else { (idle, most) };
        for slot in gone.into_iter().take(most) {
            debug!(seconds = slot.age().as_secs_f32(), "places are short: a stranger is sent away");
            self.strangers.remove(&slot.number);
            slot.send_away();
        }
        Ok(())
    }
}

impl HeldSlots {
    /// Whoever has no place of the known gets that of the oldest that asks nothing, of those who have most of them.
    fn make_place(&mut self, holder: &Holder) {
        let most = self.places.most();
        if most < 2 || self.places.held_by(holder).0 != 0 {
            return;
        }
        let goes = self.known.values().find(|known| {
            self.places.held_by(&known.holder).0 == most
                && known.slot.requests.load(Ordering::Relaxed) == 0
        });
        if let Some(slot) = goes.map(|known| known.slot.clone()) {
            debug!("places are short: one of those who have most is sent away");
            self.leave(slot.number);
            slot.send_away();
        }
    }

    /// One of the known has no place any more.
    fn leave(&mut self, number: u64) {
        if let Some(known) = self.known.remove(&number) {
            self.places.give_back(&known.holder, 1);
        }
    }
}

/// A place that is held; it is free again when this is dropped.
pub(crate) struct ConnectionPermit {
    slots: Arc<ConnectionSlots>,
    pub(crate) slot: Arc<ConnectionSlot>,
}

impl ConnectionPermit {
    /// Whoever sits here is known from now on. Beyond the places for such, they sit among the strangers.
    pub(crate) fn known(&self, who: Sharer<'_>) {
        let mut held = self.slots.held.lock();
        if !held.strangers.contains_key(&self.slot.number) {
            return;
        }
        let holder = Holder::from(who);
        if !held.places.fits(&holder, 1) {
            held.make_place(&holder);
        }
        if held.places.fits(&holder, 1)
            && let Some(slot) = held.strangers.remove(&self.slot.number)
        {
            held.pace.note(slot.age());
            held.places.take(&holder, 1);
            held.known.insert(slot.number, KnownSlot { slot, holder });
            self.slot.known.store(true, Ordering::Relaxed);
            self.slots.left.notify_one();
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.slot.upgrade.forget();
        let mut held = self.slots.held.lock();
        if self.slot.known.load(Ordering::Relaxed) {
            held.leave(self.slot.number);
        } else {
            held.strangers.remove(&self.slot.number);
        }
        self.slots.left.notify_one();
    }
}

impl ConnectionSlot {
    fn new((number, from): (u64, Networks), all: Arc<TotalMemory>) -> Self {
        Self {
            number,
            from,
            since: Instant::now(),
            task: OnceLock::new(),
            who: OnceLock::new(),
            known: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            came: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            backlog: SendBacklog::new(all),
            window: UnreadWindow::default(),
            upgrade: Upgrade::default(),
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
        (self.backlog.taken(), self.came.load(Ordering::Relaxed))
    }

    /// So many bytes came.
    pub(crate) fn read(&self, bytes: usize) {
        self.came.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn moves(&self, now: Instant) {
        let age = u64::try_from((now - self.since).as_millis()).unwrap_or(u64::MAX);
        self.moved.store(age, Ordering::Relaxed);
    }

    /// So many bytes went out at once: a client that reads a long answer slowly is not idle.
    pub(crate) fn wrote(&self, bytes: usize) {
        let now = Instant::now();
        self.backlog.sent(bytes, now);
        if PING_BYTES_MAX <= bytes {
            self.moves(now);
        }
    }

    /// A request comes, and is over when this is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.unread.store(false, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Whether there is a request under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) != 0
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
pub(crate) struct Busy(Arc<ConnectionSlot>);

impl Busy {
    /// Where.
    pub(crate) fn slot(&self) -> &ConnectionSlot {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.moves(Instant::now());
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

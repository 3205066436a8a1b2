//! The connections of an HTTP container's port: who is there, what each is doing, who has to go.
//!
//! ```text
//! New ──first byte──▶ Head ──a request──▶ Asking ──its answer begins──▶ Answering ──hyper has all of it──▶ Sending
//!                       ▲                                                                                  │
//!                       └───────────first byte─────────── Idle ◀──────────the client's pipe has it─────────┘
//! ```
//!
//! Time is counted in ticks of a second that the owner gives, so that a request costs no timer of its own.
//!
//! Guarantees:
//! - there are no more than [`CONNECTIONS_MAX`] connections beside those that are on their way out, and the oldest stranger
//!   makes room when places are short (`the_oldest_stranger_makes_room_and_nobody_who_is_served_does`,
//!   `strangers_do_not_keep_others_out`), also in a pod of little memory, which has few sockets
//!   (`strangers_keep_nobody_out_of_a_small_pod`);
//! - of its pod's sockets those who ask for nothing leave free one for three that they have, or an eighth of all, so
//!   that strangers who come at once do not take the last
//!   (`strangers_keep_nobody_out_of_a_small_pod_of_two_http_containers`), and nobody goes for what others have
//!   (`sockets_that_its_pod_has_elsewhere_cost_no_client_its_connection`), but one for the last
//!   (`the_last_socket_stays_with_nobody_who_asks_for_nothing`);
//! - one goes for each socket that is missing, and is counted until its own is free
//!   (`who_was_sent_away_is_counted_until_the_socket_is_free`), and who has just come goes for a crowd alone
//!   (`who_has_just_come_goes_for_a_crowd_alone`);
//! - a client that says nothing, or says it too slowly, goes (`who_says_nothing_or_says_it_too_slowly_goes`), also behind an
//!   answer (`a_head_that_began_behind_an_answer_has_the_time_of_a_head`);
//! - so does one that does not read (`who_does_not_read_goes_however_the_answer_stands`), no sooner when it has said all
//!   (`who_has_said_all_has_the_time_of_others_to_read`);
//! - one whose request is being answered is left alone (`a_request_has_its_time_until_the_answer_begins`), also while hyper
//!   has a part of the answer that the client has left no room for
//!   (`who_has_not_taken_all_of_its_answer_is_still_served`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Connections of one container at a time, and never more than half of the sockets that its pod may have: the rest is
/// its guest's, and there is always one for the client for whom another makes room.
const CONNECTIONS_MAX: usize = 2048;

/// Part of its pod's sockets that quiet clients leave free. Of those that never asked, more than that are a crowd.
const FREE_SOCKETS_DIVISOR: usize = 8;

/// Where others have most of the sockets, quiet clients that have so many leave one free.
const QUIET_PER_FREE: usize = 3;

/// Ticks that a client has for the whole head of its first request, and of every later one from its first byte on.
const HEAD_TICKS_MAX: u32 = 10;

/// Ticks that a connection is kept between two requests.
const IDLE_TICKS_MAX: u32 = 75;

/// Ticks that a client may leave what was sent to it unread.
const UNREAD_TICKS_MAX: u32 = 60;

/// Ticks that an answer goes on without a byte for a client that says no more and has room for one: most of those have left.
const SILENT_TICKS_MAX: u32 = 10;

/// No write waits.
const WRITE_FLOWS: u32 = u32::MAX;

const NEW: u8 = 0;
const HEADING: u8 = 1;
const ASKING: u8 = 2;
const ANSWERING: u8 = 3;
const SENDING: u8 = 4;
/// The same, and bytes have come that are of the next head.
const SENDING_BEFORE_HEAD: u8 = 5;
const RESTING: u8 = 6;

/// One connection's place.
pub(super) struct ConnectionSlot {
    number: u64,
    phase: AtomicU8,
    since: AtomicU32,
    /// When a write began to wait for the client.
    unread: AtomicU32,
    clock: Arc<AtomicU32>,
    /// The connection has to end.
    pub(super) leave: CancellationToken,
    asked: Mutex<Option<CancellationToken>>,
    /// The client says no more.
    silent: AtomicBool,
    late: AtomicBool,
}

impl ConnectionSlot {
    fn enter(&self, phase: u8) {
        self.since.store(self.clock.load(Relaxed), Relaxed);
        self.phase.store(phase, Relaxed);
    }

    /// Bytes of the client's have come.
    pub(super) fn heard(&self) {
        match self.phase.load(Relaxed) {
            // One byte now and then buys no time.
            NEW => self.phase.store(HEADING, Relaxed),
            RESTING => self.enter(HEADING),
            SENDING => self.phase.store(SENDING_BEFORE_HEAD, Relaxed),
            _ => {}
        }
    }

    /// A request has come. What is returned is cancelled when it is not to go on: see [`ConnectionSlot::is_late`].
    pub(super) fn asks(&self) -> CancellationToken {
        let over = CancellationToken::new();
        *self.asked.lock() = Some(over.clone());
        self.enter(ASKING);
        over
    }

    /// The request's answer begins.
    pub(super) fn answers(&self) {
        *self.asked.lock() = None;
        self.enter(ANSWERING);
    }

    /// hyper has all of the answer, or will get no more of it.
    pub(super) fn sends(&self) {
        self.enter(SENDING);
    }

    /// hyper's turn is over. Whether the last of an answer went out in it: what hyper has at the end of a turn, it could not
    /// write.
    pub(super) fn has_sent(&self) -> bool {
        let next = match self.phase.load(Relaxed) {
            SENDING => RESTING,
            SENDING_BEFORE_HEAD => HEADING,
            _ => return false,
        };
        let sent = self.flows();
        if sent {
            self.enter(next);
        }
        sent
    }

    /// The client says no more: it waits for its answer, or it is gone.
    pub(super) fn fell_silent(&self) {
        self.silent.store(true, Relaxed);
        self.stop_asking();
    }

    fn stop_asking(&self) {
        if let Some(over) = &*self.asked.lock() {
            over.cancel();
        }
    }

    /// Whether the request has had all the time there is.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Relaxed)
    }

    /// The tick of the moment.
    pub(super) fn now(&self) -> u32 {
        self.clock.load(Relaxed)
    }

    /// Whether nothing is missing if the connection ends now. What hyper says by itself of a head that is none has no phase.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.phase.load(Relaxed), NEW | HEADING | RESTING) && self.flows()
    }

    /// Whether no write waits.
    fn flows(&self) -> bool {
        self.unread.load(Relaxed) == WRITE_FLOWS
    }

    /// Whether its first request has not come yet, or a later one has only begun to.
    fn is_stranger(&self) -> bool {
        matches!(self.phase.load(Relaxed), NEW | HEADING)
    }

    /// Whether a write waits for the client to read.
    pub(super) fn waits(&self, waits: bool) {
        let flows = self.flows();
        if waits && flows {
            self.unread.store(self.now(), Relaxed);
        } else if !waits && !flows {
            self.unread.store(WRITE_FLOWS, Relaxed);
        }
        if !waits && self.silent.load(Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
    }

    /// Ends what has lasted too long.
    fn judge(&self, now: u32, request: u32) {
        let unread = self.unread.load(Relaxed);
        if unread != WRITE_FLOWS && UNREAD_TICKS_MAX < now.saturating_sub(unread) {
            self.leave.cancel();
            return;
        }
        let age = now.saturating_sub(self.since.load(Relaxed));
        match self.phase.load(Relaxed) {
            NEW | HEADING if HEAD_TICKS_MAX < age => self.leave.cancel(),
            RESTING if IDLE_TICKS_MAX < age => self.leave.cancel(),
            ANSWERING | SENDING | SENDING_BEFORE_HEAD
                if self.silent.load(Relaxed) && self.flows() && SILENT_TICKS_MAX < age =>
            {
                self.leave.cancel();
            }
            ASKING if request < age => {
                self.late.store(true, Relaxed);
                self.stop_asking();
            }
            _ => {}
        }
    }
}

/// Gives a connection's place back when it is dropped: after all else, its socket too.
pub(super) struct SlotGuard<'a>(pub(super) &'a ConnectionSlots, pub(super) &'a Arc<ConnectionSlot>);

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        let Self(slots, slot) = self;
        let mut places = slots.places.lock();
        if places.taken.get(&slot.number).is_some_and(|held| Arc::ptr_eq(held, slot)) {
            places.taken.remove(&slot.number);
        } else {
            places.leaving -= 1;
        }
    }
}

/// All places of a container.
pub(super) struct ConnectionSlots {
    places: Mutex<SlotTable>,
    clock: Arc<AtomicU32>,
    /// Ticks that a request may take until its answer begins.
    request: u32,
    most: usize,
    /// Sockets that quiet clients leave free.
    free: usize,
}

#[derive(Default)]
struct SlotTable {
    taken: BTreeMap<u64, Arc<ConnectionSlot>>,
    /// How many were sent away and have their sockets still.
    leaving: usize,
}

impl SlotTable {
    fn quiet(&self) -> impl Iterator<Item = &Arc<ConnectionSlot>> {
        self.taken.values().filter(|slot| slot.is_quiet())
    }

    /// The client that has waited longest without asking for anything, and since before this tick, loses its place:
    /// those that never asked first. `None`: there is none.
    fn send_one_away(&mut self, before: u32) -> Option<()> {
        let age = |slot: &&Arc<ConnectionSlot>| {
            (!slot.is_stranger(), slot.since.load(Relaxed), slot.number)
        };
        let waiting = self.quiet().filter(|slot| slot.since.load(Relaxed) < before);
        let oldest = waiting.min_by_key(age)?.number;
        self.taken.remove(&oldest)?.leave.cancel();
        self.leaving += 1;
        Some(())
    }
}

impl ConnectionSlots {
    /// Those in a pod that may have so many sockets.
    pub(super) fn new(request: u32, sockets: usize) -> Self {
        let (most, free) = (CONNECTIONS_MAX.min(sockets / 2), sockets / FREE_SOCKETS_DIVISOR);
        Self { places: Mutex::default(), clock: Arc::default(), request, most, free }
    }

    /// Quiet clients leave sockets of their pod free, of which so many are `left`.
    pub(super) fn make_room(&self, left: impl Fn() -> usize) {
        let mut places = self.places.lock();
        loop {
            let left = left() + places.leaving;
            if self.free <= left {
                return;
            }
            let (quiet, before) = (places.quiet().count(), self.before(&places));
            if quiet <= left * QUIET_PER_FREE || places.send_one_away(before).is_none() {
                return;
            }
        }
    }

    /// Since before which tick those are quiet that have to go: a whole tick has passed, however soon the first one came.
    /// Of a crowd any may.
    fn before(&self, places: &SlotTable) -> u32 {
        let strangers = places.quiet().filter(|slot| slot.is_stranger()).count();
        let whole = self.clock.load(Relaxed).saturating_sub(1);
        if self.free < strangers { u32::MAX } else { whole }
    }

    /// A place for a connection, made if there is none. `None`: all are being served.
    pub(super) fn take(&self) -> Option<Arc<ConnectionSlot>> {
        let mut places = self.places.lock();
        if self.most <= places.taken.len() {
            let before = self.before(&places);
            places.send_one_away(before).or_else(|| places.send_one_away(u32::MAX))?;
        }
        let number = places.taken.last_key_value().map_or(0, |(last, _)| last + 1);
        let slot = Arc::new(ConnectionSlot {
            number,
            phase: AtomicU8::new(NEW),
            since: AtomicU32::new(self.clock.load(Relaxed)),
            unread: AtomicU32::new(WRITE_FLOWS),
            clock: self.clock.clone(),
            leave: CancellationToken::new(),
            asked: Mutex::default(),
            silent: AtomicBool::new(false),
            late: AtomicBool::new(false),
        });
        places.taken.insert(number, slot.clone());
        Some(slot)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.lock().taken.is_empty()
    }

    /// A second has passed; its number.
    pub(super) fn tick(&self) -> u32 {
        let now = self.clock.fetch_add(1, Relaxed) + 1;
        for slot in self.places.lock().taken.values() {
            slot.judge(now, self.request);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(slots: &ConnectionSlots, ticks: u32) {
        for _ in 0..ticks {
            slots.tick();
        }
    }

    /// All of its answer has gone out at once.
    fn rests(slot: &ConnectionSlot) {
        slot.sends();
        assert!(slot.has_sent());
    }

    #[test]
    fn who_says_nothing_or_says_it_too_slowly_goes() {
        let slots = ConnectionSlots::new(60, 4096);
        let (silent, slow) = (slots.take().unwrap(), slots.take().unwrap());
        after(&slots, HEAD_TICKS_MAX);
        slow.heard();
        assert!(!silent.leave.is_cancelled());
        after(&slots, 1);
        assert!(silent.leave.is_cancelled() && slow.leave.is_cancelled());
    }

    #[test]
    fn who_comes_back_has_time_for_a_head_of_its_own() {
        let slots = ConnectionSlots::new(60, 4096);
        let slot = slots.take().unwrap();
        slot.heard();
        drop(slot.asks());
        slot.answers();
        after(&slots, 1000);
        assert!(!slot.leave.is_cancelled(), "an answer may last");
        rests(&slot);
        after(&slots, IDLE_TICKS_MAX);
        slot.heard();
        after(&slots, HEAD_TICKS_MAX);
        assert!(!slot.leave.is_cancelled());
        after(&slots, 1);
        assert!(slot.leave.is_cancelled());
    }

    #[test]
    fn who_does_not_read_goes_however_the_answer_stands() {
        let slots = ConnectionSlots::new(60, 4096);
        let slot = slots.take().unwrap();
        drop(slot.asks());
        slot.answers();
        slot.waits(true);
        after(&slots, UNREAD_TICKS_MAX);
        slot.waits(false);
        slot.waits(true);
        after(&slots, UNREAD_TICKS_MAX);
        assert!(!slot.leave.is_cancelled());
        after(&slots, 1);
        assert!(slot.leave.is_cancelled());
    }

    #[test]
    fn who_has_not_taken_all_of_its_answer_is_still_served() {
        let slots = ConnectionSlots::new(60, 64);
        let all: Vec<_> = (0..32).map(|_| slots.take().unwrap()).collect();
        for slot in &all {
            drop(slot.asks());
            slot.answers();
            slot.waits(true);
            slot.sends();
            assert!(!slot.has_sent() && !slot.is_quiet());
        }
        after(&slots, UNREAD_TICKS_MAX);
        slots.make_room(|| 0);
        assert!(slots.take().is_none(), "nobody makes room");
        assert_eq!(gone(&all), 0);
        all[0].waits(false);
        assert!(all[0].has_sent() && all[0].is_quiet());
        assert!(!all[0].has_sent(), "once");
        assert!(slots.take().is_some());
        assert_eq!(gone(&all[..1]), 1);
        after(&slots, 1);
        assert_eq!(gone(&all), 32, "who does not read has to go");
        assert!(
            all[1..].iter().all(|slot| !slot.is_quiet()),
            "and hears that something is missing"
        );
    }

    #[test]
    fn a_head_that_began_behind_an_answer_has_the_time_of_a_head() {
        let slots = ConnectionSlots::new(60, 64);
        let slot = slots.take().unwrap();
        drop(slot.asks());
        slot.answers();
        slot.waits(true);
        slot.sends();
        slot.heard();
        assert!(!slot.has_sent() && !slot.is_quiet());
        after(&slots, HEAD_TICKS_MAX + 1);
        assert!(!slot.leave.is_cancelled(), "it may not have been read");
        slot.waits(false);
        assert!(slot.has_sent() && slot.is_quiet());
        after(&slots, HEAD_TICKS_MAX + 1);
        assert!(slot.leave.is_cancelled());
    }

    #[test]
    fn what_hyper_says_of_a_bad_head_is_missing_while_it_waits() {
        let slots = ConnectionSlots::new(60, 64);
        let slot = slots.take().unwrap();
        slot.heard();
        assert!(slot.is_quiet());
        slot.waits(true);
        assert!(!slot.is_quiet());
    }

    #[test]
    fn an_answer_without_a_byte_for_a_client_that_says_no_more_ends() {
        let slots = ConnectionSlots::new(60, 4096);
        let slot = slots.take().unwrap();
        drop(slot.asks());
        slot.answers();
        slot.fell_silent();
        for _ in 0..3 {
            after(&slots, SILENT_TICKS_MAX);
            slot.waits(false);
        }
        assert!(!slot.leave.is_cancelled(), "it gets something now and then");
        after(&slots, SILENT_TICKS_MAX + 1);
        assert!(slot.leave.is_cancelled());
    }

    #[test]
    fn who_has_said_all_has_the_time_of_others_to_read() {
        for hyper_has_all in [true, false] {
            let slots = ConnectionSlots::new(60, 64);
            let slot = slots.take().unwrap();
            drop(slot.asks());
            slot.answers();
            slot.fell_silent();
            slot.waits(true);
            if hyper_has_all {
                slot.sends();
                assert!(!slot.has_sent());
            }
            after(&slots, UNREAD_TICKS_MAX);
            assert!(!slot.leave.is_cancelled(), "the end of its answer would be lost");
            after(&slots, 1);
            assert!(slot.leave.is_cancelled());
        }
    }

    #[test]
    fn a_request_has_its_time_until_the_answer_begins() {
        let slots = ConnectionSlots::new(5, 4096);
        let (slow, quick) = (slots.take().unwrap(), slots.take().unwrap());
        let (late, answered) = (slow.asks(), quick.asks());
        quick.answers();
        after(&slots, 6);
        assert!(late.is_cancelled() && slow.is_late());
        assert!(!answered.is_cancelled() && !quick.is_late());
    }

    #[test]
    fn the_oldest_stranger_makes_room_and_nobody_who_is_served_does() {
        let slots = ConnectionSlots::new(60, 4096);
        let all: Vec<_> = (0..CONNECTIONS_MAX).map(|_| slots.take().unwrap()).collect();
        drop(all[0].asks());
        rests(&all[1]);
        let next = slots.take().unwrap();
        assert!(all[2].leave.is_cancelled(), "the oldest of those that never asked");
        for slot in all.iter().skip(3).chain([&next]) {
            drop(slot.asks());
        }
        drop(slots.take().unwrap().asks());
        assert!(all[1].leave.is_cancelled(), "then one between two requests");
        assert!(slots.take().is_none());
        assert!(!all[0].leave.is_cancelled());
        drop(SlotGuard(&slots, &all[0]));
        assert!(slots.take().is_some());
    }

    /// How many of them were told to go.
    fn gone(all: &[Arc<ConnectionSlot>]) -> usize {
        all.iter().filter(|slot| slot.leave.is_cancelled()).count()
    }

    #[test]
    fn who_has_just_come_goes_for_a_crowd_alone() {
        let slots = ConnectionSlots::new(60, 64);
        let mut all: Vec<_> = (0..8).map(|_| slots.take().unwrap()).collect();
        for _ in 0..2 {
            slots.make_room(|| 0);
            assert_eq!(gone(&all), 0, "the first tick may come a moment later");
            slots.tick();
        }
        slots.make_room(|| 0);
        assert_eq!(gone(&all[..3]), gone(&all), "the oldest");
        assert_eq!(gone(&all), 2, "one free socket for each three that are there");
        let slots = ConnectionSlots::new(60, 64);
        all = (0..20).map(|_| slots.take().unwrap()).collect();
        slots.make_room(|| 5);
        assert_eq!((gone(&all), gone(&all[..2])), (2, 2));
        all.extend((0..3).map(|_| slots.take().unwrap()));
        slots.make_room(|| 2);
        assert_eq!((gone(&all), gone(&all[..5])), (5, 5));
        slots.make_room(|| 8);
        assert_eq!(gone(&all), 5, "there are enough");
        // Clients that were served are no crowd that costs others anything.
        let slots = ConnectionSlots::new(60, 64);
        all = (0..32).map(|_| slots.take().unwrap()).collect();
        all.iter().for_each(|slot| rests(slot));
        after(&slots, 2);
        let next: Vec<_> = (0..3).map(|_| slots.take().unwrap()).collect();
        slots.make_room(|| 1);
        assert_eq!((gone(&all[..3]), gone(&next)), (3, 0));
    }

    #[test]
    fn the_last_socket_stays_with_nobody_who_asks_for_nothing() {
        let slots = ConnectionSlots::new(60, 64);
        let all = [slots.take().unwrap(), slots.take().unwrap()];
        after(&slots, 2);
        slots.make_room(|| 1);
        assert_eq!(gone(&all), 0);
        slots.make_room(|| 0);
        assert_eq!((gone(&all), gone(&all[..1])), (1, 1));
        slots.make_room(|| 0);
        assert_eq!(gone(&all), 1, "it is about to be free");
    }

    #[test]
    fn who_was_sent_away_is_counted_until_the_socket_is_free() {
        let slots = ConnectionSlots::new(60, 64);
        let all: Vec<_> = (0..8).map(|_| slots.take().unwrap()).collect();
        after(&slots, 2);
        let free = |expected| {
            slots.make_room(|| 0);
            assert_eq!(gone(&all), expected);
        };
        free(2);
        free(2);
        // The slot itself lives on with a handler that has answered.
        drop(SlotGuard(&slots, &all[0]));
        free(3);
    }
}

//! The connections of an HTTP container's port: who is there, what each is doing, who has to go.
//!
//! ```text
//! New ──first byte──▶ Head ──a request──▶ Asking ──its answer begins──▶ Answering ──all of it sent──▶ Idle
//!                       ▲                                                                              │
//!                       └──────────────────────────────first byte──────────────────────────────────────┘
//! ```
//!
//! Time is counted in ticks of a second that the owner gives, so that a request costs no timer of its own.
//!
//! Guarantees:
//! - there are no more than [`MAX`] connections, and the oldest stranger makes room when places are short
//!   (`the_oldest_stranger_makes_room_and_nobody_who_is_served_does`, `strangers_do_not_keep_others_out`);
//! - a client that says nothing, or says it too slowly, goes (`who_says_nothing_or_says_it_too_slowly_goes`);
//! - so does one that does not read (`who_does_not_read_goes_however_the_answer_stands`);
//! - one whose request is being answered is left alone (`a_request_has_its_time_until_the_answer_begins`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Connections of one container at a time. Half of the sockets that a pod may have: the rest is its guest's.
pub(super) const MAX: usize = 2048;

/// Ticks that a client has for the whole head of its first request, and of every later one from its first byte on.
const HEAD: u32 = 10;

/// Ticks that a connection is kept between two requests.
const IDLE: u32 = 75;

/// Ticks that a client may leave what was sent to it unread.
const UNREAD: u32 = 60;

/// Ticks that an answer goes on without a byte for a client that says no more: most of those have left.
const SILENT: u32 = 10;

/// No write waits.
const FLOWS: u32 = u32::MAX;

const NEW: u8 = 0;
const HEADING: u8 = 1;
const ASKING: u8 = 2;
const ANSWERING: u8 = 3;
const RESTING: u8 = 4;

/// One connection's place.
pub(super) struct Seat {
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

impl Seat {
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
            _ => {}
        }
    }

    /// A request has come. What is returned is cancelled when it is not to go on: see [`Seat::is_late`].
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

    /// The answer is sent, or cannot be.
    pub(super) fn rests(&self) {
        self.enter(RESTING);
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

    /// Whether nothing is missing if the connection ends now.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.phase.load(Relaxed), NEW | HEADING | RESTING)
    }

    /// Whether a write waits for the client to read.
    pub(super) fn waits(&self, waits: bool) {
        let flows = self.unread.load(Relaxed) == FLOWS;
        if waits && flows {
            self.unread.store(self.now(), Relaxed);
        } else if !waits && !flows {
            self.unread.store(FLOWS, Relaxed);
        }
        if !waits && self.silent.load(Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
    }

    /// Ends what has lasted too long.
    fn judge(&self, now: u32, request: u32) {
        let unread = self.unread.load(Relaxed);
        if unread != FLOWS && UNREAD < now.saturating_sub(unread) {
            self.leave.cancel();
            return;
        }
        let age = now.saturating_sub(self.since.load(Relaxed));
        match self.phase.load(Relaxed) {
            NEW | HEADING if HEAD < age => self.leave.cancel(),
            RESTING if IDLE < age => self.leave.cancel(),
            ANSWERING if self.silent.load(Relaxed) && SILENT < age => self.leave.cancel(),
            ASKING if request < age => {
                self.late.store(true, Relaxed);
                self.stop_asking();
            }
            _ => {}
        }
    }
}

/// All places of a container.
pub(super) struct Seats {
    taken: Mutex<BTreeMap<u64, Arc<Seat>>>,
    clock: Arc<AtomicU32>,
    /// Ticks that a request may take until its answer begins.
    request: u32,
}

impl Seats {
    pub(super) fn new(request: u32) -> Self {
        Self { taken: Mutex::default(), clock: Arc::default(), request }
    }

    /// A place for a connection. When there is none, the client that has waited longest without asking for anything
    /// loses its own: those that never asked first. `None`: all are being served.
    pub(super) fn take(&self) -> Option<Arc<Seat>> {
        let mut taken = self.taken.lock();
        if MAX <= taken.len() {
            let quiet = taken.values().filter(|seat| seat.is_quiet());
            let age = |seat: &&Arc<Seat>| {
                let known = seat.phase.load(Relaxed) == RESTING;
                (known, seat.since.load(Relaxed), seat.number)
            };
            let oldest = quiet.min_by_key(age).map(|seat| seat.number)?;
            if let Some(seat) = taken.remove(&oldest) {
                seat.leave.cancel();
            }
        }
        let number = taken.last_key_value().map_or(0, |(last, _)| last + 1);
        let seat = Arc::new(Seat {
            number,
            phase: AtomicU8::new(NEW),
            since: AtomicU32::new(self.clock.load(Relaxed)),
            unread: AtomicU32::new(FLOWS),
            clock: self.clock.clone(),
            leave: CancellationToken::new(),
            asked: Mutex::default(),
            silent: AtomicBool::new(false),
            late: AtomicBool::new(false),
        });
        taken.insert(number, seat.clone());
        Some(seat)
    }

    pub(super) fn give_back(&self, seat: &Arc<Seat>) {
        let mut taken = self.taken.lock();
        if taken.get(&seat.number).is_some_and(|held| Arc::ptr_eq(held, seat)) {
            taken.remove(&seat.number);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.lock().is_empty()
    }

    /// A second has passed; its number.
    pub(super) fn tick(&self) -> u32 {
        let now = self.clock.fetch_add(1, Relaxed) + 1;
        for seat in self.taken.lock().values() {
            seat.judge(now, self.request);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seats: &Seats, ticks: u32) {
        for _ in 0..ticks {
            seats.tick();
        }
    }

    #[test]
    fn who_says_nothing_or_says_it_too_slowly_goes() {
        let seats = Seats::new(60);
        let (silent, slow) = (seats.take().unwrap(), seats.take().unwrap());
        after(&seats, HEAD);
        slow.heard();
        assert!(!silent.leave.is_cancelled());
        after(&seats, 1);
        assert!(silent.leave.is_cancelled() && slow.leave.is_cancelled());
    }

    #[test]
    fn who_comes_back_has_time_for_a_head_of_its_own() {
        let seats = Seats::new(60);
        let seat = seats.take().unwrap();
        seat.heard();
        drop(seat.asks());
        seat.answers();
        after(&seats, 1000);
        assert!(!seat.leave.is_cancelled(), "an answer may last");
        seat.rests();
        after(&seats, IDLE);
        seat.heard();
        after(&seats, HEAD);
        assert!(!seat.leave.is_cancelled());
        after(&seats, 1);
        assert!(seat.leave.is_cancelled());
    }

    #[test]
    fn who_does_not_read_goes_however_the_answer_stands() {
        let seats = Seats::new(60);
        let seat = seats.take().unwrap();
        drop(seat.asks());
        seat.answers();
        seat.waits(true);
        after(&seats, UNREAD);
        seat.waits(false);
        seat.waits(true);
        after(&seats, UNREAD);
        assert!(!seat.leave.is_cancelled());
        after(&seats, 1);
        assert!(seat.leave.is_cancelled());
    }

    #[test]
    fn an_answer_without_a_byte_for_a_client_that_says_no_more_ends() {
        let seats = Seats::new(60);
        let seat = seats.take().unwrap();
        drop(seat.asks());
        seat.answers();
        seat.fell_silent();
        for _ in 0..3 {
            after(&seats, SILENT);
            seat.waits(false);
        }
        assert!(!seat.leave.is_cancelled(), "it gets something now and then");
        after(&seats, SILENT + 1);
        assert!(seat.leave.is_cancelled());
    }

    #[test]
    fn a_request_has_its_time_until_the_answer_begins() {
        let seats = Seats::new(5);
        let (slow, quick) = (seats.take().unwrap(), seats.take().unwrap());
        let (late, answered) = (slow.asks(), quick.asks());
        quick.answers();
        after(&seats, 6);
        assert!(late.is_cancelled() && slow.is_late());
        assert!(!answered.is_cancelled() && !quick.is_late());
    }

    #[test]
    fn the_oldest_stranger_makes_room_and_nobody_who_is_served_does() {
        let seats = Seats::new(60);
        let all: Vec<_> = (0..MAX).map(|_| seats.take().unwrap()).collect();
        drop(all[0].asks());
        all[1].rests();
        let next = seats.take().unwrap();
        assert!(all[2].leave.is_cancelled(), "the oldest of those that never asked");
        for seat in all.iter().skip(3).chain([&next]) {
            drop(seat.asks());
        }
        drop(seats.take().unwrap().asks());
        assert!(all[1].leave.is_cancelled(), "then one between two requests");
        assert!(seats.take().is_none());
        assert!(!all[0].leave.is_cancelled());
        seats.give_back(&all[0]);
        assert!(seats.take().is_some());
    }
}

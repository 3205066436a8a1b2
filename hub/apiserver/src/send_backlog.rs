//! Answers of one connection that are not out yet, and clients that do not take them.
//!
//! ```text
//! made ─▶ given to hyper ─▶ the client has room for it ─▶ out
//!            └─ nothing of it for long, and not for want of a faster socket: its stream is reset
//!                  └─ that helps nothing, and nothing moves: the connection ends
//! ```
//!
//! HTTP/2 lets a client ask a thousand things at once and take nothing. Answers wait as bytes then, and neither the
//! places at the door nor TCP bound them. What hyper has in hand is seen here: it lets go of bytes when they are out.
//!
//! Guarantees:
//! - all that waits is on its connection's [account](crate::memory_account), whoever made it
//!   (`pieces_that_nobody_takes_are_on_their_connection_s_account`,
//!   `a_thousand_answers_that_nobody_takes_are_not_made`, `bodies_that_do_not_come_are_waited_for_in_turn`);
//! - an answer of which a client takes nothing for long, or less than a [frame](ONE_FRAME_BYTES), is reset, and nothing
//!   else is (`who_takes_nothing_is_told_from_who_has_nothing_to_take`,
//!   `one_answer_that_is_not_taken_is_reset_and_the_others_go_on`,
//!   `an_answer_behind_a_socket_that_takes_nothing_ends`);
//! - one that waits behind others for a slow socket is not, before the socket took its [share](SHARE)
//!   (`who_waits_for_a_slow_socket_is_told_from_who_takes_nothing`,
//!   `many_answers_over_a_slow_socket_are_not_reset`);
//! - the connection is closed when there is an answer to end that cannot be reset, over HTTP/1.1 or behind a socket
//!   that takes nothing, and nothing of any other moved either (`a_connection_ends_when_nothing_moves_on_it`,
//!   `a_watch_over_http_1_that_is_not_read_ends_with_its_connection`).
//!
//! Not kept: an HTTP/2 answer of one frame at most ([`ONE_FRAME_BYTES`]) is hyper's with its end, and cannot be
//! reset. As long as others move, it waits on the account for its client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use futures::future::AbortHandle;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::memory_account::{Held, MemoryAccount, TotalMemory};
use crate::piece::ONE_FRAME_BYTES;

/// For a reset to show: it goes out as everything does.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);
/// What a full socket has to take for each answer that waits, before one of them is to blame: HTTP/2 sends them frame
/// by frame in turn, and a few frames are in buffers on the way.
const BYTES_PER_WAITING_ANSWER: u64 = 4 * ONE_FRAME_BYTES as u64;

/// What one connection was not sent yet.
pub(crate) struct SendBacklog {
    pub(crate) account: Arc<MemoryAccount>,
    answers: Mutex<Answers>,
    since: Instant,
    /// When something of any answer was out last, in milliseconds after `since`.
    moved: AtomicU64,
    socket: Traffic,
}

/// What the socket takes.
#[derive(Default)]
struct Traffic {
    bytes: AtomicU64,
    /// When it took the last of them, in milliseconds after the connection began.
    at: AtomicU64,
    /// It takes no more for now.
    full: AtomicBool,
}

#[derive(Default)]
struct Answers {
    next: u64,
    under_way: BTreeMap<u64, Arc<Given>>,
}

/// How far a client is with an answer.
pub(crate) struct Given {
    taking: Mutex<Taking>,
    /// It is read by somebody who may stop to look at it.
    followed: bool,
    /// Ends it alone.
    reset: Option<AbortHandle>,
}

struct Taking {
    /// Pieces that hyper has in hand.
    pieces: usize,
    /// When there was something new, or something was out.
    moved: Instant,
    /// Bytes that the socket had taken by then.
    sent: u64,
    reset: Option<Instant>,
    /// Who waits for all to be out.
    end: Option<Waker>,
}

impl SendBacklog {
    /// Of a connection that is one of these.
    pub(crate) fn new(all: Arc<TotalMemory>) -> Self {
        let (answers, moved, socket) = (Mutex::default(), AtomicU64::new(0), Traffic::default());
        Self { account: MemoryAccount::new(all), answers, since: Instant::now(), moved, socket }
    }

    /// The socket took so many bytes just now.
    pub(crate) fn sent(&self, bytes: usize, now: Instant) {
        self.socket.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.socket.at.store(self.after(now), Ordering::Relaxed);
        self.socket.full.store(false, Ordering::Relaxed);
    }

    /// Bytes that the socket has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.socket.bytes.load(Ordering::Relaxed)
    }

    /// The socket takes no more for now.
    pub(crate) fn socket_is_full(&self) {
        self.socket.full.store(true, Ordering::Relaxed);
    }

    /// Waits for so many bytes of the account.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Option<Held>, ApiError> {
        self.account.hold(bytes).await
    }

    /// Resets answers of which the client has taken nothing for so long, `followed` of what people read as it comes.
    /// Ready when that does not help.
    pub(crate) async fn not_taken_for(&self, patience: Duration, followed: Duration) {
        while let Some(wait) = self.check(patience, followed) {
            sleep(wait).await;
        }
    }

    /// How long to wait until the next look; `None` when the connection has to end.
    fn check(&self, patience: Duration, followed: Duration) -> Option<Duration> {
        let (mut least, now) = (patience.min(followed), Instant::now());
        let answers = self.answers.lock();
        let waiting: Vec<_> = answers.under_way.values().filter(|given| given.waits()).collect();
        let full = self.socket.full.load(Ordering::Relaxed).then(|| Full {
            bytes: self.taken(),
            share: (waiting.len() as u64).saturating_mul(BYTES_PER_WAITING_ANSWER),
        });
        let patience_of = |given: &Given| if given.followed { followed } else { patience };
        // What goes into TLS's own buffer looks as if it were out.
        if full.is_some()
            && let Some(shortest) = waiting.iter().map(|given| patience_of(given)).min()
        {
            let late = self.at(&self.socket.at) + shortest;
            if late <= now {
                return None;
            }
            least = least.min(late - now);
        }
        let moved = self.at(if full.is_some() { &self.socket.at } else { &self.moved });
        for given in answers.under_way.values() {
            let patience = patience_of(given);
            let next = match given.progress(now, patience, full) {
                SendProgress::Taken => continue,
                SendProgress::At(next) => next,
                // While others move, the client lives.
                SendProgress::Stuck if moved + patience <= now => return None,
                SendProgress::Stuck => moved + patience,
            };
            least = least.min(next - now);
        }
        Some(least)
    }

    /// One more answer is under way, followed or not, with how to end it alone.
    pub(crate) fn begin(&self, followed: bool, reset: Option<AbortHandle>) -> (u64, Arc<Given>) {
        let taking = Taking { pieces: 0, moved: Instant::now(), sent: 0, reset: None, end: None };
        let given = Arc::new(Given { taking: Mutex::new(taking), followed, reset });
        let mut answers = self.answers.lock();
        answers.next += 1;
        let number = answers.next;
        answers.under_way.insert(number, given.clone());
        (number, given)
    }

    /// It is over.
    pub(crate) fn over(&self, number: u64) {
        self.answers.lock().under_way.remove(&number);
    }

    /// How many are under way.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.answers.lock().under_way.len()
    }

    fn at(&self, moment: &AtomicU64) -> Instant {
        self.since + Duration::from_millis(moment.load(Ordering::Relaxed))
    }

    fn after(&self, now: Instant) -> u64 {
        u64::try_from((now - self.since).as_millis()).unwrap_or(u64::MAX)
    }

    fn moves(&self, now: Instant) {
        self.moved.store(self.after(now), Ordering::Relaxed);
    }
}

/// A socket that takes no more for now.
#[derive(Clone, Copy)]
struct Full {
    /// What it took.
    bytes: u64,
    /// What it would have to take for one of those that wait to have had its part.
    share: u64,
}

/// How it is with an answer.
enum SendProgress {
    /// Its client waits for us.
    Taken,
    /// Its time is not over before then.
    At(Instant),
    /// Its time is over, and it cannot be reset, or is not to blame.
    Stuck,
}

impl Given {
    /// Whether something of it is to be taken.
    fn waits(&self) -> bool {
        self.taking.lock().pieces != 0
    }

    /// Resets it when its time is over, and the socket, if it is full, took enough to have taken some of this.
    fn progress(&self, now: Instant, patience: Duration, full: Option<Full>) -> SendProgress {
        let mut taking = self.taking.lock();
        let late = taking.moved + patience;
        if taking.pieces == 0 {
            return SendProgress::Taken;
        }
        if now < late {
            return SendProgress::At(late);
        }
        let Some(reset) = &self.reset else { return SendProgress::Stuck };
        if taking.reset.is_none() && full.is_some_and(|full| full.bytes < taking.sent + full.share)
        {
            return SendProgress::Stuck;
        }
        let since = *taking.reset.get_or_insert_with(|| {
            debug!("a client takes nothing of an answer; its stream is reset");
            reset.abort();
            now
        });
        let shows = since + RESET_TIMEOUT.min(patience);
        if now < shows { SendProgress::At(shows) } else { SendProgress::Stuck }
    }

    /// A piece of it was given to hyper.
    pub(crate) fn gave(&self, backlog: &SendBacklog) {
        let mut taking = self.taking.lock();
        taking.pieces += 1;
        taking.moved = Instant::now();
        taking.sent = backlog.taken();
    }

    /// A piece of it is out, or given up.
    pub(crate) fn is_out(&self, backlog: &SendBacklog) {
        let mut taking = self.taking.lock();
        taking.pieces -= 1;
        let end = if taking.pieces == 0 { taking.end.take() } else { None };
        // What goes by a reset did not move.
        if taking.reset.is_none() {
            taking.moved = Instant::now();
            taking.sent = backlog.taken();
            backlog.moves(taking.moved);
        }
        drop(taking);
        if let Some(end) = end {
            end.wake();
        }
    }

    /// Ready when all that was given is out.
    pub(crate) fn poll_out(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut taking = self.taking.lock();
        if taking.pieces == 0 {
            return Poll::Ready(());
        }
        taking.end = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt as _;
    use tokio::time::timeout;

    use super::*;
    use crate::connection_slots::ConnectionSlots;
    use crate::sending::Sending;

    const SHORT: Duration = Duration::from_secs(30);
    const LONG: Duration = Duration::from_secs(120);

    fn piece() -> Bytes {
        Bytes::from_static(b"a piece")
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_told_from_who_has_nothing_to_take() {
        let place = ConnectionSlots::new(1, 1, Arc::default()).take([127, 0, 0, 1].into()).await;
        let backlog = &place.slot.backlog;
        let (reset, _other) = AbortHandle::new_pair();
        let waits = Sending::new(place.slot.busy(), false, None, Some(reset.clone()));
        drop(waits.give(piece(), None));
        let late = timeout(Duration::from_secs(3_600), backlog.not_taken_for(SHORT, LONG));
        assert!(late.await.is_err() && !reset.is_aborted(), "there is nothing to take");
        for (followed, patience) in [(false, SHORT), (true, LONG)] {
            let start = Instant::now();
            let (reset, _other) = AbortHandle::new_pair();
            let reads = Sending::new(place.slot.busy(), followed, None, Some(reset.clone()));
            let first = reads.give(piece(), None);
            let second = reads.give(piece(), None);
            assert!(timeout(patience / 2, backlog.not_taken_for(SHORT, LONG)).await.is_err());
            drop(first);
            while !reset.is_aborted() {
                let _ = timeout(Duration::from_secs(1), backlog.not_taken_for(SHORT, LONG)).await;
            }
            let after = start.elapsed();
            let due = patience + patience / 2;
            assert!(due <= after && after <= due + Duration::from_secs(1), "{after:?}");
            // The stream lets go of what it has.
            drop(second);
        }
        assert_eq!(backlog.under_way(), 1, "what is over is forgotten");
        assert_eq!(backlog.account.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_nothing_moves_on_it() {
        let place = ConnectionSlots::new(1, 1, Arc::default()).take([127, 0, 0, 1].into()).await;
        let backlog = &place.slot.backlog;
        let start = Instant::now();
        // Over HTTP/1.1 there is no other answer.
        let alone = Sending::new(place.slot.busy(), false, None, None);
        let unread = alone.give(piece(), None);
        backlog.not_taken_for(SHORT, LONG).await;
        assert_eq!(start.elapsed(), SHORT);
        drop((unread, alone));
        // Of two over HTTP/2 one moves, and the other cannot be reset.
        let (reset, _other) = AbortHandle::new_pair();
        let stuck = Sending::new(place.slot.busy(), false, None, Some(reset));
        let _unread = stuck.give(piece(), None);
        let moves = Sending::new(place.slot.busy(), false, None, None);
        for _ in 0..100 {
            let piece = moves.give(piece(), None);
            let ends = timeout(Duration::from_secs(10), backlog.not_taken_for(SHORT, LONG));
            assert!(ends.await.is_err());
            drop(piece);
        }
        let start = Instant::now();
        backlog.not_taken_for(SHORT, LONG).await;
        assert_eq!(start.elapsed(), SHORT);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_slow_socket_is_told_from_who_takes_nothing() {
        let place = ConnectionSlots::new(1, 1, Arc::default()).take([127, 0, 0, 1].into()).await;
        let backlog = &place.slot.backlog;
        let (resets, waiting): (Vec<_>, Vec<_>) = (0..20)
            .map(|_| {
                let (reset, _other) = AbortHandle::new_pair();
                let waits = Sending::new(place.slot.busy(), false, None, Some(reset.clone()));
                (reset, waits.give(piece(), None))
            })
            .unzip();
        let takes = |bytes: usize, times: usize| async move {
            for _ in 0..times {
                backlog.sent(bytes, Instant::now());
                backlog.socket_is_full();
                let ends = timeout(Duration::from_secs(10), backlog.not_taken_for(SHORT, LONG));
                assert!(ends.await.is_err(), "the socket takes something");
            }
        };
        takes(16 << 10, 30).await;
        assert!(!resets.iter().any(AbortHandle::is_aborted), "less than a frame or two for each");
        takes(256 << 10, 20).await;
        assert!(resets.iter().all(AbortHandle::is_aborted), "all of them had their share");
        // What nothing is taken of is nobody's share.
        drop(waiting);
        let (reset, _other) = AbortHandle::new_pair();
        let waits = Sending::new(place.slot.busy(), false, None, Some(reset));
        let (_piece, start) = (waits.give(piece(), None), Instant::now());
        backlog.socket_is_full();
        backlog.not_taken_for(SHORT, LONG).await;
        assert!(start.elapsed() <= SHORT + RESET_TIMEOUT);
    }

    #[tokio::test]
    async fn what_is_out_is_told_to_who_waits_for_it() {
        let place = ConnectionSlots::new(1, 1, Arc::default()).take([127, 0, 0, 1].into()).await;
        let sending = Sending::new(place.slot.busy(), false, None, None);
        let pieces =
            [sending.give(piece(), Some(sending.hold(7, None))), sending.give(piece(), None)];
        let waits = sending.clone();
        let mut waits = tokio::spawn(std::future::poll_fn(move |cx| waits.poll_out(cx)));
        let [first, second] = pieces;
        drop(first);
        assert_eq!(place.slot.backlog.account.held(), 0);
        tokio::task::yield_now().await;
        assert!((&mut waits).now_or_never().is_none());
        drop(second);
        waits.await.unwrap();
    }
}

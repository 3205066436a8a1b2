//! Memory for large answers.
//!
//! A list of everything is encoded as a whole and held until its client has read it. A few clients that ask for
//! whole collections and read slowly would hold all the memory there is. Who gets how much of it is the
//! [pool](super::fair_pool)'s.
//!
//! Guarantees:
//! - all large answers under way together hold [`LARGE_ANSWERS_BYTES_MAX`] at most; one that is larger than three
//!   quarters of it passes and leaves a quarter to others. Who finds no room waits for a while and is then told to ask
//!   again, or in pieces (`large_answers_that_nobody_reads_hold_no_more_than_the_room`);
//! - no cluster and no user holds all of it while others wait (`one_user_s_large_answers_leave_room_for_the_next_one_s`);
//! - room is held as long as the bytes are, and as much as they are, compressed or not
//!   (`room_is_held_as_long_as_the_bytes_are`, `a_compressed_answer_holds_the_room_that_it_takes`);
//! - a client that takes nothing for long, or less than [`READ_BYTES_PER_SECOND_MIN`], is cut off and sees that its
//!   answer is not whole (`who_takes_nothing_or_too_little_is_cut_off`, `a_large_answer_that_is_not_read_breaks_off`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use freewheel_hub_schema::error::{ApiError, Details};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::memory_account::Held;
use crate::piece::{BodyError, PIECE_BYTES};

use super::fair_pool::{FairPool, PoolFull, PoolShare};
use super::shares::Sharer;

/// For all large answers together.
const LARGE_ANSWERS_BYTES_MAX: usize = 192 << 20;
/// Smaller answers are counted where they go out, by their connections.
pub(crate) const LARGE_ANSWER_BYTES: usize = 1 << 20;
/// Bytes of a large answer that a client has to take in a second, after a while. Who has half a megabit asks in
/// pieces, or compressed; without an end the room would be theirs who read least.
const READ_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// The room. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LargeAnswers(Arc<Shared>);

struct Shared {
    pool: Arc<FairPool>,
    /// How long a client may take nothing.
    patience: Duration,
    answers: Mutex<Vec<Weak<Answer>>>,
    /// There is one answer more.
    more: Notify,
}

/// Room for one answer.
pub(crate) struct AnswerRoom(Kind);

enum Kind {
    /// Of its connection's account.
    Small(Option<Held>),
    Large(PoolShare, Arc<Shared>),
}

/// A large answer on its way.
struct Answer {
    user: Arc<str>,
    began: Instant,
    latest: Instant,
    state: Mutex<AnswerState>,
}

enum AnswerState {
    Going(Rest),
    Gone,
    CutOff,
}

/// What was not taken yet. Its bytes go before the room that they take.
struct Rest {
    bytes: Bytes,
    moved: Instant,
    _room: PoolShare,
}

/// Bytes, and the room that is theirs.
pub(crate) enum RoomedBytes {
    /// Of their connection's account.
    Small(Bytes, Option<Held>),
    /// Until the last of them is taken.
    Large(Outgoing),
}

/// The client's end of it.
pub(crate) struct Outgoing(Arc<Answer>);

impl LargeAnswers {
    /// With this patience for who reads nothing.
    pub(crate) fn new(patience: Duration) -> Self {
        Self::of(LARGE_ANSWERS_BYTES_MAX, patience)
    }

    fn of(bytes: usize, patience: Duration) -> Self {
        let (answers, more) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { pool: FairPool::new(bytes), patience, answers, more }))
    }

    /// Waits for room for an answer of about this many bytes to them.
    pub(crate) async fn room(
        &self,
        sharer: Sharer<'_>,
        bytes: usize,
    ) -> Result<AnswerRoom, ApiError> {
        match self.0.pool.part(sharer, bytes).await {
            Ok(part) => Ok(AnswerRoom(Kind::Large(part, self.0.clone()))),
            Err(full) => Err(no_room(full)),
        }
    }

    /// Cuts off who is late, for ever.
    pub(crate) async fn cut_off_the_late(&self) {
        loop {
            let more = self.0.more.notified();
            match self.sweep(Instant::now()) {
                None => more.await,
                Some(next) => drop(timeout_at(next, more).await),
            }
        }
    }

    /// Cuts off who is late now; answers when somebody may be next.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        self.0.answers.lock().retain(|answer| {
            let Some(answer) = answer.upgrade() else { return false };
            let late = answer.check(now, self.0.patience);
            next = [next, late].into_iter().flatten().min();
            late.is_some()
        });
        next
    }
}

impl AnswerRoom {
    /// Room for an answer that is not large.
    pub(crate) const fn small(held: Option<Held>) -> Self {
        Self(Kind::Small(held))
    }

    /// The bytes with the room that they take.
    pub(crate) fn take(self, bytes: Bytes) -> RoomedBytes {
        let (mut room, shared) = match self.0 {
            Kind::Large(room, shared) => (room, shared),
            Kind::Small(held) => return RoomedBytes::Small(bytes, held),
        };
        room.shrink(bytes.len());
        let began = Instant::now();
        let needs = Duration::from_secs(bytes.len() as u64 / READ_BYTES_PER_SECOND_MIN);
        let answer = Arc::new(Answer {
            user: room.user().clone(),
            began,
            latest: began + 2 * shared.patience + needs,
            state: Mutex::new(AnswerState::Going(Rest { bytes, moved: began, _room: room })),
        });
        shared.answers.lock().push(Arc::downgrade(&answer));
        shared.more.notify_one();
        RoomedBytes::Large(Outgoing(answer))
    }
}

impl Answer {
    /// When it will be late if nothing more is taken; `None` when it is over, or is now.
    fn check(&self, now: Instant, patience: Duration) -> Option<Instant> {
        let mut state = self.state.lock();
        let AnswerState::Going(rest) = &*state else { return None };
        let late = (rest.moved + patience).min(self.latest);
        if now < late {
            return Some(late);
        }
        let (left, seconds) = (rest.bytes.len(), self.began.elapsed().as_secs());
        warn!(
            user = &*self.user,
            left, seconds, "a large answer is read too slowly; its client is cut off"
        );
        *state = AnswerState::CutOff;
        None
    }
}

impl Outgoing {
    /// The next piece: a copy, for what is sent must not hold all the rest.
    pub(crate) fn next(&self) -> Option<Result<Bytes, BodyError>> {
        let mut state = self.0.state.lock();
        let rest = match &mut *state {
            AnswerState::Gone => return None,
            AnswerState::CutOff => return Some(Err("the answer was read too slowly".into())),
            AnswerState::Going(rest) => rest,
        };
        let piece = Bytes::copy_from_slice(&rest.bytes[..PIECE_BYTES.min(rest.bytes.len())]);
        rest.bytes.advance(piece.len());
        rest.moved = Instant::now();
        if rest.bytes.is_empty() {
            *state = AnswerState::Gone;
        }
        Some(Ok(piece))
    }

    /// Bytes that are to come; `None` when they will not.
    pub(crate) fn left(&self) -> Option<u64> {
        match &*self.0.state.lock() {
            AnswerState::Going(rest) => Some(rest.bytes.len() as u64),
            AnswerState::Gone => Some(0),
            AnswerState::CutOff => None,
        }
    }
}

fn no_room(full: PoolFull) -> ApiError {
    let text = match full {
        PoolFull::Waited => {
            "as many large answers are on their way as the hub has memory for, or as this cluster or user has a share of: ask again, or in pieces (limit=500)"
        }
        PoolFull::Crowded => {
            "too many requests for large answers wait already: ask again later, or in pieces (limit=500)"
        }
    };
    let mut error = ApiError::new(429, "TooManyRequests", text.to_owned());
    let details = Details { retry_after_seconds: Some(full.retry_after()), ..Details::default() };
    error.details = Some(Box::new(details));
    error
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;
    use tokio::time::sleep;

    use super::*;
    use crate::body::Body;
    use crate::flow::workers::Workers;
    use crate::respond;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn small() -> LargeAnswers {
        LargeAnswers::of(16 << 20, PATIENCE)
    }

    async fn answer(large_answers: &LargeAnswers, asked: usize, bytes: usize) -> Body {
        Body::in_room(
            vec![7; bytes].into(),
            large_answers.room(Sharer::in_root("reader"), asked).await.unwrap(),
        )
    }

    /// Whether there is room for so much at once, for somebody who has nothing.
    fn has_room(large_answers: &LargeAnswers, bytes: usize) -> bool {
        large_answers
            .room(Sharer::in_root("other"), bytes)
            .now_or_never()
            .is_some_and(|room| room.is_ok())
    }

    async fn take(body: &mut Body) -> Result<usize, BodyError> {
        let frame = body.frame().await.expect("there is more");
        Ok(frame?.into_data().unwrap_or_default().len())
    }

    #[tokio::test(start_paused = true)]
    async fn large_answers_that_nobody_reads_hold_no_more_than_the_room() {
        let large_answers = small();
        let unread = [
            answer(&large_answers, 8 << 20, 8 << 20).await,
            answer(&large_answers, 4 << 20, 4 << 20).await,
        ];
        let refused = large_answers.room(Sharer::in_root("reader"), 2 << 20).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert!(refused.message.contains("limit=500"), "{refused}");
        assert_eq!(refused.to_status()["details"]["retryAfterSeconds"], 1);
        assert!(has_room(&large_answers, 4 << 20) && !has_room(&large_answers, (4 << 20) + 1));
        drop(unread);
        let largest = large_answers.room(Sharer::in_root("reader"), 100 << 20).await.unwrap();
        assert!(has_room(&large_answers, 4 << 20), "the largest passes");
        drop(largest);
        assert!(has_room(&large_answers, 12 << 20));
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_s_large_answers_leave_room_for_the_next_one_s() {
        let large_answers = small();
        let mut unread = Vec::new();
        while let Some(room) = large_answers.room(Sharer::in_root("greedy"), 2 << 20).now_or_never()
        {
            unread.push(Body::in_room(vec![7; 2 << 20].into(), room.unwrap()));
        }
        assert_eq!(unread.len(), 6);
        // The greedy one's asks wait, and nobody behind them.
        let (asks, waits) =
            (large_answers.clone(), large_answers.room(Sharer::in_root("greedy"), 2 << 20));
        let waits = async { waits.await.err().map(|error| error.code) };
        let other = async { asks.room(Sharer::in_root("other"), 4 << 20).await.is_ok() };
        assert_eq!(futures::join!(waits, other), (Some(429), true));
    }

    #[tokio::test]
    async fn room_is_held_as_long_as_the_bytes_are() {
        let large_answers = small();
        // It was thought to be larger than it is.
        let mut body = answer(&large_answers, 12 << 20, 6 << 20).await;
        assert!(has_room(&large_answers, 10 << 20) && !has_room(&large_answers, 11 << 20));
        let mut pieces = vec![take(&mut body).await.unwrap()];
        while http_body::Body::size_hint(&body).exact() != Some(PIECE_BYTES as u64) {
            pieces.push(take(&mut body).await.unwrap());
        }
        assert!(!has_room(&large_answers, 11 << 20), "the last piece is there yet");
        pieces.push(take(&mut body).await.unwrap());
        assert!(has_room(&large_answers, 12 << 20), "what is sent holds no room");
        assert_eq!((pieces.len(), pieces.iter().sum()), (96, 6 << 20));
        assert!(http_body::Body::is_end_stream(&body) && body.frame().await.is_none());
        // Whoever goes away takes nothing along.
        drop(answer(&large_answers, 8 << 20, 8 << 20).await);
        assert!(has_room(&large_answers, 12 << 20));
    }

    #[tokio::test]
    async fn a_compressed_answer_holds_the_room_that_it_takes() {
        let (large_answers, workers) = (small(), Workers::default());
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..4 << 20).map(|_| random.u8(..)).collect();
        for (bytes, much) in [(noise, 4 << 20), (vec![7; 4 << 20], 0)] {
            let room = large_answers.room(Sharer::in_root("reader"), 8 << 20).await.unwrap();
            let packed = respond::large("text/plain", bytes.into(), Some(workers.of_all()), room);
            let packed = packed.await.unwrap();
            assert_eq!(packed.headers()["content-encoding"], "gzip");
            let held = large_answers.0.pool.held_by(Sharer::in_root("reader"));
            assert!((much..much + (1 << 19)).contains(&held), "{much}: {held}");
            drop(packed);
            assert_eq!(large_answers.0.pool.held_by(Sharer::in_root("reader")), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_or_too_little_is_cut_off() {
        let large_answers = small();
        let watch = large_answers.clone();
        let sweeper = tokio::spawn(async move { watch.cut_off_the_late().await });
        // Nothing at all, and nothing any more.
        let mut idle = answer(&large_answers, 8 << 20, 8 << 20).await;
        take(&mut idle).await.unwrap();
        sleep(PATIENCE - Duration::from_secs(1)).await;
        assert!(!has_room(&large_answers, 12 << 20));
        sleep(Duration::from_secs(2)).await;
        assert!(has_room(&large_answers, 12 << 20));
        assert!(take(&mut idle).await.is_err() && !http_body::Body::is_end_stream(&idle));
        // A piece now and then, at half the rate.
        let mut slow = answer(&large_answers, 8 << 20, 8 << 20).await;
        let mut taken = 0;
        while take(&mut slow).await.is_ok() {
            taken += 1;
            sleep(Duration::from_secs(2)).await;
        }
        assert!((94..=95).contains(&taken), "{taken} pieces in 2 * 30 + 128 seconds");
        assert!(has_room(&large_answers, 12 << 20));
        // As slow as may be.
        let mut steady = answer(&large_answers, 8 << 20, 8 << 20).await;
        for _ in 0..128 {
            assert_eq!(take(&mut steady).await.unwrap(), PIECE_BYTES);
            sleep(Duration::from_millis(1_400)).await;
        }
        assert!(steady.frame().await.is_none());
        assert!(large_answers.0.answers.lock().len() <= 1);
        sweeper.abort();
    }
}

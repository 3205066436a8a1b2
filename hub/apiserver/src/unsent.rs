//! What one connection makes the hub hold: bodies that are being read, answers that were not taken yet.
//!
//! ```text
//! request ─▶ hold: its body, and what it will be answered ─▶ answered: as much as the answer is ─▶ its last byte is out
//! ```
//!
//! HTTP/2 lets a client ask a thousand things at once and take nothing. Answers wait as bytes then, and neither the
//! places at the door nor TCP bound them.
//!
//! Guarantees:
//! - objects, lists and bodies on one connection hold [`ACCOUNT`] at most, beside answers that are large and have a
//!   room of their own; who finds none waits for a while and is then told to ask again
//!   (`what_a_connection_holds_is_bounded_and_comes_back`, `a_thousand_answers_that_nobody_takes_are_not_made`,
//!   `bodies_that_do_not_come_are_waited_for_in_turn`);
//! - a connection is closed whose client takes nothing for long of anything that there is for it
//!   (`who_takes_nothing_is_told_from_who_has_nothing_to_take`, `a_thousand_answers_that_nobody_takes_are_not_made`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::error::{ApiError, Details};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::places::{Busy, Seat};

/// Bytes that one connection may make the hub hold.
const ACCOUNT: usize = 16 << 20;
/// How long a request waits for a part of it: clients give up after half a minute.
const WAIT: Duration = Duration::from_secs(20);

/// What one connection holds.
pub(crate) struct Unsent {
    account: Arc<Semaphore>,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    next: u64,
    under_way: BTreeMap<u64, Arc<Given>>,
}

/// How far a client is with an answer.
struct Given {
    /// Since when there is something that it does not take.
    since: Mutex<Option<Instant>>,
    /// It is read by somebody who may stop to look at it.
    followed: bool,
}

/// A part of a connection's account.
pub(crate) struct Held(OwnedSemaphorePermit);

/// One answer, until its last byte is out.
pub(crate) struct Sending {
    given: Arc<Given>,
    number: u64,
    busy: Busy,
    _held: Option<Held>,
}

impl Default for Unsent {
    fn default() -> Self {
        Self { account: Arc::new(Semaphore::new(ACCOUNT)), answers: Mutex::default() }
    }
}

impl Unsent {
    /// Waits for so many bytes of the account; the most that it has is enough for anything.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Option<Held>, ApiError> {
        if bytes == 0 {
            return Ok(None);
        }
        let bytes = u32::try_from(bytes.min(ACCOUNT)).unwrap_or(u32::MAX);
        match timeout(WAIT, self.account.clone().acquire_many_owned(bytes)).await {
            Ok(Ok(permit)) => Ok(Some(Held(permit))),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(too_much()),
        }
    }

    /// Ready when the client has taken nothing for so long of something that there is for it; `followed` of what
    /// people read as it comes.
    pub(crate) async fn not_taken_for(&self, patience: Duration, followed: Duration) {
        while let Some(wait) = self.left(patience.min(followed), patience, followed) {
            sleep(wait).await;
        }
    }

    /// How long everybody has at least; `None` when somebody's time is over.
    fn left(&self, most: Duration, patience: Duration, followed: Duration) -> Option<Duration> {
        let (mut least, now) = (most, Instant::now());
        for given in self.answers.lock().under_way.values() {
            let Some(since) = *given.since.lock() else { continue };
            let late = since + if given.followed { followed } else { patience };
            if late <= now {
                return None;
            }
            least = least.min(late - now);
        }
        Some(least)
    }
}

impl Held {
    /// Gives back what is not needed.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        drop(self.0.split(self.0.num_permits().saturating_sub(bytes)));
    }
}

impl Sending {
    /// An answer to this request, with what it holds. There is something to take from the beginning.
    pub(crate) fn new(busy: Busy, followed: bool, held: Option<Held>) -> Arc<Self> {
        let given = Arc::new(Given { since: Mutex::new(Some(Instant::now())), followed });
        let mut answers = busy.seat().unsent.answers.lock();
        answers.next += 1;
        let number = answers.next;
        answers.under_way.insert(number, given.clone());
        drop(answers);
        Arc::new(Self { given, number, busy, _held: held })
    }

    /// The client was given something.
    pub(crate) fn gave(&self) {
        *self.given.since.lock() = Some(Instant::now());
    }

    /// The client has taken everything, and waits for us.
    pub(crate) fn waits(&self) {
        *self.given.since.lock() = None;
    }

    fn seat(&self) -> &Seat {
        self.busy.seat()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.seat().unsent.answers.lock().under_way.remove(&self.number);
    }
}

fn too_much() -> ApiError {
    let text = "this connection asks for more at a time than it reads: read the answers, or ask for less at once";
    let mut error = ApiError::new(429, "TooManyRequests", text.to_owned());
    error.details = Some(Box::new(Details { retry_after_seconds: Some(5), ..Details::default() }));
    error
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::places::Places;

    const SHORT: Duration = Duration::from_secs(30);
    const LONG: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn what_a_connection_holds_is_bounded_and_comes_back() {
        let unsent = Unsent::default();
        let mut most = unsent.hold(100 << 20).await.unwrap().unwrap();
        assert!(unsent.hold(0).await.unwrap().is_none(), "nothing needs nothing");
        let refused = unsent.hold(1).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        most.shrink(ACCOUNT - 1);
        let rest = unsent.hold(1).now_or_never().expect("at once").unwrap();
        drop((most, rest));
        assert!(unsent.hold(ACCOUNT).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_told_from_who_has_nothing_to_take() {
        let place = Places::new(1, 1).take().await;
        let unsent = &place.seat.unsent;
        let waits = Sending::new(place.seat.busy(), false, None);
        waits.waits();
        let late = timeout(Duration::from_secs(3_600), unsent.not_taken_for(SHORT, LONG));
        assert!(late.await.is_err(), "there is nothing to take");
        for (followed, patience) in [(false, SHORT), (true, LONG)] {
            let start = Instant::now();
            let reads = Sending::new(place.seat.busy(), followed, None);
            assert!(timeout(patience / 2, unsent.not_taken_for(SHORT, LONG)).await.is_err());
            reads.gave();
            unsent.not_taken_for(SHORT, LONG).await;
            assert_eq!(start.elapsed(), patience + patience / 2);
        }
        assert_eq!(unsent.answers.lock().under_way.len(), 1, "what is over is forgotten");
    }
}

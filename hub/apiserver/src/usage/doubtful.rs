//! Turns of devices that were asked in vain last: few at a time, and of those who wait first the one that was asked
//! longest ago.
//!
//! Guarantees:
//! - whoever answers again has its turn, however many never do, as soon as those have had theirs
//!   (`who_was_asked_longest_ago_has_the_next_turn`, `one_that_failed_once_has_its_turn_among_those_who_never_answer`);
//! - a turn of somebody who goes away is the next one's (`a_turn_is_never_lost`).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Those turns.
pub(super) struct DoubtfulTurns(Mutex<Waiting>);

/// When one was asked last, in vain; and a number.
type Since = (Option<Instant>, u64);

struct Waiting {
    free: usize,
    next: u64,
    all: BTreeMap<Since, oneshot::Sender<DoubtfulTurn>>,
}

/// A turn, until it is dropped.
pub(super) struct DoubtfulTurn(Option<Arc<DoubtfulTurns>>);

/// One who waits. Who is through, or goes away, waits no more.
struct Waits<'a> {
    turns: &'a DoubtfulTurns,
    since: Since,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.turns.0.lock().all.remove(&self.since);
    }
}

impl DoubtfulTurns {
    /// So many at a time.
    pub(super) fn of(free: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Waiting { free, next: 0, all: BTreeMap::new() })))
    }

    /// Waits for a turn of one that was asked then in vain.
    pub(super) async fn turn(self: &Arc<Self>, asked: Option<Instant>) -> DoubtfulTurn {
        let (waits, turn) = {
            let mut waiting = self.0.lock();
            if 0 < waiting.free {
                waiting.free -= 1;
                return DoubtfulTurn(Some(self.clone()));
            }
            waiting.next += 1;
            let since = (asked, waiting.next);
            let (gives, turn) = oneshot::channel();
            waiting.all.insert(since, gives);
            (Waits { turns: self, since }, turn)
        };
        let turn = turn.await;
        drop(waits);
        // Nobody takes one out of line without giving it a turn.
        turn.unwrap_or(DoubtfulTurn(None))
    }
}

impl Drop for DoubtfulTurn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        loop {
            let mut waiting = turns.0.lock();
            let Some((_, next)) = waiting.all.pop_first() else {
                waiting.free += 1;
                return;
            };
            drop(waiting);
            match next.send(Self(Some(turns.clone()))) {
                Ok(()) => return,
                // It goes away just now; the turn is not given back twice.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_was_asked_longest_ago_has_the_next_turn() {
        let (turns, now) = (DoubtfulTurns::of(1), Instant::now());
        let first = turns.turn(Some(now)).await;
        let mut waiting: Vec<_> = [Some(3), Some(1), None, Some(2)]
            .map(|after: Option<u64>| after.map(|seconds| now + Duration::from_secs(seconds)))
            .map(|asked| Box::pin(turns.turn(asked)))
            .into();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        let mut turn = first;
        for expected in [2, 1, 3, 0] {
            drop(turn);
            let given: Vec<_> =
                waiting.iter_mut().map(|one| one.as_mut().now_or_never()).enumerate().collect();
            let mut given = given.into_iter().filter_map(|(at, turn)| Some((at, turn?)));
            let (at, next) = given.next().unwrap();
            assert_eq!(at, expected);
            waiting[at] = Box::pin(turns.turn(Some(now + Duration::from_secs(60))));
            assert!(waiting[at].as_mut().now_or_never().is_none());
            turn = next;
        }
    }

    #[tokio::test]
    async fn a_turn_is_never_lost() {
        let turns = DoubtfulTurns::of(2);
        let both = [turns.turn(None).await, turns.turn(None).await];
        let mut gone = Box::pin(turns.turn(None));
        let mut given = Box::pin(turns.turn(None));
        assert!(gone.as_mut().now_or_never().is_none() && given.as_mut().now_or_never().is_none());
        drop(gone);
        drop(both);
        // It has one, and goes away before it knows.
        drop(given);
        let again = [turns.turn(None).now_or_never(), turns.turn(None).now_or_never()];
        assert!(again.iter().all(Option::is_some));
        assert!(turns.turn(None).now_or_never().is_none());
        drop(again);
        let waiting = turns.0.lock();
        assert_eq!((waiting.free, waiting.all.len()), (2, 0));
    }
}

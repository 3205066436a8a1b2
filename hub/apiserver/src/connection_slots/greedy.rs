//! Who has to go when all connections together make the hub hold too much.
//!
//! Guarantees:
//! - it is who would take longest to take what is held for them, at the pace of the last second, and as many as it
//!   takes to be an eighth below the bound (`who_takes_longest_to_take_what_is_held_is_greedy`). Of what they share
//!   with others their part counts (`who_keeps_what_was_shared_goes_and_nobody_else`), and what they send for no more
//!   than the bodies that they are sending (`who_shares_and_who_sends_is_told_from_who_takes_nothing`), what the
//!   transport keeps of those among them; what they asked with counts little, as nobody can take it
//!   (`who_sends_slowly_and_who_watches_stay_before_who_takes_slowly`). Who shares
//!   gives back nothing before the last of them goes: a moment later the next ones do
//!   (`however_many_keep_the_same_all_of_them_go`);
//! - others are let be, and find room (`who_holds_most_and_takes_least_goes_when_all_hold_too_much`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::{ConnectionSlot, ConnectionSlots};

/// For how long everybody is looked at before somebody goes.
const OBSERVED_FOR: Duration = Duration::from_secs(1);
/// Whoever asks for something that lasts is taken to take what it was asked with at this pace: many bytes of that are
/// greed, those of a long token are none.
const HEADING_BYTES_PER_SECOND: u64 = 64 << 10;
/// How soon it shows that it was not enough: who waits looks again several times meanwhile.
const EVICTION_PAUSE: Duration = Duration::from_millis(200);

impl ConnectionSlots {
    /// Cuts off, for ever, who makes the hub hold too much.
    pub(crate) async fn cut_off_the_greedy(&self) {
        loop {
            self.all.short().await;
            let before: BTreeMap<u64, _> =
                self.slots().iter().map(|slot| (slot.number, slot.traffic())).collect();
            let mut looked_for = OBSERVED_FOR;
            loop {
                self.all.was_short();
                sleep(looked_for).await;
                // Who waits looks again and again.
                if !self.all.was_short() {
                    break;
                }
                for load in greedy(self.loads(&before), self.all.excess()) {
                    let (who, held) = (load.whose.who.get(), load.held);
                    warn!(
                        who,
                        held,
                        "clients make the hub hold too much; one that does not take it is cut off"
                    );
                    load.whose.send_away();
                }
                // What they held is given back meanwhile.
                looked_for = EVICTION_PAUSE;
                sleep(EVICTION_PAUSE).await;
            }
        }
    }

    /// What everybody holds, and what they have moved since then.
    fn loads(&self, before: &BTreeMap<u64, (u64, u64)>) -> Vec<Load<Arc<ConnectionSlot>>> {
        let load = |slot: Arc<ConnectionSlot>| {
            let before = before.get(&slot.number).copied().unwrap_or_default();
            let (now, account) = (slot.traffic(), &slot.backlog.account);
            let (took, sent) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
            let (coming, headings) = (account.is_coming(), account.headings());
            Load { held: account.own(), took, coming, sent, headings, whose: slot }
        };
        self.slots().into_iter().map(load).collect()
    }
}

/// What somebody makes the hub hold, and the bytes that they took meanwhile; the part of it that is for
/// bodies of theirs which are on their way, and the bytes that they sent; and the part that requests were asked with.
struct Load<T> {
    held: usize,
    took: u64,
    coming: usize,
    sent: u64,
    headings: usize,
    whose: T,
}

impl<T> Load<T> {
    /// How long they would take, in some unit.
    fn time(&self) -> u128 {
        let coming = self.coming.min(self.held);
        let time = |bytes: usize, moved: u64| ((bytes as u128) << 32) / (u128::from(moved) + 1);
        let headings = self.headings.min(self.held - coming);
        time(self.held - coming - headings, self.took)
            + time(coming, self.sent)
            + time(headings, HEADING_BYTES_PER_SECOND)
    }
}

/// Those who would take longest to take what is held for them, until they hold as much as this. Who holds nothing gives
/// back nothing.
fn greedy<T>(mut loads: Vec<Load<T>>, excess: usize) -> Vec<Load<T>> {
    loads.retain(|load| load.held != 0);
    loads.sort_by_key(|load| std::cmp::Reverse(load.time()));
    let mut held = 0;
    let enough = loads.iter().position(|load| {
        let enough = excess <= held;
        held += load.held;
        enough
    });
    loads.truncate(enough.unwrap_or(loads.len()));
    loads
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::super::tests::come;
    use super::*;
    use crate::memory_account::TotalMemory;

    #[test]
    fn who_takes_longest_to_take_what_is_held_is_greedy() {
        let check = |excess, expected: &[&str]| {
            let load =
                |whose, held, took| Load { held, took, coming: 0, sent: 0, headings: 0, whose };
            let loads = vec![
                load("fast", 16 << 20, 8 << 20),
                load("stuck", 16 << 20, 0),
                load("slow", 16 << 20, 1 << 10),
                load("small", 1 << 10, 0),
                load("idle", 0, 0),
                Load { coming: 12 << 20, sent: 1 << 20, ..load("sends", 12 << 20, 0) },
            ];
            let gone: Vec<_> = greedy(loads, excess).iter().map(|load| load.whose).collect();
            assert_eq!(gone, expected, "{excess}");
        };
        check(0, &[]);
        check(1, &["stuck"]);
        check(16 << 20, &["stuck"]);
        check(17 << 20, &["stuck", "slow"]);
        check(usize::MAX, &["stuck", "slow", "small", "sends", "fast"]);
    }

    #[test]
    fn who_sends_slowly_and_who_watches_stay_before_who_takes_slowly() {
        let window = 256 << 10;
        let load = |whose, held| Load { held, took: 0, coming: 0, sent: 0, headings: 0, whose };
        let loads = vec![
            Load {
                coming: (3 << 20) + window,
                sent: 12 << 10,
                ..load("sends", (3 << 20) + window)
            },
            Load { headings: 20 << 10, ..load("watches", 20 << 10) },
            Load { headings: 12 << 20, ..load("asks with much", 12 << 20) },
            Load { took: 1 << 10, ..load("slow", 16 << 20) },
        ];
        let gone: Vec<_> = greedy(loads, usize::MAX).iter().map(|load| load.whose).collect();
        assert_eq!(gone, ["slow", "sends", "asks with much", "watches"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_most_and_takes_least_goes_when_all_hold_too_much() {
        let slots = ConnectionSlots::new(3, 1, Arc::new(TotalMemory::of(128 << 20)));
        let cutter = slots.clone();
        let cutter = tokio::spawn(async move { cutter.cut_off_the_greedy().await });
        let (takes, first) = come(&slots, true).await;
        let (stuck, second) = come(&slots, true).await;
        let (asks, third) = come(&slots, true).await;
        let _held = takes.backlog.account.piece(60 << 20);
        let held = stuck.backlog.account.piece(60 << 20);
        let reader = takes.clone();
        let reader = tokio::spawn(async move {
            loop {
                reader.wrote(4 << 20);
                sleep(OBSERVED_FOR / 10).await;
            }
        });
        let asked = asks.clone();
        let asked = tokio::spawn(async move { asked.backlog.hold(12 << 20).await.is_ok() });
        assert!(second.await.unwrap_err().is_cancelled(), "it holds as much, and takes nothing");
        drop(held);
        assert!(asked.await.unwrap());
        assert!(!first.is_finished() && !third.is_finished());
        reader.abort();
        cutter.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_what_was_shared_goes_and_nobody_else() {
        let all = Arc::new(TotalMemory::of(128 << 20));
        let slots = ConnectionSlots::new(2, 1, all.clone());
        let cutter = slots.clone();
        let cutter = tokio::spawn(async move { cutter.cut_off_the_greedy().await });
        let (keeps, first) = come(&slots, true).await;
        let (asks, second) = come(&slots, true).await;
        // Of one that many were sent, and all the others took.
        let frames = all.share(130 << 20);
        let piece = keeps.backlog.account.shared(frames.clone());
        let asked = tokio::spawn(async move { asks.backlog.hold(12 << 20).await.is_ok() });
        assert!(first.await.unwrap_err().is_cancelled());
        drop((frames, piece));
        assert!(asked.await.unwrap() && !second.is_finished());
        cutter.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_keep_the_same_all_of_them_go() {
        let all = Arc::new(TotalMemory::of(128 << 20));
        let slots = ConnectionSlots::new(101, 1, all.clone());
        let cutter = slots.clone();
        let cutter = tokio::spawn(async move { cutter.cut_off_the_greedy().await });
        let (asks, kept) = come(&slots, true).await;
        let frame = all.share(130 << 20);
        let mut keep = JoinSet::new();
        for _ in 0..100 {
            let (slot, serves) = come(&slots, true).await;
            let piece = slot.backlog.account.shared(frame.clone());
            keep.spawn(async move {
                let _ = serves.await;
                drop((piece, slot));
            });
        }
        drop(frame);
        assert!(asks.backlog.hold(12 << 20).await.is_ok(), "in the time that anybody waits");
        keep.join_all().await;
        assert!(!kept.is_finished());
        cutter.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_shares_and_who_sends_is_told_from_who_takes_nothing() {
        let all = Arc::new(TotalMemory::of(128 << 20));
        let slots = ConnectionSlots::new(4, 1, all.clone());
        let cutter = slots.clone();
        let cutter = tokio::spawn(async move { cutter.cut_off_the_greedy().await });
        let (shares, first) = come(&slots, true).await;
        let (sends, second) = come(&slots, true).await;
        let (takes, third) = come(&slots, true).await;
        let (asks, fourth) = come(&slots, true).await;
        // Of what all have, to cut one off gives little back.
        let frames = all.share(4 << 20);
        let slots = [&shares, &sends, &takes];
        let _shared = slots.map(|slot| slot.backlog.account.shared(frames.clone()));
        let held = sends.backlog.account.piece(60 << 20);
        let _held = takes.backlog.account.piece(60 << 20);
        let moves = tokio::spawn(async move {
            loop {
                sends.read(4 << 20);
                takes.wrote(64 << 10);
                sleep(OBSERVED_FOR / 10).await;
            }
        });
        let asked = tokio::spawn(async move { asks.backlog.hold(12 << 20).await.is_ok() });
        assert!(second.await.unwrap_err().is_cancelled(), "what it sends is nothing that it takes");
        drop(held);
        assert!(asked.await.unwrap());
        assert!(!first.is_finished() && !third.is_finished() && !fourth.is_finished());
        moves.abort();
        cutter.abort();
    }
}

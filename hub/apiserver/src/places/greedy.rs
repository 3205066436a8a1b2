//! Who has to go when all connections together make the hub hold too much.
//!
//! Guarantees:
//! - it is who would take longest to take what is held for them, at the pace of the last second, and as many as it
//!   takes to be an eighth below the bound (`who_takes_longest_to_take_what_is_held_is_greedy`). What they share with
//!   others does not count, and what they send for no more than the bodies that they are sending
//!   (`who_shares_and_who_sends_is_told_from_who_takes_nothing`);
//! - others are let be, and find room (`who_holds_most_and_takes_least_goes_when_all_hold_too_much`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::Places;

/// For how long everybody is looked at before somebody goes.
const LOOKED_FOR: Duration = Duration::from_secs(1);

impl Places {
    /// Cuts off, for ever, who makes the hub hold too much.
    pub(crate) async fn cut_off_the_greedy(&self) {
        loop {
            self.all.short().await;
            let before: BTreeMap<u64, _> =
                self.seats().iter().map(|seat| (seat.number, seat.traffic())).collect();
            self.all.was_short();
            sleep(LOOKED_FOR).await;
            // Who waits looks again and again.
            if !self.all.was_short() {
                continue;
            }
            let loads = self.seats().into_iter().map(|seat| {
                let before = before.get(&seat.number).copied().unwrap_or_default();
                let (now, account) = (seat.traffic(), &seat.unsent.account);
                let (took, sent) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
                let (held, coming) = (account.own(), account.is_coming());
                Load { held, took, coming, sent, whose: seat }
            });
            for load in greedy(loads.collect(), self.all.excess()) {
                let (who, held) = (load.whose.who.get(), load.held);
                warn!(
                    who,
                    held,
                    "clients make the hub hold too much; one that does not take it is cut off"
                );
                load.whose.send_away();
            }
        }
    }
}

/// What somebody makes the hub hold for nobody else, and the bytes that they took meanwhile; the part of it that is for
/// bodies of theirs which are on their way, and the bytes that they sent.
struct Load<T> {
    held: usize,
    took: u64,
    coming: usize,
    sent: u64,
    whose: T,
}

impl<T> Load<T> {
    /// How long they would take, in some unit.
    fn time(&self) -> u128 {
        let coming = self.coming.min(self.held);
        let time = |bytes: usize, moved: u64| ((bytes as u128) << 32) / (u128::from(moved) + 1);
        time(self.held - coming, self.took) + time(coming, self.sent)
    }
}

/// Those who would take longest to take what is held for them, until they hold as much as this.
fn greedy<T>(mut loads: Vec<Load<T>>, excess: usize) -> Vec<Load<T>> {
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
    use std::sync::Arc;

    use super::super::tests::come;
    use super::*;
    use crate::account::All;

    #[test]
    fn who_takes_longest_to_take_what_is_held_is_greedy() {
        let check = |excess, expected: &[&str]| {
            let load = |whose, held, took| Load { held, took, coming: 0, sent: 0, whose };
            let loads = vec![
                load("fast", 16 << 20, 8 << 20),
                load("stuck", 16 << 20, 0),
                load("slow", 16 << 20, 1 << 10),
                load("small", 1 << 10, 0),
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

    #[tokio::test(start_paused = true)]
    async fn who_holds_most_and_takes_least_goes_when_all_hold_too_much() {
        let places = Places::new(3, 1, Arc::new(All::of(128 << 20)));
        let cutter = places.clone();
        let cutter = tokio::spawn(async move { cutter.cut_off_the_greedy().await });
        let (takes, first) = come(&places, true).await;
        let (stuck, second) = come(&places, true).await;
        let (asks, third) = come(&places, true).await;
        let _held = takes.unsent.account.piece(60 << 20, false);
        let held = stuck.unsent.account.piece(60 << 20, false);
        let reader = takes.clone();
        let reader = tokio::spawn(async move {
            loop {
                reader.wrote(4 << 20);
                sleep(LOOKED_FOR / 10).await;
            }
        });
        let asked = asks.clone();
        let asked = tokio::spawn(async move { asked.unsent.hold(12 << 20).await.is_ok() });
        assert!(second.await.unwrap_err().is_cancelled(), "it holds as much, and takes nothing");
        drop(held);
        assert!(asked.await.unwrap());
        assert!(!first.is_finished() && !third.is_finished());
        reader.abort();
        cutter.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_shares_and_who_sends_is_told_from_who_takes_nothing() {
        let all = Arc::new(All::of(128 << 20));
        let places = Places::new(4, 1, all.clone());
        let cutter = places.clone();
        let cutter = tokio::spawn(async move { cutter.cut_off_the_greedy().await });
        let (shares, first) = come(&places, true).await;
        let (sends, second) = come(&places, true).await;
        let (takes, third) = come(&places, true).await;
        let (asks, fourth) = come(&places, true).await;
        // Of what all have, to cut one off gives nothing back.
        let _frames = all.share(4 << 20);
        let _shared = shares.unsent.account.piece(64 << 20, true);
        let held = sends.unsent.account.piece(60 << 20, false);
        let _held = takes.unsent.account.piece(60 << 20, false);
        let moves = tokio::spawn(async move {
            loop {
                sends.read(4 << 20);
                takes.wrote(64 << 10);
                sleep(LOOKED_FOR / 10).await;
            }
        });
        let asked = tokio::spawn(async move { asks.unsent.hold(12 << 20).await.is_ok() });
        assert!(second.await.unwrap_err().is_cancelled(), "what it sends is nothing that it takes");
        drop(held);
        assert!(asked.await.unwrap());
        assert!(!first.is_finished() && !third.is_finished() && !fourth.is_finished());
        moves.abort();
        cutter.abort();
    }
}

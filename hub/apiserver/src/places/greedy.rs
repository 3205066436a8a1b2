//! Who has to go when all connections together make the hub hold too much.
//!
//! Guarantees:
//! - it is who would take longest to take what is held for them, at the pace of the last second, and as many as it
//!   takes to be an eighth below the bound (`who_takes_longest_to_take_what_is_held_is_greedy`);
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
            let before: BTreeMap<u64, u64> =
                self.seats().iter().map(|seat| (seat.number, seat.traffic())).collect();
            self.all.was_short();
            sleep(LOOKED_FOR).await;
            // Who waits looks again and again.
            if !self.all.was_short() {
                continue;
            }
            let loads = self.seats().into_iter().map(|seat| {
                let before = before.get(&seat.number).copied().unwrap_or_default();
                let moved = seat.traffic().saturating_sub(before);
                Load { held: seat.unsent.account.held(), moved, whose: seat }
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

/// What somebody makes the hub hold, and the bytes that came and went there meanwhile.
struct Load<T> {
    held: usize,
    moved: u64,
    whose: T,
}

/// Those who would take longest to take what is held for them, until they hold as much as this.
fn greedy<T>(mut loads: Vec<Load<T>>, excess: usize) -> Vec<Load<T>> {
    let time = |one: &Load<T>, other: &Load<T>| one.held as u128 * (u128::from(other.moved) + 1);
    loads.sort_by(|a, b| time(b, a).cmp(&time(a, b)));
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
            let load = |whose, held, moved| Load { held, moved, whose };
            let loads = vec![
                load("fast", 16 << 20, 8 << 20),
                load("stuck", 16 << 20, 0),
                load("slow", 16 << 20, 1 << 10),
                load("small", 1 << 10, 0),
            ];
            let gone: Vec<_> = greedy(loads, excess).iter().map(|load| load.whose).collect();
            assert_eq!(gone, expected, "{excess}");
        };
        check(0, &[]);
        check(1, &["stuck"]);
        check(16 << 20, &["stuck"]);
        check(17 << 20, &["stuck", "slow"]);
        check(usize::MAX, &["stuck", "slow", "small", "fast"]);
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
}

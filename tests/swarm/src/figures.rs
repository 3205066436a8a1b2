//! What all spokes have seen together, since a mark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use freewheel_link::meter::Carried;
use serde_json::{Value, json};

use crate::line::{ByClass, CLASSES, add};
use crate::seen::{Counts, now};
use crate::socket::{SharedSocket, Traffic};
use crate::spoke::Spoke;

/// Revisions that are told of by their number, the newest first.
const REVISIONS: usize = 8;

/// All that only grows.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    /// Microseconds since 1970.
    pub(crate) at: u64,
    wire: [Traffic; 2],
    lost: u64,
    carried: ByClass,
    counts: [(&'static str, u64); 6],
}

impl Sums {
    pub(crate) fn now<'a>(
        sockets: impl Iterator<Item = &'a SharedSocket>,
        spokes: &[Arc<Spoke>],
        counts: &Counts,
    ) -> Self {
        let (mut wire, mut lost) = ([Traffic::default(); 2], 0);
        for socket in sockets {
            let (up, down) = socket.traffic();
            for (sum, more) in wire.iter_mut().zip([up, down]) {
                sum.packets += more.packets;
                sum.bytes += more.bytes;
            }
            lost += socket.lost();
        }
        let mut carried = ByClass::default();
        for spoke in spokes {
            for (sum, more) in carried.iter_mut().zip(spoke.line.carried()) {
                add(sum, more);
            }
        }
        let read = |name, count: &AtomicU64| (name, count.load(Relaxed));
        let counts = [
            read("greetings", &counts.greetings),
            read("turned_away", &counts.turned_away),
            read("reports", &counts.reports),
            read("plans", &counts.plans),
            read("starts", &counts.starts),
            read("ends", &counts.ends),
        ];
        Self { at: now(), wire, lost, carried, counts }
    }

    /// What came since then.
    pub(crate) fn since(&self, mark: &Self) -> Value {
        let traffic = |now: Traffic, then: Traffic| json!({"packets": now.packets - then.packets, "bytes": now.bytes - then.bytes});
        let [up, down] = [0, 1].map(|way| traffic(self.wire[way], mark.wire[way]));
        let mut told = json!({
            "seconds": seconds(mark.at, self.at),
            "wire": {"up": up, "down": down},
            "lost_packets": self.lost - mark.lost,
        });
        for (at, (_, class)) in CLASSES.iter().enumerate() {
            let (now, then) = (self.carried[at], mark.carried[at]);
            if now != Carried::default() {
                told["carried"][class] = json!({
                    "up": now.sent.saturating_sub(then.sent),
                    "down": now.received.saturating_sub(then.received),
                });
            }
        }
        for ((name, now), (_, then)) in self.counts.iter().zip(mark.counts) {
            told[name] = json!(now - then);
        }
        told
    }
}

/// Seconds between two times in microseconds.
pub(crate) fn seconds(from: u64, to: u64) -> f64 {
    std::time::Duration::from_micros(to.saturating_sub(from)).as_secs_f64()
}

/// How many spokes hold which revision.
pub(crate) fn revisions(spokes: &[Arc<Spoke>]) -> Value {
    let mut all: BTreeMap<u64, usize> = BTreeMap::new();
    for spoke in spokes {
        *all.entry(spoke.seen.held()).or_default() += 1;
    }
    let newest = all.iter().rev().take(REVISIONS);
    let mut told: serde_json::Map<String, Value> =
        newest.map(|(revision, count)| (revision.to_string(), json!(count))).collect();
    let older: usize = all.iter().rev().skip(REVISIONS).map(|(_, count)| count).sum();
    if 0 < older {
        told.insert("older".to_owned(), json!(older));
    }
    Value::Object(told)
}

/// When something came to the first of some spokes, to half, to nearly all, and to the last: microseconds since 1970.
pub(crate) fn spread(mut times: Vec<u64>) -> Value {
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(place).copied()
    };
    json!({"first": times.first(), "p50": at(50), "p99": at(99), "last": times.last()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_from_the_first_to_the_last() {
        let told = spread((1..=200).rev().collect());
        assert_eq!(told, json!({"first": 1, "p50": 100, "p99": 198, "last": 200}));
        assert_eq!(spread(Vec::new())["last"], Value::Null);
    }

    #[test]
    fn what_was_before_the_mark_does_not_count() {
        let counts = Counts::default();
        counts.starts.store(3, Relaxed);
        let mark = Sums::now(std::iter::empty(), &[], &counts);
        counts.starts.store(5, Relaxed);
        let told = Sums::now(std::iter::empty(), &[], &counts).since(&mark);
        assert_eq!((&told["starts"], &told["ends"]), (&json!(2), &json!(0)));
        assert_eq!(told["wire"]["up"], json!({"packets": 0, "bytes": 0}));
    }
}

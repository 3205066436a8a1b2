//! Filter and score.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ask::Ask;
use crate::fleet::{Fleet, Ledger, Seat};
use crate::refusal::{Reason, Refusal};
use crate::resources::Resources;
use crate::taint::{Effect, Taint};

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The Node.
    pub node: Arc<str>,
    /// Where the next search begins, so that a search that stops early is fair to all nodes.
    pub next: usize,
    /// How many nodes were looked at.
    pub looked_at: usize,
}

/// In a large fleet enough good nodes are as good as all of them: this many are always compared.
const ENOUGH: usize = 100;

/// Weights of the scores, each of which runs from 0 to 100.
const ROOM: i64 = 1;
const SPREAD: i64 = 2;
const AFFINITY: i64 = 2;
const TAINTS: i64 = 3;

/// Picks a node of the pod's realm, beginning at `start`; `seed` breaks ties.
///
/// # Errors
/// When no node fits, with every node's reasons.
pub fn decide(fleet: &Fleet, ask: &Ask, start: usize, seed: u64) -> Result<Pick, Refusal> {
    let Some(realm) = fleet.realms.get(&ask.realm) else { return Err(Refusal::default()) };
    let seats = &realm.seats;
    let Some(wanted) = selector(fleet, ask) else { return Err(explain(fleet, ask)) };
    let enough = enough(seats.len());
    let start = start % seats.len().max(1);
    let mut best: Option<(i64, usize)> = None;
    let (mut found, mut ties, mut last, mut looked_at) = (0, 0_u64, start, 0);
    for at in (start..seats.len()).chain(0..start) {
        let seat = &seats[at];
        let ledger = &fleet.ledgers[seat.device];
        looked_at += 1;
        if !fits(seat, ledger, ask, &wanted) {
            continue;
        }
        found += 1;
        last = at;
        let score = score(seat, ledger, ask);
        match best {
            Some((top, _)) if score < top => {}
            Some((top, _)) if score == top => {
                // Every one of n equals wins with the same chance 1/n.
                ties += 1;
                if mix(seed ^ ties).is_multiple_of(ties) {
                    best = Some((score, at));
                }
            }
            _ => {
                ties = 1;
                best = Some((score, at));
            }
        }
        if found == enough {
            break;
        }
    }
    match best {
        Some((_, at)) => Ok(Pick { node: seats[at].node.name.clone(), next: last + 1, looked_at }),
        None => Err(explain(fleet, ask)),
    }
}

/// kube-scheduler's rule: half of 100 nodes and less of more, down to 5 %.
fn enough(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ENOUGH)
}

/// The selector as numbers; `None` when no node anywhere has one of its pairs.
fn selector(fleet: &Fleet, ask: &Ask) -> Option<Vec<u32>> {
    ask.selector.iter().map(|(key, value)| fleet.pairs.find(key, value)).collect()
}

fn fits(seat: &Seat, ledger: &Ledger, ask: &Ask, wanted: &[u32]) -> bool {
    let node = &seat.node;
    (node.ready || tolerates_unready(ask))
        && (!node.unschedulable || tolerates_cordon(ask))
        && has_room(ledger, ask)
        && wanted.iter().all(|pair| seat.pairs.binary_search(pair).is_ok())
        && ask.needs & !node.features == 0
        && untolerated(seat, ask).is_none()
        && matches_affinity(seat, ask)
        && ports_free(ledger, ask)
        && lacking(seat, ledger, ask).next().is_none()
}

/// What of the rare things that the pod asks for is not left.
fn lacking<'a>(seat: &'a Seat, ledger: &'a Ledger, ask: &'a Ask) -> impl Iterator<Item = &'a str> {
    ask.extended.lacking(&ledger.extended, &seat.node.extended)
}

fn has_room(ledger: &Ledger, ask: &Ask) -> bool {
    let (asked, used, all) = (&ask.requests, &ledger.used, &ledger.allocatable);
    let room = |asked: i64, used: i64, all: i64| asked == 0 || asked <= all - used;
    room(asked.pods, used.pods, all.pods)
        && room(asked.cpu, used.cpu, all.cpu)
        && room(asked.memory, used.memory, all.memory)
        && room(asked.storage, used.storage, all.storage)
}

fn untolerated<'a>(seat: &'a Seat, ask: &Ask) -> Option<&'a Taint> {
    seat.node.hard.iter().find(|taint| !ask.tolerations.iter().any(|t| t.tolerates(taint)))
}

fn tolerates(ask: &Ask, key: &str) -> bool {
    if ask.tolerations.is_empty() {
        return false;
    }
    let taint = Taint { key: key.to_owned(), value: String::new(), effect: Effect::NoSchedule };
    ask.tolerations.iter().any(|t| t.tolerates(&taint))
}

fn tolerates_cordon(ask: &Ask) -> bool {
    tolerates(ask, "node.kubernetes.io/unschedulable")
}

/// A spoke that is silent has the taint `unreachable`; who tolerates that may wait for it there.
fn tolerates_unready(ask: &Ask) -> bool {
    tolerates(ask, "node.kubernetes.io/unreachable")
        || tolerates(ask, "node.kubernetes.io/not-ready")
}

fn matches_affinity(seat: &Seat, ask: &Ask) -> bool {
    let node = &seat.node;
    ask.required.is_empty() || ask.required.iter().any(|t| t.matches(&node.name, &node.labels))
}

fn ports_free(ledger: &Ledger, ask: &Ask) -> bool {
    !ask.ports.iter().any(|port| ledger.ports.contains(port))
}

fn score(seat: &Seat, ledger: &Ledger, ask: &Ask) -> i64 {
    let mut total = ROOM * room_left(ledger, ask);
    if ask.group != 0 {
        total += SPREAD * 100 / (1 + i64::from(ledger.in_group(ask.group)));
    }
    if !ask.preferred.is_empty() {
        let node = &seat.node;
        let (mut met, mut all) = (0, 0);
        for (weight, term) in &ask.preferred {
            all += weight;
            met += if term.matches(&node.name, &node.labels) { *weight } else { 0 };
        }
        total += AFFINITY * 100 * met / all.max(1);
    }
    let avoided = seat.node.soft.iter().filter(|t| !ask.tolerations.iter().any(|o| o.tolerates(t)));
    total + TAINTS * 100 / (1 + i64::try_from(avoided.count()).unwrap_or(i64::MAX - 1))
}

/// How much of CPU and memory would be left, in hundredths.
fn room_left(ledger: &Ledger, ask: &Ask) -> i64 {
    let share = |what: fn(&Resources) -> i64| {
        let all = what(&ledger.allocatable);
        if all <= 0 {
            return 0;
        }
        let left = all - what(&ledger.weight) - what(&ask.weight);
        left.max(0).saturating_mul(100) / all
    };
    i64::midpoint(share(|r| r.cpu), share(|r| r.memory))
}

/// splitmix64: spreads a seed over all bits.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Every node's reasons. Only made when nothing fits: a success builds no text.
fn explain(fleet: &Fleet, ask: &Ask) -> Refusal {
    let wanted = selector(fleet, ask);
    let mut refusal = Refusal::default();
    let Some(realm) = fleet.realms.get(&ask.realm) else { return refusal };
    refusal.nodes = realm.seats.len();
    for seat in &realm.seats {
        let ledger = &fleet.ledgers[seat.device];
        reasons(seat, ledger, ask, wanted.as_deref(), &mut refusal.reasons);
    }
    refusal
}

/// The first reason of a node, or everything that it has too little of.
fn reasons(
    seat: &Seat,
    ledger: &Ledger,
    ask: &Ask,
    wanted: Option<&[u32]>,
    counts: &mut BTreeMap<Reason, usize>,
) {
    let mut count = |reason: Reason| *counts.entry(reason).or_default() += 1;
    let selected =
        wanted.is_some_and(|w| w.iter().all(|pair| seat.pairs.binary_search(pair).is_ok()));
    if seat.node.unschedulable && !tolerates_cordon(ask) {
        return count(Reason::Unschedulable);
    }
    if let Some(taint) = untolerated(seat, ask) {
        return count(Reason::tainted(taint));
    }
    if !selected || !matches_affinity(seat, ask) {
        return count(Reason::NoMatch);
    }
    if !seat.node.ready && !tolerates_unready(ask) {
        return count(Reason::NotReady);
    }
    if ask.needs & !seat.node.features != 0 {
        return count(Reason::Unable);
    }
    if !ports_free(ledger, ask) {
        return count(Reason::PortTaken);
    }
    let (asked, used, all) = (&ask.requests, &ledger.used, &ledger.allocatable);
    let short = |asked: i64, used: i64, all: i64| asked != 0 && asked > all - used;
    if short(asked.pods, used.pods, all.pods) {
        count(Reason::TooManyPods);
    }
    for (name, asked, used, all) in [
        ("cpu", asked.cpu, used.cpu, all.cpu),
        ("memory", asked.memory, used.memory, all.memory),
        ("ephemeral-storage", asked.storage, used.storage, all.storage),
    ] {
        if short(asked, used, all) {
            count(Reason::Insufficient(name.into()));
        }
    }
    for name in lacking(seat, ledger, ask) {
        count(Reason::Insufficient(name.to_owned().into()));
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

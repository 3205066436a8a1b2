//! Filter and score.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::{DeviceResources, Fleet, NodeSlot, RealmNodes};
use crate::node::Node;
use crate::pod_request::PodRequest;
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
const FEASIBLE_NODES_ENOUGH: usize = 100;

/// Weights of the scores, each of which runs from 0 to 100.
const ROOM_WEIGHT: i64 = 1;
const SPREAD_WEIGHT: i64 = 2;
const AFFINITY_WEIGHT: i64 = 2;
const TAINTS_WEIGHT: i64 = 3;

/// Picks a node of the pod's realm, beginning at `start`; `seed` breaks ties.
///
/// # Errors
/// When no node fits, with every node's reasons.
pub fn decide(
    fleet: &Fleet,
    request: &PodRequest,
    start: usize,
    seed: u64,
) -> Result<Pick, Refusal> {
    let Some(realm) = fleet.realms.get(&request.realm) else { return Err(Refusal::default()) };
    let slots = &realm.slots;
    let Some(wanted) = selector(fleet, request) else { return Err(explain(fleet, request)) };
    let enough = enough(slots.len());
    let start = start % slots.len().max(1);
    let mut best: Option<(i64, usize)> = None;
    let (mut found, mut ties, mut last, mut looked_at) = (0, 0_u64, start, 0);
    for at in order(realm, request, start) {
        let slot = &slots[at];
        let ledger = &fleet.ledgers[slot.device];
        looked_at += 1;
        if !fits(slot, ledger, request, &wanted) {
            continue;
        }
        found += 1;
        last = at;
        let score = score(slot, ledger, request);
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
        Some((_, at)) => Ok(Pick { node: slots[at].node.name.clone(), next: last + 1, looked_at }),
        None => Err(explain(fleet, request)),
    }
}

/// In which order nodes are looked at: all of them, or the only one that the pod asks for, if it is there.
fn order(
    realm: &RealmNodes,
    request: &PodRequest,
    start: usize,
) -> impl Iterator<Item = usize> + use<> {
    let Some(name) = request.only_node() else { return (start..realm.slots.len()).chain(0..start) };
    realm.slot_of(name).map_or(0..0, |at| at..at + 1).chain(0..0)
}

/// kube-scheduler's rule: half of 100 nodes and less of more, down to 5 %.
fn enough(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(FEASIBLE_NODES_ENOUGH)
}

/// The selector as numbers; `None` when no node anywhere has one of its pairs.
fn selector(fleet: &Fleet, request: &PodRequest) -> Option<Vec<u32>> {
    request.selector.iter().map(|(key, value)| fleet.pairs.find(key, value)).collect()
}

fn fits(slot: &NodeSlot, ledger: &DeviceResources, request: &PodRequest, wanted: &[u32]) -> bool {
    let node = &slot.node;
    (node.ready || tolerates_unready(request))
        && (!node.unschedulable || tolerates_cordon(request))
        && has_room(ledger, request)
        && wanted.iter().all(|pair| slot.pairs.binary_search(pair).is_ok())
        && request.needs & !node.features == 0
        && untolerated(node, request, |_| true).is_none()
        && matches_affinity(node, request)
        && ports_free(ledger, request)
        && lacking(slot, ledger, request).next().is_none()
}

/// What of the rare things that the pod asks for is not left.
fn lacking<'a>(
    slot: &'a NodeSlot,
    ledger: &'a DeviceResources,
    request: &'a PodRequest,
) -> impl Iterator<Item = &'a str> {
    request.extended.lacking(&ledger.extended, &slot.node.extended)
}

fn has_room(ledger: &DeviceResources, request: &PodRequest) -> bool {
    let (asked, used, all) = (&request.requests, &ledger.used, &ledger.allocatable);
    let room = |asked: i64, used: i64, all: i64| asked == 0 || asked <= all - used;
    room(asked.pods, used.pods, all.pods)
        && room(asked.cpu, used.cpu, all.cpu)
        && room(asked.memory, used.memory, all.memory)
        && room(asked.storage, used.storage, all.storage)
}

/// The first taint of such an effect that keeps the pod away.
pub(crate) fn untolerated<'a>(
    node: &'a Node,
    request: &PodRequest,
    of: impl Fn(Effect) -> bool,
) -> Option<&'a Taint> {
    let tolerated = |taint: &Taint| request.tolerations.iter().any(|t| t.tolerates(taint));
    node.hard.iter().find(|taint| of(taint.effect) && !tolerated(taint))
}

fn tolerates(request: &PodRequest, key: &str) -> bool {
    if request.tolerations.is_empty() {
        return false;
    }
    let taint = Taint { key: key.to_owned(), value: String::new(), effect: Effect::NoSchedule };
    request.tolerations.iter().any(|t| t.tolerates(&taint))
}

fn tolerates_cordon(request: &PodRequest) -> bool {
    tolerates(request, "node.kubernetes.io/unschedulable")
}

/// A spoke that is silent has the taint `unreachable`; who tolerates that may wait for it there.
fn tolerates_unready(request: &PodRequest) -> bool {
    tolerates(request, "node.kubernetes.io/unreachable")
        || tolerates(request, "node.kubernetes.io/not-ready")
}

/// As [`selector`] over numbers, of one Node alone.
pub(crate) fn matches_selector(node: &Node, request: &PodRequest) -> bool {
    request.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

pub(crate) fn matches_affinity(node: &Node, request: &PodRequest) -> bool {
    request.required.is_empty()
        || request.required.iter().any(|t| t.matches(&node.name, &node.labels))
}

fn ports_free(ledger: &DeviceResources, request: &PodRequest) -> bool {
    !request.ports.iter().any(|port| ledger.ports.contains(port))
}

fn score(slot: &NodeSlot, ledger: &DeviceResources, request: &PodRequest) -> i64 {
    let mut total = ROOM_WEIGHT * room_left(ledger, request);
    if request.group != 0 {
        total += SPREAD_WEIGHT * 100 / (1 + i64::from(ledger.in_group(request.group)));
    }
    if !request.preferred.is_empty() {
        let node = &slot.node;
        let (mut met, mut all) = (0, 0);
        for (weight, term) in &request.preferred {
            all += weight;
            met += if term.matches(&node.name, &node.labels) { *weight } else { 0 };
        }
        total += AFFINITY_WEIGHT * 100 * met / all.max(1);
    }
    let avoided =
        slot.node.soft.iter().filter(|t| !request.tolerations.iter().any(|o| o.tolerates(t)));
    total + TAINTS_WEIGHT * 100 / (1 + i64::try_from(avoided.count()).unwrap_or(i64::MAX - 1))
}

/// How much of CPU and memory would be left, in hundredths.
fn room_left(ledger: &DeviceResources, request: &PodRequest) -> i64 {
    let share = |what: fn(&Resources) -> i64| {
        let all = what(&ledger.allocatable);
        if all <= 0 {
            return 0;
        }
        let left = all - what(&ledger.weight) - what(&request.weight);
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
fn explain(fleet: &Fleet, request: &PodRequest) -> Refusal {
    let wanted = selector(fleet, request);
    let mut refusal = Refusal::default();
    let Some(realm) = fleet.realms.get(&request.realm) else { return refusal };
    refusal.nodes = realm.slots.len();
    for slot in &realm.slots {
        let ledger = &fleet.ledgers[slot.device];
        reasons(slot, ledger, request, wanted.as_deref(), &mut refusal.reasons);
    }
    refusal
}

/// The first reason of a node, or everything that it has too little of.
fn reasons(
    slot: &NodeSlot,
    ledger: &DeviceResources,
    request: &PodRequest,
    wanted: Option<&[u32]>,
    counts: &mut BTreeMap<Reason, usize>,
) {
    let mut count = |reason: Reason| *counts.entry(reason).or_default() += 1;
    let selected =
        wanted.is_some_and(|w| w.iter().all(|pair| slot.pairs.binary_search(pair).is_ok()));
    if slot.node.unschedulable && !tolerates_cordon(request) {
        return count(Reason::Unschedulable);
    }
    if let Some(taint) = untolerated(&slot.node, request, |_| true) {
        return count(Reason::tainted(taint));
    }
    if !selected || !matches_affinity(&slot.node, request) {
        return count(Reason::NoMatch);
    }
    if !slot.node.ready && !tolerates_unready(request) {
        return count(Reason::NotReady);
    }
    if request.needs & !slot.node.features != 0 {
        return count(Reason::Unable);
    }
    if !ports_free(ledger, request) {
        return count(Reason::PortTaken);
    }
    let (asked, used, all) = (&request.requests, &ledger.used, &ledger.allocatable);
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
    for name in lacking(slot, ledger, request) {
        count(Reason::Insufficient(name.to_owned().into()));
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

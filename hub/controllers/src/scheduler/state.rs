//! What the scheduler knows: the fleet, and the pods that wait for a node. No I/O.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::object::{Header, Key};
use freewheel_hub_placement::node::Node;
use freewheel_hub_placement::{Ask, Fleet, Refusal, decide};
use freewheel_hub_store::{Event, Stored};
use k8s_openapi::api::core::v1;
use tokio::time::Instant;

use crate::engine::Error;
use crate::engine::desk::typed;

/// The scheduler's name in `spec.schedulerName`.
pub(super) const NAME: &str = "default-scheduler";
/// First wait of a pod that fits nowhere.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait after something changed.
const BACKOFF_LAST: Duration = Duration::from_secs(10);
/// Tried again after so long even when nothing changed.
const FLUSH: Duration = Duration::from_secs(300);

/// A pod that has no node yet.
#[derive(Clone, Debug)]
struct Waiting {
    ask: Ask,
    uid: String,
    generation: i64,
    attempts: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its turn will come.
    Active(u64),
    /// It fits nowhere for now: looked at again at `until`, and not before `earliest`.
    Parked { until: Instant, earliest: Instant },
    /// Its binding is being written.
    Binding,
}

/// What to do for one pod.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Write the binding; the fleet has booked it already.
    Bind { pod: Key, uid: String, node: Arc<str> },
    /// Say why not.
    Refuse { pod: Key, uid: String, why: Refusal },
}

/// The whole memory of the scheduler.
#[derive(Default)]
pub(super) struct State {
    fleet: Fleet,
    waiting: HashMap<Key, Waiting>,
    active: BTreeMap<(Reverse<i32>, u64), Key>,
    parked: BTreeSet<(Instant, Key)>,
    sequence: u64,
    seed: u64,
    start: usize,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Takes in what happened to a Node.
    pub(super) fn node(&mut self, event: &Event) -> Result<(), Error> {
        let changed = match (&event.now, &event.before) {
            (Some(stored), _) => {
                let node: v1::Node = typed(stored)?;
                self.fleet.set_node(&stored.key.cluster, Node::read(&node))
            }
            (None, Some(gone)) => {
                self.fleet.remove_node(&gone.key.cluster, &gone.key.name);
                false
            }
            (None, None) => false,
        };
        if changed {
            self.wake();
        }
        Ok(())
    }

    /// Takes in what happened to a pod.
    pub(super) fn pod(&mut self, event: &Event) -> Result<(), Error> {
        match (&event.now, &event.before) {
            (Some(stored), before) => self.pod_is(stored, before.as_deref()),
            (None, Some(gone)) => {
                self.forget(&gone.key);
                self.free(&gone.object.header.uid);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn pod_is(&mut self, stored: &Stored, before: Option<&Stored>) -> Result<(), Error> {
        let header = &stored.object.header;
        let (bound, over) = (!field(header, "spec.nodeName").is_empty(), is_over(header));
        // Most events are status reports of bound pods: nothing to parse.
        if let Some(old) = before.map(|b| &b.object.header).filter(|b| b.uid == header.uid)
            && bound
            && field(old, "spec.nodeName") == field(header, "spec.nodeName")
            && is_over(old) == over
        {
            return Ok(());
        }
        if over {
            self.forget(&stored.key);
            self.free(&header.uid);
            return Ok(());
        }
        if bound {
            let pod: v1::Pod = typed(stored)?;
            let ask = Ask::read(stored.key.cluster.clone(), &pod);
            self.fleet.place(&header.uid, field(header, "spec.nodeName"), &ask);
            self.forget(&stored.key);
            return Ok(());
        }
        if header.deleting || field(header, "spec.schedulerName") != NAME {
            self.forget(&stored.key);
            self.free(&header.uid);
            return Ok(());
        }
        let known = self.waiting.get(&stored.key);
        if known.is_some_and(|w| w.uid == header.uid && w.generation == header.generation) {
            return Ok(());
        }
        let pod: v1::Pod = typed(stored)?;
        self.forget(&stored.key);
        let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref());
        if gates.is_some_and(|g| !g.is_empty()) {
            return Ok(());
        }
        let waiting = Waiting {
            ask: Ask::read(stored.key.cluster.clone(), &pod),
            uid: header.uid.clone(),
            generation: header.generation,
            attempts: 0,
            place: Place::Binding,
        };
        self.waiting.insert(stored.key.clone(), waiting);
        self.activate(&stored.key);
        Ok(())
    }

    /// Decides over the pod whose turn it is.
    pub(super) fn next(&mut self, now: Instant) -> Option<Verdict> {
        self.unpark(now);
        let (_, pod) = self.active.pop_first()?;
        let waiting = self.waiting.get_mut(&pod)?;
        self.seed = self.seed.wrapping_add(1);
        let uid = waiting.uid.clone();
        match decide(&self.fleet, &waiting.ask, self.start, self.seed) {
            Ok(pick) => {
                waiting.place = Place::Binding;
                self.start = pick.next;
                self.fleet.place(&uid, &pick.node, &waiting.ask);
                Some(Verdict::Bind { pod, uid, node: pick.node })
            }
            Err(why) => {
                self.park(&pod, now, FLUSH);
                Some(Verdict::Refuse { pod, uid, why })
            }
        }
    }

    /// When to look again though nothing happened.
    pub(super) fn due(&self) -> Option<Instant> {
        self.parked.first().map(|(at, _)| *at)
    }

    /// A pod is waiting for its turn.
    pub(super) fn has_work(&self) -> bool {
        !self.active.is_empty()
    }

    /// A binding was not written: what it took is free again, and the pod waits a little.
    pub(super) fn not_bound(&mut self, pod: &Key, uid: &str, now: Instant) {
        // Who waits no more was bound by somebody else or went, and is booked or freed by that event.
        if self.waiting.get(pod).is_some_and(|w| w.uid == uid && w.place == Place::Binding) {
            self.fleet.remove(uid);
            self.park(pod, now, BACKOFF_FIRST);
        }
    }

    fn park(&mut self, pod: &Key, now: Instant, wait: Duration) {
        let Some(waiting) = self.waiting.get_mut(pod) else { return };
        let backoff = BACKOFF_FIRST.saturating_mul(1 << waiting.attempts.min(8)).min(BACKOFF_LAST);
        waiting.attempts = waiting.attempts.saturating_add(1);
        let until = now + wait;
        waiting.place = Place::Parked { until, earliest: now + backoff };
        self.parked.insert((until, pod.clone()));
    }

    /// Something changed that may make room.
    fn wake(&mut self) {
        let parked: Vec<Key> = self.parked.iter().map(|(_, key)| key.clone()).collect();
        for key in parked {
            let Some(waiting) = self.waiting.get_mut(&key) else { continue };
            if let Place::Parked { until, earliest } = waiting.place
                && earliest < until
            {
                waiting.place = Place::Parked { until: earliest, earliest };
                self.parked.remove(&(until, key.clone()));
                self.parked.insert((earliest, key));
            }
        }
    }

    fn unpark(&mut self, now: Instant) {
        while let Some((at, _)) = self.parked.first()
            && *at <= now
        {
            let Some((_, key)) = self.parked.pop_first() else { return };
            self.activate(&key);
        }
    }

    fn activate(&mut self, pod: &Key) {
        let Some(waiting) = self.waiting.get_mut(pod) else { return };
        self.sequence += 1;
        waiting.place = Place::Active(self.sequence);
        self.active.insert((Reverse(waiting.ask.priority), self.sequence), pod.clone());
    }

    fn forget(&mut self, pod: &Key) {
        let Some(waiting) = self.waiting.remove(pod) else { return };
        match waiting.place {
            Place::Active(sequence) => {
                self.active.remove(&(Reverse(waiting.ask.priority), sequence));
            }
            Place::Parked { until, .. } => {
                self.parked.remove(&(until, pod.clone()));
            }
            Place::Binding => {}
        }
    }

    fn free(&mut self, uid: &str) {
        if self.fleet.remove(uid) {
            self.wake();
        }
    }
}

fn field<'a>(header: &'a Header, name: &str) -> &'a str {
    header.fields.get(name).map(String::as_str).unwrap_or_default()
}

fn is_over(header: &Header) -> bool {
    matches!(field(header, "status.phase"), "Succeeded" | "Failed")
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

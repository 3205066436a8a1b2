//! What the scheduler knows: the fleet, and the pods that wait for a node. No I/O.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_placement::node::Node;
use freewheel_hub_placement::{Fleet, PodRequest, Refusal, decide};
use freewheel_hub_schema::object::{Header, Key, Resource};
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Event, Expect, Revision, Stored};
use freewheel_link::names::ClusterName;
use k8s_openapi::api::core::v1;
use tokio::time::Instant;

use crate::engine::Error;
use crate::engine::client::typed;

/// The scheduler's name in `spec.schedulerName`.
pub(super) const SCHEDULER_NAME: &str = "default-scheduler";
/// First wait of a pod that fits nowhere.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait after something changed.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Tried again after so long even when nothing changed.
const UNSCHEDULABLE_RETRY_AFTER: Duration = Duration::from_secs(300);
/// The same reason is told again after so long.
const REFUSAL_REPEAT_AFTER: Duration = Duration::from_secs(60);
/// Refusals that are remembered: those of so many different sets of pods.
const REMEMBERED_REFUSALS_MAX: usize = 64;

/// A pod that has no node yet.
#[derive(Clone, Debug)]
struct PendingPod {
    request: PodRequest,
    uid: Uid,
    generation: i64,
    attempts: u32,
    queue: PodQueue,
    /// What it was told last, and when.
    reported: Option<(Refusal, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodQueue {
    /// Its turn will come.
    Active(u64),
    /// It waits out its back-off.
    BackingOff(Instant),
    /// It fits nowhere: looked at again when something gets easier but not before `earliest`, and at
    /// `until` in any case.
    Unschedulable { until: Instant, earliest: Instant },
    /// Its binding is being written.
    Binding,
}

impl PendingPod {
    /// How long it waits at least after this attempt: twice as long as after the one before.
    fn backoff(&mut self) -> Duration {
        let wait = BACKOFF_FIRST.saturating_mul(1 << self.attempts.min(8)).min(BACKOFF_MAX);
        self.attempts = self.attempts.saturating_add(1);
        wait
    }
}

/// What to do for one pod.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// Write the binding, while the Node that was picked is there; the fleet has booked it already.
    Bind { pod: Key, uid: Uid, node: Arc<str>, there: Expect },
    /// Say why not.
    Refuse { pod: Key, uid: Uid, why: Refusal },
    /// Say that it is held back by its gates.
    Gate { pod: Key, uid: Uid },
}

/// The whole memory of the scheduler.
#[derive(Default)]
pub(super) struct SchedulingQueue {
    fleet: Fleet,
    /// When its Nodes were made.
    made: HashMap<Key, Revision>,
    waiting: HashMap<Key, PendingPod>,
    active: BTreeMap<(Reverse<i32>, u64), Key>,
    backing_off: BTreeSet<(Instant, Key)>,
    unschedulable: BTreeSet<(Instant, Key)>,
    /// Pods with gates that do not say so yet.
    gated: Vec<(Key, Uid)>,
    /// Who was refused since the fleet last got easier, so that a thousand equal pods cost one search.
    refusals: Vec<(PodRequest, Refusal)>,
    /// [`Fleet::eased`] then.
    refused_at: u64,
    sequence: u64,
    seed: u64,
    start: usize,
}

impl SchedulingQueue {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Takes in what happened to a Node.
    pub(super) fn node(&mut self, event: &Event) -> Result<(), Error> {
        let changed = match (&event.now, &event.before) {
            (Some(stored), _) => {
                let node: v1::Node = typed(stored)?;
                self.made.insert(stored.key.clone(), stored.created);
                self.fleet.set_node(&stored.key.cluster, Node::read(&node))
            }
            (None, Some(gone)) => {
                self.made.remove(&gone.key);
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
            let request = PodRequest::read(stored.key.cluster.clone(), &pod);
            self.fleet.place(&header.uid, field(header, "spec.nodeName"), &request);
            self.forget(&stored.key);
            return Ok(());
        }
        if header.deleting || field(header, "spec.schedulerName") != SCHEDULER_NAME {
            self.forget(&stored.key);
            self.free(&header.uid);
            return Ok(());
        }
        self.pod_waits(stored)
    }

    /// A pod without a node is to have one, unless it is gated.
    fn pod_waits(&mut self, stored: &Stored) -> Result<(), Error> {
        let header = &stored.object.header;
        let known = self.waiting.get(&stored.key);
        if known.is_some_and(|w| w.uid == header.uid && w.generation == header.generation) {
            return Ok(());
        }
        let pod: v1::Pod = typed(stored)?;
        self.forget(&stored.key);
        let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref());
        if gates.is_some_and(|g| !g.is_empty()) {
            if !says_gated(&pod) {
                self.gated.push((stored.key.clone(), header.uid.clone()));
            }
            return Ok(());
        }
        let waiting = PendingPod {
            request: PodRequest::read(stored.key.cluster.clone(), &pod),
            uid: header.uid.clone(),
            generation: header.generation,
            attempts: 0,
            queue: PodQueue::Binding,
            reported: None,
        };
        self.waiting.insert(stored.key.clone(), waiting);
        self.activate(&stored.key);
        Ok(())
    }

    /// That a Node is the one that was looked at: another device of its name is another one.
    fn there(&self, cluster: &ClusterName, node: &str) -> Expect {
        let key = Key::new(&Resource::new("", "nodes"), cluster, "", node);
        match self.made.get(&key) {
            Some(made) => Expect::Created(key, *made),
            None => Expect::Present(key),
        }
    }

    /// Decides over the pods whose turn it is, up to the first for which something has to be written.
    pub(super) fn next(&mut self, now: Instant) -> Option<Decision> {
        self.leave_backoff(now);
        if let Some((pod, uid)) = self.gated.pop() {
            return Some(Decision::Gate { pod, uid });
        }
        loop {
            let (_, pod) = self.active.pop_first()?;
            let Some(request) = self.waiting.get(&pod).map(|waiting| waiting.request.clone())
            else {
                continue;
            };
            let picked = self.pick(&request);
            let Some(waiting) = self.waiting.get_mut(&pod) else { continue };
            let uid = waiting.uid.clone();
            match picked {
                Ok(node) => {
                    waiting.queue = PodQueue::Binding;
                    self.fleet.place(&uid, &node, &request);
                    let there = self.there(&pod.cluster, &node);
                    return Some(Decision::Bind { pod, uid, node, there });
                }
                Err(why) => {
                    let known = waiting.reported.as_ref();
                    let news = known
                        .is_none_or(|(told, at)| *told != why || *at + REFUSAL_REPEAT_AFTER <= now);
                    if news {
                        waiting.reported = Some((why.clone(), now));
                    }
                    self.unschedulable(&pod, now);
                    if news {
                        return Some(Decision::Refuse { pod, uid, why });
                    }
                }
            }
        }
    }

    fn pick(&mut self, request: &PodRequest) -> Result<Arc<str>, Refusal> {
        if self.refused_at != self.fleet.eased() {
            self.refused_at = self.fleet.eased();
            self.refusals.clear();
        }
        if let Some((_, why)) = self.refusals.iter().find(|(refused, _)| refused == request) {
            return Err(why.clone());
        }
        self.seed = self.seed.wrapping_add(1);
        match decide(&self.fleet, request, self.start, self.seed) {
            Ok(pick) => {
                self.start = pick.next;
                Ok(pick.node)
            }
            Err(why) => {
                if REMEMBERED_REFUSALS_MAX <= self.refusals.len() {
                    self.refusals.clear();
                }
                self.refusals.push((request.clone(), why.clone()));
                Err(why)
            }
        }
    }

    /// When to look again though nothing happened.
    pub(super) fn due(&self) -> Option<Instant> {
        [&self.backing_off, &self.unschedulable]
            .into_iter()
            .filter_map(|s| Some(s.first()?.0))
            .min()
    }

    /// A pod is waiting for its turn.
    pub(super) fn has_work(&self) -> bool {
        !self.active.is_empty() || !self.gated.is_empty()
    }

    /// A binding was not written: what it took is free again, and the pod waits a little.
    pub(super) fn not_bound(&mut self, pod: &Key, uid: &Uid, now: Instant) {
        // Who waits no more was bound by somebody else or went, and is booked or freed by that event.
        let Some(waiting) = self.waiting.get_mut(pod) else { return };
        if waiting.uid == *uid && waiting.queue == PodQueue::Binding {
            waiting.backoff();
            waiting.queue = PodQueue::BackingOff(now + BACKOFF_FIRST);
            self.backing_off.insert((now + BACKOFF_FIRST, pod.clone()));
            self.fleet.remove(uid);
        }
    }

    fn unschedulable(&mut self, pod: &Key, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(pod) else { return };
        let (earliest, until) = (now + waiting.backoff(), now + UNSCHEDULABLE_RETRY_AFTER);
        waiting.queue = PodQueue::Unschedulable { until, earliest };
        self.unschedulable.insert((until, pod.clone()));
    }

    /// Something changed that may make room. Whoever was woken before and still waits out its back-off
    /// is not looked at again.
    fn wake(&mut self) {
        for (_, pod) in std::mem::take(&mut self.unschedulable) {
            let Some(waiting) = self.waiting.get_mut(&pod) else { continue };
            if let PodQueue::Unschedulable { earliest, .. } = waiting.queue {
                waiting.queue = PodQueue::BackingOff(earliest);
                self.backing_off.insert((earliest, pod));
            }
        }
    }

    fn leave_backoff(&mut self, now: Instant) {
        let later = |set: &mut BTreeSet<(Instant, Key)>| {
            let due: Vec<Key> =
                set.iter().take_while(|(at, _)| *at <= now).map(|(_, pod)| pod.clone()).collect();
            for _ in &due {
                set.pop_first();
            }
            due
        };
        let due = [later(&mut self.backing_off), later(&mut self.unschedulable)].concat();
        due.iter().for_each(|pod| self.activate(pod));
    }

    fn activate(&mut self, pod: &Key) {
        let Some(waiting) = self.waiting.get_mut(pod) else { return };
        self.sequence += 1;
        waiting.queue = PodQueue::Active(self.sequence);
        self.active.insert((Reverse(waiting.request.priority), self.sequence), pod.clone());
    }

    fn forget(&mut self, pod: &Key) {
        let Some(waiting) = self.waiting.remove(pod) else { return };
        match waiting.queue {
            PodQueue::Active(sequence) => {
                self.active.remove(&(Reverse(waiting.request.priority), sequence));
            }
            PodQueue::BackingOff(at) => {
                self.backing_off.remove(&(at, pod.clone()));
            }
            PodQueue::Unschedulable { until, .. } => {
                self.unschedulable.remove(&(until, pod.clone()));
            }
            PodQueue::Binding => {}
        }
    }

    fn free(&mut self, uid: &Uid) {
        if self.fleet.remove(uid) {
            self.wake();
        }
    }
}

fn field<'a>(header: &'a Header, name: &str) -> &'a str {
    header.fields.get(name).map(String::as_str).unwrap_or_default()
}

fn says_gated(pod: &v1::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated"))
}

fn is_over(header: &Header) -> bool {
    matches!(field(header, "status.phase"), "Succeeded" | "Failed")
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

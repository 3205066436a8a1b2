//! Gives every pod a node.
//!
//! ```text
//! watch pods, nodes ─▶ State: fleet and waiting pods ─decide─▶ bind transaction (many at once)
//!                        ▲                                            │ refused: free, wait, again
//!                        └────────────────────────────────────────────┘
//! ```
//!
//! Root pods go to any Node of the root; pods of a cluster to its one Node. There is one scheduler for
//! all realms of a hub, and it books a pod before the binding is written, so two pods never take the
//! same room. The binding itself (`spec.nodeName` with condition PodScheduled) goes through the
//! pipeline, as one that a client posts, and holds only if the pod has no node yet and the Node still
//! exists. Several hubs will need the ledger's revision as one more precondition.
//!
//! Guarantees:
//! - what a pod is bound to is booked once, whoever bound it
//!   (`what_is_booked_is_not_given_twice_and_comes_back_when_the_write_fails`,
//!   `a_pod_that_somebody_else_bound_stays_booked`);
//! - a pod that fits nowhere says why in a condition and an event, and is tried again when there is room
//!   (`a_pod_that_fits_nowhere_says_why_and_waits_for_room`, `who_fits_nowhere_is_woken_by_a_better_node`);
//! - what is said once is not said again for a while
//!   (`a_thousand_equal_pods_that_fit_nowhere_cost_one_search_and_are_told_once`).

mod binder;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Event;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, error, warn};

use crate::engine::client::{everywhere, kind};
use crate::engine::{Client, Error};
use binder::Binder;
use queue::{Decision, SchedulingQueue};

/// Writes under way at the same time: enough for the store to make many durable with one sync.
const BINDINGS_AT_ONCE: usize = 512;
/// Decisions before events are looked at again.
const DECISIONS_PER_ROUND: usize = 256;
/// How long to wait before everything is read anew.
const RELIST_PAUSE: Duration = Duration::from_millis(100);

/// The scheduler.
pub struct Scheduler {
    binder: Arc<Binder>,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
    seed: u64,
}

/// Writes that are under way.
///
/// Guarantees: every one of them ends with its pod's name, also when it panics: a pod whose binding was lost
/// with its task would hold its room and wait for ever.
#[derive(Default)]
struct Writes {
    set: JoinSet<Ended>,
    pods: HashMap<Id, (Key, Uid)>,
}

impl Writes {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn spawn(
        &mut self,
        pod: (Key, Uid),
        write: impl Future<Output = Ended> + Send + 'static,
    ) -> Id {
        let span = debug_span!("bind", cluster = %pod.0.cluster, namespace = %pod.0.namespace, pod = %pod.0.name);
        let id = self.set.spawn(write.instrument(span)).id();
        self.pods.insert(id, pod);
        id
    }

    async fn next(&mut self) -> Option<Ended> {
        match self.set.join_next_with_id().await? {
            Ok((id, ended)) => {
                self.pods.remove(&id);
                Some(ended)
            }
            Err(died) => {
                error!(error = %died, "a write of the scheduler panicked");
                let (pod, uid) = self.pods.remove(&died.id())?;
                Some(Ended { pod, uid, bound: Some(false) })
            }
        }
    }
}

/// A write that ended.
#[derive(Debug)]
struct Ended {
    pod: Key,
    uid: Uid,
    /// Whether it was a binding, and if so whether it is written.
    bound: Option<bool>,
}

impl Scheduler {
    /// Writes through this client; `seed` breaks ties.
    pub fn new(client: Client, seed: u64) -> Result<Self, Error> {
        let (pods, nodes) = (kind("", "v1", "pods")?, kind("", "v1", "nodes")?);
        Ok(Self { binder: Arc::new(Binder { client, pods: pods.clone() }), pods, nodes, seed })
    }

    /// Schedules until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Whatever is under way when the scheduler falls behind is waited for, so that what is
            // read anew has it.
            let mut writes = Writes::default();
            self.follow(&mut writes, &stop).await;
            while writes.next().await.is_some() {}
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELIST_PAUSE) => {}
            }
        }
    }

    /// Reads everything and follows the store until it is cancelled or falls behind.
    async fn follow(&self, writes: &mut Writes, stop: &CancellationToken) {
        let mut state = SchedulingQueue::new(self.seed);
        let store = self.binder.client.objects().store().clone();
        let snapshot = store.snapshot();
        for kind in [&self.nodes, &self.pods] {
            for stored in snapshot.range(&everywhere(kind), None) {
                let event = Event { revision: stored.revision, now: Some(stored), before: None };
                self.take_in(&mut state, &event);
            }
        }
        let scopes = vec![everywhere(&self.nodes), everywhere(&self.pods)];
        let Ok(mut watch) = store.watch(scopes, snapshot.revision()) else { return };
        drop(snapshot);
        loop {
            self.decide(&mut state, writes);
            let due = state.due();
            let busy = state.has_work() && writes.len() < BINDINGS_AT_ONCE;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                events = watch.next() => {
                    let Ok(events) = events else {
                        debug!("the scheduler fell behind and reads the store anew");
                        return;
                    };
                    events.iter().for_each(|event| self.take_in(&mut state, event));
                }
                Some(ended) = writes.next(), if 0 < writes.len() => settle(&mut state, &ended),
                () = until(due), if due.is_some() => {}
                () = tokio::task::yield_now(), if busy => {}
            }
        }
    }

    fn take_in(&self, state: &mut SchedulingQueue, event: &Event) {
        let Some(key) = event.key() else { return };
        let taken =
            if key.resource == *self.pods.storage() { state.pod(event) } else { state.node(event) };
        if let Err(unreadable) = taken {
            error!(cluster = %key.cluster, pod = %key.name, error = %unreadable.chain(),
                "the scheduler cannot read an object");
        }
    }

    fn decide(&self, state: &mut SchedulingQueue, writes: &mut Writes) {
        let now = Instant::now();
        for _ in 0..DECISIONS_PER_ROUND {
            if BINDINGS_AT_ONCE <= writes.len() {
                return;
            }
            let Some(verdict) = state.next(now) else { return };
            let binder = self.binder.clone();
            match verdict {
                Decision::Bind { pod, uid, node, there } => {
                    writes.spawn((pod.clone(), uid.clone()), async move {
                        let bound = binder.bind(&pod, &uid, (&node, &there)).await;
                        if let Err(failed) = &bound {
                            warn!(cluster = %pod.cluster, pod = %pod.name, error = %failed.chain(),
                            "a binding was not written");
                        }
                        Ended { pod, uid, bound: Some(matches!(bound, Ok(true))) }
                    })
                }
                Decision::Refuse { pod, uid, why } => {
                    writes.spawn((pod.clone(), uid.clone()), async move {
                        if let Err(failed) = binder.refuse(&pod, &uid, &why).await {
                            debug!(cluster = %pod.cluster, pod = %pod.name, error = %failed.chain(),
                            "a refusal was not written");
                        }
                        Ended { pod, uid, bound: None }
                    })
                }
                Decision::Gate { pod, uid } => {
                    writes.spawn((pod.clone(), uid.clone()), async move {
                        if let Err(failed) = binder.gate(&pod, &uid).await {
                            debug!(cluster = %pod.cluster, pod = %pod.name, error = %failed.chain(),
                            "that a pod is held back was not written");
                        }
                        Ended { pod, uid, bound: None }
                    })
                }
            };
        }
    }
}

/// A pod whose binding was not written waits again.
fn settle(state: &mut SchedulingQueue, ended: &Ended) {
    if ended.bound == Some(false) {
        state.not_bound(&ended.pod, &ended.uid, Instant::now());
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    use super::*;

    #[tokio::test]
    async fn a_binding_that_panics_ends_with_its_pod() {
        let pod = Key::new(&Resource::new("", "pods"), &ClusterName::root(), "default", "web");
        let mut writes = Writes::default();
        let _ = writes.spawn((pod.clone(), "u".into()), async { panic!("a bug") });
        let ended = writes.next().await.unwrap();
        assert_eq!((ended.pod, &*ended.uid, ended.bound), (pod, "u", Some(false)));
        assert!(writes.next().await.is_none() && writes.pods.is_empty());
    }
}

//! Which pods of a DaemonSet come and go: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_placement::daemon::DaemonFit;
use freewheel_hub_store::Stored;

use crate::pods::Availability;

/// How pods are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// When somebody deletes them.
    OnDelete,
    /// A few at a time, within these bounds in nodes.
    Rolling {
        /// Nodes that may have two pods meanwhile.
        surge: usize,
        /// Nodes that may have none that serves.
        unavailable: usize,
    },
}

/// A pod of the set.
#[derive(Clone, Debug)]
pub(super) struct DaemonPod {
    pub(super) stored: Arc<Stored>,
    /// It is bound.
    pub(super) bound: bool,
    /// status.phase
    pub(super) phase: Phase,
    pub(super) ready: bool,
    pub(super) availability: Availability,
    /// It is of the present template.
    pub(super) updated: bool,
}

/// What of status.phase counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Failed,
    Succeeded,
    Other,
}

impl DaemonPod {
    fn is_deleting(&self) -> bool {
        self.stored.object.header.deleting
    }

    pub(super) fn is_available(&self) -> bool {
        self.availability == Availability::Yes
    }

    /// Bound ones first, then the oldest.
    pub(super) fn order(&self) -> (bool, u64, &str) {
        (!self.bound, self.stored.created, &self.stored.key.name)
    }
}

/// A node with the set's pods on it.
#[derive(Clone, Debug)]
pub(super) struct DaemonNode {
    pub(super) fit: DaemonFit,
    pub(super) pods: Vec<DaemonPod>,
}

/// The nodes, and the pods of nodes that are no more.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleet {
    pub(super) nodes: BTreeMap<Arc<str>, DaemonNode>,
    pub(super) elsewhere: Vec<DaemonPod>,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Nodes that get a pod.
    pub(super) create: Vec<Arc<str>>,
    /// Pods that go.
    pub(super) delete: Vec<Arc<Stored>>,
    /// Pods that failed on their nodes, and go when it is time.
    pub(super) failed: Vec<(Arc<str>, Arc<Stored>)>,
    /// Pods that ended, though daemons do not, with their nodes; they go.
    pub(super) ended: Vec<(Arc<str>, Arc<Stored>)>,
}

/// One pod on every node that is to have one, and none elsewhere.
pub(super) fn manage(fleet: &Fleet, surges: bool) -> Changes {
    let mut changes = Changes::default();
    for (name, node) in &fleet.nodes {
        if node.fit.should_run && node.pods.is_empty() {
            changes.create.push(name.clone());
        } else if node.fit.should_continue {
            keep(name, node, surges, &mut changes);
        } else {
            let staying = node.pods.iter().filter(|pod| !pod.is_deleting());
            changes.delete.extend(staying.map(|pod| pod.stored.clone()));
        }
    }
    // What was never bound to a node that is gone is nobody else's to delete.
    let stranded = fleet.elsewhere.iter().filter(|pod| !pod.bound && !pod.is_deleting());
    changes.delete.extend(stranded.map(|pod| pod.stored.clone()));
    changes
}

/// What of the pods on a node that may have some is too many, or missing.
fn keep(name: &Arc<str>, node: &DaemonNode, surges: bool, changes: &mut Changes) {
    let mut running = Vec::new();
    for pod in node.pods.iter().filter(|pod| !pod.is_deleting()) {
        match pod.phase {
            Phase::Failed => changes.failed.push((name.clone(), pod.stored.clone())),
            Phase::Succeeded => changes.ended.push((name.clone(), pod.stored.clone())),
            Phase::Other => running.push(pod),
        }
    }
    running.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut delete = |pod: &DaemonPod| changes.delete.push(pod.stored.clone());
    if !surges {
        running.iter().skip(1).for_each(|pod| delete(pod));
        return;
    }
    if running.is_empty() {
        if node.fit.should_run {
            changes.create.push(name.clone());
        }
        return;
    }
    if running.len() == 1 {
        return;
    }
    let (mut new, mut old) = (None, None);
    for pod in running {
        let oldest = if pod.updated { &mut new } else { &mut old };
        if oldest.is_none() {
            *oldest = Some(pod);
        } else {
            delete(pod);
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!old.ready || new.is_available())
    {
        delete(old);
    }
}

/// The new and the old pod of a node; `None` when there are several of one kind, which is not for a rollout to settle.
fn pair(node: &DaemonNode) -> Option<(Option<&DaemonPod>, Option<&DaemonPod>)> {
    let (mut new, mut old) = (None, None);
    for pod in node.pods.iter().filter(|pod| !pod.is_deleting()) {
        if (if pod.updated { &mut new } else { &mut old }).replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// The nodes that a rollout is about: those that have pods, or are to have one.
fn concerned(fleet: &Fleet) -> impl Iterator<Item = (&Arc<str>, &DaemonNode)> {
    fleet.nodes.iter().filter(|(_, node)| node.fit.should_run || !node.pods.is_empty())
}

/// The next old pods to go, when no node has two.
pub(super) fn replace(fleet: &Fleet, unavailable: usize) -> Changes {
    let (mut missing, mut delete, mut candidates) = (0, Vec::new(), Vec::new());
    for (_, node) in concerned(fleet) {
        match pair(node) {
            Some((None, Some(old))) if old.is_available() => candidates.push(old.stored.clone()),
            // It serves nobody: what comes in its place can only be better.
            Some((None, Some(old))) => {
                delete.push(old.stored.clone());
                missing += 1;
            }
            Some((Some(new), None)) if new.is_available() => {}
            _ => missing += 1,
        }
    }
    candidates.truncate(unavailable.saturating_sub(missing));
    delete.extend(candidates);
    Changes { delete, ..Changes::default() }
}

/// The next nodes to get a second pod, and the old ones that have done their work.
pub(super) fn surge(fleet: &Fleet, surge: usize) -> Changes {
    let (mut create, mut delete) = (Vec::new(), Vec::new());
    let (mut candidates, mut leaving) = (Vec::new(), Vec::new());
    let (mut surging, mut available, mut wanted) = (0, 0, 0);
    for (name, node) in concerned(fleet) {
        wanted += usize::from(node.fit.should_run);
        let Some((new, old)) = pair(node) else {
            surging += 1;
            continue;
        };
        available += usize::from(old.or(new).is_some_and(DaemonPod::is_available));
        match (new, old) {
            (_, None) => {}
            (Some(new), Some(old)) if new.is_available() => delete.push(old.stored.clone()),
            (Some(_), Some(_)) => surging += 1,
            (None, Some(old)) => match (old.is_available(), node.fit.should_run) {
                (false, true) => create.push(name.clone()),
                (false, false) => delete.push(old.stored.clone()),
                (true, true) => candidates.push(name.clone()),
                (true, false) => leaving.push(old.stored.clone()),
            },
        }
    }
    // Who leaves a node serves until somebody else does in its place.
    leaving.truncate(available.saturating_sub(wanted));
    delete.extend(leaving);
    candidates.truncate(surge.saturating_sub(surging));
    create.extend(candidates);
    Changes { create, delete, ..Changes::default() }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

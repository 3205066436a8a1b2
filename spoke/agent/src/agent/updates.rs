//! What the sources want of pods → the pods.
//!
//! Guarantees:
//! - a pod that is gone is not taken on again while its source wants it deleted, and is forgotten when it is not wanted
//!   any more (`of_a_deleted_pod_nothing_stays_in_memory`);
//! - a pod whose record cannot be read goes on as it was, and goes when it is deleted or not wanted any more
//!   (`a_record_that_cannot_be_read_does_not_end_its_pod`, `a_pod_that_cannot_be_read_goes_with_its_record`,
//!   `the_end_of_a_pod_is_confirmed_also_when_its_record_cannot_be_read`).

use freewheel_link::plan::PodV1;
use tracing::warn;

use super::pod_source::{PodRef, PodUpdate};
use super::{Agent, plan_source};
use crate::ledger::PodSource;
use crate::pods::{Pod, Sandbox};

/// What is said of a pod whose record cannot be read.
const UNREADABLE: &str = "the agent of this node cannot read the pod's record: upgrade the spoke";

/// What is said of a container that runs within other limits than it is asked to.
const RESIZED: &str =
    "a container that runs keeps its limits: the new ones hold from its next start";

impl Agent {
    /// Whether its source still wants a pod.
    pub(super) fn is_wanted(&self, pod: PodRef<'_>) -> bool {
        match pod.source {
            PodSource::Plan => plan_source::wants(self.ledger.records(), pod),
        }
    }

    /// UIDs of all pods that a source wants.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &str> {
        plan_source::uids(self.ledger.records())
    }

    /// Takes over what the source of a pod wants of it.
    pub(super) fn update_pod(&mut self, pod: PodRef<'_>, update: PodUpdate) {
        let PodRef { source, realm, uid } = pod;
        if self.pods.get(uid).is_some_and(|pod| (&pod.realm, pod.source) != (realm, source)) {
            warn!(pod = uid, cluster = %realm, "a record names a pod of another cluster");
            return;
        }
        match update {
            PodUpdate::Set(spec, lacks) => self.set_pod(pod, *spec, lacks),
            PodUpdate::Delete(grace) => self.delete_unread(pod, grace),
            PodUpdate::Unreadable => self.keep_unread(uid),
            PodUpdate::Remove => self.remove_pod(pod),
        }
    }

    /// Keeps a pod down, or lets it run again, as what protects it is known here.
    pub(super) fn guard_pod(&mut self, PodRef { source, realm, uid }: PodRef<'_>) {
        let is_it = |pod: &&mut Pod| (&pod.realm, pod.source) == (realm, source);
        let Some(pod) = self.pods.get_mut(uid).filter(is_it) else { return };
        let guard = match source {
            PodSource::Plan => self.plan.guard(realm, &pod.spec.namespace),
        };
        if pod.guard == guard {
            return;
        }
        pod.guard.clone_from(&guard);
        if let Some((reason, message)) = guard {
            self.event(uid, None, true, &reason, message);
        }
        self.turns.touch(uid);
    }

    fn set_pod(&mut self, pod: PodRef<'_>, spec: PodV1, lacks: Option<(String, String)>) {
        let uid = pod.uid;
        // A hub that was put back to before the deletion wants it again.
        if self.gone.contains(uid) && spec.deleting.is_some() {
            self.status.repeat_farewell(uid);
            return;
        }
        self.gone.remove(uid);
        let before = self.pods.get(uid).and_then(|pod| pod.refused.clone());
        let resized = self.pods.get(uid).map(|pod| pod.resized_by(&spec)).unwrap_or_default();
        if self.take_over(pod, spec) {
            for which in resized {
                self.event(uid, Some(which), true, "ResizeDeferred", RESIZED.to_owned());
            }
        } else {
            let text = "the containers of a pod cannot change: it goes on as it was";
            self.event(uid, None, true, "InvalidPod", text.to_owned());
        }
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if let Some(lacks) = lacks {
            pod.refused = Some(lacks);
        }
        if pod.refused != before
            && let Some((reason, message)) = pod.refused.clone()
        {
            self.event(uid, None, true, &reason, message);
        }
        self.refresh_volumes(uid);
        self.turns.touch(uid);
    }

    /// Makes the pod, or changes it; `false`: its containers would have to be others.
    fn take_over(&mut self, PodRef { source, realm, uid }: PodRef<'_>, spec: PodV1) -> bool {
        let (now, unix) = self.time();
        if let Some(pod) = self.pods.get_mut(uid) {
            if self.status.is_refused(uid) {
                // There may be room for it now.
                pod.reported = None;
            }
            return pod.update(spec, now);
        }
        let left = self.sandboxes.left_of(uid, self.ledger.pods().get(uid));
        let is_new = left.is_nothing();
        let pod = Pod::new(source, realm.clone(), spec, left, (now, unix));
        self.pods.insert(uid.to_owned(), pod);
        if is_new {
            self.admit(uid);
        }
        self.hold_new(uid);
        true
    }

    fn remove_pod(&mut self, pod: PodRef<'_>) {
        let (now, uid) = (self.ports.clock.now(), pod.uid);
        self.gone.remove(uid);
        self.status.unplanned(uid);
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.dropped(now);
            self.turns.touch(uid);
        } else if self.ledger.pods().contains_key(uid) {
            // This life could never read it.
            self.clean(pod, Sandbox::Absent);
        }
    }

    /// Not what the source wants gone, but what this agent cannot read: whatever is there of it stays.
    fn keep_unread(&mut self, uid: &str) {
        if self.pods.contains_key(uid) {
            let text = format!("{UNREADABLE}; the pod goes on as it was");
            self.event(uid, None, true, "UnreadableRecord", text);
        } else if let Some(state) = self.ledger.pods().get(uid) {
            self.status.unreadable(state, UNREADABLE);
        }
    }

    /// The hub waits for the word that it is gone, whatever else its record says.
    fn delete_unread(&mut self, pod: PodRef<'_>, grace: u32) {
        let (now, uid) = (self.ports.clock.now(), pod.uid);
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.delete(grace, now);
            self.turns.touch(uid);
        } else if self.gone.insert(uid.to_owned()) {
            // This life could never read it, so nothing of it runs.
            self.clean(pod, Sandbox::Absent);
        } else {
            self.status.repeat_farewell(uid);
        }
    }
}

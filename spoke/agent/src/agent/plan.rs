//! Records of a plan → what the agent has: pods, addresses, services, configuration.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{
    BadBody, ConfigV1, Kind, NodeV1, PodHeadV1, PodV1, Record, RecordKey, ServiceV1,
};
use tracing::{info, warn};

use super::Agent;
use crate::pods::{Left, Pod};
use crate::ports::PlanPart;
use crate::{admission, volumes};

/// What is said of a pod whose record cannot be read.
const UNREADABLE: &str = "the agent of this node cannot read the pod's record: upgrade the spoke";

impl Agent {
    /// At the start: everything in the ledger, in the order that pods need it.
    pub(super) fn restore(&mut self) {
        let states: Vec<_> = self.ledger.pods().values().cloned().collect();
        for state in &states {
            self.homes.keep(state);
        }
        let keys: Vec<RecordKey> = self.ledger.records().iter().map(|r| r.key.clone()).collect();
        self.apply_records(&keys);
        for state in states {
            let (realm, uid) = (state.realm, state.uid);
            let key = RecordKey { realm, kind: Kind::POD_V1, key: uid };
            if !self.pods.contains_key(&key.key) && self.ledger.records().get(&key).is_none() {
                // Its record went while the agent was down or in its last moment; its containers went with the agent.
                self.clean(&key.realm, &key.key);
            }
        }
    }

    pub(super) fn apply_plan(&mut self, part: PlanPart) {
        let (to, snapshot) = (part.to, part.snapshot);
        match self.ledger.keep_plan(part) {
            Ok(Some(touched)) => {
                info!(generation = to.revision, snapshot, records = touched.len(), "plan taken");
                self.apply_records(&touched);
                self.keep.plan_taken();
                self.sweep.soon();
            }
            Ok(None) => {
                // The hub compares what is held with what it thinks, and sends a snapshot.
                warn!(generation = to.revision, "plan does not build on what is held");
                self.acknowledge();
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "plan cannot be kept");
            }
        }
    }

    /// Looks at every key again: what is there now, or is gone.
    fn apply_records(&mut self, keys: &[RecordKey]) {
        let mut realms = BTreeSet::new();
        let changed = self.apply_guards(keys);
        for key in keys.iter().chain(&changed) {
            match key.kind {
                Kind::POD_V1 => self.apply_pod(key),
                Kind::CONFIG_MAP_V1 | Kind::SECRET_V1 => self.apply_config(key),
                Kind::SERVICE_V1 => self.apply_service(key),
                Kind::POD_CIDR_V1 => {
                    realms.insert(key.realm.clone());
                }
                Kind::NODE_V1 => self.apply_node(key),
                // Of a newer hub: kept in the ledger for the agent that understands it.
                Kind(other) => warn!(kind = other, key = key.key, "record of an unknown kind"),
            }
        }
        for realm in realms {
            self.apply_pod_cidrs(&realm);
        }
        self.meter.apply_limits(self.pods.values(), self.ports.clock.now());
        self.images.look_again();
    }

    /// Takes up what records of unknown kinds need of this agent; answers with the pods to look at again. What
    /// protects a realm must not be missing from it because its spoke is too old to read it.
    fn apply_guards(&mut self, keys: &[RecordKey]) -> Vec<RecordKey> {
        let unknown = |key: &RecordKey| Kind::NODE_V1 < key.kind;
        if !keys.iter().any(unknown) {
            return Vec::new();
        }
        let mut guards = BTreeMap::new();
        for record in self.ledger.records().iter().filter(|record| unknown(&record.key)) {
            *guards.entry(record.key.realm.clone()).or_default() |= record.needs;
        }
        let before = std::mem::replace(&mut self.guards, guards);
        let of =
            |guards: &BTreeMap<ClusterName, u64>, realm: &ClusterName| guards.get(realm).copied();
        let records = self.ledger.records().iter().map(|record| &record.key);
        records
            .filter(|key| key.kind == Kind::POD_V1)
            .filter(|key| of(&before, &key.realm) != of(&self.guards, &key.realm))
            .cloned()
            .collect()
    }

    fn apply_pod(&mut self, key: &RecordKey) {
        let uid = key.key.as_str();
        if self.pods.get(uid).is_some_and(|pod| pod.realm != key.realm) {
            warn!(pod = uid, cluster = %key.realm, "a record names a pod of another cluster");
            return;
        }
        let Some(record) = self.ledger.records().get(key) else { return self.drop_pod(key) };
        match record.body::<PodV1>() {
            Ok(spec) if spec.uid == uid => {
                let guard = self.guards.get(&key.realm).copied().unwrap_or_default();
                let needs = admission::check_needs(record.needs | guard).err();
                self.apply_spec(key, spec, needs);
            }
            Ok(_) => warn!(pod = uid, "a record is filed under another pod's UID"),
            Err(error) => self.cannot_read_pod(key, &error),
        }
    }

    /// The plan has it no more.
    fn drop_pod(&mut self, key: &RecordKey) {
        let (now, uid) = (self.ports.clock.now(), key.key.as_str());
        self.gone.remove(uid);
        self.status.unplanned(uid);
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.dropped(now);
            self.turns.touch(uid);
        } else if self.ledger.pods().contains_key(uid) {
            // This life could never read it.
            self.clean(&key.realm, uid);
        }
    }

    /// Not what the plan wants gone, but what this agent cannot read: whatever is there of it stays.
    fn cannot_read_pod(&mut self, key: &RecordKey, error: &BadBody) {
        let uid = key.key.as_str();
        warn!(error = error as &dyn std::error::Error, pod = uid, "a pod's record cannot be read");
        let head: Option<PodHeadV1> =
            self.ledger.records().get(key).and_then(|record| record.head());
        if let Some(grace) = head.filter(|head| head.uid == uid).and_then(|head| head.deleting) {
            return self.delete_unread(key, grace);
        }
        if self.pods.contains_key(uid) {
            let text = format!("{UNREADABLE}; the pod goes on as it was");
            self.event(uid, None, true, "UnreadableRecord", text);
        } else if let Some(state) = self.ledger.pods().get(uid) {
            self.status.unreadable(state, UNREADABLE);
        }
    }

    /// The hub waits for the word that it is gone, whatever else its record says.
    fn delete_unread(&mut self, key: &RecordKey, grace: u32) {
        let (now, uid) = (self.ports.clock.now(), key.key.as_str());
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.delete(grace, now);
            self.turns.touch(uid);
        } else if self.gone.insert(uid.to_owned()) {
            // This life could never read it, so nothing of it runs.
            self.clean(&key.realm, uid);
        }
    }

    fn apply_spec(&mut self, key: &RecordKey, spec: PodV1, needs: Option<(String, String)>) {
        let (now, unix) = self.time();
        let uid = key.key.as_str();
        // A hub that was put back to before the deletion wants it again.
        if self.gone.contains(uid) && spec.deleting.is_some() {
            return;
        }
        self.gone.remove(uid);
        let before = self.pods.get(uid).and_then(|pod| pod.refused.clone());
        let mut same_shape = true;
        match self.pods.get_mut(uid) {
            Some(pod) => {
                same_shape = pod.update(spec, now);
                if self.status.is_refused(uid) {
                    // There may be room for it now.
                    pod.said = None;
                }
            }
            None => {
                let left = self.left_of(uid);
                let is_new = left.is_nothing();
                let pod = Pod::new(key.realm.clone(), spec, left, (now, unix));
                self.pods.insert(uid.to_owned(), pod);
                if is_new {
                    self.refuse_under_pressure(uid);
                }
                self.hold_new(uid);
            }
        }
        if !same_shape {
            let text = "the containers of a pod cannot change: it goes on as it was";
            self.event(uid, None, true, "InvalidPod", text.to_owned());
        }
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if let Some(needs) = needs {
            pod.refused = Some(needs);
        }
        if pod.refused != before
            && let Some((reason, message)) = pod.refused.clone()
        {
            self.event(uid, None, true, &reason, message);
        }
        self.refresh_volumes(uid);
        self.turns.touch(uid);
    }

    /// What earlier lives have left of a pod that this one has not taken on yet.
    fn left_of(&mut self, uid: &str) -> Left<'_> {
        let mut logged = BTreeMap::new();
        if admission::is_path_segment(uid) {
            match volumes::logged_starts(&*self.files, &self.data, uid) {
                Ok(found) => logged = found,
                Err(error) => warn!(pod = uid, %error, "the logs of a pod cannot be looked at"),
            }
        }
        Left { lease: self.homes.take_kept(uid), state: self.ledger.pods().get(uid), logged }
    }

    /// Whether there is a record under this key that this agent cannot read: what it was before goes on.
    fn is_unreadable<B: serde::de::DeserializeOwned>(&self, key: &RecordKey) -> bool {
        let record = self.ledger.records().get(key);
        let error = record.and_then(|record| record.body::<B>().err());
        if let Some(error) = &error {
            warn!(error = error as &dyn std::error::Error, "record cannot be read");
        }
        error.is_some()
    }

    fn apply_config(&mut self, key: &RecordKey) {
        if self.is_unreadable::<ConfigV1>(key) {
            return;
        }
        let (namespace, name) = key.key.split_once('/').unwrap_or_default();
        let concerned: Vec<String> = self
            .pods
            .values()
            .filter(|pod| pod.realm == key.realm && pod.spec.namespace == namespace)
            .filter(|pod| volumes::names_config(&pod.spec, key.kind, name))
            .map(|pod| pod.spec.uid.clone())
            .collect();
        for uid in concerned {
            if let Some(pod) = self.pods.get_mut(&uid) {
                pod.forget_failures();
            }
            self.refresh_volumes(&uid);
            self.turns.touch(&uid);
        }
    }

    /// Brings mounted configuration up to date. What cannot be made stays as it was.
    fn refresh_volumes(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        if !pod.sandbox.is_ready() || pod.termination.is_some() || !volumes::shows_config(&pod.spec)
        {
            return;
        }
        if let Err(error) = self.make_volumes(pod) {
            warn!(pod = uid, error, "mounted configuration is not up to date");
        }
    }

    fn apply_service(&mut self, key: &RecordKey) {
        let Some((namespace, name)) = key.key.split_once('/') else { return };
        if self.is_unreadable::<ServiceV1>(key) {
            return;
        }
        let service = self.read::<ServiceV1>(key).map(|(_, body)| body);
        self.homes.set_service(&key.realm, (namespace, name), service);
    }

    fn apply_pod_cidrs(&mut self, realm: &ClusterName) {
        let ranges = self
            .ledger
            .records()
            .iter()
            .filter(|record| record.key.kind == Kind::POD_CIDR_V1 && record.key.realm == *realm)
            .filter_map(|record| record.body().ok());
        self.homes.set_ranges(realm, ranges);
        self.find_strays(realm);
        let waiting = self.pods.values().filter(|pod| pod.realm == *realm && pod.ip().is_none());
        for pod in waiting {
            self.turns.touch(&pod.spec.uid);
        }
    }

    fn apply_node(&mut self, key: &RecordKey) {
        if let Some((_, node)) = self.read::<NodeV1>(key) {
            self.homes.set_domain(node.domain);
        }
    }

    /// The record under a key and its body, if there is one that can be read.
    pub(super) fn read<B: serde::de::DeserializeOwned>(
        &self,
        key: &RecordKey,
    ) -> Option<(&Record, B)> {
        let record = self.ledger.records().get(key)?;
        match record.body() {
            Ok(body) => Some((record, body)),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "record cannot be read");
                None
            }
        }
    }

    /// A ConfigMap or Secret as the plan has it.
    pub(super) fn config_data(
        &self,
        realm: &ClusterName,
        namespace: &str,
        kind: Kind,
        name: &str,
    ) -> Option<ConfigV1> {
        let key = RecordKey { realm: realm.clone(), kind, key: format!("{namespace}/{name}") };
        self.read(&key).map(|(_, body)| body)
    }

    /// Services that a pod's environment may name.
    pub(super) fn services_for(&self, pod: &Pod) -> Vec<ServiceV1> {
        let own = format!("{}/", pod.spec.namespace);
        let all = self.ledger.records();
        let api = (own != "default/").then(|| {
            all.below(&pod.realm, Kind::SERVICE_V1, "default/kubernetes")
                .filter(|record| record.key.key == "default/kubernetes")
        });
        api.into_iter()
            .flatten()
            .chain(all.below(&pod.realm, Kind::SERVICE_V1, &own))
            .filter_map(|record| record.body().ok())
            .collect()
    }
}

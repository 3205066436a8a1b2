//! Records of a plan → what the agent has: pods, addresses, services, configuration.

use std::collections::BTreeSet;

use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{
    ConfigV1, Kind, ModuleV1, NodeV1, PodCidrV1, PodV1, Record, RecordKey, ServiceV1,
};
use tracing::{info, warn};

use super::Agent;
use crate::pods::Pod;
use crate::ports::PlanPart;
use crate::{admission, volumes};

impl Agent {
    /// At the start: everything in the ledger, in the order that pods need it.
    pub(super) fn take_up(&mut self) {
        self.ports.network.set_node(self.config.node.address, &self.domain);
        let states: Vec<_> = self.ledger.pods().values().cloned().collect();
        for state in &states {
            if let Some(ip) = state.ip.filter(|_| state.done.is_none()) {
                self.addresses.hold(&state.realm, ip);
            }
        }
        let keys: Vec<RecordKey> = self.ledger.records().iter().map(|r| r.key.clone()).collect();
        self.take_records(&keys);
        for state in states {
            if !self.pods.contains_key(&state.uid) {
                // Its record went while the agent was down or in its last moment; its containers went with the agent.
                self.clean(&state.realm, &state.uid, state.ip);
            }
        }
    }

    pub(super) fn take_plan(&mut self, part: PlanPart) {
        let (to, snapshot) = (part.to, part.snapshot);
        match self.ledger.take_plan(part) {
            Ok(Some(touched)) => {
                info!(generation = to.revision, snapshot, records = touched.len(), "plan taken");
                self.take_records(&touched);
                self.unacknowledged = true;
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
    fn take_records(&mut self, keys: &[RecordKey]) {
        let mut realms = BTreeSet::new();
        for key in keys {
            match key.kind {
                Kind::POD_V1 => self.take_pod(key),
                Kind::CONFIG_MAP_V1 | Kind::SECRET_V1 => self.take_config(key),
                Kind::SERVICE_V1 => self.take_service(key),
                Kind::POD_CIDR_V1 => {
                    realms.insert(key.realm.clone());
                }
                Kind::NODE_V1 => self.take_node(key),
                // Read where it is needed; below, and at the next start of a container.
                Kind::POD_STORAGE_V1 => {}
                // Of a newer hub: kept in the ledger for the agent that understands it.
                Kind(other) => warn!(kind = other, key = key.key, "record of an unknown kind"),
            }
        }
        for realm in realms {
            self.take_ranges(&realm);
        }
        self.take_limits();
        let wanted: BTreeSet<Digest> = self
            .pods
            .values()
            .flat_map(|pod| pod.spec.init.iter().chain(&pod.spec.containers))
            .filter_map(|container| match &container.module {
                ModuleV1::Component(digest) => Some(*digest),
                ModuleV1::Missing(..) => None,
            })
            .collect();
        self.modules.retain(|digest, _| wanted.contains(digest));
        self.ports.modules.keep(&wanted.into_iter().collect::<Vec<_>>());
    }

    fn take_pod(&mut self, key: &RecordKey) {
        let (now, unix) = self.time();
        let uid = key.key.as_str();
        let Some((record, spec)) = self.read::<PodV1>(key) else {
            // Gone, or not readable: in both cases there is nothing to run.
            if let Some(pod) = self.pods.get_mut(uid) {
                pod.dropped(now);
                self.dirty.insert(uid.to_owned());
            }
            return;
        };
        if spec.uid != uid {
            warn!(pod = uid, "a record is filed under another pod's UID");
            return;
        }
        let needs = admission::check_needs(record.needs).err();
        let before = self.pods.get(uid).and_then(|pod| pod.refused.clone());
        match self.pods.get_mut(uid) {
            Some(pod) => pod.update(spec, now),
            None => {
                let kept = self.ledger.pods().get(uid);
                let pod = Pod::new(key.realm.clone(), spec, kept, now, unix);
                self.pods.insert(uid.to_owned(), pod);
            }
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
        self.dirty.insert(uid.to_owned());
    }

    fn take_config(&mut self, key: &RecordKey) {
        let namespace = key.key.split('/').next().unwrap_or_default();
        let concerned: Vec<String> = self
            .pods
            .values()
            .filter(|pod| pod.realm == key.realm && pod.spec.namespace == namespace)
            .map(|pod| pod.spec.uid.clone())
            .collect();
        for uid in concerned {
            if let Some(pod) = self.pods.get_mut(&uid) {
                pod.forget_failures();
            }
            self.refresh_volumes(&uid);
            self.dirty.insert(uid);
        }
    }

    /// Brings mounted configuration up to date. What cannot be made stays as it was.
    fn refresh_volumes(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        let made = pod.volumes == crate::pods::Volumes::Made;
        if !made || pod.ending.is_some() || !volumes::shows_config(&pod.spec) {
            return;
        }
        if let Err(error) = self.make_volumes(pod) {
            warn!(pod = uid, error, "mounted configuration is not up to date");
        }
    }

    fn take_service(&mut self, key: &RecordKey) {
        let Some((namespace, name)) = key.key.split_once('/') else { return };
        let service = self.read::<ServiceV1>(key).map(|(_, body)| body);
        self.ports.network.set_service(&key.realm, namespace, name, service);
    }

    fn take_ranges(&mut self, realm: &ClusterName) {
        self.addresses.revoke_all(realm);
        let ranges: Vec<PodCidrV1> = self
            .ledger
            .records()
            .iter()
            .filter(|record| record.key.kind == Kind::POD_CIDR_V1 && record.key.realm == *realm)
            .filter_map(|record| record.body().ok())
            .collect();
        for range in ranges {
            self.addresses.lease(realm, range.base, range.prefix);
        }
        let waiting = self.pods.values().filter(|pod| pod.realm == *realm && pod.ip.is_none());
        self.dirty.extend(waiting.map(|pod| pod.spec.uid.clone()));
    }

    fn take_node(&mut self, key: &RecordKey) {
        if let Some((_, node)) = self.read::<NodeV1>(key) {
            self.domain = node.domain;
            self.ports.network.set_node(self.config.node.address, &self.domain);
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
        self.ledger
            .records()
            .iter()
            .filter(|record| {
                let key = &record.key;
                key.kind == Kind::SERVICE_V1
                    && key.realm == pod.realm
                    && (key.key == "default/kubernetes" || key.key.starts_with(&own))
            })
            .filter_map(|record| record.body().ok())
            .collect()
    }
}

//! Records of a plan → what the agent has: pods, addresses, services, configuration.
//!
//! Guarantees:
//! - a record that needs what this agent lacks opens nothing, whatever it is of: it is as if it was not there
//!   (`a_service_that_needs_what_is_not_known_here_is_not_served`,
//!   `configuration_that_needs_what_is_not_known_here_is_missing`,
//!   `addresses_that_need_what_is_not_known_here_are_given_to_no_pod`,
//!   `a_node_that_needs_what_is_not_known_here_keeps_its_domain`).
//!
//! Of pods see `plan_source` and `updates`.

use std::collections::BTreeSet;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{ConfigV1, Kind, NodeV1, Record, RecordKey, ServiceV1};
use tracing::{info, warn};

use super::Agent;
use super::plan_source::PlanSource;
use super::pod_source::PodRef;
use crate::admission;
use crate::env::LinkedServiceV1;
use crate::ledger::PodSource;
use crate::pods::{Pod, Sandbox};
use crate::ports::PlanPart;
use crate::volumes;

impl Agent {
    /// At the start: everything in the ledger, in the order that pods need it.
    pub(super) fn restore(&mut self) {
        let states: Vec<_> = self.ledger.pods().values().cloned().collect();
        for state in &states {
            self.sandboxes.keep(state);
        }
        let keys: Vec<RecordKey> = self.ledger.records().iter().map(|r| r.key.clone()).collect();
        self.apply_records(&keys);
        for state in &states {
            let pod = PodRef::from(state);
            if !self.pods.contains_key(pod.uid) && !self.is_wanted(pod) {
                // It was dropped while the agent was down or in its last moment; its containers went with the agent.
                self.clean(pod, Sandbox::Absent);
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
                if self.keep.is_durable() {
                    self.acknowledge();
                } else {
                    // A session that is new knows of nothing but what is durable.
                    self.tell_what_runs();
                }
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "plan cannot be kept");
            }
        }
    }

    /// Looks at every key again: what is there now, or is gone.
    fn apply_records(&mut self, keys: &[RecordKey]) {
        let mut realms = BTreeSet::new();
        let changed = self.plan.apply_guards(self.ledger.records(), keys);
        for key in keys.iter().chain(&changed) {
            self.tell_what_it_lacks(key);
            match key.kind {
                Kind::POD_V1 => self.apply_pod(key),
                Kind::CONFIG_MAP_V1 | Kind::SECRET_V1 | Kind::POD_TOKENS_V1 => {
                    self.apply_config(key);
                }
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

    /// Says which record counts for nothing here. Of pods their users are told, and what an unknown kind needs keeps pods
    /// from running.
    fn tell_what_it_lacks(&self, key: &RecordKey) {
        let record = self.ledger.records().get(key);
        let lacks =
            record.and_then(|record| admission::check_needs("the record", record.needs).err());
        if let Some((_, why)) = lacks.filter(|_| key.kind != Kind::POD_V1) {
            warn!(kind = key.kind.0, key = key.key, why, "a record counts for nothing here");
        }
    }

    /// Whether there is a record under this key that this agent cannot read: what it was before goes on.
    fn is_unreadable<B: serde::de::DeserializeOwned>(&self, key: &RecordKey) -> bool {
        let record = self.ledger.records().get(key).filter(|record| is_honoured(record));
        let error = record.and_then(|record| record.body::<B>().err());
        if let Some(error) = &error {
            warn!(error = error as &dyn std::error::Error, "record cannot be read");
        }
        error.is_some()
    }

    fn apply_pod(&mut self, key: &RecordKey) {
        let pod = PodRef { source: PodSource::Plan, realm: &key.realm, uid: &key.key };
        if let Some(update) = PlanSource::update(self.ledger.records(), key) {
            self.update_pod(pod, update);
        }
        self.guard_pod(pod);
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

    fn apply_service(&mut self, key: &RecordKey) {
        let Some((namespace, name)) = key.key.split_once('/') else { return };
        if self.is_unreadable::<ServiceV1>(key) {
            return;
        }
        let service = self.read::<ServiceV1>(key).map(|(_, body)| body);
        self.sandboxes.pod_networks.set_service(&key.realm, (namespace, name), service);
    }

    fn apply_pod_cidrs(&mut self, realm: &ClusterName) {
        let ranges = self
            .ledger
            .records()
            .iter()
            .filter(|record| record.key.kind == Kind::POD_CIDR_V1 && record.key.realm == *realm)
            .filter(|record| is_honoured(record))
            .filter_map(|record| record.body().ok());
        self.sandboxes.pod_networks.set_ranges(realm, ranges);
        self.find_strays(realm);
    }

    fn apply_node(&mut self, key: &RecordKey) {
        if let Some((_, node)) = self.read::<NodeV1>(key) {
            self.sandboxes.pod_networks.set_domain(node.domain);
        }
    }

    /// The record under a key and its body, if there is one that can be read, and honoured.
    pub(super) fn read<B: serde::de::DeserializeOwned>(
        &self,
        key: &RecordKey,
    ) -> Option<(&Record, B)> {
        let record = self.ledger.records().get(key).filter(|record| is_honoured(record))?;
        match record.body() {
            Ok(body) => Some((record, body)),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "record cannot be read");
                None
            }
        }
    }

    /// A ConfigMap, a Secret or tokens as the plan has them.
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
    pub(super) fn services_for(&self, pod: &Pod) -> Vec<LinkedServiceV1> {
        let own = format!("{}/", pod.spec.namespace);
        let all = self.ledger.records();
        let api = (own != "default/").then(|| {
            all.below(&pod.realm, Kind::SERVICE_V1, "default/kubernetes")
                .filter(|record| record.key.key == "default/kubernetes")
        });
        api.into_iter()
            .flatten()
            .chain(all.below(&pod.realm, Kind::SERVICE_V1, &own))
            .filter(|record| is_honoured(record))
            .filter_map(|record| record.head())
            .collect()
    }
}

/// Whether this agent has all that a record needs of it.
fn is_honoured(record: &Record) -> bool {
    admission::check_needs("the record", record.needs).is_ok()
}

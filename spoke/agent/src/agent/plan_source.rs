//! The hub's plan as a source of pods: what its records want of each.
//!
//! Guarantees:
//! - what this agent cannot read ends no pod (`a_record_that_cannot_be_read_does_not_end_its_pod`);
//! - what protects a realm, or a namespace of it, is not missing there because its spoke is too old to read it: none of its
//!   pods runs meanwhile, but for half a minute in which they end, and those that did run again afterwards
//!   (`what_protects_a_realm_and_is_not_known_here_keeps_its_pods_from_starting`,
//!   `what_comes_to_protect_a_realm_and_is_not_known_here_stops_its_pods_until_it_is_gone`,
//!   `a_pod_that_cannot_be_read_is_stopped_by_what_protects_its_realm`); pods of other namespaces go on
//!   (`what_protects_one_namespace_stops_no_pod_of_another`).

use std::collections::BTreeMap;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, PodHeadV1, PodV1, RecordKey};
use freewheel_link::record_set::RecordSet;
use tracing::warn;

use super::pod_source::{PodRef, PodUpdate};
use crate::admission;

/// The plan, beside its records.
#[derive(Debug, Default)]
pub(super) struct PlanSource {
    /// What records that this agent does not know need of it, by realm, each with the namespace that it is about, if it is
    /// about one alone: their pods do not run without.
    guards: BTreeMap<ClusterName, Vec<(String, u64)>>,
}

impl PlanSource {
    /// Takes up what records of unknown kinds need of this agent; answers with the pods to look at again.
    pub(super) fn apply_guards(
        &mut self,
        records: &RecordSet,
        keys: &[RecordKey],
    ) -> Vec<RecordKey> {
        let unknown = |key: &RecordKey| Kind::POD_TOKENS_V1 < key.kind;
        if !keys.iter().any(unknown) {
            return Vec::new();
        }
        let before = std::mem::take(&mut self.guards);
        for record in records.iter().filter(|record| unknown(&record.key)) {
            let guards = self.guards.entry(record.key.realm.clone()).or_default();
            guards.push((namespace_of(&record.key.key).to_owned(), record.needs));
        }
        pods(records)
            .filter(|key| before.get(&key.realm) != self.guards.get(&key.realm))
            .cloned()
            .collect()
    }

    /// What would protect the pods of a namespace and this agent lacks, as (reason, message).
    pub(super) fn guard(&self, realm: &ClusterName, namespace: &str) -> Option<(String, String)> {
        let guards = self.guards.get(realm).into_iter().flatten();
        let own = guards.filter(|(of, _)| of.is_empty() || of == namespace);
        let needs = own.fold(0, |all, (_, needs)| all | needs);
        admission::check_needs("what protects the pod's cluster", needs).err()
    }

    /// What the plan wants of a pod; `None`: its record says nothing.
    pub(super) fn update(records: &RecordSet, key: &RecordKey) -> Option<PodUpdate> {
        let uid = key.key.as_str();
        let Some(record) = records.get(key) else { return Some(PodUpdate::Remove) };
        match record.body::<PodV1>() {
            Ok(spec) if spec.uid == uid => {
                let lacks = admission::check_needs("the pod", record.needs).err();
                Some(PodUpdate::Set(Box::new(spec), lacks))
            }
            Ok(_) => {
                warn!(pod = uid, "a record is filed under another pod's UID");
                None
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, pod = uid, "a pod's record cannot be read");
                let head: Option<PodHeadV1> = record.head();
                let deleting = head.filter(|head| head.uid == uid).and_then(|head| head.deleting);
                Some(deleting.map_or(PodUpdate::Unreadable, PodUpdate::Delete))
            }
        }
    }
}

/// Whether the plan has a pod.
pub(super) fn wants(records: &RecordSet, pod: PodRef<'_>) -> bool {
    let PodRef { realm, uid, .. } = pod;
    let key = RecordKey { realm: realm.clone(), kind: Kind::POD_V1, key: uid.to_owned() };
    records.get(&key).is_some()
}

/// UIDs of all pods that the plan has.
pub(super) fn uids(records: &RecordSet) -> impl Iterator<Item = &str> {
    pods(records).map(|key| key.key.as_str())
}

/// Which namespace the key of a kind that is not known here names; empty: what it is of may be about all of the realm.
fn namespace_of(key: &str) -> &str {
    match key.split_once('/') {
        // Addresses have slashes, too.
        Some((namespace, _)) if !namespace.contains(['.', ':']) => namespace,
        Some(_) | None => "",
    }
}

fn pods(records: &RecordSet) -> impl Iterator<Item = &RecordKey> {
    records.iter().map(|record| &record.key).filter(|key| key.kind == Kind::POD_V1)
}

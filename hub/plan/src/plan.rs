//! Everything that one spoke is to run and to reach.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_api::images::Images;
use freewheel_link::limits;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, Record, RecordKey};

use crate::config::{config_map_record, secret_record};
use crate::fit;
use crate::node::{NodeSettings, node_record, pod_cidr_record};
use crate::pod::{config_of, pod_record};
use crate::refused::Refused;
use crate::source::Source;

/// The plan of one spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every record, in the order of their keys.
    pub records: BTreeMap<RecordKey, Record>,
    /// What had to be left out.
    pub refused: Vec<Refused>,
}

impl Plan {
    fn take(&mut self, outcome: Result<Record, Refused>) {
        match outcome {
            Ok(record) => {
                self.records.insert(record.key.clone(), record);
            }
            Err(refused) => self.refused.push(refused),
        }
    }
}

/// Whether a spoke that holds `old` has to be sent `new`: only the revision is no reason.
#[must_use]
pub fn differs(old: &Record, new: &Record) -> bool {
    old.needs != new.needs || old.body != new.body
}

/// Everything that `spoke` is to run and to reach: its pods in the root and in its own realm, the
/// configuration that they name, and the Services of each realm that has pods here, plus those whose node ports every node opens.
#[must_use]
pub fn records(
    spoke: &ClusterName,
    source: &dyn Source,
    images: &dyn Images,
    settings: &NodeSettings,
) -> Plan {
    let mut plan = Plan::default();
    plan.take(node_record(spoke, settings));
    for realm in [&ClusterName::root(), spoke] {
        let pods = source.pods(realm, spoke.as_str());
        let mut wanted = BTreeSet::new();
        for found in &pods {
            let outcome = pod_record(realm, found, images).map(|(record, pod)| {
                wanted.extend(config_of(&pod));
                record
            });
            plan.take(outcome);
        }
        for (kind, namespace, name) in &wanted {
            let outcome = if *kind == Kind::SECRET_V1 {
                source.secret(realm, namespace, name).map(|found| secret_record(realm, &found))
            } else {
                source
                    .config_map(realm, namespace, name)
                    .map(|found| config_map_record(realm, &found))
            };
            // What is not there yet is the spoke's to report: only it knows which container waits.
            if let Some(outcome) = outcome {
                plan.take(outcome);
            }
        }
        for service in source.told_services(realm) {
            if !pods.is_empty() || service.has_node_port {
                plan.take(service.record.clone());
            }
        }
        for (base, revision) in source.pod_cidrs(realm, spoke.as_str()) {
            plan.take(pod_cidr_record(realm, &base, revision));
        }
    }
    fit::fit(&mut plan, spoke, source, limits::PLAN);
    plan
}

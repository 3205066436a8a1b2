//! The whole plan of one spoke, made anew: what [`crate::SpokePlan`] keeps up to date, and how it is cut where it does
//! not fit.

use std::collections::BTreeSet;

use freewheel_hub_api::images::Images;
use freewheel_link::limits;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::Kind;

use crate::config::{config_map_record, secret_record};
use crate::fit;
use crate::node::{NodeSettings, node_record, pod_cidr_record};
use crate::plan::Plan;
use crate::pod::{config_of, left_out, pod_record};
use crate::source::Source;
use crate::tokens::TokensAsked;
use crate::versioned::VersionedSet;

/// Everything that `spoke` is to run and to reach: its pods in the root and in its own realm, the
/// configuration that they name, and the Services of each realm that has pods here, plus those whose node ports every
/// node opens.
#[must_use]
pub fn records(
    spoke: &ClusterName,
    source: &dyn Source,
    images: &dyn Images,
    settings: &NodeSettings,
) -> Plan {
    records_after(spoke, source, images, settings, &VersionedSet::default())
}

/// The same for a spoke that was last told `held`.
pub(crate) fn records_after(
    spoke: &ClusterName,
    source: &dyn Source,
    images: &dyn Images,
    settings: &NodeSettings,
    held: &VersionedSet,
) -> Plan {
    let mut plan = Plan::default();
    plan.take(node_record(spoke, settings));
    for realm in [&ClusterName::root(), spoke] {
        let pods = source.pods(realm, spoke.as_str());
        let mut wanted = BTreeSet::new();
        let mut tokens = Vec::new();
        for found in &pods {
            let outcome = pod_record(realm, found, images).map(|(record, pod)| {
                wanted.extend(config_of(&pod));
                tokens.extend(TokensAsked::of(realm, &pod));
                record
            });
            let planned = outcome.is_ok();
            plan.take(outcome);
            plan.refused.extend(left_out(realm, found).filter(|_| planned));
        }
        take_config(&mut plan, realm, &wanted, source);
        for record in tokens.iter().filter_map(|asked| source.tokens(asked)) {
            plan.take(Ok(record));
        }
        for service in source.service_records(realm) {
            if !pods.is_empty() || service.has_node_port {
                plan.take(service.record.clone());
            }
        }
        for (base, revision) in source.pod_cidrs(realm, spoke.as_str()) {
            plan.take(pod_cidr_record(realm, &base, revision));
        }
    }
    fit::fit(&mut plan, spoke, source, held, limits::PLAN_BYTES_MAX);
    plan
}

/// What is not there yet is the spoke's to report: only it knows which container waits.
fn take_config(
    plan: &mut Plan,
    realm: &ClusterName,
    wanted: &BTreeSet<(Kind, String, String)>,
    source: &dyn Source,
) {
    for (kind, namespace, name) in wanted {
        let outcome = if *kind == Kind::SECRET_V1 {
            source.secret(realm, namespace, name).map(|found| secret_record(realm, &found))
        } else if *kind == Kind::CONFIG_MAP_V1 {
            source.config_map(realm, namespace, name).map(|found| config_map_record(realm, &found))
        } else {
            None
        };
        if let Some(outcome) = outcome {
            plan.take(outcome);
        }
    }
}

//! The whole plan of one spoke, made anew at once: what [`SpokePlan`] keeps up to date.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_api::images::Images;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Record, RecordKey};
use freewheel_link::record_set::PlanSet as _;

use crate::node::NodeSettings;
use crate::refused::Refused;
use crate::services::ServiceSet;
use crate::source::Source;
use crate::spoke_plan::{Changes, SpokePlan};

/// The plan of one spoke.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every record, in the order of their keys.
    pub(crate) records: BTreeMap<RecordKey, Record>,
    /// What had to be left out.
    pub(crate) refused: Vec<Refused>,
}

/// Everything that `spoke` is to run and to reach: its pods in the root and in its own realm, the
/// configuration that they name, and the Services of each realm that has pods here, plus those whose node ports every
/// node opens.
pub(crate) fn records(
    spoke: &ClusterName,
    services: [Arc<ServiceSet>; 2],
    source: &dyn Source,
    images: &dyn Images,
    settings: &NodeSettings,
) -> Plan {
    let mut plan = SpokePlan::new(spoke, settings.clone());
    plan.update(&Changes { everything: true, ..Changes::default() }, source, images);
    let (set, refused) = plan.set(services);
    let records = set.whole().into_iter();
    let records = records.map(|record| (record.key.clone(), Record::clone(&record))).collect();
    Plan { records, refused }
}

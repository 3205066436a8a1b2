//! Which sets there are, and which clusters are in them.

use std::sync::Arc;

use freewheel_hub_fleet::ClusterSet;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::selector::{LabelSelector, Operator, Requirement};
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;

use crate::engine::client::everywhere;
use crate::index::{ClusterEntry, IndexTerm, Indexes};

/// The clusters of a set, those that are on their way out among them.
pub(super) fn members(indexes: &Indexes, set: &ClusterSet) -> Vec<Arc<ClusterEntry>> {
    let root = ClusterName::root();
    let asked = asked_for(set.selector());
    let terms: Vec<IndexTerm<'_>> = asked
        .iter()
        .map(|(k, v)| IndexTerm::Label(&root, "", k, v))
        .chain([IndexTerm::Any])
        .collect();
    let mut found = indexes.clusters.rarest(&terms);
    found.retain(|cluster| set.selector().matches(&cluster.stored.object.header.labels));
    found
}

/// Labels that have to have one value: who matches has them all.
fn asked_for<'a>(selector: &'a LabelSelector) -> Vec<(&'a str, &'a str)> {
    let one = |it: &'a Requirement| {
        let Operator::In(values) = &it.operator else { return None };
        let value = values.first().filter(|_| values.len() == 1)?;
        Some((it.key.as_str(), value.as_str()))
    };
    selector.requirements().iter().filter_map(one).collect()
}

/// All sets that are there.
pub(super) fn sets(snapshot: &dyn Snapshot, kind: &Kind) -> Vec<(Arc<Stored>, ClusterSet)> {
    let all = snapshot.range(&everywhere(kind), None);
    all.filter_map(|stored| {
        let set = ClusterSet::read(&stored.object.value().ok()?);
        Some((stored, set))
    })
    .collect()
}

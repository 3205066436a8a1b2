//! One run of a DaemonSet: the set as it is, and what its pods are to be.

use std::time::Duration;

use freewheel_hub_placement::PodRequest;
use freewheel_hub_store::Stored;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::decide::{DaemonPod, Phase, Update};
use super::template;
use crate::amount::in_pods;
use crate::engine::Error;
use crate::index::PodEntry;
use crate::selector::Selector;

/// One run: the set as it is, and what its pods are to be.
pub(super) struct Run<'a> {
    pub(super) stored: &'a Stored,
    pub(super) value: Value,
    pub(super) typed: DaemonSet,
    pub(super) selector: Selector,
    pub(super) hash: String,
    /// A pod of it, but for its node.
    pub(super) pod: Value,
    pub(super) request: PodRequest,
}

impl Run<'_> {
    /// The template's own node, else empty.
    pub(super) fn node_name(&self) -> &str {
        self.value
            .pointer("/spec/template/spec/nodeName")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn min_ready(&self) -> Duration {
        let seconds = self.typed.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        Duration::from_secs(u64::try_from(seconds.unwrap_or_default()).unwrap_or_default())
    }

    /// The bounds of a rollout over so many nodes.
    pub(super) fn update(&self, nodes: i32) -> Update {
        let strategy = self.typed.spec.as_ref().and_then(|spec| spec.update_strategy.clone());
        let strategy = strategy.unwrap_or_default();
        if strategy.type_.as_deref() == Some("OnDelete") {
            return Update::OnDelete;
        }
        let bounds = strategy.rolling_update.unwrap_or_default();
        let count = |bound: Option<IntOrString>, usual: i32| {
            let bound = bound.unwrap_or(IntOrString::Int(usual));
            usize::try_from(in_pods(&bound, nodes, true)).unwrap_or_default()
        };
        let (surge, unavailable) = (count(bounds.max_surge, 0), count(bounds.max_unavailable, 1));
        // Both at zero would never move.
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        Update::Rolling { surge, unavailable }
    }

    /// Whether a node may have two pods.
    pub(super) fn surges(&self) -> bool {
        matches!(self.update(1), Update::Rolling { surge, .. } if 0 < surge)
    }
}

/// What counts of a pod; nothing, when it has ended and goes anyway.
pub(super) fn daemon_pod(
    run: &Run<'_>,
    entry: &PodEntry,
    now: Timestamp,
) -> Result<Option<DaemonPod>, Error> {
    let phase = match entry.phase() {
        "Failed" => Phase::Failed,
        "Succeeded" => Phase::Succeeded,
        _ => Phase::Other,
    };
    let header = &entry.stored.object.header;
    if phase != Phase::Other && header.deleting {
        return Ok(None);
    }
    let summary = entry.summary()?;
    let label = |key: &str| header.labels.get(key).map(String::as_str);
    Ok(Some(DaemonPod {
        bound: !entry.node().is_empty(),
        phase,
        ready: summary.is_ready(),
        availability: summary.availability(run.min_ready(), now),
        updated: template::is_updated(label, &run.hash, template::generation(&run.value)),
        stored: entry.stored.clone(),
    }))
}

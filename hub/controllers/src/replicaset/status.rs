//! status of a ReplicaSet.

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_api::conditions::{Condition, SET_REPLICA_FAILURE};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Stored;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Map, Value, json};

use super::ReplicaSets;
use crate::engine::Error;
use crate::engine::clock::rfc3339;
use crate::index::{IndexTerm, PodEntry};
use crate::pods::Availability;

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    replicas: i32,
    labeled: i32,
    ready: i32,
    available: i32,
    /// When the next ready pod becomes available.
    next: Option<Duration>,
}

/// Counts the set's active pods.
pub(super) fn count<'a>(
    pods: impl Iterator<Item = &'a PodEntry>,
    template: &BTreeMap<String, String>,
    min_ready: Duration,
    now: Timestamp,
) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    for pod in pods.filter(|p| p.is_active()) {
        counts.replicas += 1;
        let labels = &pod.stored.object.header.labels;
        counts.labeled += i32::from(template.iter().all(|(k, v)| labels.get(k) == Some(v)));
        let summary = pod.summary()?;
        counts.ready += i32::from(summary.is_ready());
        match summary.availability(min_ready, now) {
            Availability::Yes => counts.available += 1,
            Availability::No => {}
            Availability::In(rest) => {
                counts.next = Some(counts.next.map_or(rest, |next| next.min(rest)));
            }
        }
    }
    Ok(counts)
}

/// The status object; `old` gives conditions that are kept.
pub(super) fn status(
    counts: &Counts,
    generation: i64,
    old: &Value,
    failure: Option<(&str, &str)>,
    now: &str,
) -> Value {
    let mut status = Map::new();
    status.insert("replicas".into(), json!(counts.replicas));
    for (name, number) in [
        ("fullyLabeledReplicas", counts.labeled),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
    ] {
        if number != 0 {
            status.insert(name.into(), json!(number));
        }
    }
    if generation != 0 {
        status.insert("observedGeneration".into(), json!(generation));
    }
    let mut conditions = old["conditions"].clone();
    match failure {
        Some((reason, message)) => {
            Condition::new(&SET_REPLICA_FAILURE, true, reason, message).put(&mut conditions, now);
        }
        None => SET_REPLICA_FAILURE.remove(&mut conditions),
    }
    if conditions.as_array().is_some_and(|all| !all.is_empty()) {
        status.insert("conditions".into(), conditions);
    }
    Value::Object(status)
}

impl ReplicaSets {
    /// Counts what is there now and writes it down; when to count again.
    pub(super) async fn report(
        &self,
        stored: &Stored,
        set: &ReplicaSet,
        failure: Option<&ApiError>,
    ) -> Result<Option<Duration>, Error> {
        let mine = self.indexes.pods.find(IndexTerm::controlled_by(stored));
        let spec = set.spec.clone().unwrap_or_default();
        let template = spec.template.and_then(|t| t.metadata).and_then(|m| m.labels);
        let seconds = u64::try_from(spec.min_ready_seconds.unwrap_or_default());
        let min_ready = Duration::from_secs(seconds.unwrap_or_default());
        let now = self.client.clock.now();
        let pods = mine.iter().map(|pod| &**pod);
        let counts = count(pods, &template.unwrap_or_default(), min_ready, now)?;
        let wanted = spec.replicas.unwrap_or(1);
        if failure.is_none()
            && !is_news(&counts, set, wanted)
            && let Some(rest) = self.throttle.wait(&stored.key, mine.len())
        {
            return Ok(Some(counts.next.map_or(rest, |next| next.min(rest))));
        }
        let message = failure.map(ToString::to_string);
        let reason = if counts.replicas < wanted { "FailedCreate" } else { "FailedDelete" };
        let failure = message.as_deref().map(|message| (reason, message));
        // The generation that this run acted on, not the newest: a change since brings a new run.
        let generation = set.metadata.generation.unwrap_or_default();
        let now = rfc3339(now);
        let written = self
            .client
            .modify_this(&self.sets, stored, Some("status"), |mut value| {
                value["status"] = status(&counts, generation, &value["status"], failure, &now);
                Ok(value)
            })
            .await;
        match written {
            Ok(_) => Ok(counts.next),
            Err(gone) if gone.code == 404 => Ok(None),
            Err(error) => Err(Error::api("write the status of a ReplicaSet")(error)),
        }
    }
}

/// Whether somebody waits for this status: the set was changed, failed before, or has all it asks for.
fn is_news(counts: &Counts, set: &ReplicaSet, wanted: i32) -> bool {
    let before = set.status.clone().unwrap_or_default();
    before.observed_generation != set.metadata.generation
        || before.conditions.is_some_and(|c| !c.is_empty())
        || [counts.replicas, counts.ready, counts.available].iter().all(|n| *n == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Entry;
    use crate::testing::pod;

    #[test]
    fn a_pod_is_available_after_min_ready_seconds() {
        let now = Timestamp::from_second(1000).unwrap();
        let pods = [
            pod("a").on("n").running().ready_at(900).label("app", "web").facts(),
            pod("b").on("n").running().ready_at(980).facts(),
            pod("c").on("n").running().facts(),
        ];
        let pods = pods.map(|p| PodEntry::read(p.stored));
        let template = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let counts = count(pods.iter(), &template, Duration::from_secs(30), now).unwrap();
        assert_eq!(
            counts,
            Counts {
                replicas: 3,
                labeled: 1,
                ready: 2,
                available: 1,
                next: Some(Duration::from_secs(10)),
            }
        );
    }

    #[test]
    fn zeros_are_left_out_and_a_failure_keeps_its_time() {
        let old = json!({"conditions": [{"type": "ReplicaFailure", "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let made = status(
            &Counts::default(),
            3,
            &old,
            Some(("FailedCreate", "no")),
            "2026-02-02T00:00:00Z",
        );
        assert_eq!(
            made,
            json!({"replicas": 0, "observedGeneration": 3, "conditions": [{
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        );
        assert_eq!(status(&Counts::default(), 0, &old, None, "x"), json!({"replicas": 0}));
    }
}

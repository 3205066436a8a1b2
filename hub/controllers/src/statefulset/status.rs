//! status of a StatefulSet: pure.

use serde_json::{Map, Value, json};

use super::decide::{StatefulPod, Update, Wanted};

/// Counts the pods; `old` gives what is not counted.
pub(super) fn status<'a>(
    wanted: &Wanted,
    pods: impl Iterator<Item = &'a StatefulPod>,
    (generation, collisions): (i64, i32),
    old: &Value,
) -> Value {
    let [mut replicas, mut ready, mut available, mut current, mut updated] = [0_i64; 5];
    for pod in pods {
        replicas += 1;
        if pod.runs_and_is_ready() {
            ready += 1;
            available += i64::from(pod.is_available());
        }
        if !pod.is_deleting() {
            current += i64::from(pod.revision == wanted.current);
            updated += i64::from(pod.revision == wanted.updated);
        }
    }
    let mut running = &wanted.current;
    // The rollout is through.
    if wanted.update != Update::OnDelete && [updated, ready, replicas] == [wanted.replicas; 3] {
        (running, current) = (&wanted.updated, updated);
    }
    let mut status = Map::new();
    status.insert("replicas".to_owned(), json!(replicas));
    status.insert("availableReplicas".to_owned(), json!(available));
    status.insert("collisionCount".to_owned(), json!(collisions));
    status.insert("currentRevision".to_owned(), json!(running));
    status.insert("updateRevision".to_owned(), json!(wanted.updated));
    for (name, count) in [
        ("readyReplicas", ready),
        ("currentReplicas", current),
        ("updatedReplicas", updated),
        ("observedGeneration", generation),
    ] {
        if count != 0 {
            status.insert(name.to_owned(), json!(count));
        }
    }
    if let Some(conditions) = old.get("conditions") {
        status.insert("conditions".to_owned(), conditions.clone());
    }
    Value::Object(status)
}

#[cfg(test)]
mod tests {
    use super::super::decide::Phase;
    use super::*;
    use crate::pods::Availability;
    use crate::testing::pod;

    fn of(name: &str, revision: &str, ready: bool) -> StatefulPod {
        let availability = if ready { Availability::Yes } else { Availability::No };
        let (stored, phase) = (pod(name).facts().stored, Phase::Running);
        StatefulPod { stored, phase, ready, availability, whole: true, revision: revision.into() }
    }

    #[test]
    fn a_rollout_that_is_through_makes_its_revision_the_current_one() {
        let mut wanted = Wanted {
            start: 0,
            replicas: 2,
            parallel: false,
            claims: false,
            update: Update::Rolling { partition: Some(0), unavailable: 1 },
            current: "one".to_owned(),
            updated: "two".to_owned(),
            current_replicas: 2,
        };
        let half = [of("web-0", "one", true), of("web-1", "two", false)];
        assert_eq!(
            status(&wanted, half.iter(), (3, 1), &json!({})),
            json!({"replicas": 2, "availableReplicas": 1, "readyReplicas": 1, "currentReplicas": 1,
                "updatedReplicas": 1, "currentRevision": "one", "updateRevision": "two",
                "observedGeneration": 3, "collisionCount": 1})
        );
        let all = [of("web-0", "two", true), of("web-1", "two", true)];
        let through = status(&wanted, all.iter(), (3, 0), &json!({}));
        assert_eq!(
            (&through["currentRevision"], &through["currentReplicas"]),
            (&json!("two"), &json!(2))
        );
        wanted.update = Update::OnDelete;
        let kept = status(&wanted, all.iter(), (3, 0), &json!({"conditions": [{"type": "X"}]}));
        assert_eq!((&kept["currentRevision"], kept.get("currentReplicas")), (&json!("one"), None));
        assert_eq!(kept["conditions"], json!([{"type": "X"}]));
    }
}

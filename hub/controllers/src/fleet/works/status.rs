//! What a work says of its manifests: whether they are applied and there, values of them, and conditions by rules.

use std::sync::Arc;

use freewheel_hub_fleet::work::aggregate::{self, Aggregate};
use freewheel_hub_fleet::work::condition_rules::{Said as BySaid, evaluate};
use freewheel_hub_fleet::work::feedback::values;
use freewheel_hub_fleet::work::{Identifier, Work};
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use super::Works;
use super::condition::Said;
use super::result::{OneResult, Outcome, same_resource};
use crate::engine::Error;
use crate::engine::clock::rfc3339;

/// What is seen of one manifest.
struct Seen {
    meta: Value,
    applied: Result<(), String>,
    /// Status, reason and message of its being there.
    available: (&'static str, &'static str, &'static str),
    feedback: Vec<Value>,
    /// Status, reason and message of its values; nothing, when it is not there.
    synced: Option<(&'static str, &'static str, String)>,
    by_rules: Vec<BySaid>,
}

impl Works {
    pub(super) async fn write_status(
        &self,
        stored: &Arc<Stored>,
        work: &Work,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let seen: Vec<Seen> = outcome.results.iter().map(|it| see(it, work)).collect();
        let (generation, now) = (stored.object.header.generation, rfc3339(self.client.clock.now()));
        let change = |mut value: Value| {
            put(&mut value, &seen, generation, &now);
            Ok(value)
        };
        let said = self.client.modify_this(&self.works, stored, Some("status"), change).await;
        said.map(drop).map_err(Error::api("write the status of a ManifestWork"))
    }
}

fn see(one: &OneResult, work: &Work) -> Seen {
    let meta = one.meta.clone();
    let applied = one.outcome.as_ref().map(drop).map_err(Clone::clone);
    let none = (Vec::new(), None, Vec::new());
    let (available, (feedback, synced, by_rules)) = match (&one.target, &one.outcome) {
        (None, _) => (("Unknown", "IncompleteResourceMeta", "Resource meta is incomplete"), none),
        (Some(_), Ok(Some(there))) => {
            (("True", "ResourceAvailable", "Resource is available"), looked_at(one, there, work))
        }
        (Some(_), _) => (("False", "ResourceNotAvailable", "Resource is not available"), none),
    };
    Seen { meta, applied, available, feedback, synced, by_rules }
}

type Looked = (Vec<Value>, Option<(&'static str, &'static str, String)>, Vec<BySaid>);

fn looked_at(one: &OneResult, there: &Stored, work: &Work) -> Looked {
    let object = there.object.value().unwrap_or_default();
    let text = |field: &str| one.meta[field].as_str().unwrap_or_default().to_owned();
    let identifier = Identifier {
        group: text("group"),
        resource: text("resource"),
        name: text("name"),
        namespace: text("namespace"),
    };
    let treatment = work.treatment(&identifier);
    let (found, failed) = values(&object, treatment.feedback);
    let synced = if treatment.feedback.is_empty() {
        ("True", "NoStatusFeedbackSynced", String::new())
    } else if failed.is_empty() {
        ("True", "StatusFeedbackSynced", String::new())
    } else {
        let text = format!("Sync status feedback failed with error {}", failed.join(", "));
        ("False", "StatusFeedbackSyncFailed", text)
    };
    (found, Some(synced), evaluate(&Arc::new(object), treatment.conditions))
}

fn put(work: &mut Value, seen: &[Seen], generation: i64, now: &str) {
    let before =
        work["status"]["resourceStatus"]["manifests"].as_array().cloned().unwrap_or_default();
    let manifests: Vec<Value> =
        seen.iter().map(|one| manifest(one, &before, generation, now)).collect();
    let list = &mut work["status"]["conditions"];
    let made = aggregate::applied(&manifests)
        .into_iter()
        .chain([aggregate::available(&manifests)])
        .chain(aggregate::by_rules(&manifests));
    for Aggregate { kind, status, reason, message } in made {
        let observed = Some(generation);
        Said { kind: &kind, status, reason, message: &message, observed }.put(list, now);
    }
    prune(list, generation);
    work["status"]["resourceStatus"]["manifests"] = manifests.into();
}

fn manifest(one: &Seen, before: &[Value], generation: i64, now: &str) -> Value {
    let old = before.iter().find(|it| same_resource(&it["resourceMeta"], &one.meta));
    let mut list = old.map(|it| it["conditions"].clone()).unwrap_or_default();
    let observed = Some(generation);
    let (status, reason, message) = match &one.applied {
        Ok(()) => ("True", "AppliedManifestComplete", "Apply manifest complete"),
        Err(why) => ("False", "AppliedManifestFailed", &**why),
    };
    Said { kind: "Applied", status, reason, message, observed }.put(&mut list, now);
    let (status, reason, message) = one.available;
    Said { kind: "Available", status, reason, message, observed: None }.put(&mut list, now);
    if let Some((status, reason, message)) = &one.synced {
        let kind = "StatusFeedbackSynced";
        Said { kind, status, reason, message, observed: None }.put(&mut list, now);
    }
    for said in &one.by_rules {
        let status = if said.holds { "True" } else { "False" };
        let (kind, reason, message) = (&*said.kind, said.reason, &*said.message);
        Said { kind, status, reason, message, observed }.put(&mut list, now);
    }
    prune(&mut list, generation);
    let mut out = json!({"resourceMeta": one.meta, "conditions": list});
    if !one.feedback.is_empty() {
        out["statusFeedback"] = json!({"values": one.feedback});
    }
    out
}

/// What rules made that are none any more.
fn prune(list: &mut Value, generation: i64) {
    if let Some(all) = list.as_array_mut() {
        all.retain(|it| !aggregate::is_made_by_rule(it) || it["observedGeneration"] == generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_made_goes_with_them() {
        let seen = |by_rules| Seen {
            meta: json!({"ordinal": 0, "kind": "Job", "name": "a"}),
            applied: Ok(()),
            available: ("True", "ResourceAvailable", "Resource is available"),
            feedback: vec![json!({"name": "n"})],
            synced: None,
            by_rules,
        };
        let said = BySaid {
            kind: "Complete".into(),
            holds: true,
            reason: "ConditionRuleEvaluated",
            message: "m".into(),
        };
        let mut work = json!({});
        put(&mut work, &[seen(vec![said])], 1, "t1");
        let kinds = |work: &Value| -> Vec<String> {
            let all = work["status"]["conditions"].as_array().unwrap();
            all.iter()
                .map(|it| {
                    format!("{}={}", it["type"].as_str().unwrap(), it["status"].as_str().unwrap())
                })
                .collect()
        };
        assert_eq!(kinds(&work), ["Applied=True", "Available=True", "Complete=True"]);
        assert_eq!(
            work["status"]["resourceStatus"]["manifests"][0]["statusFeedback"]["values"][0]["name"],
            "n"
        );
        put(&mut work, &[seen(Vec::new())], 2, "t2");
        assert_eq!(kinds(&work), ["Applied=True", "Available=True"]);
        assert_eq!(work["status"]["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(work["status"]["conditions"][0]["observedGeneration"], 2);
    }
}

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
use super::result::{OneResult, Outcome, Told};
use crate::engine::Error;
use crate::engine::clock::rfc3339;

/// What is seen of one manifest.
struct Seen {
    meta: Value,
    /// Whether it was applied, or why not; nothing, when that was not tried.
    applied: Option<Result<(), String>>,
    /// Status, reason and message of its being there.
    available: (&'static str, &'static str, &'static str),
    feedback: Vec<Value>,
    /// Status, reason and message of its values; nothing, when it is not there.
    synced: Option<(&'static str, &'static str, String)>,
    by_rules: Vec<BySaid>,
    /// It is not there, and stays complete if it was: that is no less so when what was done is tidied away.
    was_complete: bool,
}

impl Works {
    pub(super) async fn write_status(
        &self,
        stored: &Arc<Stored>,
        work: &Work,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let seen = |one: &OneResult| {
            let mut seen = see(one, work);
            seen.applied = seen.applied.filter(|_| !outcome.complete);
            seen
        };
        let seen: Vec<Seen> = outcome.results.iter().map(seen).collect();
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
    let applied = Some(one.fault.clone().map_or(Ok(()), Err));
    let none = (Vec::new(), None, Vec::new());
    let (available, (feedback, synced, by_rules)) = match (&one.target, &one.there) {
        (None, _) => (("Unknown", "IncompleteResourceMeta", "Resource meta is incomplete"), none),
        (Some(_), Some(there)) => {
            (("True", "ResourceAvailable", "Resource is available"), looked_at(one, there, work))
        }
        (Some(_), None) => (("False", "ResourceNotAvailable", "Resource is not available"), none),
    };
    let was_complete = one.may_complete && one.there.is_none();
    Seen { meta, applied, available, feedback, synced, by_rules, was_complete }
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
    let before = Told::of(work);
    let manifests: Vec<Value> =
        seen.iter().map(|one| manifest(one, before.get(&one.meta), generation, now)).collect();
    let list = &mut work["status"]["conditions"];
    let was_tried = seen.iter().any(|one| one.applied.is_some());
    let made = aggregate::applied(&manifests)
        .into_iter()
        .filter(|_| was_tried)
        .chain([aggregate::available(&manifests)])
        .chain(aggregate::by_rules(&manifests));
    for Aggregate { kind, status, reason, message } in made {
        let observed = Some(generation);
        Said { kind: &kind, status, reason, message: &message, observed }.put(list, now);
    }
    prune(list, generation);
    work["status"]["resourceStatus"]["manifests"] = manifests.into();
}

fn manifest(one: &Seen, old: Option<&Value>, generation: i64, now: &str) -> Value {
    let mut list = old.map(|it| it["conditions"].clone()).unwrap_or_default();
    let observed = Some(generation);
    if let Some(applied) = &one.applied {
        let (status, reason, message) = match applied {
            Ok(()) => ("True", "AppliedManifestComplete", "Apply manifest complete"),
            Err(why) => ("False", "AppliedManifestFailed", &**why),
        };
        Said { kind: "Applied", status, reason, message, observed }.put(&mut list, now);
    }
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
    if one.was_complete {
        keep_complete(&mut list, generation);
    }
    prune(&mut list, generation);
    let mut out = json!({"resourceMeta": one.meta, "conditions": list});
    if !one.feedback.is_empty() {
        out["statusFeedback"] = json!({"values": one.feedback});
    }
    out
}

/// What is complete is so of this generation, too.
fn keep_complete(list: &mut Value, generation: i64) {
    let mut all = list.as_array_mut().into_iter().flatten();
    let complete = all.find(|it| it["type"] == "Complete" && it["status"] == "True");
    if let Some(complete) = complete.filter(|it| aggregate::is_made_by_rule(it)) {
        complete["observedGeneration"] = json!(generation);
    }
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
            applied: Some(Ok(())),
            available: ("True", "ResourceAvailable", "Resource is available"),
            feedback: vec![json!({"name": "n"})],
            synced: None,
            by_rules,
            was_complete: false,
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

//! What a work says of its manifests: whether they are applied and there, values of them, and conditions by rules.
//!
//! Guarantees:
//! - rules are asked of an object as it is in its manifest's version (`a_manifest_is_written_as_its_kind_is_stored`), and
//!   of what the work's executor may read alone (`what_an_executor_may_not_read_is_not_shown`).

use std::borrow::Cow;
use std::sync::Arc;

use freewheel_hub_api::conditions::NamedCondition;
use freewheel_hub_fleet::work::aggregate::{self, Aggregate};
use freewheel_hub_fleet::work::condition_rules::{RuleOutcome, Subject, evaluate};
use freewheel_hub_fleet::work::feedback::values;
use freewheel_hub_fleet::work::{FeedbackRule, Identifier, Work};
use freewheel_hub_store::{MAX_OBJECT_BYTES, Stored};
use serde_json::{Value, json};

use super::Works;
use super::fault::{FAULT_BYTES_MAX, cut};
use super::result::{ManifestStatuses, OneResult, Outcome, There};
use crate::engine::Error;
use crate::engine::clock::rfc3339;

/// Manifests without expressions that are looked at in no time.
const INLINE_MANIFESTS_MAX: usize = 32;
/// Bytes of a work with its status, with room for what the API server adds.
const WORK_BYTES_MAX: usize = MAX_OBJECT_BYTES - (16 << 10);
/// Why there are no values.
const TOO_MUCH: &str = "too much for this work";

/// What is seen of one manifest.
struct Seen {
    meta: Value,
    /// Whether it was applied, or why not; nothing, when that was not tried.
    applied: Option<Result<(), (&'static str, String)>>,
    /// Status, reason and message of its being there.
    available: (&'static str, &'static str, Cow<'static, str>),
    feedback: Vec<Value>,
    /// Status, reason and message of its values; nothing, when it is not there.
    synced: Synced,
    by_rules: Vec<RuleOutcome>,
    /// It is not there, and stays complete if it was: that is no less so when what was done is tidied away.
    was_complete: bool,
}

impl Works {
    pub(super) async fn write_status(
        &self,
        stored: &Arc<Stored>,
        work: &Arc<Work>,
        outcome: Outcome,
        still_there: Option<&str>,
    ) -> Result<(), Error> {
        let complete = outcome.complete;
        let seen = if outcome.results.len() <= INLINE_MANIFESTS_MAX && !work.has_rules() {
            see(&outcome.results, work)
        } else {
            // Expressions take their time, and so do many manifests: nobody waits for that.
            let work = work.clone();
            let looked = tokio::task::spawn_blocking(move || see(&outcome.results, &work)).await;
            looked.unwrap_or_else(|error| Err(error.to_string()))
        };
        let mut seen = seen.map_err(Error::Look)?;
        if complete {
            seen.iter_mut().for_each(|one| one.applied = None);
        }
        let (generation, now) = (stored.object.header.generation, rfc3339(self.client.clock.now()));
        let change = |mut value: Value| {
            put_what_fits(&mut value, &seen, generation, &now);
            if let Some(why) = still_there {
                tell_left(&mut value["status"]["conditions"], why);
            }
            Ok(value)
        };
        let said = self.client.modify_this(&self.works, stored, Some("status"), change).await;
        said.map(drop).map_err(Error::api("write the status of a ManifestWork"))
    }
}

/// That what the work no longer names is still there, and why, beside what is said of its manifests.
fn tell_left(list: &mut Value, why: &str) {
    let mut all = list.as_array_mut().into_iter().flatten();
    let Some(applied) = all.find(|it| it["type"] == "Applied") else { return };
    let said = applied["message"].as_str().unwrap_or_default();
    let mut text = format!("{said}; not all that it no longer names is removed: {why}");
    text.truncate(text.floor_char_boundary(FAULT_BYTES_MAX));
    applied["message"] = json!(text);
}

/// What is seen of all manifests.
fn see(results: &[OneResult], work: &Work) -> Result<Vec<Seen>, String> {
    let mut seen = Vec::with_capacity(results.len());
    let mut subjects: Vec<Subject<'_>> = Vec::with_capacity(results.len());
    for one in results {
        let treatment = work.treatment(&identifier(&one.meta));
        let object = shown(one);
        seen.push(see_one(one, object.as_ref(), treatment.feedback));
        let rules = if object.is_some() { treatment.conditions } else { &[] };
        // What no rule is about is not kept.
        let object = object.filter(|_| !rules.is_empty()).unwrap_or_default();
        subjects.push((Arc::new(object), rules));
    }
    for (one, said) in seen.iter_mut().zip(evaluate(&subjects)?) {
        one.by_rules = said;
    }
    Ok(seen)
}

/// The object of a manifest, in the manifest's own version. Who converts where that takes a webhook is not asked: then it
/// is as it is stored.
fn shown(one: &OneResult) -> Option<Value> {
    let (stored, kind) = (one.there.object()?, &one.target.as_ref()?.kind);
    let mut value = stored.object.value().unwrap_or_default();
    if kind.converter().is_none() && kind.from_stored_object(&mut value).is_err() {
        value = stored.object.value().unwrap_or_default();
    }
    Some(value)
}

fn see_one(one: &OneResult, there: Option<&Value>, rules: &[FeedbackRule]) -> Seen {
    let available = match (&one.target, &one.there) {
        (None, _) => ("Unknown", "IncompleteResourceMeta", "Resource meta is incomplete".into()),
        (Some(_), There::Is(_)) => ("True", "ResourceAvailable", "Resource is available".into()),
        (Some(_), There::IsNot) => {
            ("False", "ResourceNotAvailable", "Resource is not available".into())
        }
        (Some(_), There::Unseen(why)) => {
            let text = format!("Failed to fetch resource: {}", cut(why));
            ("Unknown", "FetchingResourceFailed", text.into())
        }
    };
    let (feedback, synced) = match there {
        Some(there) => feedback(there, rules),
        None => (Vec::new(), None),
    };
    Seen {
        meta: one.meta.clone(),
        applied: Some(one.fault.clone().map_or(Ok(()), |it| Err((it.reason, it.message)))),
        available,
        feedback,
        synced,
        by_rules: Vec::new(),
        was_complete: one.may_complete && there.is_none(),
    }
}

fn identifier(meta: &Value) -> Identifier {
    let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
    Identifier {
        group: text("group"),
        resource: text("resource"),
        name: text("name"),
        namespace: text("namespace"),
    }
}

type Synced = Option<(&'static str, &'static str, String)>;

fn feedback(there: &Value, rules: &[FeedbackRule]) -> (Vec<Value>, Synced) {
    let (found, failed) = values(there, rules);
    let synced = if rules.is_empty() {
        ("True", "NoStatusFeedbackSynced", String::new())
    } else if failed.is_empty() {
        ("True", "StatusFeedbackSynced", String::new())
    } else {
        let text = format!("Sync status feedback failed with error {}", failed.join(", "));
        ("False", "StatusFeedbackSyncFailed", text)
    };
    (found, Some(synced))
}

/// What is said of many manifests is said in short where it would be more than a work may hold.
fn put_what_fits(work: &mut Value, seen: &[Seen], generation: i64, now: &str) {
    let before = work["status"].clone();
    put(work, seen, generation, now);
    for form in [short, bare] {
        if work.to_string().len() <= WORK_BYTES_MAX {
            return;
        }
        work["status"] = before.clone();
        let seen: Vec<Seen> = seen.iter().map(form).collect();
        put(work, &seen, generation, now);
    }
}

/// No values, and no texts beside reasons.
fn short(one: &Seen) -> Seen {
    let no_values = ("False", "StatusFeedbackSyncFailed", TOO_MUCH.to_owned());
    let without = |(status, reason, _): &(&'static str, &'static str, String)| {
        if one.feedback.is_empty() { (*status, *reason, String::new()) } else { no_values.clone() }
    };
    let said = |said: &RuleOutcome| RuleOutcome { message: String::new(), ..said.clone() };
    let fault = |fault: &Result<(), (&'static str, String)>| {
        fault.as_ref().copied().map_err(|(reason, _)| (*reason, String::new()))
    };
    let (status, reason, _) = one.available;
    Seen {
        meta: one.meta.clone(),
        applied: one.applied.as_ref().map(fault),
        available: (status, reason, Cow::Borrowed("")),
        feedback: Vec::new(),
        synced: one.synced.as_ref().map(without),
        by_rules: one.by_rules.iter().map(said).collect(),
        was_complete: one.was_complete,
    }
}

/// The same without what rules say, of which there may be any number.
fn bare(one: &Seen) -> Seen {
    Seen { by_rules: Vec::new(), ..short(one) }
}

fn put(work: &mut Value, seen: &[Seen], generation: i64, now: &str) {
    let before = ManifestStatuses::of(work);
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
        NamedCondition { kind: &kind, status, reason, message: &message, observed }.put(list, now);
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
            Err((reason, why)) => ("False", *reason, &**why),
        };
        NamedCondition { kind: "Applied", status, reason, message, observed }.put(&mut list, now);
    }
    let (status, reason, message) = &one.available;
    NamedCondition { kind: "Available", status, reason, message, observed: None }
        .put(&mut list, now);
    if let Some((status, reason, message)) = &one.synced {
        let kind = "StatusFeedbackSynced";
        NamedCondition { kind, status, reason, message, observed: None }.put(&mut list, now);
    }
    for said in &one.by_rules {
        let status = if said.holds { "True" } else { "False" };
        let (kind, reason, message) = (&*said.kind, said.reason, &*said.message);
        NamedCondition { kind, status, reason, message, observed }.put(&mut list, now);
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
    fn what_is_said_of_many_manifests_fits() {
        let manifests: Vec<Value> = (0..1_000)
            .map(|n| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{n:0>200}"),
                "namespace": "n".repeat(60)}, "data": {"key": "x".repeat(150)}}))
            .collect();
        let meta = |n: usize| {
            json!({"ordinal": n, "version": "v1", "kind": "ConfigMap", "resource": "configmaps", "group": "",
                "name": format!("{n:0>200}"), "namespace": "n".repeat(60)})
        };
        let seen: Vec<Seen> = (0..1_000)
            .map(|n| Seen {
                meta: meta(n),
                applied: Some(Err(("AppliedManifestFailed", "x".repeat(1_000)))),
                available: ("False", "ResourceNotAvailable", "Resource is not available".into()),
                feedback: vec![json!({"name": "n", "fieldValue": {"type": "String", "string": "y".repeat(500)}})],
                synced: Some(("True", "StatusFeedbackSynced", String::new())),
                by_rules: Vec::new(),
                was_complete: false,
            })
            .collect();
        let mut work = json!({"spec": {"workload": {"manifests": manifests}}});
        let began = std::time::Instant::now();
        put_what_fits(&mut work, &seen, 1, "2026-01-01T00:00:00Z");
        let first = work.clone();
        put_what_fits(&mut work, &seen, 1, "2026-01-01T00:00:10Z");
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
        assert!(first == work, "what is the same is said in the same way");
        assert!(work.to_string().len() <= WORK_BYTES_MAX, "{}", work.to_string().len());
        let one = &work["status"]["resourceStatus"]["manifests"][7];
        assert_eq!(one["conditions"][0]["reason"], "AppliedManifestFailed");
        assert_eq!(one["conditions"][2]["message"], TOO_MUCH);
        assert!(one["statusFeedback"].is_null());
        assert_eq!(work["status"]["conditions"][0]["status"], "False");
    }

    #[test]
    fn what_rules_made_goes_with_them() {
        let seen = |by_rules| Seen {
            meta: json!({"ordinal": 0, "kind": "Job", "name": "a"}),
            applied: Some(Ok(())),
            available: ("True", "ResourceAvailable", "Resource is available".into()),
            feedback: vec![json!({"name": "n"})],
            synced: None,
            by_rules,
            was_complete: false,
        };
        let said = RuleOutcome {
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

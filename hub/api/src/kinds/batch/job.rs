//! Job: pods that are made until enough of them have succeeded.

use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Selection, Strategy, Trait};
use freewheel_hub_schema::name as names;
use freewheel_hub_schema::selector::LabelSelector;
use freewheel_hub_schema::time;
use serde_json::{Value, json};

use super::{job_spec, job_status};
use crate::kinds::accessors::{
    AGE, NAME, age, child, column, condition, flag, int, name, text, wide,
};
use crate::kinds::field_value::FieldValue;
use crate::kinds::template;
use crate::pins::RESOLVED;

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "How far it is."),
    column("Completions", "string", "Pods that have succeeded, of those wanted."),
    column("Duration", "string", "How long it took, or takes."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Which pods are its own."),
];
/// Labels of a Job's pods: its name, its UID, by their older and newer names.
const NAMED: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const OWNED: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// Job of batch/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("batch", "v1", "Job"), "jobs", Rules)
        .category(["all"])
        .with_status()
        .columns(COLUMNS)
        .fields(["status.successful"])
        .with(&[Trait::LeavesItsOwn])
        .selects_by(Selection::LabelSelector)
        .keeps(RESOLVED)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        if let Some(labels) = labels.filter(|labels| *labels != json!({}))
            && let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
            && meta.get("labels").is_none_or(|labels| *labels == json!({}))
        {
            meta.insert("labels".to_owned(), labels);
        }
        if let Some(spec) = child(object, "spec") {
            job_spec::default(spec);
            spec.entry("manualSelector").or_insert_with(|| false.into());
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    /// Its pods are known by its name and UID, unless its maker chooses them.
    fn born(&self, object: &mut Value) {
        let own = |field: &str| Value::from(text(object, &format!("/metadata/{field}")));
        let (job, uid) = (own("name"), own("uid"));
        if flag(object, "/spec/manualSelector") {
            return;
        }
        let Some(spec) = child(object, "spec") else { return };
        let selector = spec.entry("selector").or_insert_with(|| json!({}));
        if let Some(wanted) = child(selector, "matchLabels") {
            wanted.entry(OWNED[1]).or_insert_with(|| uid.clone());
        }
        let template = spec.entry("template").or_insert_with(|| json!({}));
        if child(template, "metadata").is_none() {
            return;
        }
        let Some(meta) = template.get_mut("metadata") else { return };
        if let Some(labels) = child(meta, "labels") {
            let named = NAMED.iter().map(|label| (label, &job));
            for (label, value) in named.chain(OWNED.iter().map(|label| (label, &uid))) {
                labels.entry(*label).or_insert_with(|| value.clone());
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = check_generated(object, &spec);
        errors.extend(job_spec::check(&spec));
        let selector = spec.child("selector");
        errors.extend(selector.must_be());
        match LabelSelector::from_json(Some(selector.value), &selector.path) {
            Err(wrong) => errors.extend(wrong),
            Ok(wanted) => {
                let labels = spec.child("template").child("metadata").child("labels");
                if !wanted.matches_json(Some(labels.value)) {
                    errors.push(labels.invalid("`selector` does not match template `labels`"));
                }
            }
        }
        let completions = spec.child("completions").int().unwrap_or_default();
        if spec.child("completionMode").text() == "Indexed" && 0 < completions {
            let own = text(object, "/metadata/name");
            let host = format!("{own}-{}", completions - 1);
            if !names::dns_label(&host).is_empty() {
                let text = format!("will not able to create pod with invalid DNS label: {host}");
                errors.push(FieldError::invalid("metadata.name", &own.into(), &text));
            }
        }
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door == Some("status") {
            return job_status::check(new, old);
        }
        let (now, was) = (FieldValue::of(new, "spec"), FieldValue::of(old, "spec"));
        let mut errors = Vec::new();
        let completions = now.child("completions");
        let changed = completions.value != was.child("completions").value;
        let indexed = now.child("completionMode").text() == "Indexed";
        if indexed && changed && completions.value != now.child("parallelism").value {
            let text = "can only be modified in tandem with spec.parallelism";
            errors.extend(completions.is_there().then(|| completions.invalid(text)));
        } else if !indexed && changed {
            errors.extend(completions.stays(&was.child("completions")));
        }
        errors.extend(now.child("selector").stays(&was.child("selector")));
        errors.extend(check_template(new, old));
        for field in [
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ] {
            errors.extend(now.child(field).stays(&was.child(field)));
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        job_spec::warnings(&FieldValue::of(object, "spec"))
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let succeeded = int(object, "/status/succeeded").to_string();
        BTreeMap::from([("status.successful".to_owned(), succeeded)])
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/spec/template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let mut row = vec![
            name(object),
            phase(object).into(),
            completions(object).into(),
            duration(object, now).into(),
            age(object, now),
        ];
        row.extend(template::wide_cells(object));
        row
    }
}

fn phase(object: &Value) -> &'static str {
    let is = |kind: &str| condition(object, kind).is_some_and(|c| text(c, "/status") == "True");
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if !text(object, "/metadata/deletionTimestamp").is_empty() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(object: &Value) -> String {
    let (succeeded, at_once) = (int(object, "/status/succeeded"), int(object, "/spec/parallelism"));
    match object.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if 1 < at_once => format!("{succeeded}/1 of {at_once}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(object: &Value, now: i64) -> String {
    let Some(start) = time::parse_unix(text(object, "/status/startTime")) else {
        return String::new();
    };
    let end = time::parse_unix(text(object, "/status/completionTime")).unwrap_or(now);
    time::human(end - start)
}

/// What is generated has to be there, whoever wrote it.
fn check_generated(object: &Value, spec: &FieldValue<'_>) -> Vec<FieldError> {
    let selector = spec.child("selector");
    if flag(object, "/spec/manualSelector") || !selector.is_there() {
        return Vec::new();
    }
    let (job, uid) = (text(object, "/metadata/name"), text(object, "/metadata/uid"));
    let meta = spec.child("template").child("metadata");
    let labels = meta.child("labels");
    let mut errors = Vec::new();
    if uid.is_empty() {
        errors.push(FieldError::required("metadata.uid", ""));
    }
    let expected = [(OWNED[0], uid), (NAMED[0], job), (OWNED[1], uid), (NAMED[1], job)];
    for (label, value) in expected {
        let at = format!("{}.labels[{label}]", meta.path);
        match labels.value.get(label).and_then(Value::as_str) {
            None => errors.push(FieldError::required(at, &format!("must be '{value}'"))),
            Some(found) if found != value => {
                let text = format!("must be '{value}'");
                errors.push(FieldError::invalid(at, labels.value, &text));
            }
            Some(_) => {}
        }
    }
    let own = json!({OWNED[0]: uid, NAMED[0]: job, OWNED[1]: uid, NAMED[1]: job});
    let wanted = LabelSelector::from_json(Some(selector.value), &selector.path);
    if wanted.is_ok_and(|wanted| !wanted.matches_json(Some(&own))) {
        errors.push(selector.invalid("`selector` not auto-generated"));
    }
    errors
}

/// The template stays; of a suspended Job without pods, what its pods may use and where they may run does not.
fn check_template(new: &Value, old: &Value) -> Option<FieldError> {
    let suspended = condition(old, "Suspended").is_some_and(|c| text(c, "/status") == "True");
    let idle = flag(old, "/spec/suspend")
        && (suspended || old.pointer("/status/startTime").is_none())
        && int(old, "/status/active") == 0;
    let fixed = |object: &Value| {
        let mut template = object.pointer("/spec/template").cloned().unwrap_or_default();
        if idle {
            job_spec::drop_what_may_change(&mut template);
        }
        template
    };
    let template = FieldValue::of(new, "spec").child("template");
    let at = if idle { template.child("spec") } else { template };
    (fixed(new) != fixed(old)).then(|| at.invalid(crate::kinds::field_value::IMMUTABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Value {
        let mut job = json!({"metadata": {"name": "pi", "uid": "u-1", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        Rules.default(&mut job);
        Rules.prepare_create(&mut job);
        Rules.born(&mut job);
        job
    }

    #[test]
    fn a_job_knows_its_pods_by_its_uid() {
        let job = job();
        assert_eq!(
            job["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})
        );
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["job-name"], "pi");
        assert_eq!(labels["controller-uid"], "u-1");
        assert_eq!(Rules.validate(&job), []);
        let mut other = job.clone();
        other["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"] =
            json!("u-2");
        let errors = Rules.validate(&other);
        assert!(errors[0].message.ends_with("`selector` not auto-generated"), "{errors:?}");
    }

    #[test]
    fn a_template_changes_only_while_nothing_runs() {
        let old = job();
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"zone": "attic"});
        assert_eq!(Rules.validate_update(None, &new, &old)[0].field, "spec.template");
        let mut old = old;
        old["spec"]["suspend"] = json!(true);
        assert_eq!(Rules.validate_update(None, &new, &old), []);
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
        assert_eq!(Rules.validate_update(None, &new, &old)[0].field, "spec.template.spec");
    }

    #[test]
    fn a_row_tells_how_far_it_is() {
        let mut job = job();
        job["status"] = json!({"succeeded": 1, "startTime": "1970-01-01T00:00:10Z"});
        assert_eq!(
            Rules.row(&job, 70)[..4],
            [json!("pi"), json!("Running"), json!("1/1"), json!("60s")]
        );
        job["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
        assert_eq!(Rules.row(&job, 70)[1], "Complete");
    }
}

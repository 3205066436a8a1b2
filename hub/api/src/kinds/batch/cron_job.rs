//! CronJob: Jobs of a template, at certain times.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use freewheel_hub_schema::time;
use serde_json::{Value, json};

use super::job_spec;
use crate::cron::Cron;
use crate::kinds::accessors::{
    AGE, NAME, age, child, column, flag, list, name, set_default, text, text_or, wide,
};
use crate::kinds::field_value::FieldValue;
use crate::kinds::template;
use crate::time_zone;

const COLUMNS: &[Column] = &[
    NAME,
    column("Schedule", "string", "When it runs."),
    column("Timezone", "string", "By which clock."),
    column("Suspend", "boolean", "Whether it waits."),
    column("Active", "integer", "Jobs that run."),
    column("Last Schedule", "string", "Time since it ran last."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Which pods are its own."),
];
/// Longest name: eleven characters more have to be a label.
const NAME_BYTES_MAX: usize = 52;
/// Longest part of a time zone's name.
const ZONE_PART_MAX: usize = 14;

/// CronJob of batch/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("batch", "v1", "CronJob"), "cronjobs", Rules)
        .short(["cj"])
        .category(["all"])
        .with_status()
        .columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "concurrencyPolicy", "Allow");
        set_default(spec, "suspend", false);
        set_default(spec, "successfulJobsHistoryLimit", 3);
        set_default(spec, "failedJobsHistoryLimit", 1);
        let job = spec.get_mut("jobTemplate").and_then(|template| template.get_mut("spec"));
        if let Some(job) = job.and_then(Value::as_object_mut) {
            job_spec::default_template(job);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = check_schedule(&spec);
        errors.extend(spec.child("startingDeadlineSeconds").at_least(0));
        errors.extend(check_zone(&spec.child("timeZone")));
        let policy = spec.child("concurrencyPolicy");
        errors.extend(policy.must_be());
        if !policy.is_empty() {
            errors.extend(policy.one_of(&["Allow", "Forbid", "Replace"]));
        }
        let job = spec.child("jobTemplate").child("spec");
        errors.extend(job_spec::check(&job));
        let selector = job.child("selector");
        if selector.is_there() {
            errors.push(selector.invalid("`selector` will be auto-generated"));
        }
        let manual = job.child("manualSelector");
        if manual.value == &json!(true) {
            errors.push(manual.not_supported(&["nil", "false"]));
        }
        errors.extend(spec.child("successfulJobsHistoryLimit").at_least(0));
        errors.extend(spec.child("failedJobsHistoryLimit").at_least(0));
        let own = text(object, "/metadata/name");
        if NAME_BYTES_MAX < own.len() {
            let text = "must be no more than 52 characters";
            errors.push(FieldError::invalid("metadata.name", &own.into(), text));
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let job = FieldValue::of(object, "spec").child("jobTemplate").child("spec");
        job_spec::warnings(&job)
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/spec/jobTemplate/spec/template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let job = object.pointer("/spec/jobTemplate/spec").unwrap_or(&Value::Null);
        let last = match text(object, "/status/lastScheduleTime") {
            "" => "<none>".to_owned(),
            moment => time::age(moment, now),
        };
        let suspended = if flag(object, "/spec/suspend") { "True" } else { "False" };
        let [names, images] = template::container_cells(job);
        vec![
            name(object),
            text(object, "/spec/schedule").into(),
            text_or(object, "/spec/timeZone", "<none>").into(),
            suspended.into(),
            list(object, "/status/active").len().into(),
            last.into(),
            age(object, now),
            names,
            images,
            template::selector_cell(job.get("selector")),
        ]
    }
}

fn check_schedule(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let at = spec.child("schedule");
    if at.is_empty() {
        return vec![at.required("")];
    }
    let mut errors = Vec::new();
    if let Err(why) = Cron::read(at.text()) {
        errors.push(at.invalid(&why));
    }
    if at.text().contains("TZ") {
        let text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(at.invalid(text));
    }
    errors
}

fn check_zone(zone: &FieldValue<'_>) -> Option<FieldError> {
    if !zone.is_there() {
        return None;
    }
    let name = zone.text();
    if name.is_empty() {
        return Some(zone.invalid("timeZone must be nil or non-empty string"));
    }
    let valid = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
        let named = !matches!(part, "" | "." | "..") && part.len() <= ZONE_PART_MAX;
        named && !part.starts_with('-') && part.bytes().all(plain)
    };
    let unknown = || zone.invalid(&format!("unknown time zone {name}"));
    if !name.split('/').all(valid) {
        return Some(unknown());
    }
    if name.eq_ignore_ascii_case("local") {
        let text =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return Some(zone.invalid(text));
    }
    time_zone::rules(name).is_none().then(unknown)
}

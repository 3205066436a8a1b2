//! What is measured, and what it is to be.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use crate::kinds::accessors::{list, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::resource_name;

/// What CPU is to be, unless something else is said: a percentage of what is requested.
pub(super) const CPU_TARGET_PERCENT: i64 = 80;
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// Fields with a source, in the order in which they are looked at, and the types that they are of.
const SOURCES: &[(&str, &str)] = &[
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];
/// Most metrics in a cell.
const CELL_METRICS_MAX: usize = 2;

/// Every mistake of the metrics.
pub(super) fn check(metrics: &FieldValue<'_>) -> Vec<FieldError> {
    metrics.items().flat_map(|metric| check_metric(&metric)).collect()
}

fn check_metric(metric: &FieldValue<'_>) -> Vec<FieldError> {
    let kind = metric.child("type");
    let mut errors = Vec::new();
    if kind.is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    }
    if !TYPES.contains(&kind.text()) {
        errors.push(kind.not_supported(TYPES));
    }
    let given: Vec<_> =
        SOURCES.iter().filter(|(field, _)| metric.child(field).is_there()).collect();
    if let Some((field, _)) = given.first() {
        errors.extend(check_source(field, &metric.child(field)));
    }
    let expected = SOURCES.iter().find(|(_, of)| *of == kind.text()).map(|(field, _)| *field);
    if let Some(expected) = expected
        && !metric.child(expected).is_there()
    {
        let text = "must populate information for the given metric source";
        errors.push(metric.child(expected).required(text));
    }
    if given.len() != 1 {
        let others = given.iter().filter(|(field, _)| Some(*field) != expected);
        let text = "must populate the given metric source only";
        errors.extend(others.map(|(field, _)| metric.child(field).forbidden(text)));
    }
    errors
}

fn check_source(field: &str, source: &FieldValue<'_>) -> Vec<FieldError> {
    let target = source.child("target");
    let (value, average) = (target.child("value"), target.child("averageValue"));
    let utilization = target.child("averageUtilization");
    let mut errors = Vec::new();
    match field {
        "object" => errors.extend(check_reference(&source.child("describedObject"), true)),
        "containerResource" => errors.extend(check_container(source)),
        "resource" if source.child("name").is_empty() => {
            errors.push(source.child("name").required("must specify a resource name"));
        }
        _ => {}
    }
    if matches!(field, "object" | "pods" | "external") {
        let name = source.child("metric").child("name");
        if name.is_empty() {
            errors.push(name.required("must specify a metric name"));
        } else {
            errors.extend(name.follows(names::path_segment));
        }
    }
    errors.extend(check_target(&target));
    let missing = match field {
        "object" if !value.is_there() && !average.is_there() => {
            Some((&average, "must set either a target value or averageValue"))
        }
        "external" if !value.is_there() && !average.is_there() => {
            Some((&average, "must set either a target value for metric or a per-pod target"))
        }
        "pods" if !average.is_there() => {
            Some((&average, "must specify a positive target averageValue"))
        }
        "resource" | "containerResource" if !utilization.is_there() && !average.is_there() => {
            Some((&utilization, "must set either a target raw value or a target utilization"))
        }
        _ => None,
    };
    errors.extend(missing.map(|(at, text)| at.required(text)));
    if field == "external" && value.is_there() && average.is_there() {
        let text = "may not set both a target value for metric and a per-pod target";
        errors.push(value.forbidden(text));
    }
    if field.to_lowercase().ends_with("resource") && utilization.is_there() && average.is_there() {
        let text = "may not set both a target raw value and a target utilization";
        errors.push(average.forbidden(text));
    }
    errors
}

fn check_container(source: &FieldValue<'_>) -> Vec<FieldError> {
    let (name, container) = (source.child("name"), source.child("container"));
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(name.required("must specify a resource name"));
    } else {
        errors.extend(resource_name::check_of_container(name.text(), &name));
    }
    if container.is_empty() {
        errors.push(container.required("must specify a container"));
    } else {
        errors.extend(container.follows(names::dns_label));
    }
    errors
}

fn check_target(target: &FieldValue<'_>) -> Vec<FieldError> {
    let kind = target.child("type");
    let mut errors = Vec::new();
    if kind.is_empty() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        errors.push(kind.invalid("must be either Utilization, Value, or AverageValue"));
    }
    for field in ["value", "averageValue"] {
        let amount = target.child(field);
        errors.extend(amount.positive().map(|_| amount.invalid("must be positive")));
    }
    let utilization = target.child("averageUtilization");
    if utilization.int().is_some_and(|percent| percent < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
    errors
}

/// What of the metrics nobody measures.
pub(super) fn warnings(metrics: &FieldValue<'_>) -> Vec<String> {
    metrics.items().filter_map(|metric| warning(&metric)).collect()
}

fn warning(metric: &FieldValue<'_>) -> Option<String> {
    let (field, _) = SOURCES.iter().find(|(_, of)| *of == metric.child("type").text())?;
    let source = metric.child(field);
    let told =
        |at: &FieldValue<'_>, why: &str| Some(format!("{}: kept without effect: {why}", at.path));
    if *field == "external" {
        return told(&source, "nobody serves external.metrics.k8s.io here");
    }
    if ["object", "pods"].contains(field) {
        return told(&source, "nobody serves custom.metrics.k8s.io here");
    }
    let name = source.child("name");
    let is_measured = ["cpu", "memory"].contains(&name.text());
    if is_measured { None } else { told(&name, "of pods cpu and memory are measured") }
}

/// `cpu: 20%/80% + 1 more...`
pub(super) fn cell(object: &Value) -> String {
    let (specs, seen) = (list(object, "/spec/metrics"), list(object, "/status/currentMetrics"));
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let cells: Vec<String> =
        specs.iter().enumerate().map(|(i, spec)| one(spec, seen.get(i))).collect();
    let shown =
        cells.iter().take(CELL_METRICS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match cells.len().checked_sub(CELL_METRICS_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}

fn one(spec: &Value, seen: Option<&Value>) -> String {
    let Some((field, _)) = SOURCES.iter().find(|(_, of)| *of == text(spec, "/type")) else {
        return "<unknown type>".to_owned();
    };
    let wanted = |of: &str| spec.pointer(&format!("/{field}/target/{of}")).and_then(shown);
    let current = |of: &str| {
        let found = seen.and_then(|seen| seen.pointer(&format!("/{field}/current/{of}")));
        found.and_then(shown).unwrap_or_else(|| "<unknown>".to_owned())
    };
    let (value, average) = (wanted("value"), wanted("averageValue"));
    match *field {
        "pods" => format!("{}/{}", current("averageValue"), average.unwrap_or_default()),
        "object" | "external" => match average {
            Some(average) => format!("{}/{average} (avg)", current("averageValue")),
            None => format!("{}/{}", current("value"), value.unwrap_or_default()),
        },
        _ => {
            let name = text(spec, &format!("/{field}/name"));
            if let Some(average) = average {
                return format!("{name}: {}/{average}", current("averageValue"));
            }
            let percent =
                |text: String| if text == "<unknown>" { text } else { format!("{text}%") };
            let target = wanted("averageUtilization").map_or_else(|| "<auto>".to_owned(), percent);
            format!("{name}: {}/{target}", percent(current("averageUtilization")))
        }
    }
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// So much of the CPU that is requested.
pub(super) fn cpu(percent: i64) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// Which object of which kind; without a group only where there is none.
pub(super) fn check_reference(target: &FieldValue<'_>, core: bool) -> Vec<FieldError> {
    let mut errors = target.child("kind").named(names::path_segment);
    errors.extend(target.child("name").named(names::path_segment));
    let version = target.child("apiVersion");
    let found = version.text();
    if 1 < found.matches('/').count() {
        errors.push(version.invalid(&format!("unexpected GroupVersion string: {found}")));
    } else if !core && !found.contains('/') {
        let text = "apiVersion must specify API group";
        errors.push(FieldError::invalid(&*version.path, &json!(found), text));
    }
    errors
}

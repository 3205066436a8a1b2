//! The older form: one target for CPU, and what else there is as text in annotations.

use std::borrow::Cow;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Strategy;
use serde_json::{Map, Value, json};

use super::{metrics, v2};
use crate::kinds::accessors::{child, list, set_default, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const VERSIONS: [&str; 2] = ["autoscaling/v1", "autoscaling/v2"];

/// A field of an older metric, where that is in a newer one, and whether Go writes it when it is nothing.
type Pair = (&'static str, &'static str, bool);

const NAMED: Pair = ("metricName", "/metric/name", false);
const SELECTED: Pair = ("selector", "/metric/selector", false);
const RESOURCE: Pair = ("name", "/name", false);
const CONTAINER: Pair = ("container", "/container", false);
const PERCENT: Pair = ("targetAverageUtilization", "/target/averageUtilization", false);
const AVERAGE: Pair = ("targetAverageValue", "/target/averageValue", false);
const PERCENT_NOW: Pair = ("currentAverageUtilization", "/current/averageUtilization", false);
const AVERAGE_NOW: Pair = ("currentAverageValue", "/current/averageValue", true);

const WANTED: &[(&str, &[Pair])] = &[
    (
        "object",
        &[
            ("target", "/describedObject", false),
            NAMED,
            SELECTED,
            ("targetValue", "/target/value", true),
            ("averageValue", "/target/averageValue", false),
        ],
    ),
    ("pods", &[NAMED, SELECTED, ("targetAverageValue", "/target/averageValue", true)]),
    ("resource", &[RESOURCE, PERCENT, AVERAGE]),
    ("containerResource", &[RESOURCE, CONTAINER, PERCENT, AVERAGE]),
    (
        "external",
        &[
            NAMED,
            ("metricSelector", "/metric/selector", false),
            ("targetValue", "/target/value", false),
            AVERAGE,
        ],
    ),
];
const SEEN: &[(&str, &[Pair])] = &[
    (
        "object",
        &[
            ("target", "/describedObject", false),
            NAMED,
            SELECTED,
            ("currentValue", "/current/value", true),
            ("averageValue", "/current/averageValue", false),
        ],
    ),
    ("pods", &[NAMED, SELECTED, AVERAGE_NOW]),
    ("resource", &[RESOURCE, PERCENT_NOW, AVERAGE_NOW]),
    ("containerResource", &[RESOURCE, CONTAINER, PERCENT_NOW, AVERAGE_NOW]),
    (
        "external",
        &[
            NAMED,
            ("metricSelector", "/metric/selector", false),
            ("currentValue", "/current/value", true),
            ("currentAverageValue", "/current/averageValue", false),
        ],
    ),
];

/// Rules of the older form: those of the newer one.
pub(super) struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            set_default(spec, "minReplicas", 1);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        v2::Rules.prepare_create(object);
        if let Some(status) = child(object, "status") {
            status.insert("currentReplicas".to_owned(), 0.into());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        v2::Rules.validate(&newer(object))
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        v2::Rules.validate_update(door, &newer(new), &newer(old))
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        v2::Rules.warnings(&newer(object))
    }

    fn to_stored(&self, object: &mut Value) {
        into_newer(object);
    }

    fn from_stored(&self, object: &mut Value) -> Result<(), String> {
        into_older(object);
        Ok(())
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        v2::Rules.row(&newer(object), now)
    }
}

fn newer(object: &Value) -> Cow<'_, Value> {
    let mut object = object.clone();
    into_newer(&mut object);
    Cow::Owned(object)
}

fn is_cpu_percentage(metric: &Value) -> bool {
    text(metric, "/type") == "Resource"
        && text(metric, "/resource/name") == "cpu"
        && metric.pointer("/resource/target/averageUtilization").is_some()
}

fn into_older(object: &mut Value) {
    let metrics = list(object, "/spec/metrics");
    let cpu = metrics.iter().find(|metric| is_cpu_percentage(metric));
    let percent = cpu.and_then(|cpu| cpu.pointer("/resource/target/averageUtilization")).cloned();
    let others: Vec<Value> = metrics
        .iter()
        .filter(|metric| !is_cpu_percentage(metric))
        .map(|metric| older_metric(metric, WANTED))
        .collect();
    let current = list(object, "/status/currentMetrics");
    let seen: Vec<Value> = current.iter().map(|metric| older_metric(metric, SEEN)).collect();
    let of_cpu = current.iter().rfind(|metric| {
        text(metric, "/type") == "Resource" && text(metric, "/resource/name") == "cpu"
    });
    let percent_now =
        of_cpu.and_then(|cpu| cpu.pointer("/resource/current/averageUtilization")).cloned();
    let conditions = list(object, "/status/conditions").to_vec();
    let behavior = object.pointer("/spec/behavior").cloned();
    let mut notes = Vec::new();
    drop_notes(object);
    for (key, list) in [(METRICS, others), (CURRENT, seen), (CONDITIONS, conditions)] {
        if !list.is_empty() {
            notes.push((key, Value::Array(list)));
        }
    }
    notes.extend(behavior.map(|behavior| (BEHAVIOR, behavior)));
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("metrics");
        spec.remove("behavior");
        spec.extend(percent.map(|percent| ("targetCPUUtilizationPercentage".to_owned(), percent)));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("currentMetrics");
        status.remove("conditions");
        set_default(status, "currentReplicas", 0);
        let now = percent_now.map(|now| ("currentCPUUtilizationPercentage".to_owned(), now));
        status.extend(now);
    }
    write_notes(object, &notes);
    set_version(object, VERSIONS[0]);
}

fn into_newer(object: &mut Value) {
    if text(object, "/apiVersion") == VERSIONS[1] {
        return;
    }
    let note = |key: &str| -> Option<Value> {
        let text = object.pointer("/metadata/annotations")?.get(key)?.as_str()?;
        serde_json::from_str(text).ok()
    };
    let listed = |key: &str| note(key).and_then(|note| note.as_array().cloned());
    let (others, seen) = (listed(METRICS), listed(CURRENT));
    let (conditions, behavior) = (listed(CONDITIONS), note(BEHAVIOR).filter(Value::is_object));
    let mut metrics: Vec<Value> =
        others.unwrap_or_default().iter().map(|metric| newer_metric(metric, WANTED)).collect();
    drop_notes(object);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let percent = spec.remove("targetCPUUtilizationPercentage");
        metrics.extend(percent.and_then(|percent| percent.as_i64()).map(metrics::cpu));
        if metrics.is_empty() {
            metrics.push(metrics::cpu(metrics::CPU_TARGET_PERCENT));
        }
        spec.insert("metrics".to_owned(), metrics.into());
        spec.extend(behavior.map(|behavior| ("behavior".to_owned(), behavior)));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let percent = status.remove("currentCPUUtilizationPercentage");
        let seen = seen.map(|seen| seen.iter().map(|metric| newer_metric(metric, SEEN)).collect());
        let cpu = percent.map(|percent| {
            let current = json!({"averageUtilization": percent});
            vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})]
        });
        status.extend(seen.or(cpu).map(|seen| ("currentMetrics".to_owned(), Value::Array(seen))));
        let conditions = conditions.map(|all| ("conditions".to_owned(), Value::Array(all)));
        status.extend(conditions);
    }
    set_version(object, VERSIONS[1]);
}

fn set_version(object: &mut Value, version: &str) {
    if let Some(map) = object.as_object_mut()
        && map.contains_key("apiVersion")
    {
        map.insert("apiVersion".to_owned(), version.into());
    }
}

/// Takes away what says in text what the newer form says in fields.
fn drop_notes(object: &mut Value) {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| ![METRICS, CURRENT, CONDITIONS, BEHAVIOR].contains(&&**key));
        if annotations.is_empty() {
            meta.remove("annotations");
        }
    }
}

fn write_notes(object: &mut Value, notes: &[(&'static str, Value)]) {
    let Some(meta) = object.get_mut("metadata").filter(|_| !notes.is_empty()) else { return };
    if let Some(annotations) = child(meta, "annotations") {
        let notes = notes.iter().map(|(key, note)| ((*key).to_owned(), note.to_string().into()));
        annotations.extend(notes);
    }
}

fn older_metric(metric: &Value, table: &[(&str, &[Pair])]) -> Value {
    let mut older = json!({"type": text(metric, "/type")});
    for (source, pairs) in table {
        let Some(found) = metric.get(source) else { continue };
        let mut fields = Map::new();
        for (field, pointer, always) in *pairs {
            match found.pointer(pointer) {
                Some(value) => drop(fields.insert((*field).to_owned(), value.clone())),
                None if *always => drop(fields.insert((*field).to_owned(), "0".into())),
                None => {}
            }
        }
        older[*source] = Value::Object(fields);
    }
    older
}

fn newer_metric(metric: &Value, table: &[(&str, &[Pair])]) -> Value {
    let mut newer = json!({"type": text(metric, "/type")});
    for (source, pairs) in table {
        let Some(found) = metric.get(source) else { continue };
        let mut of = json!({});
        for (field, pointer, _) in *pairs {
            let value = found.get(field).filter(|value| !value.is_null());
            // Nothing is no target beside another one.
            let spare = *field == "targetValue" && found.get("averageValue").is_some();
            if let Some(value) = value.filter(|value| !(spare && **value == json!("0"))) {
                put(&mut of, pointer, value.clone());
            }
        }
        if pairs.iter().any(|(_, pointer, _)| pointer.starts_with("/target/")) {
            let kind = target_type(source, &of);
            put(&mut of, "/target/type", kind.into());
        }
        newer[*source] = of;
    }
    newer
}

fn target_type(source: &str, of: &Value) -> &'static str {
    let has = |field: &str| of.pointer(&format!("/target/{field}")).is_some();
    match source {
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        "external" if has("value") => "Value",
        "object" if !has("averageValue") => "Value",
        _ => "AverageValue",
    }
}

/// Puts it where the pointer of two steps says.
fn put(of: &mut Value, pointer: &str, value: Value) {
    let mut steps = pointer.trim_start_matches('/').splitn(2, '/');
    let (Some(first), second) = (steps.next(), steps.next()) else { return };
    match second {
        None => of[first] = value,
        Some(second) => of[first][second] = value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Value {
        let selector = json!({"matchLabels": {"a": "b"}});
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "annotations": {"mine": "1"}},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1, "maxReplicas": 5,
                "metrics": [
                    {"type": "Pods", "pods": {"metric": {"name": "m", "selector": selector},
                        "target": {"type": "AverageValue", "averageValue": "10"}}},
                    {"type": "Object", "object": {"metric": {"name": "m"},
                        "describedObject": {"kind": "Service", "name": "s"}, "target": {"type": "Value", "value": "2"}}},
                    {"type": "External", "external": {"metric": {"name": "m"},
                        "target": {"type": "AverageValue", "averageValue": "3"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c",
                        "target": {"type": "Utilization", "averageUtilization": 50}}},
                    metrics::cpu(70),
                ],
                "behavior": {"scaleDown": {"selectPolicy": "Disabled",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}},
            },
            "status": {"desiredReplicas": 2, "currentReplicas": 1,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 20, "averageValue": "5m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}]},
        })
    }

    #[test]
    fn nothing_is_lost_in_the_older_form() {
        let mut older = full();
        Rules.from_stored(&mut older).unwrap();
        assert_eq!(older["apiVersion"], "autoscaling/v1");
        assert_eq!(older["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(older["status"]["currentCPUUtilizationPercentage"], 20);
        assert!(older["spec"].get("metrics").is_none());
        assert_eq!(older["metadata"]["annotations"].as_object().unwrap().len(), 5);
        assert_eq!(Rules.row(&older, 0), v2::Rules.row(&full(), 0));
        assert_eq!(Rules.row(&older, 0)[2], "<unknown>/10, <unknown>/2 + 3 more...");
        Rules.to_stored(&mut older);
        assert_eq!(older, full());
        assert_eq!(v2::Rules.validate(&older), []);
    }

    #[test]
    fn an_older_one_asks_for_cpu_alone() {
        let mut plain = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "D", "name": "web"}}});
        Rules.default(&mut plain);
        assert_eq!(plain["spec"]["minReplicas"], 1);
        assert_eq!(Rules.validate(&plain), []);
        Rules.to_stored(&mut plain);
        assert_eq!(plain["spec"]["metrics"], json!([metrics::cpu(80)]));
    }
}

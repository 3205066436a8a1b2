//! Values of what was applied, as a work asks for them.
//!
//! Guarantees:
//! - what is not there is left out, and what cannot be found or told is said (`values_are_found_or_missed_or_refused`).

use freewheel_hub_custom::json_path::JsonPath;
use serde_json::{Value, json};

use super::FeedbackRule;
use crate::go_json;

/// Bytes of a list or a map.
const RAW_BYTES_MAX: usize = 1024;

type Paths = &'static [(&'static str, &'static str)];

/// What is known of kinds, by group, version and kind.
const WELL_KNOWN: [(&str, &str, Paths); 4] = [
    (
        "apps/v1",
        "Deployment",
        &[
            ("ReadyReplicas", ".status.readyReplicas"),
            ("Replicas", ".status.replicas"),
            ("AvailableReplicas", ".status.availableReplicas"),
        ],
    ),
    (
        "batch/v1",
        "Job",
        &[
            ("JobComplete", r#".status.conditions[?(@.type=="Complete")].status"#),
            ("JobSucceeded", ".status.succeeded"),
        ],
    ),
    (
        "v1",
        "Pod",
        &[
            ("PodReady", r#".status.conditions[?(@.type=="Ready")].status"#),
            ("PodPhase", ".status.phase"),
        ],
    ),
    (
        "apps/v1",
        "DaemonSet",
        &[
            ("NumberReady", ".status.numberReady"),
            ("DesiredNumberScheduled", ".status.desiredNumberScheduled"),
            ("NumberAvailable", ".status.numberAvailable"),
        ],
    ),
];

/// Values of an object by these rules, and what could not be told.
#[must_use]
pub fn values(object: &Value, rules: &[FeedbackRule]) -> (Vec<Value>, Vec<String>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    let (api_version, kind) = (&object["apiVersion"], &object["kind"]);
    for rule in rules {
        if rule.kind == "WellKnownStatus" {
            let known = WELL_KNOWN.iter().find(|(of, own, _)| api_version == of && kind == own);
            let Some((_, _, paths)) = known else {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let gvk = format!("{}, Kind={}", text(api_version), text(kind));
                failed.push(format!(
                    "cannot find the wellknown statuses for resource with gvk {gvk}"
                ));
                continue;
            };
            for (name, path) in *paths {
                take(object, (name, path), &mut found, &mut failed);
            }
            continue;
        }
        let version =
            api_version.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        for path in &rule.json_paths {
            if !path.version.is_empty() && path.version != version {
                let name = &path.name;
                failed.push(format!(
                    "version set in the path {name} is not matched for the related resource"
                ));
                continue;
            }
            take(object, (&path.name, &path.path), &mut found, &mut failed);
        }
    }
    (found, failed)
}

fn take(
    object: &Value,
    (name, path): (&str, &str),
    found: &mut Vec<Value>,
    failed: &mut Vec<String>,
) {
    let Some(read) = JsonPath::read(path) else {
        failed.push(format!("failed to parse json path {path} of {name}"));
        return;
    };
    let all = match read.find(object) {
        Ok(all) => all,
        Err(why) => {
            failed.push(format!("failed to find value for {name} with error: {why}"));
            return;
        }
    };
    let value = match all.as_slice() {
        [] | [Value::Null] => return,
        [one] => (*one).clone(),
        several => several.iter().map(|one| (*one).clone()).collect(),
    };
    let field_value = match &value {
        Value::String(text) => json!({"type": "String", "string": text}),
        Value::Bool(flag) => json!({"type": "Boolean", "boolean": flag}),
        Value::Number(number) if number.is_i64() => json!({"type": "Integer", "integer": number}),
        other => {
            let raw = go_json::text(other);
            if RAW_BYTES_MAX < raw.len() {
                failed.push(format!(
                    "the length of returned json raw string for name {name} is larger than the maximum length {RAW_BYTES_MAX}"
                ));
                return;
            }
            json!({"type": "JsonRaw", "jsonRaw": raw})
        }
    };
    found.push(json!({"name": name, "fieldValue": field_value}));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: Value) -> Vec<FeedbackRule> {
        serde_json::from_value(rules).unwrap()
    }

    #[test]
    fn values_are_found_or_missed_or_refused() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"labels": {"a": "b"}, "annotations": {"long": "x".repeat(2000)}},
            "status": {"readyReplicas": 2, "conditions": [
                {"type": "Available", "status": "True"}, {"type": "Progressing", "status": "False"}]}});
        let (found, failed) = values(&deployment, &rules(json!([{"type": "WellKnownStatus"}])));
        let ready =
            json!({"name": "ReadyReplicas", "fieldValue": {"type": "Integer", "integer": 2}});
        assert_eq!((found, failed), (vec![ready], vec![]));
        let paths = json!([{"type": "JSONPaths", "jsonPaths": [
            {"name": "available", "path": ".status.conditions[?(@.type==\"Available\")].status"},
            {"name": "all", "path": ".status.conditions[*].type"},
            {"name": "labels", "path": ".metadata.labels "},
            {"name": "third", "path": ".status.conditions[2].type"},
            {"name": "older", "version": "v1beta1", "path": ".status"},
            {"name": "odd", "path": ".status["},
            {"name": "long", "path": ".metadata.annotations"},
        ]}]);
        let (found, failed) = values(&deployment, &rules(paths));
        assert_eq!(
            found,
            [
                json!({"name": "available", "fieldValue": {"type": "String", "string": "True"}}),
                json!({"name": "all", "fieldValue": {"type": "JsonRaw", "jsonRaw": "[\"Available\",\"Progressing\"]"}}),
                json!({"name": "labels", "fieldValue": {"type": "JsonRaw", "jsonRaw": "{\"a\":\"b\"}"}}),
            ]
        );
        assert_eq!(failed.len(), 4, "{failed:?}");
        assert!(failed[0].ends_with("third with error: array index out of bounds"), "{failed:?}");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let (_, failed) = values(&map, &rules(json!([{"type": "WellKnownStatus"}])));
        assert_eq!(
            failed,
            ["cannot find the wellknown statuses for resource with gvk v1, Kind=ConfigMap"]
        );
    }
}

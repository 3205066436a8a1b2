//! autoscaling/v2: several metrics, and how fast to follow them.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Strategy;
use serde_json::{Map, Value, json};

use super::metrics;
use crate::kinds::accessors::{age, child, int, name, set_default, text};
use crate::kinds::field_value::FieldValue;

/// Longest look back, and longest period of a policy, in seconds.
const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

pub(super) struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "minReplicas", 1);
        if spec.get("metrics").is_none_or(|metrics| *metrics == json!([])) {
            spec.insert("metrics".to_owned(), json!([metrics::cpu(metrics::CPU_TARGET_PERCENT)]));
        }
        if let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) {
            let up = json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]);
            default_rules(behavior, "scaleUp", Some(0), up);
            let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
            default_rules(behavior, "scaleDown", None, down);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"desiredReplicas": 0}));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let (least, most) = (spec.child("minReplicas"), spec.child("maxReplicas"));
        let mut errors: Vec<_> = least.at_least(1).into_iter().collect();
        match most.int().unwrap_or_default() {
            0 => errors.push(most.required("must be set and greater than 0")),
            _ => errors.extend(most.at_least(1)),
        }
        if most.int().unwrap_or_default() < least.int().unwrap_or(i64::MIN) {
            errors.push(most.invalid("must be greater than or equal to `minReplicas`"));
        }
        let target = spec.child("scaleTargetRef");
        let core = target.child("kind").text() == "ReplicationController";
        errors.extend(metrics::check_reference(&target, core));
        errors.extend(metrics::check(&spec.child("metrics")));
        for direction in ["scaleUp", "scaleDown"] {
            let rules = spec.child("behavior").child(direction);
            if rules.is_there() {
                errors.extend(check_rules(&rules));
            }
        }
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, _: &Value) -> Vec<FieldError> {
        if door != Some("status") {
            return Vec::new();
        }
        let status = FieldValue::of(new, "status");
        let counts = ["currentReplicas", "desiredReplicas"].map(|field| status.child(field));
        counts.iter().filter_map(|count| count.at_least(0)).collect()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        metrics::warnings(&FieldValue::of(object, "spec").child("metrics"))
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let target = object.pointer("/spec/scaleTargetRef").unwrap_or(&Value::Null);
        let least = object.pointer("/spec/minReplicas").and_then(Value::as_i64);
        let least = least.map_or_else(|| "<unset>".to_owned(), |least| least.to_string());
        vec![
            name(object),
            format!("{}/{}", text(target, "/kind"), text(target, "/name")).into(),
            metrics::cell(object).into(),
            least.into(),
            int(object, "/spec/maxReplicas").into(),
            int(object, "/status/currentReplicas").into(),
            age(object, now),
        ]
    }
}

fn default_rules(
    behavior: &mut Map<String, Value>,
    direction: &str,
    window: Option<i64>,
    policies: Value,
) {
    set_default(behavior, direction, json!({}));
    let Some(rules) = behavior.get_mut(direction).and_then(Value::as_object_mut) else { return };
    set_default(rules, "selectPolicy", "Max");
    set_default(rules, "policies", policies);
    if let Some(window) = window {
        set_default(rules, "stabilizationWindowSeconds", window);
    }
}

fn check_rules(rules: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let window = rules.child("stabilizationWindowSeconds");
    if window.int().is_some_and(|window| window < 0) {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    if window.int().is_some_and(|window| WINDOW_SECONDS_MAX < window) {
        errors.push(window.invalid(&format!("must be less than or equal to {WINDOW_SECONDS_MAX}")));
    }
    errors.extend(rules.child("selectPolicy").one_of(&["Disabled", "Max", "Min"]));
    let policies = rules.child("policies");
    if policies.is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        let kind = policy.child("type");
        if !matches!(kind.text(), "Pods" | "Percent") {
            errors.push(kind.not_supported(&["Percent", "Pods"]));
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.child(field);
            if number.int().unwrap_or_default() <= 0 {
                errors.push(number.invalid("must be greater than zero"));
            }
        }
        let period = policy.child("periodSeconds");
        if period.int().is_some_and(|period| PERIOD_SECONDS_MAX < period) {
            errors.push(
                period.invalid(&format!("must be less than or equal to {PERIOD_SECONDS_MAX}")),
            );
        }
    }
    errors.extend(rules.child("tolerance").not_negative());
    errors
}

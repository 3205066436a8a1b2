//! PriorityClass: a name for how important pods are.
//!
//! Guarantees:
//! - names that begin with `system-` are the two of [`SYSTEM`], with their values (`only_kubernetes_own_names_are_system_ones`).

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use serde_json::Value;

use super::accessors::{AGE, NAME, age, column, flag, int, name, set_default, text};
use super::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("Value", "integer", "How important."),
    column("Global-Default", "boolean", "Whether it is that of pods without a class."),
    AGE,
    column("PreemptionPolicy", "string", "Whether its pods take the place of others."),
];
/// Highest priority of a class that is not Kubernetes' own.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;
const RESERVED: &str = "system-";

/// The classes that every cluster is born with: name, value, what is said of them.
pub const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// PriorityClass of scheduling.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("scheduling.k8s.io", "v1", "PriorityClass"), "priorityclasses", Rules)
        .cluster_scoped()
        .short(["pc"])
        .columns(COLUMNS)
        .with(&[Trait::CountsOneGeneration])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(object) = object.as_object_mut() {
            set_default(object, "preemptionPolicy", "PreemptLowerPriority");
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let own = text(object, "/metadata/name");
        let value = int(object, "/value");
        if own.starts_with(RESERVED) {
            errors.extend(check_system(own, value, flag(object, "/globalDefault")).map(|why| {
                let text = format!(
                    "priority class names with '{RESERVED}' prefix are reserved for system use only. error: {why}"
                );
                FieldError::forbidden("metadata.name", &text)
            }));
        } else if USER_PRIORITY_MAX < value {
            let text =
                format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
            errors.push(FieldError::forbidden("value", &text));
        }
        let policy = FieldValue::of(object, "preemptionPolicy");
        match policy.text() {
            "" if policy.is_there() => errors.push(policy.required("")),
            "" | "PreemptLowerPriority" | "Never" => {}
            _ => errors.push(policy.not_supported(&["PreemptLowerPriority", "Never"])),
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if int(new, "/value") != int(old, "/value") {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        let policy = |object| FieldValue::of(object, "preemptionPolicy");
        errors.extend(policy(new).stays(&policy(old)));
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            name(object),
            int(object, "/value").into(),
            flag(object, "/globalDefault").into(),
            age(object, now),
            text(object, "/preemptionPolicy").into(),
        ]
    }
}

fn check_system(own: &str, value: i64, default: bool) -> Option<String> {
    match SYSTEM.iter().find(|(name, ..)| *name == own) {
        None => Some(format!("{own} is not a known system priority class")),
        Some((_, expected, _)) if value != *expected => {
            Some(format!("value of {own} PriorityClass must be {expected}"))
        }
        Some(_) if default => Some(format!("globalDefault of {own} PriorityClass must be false")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_kubernetes_own_names_are_system_ones() {
        for (own, value, _) in SYSTEM {
            let class = json!({"metadata": {"name": own}, "value": value});
            assert_eq!(Rules.validate(&class), []);
            let wrong = json!({"metadata": {"name": own}, "value": 1});
            assert_eq!(Rules.validate(&wrong)[0].field, "metadata.name");
        }
        let made_up = json!({"metadata": {"name": "system-gold"}, "value": 1});
        assert!(
            Rules.validate(&made_up)[0].message.ends_with("is not a known system priority class")
        );
    }
}

//! Names of resources, as quotas and limits know them.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;

use super::field_value::FieldValue;

const STANDARD: &[&str] = &[
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];
/// Those that are counted, and have no halves.
const COUNTED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";

/// Mistakes of a name that may stand in any list of resources; `at` is the place of its amount.
pub(super) fn check(name: &str, at: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = wrong(name, at, &names::qualified_name(name));
    if errors.is_empty() && !name.contains('/') && !is_standard(name) {
        let text = "must be a standard resource type or fully qualified";
        errors.extend(wrong(name, at, &[text.to_owned()]));
    }
    errors
}

/// Mistakes of a name that containers may ask for.
pub(super) fn check_of_container(name: &str, at: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = check(name, at);
    let text = if !name.contains('/') {
        let fits = matches!(name, "cpu" | "memory" | "ephemeral-storage");
        (!fits && !name.starts_with(HUGE_PAGES))
            .then_some("must be a standard resource for containers")
    } else {
        let fits = is_native(name) || is_extended(name);
        (!fits).then_some("doesn't follow extended resource name standard")
    };
    errors.extend(text.into_iter().flat_map(|text| wrong(name, at, &[text.to_owned()])));
    errors
}

/// Mistakes of a name that quotas may limit, and of its amount.
pub(super) fn check_of_quota(name: &str, at: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = check(name, at);
    if !name.contains('/') && (!is_standard(name) || name == "storage") {
        errors.extend(wrong(name, at, &["must be a standard resource for quota".to_owned()]));
    }
    errors.extend(check_amount(name, at));
    errors
}

/// An amount may not be negative, and what is counted has no halves.
pub(super) fn check_amount(name: &str, at: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors: Vec<_> = at.not_negative().into_iter().collect();
    let whole = at.amount().is_none_or(|amount| amount.milli_value() % 1000 == 0);
    if !whole && (COUNTED.contains(&name) || is_extended(name)) {
        errors.push(at.invalid("must be an integer"));
    }
    errors
}

/// Whether more of it may be promised than there is.
pub(super) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

fn wrong(name: &str, at: &FieldValue<'_>, complaints: &[String]) -> Vec<FieldError> {
    let shown = name.into();
    complaints.iter().map(|text| FieldError::invalid(&*at.path, &shown, text)).collect()
}

fn is_standard(name: &str) -> bool {
    let bare = name.strip_prefix(REQUESTS).unwrap_or(name);
    STANDARD.contains(&name) || bare.starts_with(HUGE_PAGES)
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a resource of somebody else's domain.
pub(super) fn is_extended(name: &str) -> bool {
    let quota = format!("{REQUESTS}{name}");
    !is_native(name) && !name.starts_with(REQUESTS) && names::qualified_name(&quota).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check_names(
        rule: fn(&str, &FieldValue<'_>) -> Vec<FieldError>,
        cases: &[(&str, Value, &[&str])],
    ) {
        for (name, amount, expected) in cases {
            let found = rule(name, &FieldValue::at(amount, "at"));
            let texts: Vec<_> =
                found.iter().map(|e| e.message.rsplit(": ").next().unwrap()).collect();
            assert_eq!(texts, *expected, "{name}");
        }
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        const STANDARD: &str = "must be a standard resource type or fully qualified";
        const QUOTA: &str = "must be a standard resource for quota";
        check_names(
            check,
            &[
                ("cpu", json!("1"), &[]),
                ("example.com/gpu", json!("1"), &[]),
                ("hugepages-2Mi", json!("1"), &[]),
                ("gold", json!("1"), &[STANDARD]),
            ],
        );
        check_names(
            check_of_container,
            &[
                ("memory", json!("1"), &[]),
                ("pods", json!("1"), &["must be a standard resource for containers"]),
                (
                    "requests.example.com/gpu",
                    json!("1"),
                    &["doesn't follow extended resource name standard"],
                ),
            ],
        );
        check_names(
            check_of_quota,
            &[
                ("requests.cpu", json!("500m"), &[]),
                ("count/deployments.apps", json!("2"), &[]),
                ("gold", json!("1"), &[STANDARD, QUOTA]),
                ("storage", json!("1"), &[QUOTA]),
                ("pods", json!("1500m"), &["must be an integer"]),
                ("cpu", json!("-1"), &["must be greater than or equal to 0"]),
            ],
        );
    }
}

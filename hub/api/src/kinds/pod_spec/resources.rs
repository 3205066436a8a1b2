//! What containers may ask for.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Value, json};

use super::super::accessors::{items_of, list, map, text};

const HUGE: &str = "hugepages-";
/// What containers are counted by, beside huge pages and extended resources.
const OF_CONTAINERS: &[&str] = &["cpu", "ephemeral-storage", "memory"];
/// Names without a domain that mean something elsewhere in the API.
const STANDARD: &[&str] = &[
    "configmaps",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
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
/// Those of them that are counted in wholes.
const WHOLE: &[&str] = &[
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

/// Mistakes in a container's requests, limits and claims; `spec` is its pod's.
pub(super) fn check(resources: &Value, spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["limits", "requests"] {
        for (resource, amount) in map(resources, &format!("/{list}")) {
            let at = format!("{path}.{list}[{resource}]");
            errors.extend(check_name(resource, &at));
            errors.extend(check_amount(resource, amount, &at));
        }
    }
    for (resource, amount) in map(resources, "/requests") {
        let limit = resources.get("limits").and_then(|limits| limits.get(resource));
        errors.extend(check_against(resource, amount, limit, path));
    }
    let names = |list: &str| map(resources, list).map(|(name, _)| name).collect::<Vec<_>>();
    let all = [names("/limits"), names("/requests")].concat();
    let huge = all.iter().any(|name| name.starts_with(HUGE));
    if huge && !all.iter().any(|name| matches!(*name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    errors.extend(check_claims(resources, spec, &format!("{path}.claims")));
    errors
}

/// A resource that the API itself gives a meaning to.
fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && names::qualified_name(&format!("requests.{resource}")).is_empty()
}

/// What may be promised more often than it is there.
fn overcommits(resource: &str) -> bool {
    is_native(resource) && !resource.starts_with(HUGE)
}

fn check_against(
    resource: &str,
    amount: &Value,
    limit: Option<&Value>,
    path: &str,
) -> Option<FieldError> {
    let Some(limit) = limit else {
        let text = "Limit must be set for non overcommitable resources";
        return (!overcommits(resource))
            .then(|| FieldError::required(format!("{path}.limits"), text));
    };
    let (request, bound) = (parse(amount)?, parse(limit)?);
    let must = if !overcommits(resource) && request != bound {
        "equal to"
    } else if request > bound {
        "less than or equal to"
    } else {
        return None;
    };
    let text = format!("must be {must} {resource} limit of {bound}");
    Some(FieldError::invalid(format!("{path}.requests"), amount, &text))
}

fn parse(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn check_amount(resource: &str, amount: &Value, at: &str) -> Vec<FieldError> {
    let Some(found) = parse(amount) else { return Vec::new() };
    let mut errors = Vec::new();
    let mut wrong = |text: &str| errors.push(FieldError::invalid(at, amount, text));
    if found.is_negative() {
        wrong("must be greater than or equal to 0");
    }
    if (is_extended(resource) || WHOLE.contains(&resource)) && found.milli_value() % 1000 != 0 {
        wrong("must be an integer");
    }
    if let Some(size) = resource.strip_prefix(HUGE)
        && !is_multiple(found, size)
    {
        wrong(&format!("{found} is not positive integer multiple of {resource}"));
    }
    errors
}

fn is_multiple(amount: Quantity, size: &str) -> bool {
    let size = size.parse::<Quantity>().map_or(0, |size| size.value());
    amount.value() > 0 && size > 0 && amount.value() % size == 0
}

fn check_name(resource: &str, at: &str) -> Vec<FieldError> {
    let mut complaints = names::qualified_name(resource);
    let plain = !resource.contains('/');
    let known = OF_CONTAINERS.contains(&resource) || resource.starts_with(HUGE);
    if plain && complaints.is_empty() && !known && !STANDARD.contains(&resource) {
        complaints.push("must be a standard resource type or fully qualified".to_owned());
    }
    if plain && !known {
        complaints.push("must be a standard resource for containers".to_owned());
    } else if !is_native(resource) && !is_extended(resource) {
        complaints.push("doesn't follow extended resource name standard".to_owned());
    }
    complaints.iter().map(|text| FieldError::invalid(at, &json!(resource), text)).collect()
}

/// Claims are of the pod's `resourceClaims`.
fn check_claims(resources: &Value, spec: &Value, path: &str) -> Vec<FieldError> {
    let offered: BTreeSet<_> =
        list(spec, "/resourceClaims").iter().map(|claim| text(claim, "/name")).collect();
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, claim) in items_of(resources, "claims") {
        let at = format!("{path}[{i}]");
        let (name, request) = (text(claim, "/name"), text(claim, "/request"));
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        if !request.is_empty() {
            let wrong = names::dns_label(request);
            let at = format!("{at}.request");
            errors
                .extend(wrong.iter().map(|t| FieldError::invalid(at.clone(), &json!(request), t)));
        }
        // Naming a claim names all of its requests.
        let overlaps = |&(other, part): &(&str, &str)| {
            other == name && (part.is_empty() || request.is_empty() || part == request)
        };
        if taken.iter().any(overlaps) {
            errors.push(FieldError::duplicate(&at, &json!(name)));
        }
        taken.insert((name, request));
        if !offered.contains(name) {
            let which = if offered.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", offered.iter().copied().collect::<Vec<_>>().join(", "))
            };
            let mut error = FieldError::not_found(at, &json!(name));
            error.message = format!(
                "{}: must be one of the names in pod.spec.resourceClaims{which}",
                error.message
            );
            errors.push(error);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(resources: &Value, expected: &[&str]) {
        let errors = check(resources, &json!({}), "r");
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(texts, expected, "{resources}");
    }

    fn both(name: &str, amount: &str) -> Value {
        json!({"limits": {name: amount}, "requests": {name: amount}})
    }

    #[test]
    fn extended_resources_are_whole_and_never_promised_twice() {
        wrong(&both("nvidia.com/gpu", "1"), &[]);
        wrong(
            &both("nvidia.com/gpu", "500m"),
            &[
                "r.limits[nvidia.com/gpu]: Invalid value: \"500m\": must be an integer",
                "r.requests[nvidia.com/gpu]: Invalid value: \"500m\": must be an integer",
            ],
        );
        wrong(
            &json!({"requests": {"nvidia.com/gpu": "1"}}),
            &["r.limits: Required value: Limit must be set for non overcommitable resources"],
        );
        wrong(
            &json!({"limits": {"a.b/c": "2"}, "requests": {"a.b/c": "1"}}),
            &["r.requests: Invalid value: \"1\": must be equal to a.b/c limit of 2"],
        );
        wrong(
            &json!({"limits": {"gpu": "1"}}),
            &[
                "r.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "r.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            ],
        );
        wrong(
            &json!({"limits": {"requests.a.b/c": "1"}}),
            &[
                "r.limits[requests.a.b/c]: Invalid value: \"requests.a.b/c\": doesn't follow extended resource name standard",
            ],
        );
    }

    #[test]
    fn huge_pages_come_whole_and_beside_memory() {
        let mut asked = both("hugepages-2Mi", "4Mi");
        wrong(&asked, &["r: Forbidden: HugePages require cpu or memory"]);
        asked["limits"]["memory"] = json!("1Mi");
        wrong(&asked, &[]);
        asked["limits"]["hugepages-2Mi"] = json!("3Mi");
        asked["requests"]["hugepages-2Mi"] = json!("3Mi");
        let text = "Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi";
        wrong(
            &asked,
            &[
                &format!("r.limits[hugepages-2Mi]: {text}"),
                &format!("r.requests[hugepages-2Mi]: {text}"),
            ],
        );
    }

    #[test]
    fn claims_are_of_the_pods_claims() {
        wrong(
            &json!({"claims": [{"name": "gpu"}, {"name": "gpu"}, {}]}),
            &[
                "r.claims[0]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims which is empty",
                "r.claims[1]: Duplicate value: \"gpu\"",
                "r.claims[1]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims which is empty",
                "r.claims[2]: Required value",
            ],
        );
    }
}

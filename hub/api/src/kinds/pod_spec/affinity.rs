//! What valid affinities are, to nodes and to pods.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

use super::super::accessors::{int, items_of, list, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NO_OPERATOR: &str = "not a valid selector operator";

/// Every mistake of `spec.affinity`, which stands at `path`.
pub(super) fn check(affinity: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(nodes) = affinity.get("nodeAffinity") {
        errors.extend(check_nodes(nodes, &format!("{path}.nodeAffinity")));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.get(kind) else { continue };
        let path = format!("{path}.{kind}");
        for (i, term) in items_of(pods, REQUIRED) {
            errors.extend(check_pods(term, &format!("{path}.{REQUIRED}[{i}]")));
        }
        for (i, weighted) in items_of(pods, PREFERRED) {
            let path = format!("{path}.{PREFERRED}[{i}]");
            errors.extend(check_weight(weighted, &path));
            let term = weighted.get("podAffinityTerm").unwrap_or(&Value::Null);
            errors.extend(check_pods(term, &format!("{path}.podAffinityTerm")));
        }
    }
    errors
}

fn check_nodes(affinity: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(required) = affinity.get(REQUIRED).filter(|required| !required.is_null()) {
        errors.extend(check_node_selector(required, &format!("{path}.{REQUIRED}")));
    }
    for (i, weighted) in items_of(affinity, PREFERRED) {
        let path = format!("{path}.{PREFERRED}[{i}]");
        errors.extend(check_weight(weighted, &path));
        let term = weighted.get("preference").unwrap_or(&Value::Null);
        errors.extend(check_term(term, &format!("{path}.preference"), false));
    }
    errors
}

/// Every mistake of a NodeSelector.
pub(crate) fn check_node_selector(required: &Value, path: &str) -> Vec<FieldError> {
    let at = format!("{path}.nodeSelectorTerms");
    let mut errors = Vec::new();
    if list(required, "/nodeSelectorTerms").is_empty() {
        let text = "must have at least one node selector term";
        errors.push(FieldError::required(at.clone(), text));
    }
    for (i, term) in items_of(required, "nodeSelectorTerms") {
        errors.extend(check_term(term, &format!("{at}[{i}]"), true));
    }
    errors
}

fn check_weight(weighted: &Value, path: &str) -> Option<FieldError> {
    let weight = int(weighted, "/weight");
    let text = "must be in the range 1-100";
    let wrong = !(1..=100).contains(&weight);
    wrong.then(|| FieldError::invalid(format!("{path}.weight"), &json!(weight), text))
}

fn wrong(at: &str, value: &str, complaints: &[String]) -> Vec<FieldError> {
    complaints.iter().map(|text| FieldError::invalid(at, &json!(value), text)).collect()
}

/// A term about nodes; only what is required has to have values that labels can have.
fn check_term(term: &Value, path: &str, strict: bool) -> Vec<FieldError> {
    let labels = items_of(term, "matchExpressions")
        .flat_map(|(i, rule)| check_label(rule, &format!("{path}.matchExpressions[{i}]"), strict));
    let fields = items_of(term, "matchFields")
        .flat_map(|(i, rule)| check_field(rule, &format!("{path}.matchFields[{i}]")));
    labels.chain(fields).collect()
}

fn check_label(rule: &Value, path: &str, strict: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let values = list(rule, "/values");
    let at = format!("{path}.values");
    match text(rule, "/operator") {
        "In" | "NotIn" if values.is_empty() => {
            let text = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(at.clone(), text));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(at.clone(), text));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let text = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(at.clone(), text));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let at = format!("{path}.operator");
            errors.push(FieldError::invalid(at, &json!(other), NO_OPERATOR));
        }
    }
    let key = text(rule, "/key");
    errors.extend(wrong(&format!("{path}.key"), key, &names::qualified_name(key)));
    for (i, value) in values.iter().enumerate().filter(|_| strict) {
        let value = value.as_str().unwrap_or_default();
        errors.extend(wrong(&format!("{at}[{i}]"), value, &names::label_value(value)));
    }
    errors
}

/// A rule about the one field of nodes that can be selected by: the name.
fn check_field(rule: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let values = list(rule, "/values");
    match text(rule, "/operator") {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => {
            let text =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(format!("{path}.values"), text));
        }
        other => {
            let at = format!("{path}.operator");
            errors.push(FieldError::invalid(at, &json!(other), NO_OPERATOR));
        }
    }
    let key = text(rule, "/key");
    if key != "metadata.name" {
        let text = "not a valid field selector key";
        errors.push(FieldError::invalid(format!("{path}.key"), &json!(key), text));
        return errors;
    }
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        errors.extend(wrong(&format!("{path}.values[{i}]"), value, &names::dns_subdomain(value)));
    }
    errors
}

/// A term about pods.
fn check_pods(term: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["labelSelector", "namespaceSelector"] {
        let at = format!("{path}.{key}");
        errors.extend(LabelSelector::from_json(term.get(key), &at).err().into_iter().flatten());
    }
    for name in list(term, "/namespaces").iter().filter_map(Value::as_str) {
        errors.extend(wrong(&format!("{path}.namespace"), name, &names::dns_label(name)));
    }
    errors.extend(check_keys(term, path));
    let (key, at) = (text(term, "/topologyKey"), format!("{path}.topologyKey"));
    if key.is_empty() {
        errors.push(FieldError::required(at.clone(), "can not be empty"));
    }
    errors.extend(wrong(&at, key, &names::qualified_name(key)));
    errors
}

/// Labels whose values the pod has in common with the others, or has not.
fn check_keys(term: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list_name in ["matchLabelKeys", "mismatchLabelKeys"] {
        let at = format!("{path}.{list_name}");
        if term.get("labelSelector").is_none() && items_of(term, list_name).next().is_some() {
            let text = "must not be specified when labelSelector is not set";
            errors.push(FieldError::forbidden(at, text));
            continue;
        }
        for (i, key) in items_of(term, list_name) {
            let key = key.as_str().unwrap_or_default();
            errors.extend(wrong(&format!("{at}[{i}]"), key, &names::qualified_name(key)));
        }
    }
    let matched = list(term, "/matchLabelKeys");
    for (i, key) in items_of(term, "mismatchLabelKeys").filter(|(_, key)| matched.contains(key)) {
        let text = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(format!("{path}.mismatchLabelKeys[{i}]"), key, text));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(affinity: &Value, expected: &[&str]) {
        let errors = check(affinity, "a");
        let texts: Vec<_> = errors
            .iter()
            .map(|e| {
                format!(
                    "{}: {}",
                    e.field.replace("DuringSchedulingIgnoredDuringExecution", ""),
                    e.message
                )
            })
            .collect();
        assert_eq!(texts, expected, "{affinity}");
    }

    fn node(rule: &Value) -> Value {
        json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}})
    }

    #[test]
    fn node_affinity_is_checked_rule_by_rule() {
        const AT: &str = "a.nodeAffinity.required.nodeSelectorTerms";
        wrong(&node(&json!({"key": "k", "operator": "In", "values": ["v"]})), &[]);
        wrong(&node(&json!({"key": "k", "operator": "Exists"})), &[]);
        wrong(&node(&json!({"key": "k", "operator": "Lt", "values": ["4"]})), &[]);
        wrong(
            &json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}),
            &[&format!("{AT}: Required value: must have at least one node selector term")],
        );
        for (rule, field, message) in [
            (
                json!({"operator": "in", "values": ["v"]}),
                "operator",
                "Invalid value: \"in\": not a valid selector operator",
            ),
            (
                json!({"operator": "Foo"}),
                "operator",
                "Invalid value: \"Foo\": not a valid selector operator",
            ),
            (
                json!({"operator": "In"}),
                "values",
                "Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ),
            (
                json!({"operator": "Exists", "values": ["v"]}),
                "values",
                "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            (
                json!({"operator": "Gt", "values": ["1", "2"]}),
                "values",
                "Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
        ] {
            let mut rule = rule;
            rule["key"] = json!("k");
            wrong(&node(&rule), &[&format!("{AT}[0].matchExpressions[0].{field}: {message}")]);
        }
        let field = json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchFields": [
            {"key": "spec.x", "operator": "Exists"}]}]}}});
        wrong(
            &field,
            &[
                &format!(
                    "{AT}[0].matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator"
                ),
                &format!(
                    "{AT}[0].matchFields[0].key: Invalid value: \"spec.x\": not a valid field selector key"
                ),
            ],
        );
        for weight in [0, 101] {
            let preferred =
                json!({"nodeAffinity": {PREFERRED: [{"weight": weight, "preference": {}}]}});
            let text = format!(
                "a.nodeAffinity.preferred[0].weight: Invalid value: {weight}: must be in the range 1-100"
            );
            wrong(&preferred, &[&text]);
        }
    }

    #[test]
    fn pod_affinity_is_checked_term_by_term() {
        let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}});
        wrong(&json!({"podAffinity": {REQUIRED: [term]}}), &[]);
        wrong(
            &json!({"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone", "matchLabelKeys": ["a"]}]}}),
            &[
                "a.podAntiAffinity.required[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ],
        );
        let weighted = json!({"weight": 101, "podAffinityTerm": {"topologyKey": "zone", "namespaces": ["A"],
            "labelSelector": {"matchExpressions": [{"key": "a", "operator": "in"}]}}});
        let errors = check(&json!({"podAffinity": {PREFERRED: [weighted]}}), "a");
        let fields: Vec<_> = errors.iter().map(|e| e.field.rsplit('.').next().unwrap()).collect();
        assert_eq!(fields, ["weight", "operator", "namespace"]);
        let errors = check(&json!({"podAffinity": {REQUIRED: [{}]}}), "a");
        assert_eq!(errors[0].message, "Required value: can not be empty");
    }
}

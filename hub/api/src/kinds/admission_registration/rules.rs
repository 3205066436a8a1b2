//! Which writes somebody is asked about.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Map, Value, json};

use crate::kinds::accessors::{items, set_default};
use crate::kinds::field_value::FieldValue;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// What may be changed on its way: what goes cannot.
const MUTABLE_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
const CONDITIONS_MAX: usize = 64;

/// Fills in the scope of each rule.
pub(super) fn default_scopes(holder: &mut Map<String, Value>, list: &str) {
    items(holder, list).for_each(|rule| set_default(rule, "scope", "*"));
}

/// Fills in whom a policy is about.
pub(super) fn default_match(resources: &mut Map<String, Value>) {
    set_default(resources, "matchPolicy", "Equivalent");
    set_default(resources, "namespaceSelector", json!({}));
    set_default(resources, "objectSelector", json!({}));
    default_scopes(resources, "resourceRules");
    default_scopes(resources, "excludeResourceRules");
}

/// Mistakes of operations and resources.
pub(super) fn check(rule: &FieldValue<'_>) -> Vec<FieldError> {
    let operations = rule.child("operations");
    let mut errors = check_list(&operations, "operations");
    errors.extend(operations.items().filter_map(|operation| operation.one_of(OPERATIONS)));
    errors.extend(check_list(&rule.child("apiGroups"), "API groups"));
    let versions = rule.child("apiVersions");
    errors.extend(check_list(&versions, "API versions"));
    errors.extend(versions.items().filter_map(|version| version.must_be()));
    errors.extend(check_resources(&rule.child("resources")));
    errors.extend(rule.child("scope").one_of(&["*", "Cluster", "Namespaced"]));
    errors
}

/// A list that is not empty, in which `*` stands alone.
fn check_list(at: &FieldValue<'_>, others: &str) -> Vec<FieldError> {
    let wild = at.items().any(|item| item.text() == "*") && 1 < at.items().count();
    let text = format!("if '*' is present, must not specify other {others}");
    let alone = wild.then(|| at.invalid(&text));
    at.must_be().into_iter().chain(alone).collect()
}

fn check_resources(resources: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors: Vec<_> = resources.must_be().into_iter().collect();
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let (mut wild, mut plain) = (false, false);
    for resource in resources.items() {
        let text = resource.text();
        errors.extend(resource.must_be());
        wild |= text == "*";
        let Some((own, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if whole.contains(own) {
            let text = format!("if '{own}/*' is present, must not specify {text}");
            errors.push(resource.invalid(&text));
        }
        if everywhere.contains(sub) {
            let text = format!("if '*/{sub}' is present, must not specify {text}");
            errors.push(resource.invalid(&text));
        }
        if sub == "*" {
            whole.insert(own);
        }
        if own == "*" {
            everywhere.insert(sub);
        }
    }
    let all = resources.items().any(|resource| resource.text() == "*/*");
    if all && 1 < resources.items().count() {
        errors.push(resources.invalid("if '*/*' is present, must not specify other resources"));
    }
    if wild && plain {
        let text = "if '*' is present, must not specify other resources without subresources";
        errors.push(resources.invalid(text));
    }
    errors
}

/// Mistakes of whom a policy is about.
pub(super) fn check_match(resources: &FieldValue<'_>, mutates: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy = resources.child("matchPolicy");
    errors.extend(policy.must_be());
    if !policy.is_empty() {
        errors.extend(policy.one_of(&["Equivalent", "Exact"]));
    }
    for selector in ["namespaceSelector", "objectSelector"].map(|field| resources.child(field)) {
        if selector.is_there() {
            errors.extend(selector.selector());
        } else {
            errors.push(selector.required(""));
        }
    }
    for list in ["resourceRules", "excludeResourceRules"].map(|list| resources.child(list)) {
        for rule in list.items() {
            let mut taken = BTreeSet::new();
            for name in rule.child("resourceNames").items() {
                errors.extend(name.follows(names::path_segment));
                errors.extend((!taken.insert(name.text())).then(|| name.duplicate()));
            }
            errors.extend(check(&rule));
        }
    }
    let rules = resources.child("resourceRules");
    let operations =
        rules.items().flat_map(|rule| rule.child("operations").items().collect::<Vec<_>>());
    for operation in operations.filter(|_| mutates) {
        let at = FieldValue { path: format!("{}.operations", rules.path), ..operation };
        errors.extend(at.one_of(MUTABLE_OPERATIONS));
    }
    errors
}

/// Mistakes of conditions under which somebody is asked, beside what they say.
pub(super) fn check_conditions(conditions: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors: Vec<_> = conditions.no_more(CONDITIONS_MAX).into_iter().collect();
    let mut taken = BTreeSet::new();
    for condition in conditions.items() {
        errors.extend(check_expression(&condition.child("expression"), ""));
        let name = condition.child("name");
        errors.extend(name.named(names::qualified_name));
        if !name.is_empty() && !taken.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
    errors
}

/// There has to be one.
pub(super) fn check_expression(expression: &FieldValue<'_>, missing: &str) -> Option<FieldError> {
    expression.text().trim().is_empty().then(|| expression.required(missing))
}

//! FlowSchema: which requests belong to which level.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Strategy, keep_all_but_status, reset_all_but_status,
};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::{conditions, mandatory};
use crate::kinds::accessors::{
    AGE, NAME, age, child, column, condition, int, name, set_default, text, text_or,
};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("PriorityLevel", "string", "The level of its requests."),
    column("MatchingPrecedence", "string", "Which one is asked first."),
    column("DistinguisherMethod", "string", "What is told apart in it."),
    AGE,
    column("MissingPL", "string", "Whether there is no such level."),
];
const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// FlowSchema of flowcontrol.apiserver.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"), "flowschemas", Rules)
        .cluster_scoped()
        .with_status()
        .columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            if spec.get("matchingPrecedence").and_then(Value::as_i64) == Some(0) {
                spec.remove("matchingPrecedence");
            }
            set_default(spec, "matchingPrecedence", 1000);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(door, new, old);
    }

    fn reset_fields(&self, door: Option<&str>) -> FieldPaths {
        reset_all_but_status(door)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let own = text(object, "/metadata/name");
        let spec = FieldValue::of(object, "spec");
        let mut errors = check_precedence(&spec, own);
        let method = spec.child("distinguisherMethod");
        if method.is_there() && !matches!(method.child("type").text(), "ByNamespace" | "ByUser") {
            let at = FieldValue { path: format!("{}.type", method.path), ..method };
            errors.push(at.not_supported(&["ByNamespace", "ByUser"]));
        }
        let level = spec.child("priorityLevelConfiguration").child("name");
        if level.is_empty() {
            errors.push(level.required("must reference a priority level"));
        } else {
            errors.extend(level.follows(names::dns_subdomain));
        }
        errors.extend(spec.child("rules").items().flat_map(|rule| check_rule(&rule)));
        if let Some(fixed) = mandatory::fixed_spec(mandatory::schemas(), own)
            && fixed != *spec.value
        {
            errors.push(spec.invalid(&format!("spec of '{own}' must equal the fixed value")));
        }
        errors.extend(conditions::check(object));
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let missing = condition(object, "Dangling").map_or("?", |found| text(found, "/status"));
        vec![
            name(object),
            text(object, "/spec/priorityLevelConfiguration/name").into(),
            int(object, "/spec/matchingPrecedence").into(),
            text_or(object, "/spec/distinguisherMethod/type", "<none>").into(),
            age(object, now),
            missing.into(),
        ]
    }
}

fn check_precedence(spec: &FieldValue<'_>, own: &str) -> Vec<FieldError> {
    let at = spec.child("matchingPrecedence");
    let precedence = at.int().unwrap_or_default();
    let mut errors = Vec::new();
    if precedence <= 0 {
        errors.push(at.invalid("must be a positive value"));
    }
    if PRECEDENCE_MAX < precedence {
        errors.push(at.invalid(&format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence == 1 && own != "exempt" {
        errors.push(at.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
    }
    errors
}

fn check_rule(rule: &FieldValue<'_>) -> Vec<FieldError> {
    let (subjects, resources) = (rule.child("subjects"), rule.child("resourceRules"));
    let urls = rule.child("nonResourceRules");
    let mut errors = Vec::new();
    if subjects.is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    errors.extend(subjects.items().flat_map(|subject| check_subject(&subject)));
    if resources.is_empty() && urls.is_empty() {
        let text = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(rule.required(text));
    }
    errors.extend(resources.items().flat_map(|rule| check_resources(&rule)));
    errors.extend(urls.items().flat_map(|rule| check_urls(&rule)));
    errors
}

fn check_subject(subject: &FieldValue<'_>) -> Vec<FieldError> {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.child("kind");
    let Some((_, own)) = KINDS.iter().find(|(name, _)| *name == kind.text()) else {
        return vec![kind.not_supported(&["Group", "ServiceAccount", "User"])];
    };
    let given = subject.child(own);
    let mut errors = Vec::new();
    let name = given.child("name");
    if !given.is_there() {
        let text = format!("{own} is required when subject kind is '{}'", kind.text());
        errors.push(given.required(&text));
    } else if *own == "serviceAccount" {
        if name.text() != "*" {
            errors.extend(name.named(names::dns_subdomain));
        }
        let namespace = given.child("namespace");
        if namespace.is_empty() {
            errors.push(namespace.required("must specify namespace for service account"));
        } else {
            errors.extend(namespace.follows(names::dns_label));
        }
    } else {
        errors.extend(name.must_be());
    }
    for (kind, other) in KINDS.iter().filter(|(_, other)| other != own) {
        let other = subject.child(other);
        if other.is_there() {
            let field = other.path.rsplit('.').next().unwrap_or_default();
            let text = format!("{field} is forbidden when subject kind is not '{kind}'");
            errors.push(other.forbidden(&text));
        }
    }
    errors
}

/// A list that is not empty, in which `*` stands alone.
fn check_list(at: &FieldValue<'_>, missing: &str, others: &str) -> Vec<FieldError> {
    let wild = at.items().any(|item| item.text() == "*");
    let many = 1 < at.items().count();
    if at.is_empty() {
        return vec![at.required(missing)];
    }
    let text = format!("if '*' is present, must not specify other {others}");
    (wild && many).then(|| at.invalid(&text)).into_iter().collect()
}

fn check_verbs(verbs: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = check_list(verbs, "verbs must contain at least one value", "verbs");
    let wild = verbs.items().any(|verb| verb.text() == "*");
    if !wild && !verbs.items().all(|verb| VERBS.contains(&verb.text())) {
        errors.push(verbs.not_supported(VERBS));
    }
    errors
}

fn check_resources(rule: &FieldValue<'_>) -> Vec<FieldError> {
    const MEMBER: &str = "each member of this list must be '*' or a DNS-1123 label; ";
    let mut errors = check_verbs(&rule.child("verbs"));
    let missing = "resource rules must supply at least one api group";
    errors.extend(check_list(&rule.child("apiGroups"), missing, "api groups"));
    let missing = "resource rules must supply at least one resource";
    errors.extend(check_list(&rule.child("resources"), missing, "resources"));
    let namespaces = rule.child("namespaces");
    let cluster = rule.child("clusterScope").value == &json!(true);
    if !namespaces.is_empty() || !cluster {
        let missing =
            "resource rules that are not cluster scoped must supply at least one namespace";
        errors.extend(check_list(&namespaces, missing, "namespaces"));
    }
    if !namespaces.items().any(|namespace| namespace.text() == "*") {
        for namespace in namespaces.items() {
            let wrong = names::dns_label(namespace.text());
            errors.extend(wrong.iter().map(|why| namespace.invalid(&format!("{MEMBER}{why}"))));
        }
    }
    errors
}

fn check_urls(rule: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = check_verbs(&rule.child("verbs"));
    let urls = rule.child("nonResourceURLs");
    let missing = "nonResourceURLs must contain at least one value";
    errors.extend(check_list(&urls, missing, "non-resource URLs"));
    if urls.items().any(|url| url.text() == "*") {
        return errors;
    }
    for url in urls.items() {
        let text = url.text();
        let wild = text.matches('*').count();
        let wrong = if text.is_empty() {
            "must not be empty"
        } else if !text.starts_with('/') {
            "must start with slash"
        } else if text.contains(' ') {
            "must not contain white-space"
        } else if text.contains("//") {
            "must not contain double slash"
        } else if 1 < wild || (wild == 1 && !text.ends_with("/*")) {
            "wildcard can only do suffix matching"
        } else {
            continue;
        };
        errors.push(url.invalid(wrong));
    }
    errors
}

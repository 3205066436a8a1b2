//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration: servers to be asked about writes.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::{GROUP, expressions, rules};
use crate::kinds::accessors::{AGE, NAME, age, column, items, list, name, set_default};
use crate::kinds::place::Place;

const COLUMNS: &[Column] = &[NAME, column("Webhooks", "integer", "How many there are."), AGE];
const REVIEWS: &[&str] = &["v1", "v1beta1"];
const TIMEOUT_SECONDS: i64 = 10;
const TIMEOUT_SECONDS_MAX: i64 = 30;

/// ValidatingWebhookConfiguration of admissionregistration.k8s.io/v1.
pub(crate) fn validating() -> Kind {
    let rules = Rules { mutates: false };
    made("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", rules)
}

/// MutatingWebhookConfiguration of admissionregistration.k8s.io/v1.
pub(crate) fn mutating() -> Kind {
    let rules = Rules { mutates: true };
    made("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", rules)
}

fn made(kind: &'static str, plural: &'static str, rules: Rules) -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", kind), plural, rules)
        .cluster_scoped()
        .category(["api-extensions"])
        .columns(COLUMNS)
        .with(&[Trait::NamesWhatItReplaces])
}

struct Rules {
    mutates: bool,
}

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else { return };
        for hook in items(object, "webhooks") {
            set_default(hook, "failurePolicy", "Fail");
            set_default(hook, "matchPolicy", "Equivalent");
            set_default(hook, "namespaceSelector", json!({}));
            set_default(hook, "objectSelector", json!({}));
            set_default(hook, "timeoutSeconds", TIMEOUT_SECONDS);
            if self.mutates {
                set_default(hook, "reinvocationPolicy", "Never");
            }
            let service = hook.get_mut("clientConfig").and_then(|client| client.get_mut("service"));
            if let Some(service) = service.and_then(Value::as_object_mut) {
                set_default(service, "port", 443);
            }
            rules::default_scopes(hook, "rules");
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut taken = BTreeSet::new();
        let mut errors = Vec::new();
        for hook in Place::of(object, "webhooks").items() {
            errors.extend(check_hook(&hook));
            if self.mutates {
                errors.extend(hook.child("reinvocationPolicy").one_of(&["IfNeeded", "Never"]));
            }
            errors.extend(check_reviews(&hook.child("admissionReviewVersions")));
            let name = hook.child("name");
            if !name.is_empty() && !taken.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), list(object, "/webhooks").len().into(), age(object, now)]
    }
}

fn check_hook(hook: &Place<'_>) -> Vec<FieldError> {
    let mut errors: Vec<_> = check_name(&hook.child("name")).into_iter().collect();
    errors.extend(hook.child("rules").items().flat_map(|rule| rules::check(&rule)));
    errors.extend(hook.child("failurePolicy").one_of(&["Fail", "Ignore"]));
    errors.extend(hook.child("matchPolicy").one_of(&["Equivalent", "Exact"]));
    let effects = hook.child("sideEffects");
    if effects.is_there() {
        errors.extend(effects.one_of(&["None", "NoneOnDryRun"]));
    } else {
        errors.push(effects.required("must specify one of None, NoneOnDryRun"));
    }
    let timeout = hook.child("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    errors.extend(hook.child("namespaceSelector").selector());
    errors.extend(hook.child("objectSelector").selector());
    errors.extend(check_client(&hook.child("clientConfig")));
    let conditions = hook.child("matchConditions");
    errors.extend(rules::check_conditions(&conditions));
    errors.extend(expressions::check_conditions(&conditions, false));
    errors
}

/// A domain with three parts.
fn check_name(name: &Place<'_>) -> Option<FieldError> {
    if name.is_empty() {
        return Some(name.required(""));
    }
    let wrong = names::dns_subdomain(name.text());
    if !wrong.is_empty() {
        return Some(name.invalid(&wrong.join(",")));
    }
    let text = "should be a domain with at least three segments separated by dots";
    (name.text().split('.').count() < 3).then(|| name.invalid(text))
}

/// Which reviews it understands.
pub(in crate::kinds) fn check_reviews(versions: &Place<'_>) -> Vec<FieldError> {
    let known = REVIEWS.join(", ");
    if versions.is_empty() {
        return vec![versions.required(&format!("must specify one of {known}"))];
    }
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for version in versions.items() {
        if seen.insert(version.text()) {
            errors.extend(version.follows(names::dns1035_label));
        } else {
            errors.push(version.invalid("duplicate version"));
        }
    }
    if !REVIEWS.iter().any(|version| seen.contains(version)) {
        errors.push(versions.invalid(&format!("must include at least one of {known}")));
    }
    errors
}

/// Where a webhook is.
pub(in crate::kinds) fn check_client(client: &Place<'_>) -> Vec<FieldError> {
    let (url, service) = (client.child("url"), client.child("service"));
    if url.is_there() == service.is_there() {
        return vec![client.required("exactly one of url or service is required")];
    }
    if url.is_there() {
        return check_url(&url);
    }
    let mut errors: Vec<_> =
        ["name", "namespace"].iter().filter_map(|field| service.child(field).must_be()).collect();
    let port = service.child("port");
    let wrong = names::port_number(port.int().unwrap_or_default());
    if !wrong.is_empty() {
        errors.push(port.invalid(&format!("port is not valid: {}", wrong.join(", "))));
    }
    errors.extend(check_path(&service.child("path")));
    errors
}

fn check_path(at: &Place<'_>) -> Vec<FieldError> {
    let path = at.text();
    if matches!(path, "" | "/") {
        return Vec::new();
    }
    let Some(segments) = path.strip_prefix('/') else {
        return vec![at.invalid("must start with a '/'")];
    };
    let segments = segments.strip_suffix('/').unwrap_or(segments).split('/').enumerate();
    let wrong = |(index, segment): (usize, &str)| match segment {
        "" => vec![at.invalid(&format!("segment[{index}] may not be empty"))],
        segment => names::dns_subdomain(segment)
            .iter()
            .map(|why| at.invalid(&format!("segment[{index}]: {why}")))
            .collect(),
    };
    segments.flat_map(wrong).collect()
}

fn check_url(at: &Place<'_>) -> Vec<FieldError> {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = at.text();
    let of = |part: &str, why: &str| FieldError::invalid(&*at.path, &json!(part), why);
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let mut errors = Vec::new();
    if scheme != "https" {
        errors.push(of(scheme, &format!("'https' is the only allowed URL scheme{FORM}")));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme.is_empty() || host.is_empty() {
        errors.push(of("", &format!("host must be specified{FORM}")));
    }
    let never = [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ];
    let given = never.into_iter().filter(|(part, _)| !part.is_empty());
    errors.extend(given.map(|(part, why)| of(part, why)));
    errors
}

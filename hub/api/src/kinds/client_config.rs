//! What objects say of a webhook: where it is, and which reviews it understands.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Map, Value, json};

use super::accessors::set_default;
use super::field_value::FieldValue;

const REVIEWS: &[&str] = &["v1", "v1beta1"];
/// The port of a Service that is meant where none is named.
const HTTPS_PORT: u16 = 443;

/// What is meant by what is not said of where a webhook is.
pub(super) fn default_client(webhook: &mut Map<String, Value>) {
    let service = webhook.get_mut("clientConfig").and_then(|client| client.get_mut("service"));
    if let Some(service) = service.and_then(Value::as_object_mut) {
        set_default(service, "port", HTTPS_PORT);
    }
}

/// Which reviews it understands.
pub(super) fn check_reviews(versions: &FieldValue<'_>) -> Vec<FieldError> {
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
pub(super) fn check_client(client: &FieldValue<'_>) -> Vec<FieldError> {
    let (url, service) = (client.child("url"), client.child("service"));
    if url.is_there() == service.is_there() {
        return vec![client.required("exactly one of url or service is required")];
    }
    if url.is_there() {
        return check_url(&url);
    }
    let mut errors = Vec::new();
    for field in ["name", "namespace"] {
        let at = service.child(field);
        if at.is_empty() {
            errors.push(at.required(&format!("service {field} is required")));
        }
    }
    let port = service.child("port");
    let wrong = names::port_number(port.int().unwrap_or_default());
    if !wrong.is_empty() {
        errors.push(port.invalid(&format!("port is not valid: {}", wrong.join(", "))));
    }
    errors.extend(check_path(&service.child("path")));
    errors
}

fn check_path(at: &FieldValue<'_>) -> Vec<FieldError> {
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

fn check_url(at: &FieldValue<'_>) -> Vec<FieldError> {
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

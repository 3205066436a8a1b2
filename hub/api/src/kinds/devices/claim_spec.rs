//! What is asked of devices, wherever it stands: in a claim or in its template.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Map, Value};

use crate::kinds::accessors::{items, set_default};
use crate::kinds::field_value::FieldValue;
use crate::kinds::volume_words::check_driver;

const REQUESTS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const CONFIGS_MAX: usize = 32;
const CHOICES_MAX: usize = 8;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const PARAMETER_BYTES_MAX: usize = 10 * 1024;
const NOT_A_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Fills in how many devices are asked for.
pub(super) fn default(spec: &mut Map<String, Value>) {
    let devices = spec.get_mut("devices").and_then(Value::as_object_mut);
    for request in devices.into_iter().flat_map(|devices| items(devices, "requests")) {
        if let Some(exactly) = request.get_mut("exactly").and_then(Value::as_object_mut) {
            default_request(exactly);
        }
        items(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Map<String, Value>) {
    set_default(request, "allocationMode", "ExactCount");
    if request.get("allocationMode") == Some(&"ExactCount".into()) {
        set_default(request, "count", 1);
    }
    for toleration in items(request, "tolerations") {
        set_default(toleration, "operator", "Equal");
    }
}

/// Every mistake of the spec.
pub(super) fn check(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let devices = spec.child("devices");
    let requests = devices.child("requests");
    let mut errors: Vec<_> = requests.no_more(REQUESTS_MAX).into_iter().collect();
    let mut taken = BTreeSet::new();
    for request in requests.items() {
        errors.extend(check_request(&request));
        let name = request.child("name");
        errors.extend((!taken.insert(name.text())).then(|| request_twice(&request, &name)));
    }
    let known = request_names(&requests);
    let constraints = devices.child("constraints");
    errors.extend(constraints.no_more(REQUESTS_MAX));
    for constraint in constraints.items() {
        errors.extend(check_references(&constraint.child("requests"), &known));
        let (same, other) =
            (constraint.child("matchAttribute"), constraint.child("distinctAttribute"));
        if !same.is_there() && !other.is_there() {
            errors.push(same.required(""));
        }
        let given = [same, other].into_iter().filter(FieldValue::is_there);
        errors.extend(given.flat_map(|attribute| check_attribute(&attribute)));
    }
    let configs = devices.child("config");
    errors.extend(configs.no_more(CONFIGS_MAX));
    for config in configs.items() {
        errors.extend(check_references(&config.child("requests"), &known));
        errors.extend(check_config(&config));
    }
    errors
}

fn request_twice(request: &FieldValue<'_>, name: &FieldValue<'_>) -> FieldError {
    FieldError::duplicate(&*request.path, name.value)
}

/// Names of requests, and of the choices of each: `gpu`, `gpu/large`.
fn request_names(requests: &FieldValue<'_>) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for request in requests.items() {
        let name = request.child("name").text();
        known.insert(name.to_owned());
        let choices = request.child("firstAvailable");
        known.extend(
            choices.items().map(|choice| format!("{name}/{}", choice.child("name").text())),
        );
    }
    known
}

fn check_references(requests: &FieldValue<'_>, known: &BTreeSet<String>) -> Vec<FieldError> {
    let mut errors: Vec<_> = requests.no_more(REQUESTS_MAX).into_iter().collect();
    let mut taken = BTreeSet::new();
    for name in requests.items() {
        errors.extend((!known.contains(name.text())).then(|| name.invalid(NOT_A_REQUEST)));
        errors.extend((!taken.insert(name.text())).then(|| name.duplicate()));
    }
    errors
}

fn check_request(request: &FieldValue<'_>) -> Vec<FieldError> {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    let mut errors = request.child("name").named(names::dns_label);
    let (exactly, choices) = (request.child("exactly"), request.child("firstAvailable"));
    match (exactly.is_there(), !choices.is_empty()) {
        (false, false) => errors.push(request.required(ONE)),
        (true, true) => {
            errors.push(request.invalid(&format!("{ONE}, but multiple fields are set")));
        }
        (true, false) => errors.extend(check_wanted(&exactly)),
        (false, true) => {
            errors.extend(choices.no_more(CHOICES_MAX));
            let mut taken = BTreeSet::new();
            for choice in choices.items() {
                let name = choice.child("name");
                errors.extend(name.named(names::dns_label));
                errors.extend(check_wanted(&choice));
                errors.extend((!taken.insert(name.text())).then(|| request_twice(&choice, &name)));
            }
        }
    }
    errors
}

fn check_wanted(wanted: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = wanted.child("deviceClassName").named(names::dns_subdomain);
    errors.extend(check_selectors(&wanted.child("selectors")));
    let (mode, count) = (wanted.child("allocationMode"), wanted.child("count"));
    let number = count.int().unwrap_or_default();
    match mode.text() {
        "All" if number != 0 => {
            errors.push(count.invalid("must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" if number <= 0 => errors.push(count.invalid("must be greater than zero")),
        "All" | "ExactCount" => {}
        _ => errors.push(mode.not_supported(&["All", "ExactCount"])),
    }
    errors
}

/// Mistakes of expressions about devices. What they say is not read.
pub(super) fn check_selectors(selectors: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors: Vec<_> = selectors.no_more(SELECTORS_MAX).into_iter().collect();
    for selector in selectors.items() {
        let cel = selector.child("cel");
        errors.extend((!cel.is_there()).then(|| cel.required("")));
        errors.extend(cel.child("expression").no_longer(EXPRESSION_BYTES_MAX));
    }
    errors
}

/// Mistakes of what a driver is told.
pub(super) fn check_config(config: &FieldValue<'_>) -> Vec<FieldError> {
    let opaque = config.child("opaque");
    if !opaque.is_there() {
        return vec![opaque.required("")];
    }
    let mut errors = check_driver(&opaque.child("driver"));
    let parameters = opaque.child("parameters");
    if !parameters.is_there() {
        errors.push(parameters.required(""));
    } else if !parameters.value.is_object() {
        errors.push(parameters.invalid("must be a valid JSON object"));
    } else if PARAMETER_BYTES_MAX < parameters.value.to_string().len() {
        errors.push(FieldError::too_long(parameters.path, PARAMETER_BYTES_MAX));
    }
    errors
}

/// `example.com/size`
fn check_attribute(attribute: &FieldValue<'_>) -> Vec<FieldError> {
    match attribute.text().split_once('/') {
        None => vec![attribute.invalid("must include a domain")],
        Some((domain, id)) => {
            let mut errors = Vec::new();
            let wrong = names::dns_subdomain(domain);
            errors.extend(wrong.iter().map(|why| attribute.invalid(why)));
            errors
                .extend((!super::device::is_id(id)).then(|| attribute.invalid(super::device::ID)));
            errors
        }
    }
}

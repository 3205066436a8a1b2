//! What valid probes and hooks are.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::super::accessors::{int, list, text};
use super::classes;

/// The fields of a container that hold one.
pub(super) const KINDS: &[&str] = &["livenessProbe", "readinessProbe", "startupProbe"];

const HANDLERS: &[&str] = &["exec", "grpc", "httpGet", "tcpSocket"];
const HOOKS: &[&str] = &["exec", "httpGet", "sleep", "tcpSocket"];

/// What of a probe is kept without effect.
pub(super) fn warnings(probe: &Value, path: &str) -> Vec<String> {
    let mut found = classes::warnings(classes::PROBE, probe, path);
    for (handler, table) in [("httpGet", classes::PROBE_HTTP), ("tcpSocket", classes::PROBE_TCP)] {
        let value = probe.get(handler).unwrap_or(&Value::Null);
        found.extend(classes::warnings(table, value, &format!("{path}.{handler}")));
    }
    found
}

/// Mistakes of a probe; `kind` is its field.
pub(super) fn check(probe: &Value, path: &str, kind: &str) -> Vec<FieldError> {
    let mut errors = check_handler(probe, path, HANDLERS);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        let value = int(probe, &format!("/{key}"));
        if value < 0 {
            let text = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(format!("{path}.{key}"), &json!(value), text));
        }
    }
    let successes = int(probe, "/successThreshold");
    if kind != "readinessProbe" && successes > 1 {
        let at = format!("{path}.successThreshold");
        errors.push(FieldError::invalid(at, &json!(successes), "must be 1"));
    }
    if let Some(grace) = probe.get("terminationGracePeriodSeconds").filter(|it| !it.is_null()) {
        let at = format!("{path}.terminationGracePeriodSeconds");
        if kind == "readinessProbe" {
            let text = "must not be set for readinessProbes";
            errors.push(FieldError::invalid(at, grace, text));
        } else if grace.as_i64().unwrap_or_default() <= 0 {
            errors.push(FieldError::invalid(at, grace, "must be greater than 0"));
        }
    }
    errors
}

/// Mistakes of a container's hooks.
pub(super) fn check_lifecycle(hooks: &Value, path: &str) -> Vec<FieldError> {
    let hook = |name: &&str| hooks.get(*name).map(|hook| (format!("{path}.{name}"), hook));
    ["postStart", "preStop"]
        .iter()
        .filter_map(hook)
        .flat_map(|(path, hook)| check_handler(hook, &path, HOOKS))
        .collect()
}

fn check_handler(value: &Value, path: &str, known: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let set: Vec<_> = known.iter().filter(|kind| value.get(**kind).is_some()).collect();
    if set.is_empty() {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    for extra in set.iter().skip(1) {
        let text = "may not specify more than 1 handler type";
        errors.push(FieldError::forbidden(format!("{path}.{extra}"), text));
    }
    if value.get("exec").is_some() && list(value, "/exec/command").is_empty() {
        errors.push(FieldError::required(format!("{path}.exec.command"), ""));
    }
    for kind in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(port) =
            value.get(kind).map(|handler| handler.get("port").unwrap_or(&Value::Null))
        {
            errors.extend(check_port(port, &format!("{path}.{kind}.port")));
        }
    }
    if let Some(http) = value.get("httpGet") {
        if text(http, "/path").is_empty() {
            errors.push(FieldError::required(format!("{path}.httpGet.path"), ""));
        }
        let scheme = text(http, "/scheme");
        if !["HTTP", "HTTPS"].contains(&scheme) {
            let at = format!("{path}.httpGet.scheme");
            errors.push(FieldError::not_supported(at, &json!(scheme), &["HTTP", "HTTPS"]));
        }
    }
    errors
}

fn check_port(port: &Value, path: &str) -> Vec<FieldError> {
    let complaints = match port {
        Value::String(name) => names::port_name(name),
        number => names::port_number(number.as_i64().unwrap_or_default()),
    };
    let shown = if port.is_null() { json!(0) } else { port.clone() };
    complaints.iter().map(|text| FieldError::invalid(path, &shown, text)).collect()
}

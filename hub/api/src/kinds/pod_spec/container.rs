//! What a valid container is.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use freewheel_link::limits::POD_MOUNTS_MAX;
use serde_json::{Value, json};

use super::super::accessors::{int, items_of, list, map, text};
use super::field::{check_field, check_resource_field, one_of, wrong};
use super::{classes, containers, probe, resources, volume_names};

const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
/// The pod network speaks no SCTP.
const PROTOCOLS: &[&str] = &["TCP", "UDP"];
const MESSAGES: &[&str] = &["FallbackToLogsOnError", "File"];
/// What environment variables may show of their pod, beside labels and annotations.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Every mistake in every container of the pod.
pub(super) fn check_all(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    let volumes = volume_names(spec);
    for (list, i, container) in containers(spec) {
        let path = format!("{path}.{list}[{i}]");
        errors.extend(check_name(container, &path, &mut taken));
        errors.extend(check(container, &path, &volumes, list == "initContainers"));
        let asked = container.get("resources").unwrap_or(&Value::Null);
        errors.extend(resources::check(asked, spec, &format!("{path}.resources")));
    }
    let mounts = containers(spec).map(|(_, _, container)| list(container, "/volumeMounts").len());
    let mounts = mounts.sum();
    if POD_MOUNTS_MAX < mounts {
        let at = format!("{path}.containers[*].volumeMounts");
        errors.push(FieldError::too_many(at, mounts, POD_MOUNTS_MAX));
    }
    errors.extend(check_host_ports(spec, path));
    errors
}

/// Its name, which is nobody else's.
pub(super) fn check_name<'a>(
    container: &'a Value,
    path: &str,
    taken: &mut BTreeSet<&'a str>,
) -> Vec<FieldError> {
    let (name, at) = (text(container, "/name"), format!("{path}.name"));
    if name.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    if !taken.insert(name) {
        return vec![FieldError::duplicate(at, &json!(name))];
    }
    wrong(&at, name, &names::dns_label(name))
}

/// Every mistake of a container but its name and what it asks for.
pub(super) fn check(
    container: &Value,
    path: &str,
    volumes: &BTreeSet<&str>,
    init: bool,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let image = text(container, "/image");
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let text = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{path}.image"), &json!(image), text));
    }
    errors.extend(check_ports(container, path));
    for (i, variable) in items_of(container, "env") {
        errors.extend(check_variable(&format!("{path}.env[{i}]"), variable));
    }
    for (i, source) in items_of(container, "envFrom") {
        errors.extend(check_env_from(&format!("{path}.envFrom[{i}]"), source));
    }
    errors.extend(check_mounts(container, path, volumes));
    errors.extend(one_of(container, path, "imagePullPolicy", PULL));
    errors.extend(one_of(container, path, "terminationMessagePolicy", MESSAGES));
    errors.extend(check_restart(container, path, init));
    let sidecar = text(container, "/restartPolicy") == "Always";
    for kind in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        let Some(found) = container.get(kind) else { continue };
        let at = format!("{path}.{kind}");
        if init && !sidecar {
            let text = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(at, text));
        } else if kind == "lifecycle" {
            errors.extend(probe::check_lifecycle(found, &at));
        } else {
            errors.extend(probe::check(found, &at, kind));
        }
    }
    errors.extend(classes::refusals(classes::CONTAINER, container, path));
    errors
}

fn check_restart(container: &Value, path: &str, init: bool) -> Option<FieldError> {
    let policy = container.get("restartPolicy")?.as_str()?;
    let at = format!("{path}.restartPolicy");
    match (init, policy) {
        (true, "Always") | (_, "") => None,
        (true, other) => Some(FieldError::not_supported(at, &json!(other), &["Always"])),
        (false, _) => Some(FieldError::forbidden(at, "may not be set for non-init containers")),
    }
}

fn check_ports(container: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, port) in items_of(container, "ports") {
        let path = format!("{path}.ports[{i}]");
        let name = text(port, "/name");
        let at = format!("{path}.name");
        if !name.is_empty() {
            let complaints = names::port_name(name);
            errors.extend(wrong(&at, name, &complaints));
            if complaints.is_empty() && !taken.insert(name) {
                errors.push(FieldError::duplicate(at, &json!(name)));
            }
        }
        let number = int(port, "/containerPort");
        let at = format!("{path}.containerPort");
        if number == 0 {
            errors.push(FieldError::required(at, ""));
        } else {
            let complaints = names::port_number(number);
            let error = |t: &String| FieldError::invalid(at.clone(), &json!(number), t);
            errors.extend(complaints.iter().map(error));
        }
        let host = int(port, "/hostPort");
        if host != 0 {
            let at = format!("{path}.hostPort");
            let complaints = names::port_number(host);
            let error = |t: &String| FieldError::invalid(at.clone(), &json!(host), t);
            errors.extend(complaints.iter().map(error));
        }
        errors.extend(one_of(port, &path, "protocol", PROTOCOLS));
    }
    errors
}

/// One pod cannot open the same host port twice.
fn check_host_ports(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (list, i, container) in containers(spec).filter(|(list, ..)| *list == "containers") {
        for (j, port) in items_of(container, "ports") {
            let host = int(port, "/hostPort");
            let key = (host, text(port, "/protocol"), text(port, "/hostIP"));
            if host != 0 && !taken.insert(key) {
                let at = format!("{path}.{list}[{i}].ports[{j}].hostPort");
                let shown = json!(format!("{}/{}/{host}", key.1, key.2));
                errors.push(FieldError::duplicate(at, &shown));
            }
        }
    }
    errors
}

fn check_variable(path: &str, variable: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = text(variable, "/name");
    let at = format!("{path}.name");
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        errors.extend(wrong(&at, name, &names::env_var(name)));
    }
    let Some(from) = variable.get("valueFrom").filter(|v| !v.is_null()) else { return errors };
    let path = format!("{path}.valueFrom");
    let sources = map(from, "").count();
    if !text(variable, "/value").is_empty() {
        let text = "may not be specified when `value` is not empty";
        errors.push(FieldError::invalid(path, &json!(""), text));
        return errors;
    }
    if sources == 0 {
        let text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(path.clone(), &json!(""), text));
    } else if sources > 1 {
        let text = "may not have more than one field specified at a time";
        errors.push(FieldError::invalid(path.clone(), &json!(""), text));
    }
    if let Some(field) = from.get("fieldRef") {
        errors.extend(check_field(field, &format!("{path}.fieldRef"), ENV_FIELDS, false));
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = from.get(kind) else { continue };
        let at = format!("{path}.{kind}");
        if text(reference, "/name").is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        match text(reference, "/key") {
            "" => errors.push(FieldError::required(format!("{at}.key"), "")),
            key => errors.extend(wrong(&format!("{at}.key"), key, &names::config_key(key))),
        }
    }
    if let Some(reference) = from.get("resourceFieldRef") {
        errors.extend(check_resource_field(reference, &format!("{path}.resourceFieldRef"), false));
    }
    errors.extend(classes::refusals(classes::ENV_SOURCE, from, &path));
    errors
}

fn check_env_from(path: &str, source: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let prefix = text(source, "/prefix");
    if !prefix.is_empty() {
        errors.extend(wrong(&format!("{path}.prefix"), prefix, &names::env_var(prefix)));
    }
    let sources: Vec<_> =
        ["configMapRef", "secretRef"].into_iter().filter(|k| source.get(*k).is_some()).collect();
    match sources.as_slice() {
        [] => {
            let text = "must specify one of: `configMapRef` or `secretRef`";
            errors.push(FieldError::invalid(path, &json!(""), text));
        }
        [kind] => {
            if text(source, &format!("/{kind}/name")).is_empty() {
                errors.push(FieldError::required(format!("{path}.{kind}.name"), ""));
            }
        }
        [_, _, ..] => {
            let text = "may not have more than one field specified at a time";
            errors.push(FieldError::invalid(path, &json!(""), text));
        }
    }
    errors
}

fn check_mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{i}]");
        let (name, place) = (text(mount, "/name"), text(mount, "/mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{path}.name"), &json!(name)));
        }
        let at = format!("{path}.mountPath");
        if place.is_empty() {
            errors.push(FieldError::required(at.clone(), ""));
        }
        if !taken.insert(place) {
            errors.push(FieldError::invalid(at, &json!(place), "must be unique"));
        }
        let sub = text(mount, "/subPath");
        let at = format!("{path}.subPath");
        if sub.starts_with('/') {
            errors.push(FieldError::invalid(at, &json!(sub), "must be a relative path"));
        } else if sub.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(at, &json!(sub), "must not contain '..'"));
        }
        errors.extend(classes::refusals(classes::MOUNT, mount, &path));
    }
    errors
}

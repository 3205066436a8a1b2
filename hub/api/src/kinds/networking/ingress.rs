//! Ingress: which Service answers under which host and path.

use std::net::IpAddr;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::reference;
use crate::kinds::accessors::{AGE, NAME, age, column, list, name, text, text_or};
use crate::kinds::address::check_written;
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("Class", "string", "Who serves it."),
    column("Hosts", "string", "Under which names."),
    column("Address", "string", "Where."),
    column("Ports", "string", "At which ports."),
    AGE,
];
const CLASS: &str = "kubernetes.io/ingress.class";
const HOSTS_SHOWN_MAX: usize = 3;
const ADDRESS_BYTES_SHOWN_MAX: usize = 16;
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Ingress of networking.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("networking.k8s.io", "v1", "Ingress"), "ingresses", Rules)
        .short(["ing"])
        .with_status()
        .columns(COLUMNS)
        .without_effect("no controller of this hub acts on it yet; use a Service of type NodePort")
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"loadBalancer": {}}));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let (backend, rules) = (spec.child("defaultBackend"), spec.child("rules"));
        let mut errors = Vec::new();
        if rules.is_empty() && !backend.is_there() {
            let text = "either `defaultBackend` or `rules` must be specified";
            errors.push(FieldError::invalid("spec", rules.value, text));
        }
        if backend.is_there() {
            errors.extend(check_backend(&backend));
        }
        errors.extend(rules.items().flat_map(|rule| check_rule(&rule)));
        for tls in spec.child("tls").items() {
            errors.extend(tls.child("hosts").items().flat_map(|host| check_name(&host)));
            let secret = tls.child("secretName");
            if !secret.is_empty() {
                errors.extend(secret.follows(names::dns_subdomain));
            }
        }
        let class = spec.child("ingressClassName");
        if class.is_there() {
            errors.extend(class.follows(names::dns_subdomain));
        }
        if let Some(older) = annotation(object)
            && object.pointer("/metadata/resourceVersion").is_none()
            && class.is_there()
            && older != class.text()
        {
            let text = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(format!("annotations.{CLASS}"), &older.into(), text));
        }
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, _: &Value) -> Vec<FieldError> {
        if door != Some("status") {
            return Vec::new();
        }
        let balancer = FieldValue::of(new, "status").child("loadBalancer").child("ingress");
        balancer.items().flat_map(|ingress| check_address(&ingress)).collect()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let unset = object.pointer("/spec/ingressClassName").is_none();
        let text = format!(
            "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
        );
        annotation(object).filter(|_| unset).map(|_| text).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let tls = !list(object, "/spec/tls").is_empty();
        vec![
            name(object),
            text_or(object, "/spec/ingressClassName", "<none>").into(),
            hosts(object).into(),
            addresses(object).into(),
            if tls { "80, 443" } else { "80" }.into(),
            age(object, now),
        ]
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object.pointer("/metadata/annotations")?.get(CLASS)?.as_str()
}

fn hosts(object: &Value) -> String {
    let rules = list(object, "/spec/rules");
    let named: Vec<&str> =
        rules.iter().map(|rule| text(rule, "/host")).filter(|host| !host.is_empty()).collect();
    let shown = named.iter().take(HOSTS_SHOWN_MAX).copied().collect::<Vec<_>>().join(",");
    match named.len() {
        0 => "*".to_owned(),
        some if HOSTS_SHOWN_MAX < some => {
            format!("{shown} + {} more...", rules.len() - HOSTS_SHOWN_MAX)
        }
        _ => shown,
    }
}

fn addresses(object: &Value) -> String {
    let all = list(object, "/status/loadBalancer/ingress").iter();
    let mut all: Vec<&str> = all.map(|one| text_or(one, "/ip", text(one, "/hostname"))).collect();
    all.sort_unstable();
    all.dedup();
    let mut shown = all.join(",");
    if ADDRESS_BYTES_SHOWN_MAX < shown.len() {
        shown.truncate(shown.floor_char_boundary(ADDRESS_BYTES_SHOWN_MAX - 3));
        shown.push_str("...");
    }
    shown
}

fn check_rule(rule: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let host = rule.child("host");
    if !host.is_empty() {
        if host.text().parse::<IpAddr>().is_ok() {
            errors.push(host.invalid("must be a DNS name, not an IP address"));
        }
        errors.extend(check_name(&host));
    }
    let http = rule.child("http");
    if http.is_there() {
        errors.extend(http.child("paths").must_be());
        errors.extend(http.child("paths").items().flat_map(|path| check_path(&path)));
    }
    errors
}

/// A host, or all below one: `*.example.com`.
fn check_name(host: &FieldValue<'_>) -> Vec<FieldError> {
    let name = host.text();
    if !name.contains('*') {
        return host.follows(names::dns_subdomain);
    }
    let below = name.strip_prefix("*.").is_some_and(|below| names::dns_subdomain(below).is_empty());
    (!below).then(|| host.invalid(WILDCARD)).into_iter().collect()
}

fn check_path(path: &FieldValue<'_>) -> Vec<FieldError> {
    const NEVER: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
    let (kind, text) = (path.child("pathType"), path.child("path"));
    let mut errors = Vec::new();
    let relative = !text.text().starts_with('/');
    match kind.text() {
        "" if !kind.is_there() => return vec![kind.required("pathType must be specified")],
        "Exact" | "Prefix" => {
            if relative {
                errors.push(text.invalid("must be an absolute path"));
            }
            let within = NEVER.iter().filter(|part| text.text().contains(**part));
            errors.extend(within.map(|part| text.invalid(&format!("must not contain '{part}'"))));
            let ends = ["/..", "/."].into_iter().filter(|end| text.text().ends_with(end));
            errors.extend(ends.map(|end| text.invalid(&format!("cannot end with '{end}'"))));
        }
        "ImplementationSpecific" if relative && !text.is_empty() => {
            errors.push(text.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    errors.extend(check_backend(&path.child("backend")));
    errors
}

fn check_backend(backend: &FieldValue<'_>) -> Vec<FieldError> {
    let (resource, service) = (backend.child("resource"), backend.child("service"));
    let wrong = |text: &str| vec![FieldError::invalid(&*backend.path, &json!(""), text)];
    match (resource.is_there(), service.is_there()) {
        (true, true) => return wrong("cannot set both resource and service backends"),
        (false, false) => return wrong("resource or service backend is required"),
        (true, false) => return reference::check(&resource),
        (false, true) => {}
    }
    let mut errors = service.child("name").named(names::dns_label);
    let port = service.child("port");
    let (name, number) = (port.child("name"), port.child("number"));
    match (!name.is_empty(), number.int().unwrap_or_default()) {
        (true, 0) => errors.extend(name.follows(names::port_name)),
        (true, _) => errors.extend(wrong("cannot set both port name & port number")),
        (false, 0) => errors.push(backend.required("port name or number is required")),
        (false, found) => {
            errors.extend(names::port_number(found).iter().map(|why| number.invalid(why)));
        }
    }
    errors
}

fn check_address(ingress: &FieldValue<'_>) -> Vec<FieldError> {
    let (ip, host) = (ingress.child("ip"), ingress.child("hostname"));
    let mut errors = Vec::new();
    if !ip.is_empty() {
        errors.extend(check_written(ip.text(), &ip.path));
    }
    if !host.is_empty() {
        errors.extend(host.follows(names::dns_subdomain));
        if host.text().parse::<IpAddr>().is_ok() {
            errors.push(host.invalid("must be a DNS name, not an IP address"));
        }
    }
    errors
}

//! APIService: a group and version of the API, and who serves it.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, NameRule, Strategy, Trait, keep_all_but_status, reset_all_but_status,
};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, condition, flag, name, set_default, text};
use super::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("Service", "string", "Who serves it."),
    column("Available", "string", "Whether it answers."),
    AGE,
];
const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1000;

/// Group, version, and the priorities of both, as Kubernetes has them: by these, groups come first in its discovery.
const PRIORITIES: &[(&str, &str, u32, u32)] = &[
    ("", "v1", 18_000, 1),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("apps", "v1", 17_800, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    // As metrics-server's manifest has it.
    ("metrics.k8s.io", "v1beta1", 100, 100),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("resource.k8s.io", "v1", 16_200, 21),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
];
/// Groups that only take questions.
const QUESTIONS: [(&str, &str); 2] =
    [("authentication.k8s.io", "v1"), ("authorization.k8s.io", "v1")];

/// Those of what the hub itself serves, as they are to be.
#[must_use]
pub fn local<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Vec<Value> {
    let served: BTreeSet<(&str, &str)> = kinds
        .map(|kind| (kind.group(), kind.version()))
        .filter(|(group, _)| *group != "apiregistration.k8s.io")
        .chain(QUESTIONS)
        .collect();
    served.into_iter().map(|(group, version)| service(group, version)).collect()
}

fn service(group: &str, version: &str) -> Value {
    let known = PRIORITIES.iter().find(|(of, at, ..)| *of == group && *at == version);
    let (of_group, of_version) =
        known.map_or((1000, 100), |(.., group, version)| (*group, *version));
    let mut spec = json!({"version": version, "groupPriorityMinimum": of_group,
        "versionPriority": of_version});
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    let labels = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
    json!({"metadata": {"name": format!("{version}.{group}"), "labels": labels}, "spec": spec})
}

/// APIService of apiregistration.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("apiregistration.k8s.io", "v1", "APIService"), "apiservices", Rules)
        .cluster_scoped()
        .names_are(NameRule::PathSegment)
        .category(["api-extensions"])
        .with_status()
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::NamesWhatItReplaces])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let service = object.pointer_mut("/spec/service").and_then(Value::as_object_mut);
        if let Some(service) = service {
            set_default(service, "port", 443);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let local = object.pointer("/spec/service").is_none();
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
        if let Some(status) = child(object, "status").filter(|_| local) {
            let available = json!({"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available"});
            status.insert("conditions".to_owned(), json!([available]));
        }
    }

    /// What is served here is available from the start.
    fn born(&self, object: &mut Value) {
        let now = text(object, "/metadata/creationTimestamp").to_owned();
        let conditions = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            condition["lastTransitionTime"] = json!(now);
        }
    }

    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(door, new, old);
    }

    fn reset_fields(&self, door: Option<&str>) -> FieldPaths {
        reset_all_but_status(door)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let (group, version) = (spec.child("group"), spec.child("version"));
        let mut errors: Vec<_> = check_name(object, &group, &version).into_iter().collect();
        if group.is_empty() && version.text() != "v1" {
            let text = "only v1 may have an empty group and it better be legacy kube";
            errors.push(group.required(text));
        }
        if !group.is_empty() {
            errors.extend(group.follows(names::dns_subdomain));
        }
        errors.extend(version.follows(names::dns1035_label));
        let bounds = [
            ("groupPriorityMinimum", GROUP_PRIORITY_MAX),
            ("versionPriority", VERSION_PRIORITY_MAX),
        ];
        for (field, most) in bounds {
            let at = spec.child(field);
            if !(1..=most).contains(&at.int().unwrap_or_default()) {
                errors.push(at.invalid(&format!("must be positive and less than {most}")));
            }
        }
        errors.extend(check_service(&spec));
        for condition in FieldValue::of(object, "status").child("conditions").items() {
            errors.extend(condition.child("status").one_of(&["True", "False", "Unknown"]));
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let text = "spec.service: kept without effect: requests are not passed on to API servers beside the hub yet";
        let remote = object.pointer("/spec/service").is_some();
        remote.then(|| text.to_owned()).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let service = object
            .pointer("/spec/service")
            .map(|service| format!("{}/{}", text(service, "/namespace"), text(service, "/name")));
        let available = condition(object, "Available");
        let available =
            match available.map(|found| (text(found, "/status"), text(found, "/reason"))) {
                None => "Unknown".to_owned(),
                Some(("True", _)) => "True".to_owned(),
                Some((status, reason)) => format!("{status} ({reason})"),
            };
        vec![
            name(object),
            service.unwrap_or_else(|| "Local".to_owned()).into(),
            available.into(),
            age(object, now),
        ]
    }
}

fn check_name(
    object: &Value,
    group: &FieldValue<'_>,
    version: &FieldValue<'_>,
) -> Option<FieldError> {
    let own = text(object, "/metadata/name");
    let expected = format!("{}.{}", version.text(), group.text());
    let text = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
    let wrong = !own.is_empty() && own != expected;
    wrong.then(|| FieldError::invalid("metadata.name", &json!(own), &text))
}

fn check_service(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let (service, bundle) = (spec.child("service"), spec.child("caBundle"));
    let insecure = spec.child("insecureSkipTLSVerify");
    let trusting = flag(insecure.value, "");
    let mut errors = Vec::new();
    if !service.is_there() {
        if !bundle.is_empty() {
            errors.push(bundle.invalid("local APIServices may not have a caBundle"));
        }
        if trusting {
            let text = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(insecure.invalid(text));
        }
        return errors;
    }
    errors.extend(service.child("namespace").must_be());
    errors.extend(service.child("name").must_be());
    let port = service.child("port");
    let wrong = names::port_number(port.int().unwrap_or_default());
    if !wrong.is_empty() {
        errors.push(port.invalid(&format!("port is not valid: {}", wrong.join(", "))));
    }
    if trusting && !bundle.is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
    errors
}

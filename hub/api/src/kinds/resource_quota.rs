//! ResourceQuota: how much of what a namespace may have.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, column, list, map, name, round_amounts, text};
use super::field_value::{FieldValue, IMMUTABLE};
use super::resource_name;

const COLUMNS: &[Column] = &[
    NAME,
    column("Request", "string", "What is used of what may be asked for."),
    column("Limit", "string", "What is used of what may be used at most."),
    AGE,
];
const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// What a scope of pods may be about beside their number.
const COMPUTE: &[&str] =
    &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// ResourceQuota of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "ResourceQuota"), "resourcequotas", Rules)
        .short(["quota"])
        .with_status()
        .columns(COLUMNS)
        .with(&[
            Trait::CountsNoGeneration,
            Trait::ShowsTheDeleted,
            Trait::SetsQuota,
            Trait::CountedByPlural,
        ])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        for half in ["spec", "status"] {
            if let Some(half) = object.get_mut(half).and_then(Value::as_object_mut) {
                round_amounts(half, "hard");
                round_amounts(half, "used");
            }
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let hard = spec.child("hard");
        let mut errors: Vec<_> = hard
            .entries()
            .flat_map(|(name, amount)| resource_name::check_of_quota(name, &amount))
            .collect();
        errors.extend(check_scopes(&spec));
        errors.extend(check_selector(&spec));
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door == Some("status") {
            let status = FieldValue::of(new, "status");
            let lists = ["hard", "used"].map(|list| status.child(list));
            let amounts = lists.iter().flat_map(FieldValue::entries);
            return amounts
                .flat_map(|(name, at)| resource_name::check_of_quota(name, &at))
                .collect();
        }
        let scopes = |object: &Value| -> BTreeSet<String> {
            list(object, "/spec/scopes").iter().map(|scope| text(scope, "").to_owned()).collect()
        };
        let now = FieldValue::of(new, "spec").child("scopes");
        (scopes(new) != scopes(old)).then(|| now.invalid(IMMUTABLE)).into_iter().collect()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let hard = |name: &str| -> Option<Quantity> {
            text(object.pointer("/spec/hard")?.get(name)?, "").parse().ok()
        };
        let pair = |resource: &&str| {
            let (request, limit) = (format!("requests.{resource}"), format!("limits.{resource}"));
            let bare = matches!(*resource, "cpu" | "memory");
            let found = hard(&request).map(|amount| (request, amount));
            let (request, asked) = found
                .or_else(|| Some(((*resource).to_owned(), hard(resource).filter(|_| bare)?)))?;
            let most = hard(&limit).filter(|most| *most < asked)?;
            Some(format!("ResourceQuota {request} ({asked}) should be less than {limit} ({most})"))
        };
        ["cpu", "memory", "storage", "ephemeral-storage"].iter().filter_map(pair).collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let cell = |limits: bool| {
            let resources = map(object, "/status/hard");
            let wanted = resources.filter(|(name, _)| name.starts_with("limits.") == limits);
            let used = |name: &str| object.pointer("/status/used").and_then(|used| used.get(name));
            let pairs = wanted.map(|(name, hard)| {
                let used = used(name).and_then(Value::as_str).unwrap_or("0");
                format!("{name}: {used}/{}", text(hard, ""))
            });
            Value::from(pairs.collect::<Vec<_>>().join(", "))
        };
        vec![name(object), cell(false), cell(true), age(object, now)]
    }
}

fn check_scopes(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let (scopes, hard) = (spec.child("scopes"), spec.child("hard"));
    let mut errors = Vec::new();
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.text()) {
            errors.push(scopes.invalid("unsupported scope"));
        }
        let unfit = hard.entries().filter(|(name, _)| !fits(scope.text(), name));
        errors.extend(unfit.map(|_| scopes.invalid("unsupported scope applied to resource")));
    }
    let all: BTreeSet<&str> = scopes.items().map(|scope| scope.text()).collect();
    errors.extend(conflict(&all).map(|()| scopes.invalid("conflicting scopes")));
    errors
}

fn conflict(scopes: &BTreeSet<&str>) -> Option<()> {
    let pairs = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
    pairs.iter().any(|pair| pair.iter().all(|scope| scopes.contains(scope))).then_some(())
}

/// Whether a scope can be about a resource.
fn fits(scope: &str, resource: &str) -> bool {
    if resource.contains('/') {
        return true;
    }
    match scope {
        "BestEffort" => resource == "pods",
        "NotBestEffort"
        | "Terminating"
        | "NotTerminating"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resource == "pods" || COMPUTE.contains(&resource),
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

fn check_selector(spec: &FieldValue<'_>) -> Vec<FieldError> {
    const EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let (selector, hard) = (spec.child("scopeSelector"), spec.child("hard"));
    // Upstream names no index here.
    let path = selector.child("matchExpressions").path;
    let mut errors = Vec::new();
    let mut all = BTreeSet::new();
    for wanted in selector.child("matchExpressions").items() {
        let wanted = FieldValue { path: path.clone(), ..wanted };
        let (scope, operator) = (wanted.child("scopeName"), wanted.child("operator"));
        let values = wanted.child("values");
        all.insert(scope.text());
        if !SCOPES.contains(&scope.text()) {
            errors.push(scope.invalid("unsupported scope"));
        }
        let unfit = hard.entries().filter(|(name, _)| !fits(scope.text(), name));
        let text = "unsupported scope applied to resource";
        errors.extend(unfit.map(|_| FieldError::invalid(&*path, selector.value, text)));
        let valued = matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass");
        if !valued && operator.text() != "Exists" {
            errors.push(operator.invalid(EXISTS));
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => errors.push(values.required(
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(values.invalid(
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid("not a valid selector operator")),
        }
    }
    let scopes = spec.child("scopes");
    let at = || FieldError::invalid(&*path, scopes.value, "conflicting scopes");
    errors.extend(conflict(&all).map(|()| at()));
    errors
}

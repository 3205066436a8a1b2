//! StatefulSet: pods of a template that are numbered, each with its own name and storage.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, NameRule, Selection, Strategy};
use freewheel_hub_schema::name as names;
use serde_json::{Map, Value, json};

use super::accessors::{AGE, NAME, age, child, column, int, items, name, set_default, wide};
use super::field_value::FieldValue;
use super::{template, volume_claim_spec as claim_spec};

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Ready pods of those wanted."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
];
/// What of the spec may change.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// StatefulSet of apps/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("apps", "v1", "StatefulSet"), "statefulsets", Rules)
        .short(["sts"])
        .category(["all"])
        .names_are(NameRule::DnsLabel)
        .with_scale()
        .with_status()
        .selects_by(Selection::LabelSelector)
        .columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "podManagementPolicy", "OrderedReady");
        set_default(spec, "replicas", 1);
        set_default(spec, "revisionHistoryLimit", 10);
        set_default(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
        let policy = spec.get_mut("persistentVolumeClaimRetentionPolicy");
        if let Some(policy) = policy.and_then(Value::as_object_mut) {
            set_default(policy, "whenDeleted", "Retain");
            set_default(policy, "whenScaled", "Retain");
        }
        set_default(spec, "updateStrategy", json!({}));
        if let Some(strategy) = spec.get_mut("updateStrategy").and_then(Value::as_object_mut) {
            default_strategy(strategy);
        }
        for claim in items(spec, "volumeClaimTemplates") {
            set_default(claim, "apiVersion", "v1");
            set_default(claim, "kind", "PersistentVolumeClaim");
            if let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) {
                claim_spec::default(spec);
            }
            let status = claim.entry("status").or_insert_with(|| json!({}));
            if let Some(status) = status.as_object_mut() {
                set_default(status, "phase", "Pending");
            }
        }
        template::default(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"availableReplicas": 0, "replicas": 0}));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = check_policies(&spec);
        for claim in spec.child("volumeClaimTemplates").items() {
            errors.extend(claim_spec::check(&claim.child("spec")));
        }
        errors.extend(template::check_counts(object, &["replicas", "minReadySeconds"]));
        let start = spec.child("ordinals").child("start");
        errors.extend(FieldValue { path: "spec.ordinals.start".to_owned(), ..start }.at_least(0));
        let service = spec.child("serviceName");
        if !service.is_empty() {
            errors.extend(service.follows(names::dns_label));
        }
        errors.extend(template::check_selector(object, "statefulset"));
        let mut pods = spec.child("template").value.clone();
        let own = with_claims(&mut pods, spec.child("volumeClaimTemplates").value);
        let pods = FieldValue::at(&own, "spec.template");
        errors.extend(template::check_pods(&pods));
        errors.extend(template::check_for_ever(&pods, "StatefulSet"));
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door == Some("status") {
            let parts =
                ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
            let mut errors = template::check_replicas(new, &parts);
            errors.extend(template::collisions_grow(new, old));
            return errors;
        }
        const TEXT: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        let fixed = |object: &Value| {
            let mut spec = object.get("spec").cloned().unwrap_or_default();
            if let Some(spec) = spec.as_object_mut() {
                spec.retain(|key, _| !CHANGEABLE.contains(&key.as_str()));
            }
            spec
        };
        let changed = fixed(new) != fixed(old);
        changed.then(|| FieldError::forbidden("spec", TEXT)).into_iter().collect()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut found = template::warnings(object);
        let spec = FieldValue::of(object, "spec");
        let claims = spec.child("volumeClaimTemplates");
        if !claims.is_empty() {
            let text = "kept without effect: no spoke mounts what is claimed";
            found.push(format!("{}: {text}", claims.path));
        }
        found.extend(claims.items().flat_map(|claim| claim_spec::warnings(&claim.child("spec"))));
        if int(object, "/spec/revisionHistoryLimit") < 0 {
            found.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        found
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/spec/template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let (ready, wanted) = (int(object, "/status/readyReplicas"), int(object, "/spec/replicas"));
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let [names, images] = template::container_cells(spec);
        vec![name(object), format!("{ready}/{wanted}").into(), age(object, now), names, images]
    }
}

fn default_strategy(strategy: &mut Map<String, Value>) {
    if !strategy.contains_key("type") {
        strategy.insert("type".to_owned(), "RollingUpdate".into());
        set_default(strategy, "rollingUpdate", json!({}));
    }
    if strategy.get("type") == Some(&"RollingUpdate".into())
        && let Some(rolling) = strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut)
    {
        set_default(rolling, "partition", 0);
    }
}

/// The template with a volume for each claim, and without the names that each pod gets of its own.
fn with_claims(pods: &mut Value, claims: &Value) -> Value {
    let names =
        claims.as_array().into_iter().flatten().filter_map(|claim| claim.pointer("/metadata/name"));
    let names: Vec<Value> = names.cloned().collect();
    if let Some(spec) = pods.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("subdomain");
        spec.remove("hostname");
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.retain(|volume| !volume.get("name").is_some_and(|name| names.contains(name)));
            volumes.extend(names.iter().map(|name| json!({"name": name, "emptyDir": {}})));
        }
    }
    pods.take()
}

fn check_policies(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy = spec.child("podManagementPolicy");
    match policy.text() {
        "" => errors.push(policy.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(policy.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    let strategy = spec.child("updateStrategy");
    let rolling = strategy.child("rollingUpdate");
    match strategy.child("type").text() {
        "" => errors.push(strategy.required("")),
        "OnDelete" if rolling.is_there() => {
            errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
        }
        "RollingUpdate" if rolling.is_there() => {
            errors.extend(rolling.child("partition").at_least(0));
            let unavailable = rolling.child("maxUnavailable");
            if unavailable.is_there() {
                errors.extend(template::check_amount(&unavailable));
                if !template::is_some(&unavailable) {
                    errors.push(unavailable.invalid("cannot be 0"));
                }
            }
        }
        "OnDelete" | "RollingUpdate" => {}
        _ => errors.push(strategy.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
    let policy = spec.child("persistentVolumeClaimRetentionPolicy");
    let when = ["whenDeleted", "whenScaled"].map(|when| policy.child(when));
    errors.extend(when.iter().filter_map(|when| when.one_of(&["Retain", "Delete"])));
    errors
}

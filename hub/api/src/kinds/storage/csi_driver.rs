//! CSIDriver: what a storage driver can do, and what it wants to know.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use serde_json::{Value, json};

use super::UNUSED;
use crate::kinds::accessors::{AGE, NAME, age, child, column, list, name, set_default, text};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean", "Whether volumes have to be attached."),
    column("PodInfoOnMount", "boolean", "Whether it is told of the pod."),
    column("StorageCapacity", "boolean", "Whether it says how much there is."),
    column("TokenRequests", "string", "For whom it wants tokens."),
    column("RequiresRepublish", "boolean", "Whether it is told again and again."),
    column("Modes", "string", "How long its volumes last."),
    AGE,
];
/// Shortest and longest life of a token, in seconds.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

/// CSIDriver of storage.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("storage.k8s.io", "v1", "CSIDriver"), "csidrivers", Rules)
        .cluster_scoped()
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::NamesWhatItReplaces, Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
            set_default(spec, field, false);
        }
        set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if spec.get("volumeLifecycleModes").is_none_or(|modes| *modes == json!([])) {
            spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let policy = spec.child("fsGroupPolicy");
        let mut errors: Vec<_> =
            policy.one_of(&["File", "None", "ReadWriteOnceWithFSType"]).into_iter().collect();
        errors.extend(check_tokens(&spec.child("tokenRequests")));
        let modes = spec.child("volumeLifecycleModes");
        for mode in modes.items().filter(|mode| !matches!(mode.text(), "Persistent" | "Ephemeral"))
        {
            let mode = FieldValue { path: modes.path.clone(), ..mode };
            errors.push(mode.not_supported(&["Persistent", "Ephemeral"]));
        }
        let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
        if period.int().is_some_and(|period| period < 10) {
            errors.push(period.invalid("must be greater than or equal to 10 seconds"));
        }
        let secret = spec.child("serviceAccountTokenInSecrets");
        if secret.is_there() && spec.child("tokenRequests").is_empty() {
            let text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.push(secret.invalid(text));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let (now, was) = (FieldValue::of(new, "spec"), FieldValue::of(old, "spec"));
        let attach =
            FieldValue { path: "spec.attachedRequired".to_owned(), ..now.child("attachRequired") };
        let mut errors: Vec<_> = attach.stays(&was.child("attachRequired")).into_iter().collect();
        let modes = "volumeLifecycleModes";
        errors.extend(now.child(modes).stays(&was.child(modes)));
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let tokens = !list(object, "/spec/tokenRequests").is_empty();
        let unset = object.pointer("/spec/serviceAccountTokenInSecrets").is_none();
        let text = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
        (tokens && unset).then(|| text.to_owned()).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let says = |field: &str, unsaid: bool| {
            let said = object.pointer(&format!("/spec/{field}")).and_then(Value::as_bool);
            Value::from(said.unwrap_or(unsaid))
        };
        let joined = |items: Vec<&str>, none: &str| {
            if items.is_empty() { none.to_owned() } else { items.join(",") }
        };
        let tokens = list(object, "/spec/tokenRequests");
        let tokens = tokens.iter().map(|token| text(token, "/audience")).collect();
        let modes = list(object, "/spec/volumeLifecycleModes").iter();
        let modes = modes.filter_map(Value::as_str).collect();
        vec![
            name(object),
            says("attachRequired", true),
            says("podInfoOnMount", false),
            says("storageCapacity", false),
            joined(tokens, "<unset>").into(),
            says("requiresRepublish", false),
            joined(modes, "<none>").into(),
            age(object, now),
        ]
    }
}

fn check_tokens(tokens: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut audiences = BTreeSet::new();
    for token in tokens.items() {
        let (audience, seconds) = (token.child("audience"), token.child("expirationSeconds"));
        if !audiences.insert(audience.text()) {
            errors.push(FieldError::duplicate(&*audience.path, &audience.text().into()));
            continue;
        }
        match seconds.int() {
            Some(found) if found < TOKEN_SECONDS_MIN => {
                errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
            }
            Some(found) if TOKEN_SECONDS_MAX < found => {
                errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
            }
            Some(_) | None => {}
        }
    }
    errors
}

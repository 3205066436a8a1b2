//! ResourceClaim: devices that are asked for, and those that were given.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Strategy, Trait, keep_all_but_status, reset_all_but_status,
};
use serde_json::{Value, json};

use super::{GROUP, UNUSED, claim_spec};
use crate::kinds::accessors::{AGE, NAME, age, child, column, list, name, text};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] =
    &[NAME, column("State", "string", "Whether devices were given, and are used."), AGE];
const CONSUMERS_MAX: usize = 256;

/// ResourceClaim of resource.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", "ResourceClaim"), "resourceclaims", Rules)
        .with_status()
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            claim_spec::default(spec);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(door, new, old);
    }

    fn reset_fields(&self, door: Option<&str>) -> FieldPaths {
        reset_all_but_status(door)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        claim_spec::check(&FieldValue::of(object, "spec"))
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door == Some("status") {
            return check_status(new, old);
        }
        FieldValue::of(new, "spec").stays(&FieldValue::of(old, "spec")).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let goes = !text(object, "/metadata/deletionTimestamp").is_empty();
        let given = object.pointer("/status/allocation").is_some();
        let used = given && !list(object, "/status/reservedFor").is_empty();
        let states = [
            (goes, "deleted"),
            (!given && !goes, "pending"),
            (given, "allocated"),
            (used, "reserved"),
        ];
        let states: Vec<&str> =
            states.iter().filter(|(is, _)| *is).map(|(_, state)| *state).collect();
        vec![name(object), states.join(",").into(), age(object, now)]
    }
}

fn check_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let (now, was) = (FieldValue::of(new, "status"), FieldValue::of(old, "status"));
    let (users, given) = (now.child("reservedFor"), now.child("allocation"));
    let mut errors: Vec<_> = users.no_more(CONSUMERS_MAX).into_iter().collect();
    let mut taken = BTreeSet::new();
    for user in users.items() {
        for field in ["resource", "name", "uid"] {
            errors.extend(user.child(field).must_be());
        }
        let uid = user.child("uid");
        let twice = !taken.insert(uid.text());
        errors.extend(twice.then(|| FieldError::duplicate(&*user.path, uid.value)));
    }
    if !users.is_empty() && !given.is_there() {
        errors.push(users.forbidden("may not be specified when `allocated` is not set"));
    }
    let goes = !text(new, "/metadata/deletionTimestamp").is_empty();
    let before = list(old, "/status/reservedFor");
    if goes
        && given.is_there()
        && list(new, "/status/reservedFor").iter().any(|user| !before.contains(user))
    {
        let text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(users.forbidden(text));
    }
    if given.is_there() && was.child("allocation").is_there() {
        errors.extend(given.stays(&was.child("allocation")));
    }
    errors
}

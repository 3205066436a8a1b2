//! CSINode: the storage drivers that are at a node.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::Value;

use super::UNUSED;
use crate::kinds::accessors::{AGE, NAME, age, column, list, name, text};
use crate::kinds::field_value::{FieldValue, IMMUTABLE};
use crate::kinds::volume_words::check_driver;

const COLUMNS: &[Column] = &[NAME, column("Drivers", "integer", "How many there are."), AGE];
/// Longest name that a driver has for a node.
const NODE_ID_BYTES_MAX: usize = 256;

/// CSINode of storage.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("storage.k8s.io", "v1", "CSINode"), "csinodes", Rules)
        .cluster_scoped()
        .columns(COLUMNS)
        .with(&[
            Trait::BelongsToNodeOfItsName,
            Trait::CountsNoGeneration,
            Trait::NamesWhatItReplaces,
            Trait::ShowsTheDeleted,
        ])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let drivers = FieldValue::of(object, "spec").child("drivers");
        let mut taken = BTreeSet::new();
        drivers.items().flat_map(|driver| check(&driver, &mut taken)).collect()
    }

    /// A driver stays what it was, but for how much it can hold.
    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            if let Some(driver) = driver.as_object_mut() {
                driver.remove("allocatable");
            }
            driver
        };
        let (now, was) = (list(new, "/spec/drivers"), list(old, "/spec/drivers"));
        let changed = was.iter().filter_map(|old| {
            let same = now.iter().find(|new| text(new, "/name") == text(old, "/name"))?;
            (fixed(same) != fixed(old)).then(|| fixed(same))
        });
        changed.map(|driver| FieldError::invalid("spec.drivers", &driver, IMMUTABLE)).collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), list(object, "/spec/drivers").len().into(), age(object, now)]
    }
}

fn check<'a>(driver: &FieldValue<'a>, taken: &mut BTreeSet<&'a str>) -> Vec<FieldError> {
    let (name, id) = (driver.child("name"), driver.child("nodeID"));
    let mut errors = check_driver(&name);
    errors.extend(id.must_be());
    if NODE_ID_BYTES_MAX < id.text().len() {
        errors.push(id.invalid(&format!("must be {NODE_ID_BYTES_MAX} characters or less")));
    }
    errors.extend(driver.child("allocatable").child("count").at_least(0));
    errors.extend((!taken.insert(name.text())).then(|| name.duplicate()));
    let mut keys = BTreeSet::new();
    for key in driver.child("topologyKeys").items() {
        let key = FieldValue { path: driver.path.clone(), ..key };
        errors.extend(key.must_be());
        errors.extend((!keys.insert(key.text())).then(|| key.duplicate()));
        errors.extend(key.follows(names::qualified_name));
    }
    errors
}

//! DeviceClass: a kind of device that claims may ask for.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use serde_json::Value;

use super::claim_spec::{check_config, check_selectors};
use super::{GROUP, UNUSED};
use crate::kinds::accessors::{AGE, NAME, age, name};
use crate::kinds::field_value::FieldValue;
use crate::kinds::resource_name;

const COLUMNS: &[Column] = &[NAME, AGE];
const CONFIGS_MAX: usize = 32;

/// DeviceClass of resource.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", "DeviceClass"), "deviceclasses", Rules)
        .cluster_scoped()
        .columns(COLUMNS)
        .with(&[Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = check_selectors(&spec.child("selectors"));
        let configs = spec.child("config");
        errors.extend(configs.no_more(CONFIGS_MAX));
        errors.extend(configs.items().flat_map(|config| check_config(&config)));
        let extended = spec.child("extendedResourceName");
        if extended.is_there() && !resource_name::is_extended(extended.text()) {
            errors.push(extended.invalid("must be a valid extended resource name"));
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }
}

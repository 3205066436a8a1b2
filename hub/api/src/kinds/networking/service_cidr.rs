//! ServiceCIDR: a range that Services get their addresses from.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Strategy, Trait, keep_all_but_status, reset_all_but_status,
};
use serde_json::{Value, json};

use super::address::{Cidr, check_exact_range};
use crate::kinds::accessors::{AGE, NAME, age, column, list, name};
use crate::kinds::field_value::{FieldValue, IMMUTABLE};

const COLUMNS: &[Column] = &[NAME, column("CIDRs", "string", "Which addresses."), AGE];

/// ServiceCIDR of networking.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("networking.k8s.io", "v1", "ServiceCIDR"), "servicecidrs", Rules)
        .cluster_scoped()
        .with_status()
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration])
        .without_effect("Services get their addresses from one range, which is the hub's")
}

struct Rules;

impl Strategy for Rules {
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
        let ranges = FieldValue::of(object, "spec").child("cidrs");
        let all: Vec<_> = ranges.items().collect();
        if all.is_empty() {
            return vec![ranges.required("at least one CIDR required")];
        }
        if 2 < all.len() {
            let spec = object.get("spec").unwrap_or(&Value::Null);
            return vec![FieldError::invalid(ranges.path, spec, "may only hold up to 2 values")];
        }
        let mut errors: Vec<_> = all.iter().filter_map(check_exact_range).collect();
        let families: Vec<_> =
            all.iter().filter_map(|range| Cidr::read(range.text())).map(Cidr::is_ipv6).collect();
        if let [first, second] = families[..]
            && first == second
        {
            let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.push(ranges.invalid(text));
        }
        errors
    }

    /// What there is stays; a range of the other family may come.
    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let (now, was) = (list(new, "/spec/cidrs"), list(old, "/spec/cidrs"));
        let ranges = FieldValue::of(new, "spec").child("cidrs");
        if now.len() != was.len() && (was.len(), now.len()) != (1, 2) {
            return vec![ranges.invalid(IMMUTABLE)];
        }
        let changed = ranges.items().zip(was).filter(|(now, was)| now.value != *was);
        changed.map(|(now, _)| now.invalid(IMMUTABLE)).collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let ranges = list(object, "/spec/cidrs").iter().filter_map(Value::as_str);
        vec![name(object), ranges.collect::<Vec<_>>().join(",").into(), age(object, now)]
    }
}

//! Scale: the replica count of a workload, as its subresource `scale` shows it. Nothing of it is stored.

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use serde_json::Value;

use super::accessors::{AGE, NAME, age, column, int, name};

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "How many replicas are wanted."),
    column("Available", "integer", "How many there are."),
    AGE,
];

/// Scale of autoscaling/v1, for its columns: no path leads to it.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("autoscaling", "v1", "Scale"), "scales", Rules).verbs(&[]).columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let (wanted, there) = (int(object, "/spec/replicas"), int(object, "/status/replicas"));
        vec![name(object), wanted.into(), there.into(), age(object, now)]
    }
}

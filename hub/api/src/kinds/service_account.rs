//! ServiceAccount: the identity that a pod's containers act as.

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use serde_json::Value;

use super::accessors::{AGE, NAME, age, name};

const COLUMNS: &[Column] = &[NAME, AGE];

/// ServiceAccount of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "ServiceAccount"), "serviceaccounts", Rules)
        .short(["sa"])
        .foreign_subresource(
            "token",
            Gvk::new("authentication.k8s.io", "v1", "TokenRequest"),
            &["create"],
        )
        .columns(COLUMNS)
        .with(&[Trait::ShowsTheDeleted, Trait::CountsNoGeneration])
}

struct Rules;

impl Strategy for Rules {
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }
}

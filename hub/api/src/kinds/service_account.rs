//! ServiceAccount: the identity that a pod's containers act as.

use serde_json::Value;

use super::look::{AGE, NAME, age, name};
use crate::kind::{Column, Gvk, Kind, Strategy};

const COLUMNS: &[Column] = &[NAME, AGE];

/// ServiceAccount of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "ServiceAccount"), "serviceaccounts", Rules).short(["sa"])
}

struct Rules;

impl Strategy for Rules {
    fn shows_the_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }

    fn counts_generation(&self) -> bool {
        false
    }
}

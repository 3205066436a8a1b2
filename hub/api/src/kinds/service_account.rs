//! ServiceAccount: the identity that a pod's containers act as.

use serde_json::Value;

use super::look::{AGE, ALL_VERBS, NAME, age, name};
use crate::kind::{Column, Kind, Strategy};

const COLUMNS: &[Column] = &[NAME, AGE];

/// ServiceAccount of core/v1.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[],
    stored_as: None,
    strategy: &Rules,
};

struct Rules;

impl Strategy for Rules {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }

    fn counts_generation(&self) -> bool {
        false
    }
}

//! A version of one of these kinds that is stored in another version's form.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::{Gvk, Gvr};
use freewheel_hub_schema::kind::{FieldPaths, Kind, Strategy};
use serde_json::Value;

use super::{Rules, of_the_root};
use crate::kinds::accessors::text;

/// The rules of a version, and how it is read and written as the stored one.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// What is special about it, in its own form.
    pub rules: Rules,
    /// The version that is stored.
    pub stored: &'static str,
    /// Into the form of the store.
    pub into_stored: fn(&mut Value),
    /// Out of it.
    pub out_of_stored: fn(&mut Value),
}

impl View {
    /// The kind, served in the root only.
    pub fn kind(self, plural: &'static str) -> Kind {
        let ((group, version, kind), stored) = (self.rules.gvk, self.stored);
        let kind = Kind::new(Gvk::new(group, version, kind), plural, self);
        of_the_root(kind).stored_as(Gvr::new(group, stored, plural))
    }

    /// What comes of an object that is in neither form yet, or in both: one that has this version is turned round.
    fn turn(&self, object: &mut Value, (from, to): (&str, &str), turn: fn(&mut Value)) {
        let group = self.rules.gvk.0;
        if text(object, "/apiVersion") == format!("{group}/{to}") {
            return;
        }
        turn(object);
        if text(object, "/apiVersion") == format!("{group}/{from}") {
            object["apiVersion"] = format!("{group}/{to}").into();
        }
    }
}

impl Strategy for View {
    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        self.rules.prepare_update(subresource, new, old);
    }

    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        self.rules.reset_fields(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        self.rules.validate(object)
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        self.rules.validate_update(door, new, old)
    }

    fn to_stored(&self, object: &mut Value) {
        self.turn(object, (self.rules.gvk.1, self.stored), self.into_stored);
    }

    fn from_stored(&self, object: &mut Value) -> Result<(), String> {
        self.turn(object, (self.stored, self.rules.gvk.1), self.out_of_stored);
        Ok(())
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        self.rules.warnings(object)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        self.rules.row(object, now)
    }
}

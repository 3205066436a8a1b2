//! What is special about a custom resource in one of its versions: what its definition says.
//!
//! Guarantees:
//! - what is stored is in the storage version, whatever version it came in, and comes out in the one that is asked for
//!   (`an_object_is_stored_in_one_version`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::{
    FieldPaths, Form as _, ScalePaths, Strategy, drop_status, keep_all_but_status,
    reset_all_but_status,
};
use serde_json::{Value, json};

use crate::before::Before;
use crate::columns::Columns;
use crate::form::{FormOf, Version};
use crate::json_path::JsonPath;
use crate::{cel, check, embedded, lists};

/// What a definition says of one version.
pub(crate) struct Resource {
    pub(crate) version: Arc<Version>,
    /// The version that is stored, where that is another.
    pub(crate) stored: Option<Arc<Version>>,
    /// `status` has a door of its own.
    pub(crate) has_status: bool,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) columns: Columns,
    /// Fields that selectors may name, of all versions: what is written in one may be looked for in another.
    pub(crate) fields: Vec<(String, Option<JsonPath>)>,
}

impl Resource {
    /// Mistakes in what stands beside the schema's rules.
    fn beside(&self, object: &Value, spec_too: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let Some(scale) = &self.scale else { return errors };
        if spec_too {
            errors.extend(check_replicas(object, &scale.wanted));
        }
        errors.extend(check_replicas(object, &scale.current));
        if let Some(selector) = &scale.selector
            && let Some(value) = object.pointer(selector).filter(|value| !value.is_string())
        {
            let text = format!(
                "{} accessor error: {value} is of the wrong type, expected string",
                dotted(selector)
            );
            errors.push(FieldError::invalid(dotted(selector), &json!(""), &text));
        }
        errors
    }

    fn check_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.beside(new, false);
        let schema = self.version.schema();
        let (Some(status), Some(of)) = (new.get("status"), schema.properties.get("status")) else {
            return errors;
        };
        let before = Before::of(old).field("status");
        errors.extend(check::check_change(of, status, before, "status"));
        errors.extend(embedded::check(of, status, "status"));
        let twice = |status: &Value| lists::check(of, status, "status");
        if old.get("status").is_none_or(|old| twice(old).is_empty()) {
            errors.extend(twice(status));
        }
        let mistakes = cel::check_after(&errors, schema, new, Before::of(old));
        errors.extend(mistakes);
        errors
    }
}

/// Whether an object has many parts.
fn is_large(object: &Value) -> bool {
    const LARGE_OBJECT_PARTS: usize = 2_000;
    fn count(value: &Value, left: &mut usize) {
        *left = left.saturating_sub(1);
        match value {
            _ if *left == 0 => {}
            Value::Array(items) => items.iter().for_each(|item| count(item, left)),
            Value::Object(map) => map.values().for_each(|value| count(value, left)),
            Value::String(text) => *left = left.saturating_sub(text.len() / 64),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut left = LARGE_OBJECT_PARTS;
    count(object, &mut left);
    left == 0
}

/// `/spec/replicas` → `.spec.replicas`
fn dotted(pointer: &str) -> String {
    pointer.replace('/', ".")
}

fn check_replicas(object: &Value, pointer: &str) -> Option<FieldError> {
    let value = object.pointer(pointer)?;
    let text = match value.as_i64() {
        None => format!(
            "{} accessor error: {value} is of the wrong type, expected int64",
            dotted(pointer)
        ),
        Some(count) if count < 0 => "should be a non-negative integer".to_owned(),
        Some(count) if i32::try_from(count).is_err() => {
            format!("should be less than or equal to {}", i32::MAX)
        }
        Some(_) => return None,
    };
    Some(FieldError::invalid(dotted(pointer), &value.as_i64().unwrap_or_default().into(), &text))
}

impl Strategy for Resource {
    fn prepare_create(&self, object: &mut Value) {
        if self.has_status {
            drop_status(object);
        }
    }

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        if self.has_status {
            keep_all_but_status(subresource, new, old);
        }
    }

    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        if self.has_status { reset_all_but_status(subresource) } else { &[] }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let schema = self.version.schema();
        let mut errors = check::check(schema, object, "");
        errors.extend(self.beside(object, true));
        errors.extend(embedded::check(schema, object, ""));
        errors.extend(lists::check(schema, object, ""));
        let mistakes = cel::check_after(&errors, schema, object, Before::nothing());
        errors.extend(mistakes);
        errors
    }

    fn validate_update(
        &self,
        subresource: Option<&str>,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        if subresource == Some("status") {
            return self.check_status(new, old);
        }
        let schema = self.version.schema();
        let mut errors = check::check_change(schema, new, Before::of(old), "");
        errors.extend(self.beside(new, true));
        errors.extend(embedded::check(schema, new, ""));
        if lists::check(schema, old, "").is_empty() {
            errors.extend(lists::check(schema, new, ""));
        }
        let mistakes = cel::check_after(&errors, schema, new, Before::of(old));
        errors.extend(mistakes);
        errors
    }

    fn checks_take_long(&self, object: &Value) -> bool {
        self.version.is_large() || self.version.schema().has_rules() || is_large(object)
    }

    fn compares(&self) -> bool {
        true
    }

    fn scale(&self) -> Option<&ScalePaths> {
        self.scale.as_ref()
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let text = |path: &Option<JsonPath>| match path.as_ref().and_then(|path| path.first(object))
        {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        self.fields.iter().map(|(name, path)| (name.clone(), text(path))).collect()
    }

    fn to_stored(&self, object: &mut Value) {
        let Some(stored) = &self.stored else { return };
        object["apiVersion"] = stored.api_version().into();
        // What the other version does not know is not stored, as at kube-apiserver. It was let in before, so that
        // nothing of it is of a wrong type.
        let _ = FormOf(stored.clone()).prune(object);
    }

    fn from_stored(&self, object: &mut Value) -> Result<(), String> {
        if !object.is_object() {
            return Ok(());
        }
        object["apiVersion"] = self.version.api_version().into();
        let form = FormOf(self.version.clone());
        // A schema that came after the object takes out of it what it does not know.
        let _ = form.prune(object);
        form.default(object)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        self.columns.row(object, now)
    }
}

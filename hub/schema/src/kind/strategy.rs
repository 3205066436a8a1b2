//! What is special about a kind: rules that its file answers, so that nothing else asks for a kind by its name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::FieldError;
use crate::quantity::Quantity;

/// Paths of names.
pub type FieldPaths = &'static [&'static [&'static str]];

/// Where the replicas of a kind are, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// How many are wanted.
    pub wanted: String,
    /// How many there are.
    pub current: String,
    /// A selector as text.
    pub selector: Option<String>,
}

/// What is special about a kind. Every method works on JSON in the kind's own version, after the
/// schema's canonicaliser has run; paths in errors are field paths.
pub trait Strategy: Send + Sync {
    /// Fills in defaults beyond those in the schema table; runs on create, update and on patches.
    fn default(&self, _object: &mut Value) {}

    /// Before a create: drops what a creator may not set (status) and sets what the server owns.
    fn prepare_create(&self, object: &mut Value) {
        drop_status(object);
    }

    /// Once a new object has its name, its UID and its time: what follows from those.
    fn born(&self, _object: &mut Value) {}

    /// Before an update through the main resource (`None`) or a subresource: takes over from `old`
    /// what this door may not change.
    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(subresource, new, old);
    }

    /// What a write by this door leaves as it is, as [`Strategy::prepare_update`] does, so that nobody comes to own it
    /// by that door.
    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        match subresource {
            Some("status") => &[&["spec"]],
            None | Some("finalize") => &[&["status"]],
            Some(_) => &[],
        }
    }

    /// Every mistake of a new object. Metadata is checked by the pipeline.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What only a new object may not say; [`Strategy::validate`] runs on it as well.
    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Every mistake of a change; [`Strategy::validate`] runs on `new` as well.
    fn validate_update(
        &self,
        _subresource: Option<&str>,
        _new: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// Whether the checks of this object may take long, so that they are to be done where nobody waits for a turn.
    fn checks_take_long(&self, _object: &Value) -> bool {
        false
    }

    /// Whether [`Strategy::validate_update`] says every mistake of a change, those that were there before left out: then
    /// nobody compares those of the new object with those of the old one.
    fn compares(&self) -> bool {
        false
    }

    /// Where its replicas are, when not in `spec.replicas` and `status.replicas`, with a LabelSelector in
    /// `spec.selector`.
    fn scale(&self) -> Option<&ScalePaths> {
        None
    }

    /// Texts for `Warning:` headers: fields that are kept without effect, deprecated values.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The same of a change by this door alone, whatever the object says.
    fn subresource_warning(&self, _subresource: &str) -> Option<&'static str> {
        None
    }

    /// What who deletes an object is told beside the answer, once: what goes on without it.
    fn deletion_warning(&self, _object: &Value) -> Option<String> {
        None
    }

    /// Values of fields that field selectors may name, beside metadata.name and metadata.namespace.
    fn selectable_fields(&self, _object: &Value) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// From this version's form to the stored one; differs only where [`crate::kind::Kind::stored_as`] is set.
    fn to_stored(&self, _object: &mut Value) {}

    /// From the stored form to this version's.
    ///
    /// # Errors
    /// Why it is nothing in this version.
    #[expect(clippy::wrong_self_convention, reason = "it is the object that comes from there")]
    fn from_stored(&self, _object: &mut Value) -> Result<(), String> {
        Ok(())
    }

    /// Cells for [`crate::kind::Kind::columns`]. `now` is in Unix seconds, for ages.
    fn row(&self, _object: &Value, _now: i64) -> Vec<Value> {
        Vec::new()
    }

    /// The finalizer that a delete puts on it, under which what has to go before it is taken away.
    fn held_by(&self) -> Option<&'static str> {
        None
    }

    /// Seconds that a delete waits for somebody to confirm: pods only.
    fn grace_period(&self, _object: &Value) -> Option<i64> {
        None
    }

    /// The service account that an object runs as; it is let in only when that is there.
    fn account<'a>(&self, _object: &'a Value) -> Option<&'a str> {
        None
    }

    /// Where an object keeps the template of its pods, as a JSON pointer.
    fn pod_template(&self) -> Option<&'static str> {
        None
    }

    /// Whether a name of a quota is about objects of this kind, beside `count/` and the plurals of
    /// [`crate::kind::Trait::CountedByPlural`]. No other kind answers to it.
    fn is_quota_name(&self, _name: &str) -> bool {
        false
    }

    /// What an object counts for in quotas of its namespace, by their names, beside one of its kind.
    fn quota_usage(&self, _object: &Value) -> BTreeMap<String, Quantity> {
        BTreeMap::new()
    }

    /// Whether a scope of a quota (`scopeName`, `operator`, `values`) is about an object.
    fn is_in_quota_scope(&self, _scope: &Value, _object: &Value) -> bool {
        false
    }

    /// What an object does not say of itself, though a quota limits these names: `cpu for: a,b`.
    fn unsaid_for_quota(&self, _names: &BTreeSet<&str>, _object: &Value) -> Option<String> {
        None
    }

    /// A condition of its row in a Table.
    fn row_condition(&self, _object: &Value) -> Option<Value> {
        None
    }
}

/// Removes `status`.
pub fn drop_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
}

/// The main door keeps the old status; the `status` door takes status and metadata and keeps the rest, as
/// kube-apiserver does for its own kinds. What the server owns of metadata is kept elsewhere.
pub fn keep_other_half(subresource: Option<&str>, new: &mut Value, old: &Value) {
    if subresource == Some("status") {
        keep_all_but(&["metadata", "status"], new, old);
    } else {
        keep(new, old, "status");
    }
}

/// As [`keep_other_half`], but the `status` door takes nothing beside status: kube-apiserver's rule for
/// custom resources.
pub fn keep_all_but_status(subresource: Option<&str>, new: &mut Value, old: &Value) {
    if subresource == Some("status") {
        keep_all_but(&["status"], new, old);
    } else {
        keep(new, old, "status");
    }
}

/// [`Strategy::reset_fields`] of who keeps all but status.
#[must_use]
pub fn reset_all_but_status(subresource: Option<&str>) -> FieldPaths {
    if subresource == Some("status") { &[&["metadata"], &["spec"]] } else { &[&["status"]] }
}

/// `key` as it is in `old`.
pub fn keep(new: &mut Value, old: &Value, key: &str) {
    let Some(map) = new.as_object_mut() else { return };
    match old.get(key) {
        Some(value) => map.insert(key.to_owned(), value.clone()),
        None => map.remove(key),
    };
}

/// `metadata.<key>` as it is in `old`.
pub fn keep_metadata(new: &mut Value, old: &Value, key: &str) {
    let none = Value::Null;
    let Some(meta) = new.get_mut("metadata").filter(|meta| meta.is_object()) else { return };
    keep(meta, old.get("metadata").unwrap_or(&none), key);
}

fn keep_all_but(taken: &[&str], new: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else { return };
    new.retain(|key, _| taken.contains(&key.as_str()));
    for (key, value) in old {
        if !taken.contains(&key.as_str()) {
            new.insert(key.clone(), value.clone());
        }
    }
}

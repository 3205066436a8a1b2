//! One descriptor per kind: names, verbs, and the strategy that is special about it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::FieldError;
use crate::object::Resource;

/// A kind that the API serves in one version.
#[derive(Clone, Copy)]
pub struct Kind {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version: `v1`.
    pub version: &'static str,
    /// Kind: `Deployment`.
    pub kind: &'static str,
    /// Plural resource: `deployments`.
    pub plural: &'static str,
    /// `deployment`
    pub singular: &'static str,
    /// `["deploy"]`
    pub short_names: &'static [&'static str],
    /// `["all"]`
    pub categories: &'static [&'static str],
    /// Lives in namespaces.
    pub namespaced: bool,
    /// Verbs as discovery lists them, sorted.
    pub verbs: &'static [&'static str],
    /// Subresources such as `status`, `scale`, `log`, `binding`, `approval`.
    pub subresources: &'static [Subresource],
    /// Storage resource when it is shared with another group (events): its group and plural.
    pub stored_as: Option<(&'static str, &'static str)>,
    /// What is special about it.
    pub strategy: &'static dyn Strategy,
}

/// A subresource as discovery lists it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    /// `status`
    pub name: &'static str,
    /// Kind of its body: `Scale` for `scale`.
    pub kind: &'static str,
    /// Group and version of its body where they differ from the parent's.
    pub group_version: Option<(&'static str, &'static str)>,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

/// One column of a server-side Table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// `Ready`
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 0: always; 1: with `-o wide`.
    pub priority: u8,
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

    /// Before an update through the main resource (`None`) or a subresource: takes over from `old`
    /// what this door may not change.
    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(subresource, new, old);
    }

    /// What kube-apiserver's admission makes of an object before its rules look at it; `old` is there on an
    /// update through the main door. The error is the reason of a 403.
    ///
    /// # Errors
    /// When admission does not let the object in.
    fn admit(&self, _new: &mut Value, _old: Option<&Value>) -> Result<(), String> {
        Ok(())
    }

    /// Every mistake of a new object. Metadata is checked by the pipeline.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
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

    /// Name rule of metadata.name.
    fn name_rule(&self) -> NameRule {
        NameRule::DnsSubdomain
    }

    /// Texts for `Warning:` headers: fields that are kept without effect, deprecated values.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Values of fields that field selectors may name, beside metadata.name and metadata.namespace.
    fn selectable_fields(&self, _object: &Value) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Names of those fields.
    fn selectable_field_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The field that a selector means by another name: an older or a group's own spelling.
    fn selectable_field_alias(&self, _field: &str) -> Option<&'static str> {
        None
    }

    /// From this version's form to the stored one; differs only where [`Kind::stored_as`] is set.
    fn to_stored(&self, _object: &mut Value) {}

    /// From the stored form to this version's.
    #[expect(clippy::wrong_self_convention, reason = "it is the object that comes from there")]
    fn from_stored(&self, _object: &mut Value) {}

    /// Columns of the Table, the first being Name.
    fn columns(&self) -> &'static [Column];

    /// Cells for [`Strategy::columns`]. `now` is in Unix seconds, for ages.
    fn row(&self, object: &Value, now: i64) -> Vec<Value>;

    /// Whether a spec change counts up metadata.generation. Kinds without a spec say no.
    fn counts_generation(&self) -> bool {
        true
    }

    /// Seconds that a delete waits for somebody to confirm: pods only.
    fn grace_period(&self, _object: &Value) -> Option<i64> {
        None
    }
}

/// Name rules of apimachinery's validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, 253 characters.
    DnsSubdomain,
    /// RFC 1123 label, 63 characters.
    DnsLabel,
    /// RFC 1035 label (starts with a letter), 63 characters: Services.
    Dns1035Label,
    /// Any path segment: no `/`, no `%`, not `.` or `..`.
    PathSegment,
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

impl Kind {
    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Where its objects are stored.
    #[must_use]
    pub fn storage(&self) -> Resource {
        let (group, plural) = self.stored_as.unwrap_or((self.group, self.plural));
        Resource::new(group, plural)
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

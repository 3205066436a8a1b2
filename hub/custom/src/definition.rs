//! CustomResourceDefinitions: what they say, and the kinds that they make.
//!
//! ```text
//! check        whether one may be stored
//! known_mistakes  what of that it had before
//! structural   whether a schema is structural
//! rules        what else a schema may say; mistakes: what is found of it, and how much is looked for
//! validations  what rules in CEL may say; field_path: which field they tell of; rule_costs: what they cost
//! approval     groups of Kubernetes' own need somebody's word
//! ```

mod accessors;
mod approval;
mod check;
mod defaults;
mod field_path;
mod known_mistakes;
mod mistakes;
mod rule_costs;
mod rules;
mod structural;
mod validations;

use std::collections::HashSet;
use std::sync::Arc;

use freewheel_hub_schema::gvk::{Gvk, Gvr};
use freewheel_hub_schema::kind::{Converter, Kind, ScalePaths, Trait};
use freewheel_hub_schema::object::Resource as Storage;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::columns::Columns;
use crate::form::{FormOf, Version};
use crate::json_path::JsonPath;
use crate::resource::Resource;

use accessors::{flag, texts};

pub use accessors::{list, text};
pub use approval::{Approval, approval, is_protected};
pub use check::{check, check_change, check_status};
pub use known_mistakes::leave_out_known;
pub use rules::warnings;

/// The version in which objects are stored.
#[must_use]
pub fn storage_version(definition: &Value) -> &str {
    let all = list(definition, "/spec/versions");
    all.iter()
        .find(|version| flag(version, "/storage"))
        .map_or("", |version| text(version, "/name"))
}

/// Where the objects of a definition are stored.
#[must_use]
pub fn storage(definition: &Value) -> Storage {
    Storage::new(text(definition, "/spec/group"), text(definition, "/spec/names/plural"))
}

/// The kinds that a definition makes under its accepted names: one for each version that is served or stored. Where there
/// is somebody who converts, that one is asked.
#[must_use]
pub fn kinds(definition: &Value, converter: Option<&Arc<dyn Converter>>) -> Vec<Kind> {
    let names = Accepted { definition };
    let made = |version: &Value| {
        Arc::new(Version::new(names.gvk(version), version.pointer("/schema/openAPIV3Schema")))
    };
    let versions = list(definition, "/spec/versions");
    let all: Vec<(&Value, Arc<Version>)> =
        versions.iter().map(|version| (version, made(version))).collect();
    let storage = all.iter().find(|(version, _)| flag(version, "/storage"));
    let Some((_, storage)) = storage.cloned() else { return Vec::new() };
    let of_stored = |version: &&Value| flag(version, "/storage");
    let fields = match converter {
        // What a webhook makes of it in another version is not known when it is stored.
        Some(_) => selectable(versions.iter().find(of_stored).map_or(&[], std::slice::from_ref)),
        None => selectable(versions),
    };
    let origin = origin(definition);
    let wanted =
        all.iter().filter(|(version, _)| flag(version, "/served") || flag(version, "/storage"));
    let kind = |(version, form): &(&Value, Arc<Version>)| {
        let (columns, heads) = Columns::read(list(version, "/additionalPrinterColumns"));
        let resource = Resource {
            version: form.clone(),
            stored: (!flag(version, "/storage")).then(|| storage.clone()),
            has_status: version.pointer("/subresources/status").is_some(),
            scale: version.pointer("/subresources/scale").map(scale_paths),
            columns,
            fields: fields.clone(),
        };
        let kind = names
            .kind(version, resource)
            .formed(FormOf(form.clone()))
            .made_of(origin.clone())
            .columns(heads);
        match converter {
            Some(converter) => kind.converted_by(converter.clone()),
            None => kind,
        }
    };
    wanted.map(kind).collect()
}

/// Whether what a cluster has of its own was made of this one, as [`kinds`] would make it again.
#[must_use]
pub fn is_made(definition: &Value, own: &[Arc<Kind>]) -> bool {
    let (storage, origin) = (storage(definition), origin(definition));
    own.iter().any(|kind| *kind.storage() == storage && kind.origin() == origin)
}

/// A definition, under the names that it was given.
struct Accepted<'a> {
    definition: &'a Value,
}

impl Accepted<'_> {
    fn name(&self, key: &str) -> String {
        text(self.definition, &format!("/status/acceptedNames/{key}")).to_owned()
    }

    fn names(&self, key: &str) -> Vec<String> {
        texts(self.definition, &format!("/status/acceptedNames/{key}"))
    }

    fn group(&self) -> String {
        text(self.definition, "/spec/group").to_owned()
    }

    fn gvk(&self, version: &Value) -> Gvk {
        Gvk::new(self.group(), text(version, "/name").to_owned(), self.name("kind"))
    }

    /// One of its versions.
    fn kind(&self, version: &Value, resource: Resource) -> Kind {
        let (has_status, has_scale) = (resource.has_status, resource.scale.is_some());
        let mut kind = Kind::new(self.gvk(version), self.name("plural"), resource)
            .called(self.name("singular"), self.name("listKind"))
            .short(self.names("shortNames"))
            .category(self.names("categories"))
            .fields(selectable(std::slice::from_ref(version)).into_iter().map(|(name, _)| name));
        if text(self.definition, "/spec/scope") == "Cluster" {
            kind = kind.cluster_scoped();
        }
        if !flag(version, "/storage") {
            let stored = storage_version(self.definition).to_owned();
            kind = kind.stored_as(Gvr::new(self.group(), stored, self.name("plural")));
        }
        if !flag(version, "/served") {
            kind = kind.only_stored();
        }
        kind = if has_status {
            kind.with_status().with(&[Trait::NamesWhatItReplaces])
        } else {
            kind.with(&[Trait::NamesWhatItReplaces, Trait::CountsStatus])
        };
        if has_scale {
            kind = kind.with_scale();
        }
        match deprecation(version, &self.group(), &self.name("kind")) {
            Some(why) => kind.deprecated(why),
            None => kind,
        }
    }
}

/// What users of a version are warned of.
fn deprecation(version: &Value, group: &str, kind: &str) -> Option<String> {
    if !flag(version, "/deprecated") {
        return None;
    }
    Some(match text(version, "/deprecationWarning") {
        "" => format!("{group}/{} {kind} is deprecated", text(version, "/name")),
        why => why.to_owned(),
    })
}

/// What tells whether a definition makes other kinds than before.
fn origin(definition: &Value) -> String {
    let said = (
        definition.pointer("/metadata/uid"),
        definition.get("spec"),
        definition.pointer("/status/acceptedNames"),
    );
    // It is JSON already.
    let hash = Sha256::digest(serde_json::to_vec(&said).unwrap_or_default());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scale_paths(scale: &Value) -> ScalePaths {
    let pointer = |key: &str| text(scale, key).replace('.', "/");
    ScalePaths {
        wanted: pointer("/specReplicasPath"),
        current: pointer("/statusReplicasPath"),
        selector: Some(pointer("/labelSelectorPath")).filter(|pointer| !pointer.is_empty()),
    }
}

/// Fields that versions let selectors name, each once.
fn selectable(versions: &[Value]) -> Vec<(String, Option<JsonPath>)> {
    let mut all: Vec<(String, Option<JsonPath>)> = Vec::new();
    let mut seen = HashSet::new();
    for field in versions.iter().flat_map(|version| list(version, "/selectableFields")) {
        let path = text(field, "/jsonPath");
        let name = path.strip_prefix('.').unwrap_or(path).to_owned();
        if seen.insert(name.clone()) {
            all.push((name, JsonPath::read(path)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition() -> Value {
        let schema = |field: &str| {
            json!({"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    field: {"type": "string"}, "both": {"type": "integer", "default": 7}}},
            }}})
        };
        json!({
            "metadata": {"name": "widgets.example.com", "uid": "u"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [
                    {"name": "v1", "served": true, "storage": true, "schema": schema("old"),
                        "selectableFields": [{"jsonPath": ".spec.old"}]},
                    {"name": "v2", "served": true, "storage": false, "schema": schema("new"), "deprecated": true,
                        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.both",
                            "statusReplicasPath": ".status.n"}}},
                    {"name": "v0", "served": false, "storage": false},
                ],
            },
            "status": {"acceptedNames": {"plural": "widgets", "singular": "widget", "kind": "Widget",
                "listKind": "Widgets", "shortNames": ["wd"], "categories": ["all"]}},
        })
    }

    #[test]
    fn each_version_is_a_kind() {
        let kinds = kinds(&definition(), None);
        let versions: Vec<&str> = kinds.iter().map(Kind::version).collect();
        assert_eq!(versions, ["v1", "v2"]);
        assert_eq!((kinds[0].list_kind(), kinds[0].singular()), ("Widgets", "widget"));
        assert_eq!(kinds[0].storage(), kinds[1].storage());
        assert!(kinds[0].stored_as.is_none() && kinds[1].stored_as.is_some());
        assert_eq!(kinds[1].deprecated.as_deref(), Some("example.com/v2 Widget is deprecated"));
        let subs: Vec<&str> = kinds[1].subresources.iter().map(|sub| &*sub.name).collect();
        assert_eq!(subs, ["scale", "status"]);
        assert_eq!(kinds[1].strategy.scale().unwrap().wanted, "/spec/both");
        assert!(kinds[0].has(Trait::CountsStatus) && !kinds[1].has(Trait::CountsStatus));
        // Who writes a status by its door comes to own nothing else; without one it is a field like any other.
        let metadata = ["metadata"].as_slice();
        assert!(kinds[1].reset_fields(Some("status")).contains(&metadata));
        assert!(kinds[1].reset_fields(None).contains(&["status"].as_slice()));
        assert!(kinds[0].reset_fields(None).is_empty());
        assert_eq!(kinds[0].fields, ["spec.old"]);
        assert!(kinds[1].fields.is_empty());
        assert!(!kinds[0].origin().is_empty());
        let mut hidden = definition();
        hidden["spec"]["versions"][0]["served"] = json!(false);
        let hidden = super::kinds(&hidden, None);
        assert!(!hidden[0].served && hidden[1].served);
        assert_ne!(hidden[0].origin(), kinds[0].origin());
    }

    #[test]
    fn what_was_made_of_a_definition_is_known() {
        let mut definition = definition();
        let own: Vec<_> = kinds(&definition, None).into_iter().map(Arc::new).collect();
        assert!(is_made(&definition, &own) && !is_made(&definition, &[]));
        definition["status"]["conditions"] = json!([{"type": "Established"}]);
        assert!(is_made(&definition, &own), "nothing is made of those");
        definition["status"]["acceptedNames"]["kind"] = json!("Gadget");
        assert!(!is_made(&definition, &own));
    }

    #[test]
    fn an_object_is_stored_in_one_version() {
        let kinds = kinds(&definition(), None);
        let newer = &kinds[1].strategy;
        let mut object = json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "n"},
            "spec": {"new": "x", "both": 1}});
        newer.to_stored(&mut object);
        assert_eq!(object["apiVersion"], "example.com/v1");
        assert_eq!(object["spec"], json!({"both": 1}), "v1 knows nothing of it");
        object["spec"] = json!({"old": "y"});
        let fields = newer.selectable_fields(&object);
        assert_eq!(fields["spec.old"], "y", "what is written in one version is found in the other");
        newer.from_stored(&mut object).unwrap();
        assert_eq!(object["apiVersion"], "example.com/v2");
        assert_eq!(object["spec"], json!({"both": 7}));
        let count = |object: &Value| newer.validate(object).len();
        assert_eq!(count(&json!({"spec": {"both": -1}})), 1);
        assert_eq!(count(&json!({"spec": {"both": 1}, "status": {"n": "x"}})), 1);
    }
}

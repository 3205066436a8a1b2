//! CustomResourceDefinition: kinds that come at run time. What it says, [`freewheel_hub_custom::definition`] knows.
//!
//! Guarantees:
//! - it is held until its objects are gone (`a_definition_goes_after_its_objects`);
//! - a webhook behind a Service is at the port of HTTPS where none is named
//!   (`a_service_whose_port_is_not_named_is_reached_at_that_of_https`);
//! - the storage version is among those that objects may be stored in (`versions_that_were_stored_are_remembered`).

pub mod built_in;
mod conversion;

use freewheel_hub_custom::definition::{self, storage_version};
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait, keep_other_half};
use serde_json::{Value, json};

use super::accessors::{NAME, child, column, name, set_default, text};
use super::client_config::default_client;

/// Finalizer under which its objects are deleted.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const COLUMNS: &[Column] = &[NAME, column("Created At", "date", "When it was made.")];

/// CustomResourceDefinition of apiextensions.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    let gvk = Gvk::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    Kind::new(gvk, "customresourcedefinitions", Rules)
        .cluster_scoped()
        .short(["crd", "crds"])
        .category(["api-extensions"])
        .with_status()
        .columns(COLUMNS)
        .with(&[Trait::NamesWhatItReplaces, Trait::DefinesKinds])
}

struct Rules;

/// Every mistake of a definition.
fn check(definition: &Value) -> Vec<FieldError> {
    let mut errors = definition::check(definition);
    errors.extend(conversion::check(definition));
    errors
}

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "conversion", json!({"strategy": "None"}));
        let webhook =
            spec.get_mut("conversion").and_then(|conversion| conversion.get_mut("webhook"));
        webhook.and_then(Value::as_object_mut).into_iter().for_each(default_client);
        let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) else { return };
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !kind.is_empty() {
            set_default(names, "singular", kind.to_lowercase());
            set_default(names, "listKind", format!("{kind}List"));
        }
        let version = storage_version(object).to_owned();
        let Some(status) = child(object, "status") else { return };
        let none = status.get("storedVersions").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none && !version.is_empty() {
            status.insert("storedVersions".to_owned(), json!([version]));
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let stored = storage_version(object).to_owned();
        let Some(map) = object.as_object_mut() else { return };
        let status = json!({
            "acceptedNames": {"kind": "", "plural": ""}, "conditions": [],
            "storedVersions": if stored.is_empty() { json!([]) } else { json!([stored]) },
        });
        map.insert("status".to_owned(), status);
    }

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(subresource, new, old);
        if subresource.is_some() {
            return;
        }
        let stored = storage_version(new).to_owned();
        let list = new.pointer_mut("/status/storedVersions").and_then(Value::as_array_mut);
        if let Some(list) = list.filter(|list| !list.iter().any(|one| *one == stored))
            && !stored.is_empty()
        {
            list.push(json!(stored));
        }
    }

    fn held_by(&self) -> Option<&'static str> {
        Some(CLEANUP_FINALIZER)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check(object)
    }

    fn validate_update(
        &self,
        subresource: Option<&str>,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        if subresource.is_some() {
            return definition::check_status(new);
        }
        let annotations = "/metadata/annotations";
        let same = new.get("spec") == old.get("spec")
            && new.pointer(annotations) == old.pointer(annotations);
        let mut errors = if same { Vec::new() } else { check(new) };
        if !errors.is_empty() {
            // A rule that came after it keeps nobody from changing what is right.
            let known = check(old);
            definition::leave_out_known(&mut errors, new, (old, &known));
        }
        errors.extend(definition::check_change(new, old));
        errors
    }

    /// Its patterns and rules are compiled.
    fn checks_take_long(&self, _: &Value) -> bool {
        true
    }

    fn compares(&self) -> bool {
        true
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        definition::warnings(object)
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        vec![name(object), text(object, "/metadata/creationTimestamp").into()]
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::types::canonicalise;

    use super::*;

    fn definition() -> Value {
        json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object",
                        "additionalProperties": {"type": "string", "nullable": false, "pattern": ""}}}}}}],
            },
        })
    }

    #[test]
    fn defaults_are_those_of_kube_apiserver() {
        let mut object = definition();
        let gvk = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        canonicalise(&mut object, gvk).unwrap();
        Rules.default(&mut object);
        Rules.prepare_create(&mut object);
        let names = json!({"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"});
        assert_eq!(object["spec"]["names"], names);
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
        let each = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/additionalProperties";
        assert_eq!(object.pointer(each).unwrap(), &json!({"type": "string"}));
        assert_eq!(Rules.validate(&object), []);
    }

    #[test]
    fn a_service_whose_port_is_not_named_is_reached_at_that_of_https() {
        let mut object = definition();
        object["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"service": {"namespace": "hooks", "name": "converts"}},
            "conversionReviewVersions": ["v1"]}});
        let gvk = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        canonicalise(&mut object, gvk).unwrap();
        Rules.default(&mut object);
        let service = "/spec/conversion/webhook/clientConfig/service";
        assert_eq!(object.pointer(service).unwrap()["port"], 443);
        assert_eq!(Rules.validate(&object), []);
    }

    #[test]
    fn versions_that_were_stored_are_remembered() {
        let mut old = definition();
        Rules.default(&mut old);
        let mut new = old.clone();
        new["spec"]["versions"][0]["name"] = json!("v2");
        new["status"] = json!({});
        Rules.prepare_update(None, &mut new, &old);
        assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
        assert_eq!(Rules.validate(&new)[0].field, "status.storedVersions[0]");
        let mut status = old.clone();
        status["status"]["storedVersions"] = json!([]);
        Rules.prepare_update(Some("status"), &mut status, &old);
        assert_eq!(status["status"]["storedVersions"], json!([]));
    }

    #[test]
    fn a_version_beside_it_brings_no_old_mistake_back() {
        let mut old = definition();
        Rules.default(&mut old);
        Rules.prepare_create(&mut old);
        let tags = json!({"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "self.all(x, x.contains('gpu'))"}]});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"tags": tags}}});
        old["spec"]["versions"][0]["schema"] = schema;
        assert!(!Rules.validate(&old).is_empty(), "nobody would keep it now");
        let mut new = old.clone();
        let plain = json!({"openAPIV3Schema": {"type": "object"}});
        let second = json!({"name": "v2", "served": true, "storage": false, "schema": plain});
        new["spec"]["versions"].as_array_mut().unwrap().push(second);
        assert_eq!(Rules.validate_update(None, &new, &old), []);
        // What the new version says itself is new.
        new["spec"]["versions"][1]["schema"] = old["spec"]["versions"][0]["schema"].clone();
        new["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["more"] =
            json!({"type": "string"});
        let errors = Rules.validate_update(None, &new, &old);
        assert!(!errors.is_empty(), "{errors:?}");
        assert!(
            errors.iter().all(|it| it.field.starts_with("spec.versions[1].schema")),
            "{errors:?}"
        );
    }
}

//! A CustomResourceDefinition with a schema, and an object of it: `SCHEMA OBJECT`.

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_custom::definition;
use freewheel_hub_schema::types::{Typed, canonicalise, decode_json};
use serde_json::{Value, json};

use crate::{object, parts};

/// It is refused, or makes a kind whose objects are as they have to be.
pub(crate) fn run(bytes: &[u8]) {
    let [schema, body] = parts::parts(bytes);
    let (Some(schema), Some(crds)) = (
        parts::object(schema),
        kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ) else {
        return;
    };
    let mut definition = definition_of(&schema);
    if let Err(error) = canonicalise(&mut definition, &**crds) {
        return object::refused(&error, bytes);
    }
    object::check(crds, &definition);
    if !definition::check(&definition).is_empty() {
        return;
    }
    for kind in definition::kinds(&definition, None) {
        let kind = Arc::new(kind);
        let form = Typed::from(&*kind).form;
        let form = form.map(|form| (form.facts().is_some(), form.component()));
        assert!(form.is_some_and(|(facts, component)| facts && component.is_object()));
        match decode_json(body, &*kind) {
            Ok(decoded) => object::check(&kind, &decoded.value),
            Err(error) => object::refused(&error, bytes),
        }
    }
}

/// As its controller has left it: its names are accepted.
fn definition_of(schema: &Value) -> Value {
    let names = json!({
        "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "names": names, "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "A", "type": "string", "jsonPath": ".spec.a"},
                    {"name": "B", "type": "integer", "jsonPath": ".spec.b[0].c"},
                ],
            }],
        },
        "status": {"acceptedNames": names, "storedVersions": ["v1"], "conditions": []},
    })
}

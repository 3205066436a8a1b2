//! Definitions of kinds that the hub serves itself and that are custom resources elsewhere: tools ask for them to learn
//! whether a hub is what they look for.
//!
//! Guarantees:
//! - each such resource has one that says how it is called and in which versions it is served
//!   (`what_is_a_custom_resource_elsewhere_has_its_definition`).

use std::collections::BTreeMap;

use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::Resource;
use serde_json::{Value, json};

/// Those of all of these kinds that have one, sorted.
#[must_use]
pub fn definitions<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Vec<Value> {
    let mut resources: BTreeMap<&Resource, Vec<&Kind>> = BTreeMap::new();
    for kind in kinds.filter(|kind| kind.has(Trait::HasDefinition)) {
        resources.entry(kind.storage()).or_default().push(kind);
    }
    resources.values().filter_map(|versions| definition(versions)).collect()
}

/// The definition of a resource, by its versions.
fn definition(versions: &[&Kind]) -> Option<Value> {
    let kind = versions.iter().find(|kind| kind.stored_as.is_none())?;
    let mut names = json!({
        "plural": kind.plural(), "singular": kind.singular(), "kind": kind.kind(), "listKind": kind.list_kind(),
    });
    for (key, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !list.is_empty() {
            names[key] = json!(list);
        }
    }
    let versions: Vec<Value> = versions.iter().map(|kind| version(kind)).collect();
    Some(json!({
        "metadata": {"name": kind.storage().as_str()},
        "spec": {
            "group": kind.group(),
            "names": names,
            "conversion": {"strategy": "None"},
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "versions": versions,
        },
    }))
}

fn version(kind: &Kind) -> Value {
    let mut version = json!({
        "name": kind.version(),
        "served": kind.served,
        "storage": kind.stored_as.is_none(),
        "schema": {"openAPIV3Schema": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "description": "The hub serves it itself, by rules of its own; /openapi/v3 tells its fields.",
        }},
    });
    if kind.subresource_named("status").is_some() {
        version["subresources"] = json!({"status": {}});
    }
    version
}

#[cfg(test)]
mod tests {
    use freewheel_hub_custom::definition::{check, storage_version};

    use super::*;
    use crate::kinds;

    #[test]
    fn what_is_a_custom_resource_elsewhere_has_its_definition() {
        let all = definitions(kinds::all().iter().map(|kind| &**kind));
        for definition in &all {
            // As it is checked: its kind has said what is stored.
            let mut made = definition.clone();
            made["status"]["storedVersions"] = json!([storage_version(definition)]);
            assert_eq!(check(&made), [], "{definition}");
        }
        let find = |name: &str| all.iter().find(|it| it["metadata"]["name"] == name);
        let clusters = find("managedclusters.cluster.open-cluster-management.io").unwrap();
        assert_eq!(clusters["spec"]["names"]["shortNames"], json!(["mcl", "mcls"]));
        assert_eq!(clusters["spec"]["scope"], "Cluster");
        assert!(clusters.pointer("/spec/versions/0/subresources/status").is_some());
        let add_ons = find("managedclusteraddons.addon.open-cluster-management.io").unwrap();
        let versions: Vec<_> = add_ons["spec"]["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["name"].as_str().unwrap(), it["storage"].as_bool().unwrap()))
            .collect();
        assert_eq!(versions, [("v1alpha1", true), ("v1beta1", false)]);
        assert!(find("clustermanagers.operator.open-cluster-management.io").is_some());
        assert!(find("klusterlets.operator.open-cluster-management.io").is_some());
        assert!(find("pods").is_none() && find("deployments.apps").is_none());
    }
}

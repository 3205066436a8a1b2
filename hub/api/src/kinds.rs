//! Every kind that the API serves: one file per kind, found here by group, version and plural.
//!
//! ```text
//! pod_spec/     defaults, validation and field classes that pods and templates share
//! template      what workloads with a pod template share
//! look          reading JSON for the strategies
//! ```
//!
//! Guarantees:
//! - [`all`] is sorted by group, version and plural and names nothing twice (`kinds_are_sorted_and_named_once`).

mod address;
pub mod certificate_signing_request;
pub mod config_map;
pub mod deployment;
pub mod endpoint_slice;
pub mod endpoints;
pub mod event;
pub mod lease;
mod look;
pub mod managed_cluster;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod pod_spec;
pub mod replica_set;
pub mod scale;
pub mod secret;
pub mod service;
pub mod service_account;
mod template;

use crate::kind::Kind;

static ALL: &[&Kind] = &[
    &config_map::KIND,
    &endpoints::KIND,
    &event::CORE,
    &namespace::KIND,
    &node::KIND,
    &pod::KIND,
    &secret::KIND,
    &service_account::KIND,
    &service::KIND,
    &deployment::KIND,
    &replica_set::KIND,
    &certificate_signing_request::KIND,
    &managed_cluster::KIND,
    &lease::KIND,
    &endpoint_slice::KIND,
    &event::EVENTS,
];

/// All kinds, sorted by group, version and plural.
#[must_use]
pub fn all() -> &'static [&'static Kind] {
    ALL
}

/// The kind behind a path of the API.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    let is = |kind: &&&'static Kind| {
        kind.plural == plural && kind.group == group && kind.version == version
    };
    ALL.iter().find(is).copied()
}

/// The kind that an object says it is: `apiVersion` and `kind`.
#[must_use]
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ALL.iter().find(|k| k.kind == kind && k.group == group && k.version == version).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn kinds_are_sorted_and_named_once() {
        let keys: Vec<_> = all().iter().map(|k| (k.group, k.version, k.plural)).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(keys, sorted);
    }

    #[test]
    fn a_kind_is_found_by_path_and_by_type() {
        for kind in all() {
            assert_eq!(find(kind.group, kind.version, kind.plural).unwrap().kind, kind.kind);
            assert_eq!(by_kind(&kind.api_version(), kind.kind).unwrap().plural, kind.plural);
        }
        assert!(find("", "v2", "pods").is_none());
        assert!(by_kind("apps/v1", "Pod").is_none());
    }

    /// As the `PrepareForUpdate` of each status strategy of kube-apiserver; ManagedCluster is a custom
    /// resource there.
    #[test]
    fn the_status_door_takes_metadata_as_upstream_does() {
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"}]);
        let meta =
            json!({"labels": {"a": "b"}, "annotations": {"c": "d"}, "ownerReferences": owner});
        let doors =
            all().iter().filter(|kind| kind.subresources.iter().any(|s| s.name == "status"));
        for kind in doors {
            let old =
                json!({"metadata": {"labels": {"old": "1"}}, "spec": {"x": 1}, "status": {"y": 1}});
            let mut new = json!({"metadata": meta, "spec": {"x": 2}, "status": {"y": 2}});
            kind.strategy.prepare_update(Some("status"), &mut new, &old);
            assert_eq!(new["spec"], old["spec"], "{kind:?}");
            assert_eq!(new["status"]["y"], 2, "{kind:?}");
            let mut expected = meta.clone();
            match kind.kind {
                "ManagedCluster" => expected = old["metadata"].clone(),
                "Deployment" => expected["labels"] = old["metadata"]["labels"].clone(),
                "Pod" => drop(expected.as_object_mut().unwrap().remove("ownerReferences")),
                _ => {}
            }
            assert_eq!(new["metadata"], expected, "{kind:?}");
        }
    }

    #[test]
    fn no_shape_of_an_object_makes_a_strategy_panic() {
        let odd = [json!(null), json!([]), json!("x"), json!({}), json!(7), json!([[{}], null])];
        let keys =
            ["metadata", "spec", "status", "data", "subsets", "ports", "endpoints", "series"];
        let deep = ["containers", "template", "selector", "strategy", "ports", "taints", "volumes"];
        let mut objects: Vec<Value> = odd.to_vec();
        for value in &odd {
            objects.extend(keys.iter().map(|key| json!({*key: value})));
            objects.extend(deep.iter().map(|key| json!({"metadata": {}, "spec": {*key: value}})));
            objects.push(json!({"spec": {"containers": [{"env": value, "resources": value, "ports": value}]}}));
            objects.push(json!({"spec": {"template": {"spec": value, "metadata": value}}}));
            objects.push(json!({"status": {"conditions": value, "containerStatuses": value}}));
        }
        for kind in all() {
            for object in &objects {
                let mut new = object.clone();
                let strategy = kind.strategy;
                strategy.to_stored(&mut new);
                strategy.from_stored(&mut new);
                strategy.default(&mut new);
                strategy.prepare_create(&mut new);
                for door in
                    [None, Some("status"), Some("approval"), Some("binding"), Some("finalize")]
                {
                    let mut changed = new.clone();
                    strategy.prepare_update(door, &mut changed, object);
                    strategy.validate_update(door, &changed, object);
                }
                strategy.validate(&new);
                let _ = crate::metadata::validate(kind, &new, "default");
                strategy.warnings(&new);
                strategy.selectable_fields(&new);
                strategy.grace_period(&new);
                assert_eq!(strategy.row(&new, 0).len(), strategy.columns().len());
            }
        }
    }
}

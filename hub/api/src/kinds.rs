//! Every kind that is built in: one file per kind. They are the layer that all logical clusters share; what a
//! cluster serves, its registry knows ([`freewheel_hub_schema::registry`]).
//!
//! ```text
//! pod_spec/     defaults, validation and field classes that pods and templates share
//! template      what workloads with a pod template share
//! rbac          what roles and bindings share
//! look          reading JSON for the strategies
//! descriptions  prose for `explain`
//! ```
//!
//! Guarantees:
//! - [`all`] is sorted by group, version and plural and names nothing twice (`kinds_are_sorted_and_named_once`);
//! - columns are those of kube-apiserver (`columns_are_those_of_kube_apiserver`), and every row has one cell per column
//!   (`every_row_fits_its_columns_even_of_an_empty_object`).

mod accessors;
pub mod address;
mod admission_registration;
pub mod api_service;
mod batch;
mod binding;
pub mod certificate_signing_request;
mod client_config;
pub mod cluster_role;
pub mod cluster_role_binding;
pub mod component_status;
pub mod config_map;
mod controller_revision;
pub mod custom_resource_definition;
mod daemon_set;
pub mod deployment;
mod descriptions;
mod devices;
pub mod endpoint_slice;
pub mod endpoints;
pub mod event;
mod field_value;
pub mod fleet;
pub mod flow_control;
mod horizontal_pod_autoscaler;
pub mod lease;
mod limit_range;
pub mod managed_cluster;
pub mod namespace;
mod networking;
pub mod node;
mod persistent_volume;
mod persistent_volume_claim;
pub mod pod;
mod pod_disruption_budget;
pub mod pod_spec;
mod pod_template;
pub mod priority_class;
pub mod rbac;
pub mod replica_set;
mod replication_controller;
pub mod resource_metrics;
mod resource_name;
mod resource_quota;
pub mod role;
pub mod role_binding;
mod runtime_class;
pub mod scale;
pub mod secret;
pub mod service;
pub mod service_account;
mod stateful_set;
mod storage;
mod template;
mod volume_claim_spec;
mod volume_words;

use std::sync::{Arc, LazyLock};

use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::layer::Layer;
use freewheel_hub_schema::registry::{Registries, Registry};
use freewheel_link::names::ClusterName;

static BUILT_IN: LazyLock<Arc<Layer>> = LazyLock::new(|| {
    let all = [
        component_status::kind(),
        config_map::kind(),
        endpoints::kind(),
        event::core(),
        limit_range::kind(),
        namespace::kind(),
        node::kind(),
        persistent_volume::kind(),
        persistent_volume_claim::kind(),
        pod::kind(),
        pod_template::kind(),
        replication_controller::kind(),
        resource_quota::kind(),
        secret::kind(),
        service_account::kind(),
        service::kind(),
        fleet::add_ons::deployment_config::kind(),
        fleet::add_ons::template::kind(),
        fleet::add_ons::catalogue::kind(),
        fleet::add_ons::instance::kind(),
        fleet::add_ons::deployment_config::newer(),
        fleet::add_ons::catalogue::newer(),
        fleet::add_ons::instance::newer(),
        admission_registration::policies::mutating(),
        admission_registration::mutating_binding(),
        admission_registration::webhooks::mutating(),
        admission_registration::policies::validating(),
        admission_registration::validating_binding(),
        admission_registration::webhooks::validating(),
        custom_resource_definition::kind(),
        api_service::kind(),
        controller_revision::kind(),
        daemon_set::kind(),
        deployment::kind(),
        replica_set::kind(),
        stateful_set::kind(),
        horizontal_pod_autoscaler::kind(),
        horizontal_pod_autoscaler::older(),
        batch::cron_job::kind(),
        batch::job::kind(),
        certificate_signing_request::kind(),
        managed_cluster::kind(),
        fleet::add_on_placement_score::kind(),
        fleet::cluster_claim::kind(),
        fleet::placement::kind(),
        fleet::placement_decision::kind(),
        fleet::cluster_set::kind(),
        fleet::cluster_set_binding::kind(),
        fleet::applied_manifest_work::kind(),
        fleet::manifest_work::kind(),
        fleet::manifest_work_replica_set::kind(),
        lease::kind(),
        endpoint_slice::kind(),
        event::kind(),
        flow_control::flow_schema::kind(),
        flow_control::priority_level::kind(),
        resource_metrics::of_nodes(),
        resource_metrics::of_pods(),
        fleet::cluster_profile::kind(),
        fleet::multicluster_decision::kind(),
        networking::ingress::kind(),
        networking::ingress_class::kind(),
        networking::ip_address::kind(),
        networking::network_policy::kind(),
        networking::service_cidr::kind(),
        runtime_class::kind(),
        fleet::operators::of_hubs(),
        fleet::operators::of_agents(),
        pod_disruption_budget::kind(),
        cluster_role_binding::kind(),
        cluster_role::kind(),
        role_binding::kind(),
        role::kind(),
        devices::class::kind(),
        devices::claim::kind(),
        devices::claim_template::kind(),
        devices::slice::kind(),
        priority_class::kind(),
        storage::csi_driver::kind(),
        storage::csi_node::kind(),
        storage::csi_storage_capacity::kind(),
        storage::storage_class::kind(),
        storage::volume_attachment::kind(),
        storage::volume_attributes_class::kind(),
    ];
    let layer = Layer::new(all.into_iter().map(Arc::new).collect());
    Arc::new(layer.described_by(descriptions::read))
});

/// What Deployments and ReplicaSets are scaled by; it has no path of its own.
static BINDING: LazyLock<Arc<Kind>> = LazyLock::new(|| Arc::new(binding::kind()));
static SCALE: LazyLock<Arc<Kind>> = LazyLock::new(|| Arc::new(scale::kind()));

/// The layer that all logical clusters share.
#[must_use]
pub fn layer() -> Arc<Layer> {
    BUILT_IN.clone()
}

/// The registries of a hub, as long as no cluster has a kind of its own.
#[must_use]
pub fn registries() -> Registries {
    Registries::new(layer())
}

/// What a cluster without kinds of its own serves.
#[must_use]
pub fn registry(cluster: &ClusterName) -> Registry {
    Registry::new(layer(), cluster)
}

/// All kinds that are built in, sorted by group, version and plural.
#[must_use]
pub fn all() -> &'static [Arc<Kind>] {
    BUILT_IN.all()
}

/// The kind that is built in behind a path of the API.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Arc<Kind>> {
    BUILT_IN.find(group, version, plural)
}

/// The kind that is built in of this `apiVersion` and `kind`.
#[must_use]
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Arc<Kind>> {
    BUILT_IN.by_kind(api_version, kind)
}

/// Binding of core/v1.
#[must_use]
pub fn binding() -> &'static Arc<Kind> {
    &BINDING
}

/// Scale of autoscaling/v1.
#[must_use]
pub fn scale() -> &'static Arc<Kind> {
    &SCALE
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;
    use serde_json::{Value, json};

    #[test]
    fn kinds_are_sorted_and_named_once() {
        let keys: Vec<_> = all().iter().map(|k| (k.group(), k.version(), k.plural())).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(keys, sorted);
    }

    #[test]
    fn a_kind_is_found_by_path_and_by_type() {
        for kind in all() {
            let found = find(kind.group(), kind.version(), kind.plural()).unwrap();
            assert_eq!(found.kind(), kind.kind());
            assert_eq!(by_kind(kind.api_version(), kind.kind()).unwrap().plural(), kind.plural());
        }
        assert!(find("", "v2", "pods").is_none());
        assert!(by_kind("apps/v1", "Pod").is_none());
    }

    #[test]
    fn what_is_stored_is_written_in_the_form_of_its_own_kind() {
        let registry = registry(&ClusterName::root());
        for kind in registry.stored() {
            assert_eq!(registry.by_storage(kind.storage()).unwrap().id(), kind.id());
        }
        assert_eq!(registry.by_storage(&Resource::new("", "events")).unwrap().group(), "");
    }

    /// As the `PrepareForUpdate` of each status strategy of kube-apiserver; what Open Cluster Management has are custom
    /// resources there.
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
            match kind.kind() {
                _ if kind.group().ends_with("open-cluster-management.io")
                    || kind.group() == fleet::cluster_profile::GROUP =>
                {
                    expected = old["metadata"].clone();
                }
                "APIService"
                | "FlowSchema"
                | "PriorityLevelConfiguration"
                | "ResourceClaim"
                | "ServiceCIDR"
                | "ValidatingAdmissionPolicy"
                | "VolumeAttachment" => expected = old["metadata"].clone(),
                "Deployment" => expected["labels"] = old["metadata"]["labels"].clone(),
                "Pod" => drop(expected.as_object_mut().unwrap().remove("ownerReferences")),
                _ => {}
            }
            assert_eq!(new["metadata"], expected, "{kind:?}");
            // Who writes by that door does not come to own what it left as it was.
            let all = expected == old["metadata"];
            let reset = kind.reset_fields(Some("status"));
            assert_eq!(reset.contains(&["metadata"].as_slice()), all, "{kind:?}");
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
                let strategy = &kind.strategy;
                strategy.to_stored(&mut new);
                strategy.from_stored(&mut new).unwrap();
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
                let _ = freewheel_hub_schema::metadata::validate(kind, &new, "default");
                strategy.warnings(&new);
                strategy.selectable_fields(&new);
                strategy.grace_period(&new);
                assert_eq!(strategy.row(&new, 0).len(), kind.columns.len());
            }
        }
    }
}

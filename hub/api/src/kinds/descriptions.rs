//! Prose for `explain`: what the k8s-openapi crate says of types and fields, and for kinds that it does
//! not have, our own words.

use freewheel_hub_schema::openapi::Prose;
use k8s_openapi::api::{
    admissionregistration, apps, authentication, autoscaling, batch, certificates, coordination,
    core, discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling,
    storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

use super::fleet::{
    add_ons::descriptions as add_ons, cluster_profile, descriptions as fleet,
    multicluster_decision, operators,
};
use super::resource_metrics;

/// Reads all that is there; costs some milliseconds and a few hundred KB for as long as it is held.
pub(super) fn read() -> Prose {
    let mut generator = SchemaSettings::openapi3().into_generator();
    core_kinds(&mut generator);
    other_kinds(&mut generator);
    let mut prose = Prose::with_pattern("io.k8s.api.core.v1.Pod");
    for (name, schema) in generator.definitions() {
        prose.take(name, schema);
    }
    for (name, field, text) in fleet::DESCRIPTIONS {
        prose.insert(&format!("{}{name}", fleet::OCM), field, text);
    }
    for version in add_ons::VERSIONS {
        for (name, field, text) in add_ons::DESCRIPTIONS {
            prose.insert(&format!("{}{version}{name}", fleet::OCM), field, text);
        }
    }
    let of_sig = cluster_profile::DESCRIPTIONS.iter().chain(multicluster_decision::DESCRIPTIONS);
    for (name, field, text) in of_sig {
        prose.insert(&format!("{}{name}", cluster_profile::COMPONENTS), field, text);
    }
    for (name, field, text) in operators::DESCRIPTIONS {
        prose.insert(&format!("{}{name}", operators::COMPONENTS), field, text);
    }
    for (name, field, text) in resource_metrics::DESCRIPTIONS {
        prose.insert(&format!("{}{name}", resource_metrics::COMPONENTS), field, text);
    }
    prose
}

fn reach<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn core_kinds(generator: &mut SchemaGenerator) {
    reach::<core::v1::Binding>(generator);
    reach::<core::v1::ComponentStatus>(generator);
    reach::<core::v1::ConfigMap>(generator);
    reach::<core::v1::Endpoints>(generator);
    reach::<core::v1::Event>(generator);
    reach::<core::v1::LimitRange>(generator);
    reach::<core::v1::Namespace>(generator);
    reach::<core::v1::Node>(generator);
    reach::<core::v1::PersistentVolume>(generator);
    reach::<core::v1::PersistentVolumeClaim>(generator);
    reach::<core::v1::Pod>(generator);
    reach::<core::v1::PodTemplate>(generator);
    reach::<core::v1::ReplicationController>(generator);
    reach::<core::v1::ResourceQuota>(generator);
    reach::<core::v1::Secret>(generator);
    reach::<core::v1::Service>(generator);
    reach::<core::v1::ServiceAccount>(generator);
}

fn other_kinds(generator: &mut SchemaGenerator) {
    workloads(generator);
    infrastructure(generator);
    reach::<apiextensions::v1::CustomResourceDefinition>(generator);
    reach::<authentication::v1::TokenRequest>(generator);
    reach::<certificates::v1::CertificateSigningRequest>(generator);
    reach::<coordination::v1::Lease>(generator);
    reach::<discovery::v1::EndpointSlice>(generator);
    reach::<events::v1::Event>(generator);
    reach::<policy::v1::Eviction>(generator);
    reach::<policy::v1::PodDisruptionBudget>(generator);
    reach::<rbac::v1::ClusterRole>(generator);
    reach::<rbac::v1::ClusterRoleBinding>(generator);
    reach::<rbac::v1::Role>(generator);
    reach::<rbac::v1::RoleBinding>(generator);
    reach::<meta::v1::APIResourceList>(generator);
    reach::<meta::v1::DeleteOptions>(generator);
    reach::<meta::v1::ListMeta>(generator);
    reach::<meta::v1::Status>(generator);
}

fn workloads(generator: &mut SchemaGenerator) {
    reach::<apps::v1::ControllerRevision>(generator);
    reach::<apps::v1::DaemonSet>(generator);
    reach::<apps::v1::Deployment>(generator);
    reach::<apps::v1::ReplicaSet>(generator);
    reach::<apps::v1::StatefulSet>(generator);
    reach::<autoscaling::v1::HorizontalPodAutoscaler>(generator);
    reach::<autoscaling::v1::Scale>(generator);
    reach::<autoscaling::v2::HorizontalPodAutoscaler>(generator);
    reach::<batch::v1::CronJob>(generator);
    reach::<batch::v1::Job>(generator);
}

fn infrastructure(generator: &mut SchemaGenerator) {
    reach::<apiregistration::v1::APIService>(generator);
    reach::<admissionregistration::v1::MutatingAdmissionPolicy>(generator);
    reach::<admissionregistration::v1::MutatingAdmissionPolicyBinding>(generator);
    reach::<admissionregistration::v1::MutatingWebhookConfiguration>(generator);
    reach::<admissionregistration::v1::ValidatingAdmissionPolicy>(generator);
    reach::<admissionregistration::v1::ValidatingAdmissionPolicyBinding>(generator);
    reach::<admissionregistration::v1::ValidatingWebhookConfiguration>(generator);
    reach::<flowcontrol::v1::FlowSchema>(generator);
    reach::<flowcontrol::v1::PriorityLevelConfiguration>(generator);
    reach::<resource::v1::DeviceClass>(generator);
    reach::<resource::v1::ResourceClaim>(generator);
    reach::<resource::v1::ResourceClaimTemplate>(generator);
    reach::<resource::v1::ResourceSlice>(generator);
    reach::<networking::v1::Ingress>(generator);
    reach::<networking::v1::IngressClass>(generator);
    reach::<networking::v1::IPAddress>(generator);
    reach::<networking::v1::NetworkPolicy>(generator);
    reach::<networking::v1::ServiceCIDR>(generator);
    reach::<node::v1::RuntimeClass>(generator);
    reach::<scheduling::v1::PriorityClass>(generator);
    reach::<storage::v1::CSIDriver>(generator);
    reach::<storage::v1::CSINode>(generator);
    reach::<storage::v1::CSIStorageCapacity>(generator);
    reach::<storage::v1::StorageClass>(generator);
    reach::<storage::v1::VolumeAttachment>(generator);
    reach::<storage::v1::VolumeAttributesClass>(generator);
}

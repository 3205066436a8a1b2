//! IPAddress objects: what clients see of the addresses that Services hold.
//!
//! The claim of an address is what counts; the object beside it comes and goes in the same transaction. An address that
//! somebody made such an object for is nobody else's to choose, as at kube-apiserver.
//!
//! Guarantees:
//! - a Service's address has an object as long as it holds it (`an_address_has_an_object_as_long_as_it_is_held`);
//! - an address that has one is given to no other (`an_address_of_somebody_else_is_not_given_away`).

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::{Canonical, ObjectRef, meta};
use crate::clock::{Clock, Random};

const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
/// Label that says who looks after one.
pub const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// Who looks after those of Services, by the name that it has upstream.
pub const MANAGER: &str = "ipallocator.k8s.io";

/// Where they are stored.
fn resource() -> Resource {
    Resource::new("networking.k8s.io", "ipaddresses")
}

/// The key of one.
pub(super) fn key(cluster: &ClusterName, address: &str) -> Key {
    Key::new(&resource(), cluster, "", address)
}

/// The object of an address that a Service holds.
#[must_use]
pub fn of_service(address: &str, namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": address, "labels": {FAMILY_LABEL: "IPv4", MANAGED_BY_LABEL: MANAGER}},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    })
}

/// The same, as it is written with the claim.
pub(super) fn born(
    (clock, chance): (&dyn Clock, &dyn Random),
    holder: &ObjectRef,
    address: &str,
) -> Result<Object, ApiError> {
    let kind: &Arc<Kind> = kinds::find("networking.k8s.io", "v1", "ipaddresses")
        .ok_or_else(|| ApiError::internal("the kind of IPAddresses is not there"))?;
    let place = ObjectRef {
        kind: kind.clone(),
        cluster: holder.cluster.clone(),
        namespace: "".into(),
        name: address.to_owned(),
    };
    let mut value = Canonical::made(of_service(address, &holder.namespace, &holder.name), &place)?;
    meta::stamp(value.rules(), kind, clock, chance)?;
    value.plain_object()
}

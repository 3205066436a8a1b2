//! What a Pod says of its spoke's disk → `PodStorageV1`, a part of its record.

use freewheel_link::plan::{PodStorageV1, StorageV1};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Fault;
use super::amount::whole;

/// The resource, as containers name it.
const STORAGE: &str = "ephemeral-storage";

/// The pod's storage; `None`: it says nothing about it, as most.
pub(super) fn storage(spec: &PodSpec) -> Result<Option<PodStorageV1>, Fault> {
    let init = spec.init_containers.iter().flatten();
    let all = init.chain(&spec.containers).map(of).collect::<Result<Vec<_>, Fault>>()?;
    let containers: Vec<StorageV1> = all.into_iter().flatten().collect();
    Ok((!containers.is_empty()).then_some(PodStorageV1 { containers }))
}

fn of(container: &Container) -> Result<Option<StorageV1>, Fault> {
    let Some(resources) = &container.resources else { return Ok(None) };
    let read = |quantity: Option<&Quantity>| match quantity {
        None => Ok(None),
        Some(Quantity(raw)) => whole(raw).map(Some).ok_or_else(|| {
            Fault::invalid(format!("container {:?}: {STORAGE} {raw:?}", container.name))
        }),
    };
    let limit = read(resources.limits.as_ref().and_then(|all| all.get(STORAGE)))?;
    let request = read(resources.requests.as_ref().and_then(|all| all.get(STORAGE)))?;
    let says = limit.is_some() || request.is_some();
    Ok(says.then(|| StorageV1 { container: container.name.clone(), limit, request }))
}

//! What a Pod says of its spoke's disk → `PodStorageV1`.

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, PodStorageV1, Record, RecordKey, StorageV1};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::amount::whole;
use super::config::parse;
use super::{Fault, Found, Refused};

/// The resource, as containers name it.
const STORAGE: &str = "ephemeral-storage";

/// The record of a pod's storage; `None`: it says nothing about it, as most.
#[must_use]
pub fn storage_record(realm: &ClusterName, found: &Found) -> Option<Result<Record, Refused>> {
    // Plans are made anew after every change: only pods that name the resource are read a second time.
    found.body.windows(STORAGE.len()).any(|part| part == STORAGE.as_bytes()).then_some(())?;
    match parse::<Pod>(realm, "pods", found) {
        Ok(pod) => translate(realm, found, &pod)
            .map_err(|fault| fault.of(realm, "pods", &pod.metadata))
            .transpose(),
        Err(refused) => Some(Err(refused)),
    }
}

fn translate(realm: &ClusterName, found: &Found, pod: &Pod) -> Result<Option<Record>, Fault> {
    let (Some(spec), Some(uid)) = (&pod.spec, &pod.metadata.uid) else { return Ok(None) };
    let init = spec.init_containers.iter().flatten();
    let all = init.chain(&spec.containers).map(storage).collect::<Result<Vec<_>, Fault>>()?;
    let containers: Vec<StorageV1> = all.into_iter().flatten().collect();
    if containers.is_empty() {
        return Ok(None);
    }
    let key = RecordKey { realm: realm.clone(), kind: Kind::POD_STORAGE_V1, key: uid.clone() };
    let body = PodStorageV1 { containers };
    // A spoke that does not know the record runs the pod all the same, as it did before there were limits.
    Record::new(key, found.revision, 0, &body).map(Some).map_err(Fault::malformed)
}

fn storage(container: &Container) -> Result<Option<StorageV1>, Fault> {
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

//! Pod → `PodV1`: everything but its configuration's data. Of its status only how it has ended, and which of its containers
//! have for good: they have to stay ended on a device whose ledger is lost.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_link::ended::{ContainerEndedV1, ContainersEndedV1};
use freewheel_link::names::ClusterName;
use freewheel_link::part::Parts;
use freewheel_link::plan::{
    EnvSourceV1, Kind, OWN_SYSTEM, PodEndedV1, PodOsV1, PodV1, ProjectionV1, Record, RecordKey,
    RestartPolicy, VolumeSourceV1, feature,
};
use freewheel_link::report::{TerminatedV1, UnixMillis};
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStatus, HostAlias, Pod, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::containers::container;
use super::http::{self, http};
use super::probes::probes;
use super::record_size;
use super::refused::{Fault, Refused};
use super::storage::storage;
use super::stored_object::{StoredObject, parse};
use super::volumes::volume;
use freewheel_hub_api::images::Images;
use freewheel_hub_api::pins::{Pins, RESOLVED};

/// What Kubernetes gives a pod to end in when it says nothing.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// For how long a pod has been on its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stay {
    /// When it got its node: one that was made for it has it from the start.
    pub(super) since: Option<Time>,
    /// The device has begun with it.
    pub(super) started: bool,
}

impl Stay {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let bound = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
            .and_then(|condition| condition.last_transition_time.clone());
        Self {
            since: bound.max(pod.metadata.creation_timestamp.clone()),
            started: status.is_some_and(|status| status.start_time.is_some()),
        }
    }
}

/// The record of a pod, and what it holds: ask [`config_of`] for the configuration to send along.
///
/// # Errors
/// When the pod asks for something that no spoke can do (`UnsupportedField`), or is malformed.
pub fn pod_record(
    realm: &ClusterName,
    found: &StoredObject,
    images: &dyn Images,
) -> Result<(Record, PodV1), Refused> {
    planned(realm, found, images).map(|(record, pod, _)| (record, pod))
}

/// The same, and for how long it has been on its device.
pub(super) fn planned(
    realm: &ClusterName,
    found: &StoredObject,
    images: &dyn Images,
) -> Result<(Record, PodV1, Stay), Refused> {
    let pod: Pod = parse(realm, "pods", found)?;
    let translate = || -> Result<(Record, PodV1), Fault> {
        let body = body(&pod, images)?;
        let key = RecordKey { realm: realm.clone(), kind: Kind::POD_V1, key: body.uid.clone() };
        let needs =
            if body.init.is_empty() && body.containers.len() == 1 { 0 } else { feature::SIDECARS };
        let record = Record::new(key, found.revision, needs, &body).map_err(Fault::malformed)?;
        Ok((record, body))
    };
    let (record, body) = translate().map_err(|fault| fault.of(realm, "pods", &pod.metadata))?;
    Ok((record_size::check(record, "pods", &pod.metadata)?, body, Stay::of(&pod)))
}

/// What a pod asks for that its device leaves out while it runs the rest.
#[must_use]
pub fn left_out(realm: &ClusterName, found: &StoredObject) -> Option<Refused> {
    const MARKS: [&[u8]; 2] = [b"\"ephemeralContainers\"", b"\"freewheel.dev/http-"];
    // Few have any, which shows without parsing.
    let has = |mark: &[u8]| found.body.windows(mark.len()).any(|part| part == mark);
    if !MARKS.into_iter().any(has) {
        return None;
    }
    let pod: Pod = parse(realm, "pods", found).ok()?;
    let annotations = http::left_out(pod.metadata.annotations.iter().flatten());
    let fault = match (never_started(pod.spec.as_ref()?), annotations) {
        (None, wrong) if wrong.is_empty() => return None,
        (None, wrong) => Fault::invalid(wrong.join("; ")),
        (Some(message), mut wrong) => {
            wrong.insert(0, message);
            Fault::unsupported(wrong.join("; "))
        }
    };
    Some(Refused { stays: true, ..fault.of(realm, "pods", &pod.metadata) })
}

/// The containers that were to come into a pod that runs.
fn never_started(spec: &PodSpec) -> Option<String> {
    let all = spec.ephemeral_containers.iter().flatten();
    let names: Vec<_> = all.map(|one| format!("{:?}", one.name)).collect();
    let message = format!(
        "spec.ephemeralContainers: spokes start no further containers in a pod that runs: {} will not start",
        names.join(", ")
    );
    (!names.is_empty()).then_some(message)
}

/// The ConfigMaps and Secrets that a pod names, and its tokens: (kind, namespace, name).
#[must_use]
pub fn config_of(pod: &PodV1) -> BTreeSet<(Kind, String, String)> {
    let mut names = BTreeSet::new();
    for container in pod.init.iter().chain(&pod.containers) {
        names.extend(container.env_from.iter().map(|from| (from.kind, from.name.clone())));
        names.extend(container.env.iter().filter_map(|env| match &env.source {
            EnvSourceV1::Key { kind, name, .. } => Some((*kind, name.clone())),
            EnvSourceV1::Value(_) | EnvSourceV1::Field(_) | EnvSourceV1::Resource(..) => None,
        }));
    }
    for volume in &pod.volumes {
        match &volume.source {
            VolumeSourceV1::Config(one) => {
                names.insert((one.kind, one.name.clone()));
            }
            VolumeSourceV1::Projected(many) => {
                names.extend(many.iter().filter_map(|one| match one {
                    ProjectionV1::Config(one) => Some((one.kind, one.name.clone())),
                    ProjectionV1::Downward(_) => None,
                }));
            }
            VolumeSourceV1::EmptyDir(_) | VolumeSourceV1::Downward(_) => {}
        }
    }
    names.into_iter().map(|(kind, name)| (kind, pod.namespace.clone(), name)).collect()
}

fn body(pod: &Pod, images: &dyn Images) -> Result<PodV1, Fault> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref().ok_or_else(|| Fault::malformed("spec is missing"))?;
    let need = |field: &Option<String>, what: &str| {
        field.clone().ok_or_else(|| Fault::malformed(format!("{what} is missing")))
    };
    let name = need(&meta.name, "metadata.name")?;
    let uid = need(&meta.uid, "metadata.uid")?;
    let volume = |from| volume(from, &uid);
    let volumes = spec.volumes.iter().flatten().map(volume).collect::<Result<Vec<_>, Fault>>()?;
    let mut annotations = sorted(meta.annotations.as_ref());
    // The plan says what its images stand for; that it is written down is no change of it.
    let resolved = annotations.iter().position(|(key, _)| key == RESOLVED);
    let pins = resolved.map(|at| Pins::read(&annotations.remove(at).1)).unwrap_or_default();
    let resolve = |image: &str| images.resolve(&pins.apply(image));
    let containers_of = |list: &[k8s_openapi::api::core::v1::Container], init: bool| {
        let one = |c| container(c, init, http(&annotations, c), &resolve);
        list.iter().map(one).collect::<Result<Vec<_>, Fault>>()
    };
    let init = containers_of(spec.init_containers.as_deref().unwrap_or_default(), true)?;
    let containers = containers_of(&spec.containers, false)?;
    Ok(PodV1 {
        namespace: need(&meta.namespace, "metadata.namespace")?,
        node: need(&spec.node_name, "spec.nodeName")?,
        labels: sorted(meta.labels.as_ref()),
        annotations,
        service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        hostname: hostname(spec, &name),
        subdomain: spec.subdomain.clone().unwrap_or_default(),
        restart: restart(spec)?,
        priority: spec.priority.unwrap_or(0),
        grace_seconds: seconds(
            spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS),
        ),
        deadline_seconds: spec.active_deadline_seconds.map(seconds),
        deleting: meta
            .deletion_timestamp
            .as_ref()
            .map(|_| seconds(meta.deletion_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS))),
        service_links: spec.enable_service_links.unwrap_or(true),
        host_aliases: spec.host_aliases.iter().flatten().flat_map(aliases).collect(),
        init,
        containers,
        volumes,
        parts: parts(spec, pod.status.as_ref())?,
        name,
        uid,
    })
}

fn parts(spec: &PodSpec, status: Option<&PodStatus>) -> Result<Parts, Fault> {
    let mut parts = Parts::default();
    if let Some(storage) = storage(spec)? {
        parts.put(&storage).map_err(Fault::malformed)?;
    }
    if let Some(probes) = probes(spec)? {
        parts.put(&probes).map_err(Fault::malformed)?;
    }
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != OWN_SYSTEM) {
        parts.put(&PodOsV1 { name: os.name.clone() }).map_err(Fault::malformed)?;
    }
    if let Some(ended) = status.and_then(ended) {
        parts.put(&ended).map_err(Fault::malformed)?;
    } else if let Some(ended) = containers_ended(restart(spec)?, status) {
        parts.put(&ended).map_err(Fault::malformed)?;
    }
    Ok(parts)
}

/// The containers of a pod that lives on which its policy does not start again.
fn containers_ended(
    policy: RestartPolicy,
    status: Option<&PodStatus>,
) -> Option<ContainersEndedV1> {
    let one = |status: &ContainerStatus| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        let stays = match policy {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => ended.exit_code == 0,
            RestartPolicy::Never => true,
        };
        stays.then(|| ContainerEndedV1 {
            name: status.name.clone(),
            restarts: u32::try_from(status.restart_count).unwrap_or(0),
            how: terminated(ended),
        })
    };
    let all = status?.container_statuses.as_deref().unwrap_or_default();
    let containers: Vec<_> = all.iter().filter_map(one).collect();
    (!containers.is_empty()).then_some(ContainersEndedV1 { containers })
}

fn terminated(ended: &ContainerStateTerminated) -> TerminatedV1 {
    let text = |said: &Option<String>| said.clone().unwrap_or_default();
    let millis = |time: &Option<Time>| -> UnixMillis {
        let time = time.as_ref().map(|time| time.0.as_millisecond());
        time.and_then(|millis| millis.try_into().ok()).unwrap_or(0)
    };
    TerminatedV1 {
        code: ended.exit_code,
        signal: ended.signal.unwrap_or(0),
        reason: text(&ended.reason),
        message: text(&ended.message),
        started: millis(&ended.started_at),
        finished: millis(&ended.finished_at),
    }
}

/// How the pod has ended for good, as far as is known here.
fn ended(status: &PodStatus) -> Option<PodEndedV1> {
    let failed = match status.phase.as_deref()? {
        "Succeeded" => false,
        "Failed" => true,
        _ => return None,
    };
    let text = |said: &Option<String>| said.clone().unwrap_or_default();
    Some(PodEndedV1 { failed, reason: text(&status.reason), message: text(&status.message) })
}

fn sorted(map: Option<&BTreeMap<String, String>>) -> Vec<(String, String)> {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The kernel's limit of 63 holds for names that are no hostname of their own, as kubelet cuts them.
fn hostname(spec: &PodSpec, name: &str) -> String {
    let raw = spec.hostname.as_deref().unwrap_or(name);
    let short: String = raw.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

fn restart(spec: &PodSpec) -> Result<RestartPolicy, Fault> {
    match spec.restart_policy.as_deref() {
        None | Some("Always") => Ok(RestartPolicy::Always),
        Some("OnFailure") => Ok(RestartPolicy::OnFailure),
        Some("Never") => Ok(RestartPolicy::Never),
        Some(other) => Err(Fault::invalid(format!("spec.restartPolicy {other:?} is unknown"))),
    }
}

/// 136 years at most, which is for ever.
fn seconds(value: i64) -> u32 {
    // Kubernetes takes a negative grace period for one second.
    let value = if value < 0 { 1 } else { value };
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn aliases(alias: &HostAlias) -> Vec<(String, String)> {
    alias.hostnames.iter().flatten().map(|name| (alias.ip.clone(), name.clone())).collect()
}

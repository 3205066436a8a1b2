//! When the health of containers is looked at, and who is killed for it.

use std::time::Duration;

use freewheel_link::probes::ProbeKindV1;

use crate::pods::{Container, Pod, Which};

/// When each probe is due of what runs, also of a pod that ends: who sends to it wants to know whether it is ready.
pub(super) fn due(pod: &Pod) -> impl Iterator<Item = (Which, ProbeKindV1, Duration)> {
    running(pod).flat_map(|(which, container)| {
        let ending = pod.termination.is_some() || container.stop_by.is_some();
        container.probes.due(ending).map(move |(kind, due)| (which, kind, due))
    })
}

/// The containers that run.
pub(super) fn running(pod: &Pod) -> impl Iterator<Item = (Which, &Container)> {
    let init = (0..pod.init.len()).map(Which::Init);
    let all = init.chain((0..pod.containers.len()).map(Which::Main));
    let known = all.filter_map(|which| Some((which, pod.at(which)?.0)));
    known.filter(|(_, container)| container.running())
}

/// The startup or liveness probe that a container has failed, and how long it may take to end, which is `grace` where the
/// probe does not say it.
pub(super) fn failed(container: &Container, grace: Duration) -> Option<(ProbeKindV1, Duration)> {
    let failed = container.probes.failed()?;
    let own = failed.grace_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    Some((failed.kind, own.unwrap_or(grace)))
}

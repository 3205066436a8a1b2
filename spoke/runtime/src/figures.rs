//! What running containers have used, put together when somebody asks.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use freewheel_link::figures::{ContainerUseV1, PodUseV1};
use freewheel_link::names::ClusterName;
use freewheel_spoke_agent::ports::{ContainerId, StartContainer};

use crate::metered::Usage;

/// By which names people know a container's pod, and since when it runs.
pub(crate) struct Whose {
    realm: ClusterName,
    namespace: String,
    pod: String,
    started: u64,
}

impl Whose {
    /// Of a container that starts now.
    pub(crate) fn of(start: &StartContainer) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            realm: start.realm.clone(),
            namespace: start.namespace.clone(),
            pod: start.pod_name.clone(),
            started: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The containers of each pod, with their memory in bytes.
pub(crate) fn by_pod<'a>(
    running: impl Iterator<Item = (&'a ContainerId, &'a Whose, &'a Usage, usize)>,
) -> Vec<PodUseV1> {
    let mut pods = BTreeMap::new();
    for (id, whose, usage, memory) in running {
        let pod = pods.entry(&*id.pod).or_insert_with(|| PodUseV1 {
            realm: whose.realm.clone(),
            namespace: whose.namespace.clone(),
            name: whose.pod.clone(),
            containers: Vec::new(),
        });
        pod.containers.push(ContainerUseV1 {
            name: id.container.clone(),
            started: whose.started,
            cpu_ns: usage.cpu_ns.load(Relaxed),
            memory: memory as u64,
            throttled: usage.throttled.load(Relaxed),
            demoted: usage.demoted.load(Relaxed),
            out_of_memory: usage.oom_ended.load(Relaxed),
        });
    }
    pods.into_values().collect()
}

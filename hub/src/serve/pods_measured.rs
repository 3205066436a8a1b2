//! What pods take, as the controllers see it.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_apiserver::{ContainerUsage, PodUsage, Usage};
use freewheel_hub_controllers::horizontal_pod_autoscaler::{
    ContainerSample, PodSample, PodSamples,
};
use freewheel_hub_store::{Store, Stored};
use freewheel_link::names::ClusterName;
use jiff::Timestamp;

/// What devices say to the API.
pub struct PodsMeasured {
    /// Of all that look.
    pub usage: Usage,
    /// Where the pods are.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl PodSamples for PodsMeasured {
    async fn of(&self, cluster: &ClusterName, pods: Vec<Arc<Stored>>) -> Vec<PodSample> {
        let usages = self.usage.of_pods(&*self.store, cluster, pods).await;
        usages.into_iter().map(sample).collect()
    }
}

fn sample(usage: PodUsage) -> PodSample {
    let container = |one: ContainerUsage| ContainerSample {
        name: one.name,
        cpu_nanos: one.cpu_nanos,
        memory: one.memory,
    };
    PodSample {
        name: usage.key.name,
        at: Timestamp::from_second(usage.at).unwrap_or(Timestamp::UNIX_EPOCH),
        window: usage.window,
        containers: usage.containers.into_iter().map(container).collect(),
    }
}

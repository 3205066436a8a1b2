//! What pods take, as a test says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_controllers::horizontal_pod_autoscaler::{
    ContainerSample, PodSample, PodSamples,
};
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

/// By the label `app` of pods: all of one app take the same.
#[derive(Default)]
pub struct PlayedUsage {
    millis: Mutex<BTreeMap<String, u64>>,
    asked: Mutex<Vec<String>>,
    slowness: Mutex<Duration>,
}

impl PlayedUsage {
    /// From now on each pod of this app takes so many thousandths of a core. Of others nothing is known.
    pub fn take(&self, app: &str, millis: u64) {
        self.millis.lock().insert(app.to_owned(), millis);
    }

    /// From now on it takes so long to tell.
    pub fn tell_after(&self, slowness: Duration) {
        *self.slowness.lock() = slowness;
    }

    /// Which pods were asked about since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }

    fn sample(&self, pod: &Stored) -> Option<PodSample> {
        let millis = *self.millis.lock().get(pod.object.header.labels.get("app")?)?;
        let container =
            ContainerSample { name: "c".to_owned(), cpu_nanos: millis * 1_000_000, memory: 1 };
        Some(PodSample {
            name: pod.key.name.clone(),
            // Long after its pod was started.
            at: jiff::Timestamp::MAX,
            window: Duration::from_secs(15),
            containers: vec![container],
        })
    }
}

#[async_trait]
impl PodSamples for PlayedUsage {
    async fn of(&self, _: &ClusterName, pods: Vec<Arc<Stored>>) -> Vec<PodSample> {
        self.asked.lock().extend(pods.iter().map(|pod| pod.key.name.to_string()));
        let slowness = *self.slowness.lock();
        if !slowness.is_zero() {
            tokio::time::sleep(slowness).await;
        }
        pods.iter().filter_map(|pod| self.sample(pod)).collect()
    }
}

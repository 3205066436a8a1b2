//! Nodes and pods of one cluster with what their devices say of them.
//!
//! The API and whoever else in the hub looks share what devices have said: they are asked once for all of them.
//!
//! Guarantees:
//! - of pods those are told of whom figures are known, with the window of each
//!   (`who_looks_from_inside_the_hub_sees_what_the_api_shows`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::streams::SpokeStreams;
use freewheel_hub_objects::clock::Clock;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Store, Stored};
use freewheel_link::names::ClusterName;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::sample::{PodUse, Sample, Use};
use super::samples::{Device, Samples};
use crate::tenant::{self, Tenant};

/// How long a question takes at most. Who asks for a whole fleet wants those who are there.
const QUESTION_MAX: Duration = Duration::from_secs(10);
/// What the store has of a container of a pod is more.
const CONTAINER_BYTES_MIN: usize = 64;

/// What nodes and pods take right now: devices are asked when somebody asks here. Cheap to clone.
#[derive(Clone)]
pub struct Usage(Arc<Samples>);

/// What a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUsage {
    /// The pod.
    pub key: Key,
    /// When that was measured, in Unix seconds.
    pub at: i64,
    /// How long processor time was counted up to then.
    pub window: Duration,
    /// Its containers.
    pub containers: Vec<ContainerUsage>,
}

/// What a container takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Its name in the pod.
    pub name: String,
    /// Of processors, in billionths of one.
    pub cpu_nanos: u64,
    /// In bytes.
    pub memory: u64,
}

/// Some nodes, or some pods, of one cluster.
pub(crate) struct Question<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) store: &'a dyn Store,
    pub(crate) are_pods: bool,
}

/// A Node or Pod, and what is measured of it.
pub(crate) struct Measured {
    pub(crate) stored: Arc<Stored>,
    pub(crate) taken: Taken,
    /// When, in Unix seconds.
    pub(crate) at: i64,
    pub(crate) window: Duration,
}

pub(crate) enum Taken {
    Node(Use),
    Pod(Arc<PodUse>),
}

impl Usage {
    /// Of the devices that are reached by these.
    #[must_use]
    pub fn new(streams: Arc<dyn SpokeStreams>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Samples::new(streams, clock)))
    }

    /// What these pods of one cluster take, as far as it is known.
    pub async fn of_pods(
        &self,
        store: &dyn Store,
        cluster: &ClusterName,
        pods: Vec<Arc<Stored>>,
    ) -> Vec<PodUsage> {
        let Ok(tenant) = Tenant::find(&*store.snapshot(), Some(cluster.as_str())) else {
            return Vec::new();
        };
        let question = Question { tenant: &tenant, store, are_pods: true };
        let measured = self.measured(&question, pods).await;
        measured.iter().map(Measured::of_pod).collect()
    }

    /// What their devices say of these, in their order.
    pub(crate) async fn measured(
        &self,
        question: &Question<'_>,
        all: Vec<Arc<Stored>>,
    ) -> Vec<Measured> {
        let (until, samples) = (Instant::now() + QUESTION_MAX, &self.0);
        let answers = question.by_device(all).into_iter().map(|(device, stored)| async move {
            let sample = timeout_at(until, samples.newest(&device)).await.ok().flatten();
            // It may say much: what is not asked for goes with it at once.
            let said = sample.map(|sample| {
                stored
                    .into_iter()
                    .filter_map(|one| question.measure(&sample, one))
                    .collect::<Vec<_>>()
            });
            said.unwrap_or_default()
        });
        let mut answers: FuturesUnordered<_> = answers.collect();
        let mut found = Vec::new();
        while let Some(more) = answers.next().await {
            found.extend(more);
        }
        found.sort_by(|a, b| place(&a.stored.key).cmp(&place(&b.stored.key)));
        found
    }
}

impl Question<'_> {
    /// Each device with what it counts for.
    fn by_device(&self, all: Vec<Arc<Stored>>) -> Vec<(Device, Vec<Arc<Stored>>)> {
        let mut by_name = BTreeMap::<ClusterName, Vec<Arc<Stored>>>::new();
        for stored in all {
            if let Some(name) = self.device(&stored) {
                by_name.entry(name).or_default().push(stored);
            }
        }
        let clusters = self.store.snapshot();
        let of = |(name, stored)| (Device { uid: tenant::uid(&*clusters, &name), name }, stored);
        by_name.into_iter().map(of).collect()
    }

    /// Who counts for it.
    fn device(&self, stored: &Stored) -> Option<ClusterName> {
        let node = if self.are_pods {
            stored.object.header.fields.get("spec.nodeName")?
        } else {
            &*stored.key.name
        };
        self.tenant.device(node)
    }

    fn measure(&self, sample: &Sample, stored: Arc<Stored>) -> Option<Measured> {
        let taken = if self.are_pods {
            let (namespace, name) = place(&stored.key);
            Taken::Pod(sample.pod(&self.tenant.name, namespace, name)?)
        } else {
            Taken::Node(sample.device()?)
        };
        Some(Measured { stored, taken, at: sample.time, window: sample.window? })
    }
}

impl Measured {
    /// Of a pod, what its containers take: no more of them than it is made of, whatever a device says.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&str, Use)> {
        let pod = match &self.taken {
            Taken::Node(_) => None,
            Taken::Pod(pod) => Some(pod),
        };
        let most = self.stored.object.body.len() / CONTAINER_BYTES_MIN;
        pod.into_iter().flat_map(|pod| pod.containers()).take(most)
    }

    fn of_pod(&self) -> PodUsage {
        let containers = self.containers().map(|(name, taken)| ContainerUsage {
            name: name.to_owned(),
            cpu_nanos: taken.cpu_nanos,
            memory: taken.memory,
        });
        PodUsage {
            key: self.stored.key.clone(),
            at: self.at,
            window: self.window,
            containers: containers.collect(),
        }
    }
}

/// Namespace and name.
pub(crate) fn place(key: &Key) -> (&str, &str) {
    (&*key.namespace, &*key.name)
}

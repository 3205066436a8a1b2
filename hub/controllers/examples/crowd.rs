//! What a pod's change costs in a crowd: many Deployments with their Services, in memory.
//!
//! `cargo run --release -p freewheel-hub-controllers --example crowd [SETS] [PODS PER SET]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use freewheel_hub_api::images::{Artifact, ImageProblem, Images, Resolved, Tenants};
use freewheel_hub_api::kinds;
use freewheel_hub_controllers::deployment::Deployments;
use freewheel_hub_controllers::endpoints::{EndpointSlices, Handlers};
use freewheel_hub_controllers::engine::{Client, Controller, Error, run};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::gc::GarbageCollector;
use freewheel_hub_controllers::index::Indexes;
use freewheel_hub_controllers::replicaset::ReplicaSets;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Scope, Store, Stored};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::profile::Profile;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const CHANGES: usize = 500;
/// Without a write for so long nothing is left to do.
const SILENCE: Duration = Duration::from_secs(1);

fn place(group: &str, plural: &str, name: &str) -> Option<ObjectRef> {
    let kind = kinds::find(group, "v1", plural)?;
    let (cluster, namespace) = (ClusterName::root(), "default".into());
    Some(ObjectRef { kind: kind.clone(), cluster, namespace, name: name.to_owned() })
}

async fn create(objects: &Objects, group: &str, plural: &str, body: Value) -> Result<(), ApiError> {
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some(mut place) = place(group, plural, &name) else { return Ok(()) };
    if !place.kind.namespaced {
        place.namespace = "".into();
    }
    objects.create(&WriteOptions::default(), &place, body).await.map(|_| ())
}

fn deployment(name: &str, replicas: usize) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "a:1"}]}}}})
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
}

/// There is no registry here.
#[derive(Debug)]
struct Unknown;

impl Handlers for Unknown {
    fn is_handler(&self, _: &str) -> Option<bool> {
        None
    }
}

fn pods(store: &dyn Store) -> Vec<Arc<Stored>> {
    let resource = freewheel_hub_schema::object::Resource::new("", "pods");
    store.snapshot().range(&Scope { resource, cluster: None, namespace: None }, None).collect()
}

/// Nothing is pushed here, and nothing runs.
struct NoImages;

impl NoImages {
    fn none() -> ImageProblem {
        ImageProblem { reason: "ErrImagePull", message: String::new() }
    }
}

#[async_trait]
impl Images for NoImages {
    fn resolve(&self, _: &str) -> Result<Resolved, ImageProblem> {
        Err(Self::none())
    }

    fn manifest_of(&self, _: &str, _: &Digest) -> Option<Digest> {
        None
    }

    fn changed(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    async fn artifact(
        &self,
        _: &Digest,
        _: Profile,
        _: Tenants<'_>,
    ) -> Result<Artifact, ImageProblem> {
        Err(Self::none())
    }

    fn compiling(&self, _: &Digest, _: Profile) -> Option<u64> {
        None
    }

    fn note_profile(&self, _: Profile) {}
}

fn start(
    objects: &Objects,
    indexes: &Indexes,
    stop: &CancellationToken,
) -> Result<JoinSet<()>, Error> {
    let client = |name| Client::new(objects.clone(), name, Recorder::channel(objects).0);
    let controllers: Vec<Arc<dyn Controller>> = vec![
        Arc::new(Deployments::new(client("deployment-controller"), indexes.clone())?),
        Arc::new(ReplicaSets::new(
            client("replicaset-controller"),
            indexes.clone(),
            Arc::new(NoImages),
        )?),
        Arc::new(EndpointSlices::new(
            client("endpoint-controller"),
            indexes.clone(),
            Arc::new(Unknown),
        )?),
        Arc::new(GarbageCollector::new(client("generic-garbage-collector"), indexes.clone())),
    ];
    let mut tasks = JoinSet::new();
    for controller in controllers {
        tasks.spawn(run(objects.store().clone(), controller, stop.clone()));
    }
    Ok(tasks)
}

/// Waits until nothing has been written for a while; how long it took without that while.
async fn quiet(store: &dyn Store) -> Duration {
    let (start, mut last, mut seen) = (Instant::now(), Instant::now(), store.snapshot().revision());
    while last.elapsed() < SILENCE {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = store.snapshot().revision();
        if now != seen {
            (seen, last) = (now, Instant::now());
        }
    }
    last.duration_since(start)
}

async fn change(objects: &Objects, pod: &Stored, ready: bool) -> Result<(), ApiError> {
    let Some(place) = place("", "pods", &pod.key.name) else { return Ok(()) };
    let status = if ready { "True" } else { "False" };
    let set = |mut value: Value| {
        value["status"]["phase"] = json!("Running");
        value["status"]["podIP"] = json!("10.64.0.2");
        value["status"]["conditions"] = json!([{"type": "Ready", "status": status}]);
        Ok(value)
    };
    objects.modify(&WriteOptions::default(), &place, Some("status"), set).await.map(|_| ())
}

async fn measure(sets: usize, each: usize) -> Result<(), Box<dyn std::error::Error>> {
    let objects = Objects::new(Arc::new(MemoryStore::with_incarnation(1)));
    let store = objects.store().clone();
    let indexes = Indexes::new(&store, objects.kinds())?;
    let stop = CancellationToken::new();
    let mut tasks = start(&objects, &indexes, &stop)?;
    create(&objects, "", "namespaces", json!({"metadata": {"name": "default"}})).await.ok();
    let begin = Instant::now();
    for n in 0..sets {
        let name = format!("app-{n}");
        create(&objects, "", "services", service(&name)).await?;
        create(&objects, "apps", "deployments", deployment(&name, each)).await?;
    }
    while pods(&*store).len() < sets * each {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let made = begin.elapsed();
    quiet(&*store).await;
    let all = pods(&*store);
    println!("{} pods of {sets} Deployments in {made:.2?}", all.len());
    for (ready, what) in [(true, "become ready"), (false, "stop being ready")] {
        let (revision, entries_touched) = (store.snapshot().revision(), indexes.entries_touched());
        let step = (all.len() / CHANGES).max(1);
        let some: Vec<&Arc<Stored>> = all.iter().step_by(step).take(CHANGES).collect();
        let begin = Instant::now();
        for pod in &some {
            change(&objects, pod, ready).await?;
        }
        let written = begin.elapsed();
        let settled = written + quiet(&*store).await;
        let count = u32::try_from(some.len())?.max(1);
        let entries_touched = (indexes.entries_touched() - entries_touched) / u64::from(count);
        let writes = (store.snapshot().revision() - revision) / u64::from(count);
        println!(
            "{count} of them {what}: {:.2?} each, {entries_touched} objects looked at, {writes} writes",
            settled / count
        );
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|n| n.parse().ok());
    let (sets, each) = (numbers.next().unwrap_or(500), numbers.next().unwrap_or(20));
    measure(sets, each).await
}

//! A hub in memory with all controllers, and spokes that are played: what is bound becomes ready, what
//! is deleted ends. Time is paused; it jumps when everybody waits.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken fixture fails its test")]

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_controllers::fleet::RolloutPlans;
use freewheel_hub_controllers::index::Indexes;
use freewheel_hub_controllers::start_over;
use freewheel_hub_objects::clock::SeededRandom;
use freewheel_hub_objects::internal::{SessionRecord, session_key};
use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects, Propagation, WriteOptions};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Operation, Scope, Snapshot, Store, Stored, Txn};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use clock::SimulatedClock;
pub use registry::Registry;
pub use surroundings::{STRICT, UNTOLD, hub_access};
pub use usage::PlayedUsage;

#[path = "../../src/testing/clock.rs"]
mod clock;
pub mod counting;
mod registry;
mod surroundings;
mod usage;

/// Simulated time that no state takes longer to reach.
const PATIENCE: Duration = Duration::from_secs(900);

pub struct Hub {
    pub objects: Objects,
    /// What the controllers find each other's objects by.
    pub indexes: Indexes,
    /// What images stand for.
    pub registry: Arc<Registry>,
    /// What pods take.
    pub usage: Arc<PlayedUsage>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    background: JoinSet<()>,
}

pub fn cluster(name: &str) -> ClusterName {
    ClusterName::try_from(name).unwrap()
}

pub fn kind(plural: &str) -> Arc<Kind> {
    kinds::all().iter().find(|k| k.plural() == plural && !k.is_view()).unwrap().clone()
}

fn place(realm: &str, plural: &str, namespace: &str, name: &str) -> ObjectRef {
    let (namespace, name) = (namespace.into(), name.to_owned());
    ObjectRef { kind: kind(plural), cluster: cluster(realm), namespace, name }
}

impl Hub {
    /// A hub with these spokes, accepted and connected, each with 4 cores and 110 pods.
    pub async fn with_spokes(spokes: &[&str]) -> Self {
        // Nobody may count revisions.
        Self::over(MemoryStore::with_incarnation(1).sparse(3), spokes).await
    }

    /// The same over a store of one's own.
    pub async fn over(store: impl Store, spokes: &[&str]) -> Self {
        let clock = SimulatedClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let objects =
            Objects::with(Arc::new(store), Arc::new(clock), Arc::new(SeededRandom::new(7)))
                .admitting(Arc::new(surroundings::NoRolesOfAccounts))
                .admitting(Arc::new(surroundings::StatusRefused))
                .admitting(Arc::new(surroundings::NamespaceRefused::from_now_on()));
        let stop = CancellationToken::new();
        let registry = Arc::new(Registry::default());
        let usage = Arc::new(PlayedUsage::default());
        let config = surroundings::config(&registry, &usage);
        let indexes = Indexes::new(objects.store(), objects.kinds()).unwrap();
        let (rights, modules) = (config.rights.clone(), Arc::new(surroundings::ByTag));
        let plans = RolloutPlans::new(&objects, &indexes, rights, modules).unwrap();
        let objects = objects.admitting(Arc::new(plans));
        let tasks = start_over(&objects, &indexes, &config, &stop).unwrap();
        let mut background = JoinSet::new();
        background.spawn(play_spokes(objects.clone()));
        let hub = Self { objects, indexes, registry, usage, stop, tasks, background };
        for spoke in spokes {
            hub.join(spoke).await;
        }
        hub.eventually("namespaces stand", |s| {
            get(s, "root", "serviceaccounts", "default", "default").is_some()
        })
        .await;
        hub
    }

    /// Stops its controllers and starts them anew, with nothing in memory.
    pub async fn restart(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.stop = CancellationToken::new();
        let config = surroundings::config(&self.registry, &self.usage);
        self.tasks = start_over(&self.objects, &self.indexes, &config, &self.stop).unwrap();
    }

    /// Accepts and connects a spoke.
    pub async fn join(&self, spoke: &str) {
        let body = json!({"metadata": {"name": spoke}, "spec": {"hubAcceptsClient": true}});
        self.create("root", "managedclusters", "", body).await;
        self.connect(spoke, true).await;
        self.eventually("both nodes are ready", |s| {
            ["root", spoke].iter().all(|realm| {
                get(s, realm, "nodes", "", spoke).is_some_and(|n| {
                    condition(&n, "Ready") == "True" && n["status"]["allocatable"].is_object()
                })
            })
        })
        .await;
    }

    /// What the gateway writes when a session begins or ends, and what the spoke says then.
    pub async fn connect(&self, spoke: &str, connected: bool) {
        self.write_session(spoke, connected).await;
        if connected {
            for realm in ["root", spoke] {
                play_node(&self.objects, realm, spoke).await;
            }
            let scope =
                Scope { resource: kind("pods").storage().clone(), cluster: None, namespace: None };
            for pod in self.snapshot().range(&scope, None) {
                if pod.object.header.fields.get("spec.nodeName").is_some_and(|node| node == spoke) {
                    say_ready(&self.objects, &place_of(&pod, "pods")).await;
                }
            }
        }
    }

    /// What the gateway alone writes then.
    pub async fn write_session(&self, spoke: &str, connected: bool) {
        let cluster = get(&*self.snapshot(), "root", "managedclusters", "", spoke).unwrap();
        let session = SessionRecord {
            epoch: 1,
            connected,
            since: self.objects.clock().unix_seconds() * 1000,
            uid: cluster["metadata"]["uid"].as_str().unwrap().to_owned(),
            ..SessionRecord::default()
        };
        let operations = vec![Operation::Put(session_key(spoke), session.to_object())];
        self.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    pub async fn create(
        &self,
        realm: &str,
        plural: &str,
        namespace: &str,
        mut body: Value,
    ) -> Value {
        let kind = kind(plural);
        body["apiVersion"] = json!(kind.api_version());
        body["kind"] = json!(kind.kind());
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let place = place(realm, plural, namespace, &name);
        let written = self.objects.create(&WriteOptions::default(), &place, body).await.unwrap();
        written.stored.object.value().unwrap()
    }

    pub async fn change(
        &self,
        realm: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value) + Send + Sync,
    ) {
        let place = place(realm, plural, namespace, name);
        let change = |mut value: Value| {
            change(&mut value);
            Ok(value)
        };
        self.objects.modify(&WriteOptions::default(), &place, None, change).await.unwrap();
    }

    /// The same through the door `status`.
    pub async fn change_status(
        &self,
        realm: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value) + Send + Sync,
    ) {
        let place = place(realm, plural, namespace, name);
        let change = |mut value: Value| {
            change(&mut value);
            Ok(value)
        };
        self.objects
            .modify(&WriteOptions::default(), &place, Some("status"), change)
            .await
            .unwrap();
    }

    pub async fn delete(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        propagation: Propagation,
    ) {
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        let place = place("root", plural, namespace, name);
        self.objects.delete(&WriteOptions::default(), &place, &options).await.unwrap();
    }

    /// Deletes something of a spoke's own cluster.
    pub async fn delete_in(&self, realm: &str, plural: &str, namespace: &str, name: &str) {
        let place = place(realm, plural, namespace, name);
        let options = DeleteOptions::default();
        self.objects.delete(&WriteOptions::default(), &place, &options).await.unwrap();
    }

    /// Waits for a state.
    #[track_caller]
    pub fn eventually(
        &self,
        what: &'static str,
        holds: impl Fn(&dyn Snapshot) -> bool,
    ) -> impl Future<Output = ()> {
        let store = self.objects.store().clone();
        async move {
            let wait = async {
                let mut now = store.snapshot();
                while !holds(&*now) {
                    now = store.wait_for(now.revision() + 1).await;
                }
            };
            if tokio::time::timeout(PATIENCE, wait).await.is_err() {
                panic!("never: {what}\n{}", dump(&*store.snapshot()));
            }
        }
    }

    /// Checks a rule about one resource at every revision from now on.
    pub fn always(&mut self, plural: &str, rule: impl Fn(&dyn Snapshot) + Send + 'static) {
        let store = self.objects.store().clone();
        let resource = kind(plural).storage().clone();
        let of = Scope { resource, cluster: None, namespace: None };
        let (_, mut watch) = store.follow(vec![of.clone()]);
        self.background.spawn(async move {
            loop {
                let events = watch.next().await.unwrap();
                for event in events {
                    if let Ok(snapshot) = store.snapshot_at(&of, event.revision) {
                        rule(&*snapshot);
                    }
                }
            }
        });
    }

    pub fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.objects.store().snapshot()
    }

    /// Stops everything; a rule that was broken is heard of here.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        // Whoever watches has seen everything once nothing moves any more.
        tokio::time::sleep(Duration::from_secs(1)).await;
        while let Some(ended) = self.background.try_join_next() {
            ended.unwrap();
        }
    }
}

pub fn get(
    s: &dyn Snapshot,
    realm: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Option<Value> {
    let key = place(realm, plural, namespace, name).key();
    s.get(&key).map(|stored| stored.object.value().unwrap())
}

pub fn list(s: &dyn Snapshot, realm: &str, plural: &str, namespace: &str) -> Vec<Value> {
    let scope = Scope {
        resource: kind(plural).storage().clone(),
        cluster: Some(cluster(realm)),
        namespace: (!namespace.is_empty()).then(|| namespace.into()),
    };
    s.range(&scope, None).map(|stored| stored.object.value().unwrap()).collect()
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or("")
}

pub fn reason<'a>(object: &'a Value, kind: &str) -> &'a str {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|c| c["type"] == kind).and_then(|c| c["reason"].as_str()).unwrap_or("")
}

/// Ready and not on its way out.
pub fn serves(pod: &Value) -> bool {
    condition(pod, "Ready") == "True" && pod["metadata"]["deletionTimestamp"].is_null()
}

/// A Deployment of one container.
pub fn deployment(name: &str, replicas: u32, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image,
                    "resources": {"requests": {"cpu": "100m"}}}]},
            },
        },
    })
}

/// The Deployment says that its rollout is through and it runs this image alone.
pub fn is_rolled_out(s: &dyn Snapshot, name: &str, image: &str, replicas: usize) -> bool {
    let Some(deployment) = get(s, "root", "deployments", "default", name) else { return false };
    let status = &deployment["status"];
    let pods = list(s, "root", "pods", "default");
    let mine: Vec<&Value> =
        pods.iter().filter(|p| p["metadata"]["labels"]["app"] == name).collect();
    reason(&deployment, "Progressing") == "NewReplicaSetAvailable"
        && status["observedGeneration"] == deployment["metadata"]["generation"]
        && status["updatedReplicas"] == json!(replicas)
        && status["availableReplicas"] == json!(replicas)
        && mine.len() == replicas
        && mine.iter().all(|p| p["spec"]["containers"][0]["image"] == image && serves(p))
}

fn dump(s: &dyn Snapshot) -> String {
    let all =
        ["deployments", "replicasets", "cronjobs", "jobs", "pods", "nodes", "namespaces", "events"];
    let lines = all.iter().flat_map(|plural| {
        let scope =
            Scope { resource: kind(plural).storage().clone(), cluster: None, namespace: None };
        let line = move |stored: Arc<Stored>| {
            let value = stored.object.value().unwrap();
            format!(
                "{plural} {} {} {} {} {}",
                stored.key.cluster,
                stored.key.name,
                value["spec"],
                value["status"],
                value["message"]
            )
        };
        s.range(&scope, None).map(line).collect::<Vec<_>>()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Plays every spoke: gives nodes their capacity, runs what is bound, ends what is deleted.
async fn play_spokes(objects: Objects) {
    let store = objects.store().clone();
    let scopes = ["pods", "nodes"].map(|plural| Scope {
        resource: kind(plural).storage().clone(),
        cluster: None,
        namespace: None,
    });
    let mut next = 1;
    loop {
        let snapshot = store.snapshot();
        let mut watch = store.watch(scopes.to_vec(), snapshot.revision()).unwrap();
        let mut todo: Vec<Arc<Stored>> =
            scopes.iter().flat_map(|scope| snapshot.range(scope, None)).collect();
        loop {
            for stored in todo.drain(..) {
                next += 1;
                if stored.key.resource != *kind("nodes").storage() {
                    play_pod(&objects, &stored, next).await;
                }
            }
            let Ok(events) = watch.next().await else { break };
            for event in events {
                match (event.now, event.before) {
                    (Some(now), _) => todo.push(now),
                    // Who is in session makes its Node anew.
                    (None, Some(gone)) if gone.key.resource == *kind("nodes").storage() => {
                        let session = SessionRecord::of(&*store.snapshot(), &gone.key.name);
                        if session.is_some_and(|session| session.connected) {
                            play_node(&objects, gone.key.cluster.as_str(), &gone.key.name).await;
                        }
                    }
                    (None, _) => {}
                }
            }
        }
    }
}

fn place_of(stored: &Stored, plural: &str) -> ObjectRef {
    let key = &stored.key;
    place(key.cluster.as_str(), plural, &key.namespace, &key.name)
}

/// What a spoke says of itself, as the gateway writes it.
async fn play_node(objects: &Objects, realm: &str, name: &str) {
    let place = place(realm, "nodes", "", name);
    let status = json!({
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "nodeInfo": {"kubeletVersion": "v1.36.0"},
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
        "status": status});
    // A cluster that is gone again has none.
    if objects.create(&WriteOptions::default(), &place, node).await.is_ok() {
        return;
    }
    let change = |mut value: Value| {
        for (field, said) in status.as_object().unwrap() {
            value["status"][field] = said.clone();
        }
        Ok(value)
    };
    let _ = objects.modify(&WriteOptions::default(), &place, Some("status"), change).await;
}

/// The pod runs, whatever somebody else has said of it meanwhile.
async fn say_ready(objects: &Objects, place: &ObjectRef) {
    let change = |mut value: Value| {
        put_ready(&mut value);
        Ok(value)
    };
    let _ = objects.modify(&WriteOptions::default(), place, Some("status"), change).await;
}

fn put_ready(pod: &mut Value) {
    let ready =
        json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    match pod["status"]["conditions"].as_array_mut() {
        Some(list) => {
            list.retain(|one| one["type"] != "Ready");
            list.push(ready);
        }
        None => pod["status"]["conditions"] = json!([ready]),
    }
}

/// Annotation of pods that come to an end: how; of an Indexed Job's one for each index.
pub const EXITS: &str = "played/exits";

fn exit_code(pod: &Value) -> Option<i64> {
    let notes = &pod["metadata"]["annotations"];
    let index = notes["batch.kubernetes.io/job-completion-index"].as_str();
    let index = index.and_then(|index| index.parse().ok()).unwrap_or(0);
    notes[EXITS].as_str()?.split(',').nth(index)?.parse().ok()
}

/// Its container ends a moment later.
async fn say_ended(objects: &Objects, place: &ObjectRef, code: i64) {
    tokio::time::sleep(Duration::from_millis(50)).await;
    let end = freewheel_hub_schema::time::from_unix(objects.clock().unix_seconds());
    let change = |mut pod: Value| {
        let status = &mut pod["status"];
        status["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
        status["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": end}}}]);
        if let Some(list) = status["conditions"].as_array_mut() {
            list.retain(|one| one["type"] != "Ready");
        }
        Ok(pod)
    };
    let _ = objects.modify(&WriteOptions::default(), place, Some("status"), change).await;
}

async fn play_pod(objects: &Objects, stored: &Stored, number: u32) {
    let value = stored.object.value().unwrap();
    if value["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        return;
    }
    let place = place_of(stored, "pods");
    if stored.object.header.deleting {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(stored.object.header.uid.clone()),
            ..DeleteOptions::default()
        };
        // It takes a moment to end.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = objects.delete(&WriteOptions::default(), &place, &options).await;
        return;
    }
    match (value["status"]["phase"].as_str(), exit_code(&value)) {
        (Some("Running"), Some(code)) => return say_ended(objects, &place, code).await,
        (Some("Running" | "Succeeded" | "Failed"), _) => return,
        _ => {}
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = objects
        .modify(&WriteOptions::default(), &place, Some("status"), |mut value| {
            let status = &mut value["status"];
            status["phase"] = json!("Running");
            status["startTime"] = json!("2026-01-01T00:00:00Z");
            status["podIP"] = json!(format!("10.64.0.{}", number % 250));
            put_ready(&mut value);
            Ok(value)
        })
        .await;
}

//! The engine with a controller that misbehaves.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a broken fixture fails its test")]

#[path = "../../../link/tests/said/mod.rs"]
mod said;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::kinds;
use freewheel_hub_controllers::engine::{Controller, Error, run};
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, Strategy};
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_schema::registry::Registries;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Event, Operation, Scope, Snapshot, Store, Txn};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn key(name: &str) -> Key {
    Key::new(&Resource::new("internal", "things"), &ClusterName::root(), "", name)
}

async fn put(store: &dyn Store, name: &str, body: &str) {
    let object = Object { header: Header::default(), body: body.to_owned().into() };
    let operations = vec![Operation::Put(key(name), object)];
    store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
}

/// Remembers when it looked at what; does what the key's name says.
struct Odd {
    store: Arc<MemoryStore>,
    seen: Mutex<Vec<(String, Duration)>>,
    start: Instant,
}

impl Odd {
    fn new(store: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { store: store.clone(), seen: Mutex::default(), start: Instant::now() })
    }

    fn times(&self, name: &str) -> Vec<u64> {
        let seen = self.seen.lock();
        let of_name = seen.iter().filter(|(n, _)| n == name);
        of_name.map(|(_, at)| u64::try_from(at.as_millis()).unwrap()).collect()
    }

    async fn looks(&self, name: &str, count: usize) {
        let looked = async {
            while self.times(name).len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looked).await.expect("it is never looked at");
    }
}

#[async_trait]
impl Controller for Odd {
    fn name(&self) -> &'static str {
        "odd-controller"
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![Scope {
            resource: Resource::new("internal", "things"),
            cluster: None,
            namespace: None,
        }]
    }

    fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
        let key = event.key().unwrap().clone();
        assert_ne!(&*key.name, "unmappable");
        vec![key]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let name = key.name.to_string();
        let first = self.times(&name).is_empty();
        self.seen.lock().push((name.clone(), self.start.elapsed()));
        tracing::debug!("looks");
        assert!(!(first && name == "panics"), "as the test wants it");
        match name.as_str() {
            "fails" if self.times(&name).len() < 4 => Err(Error::NoSuchKind("things")),
            "again" => Ok(Some(Duration::from_secs(10))),
            // Without end, but for who counts.
            "writes" if self.times(&name).len() < 500 => {
                put(&*self.store, &name, &self.times(&name).len().to_string()).await;
                Err(Error::NoSuchKind("things"))
            }
            _ => {
                assert!(self.store.snapshot().get(key).is_some() || name == "gone");
                Ok(None)
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_and_panics_are_tried_again_and_disturb_nobody() {
    let store = Arc::new(MemoryStore::with_incarnation(1));
    for name in ["unmappable", "panics", "fails", "fine"] {
        put(&*store, name, "1").await;
    }
    let odd = Odd::new(&store);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(store.clone(), odd.clone(), stop.clone()));
    odd.looks("fine", 1).await;
    odd.looks("panics", 2).await;
    odd.looks("fails", 4).await;
    let fails = odd.times("fails");
    let gaps: Vec<u64> = fails.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps[0] >= 5 && gaps[1] >= 10 && gaps[2] >= 20, "back-off: {gaps:?}");
    put(&*store, "late", "1").await;
    odd.looks("late", 1).await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_fails_and_writes_what_it_watches_rests_as_well() {
    let store = Arc::new(MemoryStore::with_incarnation(1));
    put(&*store, "writes", "1").await;
    let odd = Odd::new(&store);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(store.clone(), odd.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = odd.times("writes").len();
    assert!((60..75).contains(&tries), "{tries}");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_is_looked_at_again_when_it_asked_for_that() {
    let store = Arc::new(MemoryStore::with_incarnation(1));
    put(&*store, "again", "1").await;
    let odd = Odd::new(&store);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(store.clone(), odd.clone(), stop.clone()));
    odd.looks("again", 3).await;
    let gaps: Vec<u64> = odd.times("again").windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps.iter().all(|gap| (10_000..10_100).contains(gap)), "{gaps:?}");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_of_a_reconcile_says_which_it_is() {
    let said = said::Said::begin();
    let store = Arc::new(MemoryStore::with_incarnation(1));
    put(&*store, "fails", "1").await;
    let odd = Odd::new(&store);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(store.clone(), odd.clone(), stop.clone()));
    odd.looks("fails", 2).await;
    let whose = |name: &str| {
        format!(
            "reconcile{{controller=\"odd-controller\" resource=things.internal cluster=root namespace= name={name}}}"
        )
    };
    for text in ["looks", "will try again"] {
        let lines = said.lines(text);
        assert!(!lines.is_empty(), "{text}");
        assert!(lines.iter().all(|line| line.contains(&whose("fails"))), "{lines:?}");
    }
    put(&*store, "panics", "1").await;
    odd.looks("panics", 2).await;
    let lines = said.lines("panicked");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for text in
        [&*whose("panics"), "as the test wants it", "will try again", "name=panics", "delay=5ms"]
    {
        assert!(line.contains(text), "{text}: {line}");
    }
    stop.cancel();
    task.await.unwrap();
}

/// Follows all that is stored, and counts what it is shown.
struct Walker {
    registries: Arc<Registries>,
    shown: AtomicUsize,
}

#[async_trait]
impl Controller for Walker {
    fn name(&self) -> &'static str {
        "walker-controller"
    }

    fn scopes(&self) -> Vec<Scope> {
        let all = self.registries.stored().storages(|_| true).into_iter();
        all.map(|resource| Scope { resource, cluster: None, namespace: None }).collect()
    }

    fn kinds(&self) -> Option<&Registries> {
        Some(&self.registries)
    }

    fn keys(&self, _: &Event, _: &dyn Snapshot) -> Vec<Key> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    }

    async fn reconcile(&self, _: &Key) -> Result<Option<Duration>, Error> {
        Ok(None)
    }
}

impl Walker {
    async fn shows(&self, count: usize) {
        let enough = async {
            while self.shown.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), enough).await.expect("it is never shown");
    }
}

/// A walker over a store with widgets in some clusters.
struct Walk {
    store: Arc<MemoryStore>,
    walker: Arc<Walker>,
    stop: CancellationToken,
}

impl Walk {
    fn new() -> Self {
        let registries = Arc::new(kinds::registries());
        let walker = Arc::new(Walker { registries, shown: AtomicUsize::new(0) });
        let store = Arc::new(MemoryStore::with_incarnation(1));
        Self { store, walker, stop: CancellationToken::new() }
    }

    fn start(&self) -> JoinHandle<()> {
        tokio::spawn(run(self.store.clone(), self.walker.clone(), self.stop.clone()))
    }

    /// What the cluster's kind is made of; nothing: it has none any more.
    fn define(&self, cluster: &ClusterName, origin: Option<&'static str>) {
        let kind = || Kind::new(Gvk::new("example.com", "v1", "Widget"), "widgets", Plain);
        let made = origin.map(|origin| kind().made_of(origin)).into_iter().collect();
        self.walker.registries.put(cluster, &widgets(), made).unwrap();
    }

    async fn write(&self, operation: Operation) {
        let operations = vec![operation];
        self.store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    async fn put(&self, resource: &Resource, cluster: &ClusterName, name: &str) {
        let object = Object { header: Header::default(), body: "{}".into() };
        let key = Key::new(resource, cluster, "default", name);
        self.write(Operation::Put(key, object)).await;
    }

    async fn delete(&self, resource: &Resource, cluster: &ClusterName, name: &str) {
        self.write(Operation::Delete(Key::new(resource, cluster, "default", name))).await;
    }
}

fn widgets() -> Resource {
    Resource::new("example.com", "widgets")
}

struct Plain;

impl Strategy for Plain {}

#[tokio::test(start_paused = true)]
async fn a_kind_that_comes_costs_what_is_there_of_it_and_one_that_changes_nothing() {
    let walk = Walk::new();
    let pods = Resource::new("", "pods");
    let clusters = ["root", "pi-1", "pi-2"].map(|name| ClusterName::try_from(name).unwrap());
    for (resource, cluster, count) in
        [(&pods, &clusters[0], 500), (&widgets(), &clusters[1], 3), (&widgets(), &clusters[2], 2)]
    {
        for number in 0..count {
            walk.put(resource, cluster, &number.to_string()).await;
        }
    }
    let task = walk.start();
    walk.walker.shows(500).await;
    walk.define(&clusters[1], Some("a"));
    walk.walker.shows(503).await;
    for origin in ["b", "c", "d"] {
        walk.define(&clusters[1], Some(origin));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    walk.define(&clusters[2], Some("a"));
    walk.walker.shows(505).await;
    walk.put(&widgets(), &clusters[2], "new").await;
    walk.walker.shows(506).await;
    assert_eq!(walk.walker.shown.load(Ordering::Relaxed), 506, "nothing is shown twice");
    walk.stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_gone_of_a_kind_is_shown_once_however_often_that_comes() {
    let walk = Walk::new();
    let cluster = ClusterName::try_from("pi-1").unwrap();
    let task = walk.start();
    walk.define(&cluster, Some("a"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..1000 {
        walk.put(&widgets(), &cluster, &number.to_string()).await;
        walk.delete(&widgets(), &cluster, &number.to_string()).await;
    }
    walk.walker.shows(2000).await;
    for _ in 0..2 {
        for origin in [None, Some("a")] {
            walk.define(&cluster, origin);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    assert_eq!(walk.walker.shown.load(Ordering::Relaxed), 2000);
    // What has come and gone before it was looked at again is new.
    walk.define(&cluster, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    walk.define(&cluster, Some("a"));
    walk.put(&widgets(), &cluster, "brief").await;
    walk.delete(&widgets(), &cluster, "brief").await;
    walk.walker.shows(2001).await;
    walk.stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_goes_just_before_its_kind_is_shown() {
    let walk = Walk::new();
    let cluster = ClusterName::try_from("pi-1").unwrap();
    let task = walk.start();
    // Whether the kinds or the events are looked at first is left to chance.
    for round in 0..20 {
        walk.define(&cluster, Some("a"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        walk.put(&widgets(), &cluster, "last").await;
        walk.walker.shows(2 * round + 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        walk.delete(&widgets(), &cluster, "last").await;
        walk.define(&cluster, None);
        walk.walker.shows(2 * round + 2).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(walk.walker.shown.load(Ordering::Relaxed), 40, "and once");
    walk.stop.cancel();
    task.await.unwrap();
}

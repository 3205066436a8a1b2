//! The engine with a controller that misbehaves.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a broken fixture fails its test")]

#[path = "../../../link/tests/said/mod.rs"]
mod said;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_controllers::engine::{Controller, Error, run};
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Event, Operation, Scope, Snapshot, Store, Txn};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn key(name: &str) -> Key {
    Key::new(&Resource::new("internal", "things"), &ClusterName::root(), "", name)
}

async fn put(store: &dyn Store, name: &str, body: &'static str) {
    let object = Object { header: Header::default(), body: body.into() };
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
    let whose = "reconcile{controller=\"odd-controller\" resource=things.internal cluster=root namespace= name=fails}";
    for text in ["looks", "will try again"] {
        let lines = said.lines(text);
        assert!(!lines.is_empty(), "{text}");
        assert!(lines.iter().all(|line| line.contains(whose)), "{lines:?}");
    }
    stop.cancel();
    task.await.unwrap();
}

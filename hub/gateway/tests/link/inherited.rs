//! Sessions that an earlier start of the hub has left in the store.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::*;

/// A store that takes no ends of sessions while it is told so, and counts the transactions that have some.
struct Ends(MemoryStore, Arc<AtomicBool>, Arc<AtomicUsize>);

#[async_trait]
impl Layer for Ends {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let ends = |operation: &Operation| {
            let Operation::Put(key, object) = operation else { return false };
            let text = String::from_utf8_lossy(&object.body);
            key.resource == internal::sessions() && text.contains(r#""connected":false"#)
        };
        if txn.operations.iter().any(ends) {
            if self.1.load(Ordering::Relaxed) {
                return Err(CommitError::Unavailable("no space left on device".into()));
            }
            self.2.fetch_add(1, Ordering::Relaxed);
        }
        self.0.commit(txn).await
    }
}

struct Bench {
    hub: Hub,
    full: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
}

async fn bench() -> Bench {
    let (full, written) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let store = Ends(MemoryStore::with_incarnation(7), full.clone(), written.clone());
    let hub = Hub::over(Arc::new(store), true, None).await;
    Bench { hub, full, written }
}

impl Bench {
    /// A session of this name that an earlier start has left.
    async fn left(&self, name: &str, uid: &str, hub: &str) {
        let session = SessionRecord {
            hub: hub.into(),
            epoch: 5,
            connected: true,
            since: 0,
            uid: uid.into(),
            life: (0, 1),
            late: false,
            reported: None,
        };
        let key = Key::new(&internal::sessions(), &ClusterName::root(), "", name);
        let body = serde_json::to_vec(&session).unwrap().into();
        let operations = vec![Operation::Put(key, Object { header: Header::default(), body })];
        let txn = Txn { expect: Vec::new(), operations };
        self.hub.objects.store().commit(txn).await.unwrap();
    }

    fn up(&self) -> Vec<String> {
        let scope = Scope { resource: internal::sessions(), cluster: None, namespace: None };
        let snapshot = self.hub.objects.store().snapshot();
        let up = snapshot
            .range(&scope, None)
            .filter(|stored| SessionRecord::read(stored).unwrap().connected);
        up.map(|stored| stored.key.name.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_of_an_earlier_life_end_in_batches_also_while_the_disk_is_full() {
    let bench = bench().await;
    for number in 0..1000 {
        bench.left(&format!("pi-{number}"), "one", "hub").await;
    }
    bench.left("elsewhere", "one", "another").await;
    bench.hub.listen().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.up().len(), 1001, "nothing can be written");
    bench.full.store(false, Ordering::Relaxed);
    eventually("all of them have ended", || bench.up() == ["elsewhere"]).await;
    assert_eq!(bench.written.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn who_is_back_before_its_old_session_is_ended_stays() {
    let bench = bench().await;
    let identity = bench.hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let uid = bench.hub.get(CLUSTERS, "", "pi-7").await["metadata"]["uid"].clone();
    bench.left("pi-7", uid.as_str().unwrap(), "hub").await;
    bench.left("pi-8", "another", "hub").await;
    bench.hub.listen().await;
    let link = bench.hub.connect(ALPN_SESSION, Some(CertificateDer::from(identity)));
    let mut session = greet(&*link, hello("pi-7")).await;
    let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
    assert_eq!(welcome.epoch, 6, "after the one that was left");
    bench.full.store(false, Ordering::Relaxed);
    eventually("the other one has ended", || bench.up() == ["pi-7"]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.up(), ["pi-7"]);
    assert_eq!(bench.hub.gateway.connected().len(), 1);
}

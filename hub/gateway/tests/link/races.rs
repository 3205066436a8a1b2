//! Sessions of one spoke that open side by side, and openings that fail half way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::support::*;

/// What the store does with the next session that opens.
#[derive(Default)]
struct Openings {
    /// Its answer comes when the test says so.
    slow: AtomicBool,
    /// It cannot be written, and never will be.
    fails: AtomicBool,
    /// The disk fails at it, and it is written nowhere.
    full: AtomicBool,
    /// It waits in line, whoever asked for it waits or not, until the test says so.
    waits: AtomicBool,
    /// The disk fails, and goes on failing: the first that was to be written is in the file all the same.
    sick: AtomicBool,
    in_the_file: Mutex<Option<Txn>>,
    line: tokio::sync::Mutex<()>,
    written: Notify,
    answers: Notify,
}

struct Sessions(Arc<MemoryStore>, Arc<Openings>);

impl Sessions {
    /// Writes in line: what has been asked for is written, whether anybody still waits for it or not.
    async fn in_line(&self, txn: Txn) -> Result<Committed, CommitError> {
        let (store, openings) = (self.0.clone(), self.1.clone());
        let write = async move {
            let _turn = openings.line.lock().await;
            if openings.waits.swap(false, Ordering::Relaxed) {
                openings.written.notify_one();
                openings.answers.notified().await;
            }
            store.commit(txn).await
        };
        tokio::spawn(write).await.unwrap()
    }
}

fn failed() -> CommitError {
    CommitError::Unavailable("input/output error".into())
}

fn opens(txn: &Txn) -> bool {
    let session = |operation: &Operation| matches!(operation, Operation::Put(key, _) if key.resource == internal::sessions());
    txn.operations.iter().any(session)
}

#[async_trait]
impl Layer for Sessions {
    fn below(&self) -> &dyn Store {
        &*self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let opens = opens(&txn);
        if opens && self.1.fails.swap(false, Ordering::Relaxed) {
            return Err(CommitError::Stopped);
        }
        if opens && self.1.full.swap(false, Ordering::Relaxed) {
            return Err(failed());
        }
        if opens && self.1.sick.load(Ordering::Relaxed) {
            self.1.in_the_file.lock().unwrap().get_or_insert(txn);
            return Err(failed());
        }
        let slow = opens && self.1.slow.swap(false, Ordering::Relaxed);
        let committed = if opens { self.in_line(txn).await } else { self.0.commit(txn).await };
        if slow {
            self.1.written.notify_one();
            self.1.answers.notified().await;
        }
        committed
    }
}

async fn hub() -> (Hub, Arc<Openings>, CertificateDer<'static>) {
    let (hub, openings, identity, _) = hub_over().await;
    (hub, openings, identity)
}

async fn hub_over() -> (Hub, Arc<Openings>, CertificateDer<'static>, Arc<MemoryStore>) {
    let openings = Arc::new(Openings::default());
    let disk = Arc::new(MemoryStore::with_incarnation(7));
    let store = Sessions(disk.clone(), openings.clone());
    let hub = Hub::over(Arc::new(store), true, None).await;
    hub.listen().await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    (hub, openings, CertificateDer::from(accepted.certificate), disk)
}

/// Whether the store says that the first session of pi-7 is over.
fn is_over(hub: &Hub) -> bool {
    let name = ClusterName::try_from("pi-7").unwrap();
    let session = SessionRecord::of(&*hub.objects.store().snapshot(), name.as_str());
    session.is_some_and(|session| session.epoch == 1 && !session.connected)
}

#[tokio::test]
async fn a_session_whose_beginning_is_in_line_when_it_ends_is_over() {
    let (hub, openings, identity) = hub().await;
    openings.full.store(true, Ordering::Relaxed);
    openings.waits.store(true, Ordering::Relaxed);
    let link = hub.connect(ALPN_SESSION, Some(identity));
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    openings.written.notified().await;
    link.close(0, "gone");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;
    openings.answers.notify_one();
    eventually("the store says so", || is_over(&hub)).await;
    hub.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_beginning_turns_up_in_the_file_after_its_end_is_over() {
    let (hub, openings, identity, disk) = hub_over().await;
    openings.sick.store(true, Ordering::Relaxed);
    let link = hub.connect(ALPN_SESSION, Some(identity));
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    link.close(0, "gone");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let found = openings.in_the_file.lock().unwrap().take().unwrap();
    disk.commit(found).await.unwrap();
    openings.sick.store(false, Ordering::Relaxed);
    eventually("the store says so", || is_over(&hub)).await;
    hub.stop.cancel();
}

#[tokio::test]
async fn of_sessions_that_open_at_the_same_time_the_newest_is_in_force_and_hears_of_changes() {
    let (hub, openings, identity) = hub().await;
    openings.slow.store(true, Ordering::Relaxed);
    let older = hub.connect(ALPN_SESSION, Some(identity.clone()));
    let _older = greet(&*older, hello("pi-7")).await;
    openings.written.notified().await;
    let newer = hub.connect(ALPN_SESSION, Some(identity));
    let mut session = greet(&*newer, hello("pi-7")).await;
    let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
    assert_eq!(welcome.epoch, 2);
    let mut holder = Holder::default();
    holder.settle(&mut session).await;

    openings.answers.notify_one();
    let closed = tokio::time::timeout(Duration::from_secs(10), older.closed()).await.unwrap();
    assert!(matches!(closed, Closed::ByPeer { code: code::SUPERSEDED, .. }), "{closed:?}");
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let plan = holder.plan(&mut session).await;
    assert!(plan.put.iter().any(|record| record.key.kind == Kind::POD_V1), "{plan:?}");
    let name = ClusterName::try_from("pi-7").unwrap();
    let written = SessionRecord::of(&*hub.objects.store().snapshot(), name.as_str()).unwrap();
    assert_eq!((written.epoch, written.connected), (2, true));
    hub.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_session_never_opened_is_no_twin() {
    let (hub, openings, identity) = hub().await;
    let greeted = async |instance| {
        let (near, far) = memory_transport::pair();
        far.show_certificate(identity.clone());
        hub.serve(far.clone(), ALPN_SESSION);
        let session = greet(&*near, HelloV1 { instance, ..hello("pi-7") }).await;
        (near, far, session)
    };
    let (_one, cut, mut session) = greeted(1).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    // Its link is cut, which the hub has not noticed: the second seems to be its next process.
    cut.hear_nothing();
    openings.fails.store(true, Ordering::Relaxed);
    let (two, _, _session) = greeted(2).await;
    let closed = tokio::time::timeout(Duration::from_secs(10), two.closed()).await.unwrap();
    assert!(matches!(closed, Closed::ByPeer { code: code::STOPPING, .. }), "{closed:?}");
    let (_again, _, mut session) = greeted(1).await;
    let word = heard(&mut session).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)), "{word:?}");
    hub.stop.cancel();
}

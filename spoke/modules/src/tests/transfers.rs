//! Many modules at a time: what waits for the hub's compiler, and what comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::store::TRANSFERS_AT_ONCE;

fn store_of(dir: &Path, fetch: Arc<dyn Fetch>) -> (Store, mpsc::Receiver<Input>) {
    let (inputs, queue) = mpsc::channel(64);
    let store = Store::open(Setup {
        dir: dir.to_owned(),
        profile: PROFILE,
        root: public(&key(1)),
        fetch,
        inputs,
        disk: Arc::new(|| (100 << 30, 50 << 30)),
        runtime: tokio::runtime::Handle::current(),
    });
    (store, queue)
}

fn numbered(number: usize) -> Digest {
    Digest::of(format!("number {number}").as_bytes())
}

async fn next(queue: &mut mpsc::Receiver<Input>) -> (Digest, Result<PathBuf, (String, String)>) {
    let answer = tokio::time::timeout(Duration::from_secs(20), queue.recv()).await.unwrap();
    let Some(Input::Module(digest, outcome)) = answer else { panic!("{answer:?}") };
    (digest, outcome)
}

/// A hub whose compiler comes to an end with one module only.
struct SlowCompiler {
    hub: Hub,
    waiting: Arc<AtomicUsize>,
}

#[async_trait]
impl Fetch for SlowCompiler {
    async fn fetch(
        &self,
        asked: Digest,
        profile: Profile,
        sink: &mut dyn Sink,
    ) -> Result<ModuleHeaderV1, FetchError> {
        if asked != component() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        self.hub.fetch(asked, profile, sink).await
    }
}

#[tokio::test(start_paused = true)]
async fn modules_that_are_being_compiled_hold_up_none_that_is_ready() {
    for slow in [TRANSFERS_AT_ONCE, 16] {
        let dir = tempfile::tempdir().unwrap();
        let waiting = Arc::<AtomicUsize>::default();
        let compiler = SlowCompiler { hub: hub(), waiting: waiting.clone() };
        let (store, mut queue) = store_of(dir.path(), Arc::new(compiler));
        for number in 0..slow {
            assert_eq!(store.want(numbered(number)), None);
        }
        eventually(|| TRANSFERS_AT_ONCE <= waiting.load(Ordering::Relaxed)).await;
        assert_eq!(store.want(component()), None);
        let (digest, outcome) = next(&mut queue).await;
        assert_eq!(digest, component(), "{slow} wait");
        outcome.unwrap();
    }
}

/// A hub that has everything, and sends of each the first piece before somebody lets it go on.
struct Piecewise {
    hub: Hub,
    /// The first is cut behind its header, and asked for no more.
    cuts: bool,
    asked: AtomicUsize,
    begun: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    goes_on: Semaphore,
}

impl Piecewise {
    fn new(cuts: bool) -> Arc<Self> {
        let none = AtomicUsize::default;
        let (asked, begun, open, most) = (none(), none(), none(), none());
        let goes_on = Semaphore::new(0);
        Arc::new(Self { hub: hub(), cuts, asked, begun, open, most, goes_on })
    }
}

struct Shared(Arc<Piecewise>);

#[async_trait]
impl Fetch for Shared {
    async fn fetch(
        &self,
        asked: Digest,
        _: Profile,
        sink: &mut dyn Sink,
    ) -> Result<ModuleHeaderV1, FetchError> {
        let hub = &self.0;
        let header = hub.hub.header(asked);
        hub.asked.fetch_add(1, Ordering::Relaxed);
        sink.begin(&header).await.map_err(FetchError::Sink)?;
        let number = hub.begun.fetch_add(1, Ordering::Relaxed);
        if hub.cuts && number == 0 {
            sink.cut();
            std::future::pending::<()>().await;
        }
        let open = hub.open.fetch_add(1, Ordering::Relaxed) + 1;
        hub.most.fetch_max(open, Ordering::Relaxed);
        drop(hub.goes_on.acquire().await.unwrap());
        for piece in hub.hub.packed.chunks(50) {
            sink.write(piece).await.map_err(FetchError::Sink)?;
        }
        hub.open.fetch_sub(1, Ordering::Relaxed);
        Ok(header)
    }
}

#[tokio::test(start_paused = true)]
async fn a_few_modules_come_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Piecewise::new(false);
    let (store, mut queue) = store_of(dir.path(), Arc::new(Shared(hub.clone())));
    for number in 0..TRANSFERS_AT_ONCE + 3 {
        assert_eq!(store.want(numbered(number)), None);
    }
    // All are asked for, and who is not let begin by now waits for a place.
    eventually(|| hub.asked.load(Ordering::Relaxed) == TRANSFERS_AT_ONCE + 3).await;
    eventually(|| TRANSFERS_AT_ONCE <= hub.begun.load(Ordering::Relaxed)).await;
    hub.goes_on.add_permits(1);
    for _ in 0..TRANSFERS_AT_ONCE + 3 {
        next(&mut queue).await.1.unwrap();
    }
    assert_eq!(hub.most.load(Ordering::Relaxed), TRANSFERS_AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_was_cut_leaves_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Piecewise::new(true);
    let (store, _queue) = store_of(dir.path(), Arc::new(Shared(hub.clone())));
    for number in 0..=TRANSFERS_AT_ONCE {
        assert_eq!(store.want(numbered(number)), None);
    }
    eventually(|| hub.open.load(Ordering::Relaxed) == TRANSFERS_AT_ONCE).await;
}

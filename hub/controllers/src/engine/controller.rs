//! One controller: its informer and its workers.
//!
//! Guarantees:
//! - what is logged while a key is worked on says which one, and whose work it is
//!   (`what_is_logged_of_a_reconcile_says_which_it_is`);
//! - kinds that change are no reason to read the store, and of one that comes to a cluster what that cluster has of it
//!   is read alone (`a_kind_that_comes_costs_what_is_there_of_it_and_one_that_changes_nothing`), without the past that
//!   was read when it was the present (`what_has_gone_of_a_kind_is_shown_once_however_often_that_comes`);
//! - what goes is read also where its kind goes right behind it (`what_goes_just_before_its_kind_is_shown`).

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::registry::{Registries, StoredKinds};
use freewheel_hub_store::{Compacted, Event, Revision, Scope, Snapshot, Store, Watch};
use freewheel_link::names::ClusterName;
use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, error, info, warn};

use super::queue::{BACKOFF_MAX, Failed};
use super::{Error, Queue, panicked};

/// How long the informer waits before it reads the store anew after it fell behind.
const RELIST_PAUSE: Duration = Duration::from_millis(100);
/// And at most, after it panicked again and again.
const REINFORM_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Objects that are read in one go: others have their turn as well.
const READ_AT_ONCE: usize = 1024;
/// Workers of any controller.
const WORKERS_MIN: usize = 2;

/// Observes, decides and applies for one key at a time.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// `replicaset-controller`: in logs, events and as the writer's name.
    fn name(&self) -> &'static str;

    /// What it watches; empty: everything.
    fn scopes(&self) -> Vec<Scope>;

    /// The registries, when its scopes are of every kind that there is: whenever a storage comes or goes, they are asked
    /// for again, and what is there of one that came to a cluster is read.
    fn kinds(&self) -> Option<&Registries> {
        None
    }

    /// The keys that a change of one object touches. Called for every event in order, and at start
    /// (after falling behind, and when its cluster gets its kind) once per object as if it had just been created.
    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key>;

    /// Brings the world closer to what the key's object asks for. `Some`: look again after that.
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error>;

    /// Keys that are looked at once at start though nothing may be stored for them yet.
    fn first(&self) -> Vec<Key> {
        Vec::new()
    }

    /// Keys that something outside of the store concerns, when there is such a thing. Cancel safe.
    async fn outside(&self) -> Vec<Key> {
        std::future::pending().await
    }

    /// How many keys are worked on at the same time: two at least, so that one cluster's turn leaves somebody to others.
    fn workers(&self) -> usize {
        WORKERS_MIN
    }

    /// What may have waited for a kind that a cluster had none of, and whose objects cannot tell.
    fn of_new_storage(&self, _cluster: &ClusterName, _now: &dyn Snapshot) -> Vec<Key> {
        Vec::new()
    }

    /// How long a key waits at most that failed again and again.
    fn longest_backoff(&self) -> Duration {
        BACKOFF_MAX
    }
}

/// Runs a controller until `stop`.
pub async fn run(store: Arc<dyn Store>, controller: Arc<dyn Controller>, stop: CancellationToken) {
    run_over(store, (controller, Arc::default()), stop).await;
}

/// The same over a queue that others look at.
pub(crate) async fn run_over(
    store: Arc<dyn Store>,
    (controller, queue): (Arc<dyn Controller>, Arc<Queue>),
    stop: CancellationToken,
) {
    let (mut tasks, workers) = (JoinSet::new(), controller.workers().max(WORKERS_MIN));
    queue.has_workers(workers);
    for _ in 0..workers {
        tasks.spawn(work(controller.clone(), queue.clone(), stop.clone()));
    }
    let name = controller.name();
    tasks.spawn(keep_informed(store, controller, queue, stop));
    while let Some(ended) = tasks.join_next().await {
        if let Err(died) = ended {
            error!(controller = name, error = %died, "a part of a controller is gone");
        }
    }
}

/// Informs until `stop`, from the beginning after each panic.
async fn keep_informed(
    store: Arc<dyn Store>,
    controller: Arc<dyn Controller>,
    queue: Arc<Queue>,
    stop: CancellationToken,
) {
    let mut pause = RELIST_PAUSE;
    loop {
        let informs = inform(store.clone(), controller.clone(), queue.clone(), stop.clone());
        let Err(panic) = AssertUnwindSafe(informs).catch_unwind().await else { return };
        queue.count_panic();
        let (controller, panic) = (controller.name(), panicked::words(&*panic));
        error!(controller, ?panic, ?pause, "panicked; will read everything anew");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(REINFORM_PAUSE_MAX),
        }
    }
}

async fn inform(
    store: Arc<dyn Store>,
    controller: Arc<dyn Controller>,
    queue: Arc<Queue>,
    stop: CancellationToken,
) {
    controller.first().into_iter().for_each(|key| queue.add(key));
    let mut kinds = controller.kinds().map(|kinds| FollowedKinds::new(&*store, kinds));
    while !stop.is_cancelled() {
        let mut scopes = controller.scopes();
        let (snapshot, mut watch) = store.follow(scopes.clone());
        for scope in &scopes {
            read(&*snapshot, scope, (&*controller, &queue)).await;
        }
        drop(snapshot);
        loop {
            let events = tokio::select! {
                () = stop.cancelled() => return,
                keys = controller.outside() => {
                    keys.into_iter().for_each(|key| queue.add(key));
                    continue;
                }
                came = storages_came(&*store, &mut kinds) => {
                    let followed = (&mut scopes, &mut watch);
                    if refollow(&*store, followed, came, (&*controller, &queue)).await.is_err() {
                        break;
                    }
                    continue;
                }
                events = watch.next() => events,
            };
            let Ok(events) = events else { break };
            let now = store.snapshot();
            for event in &events {
                enqueue(&*controller, event, &*now, &queue);
            }
            tokio::task::yield_now().await;
        }
        drop(watch);
        info!(controller = controller.name(), "fell behind the store and reads it anew");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RELIST_PAUSE) => {}
        }
    }
}

/// The kinds whose objects are followed.
struct FollowedKinds<'a> {
    registries: &'a Registries,
    changes: watch::Receiver<u64>,
    known: StoredKinds,
    /// The store's, or one before it, when it was last looked at them.
    seen: Revision,
    /// When that was: one cluster's may come and go all the time.
    looked: Instant,
}

impl<'a> FollowedKinds<'a> {
    fn new(store: &dyn Store, registries: &'a Registries) -> Self {
        // Whatever comes after the receiver is a change, also where it is known already.
        let (changes, seen) = (registries.changes(), store.snapshot().revision());
        Self { registries, changes, known: registries.stored(), seen, looked: Instant::now() }
    }
}

/// A revision at which none of these storages was there, and which came to which cluster.
type Came = (Revision, Vec<(ClusterName, Resource)>);

/// Ready when a storage came or went, with those that came; never without registries. Cancel safe.
async fn storages_came(store: &dyn Store, kinds: &mut Option<FollowedKinds<'_>>) -> Came {
    if let Some(kinds) = kinds {
        tokio::time::sleep_until(kinds.looked + RELIST_PAUSE).await;
        if kinds.changes.changed().await.is_ok() {
            let since = std::mem::replace(&mut kinds.seen, store.snapshot().revision());
            let now = kinds.registries.stored();
            let came = now.came_since(&kinds.known);
            (kinds.known, kinds.looked) = (now, Instant::now());
            return (since, came);
        }
    }
    std::future::pending().await
}

/// Follows what the controller wants to follow now, and enqueues what there is and was of the storages that came.
async fn refollow(
    store: &dyn Store,
    (scopes, watch): (&mut Vec<Scope>, &mut Box<dyn Watch>),
    (since, came): Came,
    (controller, queue): (&dyn Controller, &Queue),
) -> Result<(), Compacted> {
    let now = controller.scopes();
    if now != *scopes {
        // A storage that went was emptied before, which may not have been read yet.
        catch_up(store, &mut **watch, |_| true, (controller, queue)).await?;
        *watch = store.watch(now.clone(), watch.progress())?;
        *scopes = now;
    }
    let clusters: BTreeSet<&ClusterName> = came.iter().map(|(cluster, _)| cluster).collect();
    for cluster in clusters {
        let waited = controller.of_new_storage(cluster, &*store.snapshot());
        waited.into_iter().for_each(|key| queue.add(key));
    }
    for (cluster, resource) in came {
        let scope = Scope { resource, cluster: Some(cluster), namespace: None };
        read_past(store, (&scope, since), (controller, queue)).await;
        read(&*store.snapshot(), &scope, (controller, queue)).await;
    }
    Ok(())
}

/// Enqueues what of these events was published by now.
async fn catch_up(
    store: &dyn Store,
    watch: &mut dyn Watch,
    wanted: fn(&Event) -> bool,
    (controller, queue): (&dyn Controller, &Queue),
) -> Result<(), Compacted> {
    let published = store.snapshot().revision();
    while watch.progress() < published
        && let Some(read) = watch.next().now_or_never()
    {
        let (events, now) = (read?, store.snapshot());
        let wanted = events.iter().filter(|event| wanted(event));
        wanted.for_each(|event| enqueue(controller, event, &*now, queue));
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Enqueues what has gone since then where nobody looked: it may have come and gone before it was followed.
async fn read_past(
    store: &dyn Store,
    (scope, since): (&Scope, Revision),
    (controller, queue): (&dyn Controller, &Queue),
) {
    let from = |revision| store.watch(vec![scope.clone()], revision);
    let Ok(mut past) = from(since).or_else(|dropped| from(dropped.oldest)) else { return };
    let gone = |event: &Event| event.now.is_none();
    // What is kept no more is read by nobody, then as before.
    let _ = catch_up(store, &mut *past, gone, (controller, queue)).await;
}

/// Enqueues what is there.
async fn read(
    snapshot: &dyn Snapshot,
    scope: &Scope,
    (controller, queue): (&dyn Controller, &Queue),
) {
    for (before, stored) in snapshot.range(scope, None).enumerate() {
        if before % READ_AT_ONCE == READ_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let event = Event { revision: stored.revision, now: Some(stored), before: None };
        enqueue(controller, &event, snapshot, queue);
    }
}

fn enqueue(controller: &dyn Controller, event: &Event, now: &dyn Snapshot, queue: &Queue) {
    // A mistake in one controller's mapping must not end its informer.
    match std::panic::catch_unwind(AssertUnwindSafe(|| controller.keys(event, now))) {
        Ok(keys) => keys.into_iter().for_each(|key| queue.add(key)),
        Err(panic) => {
            queue.count_panic();
            let (controller, panic) = (controller.name(), panicked::words(&*panic));
            error!(controller, key = ?event.key(), ?panic, "panicked over an event");
        }
    }
}

async fn work(controller: Arc<dyn Controller>, queue: Arc<Queue>, stop: CancellationToken) {
    loop {
        let key = tokio::select! {
            () = stop.cancelled() => return,
            key = queue.next() => key,
        };
        // With the usual filter nobody looks at it, and it is not made.
        let span = debug_span!(
            "reconcile", controller = controller.name(), resource = %key.resource, cluster = %key.cluster,
            namespace = %key.namespace, name = %key.name
        );
        let began = Instant::now();
        let reconciled = AssertUnwindSafe(controller.reconcile(&key)).catch_unwind();
        let outcome = reconciled.instrument(span.clone()).await;
        queue.work.observe(began.elapsed());
        span.in_scope(|| settle(&*controller, &queue, &key, outcome));
        queue.done(&key);
    }
}

/// When the key's turn comes again.
fn settle(
    controller: &dyn Controller,
    queue: &Queue,
    key: &Key,
    outcome: std::thread::Result<Result<Option<Duration>, Error>>,
) {
    let longest = controller.longest_backoff();
    let controller = controller.name();
    match outcome {
        Ok(Ok(again)) => {
            queue.forget(key);
            if let Some(delay) = again {
                queue.add_after(key.clone(), delay);
            }
        }
        Ok(Err(Error::Refused(why))) => {
            queue.forget(key);
            debug!(error = %why, "cannot act on it");
        }
        // It is neither done nor has it failed: its back-off stays as it is.
        Ok(Err(Error::Later)) => {}
        Ok(Err(failed)) => {
            let race = failed.is_race();
            let Failed { delay, is_news } = queue.add_failed(key.clone(), longest);
            if let Error::Partly { look_again: Some(sooner), .. }
            | Error::Left { look_again: Some(sooner), .. } = failed
            {
                queue.add_after(key.clone(), sooner);
            }
            if race || !is_news {
                debug!(?delay, error = %failed.chain(), "tries again");
            } else {
                warn!(controller, cluster = %key.cluster, name = %key.name, namespace = %key.namespace, ?delay,
                    error = %failed.chain(), "will try again");
            }
        }
        Err(panic) => {
            queue.count_panic();
            let Failed { delay, .. } = queue.add_failed(key.clone(), longest);
            error!(controller, resource = %key.resource, cluster = %key.cluster, name = %key.name,
                namespace = %key.namespace, ?delay, panic = ?panicked::words(&*panic),
                "panicked; will try again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use freewheel_hub_schema::object::{Header, Object};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Operation, Txn};

    use super::*;

    /// Panics once in everything that it is asked.
    #[derive(Default)]
    struct Panics {
        scoped: AtomicUsize,
        keyed: AtomicUsize,
        looked: AtomicUsize,
    }

    fn once(times: &AtomicUsize) {
        assert_ne!(times.fetch_add(1, Ordering::Relaxed), 0, "as the test wants it");
    }

    #[async_trait]
    impl Controller for Panics {
        fn name(&self) -> &'static str {
            "panics"
        }

        fn scopes(&self) -> Vec<Scope> {
            once(&self.scoped);
            vec![Scope {
                resource: Resource::new("internal", "things"),
                cluster: None,
                namespace: None,
            }]
        }

        fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
            once(&self.keyed);
            event.key().cloned().into_iter().collect()
        }

        async fn reconcile(&self, _: &Key) -> Result<Option<Duration>, Error> {
            once(&self.looked);
            Ok(None)
        }
    }

    async fn put(store: &MemoryStore, name: &str) {
        let key = Key::new(&Resource::new("internal", "things"), &ClusterName::root(), "", name);
        let object = Object { header: Header::default(), body: "1".into() };
        let operations = vec![Operation::Put(key, object)];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_panics_is_counted_and_goes_on() {
        let store = Arc::new(MemoryStore::with_incarnation(1));
        put(&store, "a").await;
        let (panics, queue, stop) =
            (Arc::new(Panics::default()), Arc::new(Queue::default()), CancellationToken::new());
        let run = run_over(store.clone(), (panics.clone(), queue.clone()), stop.clone());
        let run = tokio::spawn(run);
        tokio::time::sleep(Duration::from_secs(1)).await;
        put(&store, "b").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(panics.looked.load(Ordering::Relaxed), 2, "once more, after its back-off");
        assert_eq!((queue.counts().panics, queue.counts().retries), (3, 1));
        stop.cancel();
        run.await.unwrap();
    }
}

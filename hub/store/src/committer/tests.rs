//! The writer over a disk that is told how each write ends.

use std::collections::BTreeMap;
use std::sync::mpsc;

use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_link::names::ClusterName;
use futures::FutureExt;
use serde_json::json;

use super::*;
use crate::history::Limits;
use crate::{Expect, Operation, Scope, Snapshot};

/// A disk that does each write when it is told how that ends.
struct Told {
    told: mpsc::Receiver<Result<(), Failure>>,
    begin: mpsc::Sender<Revision>,
    doubtful: Vec<Event>,
}

/// How a write ends that may be on disk or not.
const IN_DOUBT: &str = "in doubt";

impl Log for Told {
    fn write(&mut self, events: &[Event], revision: Revision) -> Result<(), Failure> {
        self.begin.send(revision).unwrap();
        let outcome = self.told.recv().unwrap();
        match &outcome {
            Err(Failure::Refused(why)) if why == IN_DOUBT => self.doubtful = events.to_vec(),
            // As long as nothing can be read, nothing is known.
            Err(Failure::Refused(_)) => {}
            Err(Failure::Found(_)) | Ok(()) => self.doubtful.clear(),
        }
        outcome
    }

    fn reseal(&mut self, _: &[u8]) -> Result<Resealed, Failure> {
        Ok(Resealed { next: None, rewritten: 0, lost: None })
    }

    fn count_spare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn doubtful(&self) -> &[Event] {
        &self.doubtful
    }
}

/// The writer's end waits for nobody: what it is told by goes first.
struct Bench {
    tell: mpsc::Sender<Result<(), Failure>>,
    begun: mpsc::Receiver<Revision>,
    cache: Arc<WatchCache>,
    committer: Committer,
}

fn bench() -> Bench {
    let (tell, told) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let cache = WatchCache::new(StoreState::default(), Limits::default());
    let log = Told { told, begin, doubtful: Vec::new() };
    let committer = Committer::start(Arc::clone(&cache), log).unwrap();
    Bench { tell, begun, cache, committer }
}

fn pods() -> Scope {
    Scope { resource: Resource::new("", "pods"), cluster: None, namespace: None }
}

fn key(name: &str) -> Key {
    Key::new(&Resource::new("", "pods"), &ClusterName::root(), "default", name)
}

fn create(name: &str) -> Txn {
    let object = Object::from_value(json!({"metadata": {"name": name}}), BTreeMap::new());
    let operations = vec![Operation::Put(key(name), object.unwrap())];
    Txn { expect: vec![Expect::Absent(key(name))], operations }
}

/// Marked by an object of its own.
fn skip(beyond: Revision) -> Skip {
    let mark = create("mark").operations.pop();
    Skip { beyond, mark }
}

#[tokio::test]
async fn nothing_is_answered_or_seen_before_it_is_durable() {
    let bench = bench();
    let mut first = Box::pin(bench.committer.commit(create("a")));
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(bench.begun.recv().unwrap(), 1);
    // This one is refused because of the first, and must not say so yet.
    let mut again = Box::pin(bench.committer.commit(create("a")));
    assert!((&mut again).now_or_never().is_none());
    assert_eq!(bench.cache.state().revision(), 0);
    bench.tell.send(Ok(())).unwrap();
    assert_eq!(first.await.unwrap().revision, 1);
    assert!(matches!(again.await, Err(CommitError::Unmet { index: 0, .. })));
    assert!(bench.cache.state().get(&key("a")).is_some());
}

#[tokio::test]
async fn what_was_relied_upon_is_durable_before_it_is_answered() {
    let bench = bench();
    let mut first = Box::pin(bench.committer.commit(create("a")));
    assert!((&mut first).now_or_never().is_none());
    bench.begun.recv().unwrap();
    bench.tell.send(Ok(())).unwrap();
    first.await.unwrap();
    let mut second = Box::pin(bench.committer.commit(create("b")));
    assert!((&mut second).now_or_never().is_none());
    bench.begun.recv().unwrap();
    // It changes nothing, and says yes because of what may yet be lost.
    let relies = |on: &str| Txn {
        expect: vec![Expect::Present(key(on))],
        operations: create("a").operations,
    };
    let mut upon = Box::pin(bench.committer.commit(relies("b")));
    assert!((&mut upon).now_or_never().is_none());
    let upon_old = bench.committer.commit(relies("a")).now_or_never();
    assert!(upon_old.expect("that is durable").is_ok());
    bench.tell.send(Err(Failure::Refused("full".to_owned()))).unwrap();
    assert!(second.await.is_err());
    assert!(matches!(upon.await, Err(CommitError::Unavailable(_))));
}

#[tokio::test]
async fn while_one_batch_is_written_the_next_gathers() {
    let bench = bench();
    let mut first = Box::pin(bench.committer.commit(create("first")));
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(bench.begun.recv().unwrap(), 1);
    let mut rest: Vec<_> =
        (0..63).map(|i| Box::pin(bench.committer.commit(create(&format!("p{i}"))))).collect();
    for commit in &mut rest {
        assert!(commit.now_or_never().is_none());
    }
    bench.tell.send(Ok(())).unwrap();
    assert_eq!(bench.begun.recv().unwrap(), 64, "the rest are one write");
    bench.tell.send(Ok(())).unwrap();
    let all = futures::future::join_all(rest).await;
    assert!(all.into_iter().map(|done| done.unwrap().revision).eq(2..=64));
}

#[tokio::test]
async fn a_lost_batch_takes_along_what_was_built_upon_it() {
    let bench = bench();
    let mut lost = Box::pin(bench.committer.commit(create("a")));
    assert!((&mut lost).now_or_never().is_none());
    bench.begun.recv().unwrap();
    let mut upon = Box::pin(bench.committer.commit(create("b")));
    assert!((&mut upon).now_or_never().is_none());
    bench.tell.send(Err(Failure::Refused("full".to_owned()))).unwrap();
    assert!(matches!(lost.await, Err(CommitError::Unavailable(why)) if why == "full"));
    assert!(matches!(upon.await, Err(CommitError::Unavailable(_))));
    bench.tell.send(Ok(())).unwrap();
    assert_eq!(bench.committer.commit(create("a")).await.unwrap().revision, 1);
    assert!(bench.cache.state().get(&key("b")).is_none());
}

#[test]
fn watchers_hear_also_when_the_runtime_that_wrote_has_ended() {
    let Bench { cache, committer, tell, begun } = bench();
    let theirs = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let ours = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut watch = cache.watch(Vec::new(), 0).unwrap();
    let mut next = watch.next();
    ours.block_on(async { assert!((&mut next).now_or_never().is_none()) });
    let committer = Arc::new(committer);
    let writer = Arc::clone(&committer);
    drop(theirs.spawn(async move { writer.commit(create("a")).await }));
    assert_eq!(begun.recv().unwrap(), 1);
    theirs.shutdown_background();
    tell.send(Ok(())).unwrap();
    let bound = std::time::Duration::from_secs(10);
    let events = ours.block_on(async { tokio::time::timeout(bound, next).await });
    assert_eq!(events.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_writer_that_died_leaves_nobody_waiting() {
    let Bench { committer, tell, .. } = bench();
    drop(tell);
    for _ in 0..3 {
        let outcome = committer.commit(create("a")).await;
        assert!(matches!(outcome, Err(CommitError::Stopped)));
    }
}

#[tokio::test]
async fn what_was_skipped_stays_skipped_when_a_batch_is_lost() {
    let bench = bench();
    bench.committer.skip_to(skip(100));
    for _ in 0..2 {
        bench.tell.send(Err(Failure::Refused("full".to_owned()))).unwrap();
        let lost = bench.committer.commit(create("a")).await;
        assert!(matches!(lost, Err(CommitError::Unavailable(_))));
        assert_eq!(bench.begun.recv().unwrap(), 101);
    }
    bench.tell.send(Ok(())).unwrap();
    assert_eq!(bench.committer.commit(create("a")).await.unwrap().revision, 101);
    bench.tell.send(Ok(())).unwrap();
    assert_eq!(bench.committer.commit(create("b")).await.unwrap().revision, 102);
}

#[tokio::test]
async fn the_first_write_beyond_a_skip_takes_its_mark_along() {
    let bench = bench();
    bench.committer.skip_to(skip(100));
    let mark = || bench.cache.state().get(&key("mark")).map(|mark| mark.revision);
    bench.tell.send(Err(Failure::Refused("full".to_owned()))).unwrap();
    assert!(bench.committer.commit(create("a")).await.is_err());
    assert_eq!(mark(), None, "it is as durable as what it went with");
    bench.tell.send(Ok(())).unwrap();
    let done = bench.committer.commit(create("a")).await.unwrap();
    assert_eq!((done.revision, done.results.len(), mark()), (101, 1, Some(101)));
    bench.tell.send(Ok(())).unwrap();
    let gone = Txn { expect: Vec::new(), operations: vec![Operation::Delete(key("mark"))] };
    assert_eq!(bench.committer.commit(gone).await.unwrap().revision, 102);
    bench.tell.send(Ok(())).unwrap();
    bench.committer.commit(create("b")).await.unwrap();
    assert_eq!(mark(), None, "once");
}

#[tokio::test]
async fn what_was_in_line_before_a_skip_keeps_its_revision() {
    let bench = bench();
    let mut first = Box::pin(bench.committer.commit(create("a")));
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(bench.begun.recv().unwrap(), 1);
    let mut second = Box::pin(bench.committer.commit(create("b")));
    assert!((&mut second).now_or_never().is_none());
    bench.committer.skip_to(skip(100));
    for revision in [1, 2] {
        bench.tell.send(Ok(())).unwrap();
        let done = if revision == 1 { (&mut first).await } else { (&mut second).await };
        assert_eq!(done.unwrap().revision, revision);
        assert_eq!(bench.cache.state().revision(), revision);
    }
    assert_eq!(bench.begun.recv().unwrap(), 2, "written as it was built");
    bench.tell.send(Ok(())).unwrap();
    assert_eq!(bench.committer.commit(create("c")).await.unwrap().revision, 101);
    for lost in [1, 2, 3, 50, 100] {
        assert!(bench.cache.watch(vec![], lost).is_err(), "{lost}");
        assert!(bench.cache.state_at(&pods(), lost).is_err(), "{lost}");
    }
    assert!(bench.cache.watch(vec![], 101).is_ok());
}

fn large(name: &str) -> Txn {
    let object = Object { header: Default::default(), body: vec![b'x'; 1 << 20].into() };
    Txn { expect: Vec::new(), operations: vec![Operation::Put(key(name), object)] }
}

/// As a client that sends a body and goes, over and over; answers how many of a thousand are in line.
fn crowd(bench: &Bench, from: u64) -> Revision {
    let outcomes = (from..from + 1_000).map(|number| {
        let commit = bench.committer.commit(large(&format!("p{number}")));
        commit.now_or_never()
    });
    let refused = outcomes.flatten().inspect(|it| assert!(matches!(it, Err(CommitError::Busy))));
    1_000 - u64::try_from(refused.count()).unwrap()
}

#[tokio::test]
async fn so_much_waits_for_a_disk_that_stands_still_and_the_rest_is_refused() {
    let bench = bench();
    let mut first = Box::pin(bench.committer.commit(create("first")));
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(bench.begun.recv().unwrap(), 1);
    let mut waits = Box::pin(bench.committer.commit(large("waits")));
    assert!((&mut waits).now_or_never().is_none());
    let taken = crowd(&bench, 0);
    assert!((48..64).contains(&taken), "{taken} MiB wait");
    bench.tell.send(Ok(())).unwrap();
    first.await.unwrap();
    assert!(bench.begun.recv().unwrap() <= 2 + taken);
    assert_eq!(crowd(&bench, 1_000), 0, "what is being written is held as well");
    bench.tell.send(Err(Failure::Refused("full".to_owned()))).unwrap();
    assert!(matches!(waits.await, Err(CommitError::Unavailable(_))));
    assert!(taken <= crowd(&bench, 2_000), "nothing of it is held any more");
    // Who learns of something that is not durable yet waits for it, and holds a place as well.
    let known = (0..1_000_000).map(|_| bench.committer.commit(create("p2000")).now_or_never());
    assert!(known.flatten().next().is_some_and(|it| matches!(it, Err(CommitError::Busy))));
    write_all(&bench);
}

/// Lets the disk take all that is in line.
fn write_all(bench: &Bench) {
    (0..100).for_each(|_| bench.tell.send(Ok(())).unwrap());
}

/// Takes these away in one transaction.
fn take_away(names: impl Iterator<Item = String>) -> Txn {
    let operations = names.map(|name| Operation::Delete(key(&name))).collect();
    Txn { expect: Vec::new(), operations }
}

#[tokio::test]
async fn what_gathers_is_written_in_batches_of_a_bounded_size() {
    let bench = bench();
    let mut watch = bench.cache.watch(vec![pods()], 0).unwrap();
    let mut first = Box::pin(bench.committer.commit(create("first")));
    assert!((&mut first).now_or_never().is_none());
    let taken = crowd(&bench, 0);
    assert!((48..64).contains(&taken), "{taken}");
    let mut seen = 0;
    while seen < 1 + taken {
        let upto = bench.begun.recv().unwrap();
        assert!((1..=8).contains(&(upto - seen)), "{} MiB at a time", upto - seen);
        bench.tell.send(Ok(())).unwrap();
        while watch.progress() < upto {
            assert!(watch.next().await.is_ok(), "who reads each batch misses nothing");
        }
        seen = upto;
    }
    first.await.unwrap();
}

#[tokio::test]
async fn a_lost_batch_takes_along_all_that_are_in_line() {
    let bench = bench();
    let mut first = Box::pin(bench.committer.commit(create("first")));
    assert!((&mut first).now_or_never().is_none());
    bench.begun.recv().unwrap();
    let mut line: Vec<_> =
        (0..20).map(|i| Box::pin(bench.committer.commit(large(&format!("p{i}"))))).collect();
    line.iter_mut().for_each(|commit| assert!(commit.now_or_never().is_none()));
    bench.tell.send(Err(Failure::Refused("full".to_owned()))).unwrap();
    assert!(first.await.is_err());
    for commit in line {
        assert!(matches!(commit.await, Err(CommitError::Unavailable(_))));
    }
    bench.tell.send(Ok(())).unwrap();
    assert_eq!(bench.committer.commit(create("a")).await.unwrap().revision, 1);
}

#[tokio::test]
async fn what_is_taken_away_waits_with_all_that_it_holds() {
    let bench = bench();
    write_all(&bench);
    for number in 0..60 {
        bench.committer.commit(large(&format!("p{number}"))).await.unwrap();
    }
    let Bench { committer, cache, .. } = bench;
    drop(committer);
    let (tell, told) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let log = Told { told, begin, doubtful: Vec::new() };
    let committer = Committer::start(Arc::clone(&cache), log).unwrap();
    let bench = Bench { tell, begun, cache, committer };
    let first = take_away((0..30).map(|number| format!("p{number}")));
    assert!(bench.committer.commit(first).now_or_never().is_none());
    bench.begun.recv().unwrap();
    let rest = take_away((30..60).map(|number| format!("p{number}")));
    assert!(bench.committer.commit(rest).now_or_never().is_none());
    let taken = crowd(&bench, 1_000);
    assert!((1..8).contains(&taken), "{taken} MiB behind 60 that are taken away");
    write_all(&bench);
}

#[tokio::test]
async fn a_batch_in_doubt_has_its_place_in_line_and_one_that_ends_the_doubt_finds_one() {
    let bench = bench();
    let refused = |why: &str| Err(Failure::Refused(why.to_owned()));
    let lost = |from: u64, why: &str| {
        let taken = crowd(&bench, from);
        bench.tell.send(refused(why)).unwrap();
        taken
    };
    // As much as may be in line, in one transaction.
    assert!(bench.committer.commit(create("first")).now_or_never().is_none());
    bench.begun.recv().unwrap();
    let whole = crowd(&bench, 0);
    let mut written = 1;
    while written < whole + 1 {
        bench.tell.send(Ok(())).unwrap();
        written = bench.begun.recv().unwrap();
    }
    bench.tell.send(Ok(())).unwrap();
    let all = take_away((0..whole).map(|number| format!("p{number}")));
    let until_told = || {
        let told = async {
            while bench.committer.shared.inbox.lock().held.written != 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), told).map(Result::unwrap)
    };
    until_told().await;
    assert!(bench.committer.commit(all).now_or_never().is_none());
    bench.begun.recv().unwrap();
    bench.tell.send(refused(IN_DOUBT)).unwrap();
    until_told().await;
    for round in 1..3 {
        assert_eq!(lost(1_000 * round, "the disk is gone"), 1, "of {whole}, all are in doubt");
        bench.begun.recv().unwrap();
        until_told().await;
    }
    assert!(bench.committer.commit(create("last")).now_or_never().is_none());
    bench.begun.recv().unwrap();
    bench.tell.send(Ok(())).unwrap();
    until_told().await;
    assert!(bench.committer.commit(create("behind")).now_or_never().is_none());
    bench.begun.recv().unwrap();
    assert!(whole <= crowd(&bench, 9_000) + 1, "nothing is in doubt any more");
    write_all(&bench);
}

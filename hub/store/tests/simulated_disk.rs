//! redb on a disk that loses and tears what was not synced, or that is full: one seed, one fate.
//! `FREEWHEEL_SEEDS=150..300` runs other seeds.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::promises::disk::{Failing, Simulated};
use crate::promises::kit::{self, all_pods, listed, object, put, read_until, remove, txn};
use crate::promises::toy::Toy;
use freewheel_hub_store::redb::{Reads, RedbStore};
use freewheel_hub_store::{CommitError, Limits, Operation, Store};

/// Longer than a disk that refused is left alone.
fn wait(disk: &Simulated) {
    disk.0.lock().passed += Duration::from_secs(20);
}

fn open(disk: &Simulated) -> Arc<dyn Store> {
    Arc::new(RedbStore::open_on(disk.clone(), Limits::default()).unwrap())
}

/// One transaction: it writes the same text under a name on both sides and takes another name from both, so half of it
/// shows.
struct Move {
    name: String,
    text: String,
    gone: String,
}

impl Move {
    fn any(random: &mut fastrand::Rng, text: &str) -> Self {
        let (name, step) = (random.u8(..12), random.u8(1..12));
        let padding = "x".repeat(random.usize(..3_000));
        let gone = format!("p{:02}", (name + step) % 12);
        Self { name: format!("p{name:02}"), text: format!("{text}{padding}"), gone }
    }

    fn operations(&self) -> Vec<Operation> {
        let sides = ["left", "right"].into_iter();
        let both = sides.flat_map(|side| {
            let put = put(&format!("pods|root|{side}|{}", self.name), &self.text);
            [put, remove(&format!("pods|root|{side}|{}", self.gone))]
        });
        both.collect()
    }

    fn done_to(&self, known: &mut BTreeMap<String, String>) {
        known.insert(self.name.clone(), self.text.clone());
        known.remove(&self.gone);
    }
}

/// As [`listed`] says it.
fn told(known: &BTreeMap<String, String>) -> Vec<String> {
    known.iter().map(|(name, text)| format!("{name}={text}")).collect()
}

fn halves(store: &Arc<dyn Store>) -> [Vec<String>; 2] {
    ["left", "right"].map(|namespace| {
        let cluster = Some(kit::cluster("root"));
        let scope =
            freewheel_hub_store::Scope { cluster, namespace: Some(namespace.into()), ..all_pods() };
        listed(&*store.snapshot(), &scope)
    })
}

/// Writes until the power goes, and notes what was acknowledged; answers what was on its way, in its order.
async fn write_until_dark(
    store: &Arc<dyn Store>,
    random: &mut fastrand::Rng,
    seed: u64,
    known: &mut BTreeMap<String, String>,
) -> Vec<Move> {
    for round in 0.. {
        let parts = 0..random.usize(1..5);
        let batch: Vec<_> =
            parts.map(|part| Move::any(random, &format!("{seed}-{round}-{part}-"))).collect();
        let commits = batch.iter().map(|one| store.commit(txn(&[], &one.operations())));
        let outcomes = futures::future::join_all(commits).await;
        let done = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        assert!(outcomes[done..].iter().all(Result::is_err), "seed {seed}: light in the dark");
        for one in &batch[..done] {
            one.done_to(known);
        }
        if done < batch.len() {
            return batch.into_iter().skip(done).collect();
        }
    }
    unreachable!()
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("FREEWHEEL_SEEDS") else { return 0..150 };
    let (from, to) = text.split_once("..").expect("seeds are FROM..TO");
    let told = from.parse().unwrap()..to.parse().unwrap();
    assert!(!told.is_empty(), "FREEWHEEL_SEEDS={text} are none");
    told
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged_and_leaves_no_half() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = Simulated::default();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut incarnation = None;
        // Several lives on the same disk: a repair has to survive the next cut.
        for life in 0..3 {
            let store = open(&disk);
            assert_eq!(*incarnation.get_or_insert(store.incarnation()), store.incarnation());
            assert_eq!(halves(&store)[0], told(&known), "seed {seed}");
            disk.0.lock().changes_left = Some(random.usize(1..120));
            let doubtful =
                write_until_dark(&store, &mut random, seed * 10 + life, &mut known).await;
            drop(store);
            disk.0.lock().cut_power(&mut random);
            adopt(&disk, &mut known, &doubtful, seed);
        }
    }
}

/// Of what was on its way when the power went the first so many transactions are there, each of them whole.
fn adopt(disk: &Simulated, known: &mut BTreeMap<String, String>, doubtful: &[Move], seed: u64) {
    let [left, right] = halves(&open(disk));
    assert!(left == right, "seed {seed}: half a transaction");
    for one in doubtful {
        if left == told(known) {
            return;
        }
        one.done_to(known);
    }
    assert!(left == told(known), "seed {seed}: neither what it was nor what it was to be");
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals() {
    let disk = Simulated::default();
    let store = open(&disk);
    let mut watch = store.watch(vec![], 0).unwrap();
    let big = "x".repeat(1_000_000);
    store.commit(txn(&[], &[put("first", "1")])).await.unwrap();
    let full = disk.0.lock().now.len() as u64;
    disk.0.lock().space = Some(full);
    let mut refused = 0;
    for round in 0..20 {
        match store.commit(txn(&[], &[put(&format!("p{round}"), &big)])).await {
            Ok(_) => assert_eq!(refused, 0, "accepted again while the disk is full"),
            Err(CommitError::Unavailable(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused != 0);
    let before = store.snapshot();
    assert_eq!(listed(&*before, &all_pods()).len(), 1 + 20 - refused, "nothing refused is seen");
    disk.0.lock().space = None;
    wait(&disk);
    let healed = store.commit(txn(&[], &[put("last", "1")])).await.unwrap();
    assert_eq!(healed.revision, before.revision() + 1);
    let events = read_until(&mut watch, healed.revision).await;
    assert!(events.iter().map(|event| event.revision).eq(1..=healed.revision));
    drop((store, watch));
    assert_eq!(open(&disk).snapshot().revision(), healed.revision);
}

#[tokio::test]
async fn a_store_opens_on_a_disk_that_takes_no_writes_and_heals() {
    for closed_well in [true, false] {
        let disk = Simulated::default();
        let store = open(&disk);
        store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
        disk.0.lock().dead = !closed_well;
        drop(store);
        {
            let mut platter = disk.0.lock();
            platter.cut_power(&mut fastrand::Rng::with_seed(1));
            platter.refuses_writes = true;
            platter.refuses_witness = true;
            platter.space = Some(platter.now.len() as u64);
        }
        let store = RedbStore::open_on(disk.clone(), Limits::default()).unwrap();
        assert!(store.refused().is_some(), "closed well: {closed_well}");
        assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=1"]);
        let refused = store.commit(txn(&[], &[put("b", "2")])).await;
        assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
        assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=1"]);
        {
            let mut platter = disk.0.lock();
            (platter.refuses_writes, platter.refuses_witness, platter.space) = (false, false, None);
        }
        wait(&disk);
        let healed = store.commit(txn(&[], &[put("b", "2")])).await.unwrap();
        assert_eq!(healed.revision, 2, "closed well: {closed_well}");
        drop(store);
        let again = RedbStore::open_on(disk.clone(), Limits::default()).unwrap();
        assert_eq!(again.refused(), None);
        assert_eq!(listed(&*again.snapshot(), &all_pods()), ["a=1", "b=2"]);
    }
}

#[tokio::test]
async fn a_disk_that_refuses_is_not_read_anew_for_every_write() {
    let disk = Simulated::default();
    let store = open(&disk);
    store.commit(txn(&[], &[put("first", &"x".repeat(1_000_000))])).await.unwrap();
    let length = disk.0.lock().now.len();
    disk.0.lock().space = Some(length as u64);
    let big = "x".repeat(1_000_000);
    let write =
        async |round: usize| store.commit(txn(&[], &[put(&format!("p{round}"), &big)])).await;
    let mut round = 0;
    while write(round).await.is_ok() {
        round += 1;
    }
    disk.0.lock().read = 0;
    for round in 100..120 {
        let refused = write(round).await;
        assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    }
    let read = disk.0.lock().read;
    assert!(read <= 2 * length, "{read} bytes were read of {length}");
    disk.0.lock().space = None;
    assert!(write(round).await.is_err(), "nobody has looked");
    wait(&disk);
    write(round).await.unwrap();
}

#[tokio::test]
async fn what_a_failed_sync_wrote_after_all_is_found() {
    let disk = Simulated::default();
    let store = open(&disk);
    let mut watch = store.watch(vec![], 0).unwrap();
    store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
    disk.0.lock().sync = Some(Failing::AfterAll);
    let lost = store.commit(txn(&[], &[put("a", "2")])).await;
    assert!(matches!(lost, Err(CommitError::Unavailable(_))));
    assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=1"]);
    // The first commit afterwards finds it and must not be built upon the state before it.
    while store.commit(txn(&[], &[put("b", "3")])).await.is_err() {}
    assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=2", "b=3"]);
    let told = read_until(&mut watch, 3).await;
    assert_eq!(
        told.iter().map(kit::tell(1)).collect::<Vec<_>>(),
        ["1 >a=1", "2 a=1>a=2", "3 >b=3"]
    );
    let before = listed(&*store.snapshot(), &all_pods());
    drop((store, watch));
    assert_eq!(listed(&*open(&disk).snapshot(), &all_pods()), before);
}

#[tokio::test]
async fn what_a_failed_sync_lost_stays_lost() {
    let disk = Simulated::default();
    let store = open(&disk);
    let mut watch = store.watch(vec![], 0).unwrap();
    store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
    disk.0.lock().sync = Some(Failing::ForGood);
    assert!(store.commit(txn(&[], &[put("a", "2")])).await.is_err());
    assert_eq!(store.commit(txn(&[], &[put("b", "3")])).await.unwrap().revision, 2);
    assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=1", "b=3"]);
    let told = read_until(&mut watch, 2).await;
    assert_eq!(told.iter().map(kit::tell(1)).collect::<Vec<_>>(), ["1 >a=1", "2 >b=3"]);
    let bytes = store.snapshot().stored_bytes();
    drop((store, watch));
    let again = open(&disk).snapshot();
    assert_eq!(listed(&*again, &all_pods()), ["a=1", "b=3"]);
    assert_eq!(bytes, again.stored_bytes(), "what was lost is nobody's");
    let text = 4 + "pods".len() + "root".len() + "default".len() + 1 + "u".len();
    let body = object("1").body.len();
    assert_eq!(bytes.of(&kit::cluster("root")), 2 * (text + body) as u64);
}

/// A store whose secrets were sealed by one key and are to be by another.
async fn to_be_sealed_anew(disk: &Simulated) -> RedbStore {
    let sealed = |key| RedbStore::open_sealed(disk.clone(), true, Arc::new(Toy::with(key)));
    let store = sealed(1).unwrap();
    for name in 0..40 {
        let text = "x".repeat(name * 97);
        let path = format!("secrets|root|default|{name:02}");
        store.commit(txn(&[], &[put(&path, &text)])).await.unwrap();
    }
    drop(store);
    sealed(2).unwrap()
}

/// All secrets, and at which revision they are.
fn secrets(store: &RedbStore) -> (Vec<String>, u64) {
    let resource = freewheel_hub_schema::object::Resource::new("", "secrets");
    let scope = freewheel_hub_store::Scope { resource, ..all_pods() };
    let snapshot = store.snapshot();
    (listed(&*snapshot, &scope), snapshot.revision())
}

/// The same after a start, and whether all of them lie as they are to.
fn found_again(disk: &Simulated) -> ((Vec<String>, u64), bool) {
    let store = RedbStore::open_sealed(disk.clone(), false, Arc::new(Toy::with(2))).unwrap();
    (secrets(&store), !store.was_stale())
}

async fn seal_anew(store: &RedbStore) -> Result<(), CommitError> {
    let mut from = Vec::new();
    while let Some(next) = store.reseal(from).await?.next {
        from = next;
    }
    Ok(())
}

#[tokio::test]
async fn a_power_cut_while_values_are_sealed_anew_changes_nothing() {
    let mut finished = false;
    for changes in (0..60_usize).step_by(3).chain([10_000]) {
        let (disk, mut random) = (Simulated::default(), fastrand::Rng::with_seed(changes as u64));
        let store = to_be_sealed_anew(&disk).await;
        let before = secrets(&store);
        disk.0.lock().changes_left = Some(changes);
        let done = seal_anew(&store).await.is_ok();
        drop(store);
        disk.0.lock().cut_power(&mut random);
        let (after, all) = found_again(&disk);
        assert!(after == before, "after {changes} changes");
        assert!(all || !done, "after {changes} changes");
        finished |= done;
    }
    assert!(finished);
}

#[tokio::test]
async fn what_a_failed_sync_sealed_anew_is_found_either_way() {
    for failing in [Failing::AfterAll, Failing::ForGood] {
        let disk = Simulated::default();
        let store = to_be_sealed_anew(&disk).await;
        let (before, revision) = secrets(&store);
        disk.0.lock().sync = Some(failing);
        assert!(seal_anew(&store).await.is_err(), "{failing:?}");
        let next = store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
        assert_eq!(next.revision, revision + 1, "{failing:?}");
        seal_anew(&store).await.unwrap();
        drop(store);
        assert_eq!(found_again(&disk), ((before, revision + 1), true), "{failing:?}");
    }
}

#[tokio::test]
async fn a_disk_that_refuses_writes_heals() {
    let disk = Simulated::default();
    let store = open(&disk);
    store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
    disk.0.lock().refuses_writes = true;
    for _ in 0..3 {
        let refused = store.commit(txn(&[], &[put("a", "2")])).await;
        assert!(matches!(refused, Err(CommitError::Unavailable(_))));
        assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=1"], "reads go on");
    }
    disk.0.lock().refuses_writes = false;
    wait(&disk);
    assert_eq!(store.commit(txn(&[], &[put("a", "2")])).await.unwrap().revision, 2);
}

#[tokio::test]
async fn a_witness_that_cannot_be_written_keeps_nothing_shut() {
    let disk = Simulated::default();
    disk.0.lock().refuses_witness = true;
    for round in 1..4 {
        let store = open(&disk);
        assert_eq!(
            store.commit(txn(&[], &[put("a", &round.to_string())])).await.unwrap().revision,
            round
        );
    }
    assert_eq!(disk.0.lock().witness, [0; 0]);
    disk.0.lock().refuses_witness = false;
    drop(open(&disk));
    assert_eq!(disk.0.lock().witness, [3]);
}

/// After a failed sync the host remembers what is not on the disk.
#[tokio::test]
async fn what_the_host_remembers_is_read_only_when_it_has_just_come_from_the_disk() {
    use Reads::{FromDisk, Remembered};
    let disk = Simulated::default();
    drop(open(&disk));
    disk.0.lock().opened.clear();
    let store = open(&disk);
    assert_eq!(disk.0.lock().opened, [FromDisk, Remembered]);
    disk.0.lock().sync = Some(Failing::ForGood);
    assert!(store.commit(txn(&[], &[put("a", "1")])).await.is_err());
    store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
    assert_eq!(disk.0.lock().opened, [FromDisk, Remembered, FromDisk]);
}

/// As when a disk's own memory brings back what was thought lost: it has the revision that another batch was given
/// meanwhile.
#[tokio::test]
async fn what_a_disk_brings_back_is_not_taken_for_another_batch_of_that_revision() {
    // Whether the other one was acknowledged or not.
    for acknowledged in [true, false] {
        let disk = Simulated::default();
        let store = open(&disk);
        store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
        let before = disk.0.lock().durable.clone();
        disk.0.lock().sync = Some(Failing::AfterAll);
        assert!(store.commit(txn(&[], &[put("a", "lost")])).await.is_err());
        let late = disk.0.lock().durable.clone();
        let show = |image: &Vec<u8>| {
            let mut platter = disk.0.lock();
            (platter.now, platter.durable) = (image.clone(), image.clone());
        };
        show(&before);
        if acknowledged {
            let other = store.commit(txn(&[], &[put("b", "other")])).await.unwrap();
            assert_eq!(other.revision, 2);
        }
        disk.0.lock().refuses = Some(b"fails".to_vec());
        assert!(store.commit(txn(&[], &[put("b", "fails")])).await.is_err());
        disk.0.lock().refuses = None;
        show(&late);
        let opened = disk.0.lock().opened.len();
        let shown = listed(&*store.snapshot(), &all_pods());
        for again in 1..=2 {
            wait(&disk);
            let refused = store.commit(txn(&[], &[put("c", "1")])).await;
            assert_eq!(disk.0.lock().opened.len(), opened + again, "it was looked at");
            assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
            assert_eq!(listed(&*store.snapshot(), &all_pods()), shown, "nothing else is seen");
        }
    }
}

//! A file that was full once and is mostly free is small after the next start, whatever happens meanwhile.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::promises::disk::Simulated;
use crate::promises::kit::{all_pods, listed, put, remove, txn};
use freewheel_hub_store::redb::{FileDisk, RedbStore};
use freewheel_hub_store::{Limits, Operation, Snapshot, Store};

const DIRECTORY: &str = "FREEWHEEL_TEST_OPENER";
const ROUNDS: u32 = 12;
const LARGE: usize = 40;
/// What such a file is compacted to.
const SMALL: u64 = 4 << 20;

/// Fills it with large objects and some between them that stay, and takes the large ones away: what stays lies all over
/// the file, so that redb cuts nothing off.
async fn fill_and_empty(store: &RedbStore) {
    let write = async |operations: &[Operation]| store.commit(txn(&[], operations)).await.unwrap();
    for number in 0..LARGE {
        write(&[put(&format!("l{number:02}"), &"x".repeat(700_000))]).await;
        if number % 4 == 3 {
            write(&[put(&format!("l{number:02}-stays"), &"x".repeat(60_000))]).await;
        }
    }
    for number in 0..LARGE {
        write(&[remove(&format!("l{number:02}"))]).await;
    }
}

fn told(snapshot: &dyn Snapshot) -> (Vec<String>, u64) {
    (listed(snapshot, &all_pods()), snapshot.revision())
}

/// A folder with such a store, and what is in it.
async fn mostly_free() -> (tempfile::TempDir, (Vec<String>, u64)) {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    fill_and_empty(&store).await;
    let all = told(&*store.snapshot());
    (directory, all)
}

fn length(directory: &Path) -> u64 {
    std::fs::metadata(directory.join("store.redb")).unwrap().len()
}

#[tokio::test]
async fn what_was_deleted_is_given_back_at_the_next_start() {
    let (directory, all) = mostly_free().await;
    let before = length(directory.path());
    assert!(16 << 20 < before, "{before}");
    let store = RedbStore::open(directory.path()).unwrap();
    let after = length(directory.path());
    assert!(after < SMALL, "{before} {after}");
    assert_eq!(told(&*store.snapshot()), all);
    store.commit(txn(&[], &[put("next", "1")])).await.unwrap();
    let all = told(&*store.snapshot());
    drop(store);
    assert_eq!(told(&*RedbStore::open(directory.path()).unwrap().snapshot()), all);
}

/// The test runs itself again to open the store, and kills it.
#[test]
fn a_compaction_killed_anywhere_loses_nothing() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        println!("\nopens");
        let store = RedbStore::open_on(FileDisk::new(Path::new(&directory)), Limits::default());
        println!("\nopened");
        drop(store.unwrap());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (directory, all) = runtime.block_on(mostly_free());
    let before = length(directory.path());
    let whole = open_and_kill(&copy(directory.path()), None);
    let mut hit = 0;
    for round in 0..ROUNDS {
        let copy = copy(directory.path());
        open_and_kill(&copy, Some(whole * (round + 1) / ROUNDS));
        hit += usize::from(length(copy.path()) == before);
        let store = RedbStore::open(copy.path()).unwrap();
        assert_eq!(told(&*store.snapshot()), all, "round {round}");
        assert!(length(copy.path()) < SMALL, "round {round}: the next start goes on");
    }
    assert!(0 < hit, "no kill came before the end");
}

fn copy(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Answers how long opening took, or was let go on.
fn open_and_kill(directory: &tempfile::TempDir, after: Option<Duration>) -> Duration {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["compaction::a_compaction_killed_anywhere_loses_nothing", "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = out.lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "opens"));
    let began = Instant::now();
    match after {
        // The moment is part of the test: the kill has to hit anywhere.
        Some(after) => std::thread::sleep(after),
        None => assert!(lines.any(|line| line == "opened")),
    }
    let took = began.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

fn size(disk: &Simulated) -> u64 {
    disk.0.lock().now.len() as u64
}

#[tokio::test]
async fn a_power_cut_while_the_file_is_compacted_changes_nothing() {
    const MANY: usize = 1_000_000;
    let open = |disk: &Simulated| RedbStore::open_on(disk.clone(), Limits::default()).unwrap();
    let disk = Simulated::default();
    let store = open(&disk);
    fill_and_empty(&store).await;
    let all = told(&*store.snapshot());
    drop(store);
    let image = disk.0.lock().durable.clone();
    let witness = disk.0.lock().witness.clone();
    let again = || {
        let disk = Simulated::default();
        let mut platter = disk.0.lock();
        (platter.now, platter.durable) = (image.clone(), image.clone());
        platter.witness.clone_from(&witness);
        drop(platter);
        disk
    };
    let whole = again();
    whole.0.lock().changes_left = Some(MANY);
    drop(open(&whole));
    let changes = MANY - whole.0.lock().changes_left.unwrap();
    assert!(size(&whole) < SMALL && 10 < changes, "{changes}");
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = again();
        disk.0.lock().changes_left = Some(random.usize(1..changes));
        drop(RedbStore::open_on(disk.clone(), Limits::default()));
        disk.0.lock().cut_power(&mut random);
        let store = open(&disk);
        assert_eq!(told(&*store.snapshot()), all, "seed {seed}");
        assert!(size(&disk) < SMALL, "seed {seed}");
    }
}

//! `kill -9` at any moment: what was acknowledged is there, and nothing by half.
//!
//! The test runs itself again as the writer, reads its acknowledgements from a pipe and kills it.
//! `FREEWHEEL_ROUNDS=100` kills more often.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod promises {
    #[expect(dead_code, reason = "shared with the promises")]
    pub(crate) mod kit;
}

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_store::redb::RedbStore;
use freewheel_hub_store::{Revision, Scope, Store};
use promises::kit::{all_pods, cluster, put, said, txn};

const DIRECTORY: &str = "FREEWHEEL_TEST_WRITER";
const ROUNDS: u64 = 12;
const MORE_ROUNDS: &str = "FREEWHEEL_ROUNDS";
const WRITERS: usize = 8;

#[test]
fn every_acknowledged_write_survives_kill_9() {
    match std::env::var_os(DIRECTORY) {
        Some(directory) => write_for_ever(Path::new(&directory)),
        None => survive(),
    }
}

/// The child: eight writers, each telling what was acknowledged to it.
fn write_for_ever(directory: &Path) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(directory).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            for round in 0_u32.. {
                let text = format!("{:x}-{round}", std::process::id());
                let name = format!("w{writer}-{}", round % 5);
                let ops =
                    ["left", "right"].map(|half| put(&format!("pods|root|{half}|{name}"), &text));
                let done = store.commit(txn(&[], &ops)).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "{} {name}={text}", done.revision).unwrap();
                out.flush().unwrap();
            }
        }
    });
    runtime.block_on(futures::future::join_all(writers));
}

fn half(store: &dyn Store, namespace: &str) -> BTreeMap<String, (Revision, String)> {
    let scope =
        Scope { cluster: Some(cluster("root")), namespace: Some(namespace.into()), ..all_pods() };
    let snapshot = store.snapshot();
    let all = snapshot.range(&scope, None);
    all.map(|stored| (stored.key.name.to_string(), (stored.revision, said(&stored)))).collect()
}

fn survive() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(9);
    let mut acknowledged: BTreeMap<String, (Revision, String)> = BTreeMap::new();
    let rounds = std::env::var(MORE_ROUNDS).map_or(ROUNDS, |text| text.parse().unwrap());
    for round in 0..rounds {
        let (lines, after) = (random.usize(..400), random.u64(..3_000));
        let told = run_and_kill(directory.path(), lines, Duration::from_micros(after));
        for line in told {
            let (revision, said) = line.split_once(' ').unwrap();
            let name = said.split_once('=').unwrap().0.to_owned();
            let entry = acknowledged.entry(name).or_default();
            *entry = (revision.parse().unwrap(), said.to_owned()).max(entry.clone());
        }
        let store = RedbStore::open(directory.path()).unwrap();
        let (left, right) = (half(&store, "left"), half(&store, "right"));
        assert_eq!(left, right, "round {round}: half a transaction");
        for (name, (revision, said)) in &acknowledged {
            let (found, text) = &left[name];
            assert!(revision <= found, "round {round}: {name} lost what was acknowledged");
            assert!(
                revision != found || said == text,
                "round {round}: {name} holds something else"
            );
        }
    }
    assert!(!acknowledged.is_empty());
}

/// Lets the writer run until it has told `lines` and a moment more; answers whole lines only.
fn run_and_kill(directory: &Path, lines: usize, after: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["every_acknowledged_write_survives_kill_9", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = Vec::new();
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    };
    while told.len() <= lines {
        let line = next().expect("the writer ended by itself");
        // The test harness says a few words first.
        told.extend(Some(line).filter(|line| line.starts_with(|c: char| c.is_ascii_digit())));
    }
    // The moment is part of the test: the kill has to hit anywhere in a write.
    std::thread::sleep(after);
    child.kill().unwrap();
    while let Some(line) = next() {
        told.push(line);
    }
    child.wait().unwrap();
    told
}

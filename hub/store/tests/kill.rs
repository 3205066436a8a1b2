//! `kill -9` at any moment: what was acknowledged is there, and nothing by half, also while secrets are sealed anew.
//!
//! The test runs itself again as the writer, reads its acknowledgements from a pipe and kills it.
//! `FREEWHEEL_ROUNDS=100` kills more often.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::promises::kit::{cluster, listed, put, remove, txn};
use crate::promises::toy::Toy;
use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::redb::{FileDisk, RedbStore};
use freewheel_hub_store::{Operation, Scope, Store};

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
    // Each life seals with another key, and goes on to the next ones while it writes.
    let toy = Arc::new(Toy::with(std::process::id().to_le_bytes()[0] | 1));
    let store =
        Arc::new(RedbStore::open_sealed(FileDisk::new(directory), true, toy.clone()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            for round in 0_u32.. {
                let one = Move { life: std::process::id(), writer, round };
                store.commit(txn(&[], &one.operations())).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "{writer} {round}").unwrap();
                out.flush().unwrap();
            }
        }
    });
    let sealing = async {
        for _ in 0_u64.. {
            let mut from = Vec::new();
            while let Some(next) = store.reseal(from).await.unwrap().next {
                from = next;
            }
            toy.key.fetch_add(2, std::sync::atomic::Ordering::SeqCst);
        }
    };
    runtime.block_on(futures::future::join(futures::future::join_all(writers), sealing));
}

/// One transaction of a writer: it writes a name on both sides, and takes from both the one that it wrote three
/// before.
struct Move {
    life: u32,
    writer: usize,
    round: u32,
}

impl Move {
    fn name(&self, step: u32) -> String {
        format!("w{}-{}", self.writer, (self.round + step) % 5)
    }

    fn text(&self) -> String {
        format!("{:x}-{}", self.life, self.round)
    }

    fn operations(&self) -> Vec<Operation> {
        let both = ["left", "right"].into_iter().flat_map(|side| {
            let put = put(&format!("secrets|root|{side}|{}", self.name(0)), &self.text());
            [put, remove(&format!("secrets|root|{side}|{}", self.name(2)))]
        });
        both.collect()
    }

    fn done_to(&self, known: &mut BTreeSet<String>) {
        for step in [0, 2] {
            let of_name = format!("{}=", self.name(step));
            known.retain(|said| !said.starts_with(&of_name));
        }
        known.insert(format!("{}={}", self.name(0), self.text()));
    }
}

/// What is on a side, a writer at a time.
fn side(store: &dyn Store, namespace: &str) -> Vec<BTreeSet<String>> {
    let scope = Scope {
        resource: Resource::new("", "secrets"),
        cluster: Some(cluster("root")),
        namespace: Some(namespace.into()),
    };
    let all = listed(&*store.snapshot(), &scope);
    let of = |writer| {
        let name = format!("w{writer}-");
        all.iter().filter(|said| said.starts_with(&name)).cloned().collect()
    };
    (0..WRITERS).map(of).collect()
}

fn survive() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(9);
    let mut known = vec![BTreeSet::new(); WRITERS];
    let rounds = std::env::var(MORE_ROUNDS).map_or(ROUNDS, |text| text.parse().unwrap());
    for killed in 0..rounds {
        let (lines, after) = (random.usize(..400), random.u64(..3_000));
        let (life, told) = run_and_kill(directory.path(), lines, Duration::from_micros(after));
        let mut next = [0; WRITERS];
        for line in told {
            let (writer, round) = line.split_once(' ').unwrap();
            let (writer, round) = (writer.parse::<usize>().unwrap(), round.parse().unwrap());
            assert_eq!(next[writer], round, "a writer goes on when it was answered");
            Move { life, writer, round }.done_to(&mut known[writer]);
            next[writer] += 1;
        }
        let toy = Arc::new(Toy::with(1));
        let store = RedbStore::open_sealed(FileDisk::new(directory.path()), true, toy).unwrap();
        let (left, right) = (side(&store, "left"), side(&store, "right"));
        assert_eq!(left, right, "kill {killed}: half a transaction");
        for (writer, found) in left.into_iter().enumerate() {
            if found == known[writer] {
                continue;
            }
            // Its next one was on its way, or nobody was told any more.
            Move { life, writer, round: next[writer] }.done_to(&mut known[writer]);
            assert_eq!(found, known[writer], "kill {killed}: not what was acknowledged");
        }
    }
    assert!(known.iter().any(|one| !one.is_empty()));
}

/// Lets the writer run until it has told `lines` and a moment more; answers its process and whole lines only.
fn run_and_kill(directory: &Path, lines: usize, after: Duration) -> (u32, Vec<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::every_acknowledged_write_survives_kill_9", "--exact", "--nocapture"])
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
    (child.id(), told)
}

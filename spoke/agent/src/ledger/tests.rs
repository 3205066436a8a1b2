//! The file's bytes, and what power cuts and full disks do to it.

use std::net::Ipv4Addr;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, Record};
use freewheel_link::report::{PhaseV1, TerminatedV1};

use super::*;
use crate::fake::SimDisk;

fn key(name: &str) -> RecordKey {
    RecordKey { realm: ClusterName::root(), kind: Kind::SERVICE_V1, key: name.to_owned() }
}

fn record(name: &str, body: u8) -> Record {
    Record { key: key(name), revision: 7, needs: 0, body: vec![body; 3] }
}

fn generation(revision: u64) -> Generation {
    Generation { incarnation: 9, revision }
}

fn part(base: u64, to: u64, put: Vec<Record>, remove: Vec<RecordKey>) -> PlanPart {
    let snapshot = base == 0;
    PlanPart { base: generation(base), to: generation(to), snapshot, put, remove }
}

fn state(uid: &str) -> PodStateV1 {
    let how = TerminatedV1 {
        code: 1,
        signal: 0,
        reason: "Error".to_owned(),
        message: String::new(),
        started: 5,
        finished: 6,
    };
    PodStateV1 {
        realm: ClusterName::root(),
        uid: uid.to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        ip: Some(Ipv4Addr::new(10, 64, 3, 2)),
        started: Some(4),
        done: Some((PhaseV1::Failed, "r".to_owned(), "m".to_owned())),
        containers: vec![
            ContainerStateV1 {
                name: "a".to_owned(),
                restarts: 3,
                image: "hello".to_owned(),
                doing: DoingV1::Running(8),
                last: Some(how.clone()),
            },
            ContainerStateV1 {
                name: "b".to_owned(),
                restarts: 0,
                image: String::new(),
                doing: DoingV1::Nothing,
                last: None,
            },
            ContainerStateV1 {
                name: "c".to_owned(),
                restarts: 0,
                image: String::new(),
                doing: DoingV1::Ended(how),
                last: None,
            },
        ],
    }
}

fn open(disk: &SimDisk) -> Ledger {
    Ledger::open(Arc::new(disk.clone())).unwrap()
}

/// What the fixture was made of.
fn filled(disk: &SimDisk) -> Ledger {
    let mut ledger = open(disk);
    ledger.take_plan(part(0, 3, vec![record("a/x", 1), record("a/y", 2)], vec![])).unwrap();
    ledger.take_plan(part(3, 4, vec![record("a/x", 3)], vec![key("a/y")])).unwrap();
    ledger.keep_pod(state("u1")).unwrap();
    ledger.keep_pod(state("u2")).unwrap();
    ledger.forget_pod("u2").unwrap();
    ledger.flush().unwrap();
    ledger
}

#[track_caller]
fn check_filled(ledger: &Ledger) {
    assert_eq!(ledger.generation(), generation(4));
    let records: Vec<_> = ledger.records().iter().map(|r| (**r).clone()).collect();
    assert_eq!(records, [record("a/x", 3)]);
    assert_eq!(ledger.pods().values().collect::<Vec<_>>(), [&state("u1")]);
}

#[test]
fn what_was_flushed_is_there_again_and_starts_are_counted() {
    let disk = SimDisk::default();
    assert_eq!(filled(&disk).epoch(), 1);
    let again = open(&disk);
    check_filled(&again);
    assert_eq!(again.epoch(), 2);
    assert_eq!(again.digest(), [record("a/x", 3)].into_iter().collect::<RecordSet>().digest());
}

#[test]
fn a_ledger_written_by_version_1_opens() {
    let disk = SimDisk::default();
    disk.replace(include_bytes!("../../fixtures/ledger-v1.bin")).unwrap();
    let ledger = open(&disk);
    check_filled(&ledger);
    assert_eq!(ledger.epoch(), 2);
}

#[test]
fn the_bytes_of_the_file_are_frozen() {
    let disk = SimDisk::default();
    filled(&disk);
    let file = disk.read().unwrap();
    if std::env::var_os("FREEWHEEL_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all("fixtures").unwrap();
        std::fs::write("fixtures/ledger-v1.bin", &file).unwrap();
    }
    assert_eq!(file, include_bytes!("../../fixtures/ledger-v1.bin"));
}

#[test]
fn a_plan_part_on_another_base_changes_nothing() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    assert_eq!(ledger.take_plan(part(2, 9, vec![record("z/z", 1)], vec![])).unwrap(), None);
    check_filled(&ledger);
    let touched = ledger.take_plan(part(0, 9, vec![record("z/z", 1)], vec![])).unwrap();
    assert_eq!(touched, Some(vec![key("a/x"), key("z/z")]), "what a snapshot drops is touched too");
}

#[test]
fn a_newer_ledger_is_left_alone_and_a_foreign_file_is_started_anew() {
    let disk = SimDisk::default();
    disk.replace(b"freewheel ledger\x02\0\0\0whatever").unwrap();
    assert!(matches!(Ledger::open(Arc::new(disk.clone())), Err(LedgerError::TooNew { found: 2 })));
    disk.replace(b"something else entirely").unwrap();
    assert_eq!(open(&disk).epoch(), 1);
    assert_eq!(open(&disk).epoch(), 2);
}

#[test]
fn an_entry_of_a_newer_agent_asks_for_the_whole_plan() {
    let disk = SimDisk::default();
    filled(&disk);
    let mut file = disk.read().unwrap();
    frame::push(&mut file, &[200, 1, 2, 3]);
    disk.replace(&file).unwrap();
    let ledger = open(&disk);
    assert_eq!(ledger.generation(), Generation::NONE);
    assert_eq!(ledger.records().len(), 1, "what is known goes on running");
}

#[test]
fn a_full_disk_loses_nothing_once_there_is_room_again() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    disk.set_full(true);
    ledger.take_plan(part(4, 5, vec![record("b/b", 9)], vec![])).unwrap();
    assert!(ledger.flush().is_err());
    assert!(ledger.dirty());
    assert!(ledger.flush().is_err());
    disk.set_full(false);
    ledger.flush().unwrap();
    assert!(!ledger.dirty());
    let again = open(&disk);
    assert_eq!(again.generation(), generation(5));
    assert_eq!(again.records().len(), 2);
}

#[test]
fn the_file_stays_within_a_multiple_of_what_it_holds() {
    let disk = SimDisk::default();
    let mut ledger = open(&disk);
    let mut at = 0;
    for round in 0..20_000_u64 {
        let mut pod = state("u");
        pod.started = Some(round);
        ledger.keep_pod(pod).unwrap();
        if round % 1000 == 0 {
            ledger.take_plan(part(at, round + 1, vec![record("a/x", 1)], vec![])).unwrap();
            at = round + 1;
        }
        ledger.write().unwrap();
        assert!(disk.len() <= COMPACT_FROM + 4096, "{}", disk.len());
    }
    ledger.flush().unwrap();
    assert_eq!(open(&disk).pods()["u"].started, Some(19_999));
}

/// Random work, a power cut at a random moment, and again: what was flushed is there, and what is
/// there was once recorded, in order.
#[test]
fn power_cuts_lose_only_what_was_not_flushed() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = SimDisk::default();
        let mut revision = 0;
        let mut flushed = 0;
        let mut epochs = 0;
        for _ in 0..6 {
            let mut ledger = open(&disk);
            assert!(epochs < ledger.epoch(), "seed {seed}: an epoch came twice");
            epochs = ledger.epoch();
            let found = ledger.generation().revision;
            assert!(
                (flushed..=revision).contains(&found),
                "seed {seed}: {flushed} {found} {revision}"
            );
            check_world(&ledger, found, seed);
            revision = found;
            flushed = found;
            for _ in 0..random.usize(1..12) {
                revision += 1;
                let body = u8::try_from(revision % 251).unwrap();
                let put = vec![record("a/x", body), record(&format!("n/{revision}"), body)];
                let gone = key(&format!("n/{}", revision - 1));
                let mut next = part(revision - 1, revision, put, vec![gone]);
                next.base = ledger.generation();
                ledger.take_plan(next).unwrap();
                match random.u8(..3) {
                    0 => {
                        ledger.flush().unwrap();
                        flushed = revision;
                    }
                    1 => ledger.write().unwrap(),
                    _ => {}
                }
            }
            drop(ledger);
            disk.cut_power(&mut random);
        }
    }
}

/// The records belong together: each part put its own and removed the one before.
#[track_caller]
fn check_world(ledger: &Ledger, revision: u64, seed: u64) {
    let held: Vec<String> = ledger.records().iter().map(|r| r.key.key.clone()).collect();
    if revision == 0 {
        assert!(held.is_empty(), "seed {seed}");
    } else {
        assert_eq!(held, ["a/x".to_owned(), format!("n/{revision}")], "seed {seed}");
    }
}

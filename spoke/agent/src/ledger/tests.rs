//! The file's bytes, and what power cuts and full disks do to it.

use std::net::Ipv6Addr;

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
        source: PodSource::Plan,
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        // As the pod network gives none today.
        ip: Some(Ipv6Addr::LOCALHOST.into()),
        started: Some(4),
        done: Some((PhaseV1::Failed, "r".to_owned(), "m".to_owned())),
        containers: vec![
            ContainerStateV1 {
                name: "a".to_owned(),
                restarts: 3,
                image: "hello".to_owned(),
                doing: DoingV1::Running(8),
                last: Some(how.clone()),
                stopped: None,
            },
            ContainerStateV1 {
                name: "b".to_owned(),
                restarts: 0,
                image: String::new(),
                doing: DoingV1::Nothing,
                last: None,
                stopped: None,
            },
            ContainerStateV1 {
                name: "c".to_owned(),
                restarts: 0,
                image: String::new(),
                doing: DoingV1::Ended(how),
                last: None,
                stopped: Some(StoppedV1::Unhealthy),
            },
        ],
    }
}

fn open(disk: &SimDisk) -> Ledger {
    open_in(disk, "boot")
}

fn open_in(disk: &SimDisk, boot: &str) -> Ledger {
    Ledger::open(Arc::new(disk.clone()), boot).unwrap()
}

/// What the fixture was made of.
fn filled(disk: &SimDisk) -> Ledger {
    let mut ledger = open(disk);
    ledger.keep_plan(part(0, 3, vec![record("a/x", 1), record("a/y", 2)], vec![])).unwrap();
    ledger.keep_plan(part(3, 4, vec![record("a/x", 3)], vec![key("a/y")])).unwrap();
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
    assert_eq!(ledger.keep_plan(part(2, 9, vec![record("z/z", 1)], vec![])).unwrap(), None);
    check_filled(&ledger);
    let touched = ledger.keep_plan(part(0, 9, vec![record("z/z", 1)], vec![])).unwrap();
    assert_eq!(touched, Some(vec![key("a/x"), key("z/z")]), "what a snapshot drops is touched too");
}

#[test]
fn a_newer_or_foreign_ledger_is_kept_aside_and_the_device_starts_without_it() {
    let disk = SimDisk::default();
    let newer = [frame::header(2, 7), b"whatever".to_vec()].concat();
    let foreign = b"something else entirely".to_vec();
    for (file, found) in [(newer, Found::Newer), (foreign, Found::Foreign)] {
        disk.replace(&file).unwrap();
        let ledger = open(&disk);
        assert_eq!((ledger.epoch(), ledger.found()), (1, found));
        assert_eq!(disk.aside(), Some(file));
        let again = open(&disk);
        assert_eq!((again.epoch(), again.found()), (2, Found::Sound));
    }
}

#[test]
fn an_entry_of_a_newer_agent_asks_for_the_whole_plan() {
    let disk = SimDisk::default();
    filled(&disk);
    let mut file = disk.read().unwrap();
    let salt = frame::salt(&file, FORMAT.version).unwrap();
    frame::push(&mut file, salt, &[200, 1, 2, 3]);
    disk.replace(&file).unwrap();
    let ledger = open(&disk);
    assert_eq!((ledger.generation(), ledger.found()), (Generation::NONE, Found::Newer));
    assert_eq!(disk.aside(), Some(file));
    assert_eq!(ledger.records().len(), 1, "what is known goes on running");
}

#[test]
fn a_full_disk_loses_nothing_once_there_is_room_again() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    disk.set_full(true);
    ledger.keep_plan(part(4, 5, vec![record("b/b", 9)], vec![])).unwrap();
    assert!(ledger.flush().is_err());
    assert!(ledger.dirty());
    for round in 0..1000 {
        let mut pod = state("u1");
        pod.started = Some(round);
        ledger.keep_pod(pod).unwrap();
        assert!(ledger.flush().is_err());
        assert_eq!(ledger.waiting.capacity(), 0, "nothing piles up in memory");
    }
    disk.set_full(false);
    ledger.flush().unwrap();
    assert!(!ledger.dirty());
    let again = open(&disk);
    assert_eq!(again.generation(), generation(5));
    assert_eq!(again.records().len(), 2);
}

#[test]
fn what_can_be_read_opens_though_nothing_can_be_written() {
    for how in [ErrorKind::ReadOnlyFilesystem, ErrorKind::StorageFull] {
        let disk = SimDisk::default();
        drop(filled(&disk));
        disk.set_refuses(Some(how));
        let before = disk.read().unwrap();
        for _ in 0..2 {
            let mut ledger = open(&disk);
            check_filled(&ledger);
            assert_eq!((ledger.epoch(), ledger.refusal()), (2, Some(how)));
            ledger.keep_plan(part(4, 5, vec![record("b/b", 9)], vec![])).unwrap();
            assert!(ledger.flush().is_err() && ledger.dirty());
        }
        assert!(disk.read().unwrap().starts_with(&before), "nothing that was there is lost");
        let mut ledger = open(&disk);
        disk.set_refuses(None);
        ledger.flush().unwrap();
        assert_eq!((ledger.refusal(), ledger.dirty()), (None, false));
        let again = open(&disk);
        check_filled(&again);
        assert_eq!((again.epoch(), again.found()), (3, Found::Sound));
    }
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
            ledger.keep_plan(part(at, round + 1, vec![record("a/x", 1)], vec![])).unwrap();
            at = round + 1;
        }
        ledger.write().unwrap();
        assert!(disk.len() <= COMPACT_FROM_BYTES + 4096, "{}", disk.len());
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
            assert!(!ledger.found().is_doubtful(), "seed {seed}: a power cut is no rot");
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
                ledger.keep_plan(next).unwrap();
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

/// Every byte of a file that grew in durable batches, one after the other: never an older plan that reads as if it
/// held.
#[test]
fn rot_in_the_middle_is_told_and_is_no_older_plan() {
    let disk = SimDisk::default();
    let mut ledger = open(&disk);
    let mut ends = vec![disk.len()];
    for to in 1..=4 {
        ledger.keep_plan(part(to - 1, to, vec![record(&format!("n/{to}"), 1)], vec![])).unwrap();
        ledger.keep_pod(state(&format!("u{to}"))).unwrap();
        ledger.flush().unwrap();
        ends.push(disk.len());
    }
    drop(ledger);
    let whole = disk.read().unwrap();
    // What is in the last batch is told, too, but lost.
    for at in 0..ends[3] {
        let mut file = whole.clone();
        file[at] ^= 0x41;
        disk.replace(&file).unwrap();
        let ledger = open(&disk);
        assert_eq!(ledger.generation(), Generation::NONE, "byte {at}: the hub is asked for all");
        if (20..24).contains(&at) {
            assert_eq!(ledger.found(), Found::Foreign, "no checksum holds without the salt");
            continue;
        }
        assert_eq!(ledger.found(), Found::Damaged { holes: 1 }, "byte {at}");
        assert!(ledger.records().get(&key("n/4")).is_some(), "byte {at}: what can be read runs on");
        assert!(3 <= ledger.pods().len(), "byte {at}");
        assert_eq!(disk.aside(), Some(file), "byte {at}");
        let again = open(&disk);
        assert_eq!((again.found(), again.generation()), (Found::Sound, Generation::NONE));
    }
}

/// Bytes of the mark that a durable plan ends with.
fn mark(file: &[u8]) -> usize {
    let salt = frame::salt(file, FORMAT.version).unwrap();
    let mut reader = frame::Reader::new(file, salt);
    let (mut last, mut at) = (None, 0);
    while !reader.is_done() {
        at = reader.at();
        last = reader.next().and_then(FORMAT.read);
    }
    assert!(matches!(last, Some(Entry::Synced(_))), "{last:?}");
    file.len() - at
}

/// The device was idle after its last plan: nothing came behind it.
#[test]
fn rot_in_the_last_plan_is_told() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    let before = disk.len();
    ledger.keep_plan(part(4, 5, vec![record("n/5", 1)], vec![key("a/x")])).unwrap();
    ledger.flush().unwrap();
    let whole = disk.read().unwrap();
    let end = whole.len() - mark(&whole);
    for at in before..end {
        let mut file = whole.clone();
        file[at] ^= 0x41;
        disk.replace(&file).unwrap();
        let ledger = open(&disk);
        assert_eq!(ledger.found(), Found::Damaged { holes: 1 }, "byte {at}");
        assert_eq!(ledger.generation(), Generation::NONE, "byte {at}: no older plan holds");
    }
    // The mark itself holds nothing that could be missed.
    for at in end..whole.len() {
        let mut file = whole.clone();
        file[at] ^= 0x41;
        disk.replace(&file).unwrap();
        let ledger = open(&disk);
        assert!(matches!(ledger.found(), Found::Torn { .. }), "byte {at}: {:?}", ledger.found());
        assert_eq!(ledger.generation(), generation(5), "byte {at}");
    }
}

#[test]
fn rot_in_a_ledger_that_was_written_anew_is_told() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    ledger.broken = true;
    ledger.flush().unwrap();
    let whole = disk.read().unwrap();
    for at in frame::HEADER_BYTES..whole.len() - mark(&whole) {
        let mut file = whole.clone();
        file[at] ^= 0x41;
        disk.replace(&file).unwrap();
        let ledger = open(&disk);
        assert_eq!(ledger.found(), Found::Damaged { holes: 1 }, "byte {at}");
        assert_eq!(ledger.generation(), Generation::NONE, "byte {at}");
    }
}

#[test]
fn a_plan_that_is_lost_with_its_mark_looks_torn() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    let before = disk.len();
    ledger.keep_plan(part(4, 5, vec![record("n/5", 1)], vec![key("a/x")])).unwrap();
    ledger.flush().unwrap();
    let mut file = disk.read().unwrap();
    file[before..].fill(0);
    disk.replace(&file).unwrap();
    let ledger = open(&disk);
    assert!(matches!(ledger.found(), Found::Torn { .. }), "{:?}", ledger.found());
    check_filled(&ledger);
}

/// The mark is no reason to wait for the disk, and none to refuse what is durable.
#[test]
fn a_mark_costs_no_sync_and_a_disk_that_refuses_it_loses_nothing() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    assert!(!ledger.dirty(), "nothing waits for a sync");
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20 {
        let copy = SimDisk::default();
        copy.replace(&disk.read().unwrap()).unwrap();
        copy.cut_power(&mut random);
        check_filled(&open(&copy));
    }
    ledger.unmarked = true;
    disk.set_full(true);
    ledger.flush().unwrap();
    assert!(ledger.dirty(), "the file is written anew");
    disk.set_full(false);
    ledger.flush().unwrap();
    check_filled(&open(&disk));
}

#[test]
fn a_torn_tail_is_told_apart_from_rot() {
    let disk = SimDisk::default();
    let whole = {
        let mut ledger = filled(&disk);
        ledger.keep_pod(state("u3")).unwrap();
        ledger.write().unwrap();
        disk.read().unwrap()
    };
    let at = whole.len() - 3;
    for file in [whole[..at].to_vec(), [&whole[..at], &[0; 3]].concat()] {
        disk.replace(&file).unwrap();
        let ledger = open(&disk);
        assert!(matches!(ledger.found(), Found::Torn { .. }), "{:?}", ledger.found());
        check_filled(&ledger);
        assert_eq!(disk.aside(), None);
    }
}

/// Whatever the plan's size, no entry is larger than what is believed when it is read.
#[test]
fn a_plan_of_any_size_is_there_again() {
    let disk = SimDisk::default();
    let mut ledger = open(&disk);
    let large = |name: &str| Record { body: vec![1; PLAN_PIECE_BYTES / 2], ..record(name, 0) };
    let records: Vec<Record> = ["a", "b", "c", "d", "e"].map(large).into();
    ledger.keep_plan(part(0, 1, records, vec![])).unwrap();
    // As it came, and compacted.
    for _ in 0..2 {
        ledger.flush().unwrap();
        let file = disk.read().unwrap();
        let mut reader = frame::Reader::new(&file, frame::salt(&file, FORMAT.version).unwrap());
        while let Some(payload) = reader.next() {
            assert!(payload.len() <= PLAN_PIECE_BYTES, "{}", payload.len());
        }
        assert!(reader.is_done());
        ledger = open(&disk);
        assert_eq!((ledger.found(), ledger.records().len()), (Found::Sound, 5));
        ledger.broken = true;
    }
    let huge = Record { body: vec![1; frame::ENTRY_BYTES_MAX], ..record("huge", 0) };
    let refused = ledger.keep_plan(part(1, 2, vec![record("x", 1), huge], vec![]));
    assert!(matches!(refused, Err(LedgerError::TooLarge { .. })), "{refused:?}");
    assert_eq!((ledger.generation(), ledger.records().len()), (generation(1), 5), "all or nothing");
}

#[test]
fn removals_of_any_number_are_kept_in_pieces() {
    let disk = SimDisk::default();
    let mut ledger = open(&disk);
    let named = |set: &'static str| (0..7000).map(move |number| format!("{set}{number:0600}"));
    let first = named("a").map(|name| record(&name, 1)).collect();
    ledger.keep_plan(part(0, 1, first, vec![])).unwrap();
    let (second, gone) = (named("b").map(|name| record(&name, 2)), named("a"));
    let change = part(1, 2, second.collect(), gone.map(|name| key(&name)).collect());
    assert_eq!(ledger.keep_plan(change).unwrap().map(|touched| touched.len()), Some(14_000));
    // Before it is written anew, which leaves removals out.
    let mut payloads = ledger.waiting.as_slice();
    while let Some((length, rest)) = payloads.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        assert!(length <= PLAN_PIECE_BYTES, "{length}");
        payloads = &rest[4 + length..];
    }
    let digest = ledger.digest();
    ledger.flush().unwrap();
    let ledger = open(&disk);
    assert_eq!((ledger.found(), ledger.generation()), (Found::Sound, generation(2)));
    assert_eq!((ledger.records().len(), ledger.digest()), (7000, digest));
}

#[test]
fn a_part_of_which_the_end_is_missing_never_holds() {
    let disk = SimDisk::default();
    let mut ledger = filled(&disk);
    let before = disk.len();
    let large = |name: &str| Record { body: vec![1; PLAN_PIECE_BYTES / 2], ..record(name, 0) };
    ledger.keep_plan(part(0, 9, vec![large("b"), large("c"), large("d")], vec![])).unwrap();
    let mut file = disk.read().unwrap();
    file.extend_from_slice(&ledger.waiting);
    for cut in [before + 100, before + PLAN_PIECE_BYTES + 200, file.len() - 1] {
        assert!(cut < file.len());
        disk.replace(&file[..cut]).unwrap();
        check_filled(&open(&disk));
    }
}

#[test]
fn ends_that_were_no_ends_are_counted() {
    let disk = SimDisk::default();
    let crashes = |disk: &SimDisk| open(disk).crashes();
    assert_eq!([crashes(&disk), crashes(&disk), crashes(&disk)], [0, 1, 2]);
    let mut ledger = open(&disk);
    assert_eq!(ledger.crashes(), 3);
    ledger.try_pod("u1").unwrap();
    ledger.broken = true;
    ledger.flush().unwrap();
    let mut ledger = open(&disk);
    assert_eq!(ledger.crashes(), 4, "a rewrite keeps the count");
    assert_eq!(ledger.suspects(), ["u1"], "what was tried when it ended");
    ledger.try_pod("u2").unwrap();
    ledger.write().unwrap();
    let two = ["u1", "u2"].map(String::from);
    let mut ledger = open(&disk);
    assert_eq!((ledger.suspects(), ledger.one_more()), (&two[..], false));
    ledger.try_rest().unwrap();
    ledger.write().unwrap();
    let mut ledger = open(&disk);
    assert_eq!((ledger.suspects(), ledger.one_more()), (&two[..], true));
    assert_eq!(ledger.blamed_again(), 0);
    ledger.try_pod("u1").unwrap();
    ledger.try_rest().unwrap();
    ledger.write().unwrap();
    let mut ledger = open(&disk);
    assert_eq!(
        (ledger.suspects(), ledger.one_more()),
        (&["u2", "u1"].map(String::from)[..], false)
    );
    assert_eq!(ledger.blamed_again(), 1);
    ledger.clear("u2").unwrap();
    ledger.write().unwrap();
    let mut ledger = open(&disk);
    assert_eq!((ledger.suspects(), ledger.blamed_again()), (&["u1".to_owned()][..], 1));
    ledger.forgive().unwrap();
    ledger.write().unwrap();
    let mut ledger = open(&disk);
    assert_eq!((ledger.crashes(), ledger.suspects()), (1, &[][..]));
    ledger.rest().unwrap();
    ledger.flush().unwrap();
    assert_eq!(crashes(&disk), 0);
}

#[test]
fn power_cuts_are_no_crashes_until_they_go_on() {
    let disk = SimDisk::default();
    let mut boot = 0;
    let mut cut = || {
        boot += 1;
        let mut ledger = open_in(&disk, &boot.to_string());
        ledger.try_pod("u1").unwrap();
        ledger.write().unwrap();
        (ledger.cuts(), ledger.crashes(), ledger.suspects().len())
    };
    let lives: Vec<_> = (0..=CUTS_TOLERATED).map(|_| cut()).collect();
    let luck: Vec<_> = (0..=CUTS_TOLERATED).map(|cuts| (cuts, 0, 0)).collect();
    assert_eq!(lives, luck);
    assert_eq!(cut(), (CUTS_TOLERATED, 1, 1), "something takes the machine down");
    let mut ledger = open_in(&disk, &boot.to_string());
    assert_eq!((ledger.cuts(), ledger.crashes()), (CUTS_TOLERATED, 2), "here the agent died");
    ledger.forgive().unwrap();
    ledger.write().unwrap();
    let ledger = open_in(&disk, "next");
    assert_eq!((ledger.cuts(), ledger.crashes(), ledger.suspects()), (1, 0, &[][..]));
    // Where nothing is known of boots, each end counts.
    assert_eq!(open_in(&disk, "").crashes(), 1);
    assert_eq!(open_in(&disk, "known").crashes(), 2);
}

#[test]
fn a_power_cut_clears_no_suspect() {
    let disk = SimDisk::default();
    let mut ledger = open_in(&disk, "1");
    ledger.try_pod("u1").unwrap();
    ledger.write().unwrap();
    assert_eq!(open_in(&disk, "1").suspects(), ["u1"]);
    let cut = open_in(&disk, "2");
    assert_eq!((cut.crashes(), cut.cuts(), cut.suspects()), (1, 1, &["u1".to_owned()][..]));
}

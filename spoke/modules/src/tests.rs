//! Modules that are what they say, and those that are not.

mod transfers;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use freewheel_link::artifact::{Envelope, SignerCert};
use freewheel_link::digest::Digest;
use freewheel_link::message::{ModuleHeaderV1, RefusalV1};
use freewheel_link::profile::{Arch, MemoryProfile, Profile};
use freewheel_spoke_agent::ports::{Input, Modules as _};
use freewheel_spoke_agent::uplink::{FetchError, Sink};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::mpsc;

use super::*;

const PROFILE: Profile = Profile::current(Arch::X86_64, MemoryProfile::Guard4g);

/// A fleet with one hub that sends what it is told to send.
struct Hub {
    root: Ed25519KeyPair,
    artifact: Vec<u8>,
    /// What goes over the wire.
    packed: Vec<u8>,
    profile: Profile,
    signed_by_another: bool,
    refuse: bool,
    /// Sends so many pieces and then nothing.
    stalls_after: Option<usize>,
    /// Where transfers began, in order.
    began: std::sync::Arc<parking_lot::Mutex<Vec<u64>>>,
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(key: &Ed25519KeyPair) -> [u8; 32] {
    key.public_key().as_ref().try_into().unwrap()
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn hub() -> Hub {
    let artifact: Vec<u8> = (0..200_000_u32).map(|i| (i / 7).to_le_bytes()[0]).collect();
    let packed = pack(&artifact);
    Hub {
        root: key(1),
        artifact,
        packed,
        profile: PROFILE,
        signed_by_another: false,
        refuse: false,
        stalls_after: None,
        began: std::sync::Arc::default(),
    }
}

fn component() -> Digest {
    Digest::of(b"component")
}

impl Hub {
    fn header(&self, component: Digest) -> ModuleHeaderV1 {
        let signer = key(2);
        let root = if self.signed_by_another { key(9) } else { key(1) };
        let not_after = u64::MAX;
        let cert = SignerCert {
            key: public(&signer),
            not_after,
            signature: root.sign(&SignerCert::message(&public(&signer), not_after)).as_ref().into(),
        };
        let (artifact, size) = (Digest::of(&self.artifact), self.artifact.len() as u64);
        let message = Envelope::message(&component, self.profile, 1, &artifact, size);
        let envelope = Envelope {
            component,
            profile: self.profile,
            build: 1,
            artifact,
            size,
            signer: cert,
            signature: signer.sign(&message).as_ref().into(),
        };
        ModuleHeaderV1 { envelope, compressed: self.packed.len() as u64, offset: 0 }
    }
}

#[async_trait]
impl Fetch for Hub {
    async fn fetch(
        &self,
        asked: Digest,
        _: Profile,
        sink: &mut dyn Sink,
    ) -> Result<ModuleHeaderV1, FetchError> {
        if self.refuse || asked != component() {
            return Err(FetchError::Refused(RefusalV1::new("ErrImageCompile", "no Wasm in it")));
        }
        let mut header = self.header(asked);
        let goes_on = sink.have().filter(|(_, artifact)| *artifact == header.envelope.artifact);
        header.offset = goes_on.map_or(0, |(bytes, _)| bytes).min(header.compressed);
        self.began.lock().push(header.offset);
        sink.begin(&header).await.map_err(FetchError::Sink)?;
        let rest = &self.packed[usize::try_from(header.offset).unwrap()..];
        for (index, piece) in rest.chunks(50).enumerate() {
            if self.stalls_after.is_some_and(|pieces| pieces <= index) {
                std::future::pending::<()>().await;
            }
            sink.write(piece).await.map_err(FetchError::Sink)?;
        }
        Ok(header)
    }
}

fn store(dir: &Path, hub: Hub) -> (Store, mpsc::Receiver<Input>) {
    store_on(dir, hub, std::sync::Arc::new(|| (100 << 30, 50 << 30)))
}

fn store_on(
    dir: &Path,
    hub: Hub,
    disk: std::sync::Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
) -> (Store, mpsc::Receiver<Input>) {
    let (inputs, queue) = mpsc::channel(8);
    let store = Store::open(Setup {
        dir: dir.to_owned(),
        profile: PROFILE,
        root: public(&hub.root),
        fetch: std::sync::Arc::new(hub),
        inputs,
        disk,
        runtime: tokio::runtime::Handle::current(),
    });
    (store, queue)
}

/// Wants the module once in a store at `dir`.
async fn bring(dir: &Path, hub: Hub) -> Result<PathBuf, (String, String)> {
    let (store, mut queue) = store(dir, hub);
    assert_eq!(store.want(component()), None, "nothing is offered unverified");
    let answer = tokio::time::timeout(Duration::from_secs(20), queue.recv()).await.unwrap();
    let Some(Input::Module(digest, outcome)) = answer else { panic!("{answer:?}") };
    assert_eq!(digest, component());
    if let Ok(path) = &outcome {
        assert_eq!(store.want(component()).as_ref(), Some(path), "now it is at hand");
    }
    outcome
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[tokio::test]
async fn where_no_directory_can_be_made_each_module_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("file");
    std::fs::write(&place, "in the way").unwrap();
    assert!(bring(&place.join("modules"), hub()).await.is_err());
    std::fs::remove_file(&place).unwrap();
    bring(&place.join("modules"), hub()).await.unwrap();
}

#[tokio::test]
async fn a_module_is_fetched_verified_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = bring(dir.path(), hub()).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), hub().artifact);
    assert_eq!(files(dir.path()), 2, "artifact and envelope");
    // The next life finds it without a hub.
    let offline = Hub { refuse: true, ..hub() };
    assert_eq!(bring(dir.path(), offline).await, Ok(path));
}

#[tokio::test]
async fn what_changed_on_disk_is_never_offered() {
    let dir = tempfile::tempdir().unwrap();
    let path = bring(dir.path(), hub()).await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[77] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let offline = Hub { refuse: true, ..hub() };
    let (reason, message) = bring(dir.path(), offline).await.unwrap_err();
    assert_eq!((reason.as_str(), message.as_str()), ("ErrImageCompile", "no Wasm in it"));
    assert_eq!(files(dir.path()), 0, "it is gone");
    assert_eq!(bring(dir.path(), hub()).await, Ok(path), "and fetched again");
}

/// What must not pass, and what the user is told.
#[tokio::test]
async fn bad_modules_are_refused_with_their_reason() {
    let mut tampered = hub();
    tampered.packed = pack(&[7; 200_000]);
    let mut longer = hub();
    longer.packed = pack(&vec![7; 300_000]);
    let mut torn = hub();
    torn.packed.truncate(torn.packed.len() / 2);
    let cases = [
        (tampered, "ErrImageVerify", "do not fit its envelope"),
        (longer, "ErrImageVerify", "do not fit its envelope"),
        (torn, "ErrImagePull", "cannot be unpacked"),
        (Hub { packed: b"no zstd at all".to_vec(), ..hub() }, "ErrImagePull", "cannot be unpacked"),
        (Hub { profile: Profile { major: 47, ..PROFILE }, ..hub() }, "ErrImageVerify", "asked was"),
        (Hub { signed_by_another: true, ..hub() }, "ErrImageVerify", "not certified"),
    ];
    for (hub, reason, text) in cases {
        let dir = tempfile::tempdir().unwrap();
        let outcome = bring(dir.path(), hub).await.unwrap_err();
        assert_eq!(outcome.0, reason, "{}", outcome.1);
        assert!(outcome.1.contains(text), "{}", outcome.1);
        assert_eq!(files(dir.path()), 0, "{text}: nothing stays");
    }
}

#[tokio::test]
async fn a_disk_that_refuses_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // A directory stands where the compressed bytes should go.
    let names = files::Names::of(dir.path(), &component(), PROFILE);
    std::fs::create_dir_all(files::Scratch::of(&names, 0).part.join("x")).unwrap();
    let (reason, message) = bring(dir.path(), hub()).await.unwrap_err();
    assert_eq!(reason, "ErrImagePull");
    assert!(message.contains("on disk"), "{message}");
}

/// A module that lies in `dir` since `age` seconds.
fn lying(dir: &Path, name: &str, size: u64, age: u64) -> PathBuf {
    let names = files::Names::of(dir, &Digest::of(name.as_bytes()), PROFILE);
    std::fs::write(&names.envelope, "envelope").unwrap();
    let when = SystemTime::now() - Duration::from_secs(age);
    let file = std::fs::File::create(&names.artifact).unwrap();
    // A hole is as large as bytes are.
    file.set_len(size).unwrap();
    file.set_modified(when).unwrap();
    names.artifact
}

/// Where time is paused, which does not go on while a thread of the runtime works on files, this takes as long as that does.
async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that");
}

#[tokio::test]
async fn a_full_disk_takes_the_modules_that_nobody_needs() {
    let dir = tempfile::tempdir().unwrap();
    let (needed, idle) = (lying(dir.path(), "needed", 9, 9), lying(dir.path(), "idle", 9, 9));
    let names = files::Names::of(dir.path(), &component(), PROFILE);
    let (store, mut queue) = store(dir.path(), hub());
    store.keep(&[Digest::of(b"needed"), component()]);
    // What the first transfer writes finds a full disk.
    let scratch = files::Scratch::of(&names, 0);
    std::os::unix::fs::symlink("/dev/full", &scratch.head).unwrap();
    store.want(component());
    let Some(Input::Module(_, outcome)) = queue.recv().await else { panic!() };
    assert_eq!(outcome, Ok(names.artifact.clone()), "the second transfer finds room");
    assert!(needed.exists() && !idle.exists());
    assert!(!idle.with_extension("envelope").exists());
}

#[tokio::test]
async fn a_full_disk_with_nothing_to_remove_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let names = files::Names::of(dir.path(), &component(), PROFILE);
    let (store, mut queue) = store(dir.path(), hub());
    let part = files::Scratch::of(&names, 0);
    std::os::unix::fs::symlink("/dev/full", &part.head).unwrap();
    store.want(component());
    let Some(Input::Module(_, Err((reason, message)))) = queue.recv().await else { panic!() };
    assert_eq!(reason, "ErrImagePull");
    assert!(message.contains("No space left"), "{message}");
    drop(part);
    assert_eq!(files(dir.path()), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_last_life_left_is_counted_once_the_plan_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let half = UNUSED_BYTES_KEPT / 2 + 1;
    let needed = lying(dir.path(), "needed", half, 40);
    let old = lying(dir.path(), "old", half, 30);
    let new = lying(dir.path(), "new", half, 20);
    // Of a power cut: an envelope whose module was never named, and pieces of a transfer.
    let stray = dir.path().join("x.envelope");
    let pieces =
        ["x.7.part", "x.7.tmp", "x.7.envelope-tmp", "x.gone"].map(|name| dir.path().join(name));
    for path in pieces.iter().chain([&stray]) {
        std::fs::write(path, "x").unwrap();
    }
    let (store, _queue) = store(dir.path(), hub());
    assert!(!stray.exists() && pieces.iter().all(|path| !path.exists()));
    assert_eq!(store.shared.sweep(0), 0, "before the plan is known everything may be needed");
    store.keep(&[Digest::of(b"needed")]);
    eventually(|| !old.exists()).await;
    assert!(needed.exists() && new.exists(), "the oldest is not the one that is needed");
}

#[tokio::test(start_paused = true)]
async fn a_module_that_was_needed_until_now_outlives_one_that_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let half = UNUSED_BYTES_KEPT / 2 + 1;
    let used = lying(dir.path(), "used", half, 40);
    let (store, _queue) = store(dir.path(), hub());
    store.keep(&[Digest::of(b"used")]);
    let other = lying(dir.path(), "other", half, 20);
    store.keep(&[]);
    eventually(|| !other.exists()).await;
    assert!(used.exists(), "a roll-back finds it");
}

#[tokio::test(start_paused = true)]
async fn a_disk_under_pressure_gives_back_what_nobody_needs() {
    let dir = tempfile::tempdir().unwrap();
    let (needed, idle) = (lying(dir.path(), "needed", 9, 9), lying(dir.path(), "idle", 9, 9));
    let free = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(50 << 30));
    let disk = free.clone();
    let disk = move || (100 << 30, disk.load(std::sync::atomic::Ordering::Relaxed));
    let (store, _queue) = store_on(dir.path(), hub(), std::sync::Arc::new(disk));
    store.keep(&[Digest::of(b"needed")]);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(idle.exists(), "there is room");
    free.store(1 << 20, std::sync::atomic::Ordering::Relaxed);
    eventually(|| !idle.exists()).await;
    assert!(needed.exists());
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _queue) = store(dir.path(), Hub { stalls_after: Some(1), ..hub() });
    store.want(component());
    eventually(|| files(dir.path()) == 2).await;
    store.keep(&[]);
    eventually(|| files(dir.path()) == 0).await;
}

/// A life that brings two pieces and ends when so many bytes are on the disk; where they lie.
async fn life_that_ends_early(dir: &Path, bytes: u64) -> PathBuf {
    let (store, _queue) = store(dir, Hub { stalls_after: Some(2), ..hub() });
    store.want(component());
    let half = || {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        let part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "part");
        entries.map(|entry| entry.path()).find(part)
    };
    let long = |path: PathBuf| path.metadata().is_ok_and(|meta| meta.len() == bytes);
    eventually(|| half().is_some_and(long)).await;
    half().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_transfer_goes_on_where_it_stopped_in_the_life_before() {
    let dir = tempfile::tempdir().unwrap();
    assert!(400 < hub().packed.len());
    life_that_ends_early(dir.path(), 100).await;
    life_that_ends_early(dir.path(), 200).await;
    let third = hub();
    let began = third.began.clone();
    let path = bring(dir.path(), third).await.unwrap();
    assert_eq!(*began.lock(), [200]);
    assert_eq!(std::fs::read(path).unwrap(), hub().artifact);
    assert_eq!(files(dir.path()), 2, "artifact and envelope");
}

#[tokio::test(start_paused = true)]
async fn a_half_that_has_changed_is_fetched_anew() {
    let dir = tempfile::tempdir().unwrap();
    for damage in ["part", "head", "another artifact"] {
        let half = life_that_ends_early(dir.path(), 100).await;
        let mut next = hub();
        match damage {
            "part" => std::fs::write(&half, [7; 100]).unwrap(),
            "head" => std::fs::write(half.with_extension("head"), "x").unwrap(),
            _ => next.artifact[9] ^= 1,
        }
        next.packed = pack(&next.artifact);
        let (began, artifact) = (next.began.clone(), next.artifact.clone());
        let path = bring(dir.path(), next).await.unwrap();
        let expected: &[u64] = if damage == "part" { &[100, 0] } else { &[0] };
        assert_eq!(*began.lock(), expected, "{damage}");
        assert_eq!(std::fs::read(&path).unwrap(), artifact);
        assert_eq!(files(dir.path()), 2, "{damage}: artifact and envelope");
        for file in std::fs::read_dir(dir.path()).unwrap().flatten() {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn halves_are_bounded_in_number_age_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let half = |name: &str, size: u64, age: Duration| {
        let names = files::Names::of(dir.path(), &Digest::of(name.as_bytes()), PROFILE);
        let scratch = files::Scratch::of(&names, 3);
        std::fs::write(&scratch.head, "envelope").unwrap();
        let file = std::fs::File::create(&scratch.part).unwrap();
        file.set_len(size).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        scratch.part.clone()
    };
    let there = |all: &[PathBuf]| all.iter().map(|path| path.exists()).collect::<Vec<_>>();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let many: Vec<PathBuf> =
        (0..10).map(|index| half(&format!("many-{index}"), 9, minutes(index))).collect();
    let old = half("old", 9, partial_downloads::PARTIAL_AGE_MAX + minutes(1));
    let (first, _queue) = store(dir.path(), hub());
    let kept: Vec<bool> =
        (0..10).map(|index| index < partial_downloads::PARTIAL_DOWNLOADS_MAX).collect();
    assert_eq!(there(&many), kept, "the newest stay");
    assert!(!old.exists());
    drop(first);
    let large = [
        half("large-0", partial_downloads::PARTIAL_BYTES_MAX / 2, minutes(0)),
        half("large-1", partial_downloads::PARTIAL_BYTES_MAX, minutes(9)),
    ];
    let (second, _queue) = store(dir.path(), hub());
    assert_eq!(there(&large), [true, false]);
    second.keep(&[Digest::of(b"many-1")]);
    eventually(|| files(dir.path()) == 2).await;
    assert!(many[1].exists(), "the one that is wanted");
    let larger = [
        half("larger-0", partial_downloads::PARTIAL_BYTES_MAX + 1, minutes(0)),
        half("larger-1", partial_downloads::PARTIAL_BYTES_MAX + 1, minutes(9)),
    ];
    let (_third, _queue) = store(dir.path(), hub());
    assert_eq!(there(&larger), [true, false], "the newest can arrive, however large it is");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_runs_keeps_its_part_when_another_module_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut queue) = store(dir.path(), Hub { stalls_after: Some(3), ..hub() });
    assert_eq!(store.want(component()), None);
    let part =
        files::Names::of(dir.path(), &component(), PROFILE).artifact.with_extension("0.part");
    let length = || std::fs::metadata(&part).map_or(0, |meta| meta.len());
    eventually(|| length() == 150).await;
    std::fs::File::options()
        .write(true)
        .open(&part)
        .unwrap()
        .set_len(partial_downloads::PARTIAL_BYTES_MAX + 1)
        .unwrap();
    let other = Digest::of(b"other");
    assert_eq!(store.want(other), None);
    let answer = tokio::time::timeout(Duration::from_secs(20), queue.recv()).await.unwrap();
    assert!(matches!(answer, Some(Input::Module(digest, Err(_))) if digest == other), "{answer:?}");
    assert_eq!(length(), partial_downloads::PARTIAL_BYTES_MAX + 1, "it is still there");
}

/// A hub that looks, each time it is asked, whether somebody still unpacks the first transfer.
struct Looking {
    hub: Hub,
    unpacked: PathBuf,
    seen: std::sync::Arc<parking_lot::Mutex<Vec<bool>>>,
}

#[async_trait]
impl Fetch for Looking {
    async fn fetch(
        &self,
        asked: Digest,
        profile: Profile,
        sink: &mut dyn Sink,
    ) -> Result<ModuleHeaderV1, FetchError> {
        self.seen.lock().push(self.unpacked.exists());
        self.hub.fetch(asked, profile, sink).await
    }
}

/// Its time is the real one: paused, it would stand still for as long as the thread that unpacks does.
#[tokio::test]
async fn what_is_still_being_unpacked_is_nobody_else_s() {
    let dir = tempfile::tempdir().unwrap();
    let names = files::Names::of(dir.path(), &component(), PROFILE);
    let scratch = files::Scratch::of(&names, 0);
    let (unpacked, part) = (scratch.temporary.clone(), scratch.part.clone());
    drop(scratch);
    let seen = std::sync::Arc::<parking_lot::Mutex<Vec<bool>>>::default();
    let hub = hub();
    let (began, root) = (hub.began.clone(), public(&hub.root));
    let (inputs, mut queue) = mpsc::channel(8);
    let store = Store::open(Setup {
        dir: dir.path().to_owned(),
        profile: PROFILE,
        root,
        fetch: std::sync::Arc::new(Looking { hub, unpacked: unpacked.clone(), seen: seen.clone() }),
        inputs,
        disk: std::sync::Arc::new(|| (100 << 30, 50 << 30)),
        runtime: tokio::runtime::Handle::current(),
    });
    // The first transfer unpacks into a pipe that nobody reads for a while.
    assert!(std::process::Command::new("mkfifo").arg(&unpacked).status().unwrap().success());
    store.want(component());
    let reader = tokio::task::spawn_blocking(move || std::fs::File::open(unpacked).unwrap());
    let mut reader = reader.await.unwrap();
    // Given up and wanted again, while its unpacking cannot be called off.
    store.keep(&[]);
    eventually(|| !part.exists()).await;
    store.want(component());
    let waits = || {
        let turns = store.shared.turns_of(component());
        2 < std::sync::Arc::strong_count(&turns) || 1 < seen.lock().len()
    };
    eventually(waits).await;
    let read = move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    let read = tokio::task::spawn_blocking(read).await.unwrap();
    assert_eq!(read, self::hub().artifact.len() as u64);
    let answer = tokio::time::timeout(Duration::from_secs(20), queue.recv()).await.unwrap();
    assert!(
        matches!(&answer, Some(Input::Module(_, Ok(path))) if *path == names.artifact),
        "{answer:?}"
    );
    assert_eq!(*seen.lock(), [true, false], "the second one begins when the first is over");
    assert_eq!(*began.lock(), [0, 0]);
    assert_eq!(files(dir.path()), 2, "artifact and envelope");
}

#[tokio::test]
async fn what_begins_anew_is_not_touched_by_a_late_write_to_what_was_there() {
    use std::io::{Seek as _, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let names = files::Names::of(dir.path(), &component(), PROFILE);
    let scratch = files::Scratch::of(&names, 1);
    let mut late = std::fs::File::create(&scratch.part).unwrap();
    let hub = hub();
    let mut part = download::Download {
        scratch: &scratch,
        root: &public(&hub.root),
        component: component(),
        profile: PROFILE,
        now: None,
        file: None,
        written: 0,
        envelope: None,
        transfers: std::sync::Arc::new(tokio::sync::Semaphore::new(1)),
        permit: None,
        refused: None,
    };
    part.begin(&hub.header(component())).await.unwrap();
    late.seek(std::io::SeekFrom::Start(100)).unwrap();
    late.write_all(b"late").unwrap();
    part.write(b"new").await.unwrap();
    tokio::io::AsyncWriteExt::flush(part.file.as_mut().unwrap()).await.unwrap();
    assert_eq!(std::fs::read(&scratch.part).unwrap(), b"new");
}

#[test]
fn idle_modules_go_oldest_first_until_the_rest_fits() {
    let one = |name: &str, age: u64, size: u64| files::Idle {
        used: SystemTime::UNIX_EPOCH + Duration::from_secs(100 - age),
        size,
        artifact: name.into(),
    };
    let all = || vec![one("middle", 20, 100), one("old", 30, 1), one("new", 10, 100)];
    let names = |spare| {
        let going = files::beyond(all(), spare);
        going.iter().map(|one| one.artifact.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(201), Vec::<String>::new());
    assert_eq!(names(200), ["old"]);
    assert_eq!(names(199), ["old", "middle"]);
    assert_eq!(names(0), ["old", "middle", "new"]);
}

#[test]
fn modules_that_are_to_be_checked_wait_without_a_thread() {
    // One thread for all work with files.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = bring(dir.path(), hub()).await.unwrap();
        let (store, mut queue) = store(dir.path(), Hub { refuse: true, ..hub() });
        let under_way = store.shared.checks.acquire().await.unwrap();
        assert_eq!(store.want(component()), None);
        let line = tokio::task::spawn_blocking(|| "a line of a log");
        let line = tokio::time::timeout(Duration::from_secs(20), line).await;
        assert_eq!(line.unwrap().unwrap(), "a line of a log");
        assert!(queue.try_recv().is_err(), "it waits for its turn");
        drop(under_way);
        let answer = tokio::time::timeout(Duration::from_secs(20), queue.recv()).await.unwrap();
        let Some(Input::Module(asked, Ok(found))) = answer else { panic!("{answer:?}") };
        assert_eq!((asked, found), (component(), path));
    });
}

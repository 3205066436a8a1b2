//! Modules that are what they say, and those that are not.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_link::artifact::{Envelope, SignerCert};
use freewheel_link::digest::Digest;
use freewheel_link::message::{ModuleHeaderV1, RefusalV1};
use freewheel_spoke_agent::ports::{Input, Modules as _};
use freewheel_spoke_agent::uplink::{FetchError, Sink};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::mpsc;

use super::*;

const PROFILE: &str = "48-x86_64-guard-1";

/// A fleet with one hub that sends what it is told to send.
struct Hub {
    root: Ed25519KeyPair,
    artifact: Vec<u8>,
    /// What goes over the wire.
    packed: Vec<u8>,
    profile: &'static str,
    signed_by_another: bool,
    refuse: bool,
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
    }
}

fn component() -> Digest {
    Digest::of(b"component")
}

impl Hub {
    fn header(&self) -> ModuleHeaderV1 {
        let signer = key(2);
        let root = if self.signed_by_another { key(9) } else { key(1) };
        let not_after = u64::MAX;
        let cert = SignerCert {
            key: public(&signer),
            not_after,
            signature: root.sign(&SignerCert::message(&public(&signer), not_after)).as_ref().into(),
        };
        let (artifact, size) = (Digest::of(&self.artifact), self.artifact.len() as u64);
        let message = Envelope::message(&component(), self.profile, 1, &artifact, size);
        let envelope = Envelope {
            component: component(),
            profile: self.profile.to_owned(),
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
        _: Digest,
        _: &str,
        sink: &mut dyn Sink,
    ) -> Result<ModuleHeaderV1, FetchError> {
        if self.refuse {
            return Err(FetchError::Refused(RefusalV1::new("ErrImageCompile", "no Wasm in it")));
        }
        let header = self.header();
        sink.begin(&header).await.map_err(FetchError::Sink)?;
        for piece in self.packed.chunks(1000) {
            sink.write(piece).await.map_err(FetchError::Sink)?;
        }
        Ok(header)
    }
}

/// Wants the module once in a store at `dir`.
async fn bring(dir: &Path, hub: Hub) -> Result<std::path::PathBuf, (String, String)> {
    let (inputs, mut queue) = mpsc::channel(8);
    let store = Store::open(Setup {
        dir: dir.to_owned(),
        profile: PROFILE.to_owned(),
        root: public(&hub.root),
        fetch: std::sync::Arc::new(hub),
        inputs,
        runtime: tokio::runtime::Handle::current(),
    })
    .unwrap();
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
        (Hub { profile: "47-arm-small-1", ..hub() }, "ErrImageVerify", "asked was"),
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
    std::fs::create_dir_all(names.part.join("x")).unwrap();
    let (reason, message) = bring(dir.path(), hub()).await.unwrap_err();
    assert_eq!(reason, "ErrImagePull");
    assert!(message.contains("on disk"), "{message}");
}

#[test]
fn idle_modules_go_oldest_first_and_needed_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, age: u64| {
        let path = dir.path().join(format!("{name}.cwasm"));
        std::fs::write(&path, [0; 100]).unwrap();
        let when = std::time::SystemTime::now() - Duration::from_secs(age);
        std::fs::File::open(&path).unwrap().set_modified(when).unwrap();
        path
    };
    let (old, middle, new) = (make("old", 30), make("middle", 20), make("new", 10));
    let removed = files::sweep(dir.path(), std::slice::from_ref(&old), 100).unwrap();
    assert_eq!(removed, [middle]);
    assert!(old.exists() && new.exists());
}

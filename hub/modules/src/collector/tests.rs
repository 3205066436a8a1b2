//! What goes, what stays, and that a push in between loses nothing.

use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::compile::{COMPILER_BUILD, Made};
use crate::registry::tests::{call, delete, module, modules, push, tag, upload};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn blob(content: &str, idle: Option<Duration>, named: bool) -> (blobs::Listed, bool) {
    let digest = Digest::of(content.as_bytes());
    (blobs::Listed { digest, bytes: content.len() as u64, idle }, named)
}

fn of(component: &str, stem: &str) -> compiled::Listed {
    compiled::Listed {
        stem: stem.to_owned(),
        component: Digest::of(component.as_bytes()),
        current: true,
        whole: true,
        bytes: 1,
        idle: DAY,
    }
}

#[test]
fn blobs_go_when_nobody_names_them_and_their_grace_is_over() {
    let seen = Seen {
        blobs: vec![
            blob("named", Some(DAY * 100), true),
            blob("young", Some(DAY - HOUR), false),
            blob("old", Some(DAY), false),
            blob("of the future", None, false),
            blob("of the future, named", None, true),
        ],
        ..Seen::default()
    };
    let verdict = decide(&seen, &Limits::USUAL);
    assert_eq!(verdict.blobs, [(Digest::of(b"old"), 3)]);
    assert_eq!(verdict.redate, [Digest::of(b"of the future")]);
}

#[test]
fn uploads_go_after_their_silence() {
    let uploads = vec![("quiet".to_owned(), HOUR), ("busy".to_owned(), HOUR - HOUR / 60)];
    let verdict = decide(&Seen { uploads, ..Seen::default() }, &Limits::USUAL);
    assert_eq!(verdict.uploads, ["quiet"]);
}

#[test]
fn compiled_code_lives_as_long_as_its_component_and_its_engine() {
    let seen = Seen {
        blobs: vec![blob("here", Some(DAY), true), blob("going", Some(DAY), false)],
        lost: BTreeSet::from([Digest::of(b"lost")]),
        compiled: vec![
            of("lost", "all that is left of it"),
            of("here", "in use"),
            compiled::Listed { current: false, ..of("here", "of an older build") },
            compiled::Listed { whole: false, ..of("here", "a forgotten half") },
            compiled::Listed { whole: false, idle: HOUR / 2, ..of("here", "being made") },
            of("going", "of a component that goes"),
            of("gone", "of a component that is gone"),
        ],
        ..Seen::default()
    };
    let verdict = decide(&seen, &Limits::USUAL);
    let names =
        |all: &[(String, u64)]| all.iter().map(|(stem, _)| stem.clone()).collect::<Vec<_>>();
    assert_eq!(names(&verdict.useless), ["of an older build", "a forgotten half"]);
    let orphans: Vec<&str> = verdict.orphans.iter().map(|(_, stem, _)| stem.as_str()).collect();
    assert_eq!(orphans, ["of a component that goes", "of a component that is gone"]);
}

/// Makes every blob look as if nobody had touched it for two days.
fn age(dir: &Path) {
    for entry in std::fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - 2 * DAY).unwrap();
    }
}

fn blobs_in(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("blobs/sha256")).unwrap().count()
}

fn compile_by_hand(inner: &Inner, component: &Digest) -> std::path::PathBuf {
    let profile = freewheel_link::profile::Profile::candidates()[0];
    let path = inner.compiled.path(component, profile);
    std::fs::write(&path, b"native code").unwrap();
    let made = Made { digest: Digest::of(b"x").to_string(), size: 1, build: COMPILER_BUILD };
    inner.compiled.write_note(&path, &made).unwrap();
    path
}

#[tokio::test]
async fn a_deleted_manifest_gives_back_everything_of_it_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let registry = modules(dir.path());
    let kept = push(&registry, "kept", "v1", module("kept")).await;
    let gone = push(&registry, "gone", "v1", module("gone")).await;
    let (kept_code, gone_code) = (
        compile_by_hand(&registry.inner, &kept.component),
        compile_by_hand(&registry.inner, &gone.component),
    );
    delete(&registry, &format!("/v2/gone/manifests/{}", gone.manifest)).await;
    age(dir.path());
    let now = collect(&registry.inner, &Limits::USUAL).unwrap();
    assert_eq!(now, Freed::default(), "this life remembers that they were pushed just now");

    drop(registry);
    let registry = modules(dir.path());
    let freed = collect(&registry.inner, &Limits::USUAL).unwrap();
    // The configuration blob is the same for both.
    assert_eq!((freed.blobs, freed.compiled), (2, 1));
    assert_eq!(blobs_in(dir.path()), 3);
    assert!(kept_code.exists() && !gone_code.exists());
    assert_eq!(collect(&registry.inner, &Limits::USUAL).unwrap(), Freed::default());
}

#[tokio::test]
async fn a_manifest_without_a_tag_stays_with_its_module() {
    let dir = tempfile::tempdir().unwrap();
    let registry = modules(dir.path());
    let old = push(&registry, "app", "latest", module("old")).await;
    push(&registry, "app", "latest", module("new")).await;
    age(dir.path());
    drop(registry);
    let registry = modules(dir.path());
    assert_eq!(collect(&registry.inner, &Limits::USUAL).unwrap(), Freed::default());
    use freewheel_hub_api::images::Images as _;
    let pinned = registry.resolve(&format!("app@{}", old.manifest)).unwrap().component;
    assert_eq!(pinned, old.component, "a pod by digest and a roll-back find it");
    assert!(registry.inner.blobs.size(&old.component).is_some());
}

#[tokio::test]
async fn a_push_that_finds_its_blob_there_does_not_lose_it() {
    let dir = tempfile::tempdir().unwrap();
    let layer = module("layer");
    upload(&modules(dir.path()), "app", &layer).await;
    age(dir.path());
    // The next life: nobody names the blob and its time is over, but a push asks for it just before.
    let registry = modules(dir.path());
    let seen = observe(&registry.inner).unwrap();
    let verdict = decide(&seen, &Limits::USUAL);
    assert_eq!(verdict.blobs.len(), 1, "it would go");
    let head = http::Method::HEAD;
    let path = format!("/v2/app/blobs/{}", Digest::of(&layer));
    let there = call(&registry, head, &path, "").await;
    assert_eq!(there.status, http::StatusCode::OK);
    assert_eq!(apply(&registry.inner, &verdict, &Limits::USUAL).unwrap(), Freed::default());
    assert_eq!(collect(&registry.inner, &Limits::USUAL).unwrap(), Freed::default());
    let pushed = push(&registry, "app", "v1", layer).await;
    assert!(registry.inner.blobs.size(&pushed.component).is_some());
}

/// Pushes, as clients do them, beside one collection after the other. Every blob lies there since an earlier
/// life and its time is over, so what a push finds is about to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_beside_collections_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<Vec<u8>> = (0..60).map(|round| module(&round.to_string())).collect();
    let earlier = modules(dir.path());
    for layer in &layers {
        upload(&earlier, "app", layer).await;
    }
    drop(earlier);
    age(dir.path());
    let registry = modules(dir.path());
    let (collecting, path) = (registry.clone(), dir.path().to_owned());
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let collector = tokio::task::spawn_blocking(move || {
        let mut freed = 0;
        while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            freed += collect(&collecting.inner, &Limits::USUAL).unwrap().blobs;
            age(&path);
        }
        freed
    });
    let mut found = 0;
    for (round, layer) in layers.iter().enumerate() {
        let path = format!("/v2/app/blobs/{}", Digest::of(layer));
        let there = call(&registry, http::Method::HEAD, &path, "").await;
        if there.status != http::StatusCode::OK {
            upload(&registry, "app", layer).await;
        }
        found += usize::from(there.status == http::StatusCode::OK);
        let pushed = tag(&registry, "app", &format!("v{round}"), Digest::of(layer)).await;
        if round % 2 == 0 {
            delete(&registry, &format!("/v2/app/manifests/{}", pushed.manifest)).await;
        }
    }
    drop(stop);
    let freed = collector.await.unwrap();
    assert_eq!(found + freed, layers.len(), "each was found by a push or collected before it");
    for (digest, component) in registry.inner.tags.book().manifests() {
        assert!(registry.inner.blobs.size(&digest).is_some());
        assert!(registry.inner.blobs.size(&component.unwrap()).is_some());
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_stops_the_run_before_anything_goes() {
    let dir = tempfile::tempdir().unwrap();
    let registry = modules(dir.path());
    let pushed = push(&registry, "app", "v1", module("app")).await;
    upload(&registry, "app", b"garbage").await;
    let path = registry.inner.blobs.path(&pushed.manifest);
    drop(registry);
    let stopped = || {
        age(dir.path());
        let registry = modules(dir.path());
        let why = collect(&registry.inner, &Limits::USUAL).unwrap_err();
        assert!(registry.inner.blobs.size(&Digest::of(b"garbage")).is_some());
        why.to_string()
    };
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let why = stopped();
    assert!(why.contains(&*path.to_string_lossy()) && why.contains("push it again"), "{why}");
    std::fs::remove_file(&path).unwrap();
    // A folder in its place: there, and not readable.
    std::fs::create_dir(&path).unwrap();
    stopped();
}

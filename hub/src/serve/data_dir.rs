//! What lies in the data folder, opened in the one order that a start may be killed in.
//!
//! ```text
//! store/store.redb ─▶ pki/ca.key ─▶ pki/ca.crt ─▶ pki/admin.* ─▶ pki/fleet-root.key ─▶ pki/sealing.keys
//!   (revision 0)                                         then the first revision ◀─ modules/tags.json ◀─┘
//! ```
//!
//! Guarantees:
//! - each file is made whole or not at all, and durably before the next: a first start that is killed anywhere starts
//!   again (`a_first_start_killed_at_any_step_starts_again`);
//! - a key that seals is made where nothing is sealed, and never in place of one that is lost
//!   (`what_is_lost_or_emptied_later_is_told_by_name_and_not_made_anew`);
//! - a key says that the store was there, the registry that all keys were, and a revision that all of it was: a file
//!   that is lost later is told by name and never made anew over what depends on it
//!   (`what_is_lost_or_emptied_later_is_told_by_name_and_not_made_anew`,
//!   `whole_folders_that_are_lost_are_told_by_what_is_left`);
//! - an empty folder in the registry's place begins an empty registry, and nothing else does
//!   (`whole_folders_that_are_lost_are_told_by_what_is_left`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use freewheel_hub_modules::{FleetRoot, Modules, Options};
use freewheel_hub_pki::{Pki, PkiError, SealingFile, check_regular};
use freewheel_hub_store::Store as _;
use freewheel_hub_store::redb::{FileDisk, RedbStore};
use freewheel_link::artifact::PublicKey;

use super::sealing::{EncryptionConfiguration, Sealing};
use super::serve_error::ServeError;

pub struct DataDir {
    pub store: Arc<RedbStore>,
    pub sealing: Arc<Sealing>,
    pub pki: Pki,
    pub fleet_root: PublicKey,
    pub modules: Modules,
}

impl DataDir {
    /// Opens what is there, or makes it. Blocking.
    pub fn in_folder(
        data: &Path,
        compiler: PathBuf,
        encryption: EncryptionConfiguration,
    ) -> Result<Self, ServeError> {
        let (dir, registry) = (data.join("store"), data.join("modules"));
        let has_registry = Modules::is_there(&registry);
        let sealing = Sealing::new(SealingFile::of(data), encryption)?;
        let may_make = !has_registry && !Pki::is_there(data);
        let opened = RedbStore::open_sealed(FileDisk::new(&dir), may_make, sealing.clone());
        let store =
            opened.map_err(|source| ServeError::Store { path: dir, source: Box::new(source) })?;
        store.begin_life();
        let has_data = store.snapshot().revision() != 0;
        let had_keys = has_data || has_registry;
        let pki = Pki::open(data, had_keys)?;
        let root = data.join("pki/fleet-root.key");
        if root.exists() {
            let unusable = |source| PkiError::File { path: root.clone(), source };
            check_regular(&root).map_err(unusable)?;
        }
        let root = FleetRoot::open(&root, !had_keys)?;
        let fleet_root = root.public();
        sealing.make_first_key()?;
        let options = Options { dir: registry, compiler, root, may_make: !has_data };
        let modules = Modules::open(options)?;
        Ok(Self { store: Arc::new(store), sealing, pki, fleet_root, modules })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freewheel_hub_objects::internal::token_signers;
    use freewheel_hub_pki::{KeyId, SealingKey};
    use freewheel_hub_schema::object::{Header, Key, Object, Resource};
    use freewheel_hub_store::{Operation, Txn};
    use freewheel_link::names::ClusterName;
    use tokio_util::sync::CancellationToken;

    use super::super::disk::{Disk, WatchedStore};
    use super::super::sealing::Rotation;
    use super::*;

    /// What a first start leaves, in the order in which it is made; the name that each is made under.
    const MADE: [(&str, &str); 9] = [
        ("store/store.redb", "store/store.new"),
        ("store/acknowledged", "store/acknowledged"),
        ("pki/ca.key", "pki/ca.new"),
        ("pki/ca.crt", "pki/ca.new"),
        ("pki/admin.key", "pki/admin.new"),
        ("pki/admin.crt", "pki/admin.new"),
        ("pki/fleet-root.key", "pki/fleet-root.new"),
        ("pki/sealing.keys", "pki/sealing.new"),
        ("modules/tags.json", "modules/tags.new"),
    ];
    const DIRS: [&str; 3] = ["store", "pki", "modules"];

    fn open(data: &Path) -> Result<DataDir, ServeError> {
        DataDir::in_folder(data, "none".into(), EncryptionConfiguration::default())
    }

    fn files(data: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for dir in DIRS {
            for entry in std::fs::read_dir(data.join(dir)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    found.push(format!("{dir}/{}", entry.file_name().to_str().unwrap()));
                }
            }
        }
        found.sort();
        found
    }

    async fn write_something(opened: &DataDir) {
        let operations = vec![put("nodes", "n", "{}"), put("secrets", "s", "{}")];
        opened.store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    fn put(plural: &str, name: &str, body: &str) -> Operation {
        Operation::Put(
            key(plural, name),
            Object { header: Header::default(), body: body.to_owned().into() },
        )
    }

    fn key(plural: &str, name: &str) -> Key {
        Key::new(&Resource::new("", plural), &ClusterName::root(), "", name)
    }

    #[test]
    fn a_first_start_killed_at_any_step_starts_again() {
        let whole = tempfile::tempdir().unwrap();
        drop(open(whole.path()).unwrap());
        let mut made: Vec<_> = MADE.iter().map(|(name, _)| (*name).to_owned()).collect();
        made.sort();
        assert_eq!(files(whole.path()), made, "the list above is all of it");
        for done in 0..=MADE.len() {
            for share in [0, 1, 2] {
                let data = tempfile::tempdir().unwrap();
                for dir in DIRS {
                    std::fs::create_dir(data.path().join(dir)).unwrap();
                }
                for (name, _) in &MADE[..done] {
                    std::fs::copy(whole.path().join(name), data.path().join(name)).unwrap();
                }
                if let Some((name, begun)) = MADE.get(done) {
                    let bytes = std::fs::read(whole.path().join(name)).unwrap();
                    let half = &bytes[..bytes.len() * share / 2];
                    std::fs::write(data.path().join(begun), half).unwrap();
                }
                let started = open(data.path());
                assert!(started.is_ok(), "step {done}, {share} halves: {:?}", started.err());
            }
        }
    }

    #[tokio::test]
    async fn what_is_lost_or_emptied_later_is_told_by_name_and_not_made_anew() {
        for (name, needed) in [
            ("store/store.redb", true),
            ("pki/ca.key", true),
            ("pki/ca.crt", true),
            ("pki/fleet-root.key", true),
            ("pki/sealing.keys", true),
            ("modules/tags.json", true),
            ("pki/admin.key", false),
            ("pki/admin.crt", false),
            ("store/acknowledged", false),
        ] {
            for emptied in [false, true] {
                let data = tempfile::tempdir().unwrap();
                let opened = open(data.path()).unwrap();
                write_something(&opened).await;
                drop(opened);
                let path = data.path().join(name);
                std::fs::remove_file(&path).unwrap();
                if emptied {
                    std::fs::write(&path, b"").unwrap();
                }
                let again = open(data.path());
                assert_eq!(again.is_err(), needed, "{name}, emptied: {emptied}");
                if let Err(error) = again {
                    let text = crate::chain(&error);
                    assert!(text.contains(&*path.to_string_lossy()), "{text}");
                    assert!(
                        text.contains("copy of the data") || text.contains("from a copy"),
                        "{text}"
                    );
                    let left = std::fs::read(&path).unwrap_or_default();
                    assert!(left.is_empty(), "{name} was made anew");
                }
            }
        }
    }
    #[tokio::test]
    async fn whole_folders_that_are_lost_are_told_by_what_is_left() {
        let left = [
            (&["store"][..], "store/store.redb"),
            (&["store", "modules"], "store/store.redb"),
            (&["store", "pki"], "store/store.redb"),
            (&["pki"], "pki/sealing.keys"),
            (&["pki", "modules"], "pki/sealing.keys"),
            (&["modules"], "modules/tags.json"),
        ];
        for (lost, named) in left {
            let data = tempfile::tempdir().unwrap();
            let opened = open(data.path()).unwrap();
            write_something(&opened).await;
            drop(opened);
            for dir in lost {
                std::fs::remove_dir_all(data.path().join(dir)).unwrap();
            }
            let text = crate::chain(&open(data.path()).err().unwrap());
            assert!(text.contains(&*data.path().join(named).to_string_lossy()), "{lost:?}: {text}");
            assert!(text.contains("from a copy"), "{lost:?}: {text}");
            assert!(!data.path().join(named).exists(), "{lost:?}: it was made anew");
            if lost == ["modules"] {
                std::fs::create_dir(data.path().join("modules")).unwrap();
                open(data.path()).unwrap();
            }
        }
    }

    /// Whether the text is somewhere below the folder.
    fn lies_open(folder: &Path, text: &str) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return lies_open(&path, text);
            }
            std::fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
        })
    }

    const CANARY: &str = "the canary in the coal mine";

    #[tokio::test]
    async fn a_secret_is_nowhere_in_the_data_folder() {
        let data = tempfile::tempdir().unwrap();
        let opened = open(data.path()).unwrap();
        let signer = Key { resource: token_signers(), ..key("", "s") };
        let signer = |text: &str| {
            let object = Object { header: Header::default(), body: text.to_owned().into() };
            Operation::Put(signer.clone(), object)
        };
        let commit = async |operations| {
            opened.store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        };
        for round in 0..5 {
            let text = format!("{CANARY} {round}");
            commit(vec![put("secrets", "s", &text), signer(&text), put("pods", "p", "in sight")])
                .await;
        }
        commit(vec![Operation::Delete(key("secrets", "s"))]).await;
        assert!(lies_open(data.path(), "in sight") && !lies_open(data.path(), CANARY), "killed");
        drop(opened);
        assert!(lies_open(data.path(), "in sight") && !lies_open(data.path(), CANARY), "closed");
        let opened = open(data.path()).unwrap();
        let found = opened.store.snapshot().get(&Key { resource: token_signers(), ..key("", "s") });
        assert_eq!(found.unwrap().object.body, format!("{CANARY} 4"));
    }

    /// Runs as a hub does until the file has this key alone.
    async fn rotates_to(data: &Path, opened: &DataDir, added: impl FnOnce() -> KeyId) {
        let stop = CancellationToken::new();
        let rotation = Rotation { sealing: opened.sealing.clone(), store: opened.store.clone() };
        let running = tokio::spawn(rotation.run(stop.clone()));
        tokio::task::yield_now().await;
        let (file, key) = (SealingFile::of(data), added());
        let alone = async {
            while file.keys().unwrap().iter().map(SealingKey::id).ne([key]) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), alone).await.unwrap();
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_file_that_lacks_a_key_in_use_takes_none_away_and_refuses_what_is_to_be_sealed() {
        let data = tempfile::tempdir().unwrap();
        let file = SealingFile::of(data.path());
        let opened = open(data.path()).unwrap();
        let operation = || put("secrets", "s", CANARY);
        opened
            .store
            .commit(Txn { expect: Vec::new(), operations: vec![operation()] })
            .await
            .unwrap();
        let yesterday = std::fs::read(file.path()).unwrap();
        rotates_to(data.path(), &opened, || file.add().unwrap().id()).await;
        let newest = std::fs::read(file.path()).unwrap();
        let (other, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        SealingFile::of(foreign.path()).add().unwrap();
        let foreign = std::fs::read(SealingFile::of(foreign.path()).path()).unwrap();
        let disk = Disk::new(other.path());
        let sealing = Some(opened.sealing.clone());
        let watched = WatchedStore { store: opened.store.clone(), disk: disk.clone(), sealing };
        let commit =
            async |operations| watched.commit(Txn { expect: Vec::new(), operations }).await;
        for (what, found) in [
            ("put back", Some(&*yesterday)),
            ("cut", Some(&newest[..newest.len() / 2])),
            ("another's", Some(&*foreign)),
            ("gone", None),
        ] {
            match found {
                Some(found) => replace(file.path(), found),
                None => std::fs::remove_file(file.path()).unwrap(),
            }
            let refused = commit(vec![operation()]).await.unwrap_err().to_string();
            assert!(refused.contains(&file.path().display().to_string()), "{what}: {refused}");
            assert_eq!(opened.sealing.reload().unwrap_err(), commit_error(&refused), "{what}");
            assert!(disk.takes_writes().is_ok(), "{what}: it is no fault of the disk");
            commit(vec![put("nodes", what, "{}")]).await.unwrap();
            commit(vec![Operation::Delete(key("secrets", "none"))]).await.unwrap();
            replace(file.path(), &newest);
            commit(vec![operation()]).await.unwrap();
        }
        drop((watched, opened));
        assert_eq!(
            open(data.path())
                .unwrap()
                .store
                .snapshot()
                .get(&key("secrets", "s"))
                .unwrap()
                .object
                .body,
            CANARY
        );
        // Nobody knows which copy is which: all of them together open what there is.
        replace(file.path(), &yesterday);
        let refused = crate::chain(&open(data.path()).err().unwrap());
        assert!(refused.contains("1 of its values") && refused.contains("keys merge"), "{refused}");
        let copy = other.path().join("copy");
        std::fs::write(&copy, &newest).unwrap();
        file.merge(&copy).unwrap();
        let opened = open(data.path()).unwrap();
        let newest = SealingFile::of(data.path()).keys().unwrap()[0].id();
        rotates_to(data.path(), &opened, || newest).await;
    }

    /// As who copies a file does with care: two writes in place within one tick of the clock look like one.
    fn replace(path: &Path, bytes: &[u8]) {
        let new = path.with_extension("copied");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// The refusal without the store's words.
    fn commit_error(text: &str) -> &str {
        text.strip_prefix("the store cannot write: ").unwrap_or(text)
    }

    #[tokio::test]
    async fn keys_rotate_while_the_hub_runs_and_when_it_starts() {
        let data = tempfile::tempdir().unwrap();
        let file = SealingFile::of(data.path());
        let opened = open(data.path()).unwrap();
        let operations = (0..300).map(|name| put("secrets", &name.to_string(), CANARY)).collect();
        opened.store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        let first = std::fs::read(file.path()).unwrap();
        rotates_to(data.path(), &opened, || file.add().unwrap().id()).await;
        // One that comes while the hub starts: after it has read those that there are.
        let added = file.add().unwrap().id();
        rotates_to(data.path(), &opened, || added).await;
        drop(opened);
        let added = file.add().unwrap().id();
        let opened = open(data.path()).unwrap();
        assert!(opened.store.was_stale());
        rotates_to(data.path(), &opened, || added).await;
        drop(opened);
        let last = std::fs::read(file.path()).unwrap();
        std::fs::write(file.path(), first).unwrap();
        let refused = crate::chain(&open(data.path()).err().unwrap());
        assert!(refused.contains("which is not in"), "the first key is of no use: {refused}");
        std::fs::write(file.path(), last).unwrap();
        let opened = open(data.path()).unwrap();
        assert!(!opened.store.was_stale());
        let found = opened.store.snapshot().get(&key("secrets", "299")).unwrap();
        assert_eq!(found.object.body, CANARY);
    }
}

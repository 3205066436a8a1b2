//! What lies in the data folder, opened in the one order that a start may be killed in.
//!
//! ```text
//! store/store.redb ─▶ pki/ca.key ─▶ pki/ca.crt ─▶ pki/admin.* ─▶ pki/fleet-root.key ─▶ modules/tags.json
//!   (revision 0)                                                                  then the first revision
//! ```
//!
//! Guarantees:
//! - each file is made whole or not at all, and durably before the next: a first start that is killed anywhere starts
//!   again (`a_first_start_killed_at_any_step_starts_again`);
//! - a key says that the store was there, the registry that all keys were, and a revision that all of it was: a file
//!   that is lost later is told by name and never made anew over what depends on it
//!   (`what_is_lost_or_emptied_later_is_told_by_name_and_not_made_anew`,
//!   `whole_folders_that_are_lost_are_told_by_what_is_left`);
//! - an empty folder in the registry's place begins an empty registry, and nothing else does
//!   (`whole_folders_that_are_lost_are_told_by_what_is_left`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use freewheel_hub_modules::{FleetRoot, Modules, Options};
use freewheel_hub_pki::Pki;
use freewheel_hub_store::Store;
use freewheel_hub_store::redb::RedbStore;
use freewheel_link::artifact::PublicKey;

use super::ServeError;

pub struct DataDir {
    pub store: Arc<dyn Store>,
    pub pki: Pki,
    pub fleet_root: PublicKey,
    pub modules: Modules,
}

impl DataDir {
    /// Opens what is there, or makes it. Blocking.
    pub fn in_folder(data: &Path, compiler: PathBuf) -> Result<Self, ServeError> {
        let (dir, registry) = (data.join("store"), data.join("modules"));
        let has_registry = Modules::is_there(&registry);
        let opened = if has_registry || Pki::is_there(data) {
            RedbStore::open_old(&dir)
        } else {
            RedbStore::open(&dir)
        };
        let store =
            opened.map_err(|source| ServeError::Store { path: dir, source: Box::new(source) })?;
        let has_data = store.snapshot().revision() != 0;
        let had_keys = has_data || has_registry;
        let pki = Pki::open(data, had_keys)?;
        let root = FleetRoot::open(&data.join("pki/fleet-root.key"), !had_keys)?;
        let fleet_root = root.public();
        let options = Options { dir: registry, compiler, root, may_make: !has_data };
        let modules = Modules::open(options)?;
        Ok(Self { store: Arc::new(store), pki, fleet_root, modules })
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Header, Key, Object, Resource};
    use freewheel_hub_store::{Operation, Txn};
    use freewheel_link::names::ClusterName;

    use super::*;

    /// What a first start leaves, in the order in which it is made; the name that each is made under.
    const MADE: [(&str, &str); 8] = [
        ("store/store.redb", "store/store.new"),
        ("store/acknowledged", "store/acknowledged"),
        ("pki/ca.key", "pki/ca.new"),
        ("pki/ca.crt", "pki/ca.new"),
        ("pki/admin.key", "pki/admin.new"),
        ("pki/admin.crt", "pki/admin.new"),
        ("pki/fleet-root.key", "pki/fleet-root.new"),
        ("modules/tags.json", "modules/tags.new"),
    ];
    const DIRS: [&str; 3] = ["store", "pki", "modules"];

    fn open(data: &Path) -> Result<DataDir, ServeError> {
        DataDir::in_folder(data, "none".into())
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
        let key = Key::new(&Resource::new("", "nodes"), &ClusterName::root(), "", "n");
        let object = Object { header: Header::default(), body: "{}".into() };
        let operations = vec![Operation::Put(key, object)];
        opened.store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
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
            (&["pki"], "pki/ca.key"),
            (&["pki", "modules"], "pki/ca.key"),
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
}

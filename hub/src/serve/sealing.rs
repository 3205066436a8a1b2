//! What lies sealed in the store, and with which key.
//!
//! ```text
//! resource ─▶ first entry of --encryption-provider-config that names it ─▶ its first provider, or open
//!          └▶ else Secrets and the keys that sign tokens ─▶ first key of DIR/pki/sealing.keys
//!          └▶ else open
//! ```
//!
//! All keys of both files open, whatever they are for. A file that lacks a key which is in use is not believed: the keys in
//! memory stay, and nothing more is sealed until the right file is there again, as it would be lost with this process.
//!
//! Guarantees:
//! - Secrets, and keys that sign tokens, lie open nowhere in the data folder, neither after changes nor after deletions
//!   (`a_secret_is_nowhere_in_the_data_folder`);
//! - a key that is missing is told with its file, and nothing is lost
//!   (`what_is_lost_or_emptied_later_is_told_by_name_and_not_made_anew`);
//! - a file that is put back, cut, removed or another hub's takes no key away that is in use, and is told until it is well
//!   again (`a_file_that_lacks_a_key_in_use_takes_none_away_and_refuses_what_is_to_be_sealed`);
//! - what a configuration asks for is done or refused (`a_configuration_is_obeyed_or_refused`).

mod configuration;
mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use freewheel_hub_api::kinds;
use freewheel_hub_objects::internal;
use freewheel_hub_pki::{KeyId, PkiError, SealingFile, SealingKey};
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_store::{Operation, SealError, Sealer, Txn};
use parking_lot::Mutex;
use tracing::{error, info};

pub use configuration::EncryptionConfiguration;
pub use rotation::Rotation;

/// Seals what the store writes.
pub struct Sealing {
    file: SealingFile,
    configuration: EncryptionConfiguration,
    keys: ArcSwap<Keyring>,
    seen: Mutex<Seen>,
    /// What the hub's own keys seal: Secrets, and what signs tokens.
    own: BTreeSet<String>,
}

/// By what a changed file is known.
type Stamp = Option<(u64, i64, i64, u64)>;

/// What is known of the file.
#[derive(Default)]
struct Seen {
    /// `None` before it was looked at.
    stamp: Option<Stamp>,
    /// Why it is not the one that goes with what the store holds.
    fault: Option<String>,
    /// Keys that nothing needs any more: they may be missing.
    unused: BTreeSet<KeyId>,
}

/// Why the file's keys are not taken.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(
        "{file} is not the file that goes with what the store holds: the key {key} is not in it. This hub still has it, so do \
         not stop it before the newest copy of that file is put back (`hub keys merge` adds the keys of a copy to it). \
         Without a copy, save the Secrets through the API while this hub runs"
    )]
    Lacks { file: String, key: KeyId },
}

/// Keys as they are known at one moment.
struct Keyring {
    /// Of the hub's own, the one that seals.
    first: Option<SealingKey>,
    /// All that open.
    all: BTreeMap<KeyId, SealingKey>,
    /// Of the hub's own, those that open and seal no more.
    old: Vec<KeyId>,
}

impl Sealing {
    /// With the keys that are there.
    ///
    /// # Errors
    /// When their file cannot be read, or is damaged.
    pub fn new(
        file: SealingFile,
        configuration: EncryptionConfiguration,
    ) -> Result<Arc<Self>, PkiError> {
        let keys = ArcSwap::from_pointee(Keyring::of(file.keys()?, &configuration));
        let kinds = kinds::all().iter().filter(|kind| kind.has(Trait::IsSealed));
        let resources = kinds.map(|kind| kind.storage().clone());
        let resources = resources.chain([internal::token_signers()]);
        let own = resources.map(|resource| resource.as_str().to_owned()).collect();
        Ok(Arc::new(Self { file, configuration, keys, seen: Mutex::default(), own }))
    }

    /// Makes the hub's own first key where there is none. Not before it is known that nothing was sealed by one that is
    /// lost.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn make_first_key(&self) -> Result<(), PkiError> {
        if self.keys.load().first.is_some() {
            return Ok(());
        }
        self.file.add()?;
        self.keys.store(Arc::new(Keyring::of(self.file.keys()?, &self.configuration)));
        info!(
            file = %self.file.path().display(),
            "made the key that Secrets are sealed with in the store: without this file they are lost, so keep a copy of it \
             where copies of the store are not"
        );
        Ok(())
    }

    /// Looks at the file, and takes the keys of one that has changed when none is missing that is in use.
    ///
    /// # Errors
    /// With what is wrong with it: nothing is to be sealed then.
    pub fn reload(&self) -> Result<(), String> {
        let mut seen = self.seen.lock();
        let now = self.stamp();
        if seen.stamp != Some(now) {
            seen.stamp = Some(now);
            let found = self.read(&mut seen.unused).err().map(|error| crate::chain(&error));
            match (&found, &seen.fault) {
                (Some(why), _) => error!(error = why, "nothing more is sealed with these keys"),
                (None, Some(_)) => {
                    info!("the keys that Secrets are sealed with are all there again");
                }
                (None, None) => {}
            }
            seen.fault = found;
        }
        seen.fault.clone().map_or(Ok(()), Err)
    }

    /// Fails when something of it is to be sealed and the file is not the one that goes with it.
    ///
    /// # Errors
    /// The same as of [`reload`](Self::reload).
    pub fn admits(&self, txn: &Txn) -> Result<(), String> {
        let is_sealed = |operation: &Operation| match operation {
            Operation::Put(key, _) => self.is_own(key.resource.as_str()),
            Operation::Delete(_) | Operation::Add(..) => false,
        };
        if txn.operations.iter().any(is_sealed) { self.reload() } else { Ok(()) }
    }

    fn read(&self, unused: &mut BTreeSet<KeyId>) -> Result<(), Unusable> {
        let own = self.file.keys()?;
        let known = self.keys.load();
        let is_there = |id: &KeyId| own.iter().any(|key| key.id() == *id);
        let mut needed = known.own().filter(|id| !unused.contains(id));
        if let Some(key) = needed.find(|id| !is_there(id)) {
            return Err(Unusable::Lacks { file: self.file.path().display().to_string(), key });
        }
        // With what is first now everything is sealed from here on.
        if let Some(first) = own.first() {
            unused.remove(&first.id());
        }
        self.keys.store(Arc::new(Keyring::of(own, &self.configuration)));
        Ok(())
    }

    /// Drops keys that nothing needs any more.
    fn forget(&self, unused: &[KeyId]) -> Result<(), PkiError> {
        // Before they are gone, so that nobody misses them.
        self.seen.lock().unused.extend(unused);
        self.file.forget(unused)
    }

    fn stamp(&self) -> Stamp {
        let of = |file: Metadata| (file.ino(), file.mtime(), file.mtime_nsec(), file.size());
        std::fs::metadata(self.file.path()).ok().map(of)
    }

    /// The key that seals values of a resource.
    fn key_for<'a>(&'a self, resource: &str, keys: &'a Keyring) -> Option<&'a SealingKey> {
        match self.configuration.provider(resource) {
            Some(provider) => provider.first(),
            None if self.is_own(resource) => keys.first.as_ref(),
            None => None,
        }
    }

    /// Whether the hub's own keys seal values of a resource.
    fn is_own(&self, resource: &str) -> bool {
        self.own.contains(resource) && self.configuration.provider(resource).is_none()
    }
}

impl Keyring {
    fn of(own: Vec<SealingKey>, configuration: &EncryptionConfiguration) -> Self {
        let first = own.first().cloned();
        let old = own.iter().skip(1).map(SealingKey::id).collect();
        let all = own.into_iter().chain(configuration.keys().cloned());
        Self { first, all: all.map(|key| (key.id(), key)).collect(), old }
    }

    /// The hub's own.
    fn own(&self) -> impl Iterator<Item = KeyId> {
        self.first.iter().map(SealingKey::id).chain(self.old.iter().copied())
    }
}

impl Sealer for Sealing {
    fn seals(&self, resource: &str) -> bool {
        self.key_for(resource, &self.keys.load()).is_some()
    }

    fn seal(
        &self,
        resource: &str,
        place: &[u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let keys = self.keys.load();
        let no_key = || SealError::NoKey(format!("there is no key to seal {resource} with"));
        let key = self.key_for(resource, &keys).ok_or_else(no_key)?;
        key.seal(place, plain, out).map_err(|_| SealError::NoRandomness)
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let id = SealingKey::of_sealed(sealed).ok_or(SealError::Altered)?;
        let keys = self.keys.load();
        let Some(key) = keys.all.get(&id) else {
            return Err(SealError::NoKey(format!(
                "values in it are sealed with the key {id}, which is not in {}{}: put that file back from a copy of the data \
                 folder (`hub keys merge --data DIR FILE` adds the keys of a copy to those that are there, of as many \
                 copies as there are), or move the whole folder away to begin an empty fleet. Without the key nobody can \
                 read these values, which are Secrets and keys of tokens",
                self.file.path().display(),
                if self.configuration.is_empty() {
                    ""
                } else {
                    ", nor in the file of --encryption-provider-config"
                },
            )));
        };
        key.open(place, sealed).ok_or(SealError::Altered)
    }

    fn is_current(&self, resource: &str, sealed: Option<&[u8]>) -> bool {
        let keys = self.keys.load();
        let wanted = self.key_for(resource, &keys).map(SealingKey::id);
        match sealed {
            Some(sealed) => wanted.is_some() && SealingKey::of_sealed(sealed) == wanted,
            None => wanted.is_none(),
        }
    }
}

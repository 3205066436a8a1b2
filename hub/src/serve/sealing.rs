//! What lies sealed in the store, and with which key.
//!
//! ```text
//! resource ─▶ first entry of --encryption-provider-config that names it ─▶ its first provider, or open
//!          └▶ else Secrets and the keys that sign tokens ─▶ first key of DIR/pki/sealing.keys
//!          └▶ else open
//! ```
//!
//! All keys of both files open, whatever they are for.
//!
//! Guarantees:
//! - Secrets, and keys that sign tokens, lie open nowhere in the data folder, neither after changes nor after deletions
//!   (`a_secret_is_nowhere_in_the_data_folder`);
//! - a key that is missing is told with its file, and nothing is lost
//!   (`what_is_lost_or_emptied_later_is_told_by_name_and_not_made_anew`);
//! - what a configuration asks for is done or refused (`a_configuration_is_obeyed_or_refused`).

mod configuration;
mod rotation;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use freewheel_hub_objects::internal;
use freewheel_hub_pki::{KeyId, PkiError, SealingFile, SealingKey};
use freewheel_hub_store::{SealError, Sealer};

pub use configuration::EncryptionConfiguration;
pub use rotation::Rotation;

/// Seals what the store writes.
pub struct Sealing {
    file: SealingFile,
    configuration: EncryptionConfiguration,
    keys: ArcSwap<Keyring>,
    /// Beside Secrets: what signs tokens.
    signers: String,
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
        let signers = internal::token_signers().as_str().to_owned();
        Ok(Arc::new(Self { file, configuration, keys, signers }))
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
        self.read()?;
        tracing::info!(
            file = %self.file.path().display(),
            "made the key that Secrets are sealed with in the store: without this file they are lost, so keep a copy of it \
             where copies of the store are not"
        );
        Ok(())
    }

    /// Reads the file anew; whether other keys are in it than before.
    fn read(&self) -> Result<bool, PkiError> {
        let read = Keyring::of(self.file.keys()?, &self.configuration);
        let changed = read.all.keys().ne(self.keys.load().all.keys());
        if changed {
            self.keys.store(Arc::new(read));
        }
        Ok(changed)
    }

    /// The key that seals values of a resource.
    fn key_for<'a>(&'a self, resource: &str, keys: &'a Keyring) -> Option<&'a SealingKey> {
        match self.configuration.provider(resource) {
            Some(provider) => provider.first(),
            None if resource == "secrets" || resource == self.signers => keys.first.as_ref(),
            None => None,
        }
    }
}

impl Keyring {
    fn of(own: Vec<SealingKey>, configuration: &EncryptionConfiguration) -> Self {
        let first = own.first().cloned();
        let old = own.iter().skip(1).map(SealingKey::id).collect();
        let all = own.into_iter().chain(configuration.keys().cloned());
        Self { first, all: all.map(|key| (key.id(), key)).collect(), old }
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
                 folder, or move the whole folder away to begin an empty fleet. Without the key nobody can read these \
                 values, which are Secrets and keys of tokens",
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

//! The file of the hub's own sealing keys, `DIR/pki/sealing.keys`: JSON, mode 0600, the first key seals and all open.
//!
//! ```text
//! made at the first start ─▶ [A] ─ a key is added ─▶ [B A] ─ everything is sealed with B ─▶ A is dropped ─▶ [B]
//! ```
//!
//! Guarantees:
//! - the file is there whole or not at all, and a key is durable before anything is sealed with it
//!   (`a_first_start_killed_at_any_step_starts_again`);
//! - one that was changed by accident is told by name and never used (`a_damaged_file_is_told_by_name_and_never_used`);
//! - whoever adds a key takes none away that somebody else adds meanwhile
//!   (`keys_are_added_in_front_and_dropped_by_name`, `keys_of_a_copy_are_added_behind_those_that_are_there`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::file::{read, write};
use crate::pki_error::PkiError;
use crate::sealing_key::{KeyId, SealingKey};

const FILE_VERSION: u32 = 1;
const SECRET_BYTES: usize = 32;

/// Where the keys are.
#[derive(Clone, Debug)]
pub struct SealingFile(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    keys: Vec<Line>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Follows from the secret: one that was changed is noticed.
    id: String,
    secret: String,
}

impl Line {
    fn new() -> Option<Self> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).ok()?;
        let id = SealingKey::of(&secret).id().to_string();
        Some(Self { id, secret: BASE64_STANDARD.encode(secret) })
    }

    fn key(&self) -> Option<SealingKey> {
        let secret = BASE64_STANDARD.decode(&self.secret).ok()?;
        let key = SealingKey::of(&secret);
        (secret.len() == SECRET_BYTES && key.id().to_string() == self.id).then_some(key)
    }
}

impl SealingFile {
    /// That of a hub's data folder.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self(data.join("pki/sealing.keys"))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its keys, the one that seals first; none where there is no file.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub fn keys(&self) -> Result<Vec<SealingKey>, PkiError> {
        if !self.0.exists() {
            return Ok(Vec::new());
        }
        let keys = self.content()?.keys.iter().map(Line::key).collect::<Option<Vec<_>>>();
        let damaged = || PkiError::SealingKeysDamaged(self.0.clone());
        keys.filter(|keys| !keys.is_empty()).ok_or_else(damaged)
    }

    /// Adds a key, with which everything is to be sealed from now on; makes the file where there is none.
    ///
    /// # Errors
    /// When there is no randomness, or the file cannot be read or written.
    pub fn add(&self) -> Result<SealingKey, PkiError> {
        let _lock = self.lock()?;
        self.keys()?;
        let old = if self.0.exists() { self.content()?.keys } else { Vec::new() };
        let refused = |why: &str| self.refused(io::Error::other(why.to_owned()));
        let added = Line::new().ok_or_else(|| refused("the system's randomness failed"))?;
        let key = added.key().ok_or_else(|| refused("the new key does not read as itself"))?;
        self.put([vec![added], old].concat())?;
        Ok(key)
    }

    /// Adds the keys of a copy behind those that are there; those that were not there.
    ///
    /// # Errors
    /// When one of both files cannot be read, or the own one cannot be written.
    pub fn merge(&self, copy: &Path) -> Result<Vec<KeyId>, PkiError> {
        let copy = Self(copy.to_path_buf());
        let (added, lines) = (copy.keys()?, copy.content()?.keys);
        let _lock = self.lock()?;
        let own = self.keys()?;
        let mut all = if own.is_empty() { Vec::new() } else { self.content()?.keys };
        let is_new = |key: &SealingKey| own.iter().all(|own| own.id() != key.id());
        let added: Vec<KeyId> =
            added.iter().filter(|key| is_new(key)).map(SealingKey::id).collect();
        let named: Vec<String> = added.iter().map(KeyId::to_string).collect();
        all.extend(lines.into_iter().filter(|line| named.contains(&line.id)));
        if !added.is_empty() {
            self.put(all)?;
        }
        Ok(added)
    }

    /// Drops keys that nothing is sealed with any more, but never the one that seals.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget(&self, unused: &[KeyId]) -> Result<(), PkiError> {
        let _lock = self.lock()?;
        self.keys()?;
        let unused: Vec<String> = unused.iter().map(KeyId::to_string).collect();
        let mut keys = self.content()?.keys;
        let sealing = keys.first().map(|first| first.id.clone());
        keys.retain(|line| Some(&line.id) == sealing.as_ref() || !unused.contains(&line.id));
        self.put(keys)
    }

    fn content(&self) -> Result<Content, PkiError> {
        let content: Option<Content> = serde_json::from_str(&read(&self.0)?).ok();
        let content = content.filter(|content| content.version == FILE_VERSION);
        content.ok_or_else(|| PkiError::SealingKeysDamaged(self.0.clone()))
    }

    fn put(&self, keys: Vec<Line>) -> Result<(), PkiError> {
        let content = Content { version: FILE_VERSION, keys };
        let text = serde_json::to_vec_pretty(&content);
        let text = text.map_err(|error| self.refused(io::Error::other(error)))?;
        write(&self.0, &text, 0o600)
    }

    /// The hub and a command that rotates its keys write one after the other.
    fn lock(&self) -> Result<File, PkiError> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        let locked = || -> io::Result<File> {
            std::fs::create_dir_all(folder)?;
            let folder = File::open(folder)?;
            folder.lock()?;
            Ok(folder)
        };
        locked().map_err(|source| self.refused(source))
    }

    fn refused(&self, source: io::Error) -> PkiError {
        PkiError::File { path: self.0.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn ids(file: &SealingFile) -> Vec<KeyId> {
        file.keys().unwrap().iter().map(SealingKey::id).collect()
    }

    #[test]
    fn keys_are_added_in_front_and_dropped_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = SealingFile::of(dir.path());
        assert!(file.keys().unwrap().is_empty());
        let first = file.add().unwrap().id();
        assert_eq!(ids(&file), [first]);
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = file.add().unwrap().id();
        assert_eq!(ids(&file), [second, first]);
        let third = file.add().unwrap().id();
        // Whoever drops the first two has not heard of the third.
        file.forget(&[first]).unwrap();
        assert_eq!(ids(&file), [third, second]);
        file.forget(&[third, second]).unwrap();
        assert_eq!(ids(&file), [third], "the one that seals stays");
        let mut sealed = Vec::new();
        file.keys().unwrap()[0].seal(b"here", b"text", &mut sealed).unwrap();
        assert_eq!(file.keys().unwrap()[0].open(b"here", &sealed).unwrap(), b"text");
    }

    #[test]
    fn keys_of_a_copy_are_added_behind_those_that_are_there() {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (file, copy) = (SealingFile::of(dir.path()), SealingFile::of(other.path()));
        assert!(file.merge(copy.path()).unwrap_err().to_string().contains("sealing.keys"));
        let (old, shared) = (copy.add().unwrap().id(), copy.add().unwrap().id());
        assert_eq!(file.merge(copy.path()).unwrap(), [shared, old]);
        file.forget(&[old]).unwrap();
        let new = file.add().unwrap().id();
        assert_eq!(file.merge(copy.path()).unwrap(), [old]);
        assert_eq!(ids(&file), [new, shared, old]);
        assert!(file.merge(copy.path()).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_file_is_told_by_name_and_never_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = SealingFile::of(dir.path());
        file.add().unwrap();
        file.add().unwrap();
        let (before, whole) = (ids(&file), std::fs::read(file.path()).unwrap());
        let flipped = (0..whole.len()).map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            flipped
        });
        let cut = (0..whole.len()).step_by(5).map(|length| whole[..length].to_vec());
        for damaged in flipped.chain(cut) {
            std::fs::write(file.path(), &damaged).unwrap();
            match file.keys() {
                // JSON lets white space be this or that.
                Ok(keys) => assert!(keys.iter().map(SealingKey::id).eq(before.iter().copied())),
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains("sealing.keys"), "{said}");
                    assert!(file.add().is_err() && file.forget(&before).is_err());
                    assert_eq!(std::fs::read(file.path()).unwrap(), damaged, "it was changed");
                }
            }
        }
    }
}

//! Names and what they stand for: `repository → tag → manifest → component`, in one small file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use freewheel_link::digest::Digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::blobs::replace;

/// Most tags in one registry; each is a line in the file that is rewritten at a push.
const MAX_TAGS: usize = 100_000;

/// What a manifest says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Digest of the manifest itself.
    pub(crate) digest: String,
    /// Its media type.
    pub(crate) media_type: String,
    /// Digest of the component.
    pub(crate) component: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Book {
    /// Version of this file's format.
    version: u32,
    /// By repository, then by tag or manifest digest.
    repositories: BTreeMap<String, BTreeMap<String, Manifest>>,
}

/// Why a tag was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TagError {
    #[error("the registry holds {MAX_TAGS} tags, which is the most")]
    TooMany,
    #[error("the registry's disk failed")]
    Disk(#[from] io::Error),
}

/// The file and what is in it.
pub(crate) struct Tags {
    path: PathBuf,
    book: Mutex<Book>,
}

impl Tags {
    /// Reads the file; none is an empty one.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("tags.json");
        let book = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Book { version: 1, ..Book::default() }
            }
            Err(error) => return Err(error),
        };
        if book.version != 1 {
            let text = format!(
                "{} has version {}; this hub reads version 1",
                path.display(),
                book.version
            );
            return Err(io::Error::other(text));
        }
        Ok(Self { path, book: Mutex::new(book) })
    }

    /// Points a tag, and the manifest's own digest, at a manifest; durable before it returns.
    pub(crate) fn put(
        &self,
        repository: &str,
        name: &str,
        manifest: &Manifest,
    ) -> Result<(), TagError> {
        let mut book = self.book.lock();
        let before = book.repositories.get(repository).cloned();
        if MAX_TAGS <= book.repositories.values().map(BTreeMap::len).sum() {
            return Err(TagError::TooMany);
        }
        let entries = book.repositories.entry(repository.to_owned()).or_default();
        entries.insert(name.to_owned(), manifest.clone());
        entries.insert(manifest.digest.clone(), manifest.clone());
        if let Err(error) = self.write(&book) {
            // What is not on disk is not so.
            match before {
                Some(before) => book.repositories.insert(repository.to_owned(), before),
                None => book.repositories.remove(repository),
            };
            return Err(error.into());
        }
        Ok(())
    }

    /// Takes a tag or digest away; whether there was one.
    pub(crate) fn remove(&self, repository: &str, name: &str) -> Result<bool, TagError> {
        let mut book = self.book.lock();
        let Some(entries) = book.repositories.get_mut(repository) else { return Ok(false) };
        let Some(gone) = entries.remove(name) else { return Ok(false) };
        if let Err(error) = self.write(&book) {
            book.repositories
                .entry(repository.to_owned())
                .or_default()
                .insert(name.to_owned(), gone);
            return Err(error.into());
        }
        Ok(true)
    }

    /// What a tag or manifest digest stands for.
    pub(crate) fn get(&self, repository: &str, name: &str) -> Option<Manifest> {
        self.book.lock().repositories.get(repository)?.get(name).cloned()
    }

    /// Tags of a repository, sorted; `None` when there is no such repository.
    pub(crate) fn list(&self, repository: &str) -> Option<Vec<String>> {
        let book = self.book.lock();
        let entries = book.repositories.get(repository)?;
        Some(entries.keys().filter(|name| !name.contains(':')).cloned().collect())
    }

    /// Every component that some tag stands for.
    pub(crate) fn components(&self) -> Vec<Digest> {
        let book = self.book.lock();
        let mut all: Vec<Digest> = book
            .repositories
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(|manifest| manifest.component.parse().ok())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn write(&self, book: &Book) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(book).map_err(io::Error::other)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_a_restart_and_a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"m").to_string();
        let manifest = Manifest {
            digest: digest.clone(),
            media_type: "x".into(),
            component: Digest::of(b"c").to_string(),
        };
        let tags = Tags::open(dir.path()).unwrap();
        tags.put("team/hello", "v1", &manifest).unwrap();
        let again = Tags::open(dir.path()).unwrap();
        assert_eq!(again.get("team/hello", "v1"), Some(manifest.clone()));
        assert_eq!(again.get("team/hello", &digest), Some(manifest));
        assert_eq!(again.list("team/hello"), Some(vec!["v1".to_owned()]));
        assert_eq!(again.components(), [Digest::of(b"c")]);
        assert!(again.remove("team/hello", "v1").unwrap());
        assert_eq!(again.get("team/hello", "v1"), None);
        std::fs::write(dir.path().join("tags.json"), r#"{"version":2,"repositories":{}}"#).unwrap();
        assert!(Tags::open(dir.path()).is_err());
    }
}

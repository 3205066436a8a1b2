//! Names and what they stand for: `repository → tag → manifest → component`, in one small file; and which manifest says
//! something of which other one.
//!
//! Guarantees:
//! - what is read is on the disk (`what_does_not_reach_the_disk_is_not_so`);
//! - a file that is not what was written is refused by name (`a_file_that_was_cut_or_flipped_is_refused_by_name`), and
//!   one of another build is told from it (`a_file_of_another_build_is_told_from_a_damaged_one`);
//! - one that is lost is never taken for an empty registry: what it named would be collected a day later
//!   (`a_file_that_is_lost_is_told_and_not_made_anew`);
//! - a tag goes alone, a manifest takes its tags along (`a_tag_goes_alone_and_a_manifest_takes_its_tags_along`), and
//!   what only says something of it (`what_says_something_of_a_manifest_goes_with_it`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freewheel_link::digest::Digest;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::durable::{replace, sync_parent};

/// Most tags in one registry; each is a line in the file that is rewritten at a push.
const MAX_TAGS: usize = 100_000;
/// Its name in the registry's folder.
const FILE: &str = "tags.json";
const FROM_A_COPY: &str = "put it back from a copy of the data folder";
/// The format that this build writes, and the only one that it reads.
const TAGS_VERSION: u32 = 4;

/// What a manifest says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Digest of the manifest itself.
    pub(crate) digest: String,
    /// Its media type.
    pub(crate) media_type: String,
    /// What it starts; nothing where it only says something of another manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) module: Option<Module>,
    /// Digest of the manifest that it says something of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
}

/// The module of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Module {
    /// Digest of the component.
    pub(crate) component: String,
    /// The component is an HTTP handler; else it is a program.
    pub(crate) handler: bool,
}

impl Manifest {
    /// Digest of its component.
    pub(crate) fn component(&self) -> Option<Digest> {
        self.module.as_ref()?.component.parse().ok()
    }
}

/// Everything at one moment.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct TagTable {
    /// Version of this file's format.
    version: u32,
    /// Digest of the rest as it is written.
    sum: String,
    /// By repository, then by tag or manifest digest. A change copies one repository.
    repositories: BTreeMap<String, Arc<BTreeMap<String, Manifest>>>,
}

impl TagTable {
    /// Every manifest once, with its component.
    pub(crate) fn manifests(&self) -> BTreeSet<(Digest, Option<Digest>)> {
        let all = self.repositories.values().flat_map(|entries| entries.values());
        all.filter_map(|one| Some((one.digest.parse().ok()?, one.component()))).collect()
    }

    /// Every manifest and every component, once.
    pub(crate) fn named(&self) -> BTreeSet<Digest> {
        self.manifests()
            .into_iter()
            .flat_map(|(manifest, component)| [Some(manifest), component])
            .flatten()
            .collect()
    }

    /// Every component that some tag stands for.
    pub(crate) fn tagged(&self) -> BTreeSet<Digest> {
        let all = self.repositories.values().flat_map(|entries| entries.iter());
        all.filter(|(name, _)| is_tag(name))
            .filter_map(|(_, manifest)| manifest.component())
            .collect()
    }

    /// Whether this is a manifest here, or the component of one.
    pub(crate) fn names(&self, digest: &Digest) -> bool {
        let text = digest.to_string();
        let mut all = self.repositories.values().flat_map(|entries| entries.values());
        all.any(|one| one.digest == text || one.component() == Some(*digest))
    }

    fn summed(&self) -> io::Result<String> {
        let rest = serde_json::to_vec(&self.repositories).map_err(io::Error::other)?;
        Ok(Digest::of(&rest).to_string())
    }

    fn read(bytes: &[u8]) -> Result<Self, Unusable> {
        let damaged = |why: &dyn std::fmt::Display| Unusable::Damaged(why.to_string());
        // What else another build writes is its own.
        let Format { version } = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        if version != TAGS_VERSION {
            return Err(Unusable::OtherBuild(version));
        }
        let book: Self = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        if !book.summed().is_ok_and(|sum| sum == book.sum) {
            return Err(damaged(&"its text is not what was written"));
        }
        Ok(book)
    }

    fn len(&self) -> usize {
        self.repositories.values().map(|entries| entries.len()).sum()
    }
}

/// What every build's file begins with.
#[derive(Deserialize)]
struct Format {
    version: u32,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("another build of the hub wrote it: it has version {0}, this one reads {TAGS_VERSION}")]
    OtherBuild(u32),
    #[error("{0}")]
    Damaged(String),
}

impl Unusable {
    /// The first thing to try.
    const fn remedy(&self) -> &'static str {
        match self {
            Self::OtherBuild(_) => "start that build",
            Self::Damaged(_) => FROM_A_COPY,
        }
    }
}

/// An empty folder says that somebody wants an empty registry; one that is not there says nothing.
fn is_empty(dir: &Path) -> bool {
    let begun = Path::new(FILE).with_extension("new");
    let Ok(mut entries) = std::fs::read_dir(dir) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| *entry.file_name() == *begun))
}

/// A digest has a colon, a tag none.
fn is_tag(name: &str) -> bool {
    !name.contains(':')
}

/// A manifest, what only says something of it, what says something of that, and so on.
fn with_attached(entries: &BTreeMap<String, Manifest>, digest: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut next = vec![digest.to_owned()];
    while let Some(subject) = next.pop() {
        let of_it = entries.values().filter(|one| one.module.is_none());
        let of_it = of_it.filter(|one| one.subject.as_ref() == Some(&subject));
        next.extend(of_it.map(|one| one.digest.clone()).filter(|one| !all.contains(one)));
        all.insert(subject);
    }
    all
}

/// Why a tag was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TagError {
    #[error("the registry holds {MAX_TAGS} tags and manifests, which is the most: delete some")]
    TooMany,
    #[error("the registry's disk failed")]
    Disk(#[from] io::Error),
}

/// The file and what is in it.
pub(crate) struct Tags {
    path: PathBuf,
    writing: Mutex<()>,
    book: RwLock<Arc<TagTable>>,
}

impl Tags {
    /// Whether a registry was made in this folder.
    pub(crate) fn is_there(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Reads the file. It is made on the first start, when it `may_make` one, and where somebody has put an empty
    /// folder.
    pub(crate) fn open(dir: &Path, may_make: bool) -> io::Result<Self> {
        let path = dir.join(FILE);
        let refused = |why: &dyn std::fmt::Display, remedy: &str| {
            io::Error::other(format!(
                "{} {why}: {remedy}, or make {} an empty folder and push the modules again; those that run are not \
                 touched",
                path.display(),
                dir.display()
            ))
        };
        let book =
            match std::fs::read(&path) {
                Ok(bytes) => Some(TagTable::read(&bytes).map_err(|why| {
                    refused(&format_args!("cannot be used ({why})"), why.remedy())
                })?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !may_make && !is_empty(dir) {
                        return Err(refused(&"is missing though the hub holds data", FROM_A_COPY));
                    }
                    None
                }
                Err(error) => return Err(error),
            };
        let begun = book.is_none();
        let book = book.unwrap_or(TagTable { version: TAGS_VERSION, ..TagTable::default() });
        let tags = Self { path, writing: Mutex::default(), book: RwLock::default() };
        if begun {
            std::fs::create_dir_all(dir)?;
            // What is synced in a folder whose own name is lost is lost with it.
            sync_parent(dir)?;
            tags.publish(book)?;
        } else {
            *tags.book.write() = Arc::new(book);
        }
        Ok(tags)
    }

    /// Everything as it is now.
    pub(crate) fn book(&self) -> Arc<TagTable> {
        self.book.read().clone()
    }

    /// Points a tag, and the manifest's own digest, at a manifest; durable before it returns. What the tag stood for
    /// before.
    pub(crate) fn put(
        &self,
        repository: &str,
        name: &str,
        manifest: &Manifest,
    ) -> Result<Option<Manifest>, TagError> {
        let _writing = self.writing.lock();
        let mut book = TagTable::clone(&self.book());
        let entries = Arc::make_mut(book.repositories.entry(repository.to_owned()).or_default());
        let before = entries.insert(name.to_owned(), manifest.clone());
        entries.insert(manifest.digest.clone(), manifest.clone());
        if MAX_TAGS < book.len() {
            return Err(TagError::TooMany);
        }
        self.publish(book)?;
        Ok(before)
    }

    /// Takes a tag away, or a manifest by its digest together with every tag that stands for it and all that only says
    /// something of it; whether there was one.
    pub(crate) fn remove(&self, repository: &str, name: &str) -> Result<bool, TagError> {
        let _writing = self.writing.lock();
        let mut book = TagTable::clone(&self.book());
        let Some(entries) = book.repositories.get_mut(repository) else { return Ok(false) };
        if !entries.contains_key(name) {
            return Ok(false);
        }
        let entries = Arc::make_mut(entries);
        if is_tag(name) {
            entries.remove(name);
        } else {
            let gone = with_attached(entries, name);
            entries.retain(|_, manifest| !gone.contains(&manifest.digest));
        }
        if entries.is_empty() {
            book.repositories.remove(repository);
        }
        self.publish(book)?;
        Ok(true)
    }

    /// What a tag or manifest digest stands for.
    pub(crate) fn get(&self, repository: &str, name: &str) -> Option<Manifest> {
        self.book.read().repositories.get(repository)?.get(name).cloned()
    }

    /// A manifest of the repository that stands for this component: the one of this name, if it does.
    pub(crate) fn manifest_of(
        &self,
        repository: &str,
        name: &str,
        component: &Digest,
    ) -> Option<Digest> {
        let book = self.book();
        let entries = book.repositories.get(repository)?;
        let stands = |manifest: &&Manifest| manifest.component() == Some(*component);
        let named = entries.get(name).filter(stands);
        named.or_else(|| entries.values().find(stands))?.digest.parse().ok()
    }

    /// Manifests of the repository that say something of this one, by digest, from behind `after` on.
    pub(crate) fn attached(
        &self,
        repository: &str,
        subject: &Digest,
        after: Option<&str>,
    ) -> Vec<Manifest> {
        let book = self.book();
        let (subject, after) = (subject.to_string(), after.unwrap_or_default());
        let entries = book.repositories.get(repository).into_iter().flat_map(|all| all.iter());
        // Each is there once by its digest.
        let of_it = entries.filter(|(name, one)| {
            !is_tag(name) && after < name.as_str() && one.subject.as_ref() == Some(&subject)
        });
        of_it.map(|(_, one)| one.clone()).collect()
    }

    /// Names of all repositories, sorted.
    pub(crate) fn repositories(&self) -> Vec<String> {
        self.book().repositories.keys().cloned().collect()
    }

    /// Tags of a repository, sorted; `None` when there is no such repository.
    pub(crate) fn list(&self, repository: &str) -> Option<Vec<String>> {
        let book = self.book();
        let entries = book.repositories.get(repository)?;
        Some(entries.keys().filter(|name| is_tag(name)).cloned().collect())
    }

    /// What is not on disk is not so: first the file, then the readers.
    fn publish(&self, mut book: TagTable) -> io::Result<()> {
        book.sum = book.summed()?;
        replace(&self.path, &serde_json::to_vec(&book).map_err(io::Error::other)?)?;
        *self.book.write() = Arc::new(book);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

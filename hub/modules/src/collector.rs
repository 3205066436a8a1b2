//! Gives back the disk that nobody uses any more.
//!
//! ```text
//! observe (folders, manifests) ─▶ decide (pure) ─▶ apply, file by file
//! ```
//!
//! Guarantees:
//! - a manifest stays until somebody deletes it, and with it everything that it names: a pod by digest and a roll-back
//!   find their module (`a_manifest_without_a_tag_stays_with_its_module`,
//!   `a_deleted_manifest_gives_back_everything_of_it_after_the_grace`);
//! - a blob that was pushed or asked for within the grace period stays, so a push, which brings the manifest last,
//!   never loses one (`a_push_that_finds_its_blob_there_does_not_lose_it`, `pushes_beside_collections_lose_nothing`);
//! - a folder or a manifest that cannot be read, or that has rotted, stops the run before anything is removed
//!   (`a_manifest_that_cannot_be_read_stops_the_run_before_anything_goes`);
//! - what was compiled of a module that is lost stays (`compiled_code_lives_as_long_as_its_component_and_its_engine`).
//!
//! Every step is a single removal: a hub that is killed between two of them finds a valid registry.
//! Assumes: a push ends within [`Limits::blobs`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use freewheel_link::digest::Digest;

use crate::manifest::{ImageManifest, MANIFEST_BYTES_MAX};
use crate::state::Inner;
use crate::tags::TagTable;
use crate::{blobs, compiled};

/// How long things stay that nobody seems to use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// An upload for which nothing comes.
    pub(crate) uploads: Duration,
    /// A blob that no manifest names.
    pub(crate) blobs: Duration,
    /// A compilation that is not whole.
    pub(crate) halves: Duration,
}

impl Limits {
    /// An hour of silence ends an upload. A push over the slowest line ends within a day; more would only
    /// cost disk. A compiler is stopped after minutes.
    pub(crate) const USUAL: Self = Self {
        uploads: Duration::from_secs(60 * 60),
        blobs: Duration::from_secs(24 * 60 * 60),
        halves: Duration::from_secs(60 * 60),
    };
}

/// What lies on the disk at one moment.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Uploads, and since when nothing came for them.
    uploads: Vec<(String, Duration)>,
    /// Blobs, and whether a manifest is one or names it.
    blobs: Vec<(blobs::Listed, bool)>,
    /// Named and not there: what was compiled of them is all that is left.
    lost: BTreeSet<Digest>,
    /// Compiled modules.
    compiled: Vec<compiled::Listed>,
}

/// What is to be done about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    uploads: Vec<String>,
    blobs: Vec<(Digest, u64)>,
    /// Dated in the future: their grace period would never end.
    redate: Vec<Digest>,
    /// Compilations that nobody can use: of another engine, or not whole.
    useless: Vec<(String, u64)>,
    /// Compilations whose component is not there any more.
    orphans: Vec<(Digest, String, u64)>,
}

/// What was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) uploads: usize,
    pub(crate) blobs: usize,
    pub(crate) compiled: usize,
    pub(crate) bytes: u64,
}

/// What should go, of what was seen at one moment.
pub(crate) fn decide(seen: &Seen, limits: &Limits) -> Verdict {
    let mut verdict = Verdict::default();
    let old = |(_, idle): &&(String, Duration)| limits.uploads <= *idle;
    verdict.uploads = seen.uploads.iter().filter(old).map(|(name, _)| name.clone()).collect();
    let mut stay = seen.lost.clone();
    for (blob, named) in &seen.blobs {
        if !named {
            match blob.idle {
                None => verdict.redate.push(blob.digest),
                Some(idle) if idle < limits.blobs => {}
                Some(_) => {
                    verdict.blobs.push((blob.digest, blob.bytes));
                    continue;
                }
            }
        }
        stay.insert(blob.digest);
    }
    for found in &seen.compiled {
        if !found.current || !found.whole && limits.halves <= found.idle {
            verdict.useless.push((found.stem.clone(), found.bytes));
        } else if found.whole && !stay.contains(&found.component) {
            verdict.orphans.push((found.component, found.stem.clone(), found.bytes));
        }
    }
    verdict
}

/// Looks, decides and removes. Blocking; memory grows with the number of files only.
pub(crate) fn collect(inner: &Inner, limits: &Limits) -> io::Result<Freed> {
    let verdict = decide(&observe(inner)?, limits);
    let freed = apply(inner, &verdict, limits)?;
    inner.blobs.forget(limits.blobs);
    Ok(freed)
}

fn observe(inner: &Inner) -> io::Result<Seen> {
    // Compiled modules first: each had its component before, so no new one seems to be an orphan.
    let compiled = inner.compiled.list()?;
    let listed = inner.blobs.list()?;
    let mut blobs: BTreeMap<Digest, (blobs::Listed, bool)> =
        listed.into_iter().map(|blob| (blob.digest, (blob, false))).collect();
    // The book after the blobs: a push that ends between the two is in the book, and one that ends later
    // has asked for its blobs a moment ago.
    let mut lost = BTreeSet::new();
    mark(inner, &inner.tags.book(), |digest| match blobs.get_mut(&digest) {
        Some((_, named)) => *named = true,
        None => drop(lost.insert(digest)),
    })?;
    let (uploads, blobs) = (inner.uploads.list()?, blobs.into_values().collect());
    Ok(Seen { uploads, blobs, lost, compiled })
}

/// Calls `name` with every blob that is a manifest or that one names, one manifest in memory at a time.
fn mark(inner: &Inner, book: &TagTable, mut name: impl FnMut(Digest)) -> io::Result<()> {
    for (digest, component) in book.manifests() {
        name(digest);
        component.into_iter().for_each(&mut name);
        let bytes = match inner.blobs.read(&digest, MANIFEST_BYTES_MAX as u64) {
            // Somebody took it away by hand; what it named beside the module cannot be asked for any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        // It was checked when it came.
        let named = ImageManifest::parse(&bytes).and_then(|manifest| manifest.blobs());
        named.unwrap_or_default().into_iter().for_each(&mut name);
    }
    Ok(())
}

/// Whether some manifest names this blob, or it is one.
pub(crate) fn is_named(inner: &Inner, wanted: &Digest) -> io::Result<bool> {
    let mut found = false;
    mark(inner, &inner.tags.book(), |digest| found |= digest == *wanted)?;
    Ok(found)
}

fn apply(inner: &Inner, verdict: &Verdict, limits: &Limits) -> io::Result<Freed> {
    let mut freed = Freed::default();
    for name in &verdict.uploads {
        freed.uploads += usize::from(inner.uploads.collect(name, limits.uploads)?);
    }
    for digest in &verdict.redate {
        inner.blobs.redate(digest)?;
    }
    for (digest, bytes) in &verdict.blobs {
        if inner.blobs.collect(digest, limits.blobs)? {
            freed.blobs += 1;
            freed.bytes += bytes;
        }
    }
    let orphans = verdict
        .orphans
        .iter()
        // Its component may have been asked for meanwhile, and stayed.
        .filter(|(component, ..)| inner.blobs.size(component).is_none())
        .map(|(_, stem, bytes)| (stem, bytes));
    for (stem, bytes) in verdict.useless.iter().map(|(stem, bytes)| (stem, bytes)).chain(orphans) {
        if inner.compiled.remove(stem)? {
            freed.compiled += 1;
            freed.bytes += bytes;
        }
    }
    Ok(freed)
}

#[cfg(test)]
mod tests;

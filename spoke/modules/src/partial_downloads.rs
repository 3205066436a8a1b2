//! Halves: compressed bytes of transfers that broke off, with the envelope that they were sent under. They outlive the
//! agent, so that a device on a slow link gets on with a large module however often it restarts.
//!
//! ```text
//! transfer N ─▶ .N.part and .N.head ─▶ broke off, or the agent ended ─▶ transfer M takes both over and goes on
//!                                 └──▶ whole, or of no use: removed
//! ```
//!
//! What a power cut leaves in a half may be anything: nothing is believed of it before the whole was checked.
//!
//! Guarantees:
//! - a transfer goes on at the byte where the one before it ended, also in the next life
//!   (`a_transfer_goes_on_where_it_stopped_in_the_life_before`);
//! - a half that has changed costs one transfer, and is gone (`a_half_that_has_changed_is_fetched_anew`);
//! - halves are bounded in number, age and bytes, and go when no plan wants them
//!   (`halves_are_bounded_in_number_age_and_bytes`, `a_transfer_that_is_given_up_leaves_nothing`);
//! - what a transfer that runs has so far stays, whatever becomes of others
//!   (`a_transfer_that_runs_keeps_its_part_when_another_module_fails`);
//! - a half is taken over only when nothing reads or writes it any more
//!   (`what_is_still_being_unpacked_is_nobody_else_s`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use freewheel_link::artifact::Envelope;
use tracing::warn;

use crate::files::{Names, Scratch};

/// Halves that are kept.
pub(crate) const PARTIAL_DOWNLOADS_MAX: usize = 8;
/// Bytes that they take together, unless it is a single one.
pub(crate) const PARTIAL_BYTES_MAX: u64 = 128 << 20;
/// A half that was not written to for so long: what it belongs to is hardly sent any more.
pub(crate) const PARTIAL_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// One half on the disk.
#[derive(Debug)]
struct PartialDownload {
    written: SystemTime,
    size: u64,
    part: PathBuf,
    /// Of the module that it is to become.
    artifact: PathBuf,
}

impl PartialDownload {
    fn remove(&self) {
        for path in [&self.part, &self.part.with_extension("head")] {
            // What cannot be removed is looked at again at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// The module's name within `<module>.N.part`.
fn module_of(file: &Path) -> Option<PathBuf> {
    let (module, _) = file.file_stem()?.to_str()?.rsplit_once('.')?;
    Some(file.with_file_name(format!("{module}.cwasm")))
}

fn all(dir: &Path) -> Vec<PartialDownload> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let half = |entry: fs::DirEntry| {
        let part = entry.path();
        if part.extension()? != "part" {
            return None;
        }
        let meta = entry.metadata().ok()?;
        let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(PartialDownload { written, size: meta.len(), artifact: module_of(&part)?, part })
    };
    entries.flatten().filter_map(half).collect()
}

/// Takes over the largest half of a module for this transfer, and removes the others; its length, and the envelope that
/// it was sent under. The module's turn is the transfer's. Blocking.
pub(crate) fn take_over(names: &Names, scratch: &Scratch) -> Option<(u64, Envelope)> {
    let dir = names.artifact.parent()?;
    let mut own = all(dir);
    own.retain(|half| half.artifact == names.artifact);
    own.sort_by_key(|half| half.size);
    let taken = own.pop().and_then(|half| {
        let taken = adopt(&half, scratch);
        if taken.is_none() {
            half.remove();
        }
        taken
    });
    own.iter().for_each(PartialDownload::remove);
    taken
}

fn adopt(half: &PartialDownload, scratch: &Scratch) -> Option<(u64, Envelope)> {
    let head = half.part.with_extension("head");
    let envelope = postcard::from_bytes(&fs::read(&head).ok()?).ok()?;
    let whole = 0 < half.size && fs::symlink_metadata(&half.part).ok()?.is_file();
    if !whole {
        return None;
    }
    fs::rename(&half.part, &scratch.part).ok()?;
    fs::rename(&head, &scratch.head).ok()?;
    Some((half.size, envelope))
}

/// Removes the halves of this module. Blocking.
pub(crate) fn remove(names: &Names) {
    let dir = names.artifact.parent().unwrap_or(Path::new("."));
    all(dir)
        .iter()
        .filter(|half| half.artifact == names.artifact)
        .for_each(PartialDownload::remove);
}

/// Removes halves that none of these modules is to become. Blocking.
pub(crate) fn keep_only(dir: &Path, needed: &[PathBuf]) {
    all(dir)
        .iter()
        .filter(|half| !needed.contains(&half.artifact))
        .for_each(PartialDownload::remove);
}

/// Removes what is too old, and of the rest what was written to longest ago, until it is within
/// [`PARTIAL_DOWNLOADS_MAX`] and [`PARTIAL_BYTES_MAX`]; the newest may be as large as a module can be. `running`: parts
/// of transfers that are under way are no halves yet. Blocking.
pub(crate) fn bound(dir: &Path, running: &[Arc<PathBuf>]) {
    let mut halves = all(dir);
    halves.retain(|half| !running.iter().any(|part| **part == half.part));
    let age = |half: &PartialDownload| half.written.elapsed().unwrap_or_default();
    halves.sort_by_key(age);
    let mut bytes = 0;
    for (index, half) in halves.iter().enumerate() {
        bytes += half.size;
        let too_many = PARTIAL_DOWNLOADS_MAX <= index || (0 < index && PARTIAL_BYTES_MAX < bytes);
        if too_many || PARTIAL_AGE_MAX < age(half) {
            warn!(half = %half.part.display(), "a half-fetched module is removed");
            half.remove();
        }
    }
}

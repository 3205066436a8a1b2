//! `DATA/modules`: `<digest>-<profile>.cwasm` and `.envelope`; `.N.part`, `.N.head`, `.N.tmp` and `.N.envelope-tmp`
//! while transfer N of this life brings it, `.gone` while it is removed. Two transfers of the same module never write
//! to the same file.
//!
//! Guarantees:
//! - a transfer leaves nothing of its own but its half ([`crate::partial_downloads`])
//!   (`bad_modules_are_refused_with_their_reason`, `a_transfer_that_is_given_up_leaves_nothing`);
//! - what a life that ended left behind and nobody goes on with is removed at the next start
//!   (`what_the_last_life_left_is_counted_once_the_plan_is_known`);
//! - modules that no pod needs go in the order of their last use
//!   (`idle_modules_go_oldest_first_until_the_rest_fits`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use tokio::sync::OwnedMutexGuard;
use tracing::warn;

use crate::partial_downloads;

/// The names of one module's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) artifact: PathBuf,
    pub(crate) envelope: PathBuf,
}

impl Names {
    pub(crate) fn of(dir: &Path, component: &Digest, profile: Profile) -> Self {
        let stem = format!("{}-{profile}", component.hex());
        let with = |extension: &str| dir.join(format!("{stem}.{extension}"));
        Self { artifact: with("cwasm"), envelope: with("envelope") }
    }

    /// Removes all of it.
    pub(crate) fn remove(&self) {
        for path in [&self.artifact, &self.envelope] {
            // What cannot be removed is verified again before it is used.
            let _ = fs::remove_file(path);
        }
    }
}

/// A module's files are one task's at a time. What blocks holds it, too: that goes on when its task is given up.
pub(crate) type ModuleLock = Arc<OwnedMutexGuard<()>>;

/// The files of one transfer; they go with it, but for the half when it is not spent.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) part: PathBuf,
    /// The envelope that the part is sent under.
    pub(crate) head: PathBuf,
    /// The half is of no use any more.
    spent: bool,
    pub(crate) temporary: PathBuf,
    pub(crate) envelope: PathBuf,
    /// The part's name, for as long as the transfer lives.
    alive: Arc<PathBuf>,
    /// Given up after the files: whoever comes next finds all of them or none.
    pub(crate) turn: Option<ModuleLock>,
}

impl Scratch {
    pub(crate) fn of(names: &Names, transfer: u64) -> Self {
        let with =
            |extension: &str| names.artifact.with_extension(format!("{transfer}.{extension}"));
        let (part, head, spent) = (with("part"), with("head"), false);
        let (temporary, envelope) = (with("tmp"), with("envelope-tmp"));
        let alive = Arc::new(part.clone());
        Self { part, head, spent, temporary, envelope, alive, turn: None }
    }

    /// The part's name, until the transfer is over.
    pub(crate) fn alive(&self) -> Weak<PathBuf> {
        Arc::downgrade(&self.alive)
    }

    /// The half has become a module, or never will: it goes, too.
    pub(crate) const fn spend(&mut self) {
        self.spent = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let useless = self.spent || !self.part.exists();
        let half = [&self.part, &self.head].into_iter().filter(|_| useless);
        for path in [&self.temporary, &self.envelope].into_iter().chain(half) {
            // Most of it has its final name by now; what stays is removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the names in a file's directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Writes a file that survives a power cut, under a name that does not yet.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// At the start: what an earlier life left and nobody goes on with, and halves beyond their bounds.
pub(crate) fn tidy(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let useless = match path.extension().and_then(|extension| extension.to_str()) {
            Some("tmp" | "envelope-tmp" | "gone") => true,
            Some("part") => !path.with_extension("head").exists(),
            Some("head") => !path.with_extension("part").exists(),
            Some("envelope") => !path.with_extension("cwasm").exists(),
            _ => false,
        };
        if useless {
            // What cannot be removed takes room and harms nobody.
            let _ = fs::remove_file(path);
        }
    }
    partial_downloads::bound(dir, &[]);
    Ok(())
}

/// A module on the disk that no pod needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Idle {
    /// When it was brought, or a pod needed it last.
    pub(crate) used: SystemTime,
    pub(crate) size: u64,
    pub(crate) artifact: PathBuf,
}

/// Every module in the directory but the needed ones.
pub(crate) fn idle(dir: &Path, needed: &[PathBuf]) -> io::Result<Vec<Idle>> {
    let mut idle = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let artifact = entry.path();
        if artifact.extension().is_some_and(|e| e == "cwasm") && !needed.contains(&artifact) {
            let meta = entry.metadata()?;
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            idle.push(Idle { used, size: meta.len(), artifact });
        }
    }
    Ok(idle)
}

/// Which idle modules go so that the rest fits into `spare` bytes: those that were used longest ago.
pub(crate) fn beyond(mut idle: Vec<Idle>, spare: u64) -> Vec<Idle> {
    idle.sort();
    let mut total: u64 = idle.iter().map(|one| one.size).sum();
    idle.retain(|one| {
        let goes = spare < total;
        if goes {
            total -= one.size;
        }
        goes
    });
    idle
}

/// Takes a module's name away, which is quick; its bytes go with [`Retired`].
pub(crate) fn retire(one: &Idle) -> Option<Retired> {
    let gone = one.artifact.with_extension("gone");
    if let Err(error) = fs::rename(&one.artifact, &gone) {
        warn!(%error, "an old module cannot be removed");
        return None;
    }
    let _ = fs::remove_file(one.artifact.with_extension("envelope"));
    Some(Retired { gone, size: one.size })
}

/// A module without a name.
#[derive(Debug)]
pub(crate) struct Retired {
    gone: PathBuf,
    pub(crate) size: u64,
}

impl Drop for Retired {
    fn drop(&mut self) {
        // Else it goes at the next start.
        let _ = fs::remove_file(&self.gone);
    }
}

/// A module was needed until now.
pub(crate) fn touch(artifact: &Path) {
    // Without it the module counts as old as it is.
    let _ = File::open(artifact).and_then(|file| file.set_modified(SystemTime::now()));
}

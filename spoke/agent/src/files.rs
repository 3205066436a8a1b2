//! The directories of pods, as a trait so that a simulation needs no disk.
//!
//! ```text
//! DATA/pods/<uid>/volumes/<volume>/                     what containers mount
//! DATA/pods/<uid>/subpaths/<container>/<n>/             single files out of volumes
//! DATA/pods/<uid>/logs/<container>/<attempt>.log        written by the runtime
//! DATA/removed/<n>                                      on its way out
//! ```
//!
//! A guest follows symlinks inside its own directory only.

mod set;
pub mod worker;

use std::fs::{DirEntry, FileType};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD};
use tracing::warn;

use crate::host_dir::{self, Entered, HostDir};
use crate::remover::{Remover, remove_now};
use crate::usage::{Measurer, Size, Tree};
use worker::{Work, Worker};

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative to the volume, without `..`.
    pub path: String,
    /// Contents.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Directories and files.
pub trait Files: Send + Sync {
    /// Makes a directory and those above it.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes `dir` show exactly these files, all at once. The same files again cost nothing.
    fn write_set(&self, dir: &Path, files: &[File]) -> io::Result<()>;
    /// Opens a directory of the agent's own for guests.
    fn open(&self, dir: &Path) -> io::Result<HostDir>;
    /// Finds `inside` under `dir` without ever leaving `dir`, and holds it open. With `ours`, symlinks that the
    /// agent made itself are followed; else any symlink is refused, because a guest may have made it.
    fn enter(&self, dir: &Path, inside: &str, ours: bool) -> io::Result<Entered>;
    /// Gives one file that was entered another name; the directory of `to` exists.
    fn link(&self, from: &std::fs::File, to: &Path) -> io::Result<()>;
    /// Makes an empty file unless there is one.
    fn touch(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it; nothing there is fine. Its room may be free a little later.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the directories in a directory; none when there is no such directory.
    fn dirs_in(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Names and sizes of the files in a directory; none when there is no such directory.
    fn files_in(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Whether room of what was removed is not free yet.
    fn is_removing(&self) -> bool;
    /// Removes a file; nothing there is fine.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Measures what each of these trees takes on the disk, beside the caller, and hands over the sizes in
    /// the same order; none when it cannot be done now. What cannot be read counts nothing, and what could not be seen
    /// in time is gone on with at the next call. `shortage`: which time the disk is short; zero: it is not.
    fn measure(&self, trees: Vec<Tree>, shortage: u64, done: Measured);
    /// Has this done beside the caller, after all that it was given before: a slow card must not hold up who decides. Where
    /// nothing is slow, it is done on the spot.
    fn beside(&self, work: Work) {
        work();
    }
}

/// Takes the sizes of directories.
pub type Measured = Box<dyn FnOnce(Vec<Size>) + Send>;

/// Whether a path stays below where it starts, and does not meet the names of sets.
#[must_use]
pub fn stays_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty()
        && !path.starts_with("..")
        && !path.contains('\0')
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The disk.
#[derive(Debug, Default)]
pub struct DiskFiles {
    /// Removes trees; without one they are removed on the spot.
    remover: Option<Remover>,
    /// Writes and opens; without one that is done on the spot.
    worker: Option<Worker>,
    /// What it has not seen yet.
    measurer: Arc<Mutex<Measurer>>,
}

impl DiskFiles {
    /// The disk, with somebody who removes trees beside the caller, and somebody who writes and opens.
    ///
    /// # Errors
    /// When there is no room for what is removed below `data`, or there can be no threads.
    pub fn new(data: &Path) -> io::Result<Self> {
        let remover = Some(Remover::start(&data.join("removed"))?);
        Ok(Self { remover, worker: Some(Worker::start()?), ..Self::default() })
    }
}

impl Files for DiskFiles {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn write_set(&self, dir: &Path, files: &[File]) -> io::Result<()> {
        set::write(dir, files)
    }

    fn open(&self, dir: &Path) -> io::Result<HostDir> {
        HostDir::open(dir)
    }

    fn enter(&self, dir: &Path, inside: &str, ours: bool) -> io::Result<Entered> {
        let refuse =
            |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{inside:?}: {why}"));
        if !stays_inside(inside) {
            return Err(refuse("leaves the volume"));
        }
        if ours {
            let base = dir.canonicalize()?;
            let path = dir.join(inside).canonicalize()?;
            if !path.starts_with(&base) {
                return Err(refuse("leaves the volume"));
            }
            // No guest writes here: the path leads where it led a moment ago.
            return Ok(if path.is_file() {
                Entered::File(std::fs::File::open(path)?)
            } else {
                Entered::Dir(HostDir::open(&path)?)
            });
        }
        host_dir::enter(dir, Path::new(inside)).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => refuse(&error.to_string()),
            _ => error,
        })
    }

    fn link(&self, from: &std::fs::File, to: &Path) -> io::Result<()> {
        if is_link_to(from, to) {
            return Ok(());
        }
        remove_if_there(std::fs::remove_file(to))?;
        // The descriptor, not its path: what stands there by now is somebody else's.
        let open = format!("/proc/self/fd/{}", from.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, open, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        std::fs::OpenOptions::new().create(true).append(true).open(path).map(|_| ())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        match &self.remover {
            Some(remover) => remover.remove(dir),
            None => remove_now(dir),
        }
    }

    fn dirs_in(&self, dir: &Path) -> io::Result<Vec<String>> {
        entries_in(dir, FileType::is_dir, |_, name| Ok(name))
    }

    fn files_in(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        entries_in(dir, FileType::is_file, |entry, name| Ok((name, entry.metadata()?.len())))
    }

    fn is_removing(&self) -> bool {
        self.remover.as_ref().is_some_and(|remover| !remover.is_idle())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        remove_if_there(std::fs::remove_file(path))
    }

    fn beside(&self, work: Work) {
        match &self.worker {
            Some(worker) => worker.add(work),
            None => work(),
        }
    }

    fn measure(&self, trees: Vec<Tree>, shortage: u64, done: Measured) {
        let measurer = self.measurer.clone();
        let done = Arc::new(Mutex::new(Some(done)));
        let theirs = done.clone();
        let work = move || {
            if let Some(done) = theirs.lock().take() {
                let sizes = measurer.lock().measure_all(&trees, shortage);
                done(sizes);
            }
        };
        // A thread of its own: a guest's directories may be large and the card slow.
        if let Err(error) = std::thread::Builder::new().name("measure".to_owned()).spawn(work) {
            warn!(%error, "volumes are not measured this time");
            if let Some(done) = done.lock().take() {
                done(Vec::new());
            }
        }
    }
}

/// Whether `to` is a name of this file already: an earlier life may have given it, on a disk that takes none by now.
fn is_link_to(from: &std::fs::File, to: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(from), Ok(to)) = (from.metadata(), std::fs::symlink_metadata(to)) else { return false };
    (from.dev(), from.ino()) == (to.dev(), to.ino())
}

/// The names that the agent gives are all text.
fn entries_in<T>(
    dir: &Path,
    wanted: fn(&FileType) -> bool,
    make: impl Fn(&DirEntry, String) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry?;
        if wanted(&entry.file_type()?)
            && let Ok(name) = entry.file_name().into_string()
        {
            out.push(make(&entry, name)?);
        }
    }
    Ok(out)
}

fn remove_if_there(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;

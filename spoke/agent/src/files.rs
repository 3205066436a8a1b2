//! The directories of pods, as a trait so that a simulation needs no disk.
//!
//! ```text
//! DATA/pods/<uid>/volumes/<volume>/                     what containers mount
//! DATA/pods/<uid>/subpaths/<container>/<n>/             single files out of volumes
//! DATA/pods/<uid>/logs/<container>/<attempt>.log        written by the runtime
//! DATA/removed/<n>                                      on its way out
//! ```
//!
//! A set of files changes at once, as with kubelet: `..data` is a relative symlink to the current
//! version, `key` one to `..data/key`. A guest follows them inside its own directory only.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::warn;

use crate::host_dir::{self, Entered, HostDir};
use crate::remover::{Remover, remove_now};
use crate::usage::{Measurer, Size};

/// Largest file that is shown by `subPath`: it is copied for every start of its container, and a guest may have
/// made it of holes.
const MAX_SHOWN: u64 = 64 << 20;

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
    /// Copies one file that was entered; the directory of `to` exists.
    fn copy(&self, from: std::fs::File, to: &Path) -> io::Result<()>;
    /// Makes an empty file unless there is one.
    fn touch(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it; nothing there is fine. Its room may be free a little later.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the directories in a directory; none when there is no such directory.
    fn dirs_in(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether room of what was removed is not free yet.
    fn is_removing(&self) -> bool;
    /// Removes a file; nothing there is fine.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Measures what each of these directories takes on the disk, beside the caller, and hands over the sizes in
    /// the same order; none when it cannot be done now. What cannot be read counts nothing, and what could not be seen
    /// in time is gone on with at the next call. `shortage`: which time the disk is short; zero: it is not.
    fn measure(&self, dirs: Vec<PathBuf>, shortage: u64, done: Measured);
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
    /// What it has not seen yet.
    measurer: Arc<Mutex<Measurer>>,
}

impl DiskFiles {
    /// The disk, with somebody who removes trees beside the caller.
    ///
    /// # Errors
    /// When there is no room for what is removed below `data`.
    pub fn new(data: &Path) -> io::Result<Self> {
        Ok(Self { remover: Some(Remover::start(&data.join("removed"))?), ..Self::default() })
    }
}

const CURRENT: &str = "..data";

impl Files for DiskFiles {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn write_set(&self, dir: &Path, files: &[File]) -> io::Result<()> {
        if files.iter().any(|file| !stays_inside(&file.path)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file's path leaves its volume",
            ));
        }
        std::fs::create_dir_all(dir)?;
        let old = std::fs::read_link(dir.join(CURRENT)).ok();
        if old.is_some() && shows(dir, files) {
            return Ok(());
        }
        let version = free_name(dir)?;
        let home = dir.join(&version);
        for file in files {
            write_file(&home.join(&file.path), file)?;
        }
        // Also an empty set has a version to point to.
        std::fs::create_dir_all(&home)?;
        let next = dir.join("..data_tmp");
        remove_if_there(std::fs::remove_file(&next))?;
        std::os::unix::fs::symlink(&version, &next)?;
        std::fs::rename(&next, dir.join(CURRENT))?;
        link_names(dir, files)?;
        match old {
            Some(old) if old.components().count() == 1 => remove_now(&dir.join(old)),
            Some(_) | None => Ok(()),
        }
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

    fn copy(&self, from: std::fs::File, to: &Path) -> io::Result<()> {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        let found = from.metadata()?;
        if MAX_SHOWN < found.len() {
            let text = format!("a single file of more than {MAX_SHOWN} bytes cannot be shown");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        remove_if_there(std::fs::remove_file(to))?;
        let mode = found.permissions().mode() & 0o777;
        let new = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(to);
        // It may be growing while this reads.
        io::copy(&mut io::Read::take(from, MAX_SHOWN), &mut new?).map(drop)
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
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut out = Vec::new();
        for entry in entries {
            let entry = entry?;
            // The agent gives no other names.
            if entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                out.push(name);
            }
        }
        Ok(out)
    }

    fn is_removing(&self) -> bool {
        self.remover.as_ref().is_some_and(|remover| !remover.is_idle())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        remove_if_there(std::fs::remove_file(path))
    }

    fn measure(&self, dirs: Vec<PathBuf>, shortage: u64, done: Measured) {
        let measurer = self.measurer.clone();
        let done = Arc::new(Mutex::new(Some(done)));
        let theirs = done.clone();
        let work = move || {
            if let Some(done) = theirs.lock().take() {
                let sizes = measurer.lock().measure(&dirs, shortage);
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

fn remove_if_there(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A directory name that no version has yet. The clock plays no part, as it may stand still.
fn free_name(dir: &Path) -> io::Result<OsString> {
    for number in 0_u32.. {
        let name = OsString::from(format!("..{number}"));
        match std::fs::create_dir(dir.join(&name)) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no name left for a version"))
}

fn write_file(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, &file.bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(file.mode & 0o777))
}

fn top(file: &File) -> Option<OsString> {
    Path::new(&file.path).components().find_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    })
}

/// Points each top-level name at the current version, and removes names that are no more.
fn link_names(dir: &Path, files: &[File]) -> io::Result<()> {
    let names: BTreeSet<OsString> = files.iter().filter_map(top).collect();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let own = name.to_string_lossy().starts_with("..");
        if !own && !names.contains(&name) {
            std::fs::remove_file(dir.join(name))?;
        }
    }
    for name in names {
        let link = dir.join(&name);
        if std::fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new(CURRENT).join(&name), link)?;
        }
    }
    Ok(())
}

/// Whether the current version holds exactly these files already.
fn shows(dir: &Path, files: &[File]) -> bool {
    let mut found = 0;
    let mut open = vec![dir.join(CURRENT)];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(next) else { return false };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => found += 1,
            }
        }
    }
    found == files.len()
        && files.iter().all(|file| {
            std::fs::read(dir.join(CURRENT).join(&file.path)).is_ok_and(|have| have == file.bytes)
                && top(file).is_some_and(|name| dir.join(name).exists())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: &str) -> File {
        File { path: path.to_owned(), bytes: bytes.as_bytes().to_vec(), mode: 0o644 }
    }

    fn read(dir: &Path, path: &str) -> Option<String> {
        std::fs::read_to_string(dir.join(path)).ok()
    }

    #[test]
    fn a_set_of_files_changes_at_once_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        let files = [file("a", "1"), file("deep/b", "2")];
        DiskFiles::default().write_set(&volume, &files).unwrap();
        assert_eq!(read(&volume, "a").as_deref(), Some("1"));
        assert_eq!(read(&volume, "deep/b").as_deref(), Some("2"));
        let version = std::fs::read_link(volume.join("..data")).unwrap();
        DiskFiles::default().write_set(&volume, &files).unwrap();
        assert_eq!(std::fs::read_link(volume.join("..data")).unwrap(), version, "no rewrite");
        DiskFiles::default().write_set(&volume, &[file("a", "3"), file("c", "4")]).unwrap();
        assert_eq!(read(&volume, "a").as_deref(), Some("3"));
        assert_eq!(read(&volume, "c").as_deref(), Some("4"));
        assert_eq!(read(&volume, "deep/b"), None);
        let mut names: Vec<_> = std::fs::read_dir(&volume)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        DiskFiles::default().write_set(&volume, &[]).unwrap();
        assert_eq!(read(&volume, "a"), None);
    }

    #[test]
    fn links_are_relative_so_that_a_guest_can_follow_them() {
        let dir = tempfile::tempdir().unwrap();
        DiskFiles::default().write_set(dir.path(), &[file("a", "1")]).unwrap();
        for link in ["a", "..data"] {
            assert!(std::fs::read_link(dir.path().join(link)).unwrap().is_relative());
        }
    }

    #[test]
    fn nothing_leaves_its_volume() {
        for path in ["../x", "/etc/passwd", "a/../../x", "", "..data/x", "..", "a\0"] {
            assert!(!stays_inside(path), "{path:?}");
            let dir = tempfile::tempdir().unwrap();
            assert!(DiskFiles::default().write_set(dir.path(), &[file(path, "")]).is_err());
            assert!(DiskFiles::default().enter(dir.path(), path, true).is_err());
        }
    }

    #[test]
    fn a_link_that_a_guest_made_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        std::fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("..", volume.join("out")).unwrap();
        assert!(DiskFiles::default().enter(&volume, "out", false).is_err());
        assert!(DiskFiles::default().enter(&volume, "out/other", false).is_err());
        assert!(DiskFiles::default().enter(&volume, "out", true).is_err());
    }

    #[test]
    fn a_file_of_holes_does_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (huge, copy) = (dir.path().join("huge"), dir.path().join("copy"));
        let file = std::fs::File::create_new(&huge).unwrap();
        file.set_len(1 << 40).unwrap();
        let Entered::File(file) = DiskFiles::default().enter(dir.path(), "huge", false).unwrap()
        else {
            panic!("no file")
        };
        assert!(
            DiskFiles::default()
                .copy(file, &copy)
                .unwrap_err()
                .to_string()
                .contains("cannot be shown")
        );
        assert!(!copy.exists());
    }
}

//! Directories of the host that guests are given, and files out of them, held open.
//!
//! A guest writes in its volumes: what a path there leads to now may be a link out of the volume in a moment. So
//! a place inside of a volume is entered part by part, each relative to the one before and never through a
//! symlink, and what was found is carried as the open descriptor, never as its path.
//!
//! Guarantees:
//! - what was entered lies in the volume, and stays what the guest sees whatever its names lead to by then
//!   (`whoever_swaps_while_somebody_enters_gains_nothing`,
//!   `a_directory_that_is_swapped_for_a_link_after_it_was_entered_stays_what_it_was`,
//!   `a_file_that_is_swapped_for_a_link_after_it_was_entered_stays_what_it_was`);
//! - nothing but directories and regular files is entered (`what_is_missing_is_made_and_pipes_are_refused`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;

/// Read, not waiting for the other end of a pipe, not through a last symlink.
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A directory that a guest is given. Two are equal when they were found under the same path.
#[derive(Clone, Debug)]
pub struct HostDir {
    path: PathBuf,
    /// None in a simulation, which has no disk.
    open: Option<Arc<OwnedFd>>,
}

impl PartialEq for HostDir {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for HostDir {}

impl HostDir {
    /// Opens a directory of the agent's own: no guest can change what is above it.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let open = openat(CWD, path, FLAGS | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { path: path.to_owned(), open: Some(Arc::new(open)) })
    }

    /// A directory of a simulation.
    #[cfg(any(test, feature = "fake"))]
    #[must_use]
    pub const fn simulated(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Where it was found; it may be elsewhere by now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory.
    ///
    /// # Errors
    /// When the process has no descriptor left, or this is a simulation.
    pub fn into_file(self) -> io::Result<File> {
        let open = self.open.ok_or(io::ErrorKind::NotFound)?;
        Ok(match Arc::try_unwrap(open) {
            Ok(only) => only.into(),
            Err(shared) => shared.try_clone()?.into(),
        })
    }
}

/// What stands at a path inside of a volume.
#[derive(Debug)]
pub enum Entered {
    /// A file, open for reading.
    File(File),
    /// A directory, made when there was nothing.
    Dir(HostDir),
}

/// Goes from `dir` to `inside`, which has no parts but names. Directories that are missing are made.
pub(crate) fn enter(dir: &Path, inside: &Path) -> io::Result<Entered> {
    let mut path = dir.to_owned();
    let mut at = openat(CWD, dir, FLAGS | OFlags::DIRECTORY, Mode::empty())?;
    let mut parts = inside.components().filter(|part| *part != Component::CurDir).peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
        path.push(name);
        at = step(&at, Path::new(name))?;
        match FileType::from_raw_mode(fstat(&at)?.st_mode) {
            FileType::Directory => {}
            FileType::RegularFile if parts.peek().is_none() => return Ok(Entered::File(at.into())),
            FileType::RegularFile => return Err(io::ErrorKind::NotADirectory.into()),
            _ => return Err(refused(name.as_ref(), "is neither a directory nor a file")),
        }
    }
    Ok(Entered::Dir(HostDir { path, open: Some(Arc::new(at)) }))
}

/// One name down. Twice, as somebody else may make the directory in the same moment.
fn step(at: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    let open = || openat(at.as_fd(), name, FLAGS, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) => {
            match mkdirat(at.as_fd(), name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            open()
        }
        other => other,
    };
    match opened {
        // What an open that follows no links says of a link.
        Err(Errno::LOOP | Errno::MLINK) => Err(refused(name, "is a symlink")),
        other => Ok(other?),
    }
}

fn refused(name: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{:?} {why}", name.display().to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A volume `v` with `sub/own` and a file `one`, beside a secret.
    fn volume() -> (tempfile::TempDir, PathBuf) {
        let data = tempfile::tempdir().unwrap();
        let volume = data.path().join("v");
        std::fs::create_dir_all(data.path().join("identity")).unwrap();
        std::fs::write(data.path().join("identity/key"), "secret").unwrap();
        std::fs::write(data.path().join("identity/own"), "secret").unwrap();
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        std::fs::write(volume.join("sub/own"), "mine").unwrap();
        std::fs::write(volume.join("one"), "mine").unwrap();
        (data, volume)
    }

    fn names(dir: HostDir) -> Vec<String> {
        let file = dir.into_file().unwrap();
        let list = std::fs::read_dir(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_link_after_it_was_entered_stays_what_it_was() {
        let (_data, volume) = volume();
        let Entered::Dir(dir) = enter(&volume, Path::new("sub")).unwrap() else { panic!() };
        std::fs::rename(volume.join("sub"), volume.join("aside")).unwrap();
        symlink("../identity", volume.join("sub")).unwrap();
        assert_eq!(names(dir), ["own"]);
        let refused = enter(&volume, Path::new("sub")).unwrap_err();
        assert_eq!(refused.to_string(), "\"sub\" is a symlink");
        assert!(enter(&volume, Path::new("sub/key")).is_err());
    }

    #[test]
    fn a_file_that_is_swapped_for_a_link_after_it_was_entered_stays_what_it_was() {
        let (_data, volume) = volume();
        let Entered::File(mut file) = enter(&volume, Path::new("one")).unwrap() else { panic!() };
        std::fs::remove_file(volume.join("one")).unwrap();
        symlink("../identity/key", volume.join("one")).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "mine");
        assert!(enter(&volume, Path::new("one")).is_err());
    }

    #[test]
    fn whoever_swaps_while_somebody_enters_gains_nothing() {
        let (_data, volume) = volume();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                symlink("../identity", volume.join("link")).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let (at, with) = (volume.join("sub"), volume.join("link"));
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(CWD, &at, CWD, &with, flags).unwrap();
                }
            });
            let mut seen = Vec::new();
            for _ in 0..2000 {
                match enter(&volume, Path::new("sub")) {
                    Ok(Entered::Dir(dir)) => seen.extend(names(dir)),
                    Ok(Entered::File(_)) => panic!("a file"),
                    Err(_) => {}
                }
                if let Ok(Entered::File(mut file)) = enter(&volume, Path::new("sub/own")) {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    seen.push(text);
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            swapping.join().unwrap();
            seen
        });
        assert!(seen.iter().all(|found| found == "own" || found == "mine"), "{seen:?}");
    }

    #[test]
    fn what_is_missing_is_made_and_pipes_are_refused() {
        let (_data, volume) = volume();
        let Entered::Dir(made) = enter(&volume, Path::new("./new/dir")).unwrap() else { panic!() };
        assert_eq!(made.path(), volume.join("new/dir"));
        assert!(volume.join("new/dir").is_dir());
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, volume.join("pipe"), FileType::Fifo, mode, 0).unwrap();
        assert!(enter(&volume, Path::new("pipe")).is_err());
        assert!(enter(&volume, Path::new("one/below")).is_err());
        assert!(enter(&volume, Path::new("../identity")).is_err());
    }
}

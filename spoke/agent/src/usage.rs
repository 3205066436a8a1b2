//! How much of the disk is below a directory that a guest fills.
//!
//! Guarantees: no symlink is followed, also when a guest puts one in place of a directory while this looks;
//! a file with several names counts once; holes in files count nothing; any depth works with a handful of
//! open files. What goes away meanwhile counts nothing.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

/// Bytes of one block in `st_blocks`, whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// Bytes on the disk below `dir`, itself left out. A directory that is not there has none.
///
/// # Errors
/// When a directory cannot be read.
pub fn below(dir: &Path) -> io::Result<u64> {
    let mut walk = Walk { sum: 0, seen: HashSet::new(), open: vec![PathBuf::new()] };
    while let Some(inside) = walk.open.pop() {
        match enter(dir, &inside) {
            Ok(found) => walk.count(&found, &inside)?,
            // Gone, or no directory any more.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(walk.sum)
}

struct Walk {
    sum: u64,
    /// (device, inode) of files with several names.
    seen: HashSet<(u64, u64)>,
    /// Directories to be looked into, relative to the first.
    open: Vec<PathBuf>,
}

impl Walk {
    fn count(&mut self, dir: &OwnedFd, inside: &Path) -> io::Result<()> {
        let entries = Dir::read_from(dir)?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_dir {
                self.open.push(inside.join(OsString::from_vec(name.to_bytes().to_vec())));
            } else if 1 < stat.st_nlink && !self.seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.sum = self.sum.saturating_add(blocks.saturating_mul(BLOCK));
        }
        Ok(())
    }
}

/// Opens a directory step by step: no step leads through a symlink, and no path is too long.
fn enter(dir: &Path, inside: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, dir, flags, Mode::empty())?;
    for part in inside.components() {
        at = openat(&at, part.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_disk_counts_once_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("big"), vec![1; 4 << 20]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(below(dir.path()).unwrap(), 0);
        assert_eq!(below(&dir.path().join("absent")).unwrap(), 0);
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(deep.join("file"), dir.path().join("again")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        std::fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        let used = below(dir.path()).unwrap();
        assert!((1 << 20..(1 << 20) + (256 << 10)).contains(&used), "{used}");
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut at = openat(CWD, dir.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            at = openat(&at, name.as_str(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&at, "file", flags, Mode::RUSR | Mode::WUSR).unwrap();
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, &vec![1; 1 << 20]).unwrap();
        assert!(1 << 20 <= below(dir.path()).unwrap());
    }
}

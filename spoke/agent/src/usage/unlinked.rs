//! Files that guests keep open without a name: they fill the disk, and no walk meets them.
//!
//! All that guests have open is open in this process, and the kernel says of each descriptor where its file lay; where
//! that is a path of more than 4,095 bytes, which a guest makes by directories in each other, in another way
//! (`mapped.rs`).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use tracing::warn;

use super::disk_size::Taken;
use super::mapped;

/// Bytes of one block in `st_blocks`, whatever the file system's own blocks are.
const STAT_BLOCK_BYTES: u64 = 512;

/// What such files take on the disk, for each of these directories. Where the kernel has no `/proc`, nothing.
pub(super) fn below(dirs: &[PathBuf]) -> Vec<Taken> {
    let files = open();
    // Most devices have none, and then nothing is asked of the directories.
    if files.is_empty() {
        return vec![Taken::default(); dirs.len()];
    }
    let of = |dir: &PathBuf| {
        let dir = fs::canonicalize(dir).ok()?;
        let mut sum = Taken::default();
        let below = files.iter().filter(|(path, _)| path.starts_with(&dir));
        below.for_each(|(_, bytes)| sum.add(Taken { bytes: *bytes, inodes: 1 }));
        Some(sum)
    };
    dirs.iter().map(|dir| of(dir).unwrap_or_default()).collect()
}

/// Each open file without a name: where it lay, and what it takes.
fn open() -> Vec<(PathBuf, u64)> {
    let (mut seen, mut deep) = (HashSet::new(), Vec::new());
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut file = |entry: fs::DirEntry| {
        let link = entry.path();
        // One that was closed meanwhile is no more.
        let file = fs::metadata(&link).ok()?;
        if !file.is_file() || file.nlink() != 0 || !seen.insert((file.dev(), file.ino())) {
            return None;
        }
        let bytes = file.blocks().saturating_mul(STAT_BLOCK_BYTES);
        // `/data/pods/…/name (deleted)`: only what is above the name counts.
        match fs::read_link(&link) {
            Ok(place) => place.parent().map(|folder| (folder.to_path_buf(), bytes)),
            Err(error) if error.kind() == ErrorKind::InvalidFilename => {
                deep.push((link, file.ino(), bytes));
                None
            }
            Err(_) => None,
        }
    };
    let mut files: Vec<_> = descriptors.filter_map(&mut file).collect();
    for some in deep.chunks(mapped::AT_ONCE_MAX) {
        if let Err(error) = add_deep(some, &mut files) {
            warn!(%error, "files without a name lie too deep to know whose they are");
        }
    }
    files
}

/// Adds files whose descriptors do not tell where they lay.
fn add_deep(deep: &[(PathBuf, u64, u64)], files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    let open = |(link, inode, bytes): &(PathBuf, u64, u64)| {
        // By now the number may be another file's.
        let file = File::open(link).ok()?;
        let same = file.metadata().is_ok_and(|found| found.ino() == *inode);
        same.then_some((file, *bytes))
    };
    let (open, bytes): (Vec<File>, Vec<u64>) = deep.iter().filter_map(open).unzip();
    let mapped_files = mapped::beginnings(&open)?.into_iter().zip(bytes);
    files.extend(mapped_files.filter_map(|(path, bytes)| Some((path?, bytes))));
    Ok(())
}

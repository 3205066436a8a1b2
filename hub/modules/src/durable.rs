//! Files that are there whole and synced, or not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces a file as a whole, durably. A failure leaves the old one and nothing beside it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, |mut file| {
        file.write_all(content)?;
        Ok(file)
    })
}

/// The same, for content that nobody else may read.
pub(crate) fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_as(path, 0o600, |mut file| {
        file.write_all(content)?;
        Ok(file)
    })
}

/// The same, for content that is made on the way to the disk.
pub(crate) fn replace_with(
    path: &Path,
    fill: impl FnOnce(File) -> io::Result<File>,
) -> io::Result<()> {
    replace_as(path, 0o666, fill)
}

fn replace_as(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(File) -> io::Result<File>,
) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let outcome = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)
        .and_then(fill)
        // Before it has its name: a power cut would leave that to an empty file.
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&fresh, path));
    if outcome.is_err() {
        // A full disk is the usual reason: what is half written only makes it worse.
        let _ = std::fs::remove_file(&fresh);
    }
    outcome?;
    sync_parent(path)
}

/// A rename survives a power cut once its folder is synced.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file; whether it was there.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

/// Whether there is no room: on the disk, in a quota, under a bound of file sizes. A person can change it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tags.json");
        replace(&path, b"old").unwrap();
        // What is written here finds a full disk.
        std::os::unix::fs::symlink("/dev/full", dir.path().join("tags.new")).unwrap();
        assert!(is_full(&replace(&path, b"new").unwrap_err()));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}

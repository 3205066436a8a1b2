//! Where the database file lives, as a trait: a simulated disk may stand in.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

/// The database's file name in the data directory.
const FILE: &str = "store.redb";

/// Something that can be opened again after it failed.
pub trait Disk: Send + 'static {
    /// What redb reads and writes.
    type Backend: StorageBackend;

    /// Opens it, making it when it is not there.
    ///
    /// # Errors
    /// What the disk says.
    fn open(&mut self) -> io::Result<Self::Backend>;
}

/// A file in a directory of the host.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
}

impl FileDisk {
    /// In this directory, which is made when it is not there.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl Disk for FileDisk {
    type Backend = FileBackend;

    fn open(&mut self) -> io::Result<FileBackend> {
        std::fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(FILE);
        let file = open_private(&path)?;
        // The file's name has to be as durable as what will be in it.
        File::open(&self.directory)?.sync_all()?;
        forget_cached(&file);
        FileBackend::new(file).map_err(io::Error::other)
    }
}

/// Makes the reads that follow come from the disk.
///
/// After a failed sync the kernel keeps what it could not write in its cache and calls it clean: a
/// database opened again would read, and build upon, what is not on disk.
fn forget_cached(file: &File) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed) {
        tracing::warn!(%error, "the store's file may be read from the cache");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Secrets are inside: nobody else may read it.
fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

//! Where the database file lives, as a trait: a simulated disk may stand in.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::open_error::OpenError;
use super::witness;
use crate::Revision;

/// The database's file name in the data directory, and the one that it is made under.
const FILE: &str = "store.redb";
const FRESH: &str = "store.new";
/// The [`witness`]'s file name.
const WITNESS: &str = "acknowledged";

/// Where the reads of a disk that is opened may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// From the disk: what the host remembers of it may not be what is there.
    FromDisk,
    /// Also from what the host remembers: all of it has come from the disk a moment ago.
    Remembered,
}

/// Something that can be opened again after it failed.
pub trait Disk: Send + 'static {
    /// What redb reads and writes.
    type Backend: StorageBackend;

    /// What a person knows it by.
    fn name(&self) -> String;

    /// The file that it is, where it is one.
    fn file(&self) -> Option<PathBuf> {
        None
    }

    /// Opens it; `None` when nothing was ever made there.
    ///
    /// # Errors
    /// What the disk says.
    fn open(&mut self, reads: Reads) -> io::Result<Option<Self::Backend>>;

    /// Makes it: what `fill` writes is there whole or not at all.
    ///
    /// # Errors
    /// Those of `fill`, and what the disk says.
    fn make(
        &mut self,
        fill: &mut dyn FnMut(Self::Backend) -> Result<(), OpenError>,
    ) -> Result<(), OpenError>;

    /// The last revision that is known to have been acknowledged, if any is.
    ///
    /// # Errors
    /// What the disk says.
    fn acknowledged(&mut self) -> io::Result<Option<Revision>>;

    /// What time it is: one that refused is left alone for a while.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Notes that this revision was acknowledged. A power cut may take it back unless it is `kept`.
    ///
    /// # Errors
    /// What the disk says.
    fn acknowledge(&mut self, revision: Revision, kept: bool) -> io::Result<()>;
}

/// A file in a directory of the host.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    witness: Option<File>,
}

impl FileDisk {
    /// In this directory, which is made when it is not there.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), witness: None }
    }

    /// Names are as durable as what is behind them once their directory is synced.
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn make_directory(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let parent = self.directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }

    fn witness(&mut self) -> io::Result<&File> {
        if self.witness.is_none() {
            let file = open_private(&self.directory.join(WITNESS))?;
            self.sync_names()?;
            self.witness = Some(file);
        }
        self.witness.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FileDisk {
    type Backend = FileBackend;

    fn name(&self) -> String {
        self.directory.join(FILE).display().to_string()
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.directory.join(FILE))
    }

    fn open(&mut self, reads: Reads) -> io::Result<Option<FileBackend>> {
        let path = self.directory.join(FILE);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if reads == Reads::FromDisk {
            forget_cached(&file);
        }
        FileBackend::new(file).map(Some).map_err(io::Error::other)
    }

    fn make(
        &mut self,
        fill: &mut dyn FnMut(FileBackend) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        self.make_directory().map_err(OpenError::Disk)?;
        let fresh = self.directory.join(FRESH);
        // Left by a hub that was killed while it made it.
        if let Err(error) = std::fs::remove_file(&fresh)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(OpenError::Disk(error));
        }
        let file = open_private(&fresh).map_err(OpenError::Disk)?;
        fill(FileBackend::new(file).map_err(|e| OpenError::Disk(io::Error::other(e)))?)?;
        // Whole before it has the name by which it is opened, and named before anybody relies on it.
        let named = || {
            File::open(&fresh)?.sync_all()?;
            std::fs::rename(&fresh, self.directory.join(FILE))?;
            self.sync_names()
        };
        named().map_err(OpenError::Disk)
    }

    fn acknowledged(&mut self) -> io::Result<Option<Revision>> {
        match std::fs::read(self.directory.join(WITNESS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => Ok(witness::decode(&other?)),
        }
    }

    fn acknowledge(&mut self, revision: Revision, kept: bool) -> io::Result<()> {
        let file = self.witness()?;
        file.write_all_at(&witness::encode(revision), 0)?;
        if kept { file.sync_all() } else { Ok(()) }
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

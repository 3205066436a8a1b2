//! The data directory: one agent at a time, nobody else's to read.
//!
//! ```text
//! DIR/lock       held while an agent runs     DIR/identity/   key, certificate, pins
//! DIR/ledger     see the agent's ledger       DIR/modules/    compiled modules
//! DIR/ledger.damaged   one that could not be read as it was written, for people to look at
//! DIR/pods/      volumes and logs
//! ```
//!
//! Guarantees:
//! - a ledger that is removed under the agent is written anew, and in no directory but the one that the agent began
//!   with (`a_ledger_is_kept_where_it_was_begun_and_nowhere_else`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freewheel_link::report::UnixMillis;
use freewheel_spoke_agent::ports::{Clock, Disk};
use rustix::fs::StatVfsMountFlags;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    #[error("cannot use the data directory {dir}")]
    Unusable {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another agent runs on {0}: stop it first, or give this one a directory of its own")]
    InUse(PathBuf),
}

/// A directory that this process holds.
pub(crate) struct Data {
    dir: PathBuf,
    _lock: File,
}

impl Data {
    /// Makes and locks the directory. One of which the disk takes no writes any more is locked as well as any other.
    pub(crate) fn open(dir: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let path = lock_of(&dir);
        let made =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = made.or_else(|error| File::open(&path).map_err(|_| error)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(DataError::InUse(dir)),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The ledger's file.
pub(crate) struct LedgerFile {
    path: PathBuf,
    /// The directory's lock, by which it is known again.
    lock: Option<FileId>,
    file: parking_lot::Mutex<Option<File>>,
}

/// A file, whatever its name: device and inode.
type FileId = (u64, u64);

fn id(found: io::Result<fs::Metadata>) -> Option<FileId> {
    found.ok().map(|found| (found.dev(), found.ino()))
}

fn lock_of(dir: &Path) -> PathBuf {
    dir.join("lock")
}

impl LedgerFile {
    pub(crate) fn new(dir: &Path) -> Self {
        let lock = id(fs::metadata(lock_of(dir)));
        Self { path: dir.join("ledger"), lock, file: parking_lot::Mutex::default() }
    }

    fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn with<T>(&self, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut held = self.file.lock();
        if held.is_none() {
            *held =
                Some(OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?);
        }
        match held.as_mut() {
            Some(file) => work(file),
            None => Err(io::Error::other("the ledger is not open")),
        }
    }
}

impl Disk for LedgerFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(|_| bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
            Err(error) => Err(error),
        }
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|file| file.write_all(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        // With its data its length is durable, too; of its times, which may be lost, nobody reads any.
        self.with(|file| file.sync_data())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        if id(fs::metadata(lock_of(self.dir()))) != self.lock {
            // Not a place to begin anew: the identity and the pods' files are not there.
            return Err(io::Error::other(
                "the data directory is gone, or another: put it back, or restart",
            ));
        }
        write_whole(&self.path, bytes)?;
        // The old file is open still: the next append belongs to the new one.
        *self.file.lock() = None;
        self.with(|_| Ok(()))
    }

    fn is_kept(&self) -> bool {
        let held = self.with(|file| file.metadata());
        id(held) == id(fs::metadata(&self.path))
            && id(fs::metadata(lock_of(self.dir()))) == self.lock
            && rustix::fs::statvfs(self.dir())
                .is_ok_and(|disk| !disk.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    fn keep_aside(&self) -> io::Result<()> {
        let aside = damaged_ledger(self.dir());
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // A second name, where the file system has such: the next rewrite takes the first one to a new file.
        fs::hard_link(&self.path, &aside).or_else(|_| fs::copy(&self.path, &aside).map(drop))
    }

    fn salt(&self) -> u32 {
        use std::hash::{BuildHasher as _, RandomState};
        // Keyed by the system's randomness.
        let [a, b, c, d, ..] = RandomState::new().hash_one(0_u8).to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// The ledger's file as it is, for a look at it.
pub(crate) fn read_ledger(dir: &Path) -> io::Result<Vec<u8>> {
    LedgerFile::new(dir).read()
}

/// Where a ledger is kept that could not be read as it was written.
pub(crate) fn damaged_ledger(dir: &Path) -> PathBuf {
    dir.join("ledger.damaged")
}

/// Writes a file that is whole or as it was, durably, readable by its owner only.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    // Before it has its name, which would lead to an empty file after a power cut; the folder after that, or the name is
    // lost.
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// The machine's clocks.
pub(crate) struct MachineClock(Instant);

impl MachineClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix_ms(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let held = Data::open(dir.path()).unwrap();
        assert!(matches!(Data::open(dir.path()), Err(DataError::InUse(_))));
        drop(held);
        assert!(Data::open(dir.path()).is_ok());
    }

    #[test]
    fn a_lock_that_cannot_be_written_to_is_one_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        // Nobody opens a directory for writing, whoever they are.
        fs::create_dir(dir.path().join("lock")).unwrap();
        let held = Data::open(dir.path()).unwrap();
        assert!(matches!(Data::open(dir.path()), Err(DataError::InUse(_))));
        drop(held);
        assert!(Data::open(dir.path()).is_ok());
    }

    #[test]
    fn the_ledgers_file_appends_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::new(dir.path());
        assert_eq!(file.read().unwrap(), b"");
        file.append(b"one").unwrap();
        file.sync().unwrap();
        file.replace(b"two").unwrap();
        file.append(b"three").unwrap();
        assert_eq!(file.read().unwrap(), b"twothree");
        for _ in 0..2 {
            file.keep_aside().unwrap();
            file.replace(b"four").unwrap();
        }
        assert_eq!(fs::read(damaged_ledger(dir.path())).unwrap(), b"four");
        file.append(b"five").unwrap();
        assert_eq!(file.read().unwrap(), b"fourfive");
        assert_ne!(file.salt(), file.salt());
    }

    #[test]
    fn a_ledger_is_kept_where_it_was_begun_and_nowhere_else() {
        let all = tempfile::tempdir().unwrap();
        let (home, away) = (all.path().join("home"), all.path().join("away"));
        let _held = Data::open(&home).unwrap();
        let file = LedgerFile::new(&home);
        file.replace(b"one").unwrap();
        assert!(file.is_kept());
        fs::remove_file(home.join("ledger")).unwrap();
        assert!(!file.is_kept());
        file.replace(b"two").unwrap();
        assert!(file.is_kept());
        fs::rename(&home, &away).unwrap();
        assert!(!file.is_kept() && file.replace(b"three").is_err());
        fs::create_dir(&home).unwrap();
        assert!(!file.is_kept() && file.replace(b"three").is_err());
        assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "nothing is begun there");
        fs::remove_dir(&home).unwrap();
        fs::rename(&away, &home).unwrap();
        assert!(file.is_kept());
        assert_eq!(file.read().unwrap(), b"two");
        // Emptied: the identity is gone with it.
        fs::remove_file(home.join("lock")).unwrap();
        assert!(!file.is_kept() && file.replace(b"three").is_err());
    }
}

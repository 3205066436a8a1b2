//! Content by digest under one folder.
//!
//! Guarantees:
//! - a blob is there whole and under its true digest, or not at all
//!   (`an_upload_in_chunks_is_checked_against_its_digest`,
//!   `an_upload_may_be_cancelled_and_one_that_fails_leaves_nothing`);
//! - one that is not what was written is read by nobody (`a_manifest_that_rotted_is_told_and_mended_by_the_next_push`),
//!   and set aside, so that the next push brings it (`a_module_that_rotted_is_mended_by_the_next_push`), but not what a
//!   push has brought meanwhile (`a_blob_that_is_pushed_while_the_damaged_one_is_read_stays`);
//! - what somebody has pushed or asked for within the grace period is not collected, in this life of the hub by its own
//!   memory, which no jump of the wall clock changes, and after a start by the file's time
//!   (`a_push_that_finds_its_blob_there_does_not_lose_it`, `blobs_go_when_nobody_names_them_and_their_grace_is_over`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use freewheel_link::digest::Digest;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::durable::{remove, sync_parent};

/// Largest blob in bytes: a Wasm module for a small device is far below.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("a blob may have {BLOB_BYTES_MAX} bytes at most")]
    TooLarge,
    #[error("the content's digest is {found}, not {named}")]
    Digest { named: Digest, found: Digest },
    #[error("there is no such upload")]
    NoUpload,
    #[error("another request writes to this upload")]
    Busy,
    #[error("there are {0} unfinished uploads, which is the most: finish or cancel some")]
    TooManyUploads(usize),
    #[error("the registry's disk failed")]
    Disk(#[from] io::Error),
}

/// A blob as the folder shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    /// Since it was last pushed or asked for; `None` when that lies in the clock's future.
    pub(crate) idle: Option<Duration>,
}

/// Where a damaged blob is kept: no name of a blob.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    /// What was pushed or asked for in this life. Collecting takes the same lock, so a blob that was
    /// said to be there is not removed a moment later.
    fresh: Mutex<BTreeMap<Digest, Instant>>,
}

impl Blobs {
    /// Opens the folder.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join("blobs/sha256");
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, fresh: Mutex::default() })
    }

    /// Where a blob is or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Its size, when it is there.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.path(digest)).ok().map(|meta| meta.len())
    }

    /// A blob of up to `most` bytes, whole. [`io::ErrorKind::InvalidData`]: it is damaged.
    pub(crate) fn read(&self, digest: &Digest, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(digest))?.take(most + 1).read_to_end(&mut bytes)?;
        if most < bytes.len() as u64 {
            return Err(io::Error::other(format!("the blob {digest} is larger than {most} bytes")));
        }
        if Digest::of(&bytes) != *digest {
            let text = format!(
                "{} is damaged: put it back from a copy of the data folder, or push it again",
                self.path(digest).display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(bytes)
    }

    /// Takes a damaged blob out of the way, so that pushers do not find it. It is kept, for the fault may have been in
    /// the reading. Whether it was there and damaged to the end. Blocking.
    pub(crate) fn set_aside(&self, digest: &Digest) -> io::Result<bool> {
        let path = self.path(digest);
        let (mut file, mut hash) = (File::open(&path)?, Sha256::new());
        let read = file.metadata()?;
        io::copy(&mut file, &mut hash)?;
        if Digest(hash.finalize().into()) == *digest {
            return Ok(false);
        }
        // Reading takes seconds, and a push puts another file in its place. Whoever does that takes the lock, and it is held
        // until the file has its other name: a push in between would lose what it has just been told is there.
        let mut fresh = self.fresh.lock();
        let there = match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        if (there.dev(), there.ino()) != (read.dev(), read.ino()) {
            return Ok(false);
        }
        fresh.remove(digest);
        std::fs::rename(&path, aside(&path))?;
        Ok(true)
    }

    /// Its size, when it is there; from now on it stays for the grace period.
    pub(crate) fn refresh(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let mut fresh = self.fresh.lock();
        let file = match File::open(self.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let size = file.metadata()?.len();
        fresh.insert(*digest, Instant::now());
        // For the next life; a disk that takes no times leaves this life's memory.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(size))
    }

    /// Makes a synced file with this content a blob.
    pub(crate) fn admit(&self, from: &Path, digest: &Digest) -> io::Result<()> {
        let to = self.path(digest);
        {
            let mut fresh = self.fresh.lock();
            std::fs::rename(from, &to)?;
            fresh.insert(*digest, Instant::now());
        }
        // The name lasts once its folder is synced. Not under the lock: who asks about other blobs would wait for the disk.
        sync_parent(&to)?;
        remove(&aside(&to)).map(drop)
    }

    /// Removes a blob that nobody has pushed or asked for within `grace`; whether it did.
    pub(crate) fn collect(&self, digest: &Digest, grace: Duration) -> io::Result<bool> {
        let fresh = self.fresh.lock();
        if fresh.get(digest).is_some_and(|at| at.elapsed() < grace) {
            return Ok(false);
        }
        remove(&self.path(digest))
    }

    /// Removes a blob because somebody said so; whether there was one.
    pub(crate) fn delete(&self, digest: &Digest) -> io::Result<bool> {
        let mut fresh = self.fresh.lock();
        fresh.remove(digest);
        remove(&self.path(digest))
    }

    /// Gives a blob that is dated in the future today's date, so that its grace period ends some day.
    pub(crate) fn redate(&self, digest: &Digest) -> io::Result<()> {
        File::open(self.path(digest))?.set_modified(SystemTime::now())
    }

    /// Every blob. Files that are none are left alone.
    pub(crate) fn list(&self) -> io::Result<Vec<Listed>> {
        let now = SystemTime::now();
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            // One that goes meanwhile is gone.
            if let (Some(digest), Ok(meta)) = (digest, entry.metadata()) {
                let idle = meta.modified().ok().and_then(|at| now.duration_since(at).ok());
                all.push(Listed { digest, bytes: meta.len(), idle });
            }
        }
        Ok(all)
    }

    /// Forgets what is older than the grace period anyway.
    pub(crate) fn forget(&self, grace: Duration) {
        self.fresh.lock().retain(|_, at| at.elapsed() < grace);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_blob_that_is_pushed_while_the_damaged_one_is_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"good");
        // Who reads this waits until somebody has written all of it.
        mknodat(CWD, blobs.path(&digest), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| blobs.set_aside(&digest));
            let mut damaged = File::options().write(true).open(blobs.path(&digest)).unwrap();
            std::fs::write(dir.path().join("pushed"), b"good").unwrap();
            blobs.admit(&dir.path().join("pushed"), &digest).unwrap();
            damaged.write_all(b"bad").unwrap();
            drop(damaged);
            looks.join().unwrap().unwrap();
        });
        assert_eq!(blobs.read(&digest, 10).unwrap(), b"good");
        // One that is damaged still goes.
        std::fs::write(blobs.path(&digest), b"bad").unwrap();
        assert!(blobs.set_aside(&digest).unwrap());
        assert_eq!(blobs.size(&digest), None);
    }
}

//! Uploads that are not finished: bytes go to the disk as they come, and into the digest on the way.
//!
//! Guarantees:
//! - one request at a time writes to an upload, and what it says of itself is what is on the disk
//!   (`one_request_at_a_time_writes_to_an_upload`);
//! - a write that fails ends the upload and leaves nothing behind (`a_full_disk_ends_the_upload_and_leaves_nothing`);
//! - what pushers forget keeps nobody out: when there are as many uploads as there may be, the one for which nothing
//!   has come for the longest time gives way (`forgotten_uploads_give_way_and_others_are_bounded`);
//! - uploads leave the store beside them room on the disk (`uploads_leave_room_on_the_disk`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use freewheel_link::digest::Digest;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use crate::blobs::{BLOB_BYTES_MAX, BlobError, Blobs};
use crate::disk_reserve::DiskReserve;
use crate::durable::remove;

/// Unfinished uploads at a time; each takes a name, a hash state and its bytes on disk.
const MAX_UPLOADS: usize = 1000;

/// For so long nothing has come for an upload that gives way to another one.
const UPLOAD_FORGOTTEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// How far an upload has come. No file stays open between requests: clients forget uploads.
struct Upload {
    size: u64,
    hash: Sha256,
    touched: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Upload>>;

/// The folder of unfinished uploads.
pub(crate) struct Uploads {
    dir: PathBuf,
    open: Mutex<BTreeMap<String, Slot>>,
    room: DiskReserve,
}

/// One upload in the hands of one request.
pub(crate) struct Writing {
    name: String,
    path: PathBuf,
    state: OwnedMutexGuard<Upload>,
    file: Option<File>,
}

impl Uploads {
    /// Opens the folder and drops the uploads of an earlier run: their hash states went with it. A folder that is there
    /// stays: on a full disk there is no room for another.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join("uploads");
        std::fs::create_dir_all(&dir)?;
        for left in std::fs::read_dir(&dir)? {
            std::fs::remove_file(left?.path())?;
        }
        Ok(Self { room: DiskReserve::new(&dir), dir, open: Mutex::default() })
    }

    /// Starts an upload and gives it a name.
    pub(crate) fn begin(&self) -> Result<String, BlobError> {
        self.room.is_left()?;
        let name = fresh_name();
        let mut open = self.open.lock();
        if MAX_UPLOADS <= open.len() {
            let oldest = forgotten(&open, UPLOAD_FORGOTTEN_AFTER);
            let oldest = oldest.ok_or(BlobError::TooManyUploads(MAX_UPLOADS))?;
            open.remove(&oldest);
            // As in `cancel`.
            let _ = remove(&self.dir.join(oldest));
        }
        File::create_new(self.dir.join(&name))?;
        let upload = Upload { size: 0, hash: Sha256::new(), touched: Instant::now() };
        open.insert(name.clone(), Arc::new(tokio::sync::Mutex::new(upload)));
        Ok(name)
    }

    /// Takes an upload in hand. Names are looked up and never become a path by themselves.
    pub(crate) fn claim(&self, name: &str) -> Result<Writing, BlobError> {
        let open = self.open.lock();
        let (name, slot) = open.get_key_value(name).ok_or(BlobError::NoUpload)?;
        let state = slot.clone().try_lock_owned().map_err(|_| BlobError::Busy)?;
        Ok(Writing { name: name.clone(), path: self.dir.join(name), state, file: None })
    }

    /// Adds to an upload. Blocking.
    pub(crate) fn append(
        &self,
        mut writing: Writing,
        pieces: &[Bytes],
    ) -> Result<Writing, BlobError> {
        let room = self.room.is_left().map_err(BlobError::from);
        match room.and_then(|()| writing.append(pieces)) {
            Ok(()) => Ok(writing),
            Err(error) => {
                self.cancel(&writing.name);
                Err(error)
            }
        }
    }

    /// Ends an upload: its content must have this digest. Either way it is over. Blocking.
    pub(crate) fn finish(
        &self,
        mut writing: Writing,
        named: &Digest,
        blobs: &Blobs,
    ) -> Result<(), BlobError> {
        let outcome = writing.settle(named, blobs);
        self.cancel(&writing.name);
        outcome
    }

    /// Drops an upload; whether there was one.
    pub(crate) fn cancel(&self, name: &str) -> bool {
        let Some(slot) = self.open.lock().remove(name) else { return false };
        drop(slot);
        // A file that cannot be removed now is removed when uploads are collected, or at the next start.
        let _ = remove(&self.dir.join(name));
        true
    }

    /// Stores content that is in memory. Blocking.
    pub(crate) fn whole(
        &self,
        content: &[u8],
        digest: &Digest,
        blobs: &Blobs,
    ) -> Result<(), BlobError> {
        // One that is damaged is written over.
        if blobs.refresh(digest)?.is_some() && blobs.read(digest, content.len() as u64).is_ok() {
            return Ok(());
        }
        self.room.is_left()?;
        let path = self.dir.join(fresh_name());
        let outcome = File::create_new(&path)
            .and_then(|mut file| {
                file.write_all(content)?;
                // Before it has the blob's name: after a power cut that name could stand for other bytes.
                file.sync_all()
            })
            .and_then(|()| blobs.admit(&path, digest));
        if outcome.is_err() {
            let _ = remove(&path);
        }
        Ok(outcome?)
    }

    /// Every upload, and since when nothing came for it.
    pub(crate) fn list(&self) -> io::Result<Vec<(String, Duration)>> {
        let open = self.open.lock();
        let mut all: Vec<(String, Duration)> = open
            .iter()
            .map(|(name, slot)| {
                // One that is in hand is not idle.
                let idle = slot.try_lock().map_or(Duration::ZERO, |state| state.touched.elapsed());
                (name.clone(), idle)
            })
            .collect();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if open.contains_key(&name) {
                continue;
            }
            // A file that nobody knows: its removal failed once, or it is a manifest on its way.
            let written = entry.metadata().and_then(|meta| meta.modified());
            let idle = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            all.push((name, idle.unwrap_or_default()));
        }
        Ok(all)
    }

    /// Removes an upload for which nothing has come for so long; whether it did.
    pub(crate) fn collect(&self, name: &str, idle: Duration) -> io::Result<bool> {
        let mut open = self.open.lock();
        if let Some(slot) = open.get(name) {
            if slot.try_lock().map_or(true, |state| state.touched.elapsed() < idle) {
                return Ok(false);
            }
            open.remove(name);
        }
        remove(&self.dir.join(name))
    }
}

/// The upload for which nothing has come for the longest time, if that is long enough.
fn forgotten(open: &BTreeMap<String, Slot>, after: Duration) -> Option<String> {
    let idle = open.iter().filter_map(|(name, slot)| {
        // One that is in hand is not idle.
        let idle = slot.try_lock().ok()?.touched.elapsed();
        (after <= idle).then_some((idle, name))
    });
    idle.max().map(|(_, name)| name.clone())
}

fn fresh_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

impl Writing {
    /// Bytes that are on the disk.
    pub(crate) fn size(&self) -> u64 {
        self.state.size
    }

    fn append(&mut self, pieces: &[Bytes]) -> Result<(), BlobError> {
        let more: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if BLOB_BYTES_MAX < self.state.size + more {
            return Err(BlobError::TooLarge);
        }
        let mut file = self.file()?;
        for piece in pieces {
            file.write_all(piece)?;
            self.state.hash.update(piece);
            self.state.size += piece.len() as u64;
        }
        self.state.touched = Instant::now();
        self.file = Some(file);
        Ok(())
    }

    /// The file, at the place where the next byte goes.
    fn file(&mut self) -> Result<File, BlobError> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        match OpenOptions::new().write(true).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(BlobError::NoUpload),
            opened => {
                let mut file = opened?;
                file.seek(SeekFrom::Start(self.state.size))?;
                Ok(file)
            }
        }
    }

    fn settle(&mut self, named: &Digest, blobs: &Blobs) -> Result<(), BlobError> {
        let found = Digest(self.state.hash.clone().finalize().into());
        if found != *named {
            return Err(BlobError::Digest { named: *named, found });
        }
        // Before it has the blob's name: after a power cut that name could stand for other bytes.
        self.file()?.sync_all()?;
        Ok(blobs.admit(&self.path, named)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Uploads, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let (uploads, blobs) =
            (Uploads::open(dir.path()).unwrap(), Blobs::open(dir.path()).unwrap());
        (dir, uploads, blobs)
    }

    fn left(uploads: &Uploads) -> usize {
        std::fs::read_dir(&uploads.dir).unwrap().count()
    }

    #[test]
    fn one_request_at_a_time_writes_to_an_upload() {
        let (_dir, uploads, blobs) = open();
        let name = uploads.begin().unwrap();
        let first = uploads.claim(&name).unwrap();
        assert!(matches!(uploads.claim(&name), Err(BlobError::Busy)));
        let first = uploads.append(first, &[Bytes::from_static(b"hello ")]).unwrap();
        drop(first);
        let second = uploads.claim(&name).unwrap();
        assert_eq!(second.size(), 6);
        let second = uploads.append(second, &[Bytes::from_static(b"world")]).unwrap();
        let digest = Digest::of(b"hello world");
        uploads.finish(second, &digest, &blobs).unwrap();
        assert_eq!(blobs.read(&digest, 100).unwrap(), b"hello world");
        assert_eq!(left(&uploads), 0);
        assert!(matches!(uploads.claim(&name), Err(BlobError::NoUpload)));
    }

    #[test]
    fn a_full_disk_ends_the_upload_and_leaves_nothing() {
        let (_dir, uploads, _blobs) = open();
        let name = uploads.begin().unwrap();
        std::fs::remove_file(uploads.dir.join(&name)).unwrap();
        std::os::unix::fs::symlink("/dev/full", uploads.dir.join(&name)).unwrap();
        let writing = uploads.claim(&name).unwrap();
        let outcome = uploads.append(writing, &[Bytes::from_static(b"x")]);
        let Err(BlobError::Disk(error)) = outcome else { panic!("a full disk took it") };
        assert!(crate::durable::is_full(&error));
        assert_eq!(left(&uploads), 0);
        assert!(matches!(uploads.claim(&name), Err(BlobError::NoUpload)));
    }

    #[test]
    fn an_upload_in_hand_is_not_collected_and_a_forgotten_one_is() {
        let (_dir, uploads, _blobs) = open();
        let name = uploads.begin().unwrap();
        let writing = uploads.claim(&name).unwrap();
        assert!(!uploads.collect(&name, Duration::ZERO).unwrap());
        drop(writing);
        assert!(!uploads.collect(&name, Duration::from_secs(60)).unwrap());
        assert!(uploads.collect(&name, Duration::ZERO).unwrap());
        assert_eq!(left(&uploads), 0);
    }

    #[test]
    fn forgotten_uploads_give_way_and_others_are_bounded() {
        let (_dir, uploads, _blobs) = open();
        let names: Vec<String> = (0..MAX_UPLOADS).map(|_| uploads.begin().unwrap()).collect();
        assert!(matches!(uploads.begin(), Err(BlobError::TooManyUploads(_))));
        assert!(uploads.cancel(&names[0]));
        uploads.begin().unwrap();
        for (name, more) in [(&names[5], 1), (&names[7], 60), (&names[9], 3600)] {
            let mut writing = uploads.claim(name).unwrap();
            writing.state.touched = Instant::now().checked_sub(UPLOAD_FORGOTTEN_AFTER).unwrap()
                - Duration::from_secs(more);
        }
        let held = uploads.claim(&names[9]).unwrap();
        uploads.begin().unwrap();
        assert!(
            matches!(uploads.claim(&names[7]), Err(BlobError::NoUpload)),
            "the oldest gives way"
        );
        drop(held);
        uploads.claim(&names[9]).unwrap();
        assert_eq!(left(&uploads), MAX_UPLOADS);
    }

    #[test]
    fn uploads_leave_room_on_the_disk() {
        let (_dir, mut uploads, blobs) = open();
        let name = uploads.begin().unwrap();
        uploads.room.reserve = u64::MAX;
        let writing = uploads.claim(&name).unwrap();
        for refused in [
            uploads.append(writing, &[Bytes::from_static(b"x")]).map(|_| ()),
            uploads.begin().map(|_| ()),
            uploads.whole(b"manifest", &Digest::of(b"manifest"), &blobs),
        ] {
            let Err(BlobError::Disk(error)) = refused else { panic!("it takes the last of it") };
            assert!(crate::durable::is_full(&error));
        }
        assert_eq!(left(&uploads), 0);
    }
}

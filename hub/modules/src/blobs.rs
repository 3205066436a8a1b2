//! Content by digest under one folder, and uploads that are not finished yet.
//!
//! Guarantees: a blob is there whole, synced and under its true digest, or not at all.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use freewheel_link::digest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// Largest blob in bytes: a Wasm module for a small device is far below.
pub(crate) const MAX_BLOB: u64 = 256 << 20;

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("a blob may have {MAX_BLOB} bytes at most")]
    TooLarge,
    #[error("the content's digest is {found}, not {named}")]
    Digest { named: Digest, found: Digest },
    #[error("there is no such upload")]
    NoUpload,
    #[error("the registry's disk failed")]
    Disk(#[from] io::Error),
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Blobs {
    blobs: PathBuf,
    uploads: PathBuf,
}

impl Blobs {
    /// Opens the folder and drops uploads of an earlier run.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let (blobs, uploads) = (dir.join("blobs/sha256"), dir.join("uploads"));
        std::fs::create_dir_all(&blobs)?;
        match std::fs::remove_dir_all(&uploads) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&uploads)?;
        Ok(Self { blobs, uploads })
    }

    /// Where a blob is or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Its size, when it is there.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.path(digest)).ok().map(|meta| meta.len())
    }

    /// A small blob whole.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(digest))
    }

    /// Starts an upload and gives it a name.
    pub(crate) async fn begin(&self) -> Result<String, BlobError> {
        let name = format!("{:032x}", fastrand::u128(..));
        tokio::fs::File::create_new(self.uploads.join(&name)).await?;
        Ok(name)
    }

    /// Adds to an upload; answers with its size so far.
    pub(crate) async fn append(&self, upload: &str, chunk: &Bytes) -> Result<u64, BlobError> {
        let mut file =
            match tokio::fs::OpenOptions::new().append(true).open(self.upload(upload)?).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(BlobError::NoUpload);
                }
                other => other?,
            };
        let size = file.metadata().await?.len();
        if MAX_BLOB < size + chunk.len() as u64 {
            self.cancel(upload).await;
            return Err(BlobError::TooLarge);
        }
        file.write_all(chunk).await?;
        file.flush().await?;
        Ok(size + chunk.len() as u64)
    }

    /// Ends an upload: its content must have this digest.
    pub(crate) async fn finish(&self, upload: &str, named: Digest) -> Result<(), BlobError> {
        let from = self.upload(upload)?;
        let to = self.path(&named);
        let outcome = tokio::task::spawn_blocking(move || settle(&from, &to, named)).await;
        match outcome.map_err(|_| BlobError::Disk(io::Error::other("the disk task died")))? {
            Err(BlobError::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(BlobError::NoUpload)
            }
            Err(error) => {
                self.cancel(upload).await;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Drops an upload.
    pub(crate) async fn cancel(&self, upload: &str) {
        if let Ok(path) = self.upload(upload) {
            // Gone already is as good.
            let _ = tokio::fs::remove_file(path).await;
        }
    }

    /// Stores bytes that are in memory.
    pub(crate) async fn put(&self, content: &Bytes) -> Result<Digest, BlobError> {
        let digest = Digest::of(content);
        if self.size(&digest).is_none() {
            let upload = self.begin().await?;
            self.append(&upload, content).await?;
            self.finish(&upload, digest).await?;
        }
        Ok(digest)
    }

    /// An upload's file; a name that we did not give is refused before it meets a path.
    fn upload(&self, name: &str) -> Result<PathBuf, BlobError> {
        let ours = name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if ours { Ok(self.uploads.join(name)) } else { Err(BlobError::NoUpload) }
    }
}

fn settle(from: &Path, to: &Path, named: Digest) -> Result<(), BlobError> {
    let mut file = std::fs::File::open(from)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher)?;
    let found = Digest(hasher.finalize().into());
    if found != named {
        return Err(BlobError::Digest { named, found });
    }
    file.sync_all()?;
    std::fs::rename(from, to)?;
    sync_parent(to)?;
    Ok(())
}

/// A rename survives a power cut once its folder is synced.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Replaces a file as a whole, durably.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, content)?;
    std::fs::File::open(&fresh)?.sync_all()?;
    std::fs::rename(&fresh, path)?;
    sync_parent(path)
}

//! Compressed bytes on their way in: to a file, under an envelope that was checked before the first of them.
//!
//! Guarantees:
//! - what begins anew begins with a file that nobody else writes to
//!   (`what_begins_anew_is_not_touched_by_a_late_write_to_what_was_there`);
//! - a place among the transfers is taken when the hub has begun to send, and given back when that was cut
//!   (`a_few_modules_come_at_a_time`, `a_transfer_that_was_cut_leaves_its_place`).

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_link::artifact::{Envelope, PublicKey};
use freewheel_link::digest::Digest;
use freewheel_link::message::ModuleHeaderV1;
use freewheel_link::profile::Profile;
use freewheel_spoke_agent::uplink::Sink;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::files::Scratch;
use crate::{ARTIFACT_BYTES_MAX, ModuleError};

/// zstd grows incompressible data by less than this.
const ZSTD_SLACK_BYTES: u64 = 64 << 10;

/// The sink of one transfer.
pub(crate) struct Download<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) root: &'a PublicKey,
    pub(crate) component: Digest,
    pub(crate) profile: Profile,
    /// Unix time, where the device's clock can be trusted.
    pub(crate) now: Option<u64>,
    pub(crate) file: Option<File>,
    pub(crate) written: u64,
    pub(crate) envelope: Option<Envelope>,
    /// Places of transfers whose bytes come.
    pub(crate) transfers: Arc<Semaphore>,
    /// This one's, since its header came.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    /// Why the sink refused, as io errors carry no types.
    pub(crate) refused: Option<ModuleError>,
}

impl Download<'_> {
    fn check(&self, header: &ModuleHeaderV1) -> Result<(), ModuleError> {
        let envelope = &header.envelope;
        envelope.verify(self.root, &self.component, self.profile, self.now)?;
        if ARTIFACT_BYTES_MAX < envelope.size {
            return Err(ModuleError::TooLarge(envelope.size));
        }
        if envelope.size + ZSTD_SLACK_BYTES < header.compressed {
            return Err(ModuleError::Packed(format!(
                "{} compressed bytes for an artifact of {}",
                header.compressed, envelope.size
            )));
        }
        Ok(())
    }

    async fn open(&mut self, offset: u64) -> io::Result<()> {
        let go_on = 0 < offset && offset == self.written;
        if !go_on {
            // A file of its own: the last write of a transfer that was given up may still be on its way to the other.
            match tokio::fs::remove_file(&self.scratch.part).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if !go_on && let Some(envelope) = &self.envelope {
            let head = postcard::to_stdvec(envelope).map_err(io::Error::other)?;
            tokio::fs::write(&self.scratch.head, head).await?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(!go_on)
            .open(&self.scratch.part)
            .await?;
        file.seek(io::SeekFrom::Start(offset)).await?;
        self.written = offset;
        self.file = Some(file);
        Ok(())
    }
}

#[async_trait]
impl Sink for Download<'_> {
    fn have(&self) -> Option<(u64, Digest)> {
        let envelope = self.envelope.as_ref()?;
        (0 < self.written).then_some((self.written, envelope.artifact))
    }

    async fn begin(&mut self, header: &ModuleHeaderV1) -> io::Result<()> {
        if let Err(refused) = self.check(header) {
            let text = refused.to_string();
            self.refused = Some(refused);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if header.offset != 0 && header.offset != self.written {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the transfer has a gap"));
        }
        let other = |held: &Envelope| held.artifact != header.envelope.artifact;
        if header.offset != 0 && self.envelope.as_ref().is_some_and(other) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the rest is of another artifact",
            ));
        }
        if self.permit.is_none() {
            // Closed never: the store keeps it.
            self.permit = self.transfers.clone().acquire_owned().await.ok();
        }
        self.envelope = Some(header.envelope.clone());
        self.open(header.offset).await
    }

    fn cut(&mut self) {
        self.permit = None;
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("bytes before the header"));
        };
        file.write_all(bytes).await?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

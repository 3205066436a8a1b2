//! Room on the disk that the registry leaves alone: the hub's objects are on it too.
//!
//! Guarantees:
//! - who writes through [`ReserveWriter`] stops before the reserve is used up, however much there was when it began
//!   (`a_writer_stops_before_the_reserve`).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes that are not the registry's.
const RESERVE_BYTES: u64 = 256 << 20;
/// Bytes that are written between two looks at the disk.
const CHECK_EVERY_BYTES: usize = 4 << 20;

/// The disk under a folder.
#[derive(Clone, Debug)]
pub(crate) struct DiskReserve {
    dir: PathBuf,
    pub(crate) reserve: u64,
}

impl DiskReserve {
    /// Of the disk that this folder is on.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), reserve: RESERVE_BYTES }
    }

    /// Fails, as a full disk does, when no more is left than the reserve.
    pub(crate) fn is_left(&self) -> io::Result<()> {
        let found = rustix::fs::statvfs(&self.dir)?;
        if found.f_bavail.saturating_mul(found.f_frsize) < self.reserve {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// A writer that leaves the reserve alone.
pub(crate) struct ReserveWriter<W> {
    to: W,
    room: DiskReserve,
    /// Bytes until the next look.
    rest: usize,
}

impl<W: Write> ReserveWriter<W> {
    pub(crate) fn new(to: W, room: DiskReserve) -> Self {
        Self { to, room, rest: 0 }
    }

    pub(crate) fn into_inner(self) -> W {
        self.to
    }
}

impl<W: Write> Write for ReserveWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.rest == 0 {
            self.room.is_left()?;
            self.rest = CHECK_EVERY_BYTES;
        }
        let written = self.to.write(&bytes[..bytes.len().min(self.rest)])?;
        self.rest -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_stops_before_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let room = DiskReserve { dir: dir.path().to_path_buf(), reserve: 0 };
        let mut writer = ReserveWriter::new(Vec::new(), room);
        let piece = vec![7; CHECK_EVERY_BYTES - 1];
        writer.write_all(&piece).unwrap();
        // Others have filled the disk meanwhile.
        writer.room.reserve = u64::MAX;
        let full = writer.write_all(&piece).unwrap_err();
        assert!(crate::durable::is_full(&full), "{full}");
        assert_eq!(writer.into_inner().len(), CHECK_EVERY_BYTES, "no more than between two looks");
    }
}

//! Room on the disk that the registry leaves alone: the hub's objects are on it too.
//!
//! Guarantees:
//! - who writes through [`Careful`] stops before the reserve is used up, however much there was when it began
//!   (`a_writer_stops_before_the_reserve`).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes that are not the registry's.
const RESERVE: u64 = 256 << 20;
/// Bytes that are written between two looks at the disk.
const LOOK_EVERY: usize = 4 << 20;

/// The disk under a folder.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    dir: PathBuf,
    pub(crate) reserve: u64,
}

impl Room {
    /// Of the disk that this folder is on.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), reserve: RESERVE }
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
pub(crate) struct Careful<W> {
    to: W,
    room: Room,
    /// Bytes until the next look.
    rest: usize,
}

impl<W: Write> Careful<W> {
    pub(crate) fn new(to: W, room: Room) -> Self {
        Self { to, room, rest: 0 }
    }

    pub(crate) fn into_inner(self) -> W {
        self.to
    }
}

impl<W: Write> Write for Careful<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.rest == 0 {
            self.room.is_left()?;
            self.rest = LOOK_EVERY;
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
        let room = Room { dir: dir.path().to_path_buf(), reserve: 0 };
        let mut writer = Careful::new(Vec::new(), room);
        let piece = vec![7; LOOK_EVERY - 1];
        writer.write_all(&piece).unwrap();
        // Others have filled the disk meanwhile.
        writer.room.reserve = u64::MAX;
        let full = writer.write_all(&piece).unwrap_err();
        assert!(crate::durable::is_full(&full), "{full}");
        assert_eq!(writer.into_inner().len(), LOOK_EVERY, "no more than between two looks");
    }
}

//! Tells how far the reading of a large store has come: a hub that reads one answers nobody.
//!
//! Guarantees:
//! - reading that takes long is told every [`PROGRESS_EVERY`] and never more often
//!   (`a_long_read_is_told_now_and_then`).

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::StorageBackend;

/// How often it is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// A disk whose reads are counted.
#[derive(Debug)]
pub(super) struct CountingDisk<B> {
    below: B,
    file: String,
    bytes: u64,
    began: Instant,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    bytes: u64,
    told: Duration,
}

impl Read {
    /// Counts; whether it is time to tell.
    fn count(&mut self, bytes: usize, passed: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let due = PROGRESS_EVERY <= passed.saturating_sub(self.told);
        if due {
            self.told = passed;
        }
        due
    }
}

impl<B: StorageBackend> CountingDisk<B> {
    /// This disk of so many bytes; `file` is what to call it.
    pub(super) fn over(below: B, file: &str, bytes: u64) -> Self {
        Self { below, file: file.to_owned(), bytes, began: Instant::now(), read: Mutex::default() }
    }

    fn count(&self, bytes: usize) {
        let (passed, mut read) = (self.began.elapsed(), self.read.lock());
        if read.count(bytes, passed) {
            let (file, bytes, read, seconds) =
                (&self.file, self.bytes, read.bytes, passed.as_secs());
            tracing::info!(
                file,
                bytes,
                read,
                seconds,
                "still reading the store, each page of it several times"
            );
        }
    }
}

impl<B: StorageBackend> StorageBackend for CountingDisk<B> {
    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.count(out.len());
        self.below.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.below.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.below.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.below.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_read_is_told_now_and_then() {
        let mut read = Read::default();
        let told: Vec<u64> = (0..160)
            .filter(|tenth| read.count(1 << 20, Duration::from_millis(100 * tenth)))
            .collect();
        assert_eq!(told, [50, 100, 150]);
        assert_eq!(read.bytes, 160 << 20);
        // Whoever was kept from reading for long tells it once.
        assert!(read.count(1, Duration::from_secs(60)));
        assert!(!read.count(1, Duration::from_secs(61)));
    }
}

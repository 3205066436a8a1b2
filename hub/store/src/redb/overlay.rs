//! A disk to try things on: reads come from the one below, writes stay in memory.
//!
//! Guarantees:
//! - nothing that is done on it changes what is below
//!   (`it_reads_as_a_disk_that_was_written_to_and_changes_nothing_below`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

use parking_lot::Mutex;
use redb::StorageBackend;

/// Writes are kept in pieces of this size, at its multiples.
const PAGE_BYTES: u64 = 4096;

#[derive(Debug)]
pub(super) struct OverlayDisk<B> {
    below: B,
    above: Mutex<OverlayFile>,
}

#[derive(Debug)]
struct OverlayFile {
    length: u64,
    /// How much of what is below still shows through: what was cut off once reads as zeros.
    shows: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl<B: StorageBackend> OverlayDisk<B> {
    pub(super) fn over(below: B) -> io::Result<Self> {
        let length = below.len()?;
        let above = Mutex::new(OverlayFile { length, shows: length, pieces: BTreeMap::new() });
        Ok(Self { below, above })
    }

    /// One piece as it is below.
    fn piece(&self, number: u64, shows: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; to_usize(PAGE_BYTES)];
        let from = number * PAGE_BYTES;
        let there = shows.saturating_sub(from).min(PAGE_BYTES);
        self.read_below(from, &mut piece[..to_usize(there)])?;
        Ok(piece)
    }

    /// Beyond the end there is nothing to read, and not every disk takes nothing for an answer.
    fn read_below(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if out.is_empty() { Ok(()) } else { self.below.read(offset, out) }
    }
}

impl<B: StorageBackend> StorageBackend for OverlayDisk<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above.lock();
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= above.length);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let below = above.shows.min(end).saturating_sub(offset);
        let (there, zeros) = out.split_at_mut(to_usize(below));
        self.read_below(offset, there)?;
        zeros.fill(0);
        for (number, piece) in above.pieces.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let (from, upto) =
                ((number * PAGE_BYTES).max(offset), (number * PAGE_BYTES + PAGE_BYTES).min(end));
            out[to_usize(from - offset)..to_usize(upto - offset)]
                .copy_from_slice(&piece[to_usize(from % PAGE_BYTES)..][..to_usize(upto - from)]);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut above = self.above.lock();
        if length < above.length {
            above.pieces.split_off(&length.div_ceil(PAGE_BYTES));
            if let Some(piece) = above.pieces.get_mut(&(length / PAGE_BYTES)) {
                piece[to_usize(length % PAGE_BYTES)..].fill(0);
            }
        }
        above.shows = above.shows.min(length);
        above.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above.lock();
        let end = offset + data.len() as u64;
        let shows = above.shows;
        for number in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            let piece = match above.pieces.entry(number) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(none) => none.insert(self.piece(number, shows)?),
            };
            let (from, upto) =
                ((number * PAGE_BYTES).max(offset), (number * PAGE_BYTES + PAGE_BYTES).min(end));
            piece[to_usize(from % PAGE_BYTES)..][..to_usize(upto - from)]
                .copy_from_slice(&data[to_usize(from - offset)..to_usize(upto - offset)]);
        }
        above.length = above.length.max(end);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }
}

/// Of a number that is no larger than a slice.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// Does the same to a trial and to a plain disk: they must read the same, and below nothing changes.
    #[test]
    fn it_reads_as_a_disk_that_was_written_to_and_changes_nothing_below() {
        let mut random = fastrand::Rng::with_seed(4);
        let below = InMemoryBackend::new();
        let first: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        below.set_len(10_000).unwrap();
        below.write(0, &first).unwrap();
        let plain = InMemoryBackend::new();
        plain.set_len(10_000).unwrap();
        plain.write(0, &first).unwrap();
        let trial = OverlayDisk::over(below).unwrap();
        for _ in 0..500 {
            let length = plain.len().unwrap();
            if random.u8(..8) == 0 {
                let length = random.u64(1..30_000);
                trial.set_len(length).unwrap();
                plain.set_len(length).unwrap();
            } else {
                let from = random.u64(..length);
                let data: Vec<u8> =
                    (0..random.u64(..=(length - from).min(9_000))).map(|_| random.u8(..)).collect();
                trial.write(from, &data).unwrap();
                plain.write(from, &data).unwrap();
            }
            let length = plain.len().unwrap();
            assert_eq!(trial.len().unwrap(), length);
            let from = random.u64(..length);
            let size = to_usize(random.u64(..=length - from));
            let (mut left, mut right) = (vec![1; size], vec![2; size]);
            trial.read(from, &mut left).unwrap();
            plain.read(from, &mut right).unwrap();
            assert!(left == right, "{from} {size}");
        }
        let mut now = vec![0; 10_000];
        trial.below.read(0, &mut now).unwrap();
        assert!(now == first);
        assert!(trial.read(trial.len().unwrap(), &mut [0]).is_err());
    }
}

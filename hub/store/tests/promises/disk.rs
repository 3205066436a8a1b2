//! A disk that keeps what was not synced apart: it may lose power, fail to sync, be full, or refuse.

#![expect(clippy::cast_possible_truncation, reason = "a disk of a few megabytes")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freewheel_hub_store::redb::{Disk, OpenError, Reads};
use parking_lot::Mutex;

/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Debug)]
pub(crate) enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
pub(crate) struct Platter {
    /// What a reader sees.
    pub(crate) now: Vec<u8>,
    /// What is there after a power cut, whatever happens.
    pub(crate) durable: Vec<u8>,
    pub(crate) unsynced: Vec<Change>,
    /// What the witness says, after what it said when it was synced last.
    pub(crate) witness: Vec<u64>,
    /// Changes until the power goes.
    pub(crate) changes_left: Option<usize>,
    pub(crate) dead: bool,
    /// Largest length, when the disk is full beyond it.
    pub(crate) space: Option<u64>,
    /// How the next sync fails, if it does.
    pub(crate) sync: Option<Failing>,
    /// Writes are refused, as on a file system that finds out late that it is full.
    pub(crate) refuses_writes: bool,
    /// And only those with these bytes in them.
    pub(crate) refuses: Option<Vec<u8>>,
    /// How it was opened, one after the other.
    pub(crate) opened: Vec<Reads>,
    /// Bytes that were read.
    pub(crate) read: usize,
    /// Its time, which passes when a test says so.
    pub(crate) began: Option<Instant>,
    pub(crate) passed: Duration,
    /// The witness cannot be written.
    pub(crate) refuses_witness: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    /// It has done its work and the answer is lost.
    AfterAll,
    /// What was not synced is gone, also for readers.
    ForGood,
}

impl Platter {
    fn spend(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        match &mut self.changes_left {
            Some(0) => {
                self.dead = true;
                Err(io::Error::other("the power went off"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Some of what was not synced is there, some is not, some in part.
    pub(crate) fn cut_power(&mut self, random: &mut fastrand::Rng) {
        let mut image = std::mem::take(&mut self.durable);
        for change in self.unsynced.drain(..) {
            match change {
                Change::Length(length) if random.bool() => image.resize(length as usize, 0),
                Change::Length(_) => {}
                Change::Write(offset, data) => {
                    let fate = random.u8(..4);
                    for (index, sector) in data.chunks(SECTOR).enumerate() {
                        let kept = fate == 0 || (fate == 1 && random.bool());
                        if kept {
                            apply(&mut image, offset as usize + index * SECTOR, sector);
                        }
                    }
                }
            }
        }
        let mut witness = std::mem::take(&mut self.witness);
        witness.truncate(random.usize(..=witness.len()));
        *self = Self { now: image.clone(), durable: image, witness, ..Self::default() };
    }
}

fn apply(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated(pub(crate) Arc<Mutex<Platter>>);

impl redb::StorageBackend for Simulated {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.read += out.len();
        let from = offset as usize;
        let there = platter.now.get(from..from + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.spend()?;
        if platter.space.is_some_and(|space| space < length) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.now.resize(length as usize, 0);
        platter.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.spend()?;
        platter.unsynced.clear();
        match platter.sync.take() {
            None => platter.durable = platter.now.clone(),
            Some(Failing::AfterAll) => {
                platter.durable = platter.now.clone();
                return Err(io::Error::other("the answer was lost"));
            }
            Some(Failing::ForGood) => {
                platter.now = platter.durable.clone();
                return Err(io::Error::other("the disk failed"));
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.spend()?;
        if platter.refuses_writes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let refused = |text: &Vec<u8>| data.windows(text.len()).any(|part| part == &**text);
        if platter.refuses.as_ref().is_some_and(refused) {
            return Err(io::Error::other("a bad sector"));
        }
        apply(&mut platter.now, offset as usize, data);
        platter.unsynced.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

impl Disk for Simulated {
    type Backend = Self;

    fn name(&self) -> String {
        "the simulated disk".to_owned()
    }

    fn open(&mut self, reads: Reads) -> io::Result<Option<Self>> {
        self.0.lock().opened.push(reads);
        Ok((!self.0.lock().now.is_empty()).then(|| self.clone()))
    }

    fn now(&self) -> Instant {
        let mut platter = self.0.lock();
        *platter.began.get_or_insert_with(Instant::now) + platter.passed
    }

    /// As under a name of its own that is given to it at the end.
    fn make(
        &mut self,
        fill: &mut dyn FnMut(Self) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let fresh = Self::default();
        fill(fresh.clone())?;
        let image = fresh.0.lock().now.clone();
        let mut platter = self.0.lock();
        (platter.now, platter.durable) = (image.clone(), image);
        Ok(())
    }

    fn acknowledged(&mut self) -> io::Result<Option<u64>> {
        Ok(self.0.lock().witness.last().copied())
    }

    fn acknowledge(&mut self, revision: u64, kept: bool) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.spend()?;
        if platter.refuses_witness {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.witness.push(revision);
        if kept {
            platter.witness = vec![revision];
        }
        Ok(())
    }
}

//! What survives `kill -9` and a power cut: the plan, each pod's state, and how often the agent has started.
//!
//! ```text
//! append… append… sync      a batch: one fsync for everything in it
//! replace                   compaction, and the way out after a failed write
//! ```
//!
//! Guarantees: after [`Ledger::flush`] returned `Ok`, everything recorded before is there again at the next
//! [`Ledger::open`], whatever happens to the power; a plan part is there whole or not at all.
//! Records keep their bytes, so that a newer hub's record survives an older agent. The file grows to at
//! most some multiple of what it holds, and an SD card sees appends, not rewrites.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_link::digest::SetDigest;
use freewheel_link::generation::Generation;
use freewheel_link::plan::RecordKey;
use freewheel_link::record_set::RecordSet;
use tracing::warn;

use crate::ports::{Disk, PlanPart};

mod entry;
mod frame;
#[cfg(test)]
mod tests;

pub use entry::{ContainerStateV1, DoingV1, PodStateV1};
use entry::{Entry, PlanEntryV1};

/// Below this size a rewrite is not worth the flash.
const COMPACT_FROM: usize = 256 << 10;

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk does not answer.
    #[error("cannot read the ledger")]
    Read(#[source] std::io::Error),
    /// The disk refuses.
    #[error("cannot write the ledger")]
    Write(#[source] std::io::Error),
    /// A newer agent wrote it; reading it as an older one would forget things.
    #[error("the ledger has version {found}, this agent reads up to {}", frame::VERSION)]
    TooNew {
        /// Its version.
        found: u32,
    },
    /// An entry could not be encoded.
    #[error("cannot encode a ledger entry")]
    Encode(#[source] postcard::Error),
}

/// The ledger, open: what it holds in memory, and the file behind it.
pub struct Ledger {
    disk: Arc<dyn Disk>,
    epoch: u64,
    generation: Generation,
    records: RecordSet,
    pods: BTreeMap<String, PodStateV1>,
    /// Recorded but not yet handed to the disk.
    waiting: Vec<u8>,
    /// Handed to the disk but not yet synced.
    unsynced: bool,
    /// The file's end is unknown after a failed write: only a rewrite helps.
    broken: bool,
    /// Size of the file, and its size after the last rewrite.
    size: usize,
    compacted: usize,
}

impl Ledger {
    /// Reads the ledger and counts this start. The new epoch is durable when this returns.
    ///
    /// # Errors
    /// When the disk fails, or a newer agent wrote the file.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, LedgerError> {
        let file = disk.read().map_err(LedgerError::Read)?;
        let mut ledger = Self {
            disk,
            epoch: 0,
            generation: Generation::NONE,
            records: RecordSet::default(),
            pods: BTreeMap::new(),
            waiting: Vec::new(),
            unsynced: false,
            broken: true,
            size: 0,
            compacted: 0,
        };
        match frame::open(&file) {
            frame::Opening::Empty => {}
            frame::Opening::Version(frame::VERSION, entries) => {
                ledger.broken = !ledger.replay(entries);
                ledger.size = file.len();
            }
            frame::Opening::Version(found, _) => return Err(LedgerError::TooNew { found }),
            // Rather the hub's next snapshot than a device that never starts again.
            frame::Opening::Foreign => warn!("the ledger is unreadable, starting without one"),
        }
        ledger.epoch += 1;
        ledger.record(&Entry::Epoch(ledger.epoch))?;
        ledger.flush()?;
        Ok(ledger)
    }

    /// Takes entries over; whether the file may be appended to.
    fn replay(&mut self, mut entries: &[u8]) -> bool {
        let mut readable = true;
        while let Some(payload) = frame::next(&mut entries) {
            match postcard::from_bytes(payload) {
                Ok(entry) => self.apply(entry),
                Err(_) => readable = false,
            }
        }
        if !readable {
            // Something is missing that a newer agent knew: what is held is no longer that generation.
            warn!("the ledger has entries of a newer agent; the hub will send its plan again");
            self.generation = Generation::NONE;
        }
        readable && entries.is_empty()
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Epoch(epoch) => self.epoch = epoch,
            Entry::Plan(plan) => {
                if plan.snapshot {
                    self.records = RecordSet::default();
                }
                for record in plan.put {
                    self.records.put(record);
                }
                for key in &plan.remove {
                    self.records.remove(key);
                }
                self.generation = plan.to;
            }
            Entry::Pod(state) => {
                self.pods.insert(state.uid.clone(), state);
            }
            Entry::Forget(uid) => {
                self.pods.remove(&uid);
            }
        }
    }

    /// How often the agent has started on this ledger; 1 is the first time.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Generation of the records.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Fingerprint of the records.
    #[must_use]
    pub const fn digest(&self) -> SetDigest {
        self.records.digest()
    }

    /// The records of the plan.
    #[must_use]
    pub const fn records(&self) -> &RecordSet {
        &self.records
    }

    /// The pods' states, by UID.
    #[must_use]
    pub const fn pods(&self) -> &BTreeMap<String, PodStateV1> {
        &self.pods
    }

    /// Whether [`Ledger::flush`] has something to do.
    #[must_use]
    pub const fn dirty(&self) -> bool {
        self.unsynced || self.broken || !self.waiting.is_empty()
    }

    /// Takes a plan part over and answers with the keys it touched, or `None` when it does not build on
    /// what is held. Durable after the next [`Ledger::flush`].
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn take_plan(&mut self, part: PlanPart) -> Result<Option<Vec<RecordKey>>, LedgerError> {
        if !part.snapshot && part.base != self.generation {
            return Ok(None);
        }
        let mut touched: Vec<RecordKey> = Vec::new();
        if part.snapshot {
            touched.extend(self.records.iter().map(|record| record.key.clone()));
        }
        touched.extend(part.put.iter().map(|record| record.key.clone()));
        touched.extend(part.remove.iter().cloned());
        touched.sort();
        touched.dedup();
        let PlanPart { to, snapshot, put, remove, .. } = part;
        let entry = Entry::Plan(PlanEntryV1 { to, snapshot, put, remove });
        self.record(&entry)?;
        self.apply(entry);
        Ok(Some(touched))
    }

    /// Remembers a pod's state; the same state costs nothing.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn keep_pod(&mut self, state: PodStateV1) -> Result<(), LedgerError> {
        if self.pods.get(&state.uid) == Some(&state) {
            return Ok(());
        }
        let entry = Entry::Pod(state);
        self.record(&entry)?;
        self.apply(entry);
        Ok(())
    }

    /// Forgets a pod.
    ///
    /// # Errors
    /// When the entry cannot be encoded.
    pub fn forget_pod(&mut self, uid: &str) -> Result<(), LedgerError> {
        if self.pods.remove(uid).is_some() {
            self.record(&Entry::Forget(uid.to_owned()))?;
        }
        Ok(())
    }

    fn record(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let payload = postcard::to_stdvec(entry).map_err(LedgerError::Encode)?;
        frame::push(&mut self.waiting, &payload);
        Ok(())
    }

    /// Hands over what was recorded, without waiting for the disk: it outlives the agent, not yet a power cut.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost: the next call writes the whole ledger anew.
    pub fn write(&mut self) -> Result<(), LedgerError> {
        if self.broken || COMPACT_FROM.max(4 * self.compacted) < self.size + self.waiting.len() {
            return self.rewrite();
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.disk.append(&self.waiting) {
            self.broken = true;
            return Err(LedgerError::Write(error));
        }
        self.size += self.waiting.len();
        self.waiting.clear();
        self.unsynced = true;
        Ok(())
    }

    /// Makes everything recorded so far durable.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost: the next call writes the whole ledger anew.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        self.write()?;
        if self.unsynced {
            if let Err(error) = self.disk.sync() {
                // After a failed fsync the kernel may have dropped the pages: what is on disk is unknown.
                self.broken = true;
                return Err(LedgerError::Write(error));
            }
            self.unsynced = false;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), LedgerError> {
        let file = self.whole()?;
        if let Err(error) = self.disk.replace(&file) {
            self.broken = true;
            return Err(LedgerError::Write(error));
        }
        self.size = file.len();
        self.compacted = file.len();
        self.waiting.clear();
        self.unsynced = false;
        self.broken = false;
        Ok(())
    }

    /// The shortest file that holds all of this.
    fn whole(&self) -> Result<Vec<u8>, LedgerError> {
        let mut file = frame::header();
        let mut push = |entry: &Entry| -> Result<(), LedgerError> {
            let payload = postcard::to_stdvec(entry).map_err(LedgerError::Encode)?;
            frame::push(&mut file, &payload);
            Ok(())
        };
        push(&Entry::Epoch(self.epoch))?;
        push(&Entry::Plan(PlanEntryV1 {
            to: self.generation,
            snapshot: true,
            put: self.records.iter().map(|record| (**record).clone()).collect(),
            remove: Vec::new(),
        }))?;
        for state in self.pods.values() {
            push(&Entry::Pod(state.clone()))?;
        }
        Ok(file)
    }
}

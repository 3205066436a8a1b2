//! What survives `kill -9` and a power cut: the plan, each pod's state, and how often the agent has started.
//!
//! ```text
//! append… append… sync      a batch: one fsync for everything in it
//! replace                   compaction, and the way out after a failed write
//! contents                  what it holds, and how that is read back
//! format                    versions of the file
//! ```
//!
//! Guarantees:
//! - after [`Ledger::flush`] returned `Ok`, everything recorded before is there again at the next [`Ledger::open`],
//!   whatever happens to the power (`power_cuts_lose_only_what_was_not_flushed`), byte by byte as it came
//!   (`what_was_flushed_is_there_again_and_starts_are_counted`);
//! - a plan part is there whole or not at all (`a_part_of_which_the_end_is_missing_never_holds`), whatever it puts
//!   (`a_plan_of_any_size_is_there_again`) and removes (`removals_of_any_number_are_kept_in_pieces`);
//! - a ledger that is damaged, foreign or a newer agent's is put aside and told ([`Ledger::found`]), and the agent
//!   starts with what is left of it (`rot_in_the_middle_is_told_and_is_no_older_plan`,
//!   `a_newer_or_foreign_ledger_is_kept_aside_and_the_device_starts_without_it`,
//!   `an_entry_of_a_newer_agent_asks_for_the_whole_plan`);
//! - the file grows to at most some multiple of what it holds (`the_file_stays_within_a_multiple_of_what_it_holds`);
//! - nothing piles up in memory while the disk refuses (`a_full_disk_loses_nothing_once_there_is_room_again`);
//! - a disk that can be read and not written is enough to start, and says so ([`Ledger::refusal`])
//!   (`what_can_be_read_opens_though_nothing_can_be_written`).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use freewheel_link::digest::SetDigest;
use freewheel_link::generation::Generation;
use freewheel_link::plan::{Record, RecordKey};
use freewheel_link::record_set::RecordSet;
use tracing::warn;

use crate::ports::{Disk, PlanPart};

mod contents;
mod entry;
mod format;
mod frame;
#[cfg(test)]
mod tests;

use contents::Contents;
pub use contents::Found;
use entry::{AgentRunV1, Entry, PlanEntryV1, TryingV1};
pub use entry::{ContainerStateV1, DoingV1, PodSource, PodStateV1, StoppedV1};
use format::{FORMAT, Format};

/// Below this size a rewrite is not worth the flash.
const COMPACT_FROM_BYTES: usize = 256 << 10;
/// Bytes of records and removals in one entry of a plan: a part of any size is written in such pieces.
const PLAN_PIECE_BYTES: usize = 1 << 20;
/// The largest record, with room for what stands around it in an entry.
const RECORD_BYTES_MAX: usize = frame::ENTRY_BYTES_MAX - PLAN_PIECE_BYTES;
/// Boots in a row that cost the agent its life and are bad luck: power cuts. More, and a pod may take the machine down.
const CUTS_TOLERATED: u32 = 5;
/// Pods that are suspected at most.
const MAX_SUSPECTS: usize = 16;

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk does not answer.
    #[error("cannot read the ledger")]
    Read(#[source] std::io::Error),
    /// The disk refuses.
    #[error("cannot write the ledger")]
    Write(#[source] std::io::Error),
    /// An entry would be larger than one that is believed when it is read.
    #[error("an entry of {bytes} bytes does not fit into the ledger")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// An entry could not be encoded.
    #[error("cannot encode a ledger entry")]
    Encode(#[source] postcard::Error),
}

/// The ledger, open: what it holds in memory, and the file behind it.
pub struct Ledger {
    disk: Arc<dyn Disk>,
    format: &'static Format,
    held: Contents,
    found: Found,
    /// Salt of the file's checksums.
    salt: u32,
    /// Recorded but not yet handed to the disk. Empty while the file is broken: a rewrite holds everything.
    waiting: Vec<u8>,
    /// Handed to the disk but not yet synced.
    unsynced: bool,
    /// The file's end is unknown after a failed write: only a rewrite helps.
    broken: bool,
    /// A plan of which nothing behind it says yet that it is durable.
    unmarked: bool,
    /// Why the disk did not take the last write.
    refusal: Option<ErrorKind>,
    /// Size of the file, how much of it is durable for sure, and its size after the last rewrite.
    size: usize,
    durable: usize,
    compacted: usize,
}

impl Ledger {
    /// Reads the ledger and counts this start. The new epoch is durable when this returns, unless the disk takes no
    /// writes ([`Ledger::refusal`]): then the next start may count the same. What cannot be read as it was written is
    /// kept beside it, for people to look at. `boot` tells one boot of the machine from the next.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn open(disk: Arc<dyn Disk>, boot: &str) -> Result<Self, LedgerError> {
        Self::open_as(disk, boot, &FORMAT)
    }

    fn open_as(
        disk: Arc<dyn Disk>,
        boot: &str,
        format: &'static Format,
    ) -> Result<Self, LedgerError> {
        let file = disk.read().map_err(LedgerError::Read)?;
        let (mut held, found) = Contents::read(&file, format);
        if found.is_doubtful()
            && let Err(error) = disk.keep_aside()
        {
            warn!(%error, "the ledger as it was cannot be kept aside");
        }
        held.run = next_run(&held.run, boot);
        // What is no sound file of this version is written anew.
        let salt = frame::salt(&file, format.version).filter(|_| found == Found::Sound);
        let mut ledger = Self {
            format,
            held,
            found,
            salt: salt.unwrap_or_else(|| disk.salt()),
            waiting: Vec::new(),
            // Another process wrote it: what of it is durable is not known.
            unsynced: salt.is_some(),
            broken: salt.is_none(),
            // The life before may have ended between the two.
            unmarked: true,
            refusal: None,
            size: file.len(),
            durable: 0,
            compacted: 0,
            disk,
        };
        ledger.record(&Entry::AgentRun(ledger.held.run.clone()))?;
        match ledger.flush() {
            // What is there can run: the next flush tries again.
            Ok(()) | Err(LedgerError::Write(_)) => Ok(ledger),
            Err(error) => Err(error),
        }
    }

    /// Why the disk took nothing when something was written last.
    #[must_use]
    pub const fn refusal(&self) -> Option<ErrorKind> {
        self.refusal
    }

    /// What a ledger's file looks like, without taking it up.
    #[must_use]
    pub fn inspect(file: &[u8]) -> Found {
        Contents::read(file, &FORMAT).1
    }

    /// What was found when it was opened.
    #[must_use]
    pub const fn found(&self) -> Found {
        self.found
    }

    /// How often the agent has started on this ledger; 1 is the first time. Starts on a disk that takes no writes count
    /// once.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.held.run.epoch
    }

    /// How many boots in a row the machine went under the agent: whoever takes the power away does that, and nothing is
    /// known of a pod that does.
    #[must_use]
    pub const fn cuts(&self) -> u32 {
        self.held.run.cuts
    }

    /// How many starts in a row before this one came to no good end.
    #[must_use]
    pub const fn crashes(&self) -> u32 {
        self.held.run.crashes
    }

    /// UIDs of the pods that such starts brought back last, the latest last.
    #[must_use]
    pub fn suspects(&self) -> &[String] {
        &self.held.run.suspects
    }

    /// Whether there is one more that kills it: a bad end came while all others were tried together.
    #[must_use]
    pub const fn one_more(&self) -> bool {
        self.held.run.more
    }

    /// How often a pod was blamed that was suspected already.
    #[must_use]
    pub const fn blamed_again(&self) -> u32 {
        self.held.run.blamed_again
    }

    /// This pod is brought back now: should this start come to no good end, it is suspected.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn try_pod(&mut self, uid: &str) -> Result<(), LedgerError> {
        let trying = Some(TryingV1::Pod(uid.to_owned()));
        self.set_run(AgentRunV1 { trying, ..self.held.run.clone() })
    }

    /// This pod was well for long enough: it is no suspect any more.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn clear(&mut self, uid: &str) -> Result<(), LedgerError> {
        let mut run = self.held.run.clone();
        run.suspects.retain(|suspect| suspect != uid);
        self.set_run(run)
    }

    /// Pods that are not suspected start now, without a turn: should this start come to no good end, any of them may be
    /// why. While a suspect is tried, it is the suspect.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn try_rest(&mut self) -> Result<(), LedgerError> {
        let run = &self.held.run;
        if matches!(&run.trying, Some(TryingV1::Pod(uid)) if run.suspects.contains(uid)) {
            return Ok(());
        }
        self.set_run(AgentRunV1 { trying: Some(TryingV1::Rest), ..run.clone() })
    }

    /// This start has gone well for long enough: what came before it is forgiven.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn forgive(&mut self) -> Result<(), LedgerError> {
        let AgentRunV1 { epoch, boot, .. } = self.held.run.clone();
        self.set_run(AgentRunV1 { epoch, boot, running: true, ..AgentRunV1::default() })
    }

    /// The agent ends in order.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn rest(&mut self) -> Result<(), LedgerError> {
        self.set_run(AgentRunV1 { running: false, ..self.held.run.clone() })
    }

    fn set_run(&mut self, run: AgentRunV1) -> Result<(), LedgerError> {
        if self.held.run == run {
            return Ok(());
        }
        self.held.run = run.clone();
        self.record(&Entry::AgentRun(run))
    }

    /// Generation of the records.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.held.generation
    }

    /// Fingerprint of the records.
    #[must_use]
    pub const fn digest(&self) -> SetDigest {
        self.held.records.digest()
    }

    /// The records of the plan.
    #[must_use]
    pub const fn records(&self) -> &RecordSet {
        &self.held.records
    }

    /// The pods' states, by UID.
    #[must_use]
    pub const fn pods(&self) -> &BTreeMap<String, PodStateV1> {
        &self.held.pods
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
    /// When a record of it is too large, or cannot be encoded; then nothing of it was taken over.
    pub fn keep_plan(&mut self, part: PlanPart) -> Result<Option<Vec<RecordKey>>, LedgerError> {
        if !part.snapshot && part.base != self.held.generation {
            return Ok(None);
        }
        if let Some(bytes) =
            part.put.iter().map(size_of_record).find(|size| RECORD_BYTES_MAX < *size)
        {
            return Err(LedgerError::TooLarge { bytes });
        }
        let mut touched: Vec<RecordKey> = Vec::new();
        if part.snapshot {
            touched.extend(self.held.records.iter().map(|record| record.key.clone()));
        }
        touched.extend(part.put.iter().map(|record| record.key.clone()));
        touched.extend(part.remove.iter().cloned());
        touched.sort();
        touched.dedup();
        self.unmarked = true;
        for piece in pieces(part) {
            let entry = Entry::Plan(piece);
            self.record(&entry)?;
            self.held.apply(entry);
        }
        Ok(Some(touched))
    }

    /// Remembers a pod's state; the same state costs nothing.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn keep_pod(&mut self, state: PodStateV1) -> Result<(), LedgerError> {
        if self.held.pods.get(&state.uid) == Some(&state) {
            return Ok(());
        }
        let entry = Entry::Pod(state);
        self.record(&entry)?;
        self.held.apply(entry);
        Ok(())
    }

    /// Forgets a pod.
    ///
    /// # Errors
    /// When the entry cannot be encoded.
    pub fn forget_pod(&mut self, uid: &str) -> Result<(), LedgerError> {
        if self.held.pods.remove(uid).is_some() {
            self.record(&Entry::Forget(uid.to_owned()))?;
        }
        Ok(())
    }

    fn record(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        // The rewrite that a broken file needs holds everything anyway.
        if !self.broken {
            push(&mut self.waiting, self.salt, entry)?;
        }
        Ok(())
    }

    /// Hands over what was recorded, without waiting for the disk: it outlives the agent, not yet a power cut.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost: the next call writes the whole ledger anew.
    pub fn write(&mut self) -> Result<(), LedgerError> {
        let outcome = self.hand_over();
        self.note(outcome)
    }

    fn hand_over(&mut self) -> Result<(), LedgerError> {
        if self.broken
            || COMPACT_FROM_BYTES.max(4 * self.compacted) < self.size + self.waiting.len()
        {
            return self.rewrite();
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::with_capacity(self.waiting.len() + 16);
        if !self.unsynced {
            // What came before this batch is durable, and says so from here on.
            push(&mut batch, self.salt, &Entry::Synced(self.durable as u64))?;
        }
        batch.append(&mut self.waiting);
        if let Err(error) = self.disk.append(&batch) {
            self.broken = true;
            return Err(LedgerError::Write(error));
        }
        self.size += batch.len();
        self.unsynced = true;
        Ok(())
    }

    /// Makes everything recorded so far durable, where the next start finds it.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost: the next call writes the whole ledger anew.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        let outcome = self.make_durable();
        self.note(outcome)
    }

    /// Remembers whether the disk takes writes.
    fn note(&mut self, outcome: Result<(), LedgerError>) -> Result<(), LedgerError> {
        self.refusal = match &outcome {
            Err(LedgerError::Write(error)) => Some(error.kind()),
            Ok(()) | Err(_) => None,
        };
        outcome
    }

    fn make_durable(&mut self) -> Result<(), LedgerError> {
        // What was written to a file that nobody finds again was not kept.
        self.broken |= !self.disk.is_kept();
        self.hand_over()?;
        if self.unsynced {
            if let Err(error) = self.disk.sync() {
                // After a failed fsync the kernel may have dropped the pages: what is on disk is unknown.
                self.broken = true;
                self.waiting = Vec::new();
                return Err(LedgerError::Write(error));
            }
            self.unsynced = false;
            self.durable = self.size;
        }
        if std::mem::take(&mut self.unmarked) && !self.broken {
            self.mark()?;
        }
        Ok(())
    }

    /// Says behind a plan that it is durable. Nobody waits for that: it reaches the disk with what comes next, or when
    /// the kernel writes by itself.
    fn mark(&mut self) -> Result<(), LedgerError> {
        let mut mark = Vec::new();
        push(&mut mark, self.salt, &Entry::Synced(self.durable as u64))?;
        if let Err(error) = self.disk.append(&mark) {
            // What was to be made durable is. Where the file ends is unknown: it is written anew.
            warn!(%error, "the ledger cannot say that its plan is durable");
            self.broken = true;
        }
        self.size += mark.len();
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), LedgerError> {
        // From now on the whole file is what is waiting.
        self.broken = true;
        self.waiting = Vec::new();
        let mut file = self.whole()?;
        // It is there whole or not at all.
        let end = file.len() as u64;
        push(&mut file, self.salt, &Entry::Synced(end))?;
        self.disk.replace(&file).map_err(LedgerError::Write)?;
        self.size = file.len();
        self.durable = file.len();
        self.compacted = file.len();
        self.unmarked = false;
        self.unsynced = false;
        self.broken = false;
        Ok(())
    }

    /// The shortest file that holds all of this.
    fn whole(&self) -> Result<Vec<u8>, LedgerError> {
        let mut file = frame::header(self.format.version, self.salt);
        push(&mut file, self.salt, &Entry::AgentRun(self.held.run.clone()))?;
        let part = PlanPart {
            base: Generation::NONE,
            to: self.held.generation,
            snapshot: true,
            put: self.held.records.iter().map(|record| (**record).clone()).collect(),
            remove: Vec::new(),
        };
        for piece in pieces(part) {
            push(&mut file, self.salt, &Entry::Plan(piece))?;
        }
        for state in self.held.pods.values() {
            push(&mut file, self.salt, &Entry::Pod(state.clone()))?;
        }
        Ok(file)
    }
}

/// The life after this one, in this boot of the machine.
fn next_run(last: &AgentRunV1, boot: &str) -> AgentRunV1 {
    let (epoch, boot) = (last.epoch + 1, boot.to_owned());
    let other_boot = ![&last.boot, &boot].iter().any(|boot| boot.is_empty()) && last.boot != boot;
    let next = AgentRunV1 { epoch, boot, running: true, ..AgentRunV1::default() };
    if !last.running {
        return next;
    }
    if other_boot && last.cuts < CUTS_TOLERATED {
        // The machine went, and with it whoever was being tried: that is nobody's doing, unless it goes on.
        let cuts = last.cuts + 1;
        return AgentRunV1 { cuts, trying: None, epoch, boot: next.boot, ..last.clone() };
    }
    let next = AgentRunV1 { cuts: last.cuts, ..next };
    let (mut suspects, mut more) = (last.suspects.clone(), last.more);
    let mut blamed_again = last.blamed_again;
    match &last.trying {
        None => {}
        Some(TryingV1::Rest) => more = true,
        Some(TryingV1::Pod(uid)) => {
            more = false;
            blamed_again = blamed_again.saturating_add(suspects.contains(uid).into());
            suspects.retain(|known| known != uid);
            suspects.push(uid.clone());
            let older = suspects.len().saturating_sub(MAX_SUSPECTS);
            suspects.drain(..older);
        }
    }
    AgentRunV1 { crashes: last.crashes.saturating_add(1), suspects, blamed_again, more, ..next }
}

fn push(out: &mut Vec<u8>, salt: u32, entry: &Entry) -> Result<(), LedgerError> {
    let payload = postcard::to_stdvec(entry).map_err(LedgerError::Encode)?;
    if frame::ENTRY_BYTES_MAX < payload.len() {
        return Err(LedgerError::TooLarge { bytes: payload.len() });
    }
    frame::push(out, salt, &payload);
    Ok(())
}

/// What a record takes in an entry, at most.
fn size_of_record(record: &Record) -> usize {
    size_of_key(&record.key) + record.body.len() + 32
}

/// What a key takes in an entry, at most.
fn size_of_key(key: &RecordKey) -> usize {
    key.realm.as_str().len() + key.key.len() + 16
}

/// A plan part in entries that are each small enough to be believed; it holds with the last.
fn pieces(part: PlanPart) -> Vec<PlanEntryV1> {
    let PlanPart { to, snapshot, put, remove, .. } = part;
    let piece = |snapshot| PlanEntryV1 { to, snapshot, more: true, put: vec![], remove: vec![] };
    let (mut out, mut last, mut size) = (Vec::new(), piece(snapshot), 0);
    let mut room_for = |last: &mut PlanEntryV1, bytes: usize| {
        if PLAN_PIECE_BYTES < size + bytes && 0 < size {
            size = 0;
            out.push(std::mem::replace(last, piece(false)));
        }
        size += bytes;
    };
    for key in remove {
        room_for(&mut last, size_of_key(&key));
        last.remove.push(key);
    }
    for record in put {
        room_for(&mut last, size_of_record(&record));
        last.put.push(record);
    }
    last.more = false;
    out.push(last);
    out
}

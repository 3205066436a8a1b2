//! What a ledger holds, and how it is read back from a file that power cuts and worn flash have been at.
//!
//! ```text
//! file ─▶ entries … hole ─▶ later entries? one that says the hole was durable? ─no─▶ Torn: nothing after the hole counts
//!                                                                          └──yes─▶ Damaged: what is left counts, the
//!                                                                                   plan is no generation any more
//! ```
//!
//! Guarantees:
//! - a torn tail is what was never durable, and reads as if it had never been written
//!   (`a_torn_tail_is_told_apart_from_rot`, `power_cuts_lose_only_what_was_not_flushed`);
//! - rot before that is told, and never reads as an older plan that holds
//!   (`rot_in_the_middle_is_told_and_is_no_older_plan`);
//! - that is so for the last plan, too, whether it was added or all was written anew: a mark stands behind it
//!   (`rot_in_the_last_plan_is_told`, `rot_in_a_ledger_that_was_written_anew_is_told`).
//!
//! What the file itself cannot tell: damage that takes the last plan *and* the mark behind it looks like a torn tail
//! (`a_plan_that_is_lost_with_its_mark_looks_torn`). Then the device goes on with the plan before until a hub is there,
//! which brings it up to date from whatever it holds.

use std::collections::BTreeMap;

use freewheel_link::generation::Generation;
use freewheel_link::record_set::RecordSet;

use super::entry::{AgentRunV1, Entry, PlanEntryV1, PodStateV1};
use super::format::{Format, Read};
use super::frame::{self, Opening, Reader};

/// What was found in a ledger's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: this is the first start on this device.
    Nothing,
    /// All of it.
    Sound,
    /// All that was ever durable. The end was not, as after a power cut.
    Torn {
        /// Length of the end.
        bytes: usize,
    },
    /// What was durable cannot be read in this many places: the storage is failing.
    Damaged {
        /// Places.
        holes: usize,
    },
    /// It was written, at least in part, by a newer agent.
    Newer,
    /// It was written by an agent that is older by more than one version of the ledger.
    Older,
    /// It is no ledger at all.
    Foreign,
}

impl Found {
    /// Whether the plan in it may not be the newest that this device has acknowledged.
    #[must_use]
    pub const fn is_doubtful(self) -> bool {
        match self {
            Self::Nothing | Self::Sound | Self::Torn { .. } => false,
            Self::Damaged { .. } | Self::Newer | Self::Older | Self::Foreign => true,
        }
    }

    /// What it means, for people; `None`: nothing of note.
    #[must_use]
    pub fn explain(self) -> Option<String> {
        match self {
            Self::Nothing | Self::Sound => None,
            Self::Torn { bytes } => Some(format!(
                "the last {bytes} bytes of the ledger never reached the disk, as after a power cut"
            )),
            Self::Damaged { holes } => {
                Some(format!("the ledger is damaged in {holes} places: the storage may be failing"))
            }
            Self::Newer => Some("the ledger was written by a newer agent".to_owned()),
            Self::Older => Some("the ledger was written by a much older agent".to_owned()),
            Self::Foreign => Some("the ledger's file is no ledger".to_owned()),
        }
    }
}

/// What a ledger holds.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) run: AgentRunV1,
    pub(super) generation: Generation,
    pub(super) records: RecordSet,
    pub(super) pods: BTreeMap<String, PodStateV1>,
    /// Pieces of a part whose last one has not come.
    pieces: Vec<PlanEntryV1>,
}

impl Contents {
    /// Reads a file.
    pub(super) fn read(file: &[u8], format: &Format) -> (Self, Found) {
        let mut out = Self::default();
        let found = match frame::open(file) {
            Opening::Empty => Found::Nothing,
            Opening::Version { version, salt } => match format.reader(version) {
                Some(read) => out.read_entries(Reader::new(file, salt), read),
                None if version < format.version => Found::Older,
                None => Found::Newer,
            },
            Opening::Foreign { salt } => out.salvage(Reader::new(file, salt), format.read),
        };
        out.pieces.clear();
        if found.is_doubtful() {
            out.generation = Generation::NONE;
        }
        (out, found)
    }

    fn read_entries(&mut self, mut reader: Reader<'_>, read: Read) -> Found {
        let mut known = true;
        while let Some(payload) = reader.next() {
            known &= self.take(read(payload));
        }
        let hole = reader.at();
        if reader.is_done() {
            return if known { Found::Sound } else { Found::Newer };
        }
        let (later, holes) = later(&mut reader);
        let durable = later.iter().any(|payload| {
            matches!(read(payload), Some(Entry::Synced(before)) if usize::try_from(before).is_ok_and(|before| hole < before))
        });
        if durable {
            self.pieces.clear();
            for payload in later {
                self.take(read(payload));
            }
            Found::Damaged { holes }
        } else if known {
            Found::Torn { bytes: reader.length() - hole }
        } else {
            Found::Newer
        }
    }

    /// The header does not hold: perhaps the entries do.
    fn salvage(&mut self, mut reader: Reader<'_>, read: Read) -> Found {
        let mut any = false;
        while let Some(payload) = reader.next() {
            any = true;
            self.take(read(payload));
        }
        let (later, holes) = later(&mut reader);
        any |= !later.is_empty();
        for payload in later {
            self.take(read(payload));
        }
        if any { Found::Damaged { holes: holes + 1 } } else { Found::Foreign }
    }

    /// Takes over an entry; whether this agent knows it.
    fn take(&mut self, entry: Option<Entry>) -> bool {
        let known = entry.is_some();
        if let Some(entry) = entry {
            self.apply(entry);
        }
        known
    }

    pub(super) fn apply(&mut self, entry: Entry) {
        let Entry::Plan(piece) = entry else {
            self.pieces.clear();
            return self.apply_other(entry);
        };
        let more = piece.more;
        self.pieces.push(piece);
        if more {
            return;
        }
        for piece in std::mem::take(&mut self.pieces) {
            if piece.snapshot {
                self.records = RecordSet::default();
            }
            for record in piece.put {
                self.records.put(record);
            }
            for key in &piece.remove {
                self.records.remove(key);
            }
            self.generation = piece.to;
        }
    }

    fn apply_other(&mut self, entry: Entry) {
        match entry {
            Entry::AgentRun(run) => self.run = run,
            Entry::Pod(state) => {
                self.pods.insert(state.uid.clone(), state);
            }
            Entry::Forget(uid) => {
                self.pods.remove(&uid);
            }
            Entry::Plan(_) | Entry::Synced(_) => {}
        }
    }
}

/// Everything behind a hole that holds, and how many holes there are.
fn later<'a>(reader: &mut Reader<'a>) -> (Vec<&'a [u8]>, usize) {
    let (mut out, mut holes) = (Vec::new(), usize::from(!reader.is_done()));
    while reader.resume() {
        while let Some(payload) = reader.next() {
            out.push(payload);
        }
        holes += usize::from(!reader.is_done());
    }
    (out, holes)
}

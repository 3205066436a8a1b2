//! Writes anew what lies otherwise than it would be written now: sealed with an older key, or open.
//!
//! Nothing changes but bytes on the disk: no object, no revision, and nobody hears of it.
//!
//! Guarantees:
//! - a power cut or a failing disk at any moment leaves all objects as they were
//!   (`a_power_cut_while_values_are_sealed_anew_changes_nothing`, `what_a_failed_sync_sealed_anew_is_found_either_way`);
//! - a value whose key was taken away lies as it lay, is told, and is no fault of the disk
//!   (`a_value_whose_key_was_taken_away_is_told_and_harms_no_other`);
//! - a step looks at so many values and writes so many bytes (`sealing_anew_takes_small_steps`).

use redb::{Durability, ReadableDatabase as _};

use super::{RedbLog, UncertainBatch};
use crate::redb::disk::Disk;
use crate::redb::encoding::{
    Unreadable, decode_key, decode_value, encode_value, is_current, sum_in,
};
use crate::redb::format::{Meta, OBJECTS, STORE_FORMAT};
use crate::{Resealed, SealError};

/// Values that one step looks at: some milliseconds of reading.
const LOOKED_AT_MAX: usize = 2_048;
/// Bytes of values that one step writes anew, and one value more.
const REWRITTEN_BYTES_MAX: usize = 1 << 20;

/// What a step is about.
struct Step {
    /// Keys and what lies under them.
    stale: Vec<(Vec<u8>, Vec<u8>)>,
    next: Option<Vec<u8>>,
}

impl<D: Disk> RedbLog<D> {
    /// One step, from this key on.
    pub(super) fn try_reseal(&mut self, from: &[u8]) -> Result<Resealed, redb::Error> {
        let mut step = self.find_stale(from)?;
        if step.stale.is_empty() && step.next.is_some() {
            return Ok(Resealed { next: step.next, rewritten: 0, lost: None });
        }
        // The last step writes nothing but the store's numbers: redb goes back by one commit when the newest one has
        // rotted, and is not to find there what needs an older key.
        if let Some((last, _)) = step.stale.last().filter(|_| step.next.is_none()) {
            step.next = Some([&**last, &[0]].concat());
        }
        let (txn, sum, lost) = self.write_anew(&step)?;
        let revision = self.durable;
        if let Err(error) = txn.commit() {
            self.doubtful = Some(UncertainBatch { events: Vec::new(), revision, sum });
            return Err(error.into());
        }
        self.sum = sum;
        let (number, why) = lost.map_or((0, None), |lost| (lost.number, Some(lost.why)));
        Ok(Resealed { next: step.next, rewritten: step.stale.len() - number, lost: why })
    }

    fn find_stale(&self, from: &[u8]) -> Result<Step, redb::Error> {
        let Some(database) = &self.database else { return Err(redb::Error::PreviousIo) };
        let table = database.begin_read()?.open_table(OBJECTS)?;
        let (mut stale, mut bytes) = (Vec::new(), 0);
        for (looked_at, entry) in table.range::<&[u8]>(from..)?.enumerate() {
            let (key, value) = entry?;
            let (key, value) = (key.value(), value.value());
            if looked_at == LOOKED_AT_MAX || REWRITTEN_BYTES_MAX <= bytes {
                return Ok(Step { stale, next: Some(key.to_vec()) });
            }
            if !is_current(key, value, &*self.sealer) {
                bytes += value.len();
                stale.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(Step { stale, next: None })
    }

    /// What makes it durable is still to come; with the sum of all values after it.
    fn write_anew(&mut self, step: &Step) -> Result<WrittenAnew, redb::Error> {
        let Some(database) = &self.database else { return Err(redb::Error::PreviousIo) };
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let (mut sum, sealer) = (self.sum, &*self.sealer);
        let mut lost: Option<Lost> = None;
        {
            let mut objects = txn.open_table(OBJECTS)?;
            for (key, value) in &step.stale {
                let of_key = decode_key(key, None).map_err(|error| corrupted(&error))?;
                let stored = match decode_value(of_key, key, value, sealer) {
                    // The disk is as it was: somebody has taken a key away that is needed.
                    Err(Unreadable::Sealed(SealError::NoKey(why))) => {
                        lost.get_or_insert(Lost { number: 0, why }).number += 1;
                        continue;
                    }
                    stored => stored.map_err(|error| corrupted(&error))?,
                };
                let added = encode_value(key, &stored, sealer, &mut self.value);
                sum = sum.wrapping_add(added.map_err(|error| corrupted(&error))?);
                self.spare.written(key.len() + self.value.len());
                let before = objects.insert(key.as_slice(), self.value.as_slice())?;
                let gone = before.and_then(|before| sum_in(before.value()));
                sum = sum.wrapping_sub(gone.unwrap_or_default());
            }
        }
        let (incarnation, revision) = (self.incarnation, self.durable);
        Meta { format: STORE_FORMAT, incarnation, revision, sum }.write(&txn)?;
        Ok((txn, sum, lost))
    }
}

/// A transaction, the sum of all values after it, and what it leaves as it is.
type WrittenAnew = (redb::WriteTransaction, u64, Option<Lost>);

/// Values whose key is gone.
struct Lost {
    number: usize,
    why: String,
}

fn corrupted(error: &dyn std::error::Error) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}

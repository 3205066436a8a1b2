//! The records of one spoke, and what had to be left out of them.

use std::collections::BTreeMap;

use freewheel_link::plan::{Record, RecordKey};

use crate::refused::Refused;

/// The plan of one spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every record, in the order of their keys.
    pub records: BTreeMap<RecordKey, Record>,
    /// What had to be left out.
    pub refused: Vec<Refused>,
}

impl Plan {
    pub(crate) fn take(&mut self, outcome: Result<Record, Refused>) {
        match outcome {
            Ok(record) => {
                self.records.insert(record.key.clone(), record);
            }
            Err(refused) => self.refused.push(refused),
        }
    }
}

/// Whether a spoke that holds `old` has to be sent `new`: only the revision is no reason.
#[must_use]
pub fn differs(old: &Record, new: &Record) -> bool {
    old.needs != new.needs || old.body != new.body
}

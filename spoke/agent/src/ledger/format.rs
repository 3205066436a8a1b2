//! Versions of the file: one is written, and the one before it is read, too.
//!
//! ```text
//! version N     read, and written on
//! version N-1   read entry by entry, then rewritten as N before anything is added
//! older, newer  kept aside and told; the hub is asked for its plan
//! ```
//!
//! A change of an entry is a new version with [`Format::before`] for what it was; a new entry alone needs none: an
//! agent that does not know it goes on with what it knows, and asks for the whole plan, because it cannot know what it
//! has missed. Nothing is released: there is version 1, changed in place, and nothing before it.
//!
//! Guarantees:
//! - a ledger of the version before opens as if it were of this one, and is of this one from then on
//!   (`the_version_before_is_read_and_becomes_this_one`);
//! - one that is older or newer than that is never misread
//!   (`the_version_before_is_read_and_becomes_this_one`,
//!   `a_newer_or_foreign_ledger_is_kept_aside_and_the_device_starts_without_it`).

use super::entry::Entry;

/// Reads an entry; `None`: it is of no kind that is known.
pub(super) type Read = fn(&[u8]) -> Option<Entry>;

/// What an agent reads and writes.
pub(super) struct Format {
    /// The version that it writes.
    pub(super) version: u32,
    /// Reads an entry of that.
    pub(super) read: Read,
    /// Makes an entry of this version of one of the version before.
    pub(super) before: Option<Read>,
}

/// Of this agent.
pub(super) const FORMAT: Format =
    Format { version: 1, read: |payload| postcard::from_bytes(payload).ok(), before: None };

impl Format {
    /// What reads the entries of a file of this version.
    pub(super) fn reader(&self, version: u32) -> Option<Read> {
        if version == self.version {
            Some(self.read)
        } else {
            self.before.filter(|_| version.checked_add(1) == Some(self.version))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Found, Ledger};
    use super::*;
    use crate::fake::SimDisk;
    use crate::ports::Disk as _;

    /// What is now is the version before: names of pods were shorter then.
    const NEXT: Format = Format {
        version: FORMAT.version + 1,
        read: FORMAT.read,
        before: Some(|payload| match (FORMAT.read)(payload)? {
            Entry::Pod(mut state) => {
                state.name.push_str("-of-old");
                Some(Entry::Pod(state))
            }
            other => Some(other),
        }),
    };
    /// And the one after that.
    const LATER: Format = Format { version: NEXT.version + 1, ..NEXT };

    #[test]
    fn the_version_before_is_read_and_becomes_this_one() {
        let disk = SimDisk::default();
        disk.replace(include_bytes!("../../fixtures/ledger-v1.bin")).unwrap();
        let open = |format: &'static Format| {
            let ledger = Ledger::open_as(Arc::new(disk.clone()), "", format).unwrap();
            let names: Vec<String> =
                ledger.pods().values().map(|state| state.name.clone()).collect();
            (ledger.epoch(), ledger.found(), ledger.records().len(), names.join(","))
        };
        let plan = Ledger::open(Arc::new(disk.clone()), "").unwrap().generation();
        assert_eq!(open(&NEXT), (3, Found::Sound, 1, "web-of-old".to_owned()));
        assert_eq!(open(&NEXT), (4, Found::Sound, 1, "web-of-old".to_owned()), "once is enough");
        assert_eq!(Ledger::open_as(Arc::new(disk.clone()), "", &NEXT).unwrap().generation(), plan);
        assert_eq!(disk.aside(), None);
        // Back to the older agent, and from there two versions on.
        assert_eq!(open(&FORMAT), (1, Found::Newer, 0, String::new()));
        assert_eq!(open(&LATER), (1, Found::Older, 0, String::new()));
        assert!(disk.aside().is_some());
    }
}

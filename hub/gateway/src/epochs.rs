//! Numbers of a spoke's sessions: each is higher than all before it, in the store or not.
//!
//! A session must not wait for the disk: pods' connections and logs go over it. Its number is good for this hub at
//! once, and written when the store can.
//!
//! Guarantees:
//! - a session opens while the disk is full, and is written when there is room
//!   (`a_session_opens_while_the_disk_is_full_and_is_written_when_there_is_room`);
//! - no number is given twice by one hub (`a_number_is_given_once`).

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::deleted_clusters::DeletedClusters;

/// The highest number that was given, by the UID of the ManagedCluster.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<BTreeMap<String, u64>>);

impl Epochs {
    /// The next one, after what the store knows of.
    pub(crate) fn next(&self, uid: &str, stored: u64) -> u64 {
        let mut all = self.0.lock();
        let highest = all.entry(uid.to_owned()).or_default();
        *highest = stored.max(*highest) + 1;
        *highest
    }

    /// A cluster that is gone leaves nothing behind.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.0.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_once() {
        let epochs = Epochs::default();
        let given = [0, 0, 7, 3].map(|stored| epochs.next("pi-7", stored));
        assert_eq!(given, [1, 2, 8, 9]);
        assert_eq!(epochs.next("pi-8", 0), 1);
        epochs.forget(&DeletedClusters::One("pi-7"));
        assert_eq!(epochs.next("pi-7", 0), 1);
    }
}

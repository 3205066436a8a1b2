//! Sessions of this hub's earlier life: they are over, whatever the store says.
//!
//! ```text
//! up when this process began ─▶ still as they were? ─▶ ended, many in one transaction
//!                                 └──no──▶ somebody has come back since: it is theirs
//! ```
//!
//! Devices come back meanwhile: with ten thousand of them nobody waits until the last end is written.
//!
//! Guarantees:
//! - all of them end in a few transactions, and a disk that is full only holds that up
//!   (`sessions_of_an_earlier_life_end_in_batches_also_while_the_disk_is_full`);
//! - a session that was opened since is left alone (`who_is_back_before_its_old_session_is_ended_stays`).

use std::sync::Arc;

use freewheel_hub_objects::Objects;
use freewheel_hub_store::{CommitError, Snapshot, Stored};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::session_records::{self, WRITE_RETRY_EVERY};

/// Ends in one transaction: others wait behind it in the line for the disk.
const ENDS_PER_TRANSACTION: usize = 256;

/// Those that are up in the store when a hub begins.
pub(crate) struct StaleSessions(Vec<Arc<Stored>>);

impl StaleSessions {
    /// To be asked before the first device is let in.
    pub(crate) fn of(objects: &Objects, hub: &str) -> Self {
        Self(session_records::up(&*objects.store().snapshot(), hub))
    }

    /// Drops those that somebody has written since: a device is back, or its cluster is gone.
    fn keep_untouched(&mut self, now: &dyn Snapshot) {
        self.0.retain(|old| now.get(&old.key).is_some_and(|new| new.revision == old.revision));
    }

    /// Ends them all.
    pub(crate) async fn end(mut self, objects: &Objects) {
        let store = objects.store();
        let all = self.0.len();
        let mut warned = false;
        loop {
            self.keep_untouched(&*store.snapshot());
            let batch = self.0.len().min(ENDS_PER_TRANSACTION);
            if batch == 0 {
                break;
            }
            let txn = session_records::ends(&self.0[..batch], objects.clock().unix_seconds());
            match store.commit(txn).await {
                Ok(_) => drop(self.0.drain(..batch)),
                // Somebody was faster: the next look sees who.
                Err(CommitError::Unmet { .. }) => {}
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        warn!(%error, "cannot write that sessions of an earlier start are over; trying again");
                    }
                    sleep(WRITE_RETRY_EVERY).await;
                }
            }
        }
        if 0 < all {
            info!(sessions = all, "sessions of an earlier start are over");
        }
    }
}

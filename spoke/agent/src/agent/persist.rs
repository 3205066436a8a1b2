//! When the ledger is written, and whether it holds what the hub sent.
//!
//! Guarantees:
//! - a full or failing disk is tried again, and nothing is acknowledged meanwhile
//!   (`a_plan_is_not_acknowledged_while_the_disk_is_full`);
//! - the end of a pod is durable at once, and not told before (`an_end_is_told_once_it_is_durable`,
//!   `what_the_hub_was_told_of_an_end_no_power_cut_takes_back`).

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::ledger::{Found, Ledger};

/// States of pods that have not ended reach the disk's platters within this: it bounds what a power cut forgets, and spares flash.
pub(super) const SYNC_WITHIN: Duration = Duration::from_secs(2);
/// A full or failing disk is tried again this often.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(5);

/// How far the ledger's file is behind.
#[derive(Debug)]
pub(super) struct Keep {
    /// A plan is not durable yet.
    behind: bool,
    /// UIDs of pods whose ends are not durable yet.
    ends: BTreeSet<String>,
    /// When all of it has to be.
    sync_at: Option<Duration>,
    failed: bool,
    /// The ledger could not be read as it was written, and the hub has not sent its plan since.
    doubtful: bool,
}

/// What has become durable.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// A plan.
    pub(super) plan: bool,
    /// Ends of the pods with these UIDs.
    pub(super) ends: BTreeSet<String>,
}

impl Keep {
    /// Says what the ledger was found to be.
    pub(super) fn new(found: Found) -> Self {
        let doubtful = found.is_doubtful();
        match found.explain() {
            Some(why) if doubtful => {
                error!(
                    why,
                    "pods run from what is left of the ledger; the hub is asked for its plan"
                );
            }
            Some(why) => warn!(why, "the ledger's end is torn"),
            None => {}
        }
        Self { behind: true, ends: BTreeSet::new(), sync_at: None, failed: false, doubtful }
    }

    /// When it has to be written.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.sync_at
    }

    /// Whether the plan may be less than what this device has acknowledged.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// A plan was taken.
    pub(super) const fn plan_taken(&mut self) {
        self.behind = true;
    }

    /// A pod has ended for good.
    pub(super) fn pod_ended(&mut self, uid: &str) {
        self.ends.insert(uid.to_owned());
    }

    /// Whether the plan that is held is durable.
    pub(super) const fn is_durable(&self) -> bool {
        !self.behind
    }

    /// The plan that is durable is the hub's: whether there was doubt before.
    pub(super) const fn trust(&mut self) -> bool {
        std::mem::replace(&mut self.doubtful, false)
    }

    /// Writes a plan and the ends of pods at once, the rest within [`SYNC_WITHIN`].
    pub(super) fn store(&mut self, ledger: &mut Ledger, now: Duration) -> Durable {
        let due = self.sync_at.is_some_and(|at| at <= now);
        if self.failed && !due {
            return Durable::default();
        }
        let at_once = self.behind || due || !self.ends.is_empty();
        let outcome = if at_once { ledger.flush() } else { ledger.write() };
        if let Err(error) = outcome {
            if !std::mem::replace(&mut self.failed, true) {
                error!(error = &error as &dyn std::error::Error, "the ledger cannot be written");
            }
            self.sync_at = Some(now + DISK_RETRY);
            return Durable::default();
        }
        if std::mem::take(&mut self.failed) {
            info!("the ledger can be written again");
        }
        let next = self.sync_at.filter(|_| !due).unwrap_or(now + SYNC_WITHIN);
        self.sync_at = ledger.dirty().then_some(next);
        Durable { plan: std::mem::take(&mut self.behind), ends: std::mem::take(&mut self.ends) }
    }
}

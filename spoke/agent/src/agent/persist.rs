//! When the ledger is written, and whether it holds what the hub sent.
//!
//! Guarantees:
//! - a full, failing or read-only disk is tried again, and nothing is acknowledged meanwhile
//!   (`a_plan_is_not_acknowledged_while_the_disk_is_full`), also where it took nothing from the start
//!   (`a_device_whose_disk_takes_no_writes_runs_what_it_can_read`). One that is read-only or not there is told of also where
//!   nothing is written; that it is full or fails shows at the next write, as looks that write would wear flash for nothing
//!   (`an_idle_device_tells_that_its_disk_is_read_only`);
//! - the end of a pod is durable at once, and not told before (`an_end_is_told_once_it_is_durable`,
//!   `what_the_hub_was_told_of_an_end_no_power_cut_takes_back`).

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::ledger::Ledger;

/// States of pods that have not ended reach the disk's platters within this: it bounds what a power cut forgets, and spares flash.
pub(super) const SYNC_WITHIN: Duration = Duration::from_secs(2);
/// A full or failing disk is tried again this often.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(5);
/// Whether the ledger is still there, and on a disk that is not read-only, is looked at this often while nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a disk takes no writes, as the Node says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It may only be read: a kernel does that to a card with errors.
    ReadOnly,
    /// It is full, fails or is not there.
    Failing,
}

impl Refusal {
    const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::Failing,
        }
    }

    /// Condition of a node with such a disk, the first as node-problem-detector has it.
    pub(super) const fn condition(self) -> &'static str {
        match self {
            Self::ReadOnly => "ReadonlyFilesystem",
            Self::Failing => "LedgerUnwritable",
        }
    }
}

/// What that means, for people.
pub(super) const REFUSAL: &str = "the node's disk takes no writes: pods run, and what changes is lost when the node restarts; `spoke doctor` says why";

/// How far the ledger's file is behind.
#[derive(Debug)]
pub(super) struct Keep {
    /// A plan is not durable yet.
    behind: bool,
    /// It came in this life, and the hub does not know that the disk does not take it.
    untold: bool,
    /// UIDs of pods whose ends are not durable yet.
    ends: BTreeSet<String>,
    /// When all of it has to be, or it is looked whether it still is.
    sync_at: Duration,
    /// Why the disk did not take the last write.
    refusal: Option<Refusal>,
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
    pub(super) fn new(ledger: &Ledger, now: Duration) -> Self {
        let doubtful = ledger.found().is_doubtful();
        match ledger.found().explain() {
            Some(why) if doubtful => {
                error!(
                    why,
                    "pods run from what is left of the ledger; the hub is asked for its plan"
                );
            }
            Some(why) => warn!(why, "the ledger's end is torn"),
            None => {}
        }
        let refusal = ledger.refusal().map(Refusal::of);
        if refusal.is_some() {
            error!("the ledger can be read and not written: pods run as it says");
        }
        let sync_at = now + DISK_RETRY;
        Self { behind: true, untold: false, ends: BTreeSet::new(), sync_at, refusal, doubtful }
    }

    /// Why the disk does not take what is to be kept.
    pub(super) const fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// When it has to be written, or looked at.
    pub(super) const fn due(&self) -> Duration {
        self.sync_at
    }

    /// Whether the plan may be less than what this device has acknowledged.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// A plan was taken.
    pub(super) const fn plan_taken(&mut self) {
        (self.behind, self.untold) = (true, true);
    }

    /// Whether the hub is to hear that a plan runs which the disk does not take; once for each.
    pub(super) const fn owes_word(&mut self) -> bool {
        self.refusal.is_some() && std::mem::replace(&mut self.untold, false)
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

    /// Writes a plan and the ends of pods at once, the rest within [`SYNC_WITHIN`]; looks whether it still is there.
    pub(super) fn store(&mut self, ledger: &mut Ledger, now: Duration) -> Durable {
        let due = self.sync_at <= now;
        if self.refusal.is_some() && !due {
            return Durable::default();
        }
        let at_once = self.behind || due || !self.ends.is_empty();
        let outcome = if at_once { ledger.flush() } else { ledger.write() };
        if let Err(error) = outcome {
            let refusal = Refusal::of(ledger.refusal().unwrap_or(ErrorKind::Other));
            if self.refusal.replace(refusal).is_none() {
                error!(error = &error as &dyn std::error::Error, "the ledger cannot be written");
            }
            self.sync_at = now + DISK_RETRY;
            return Durable::default();
        }
        if self.refusal.take().is_some() {
            info!("the ledger can be written again");
        }
        if at_once {
            self.sync_at = now + LOOK_EVERY;
        }
        if ledger.dirty() {
            self.sync_at = self.sync_at.min(now + SYNC_WITHIN);
        }
        self.untold = false;
        Durable { plan: std::mem::take(&mut self.behind), ends: std::mem::take(&mut self.ends) }
    }
}

//! When the ledger is written, and whether it holds what the hub sent.
//!
//! Guarantees:
//! - a full, failing or read-only disk is tried again, and nothing is acknowledged meanwhile
//!   (`a_plan_is_not_acknowledged_while_the_disk_is_full`), also where it took nothing from the start
//!   (`a_device_whose_disk_takes_no_writes_runs_what_it_can_read`);
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

/// Why a disk takes no writes, as the Node says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It may only be read: a kernel does that to a card with errors.
    ReadOnly,
    /// It is full, or fails.
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

    /// What that means, for people.
    pub(super) const fn explain(self) -> &'static str {
        match self {
            Self::ReadOnly => {
                "the node's disk is read-only: pods run, and what changes is lost when the node restarts"
            }
            Self::Failing => {
                "the node's disk takes no writes: pods run, and what changes is lost when the node restarts"
            }
        }
    }
}

/// How far the ledger's file is behind.
#[derive(Debug)]
pub(super) struct Keep {
    /// A plan is not durable yet.
    behind: bool,
    /// It came in this life, and the hub does not know that the disk does not take it.
    untold: bool,
    /// UIDs of pods whose ends are not durable yet.
    ends: BTreeSet<String>,
    /// When all of it has to be.
    sync_at: Option<Duration>,
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
        let sync_at = refusal.map(|_| now + DISK_RETRY);
        Self { behind: true, untold: false, ends: BTreeSet::new(), sync_at, refusal, doubtful }
    }

    /// Why the disk does not take what is to be kept.
    pub(super) const fn refusal(&self) -> Option<Refusal> {
        self.refusal
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

    /// Writes a plan and the ends of pods at once, the rest within [`SYNC_WITHIN`].
    pub(super) fn store(&mut self, ledger: &mut Ledger, now: Duration) -> Durable {
        let due = self.sync_at.is_some_and(|at| at <= now);
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
            self.sync_at = Some(now + DISK_RETRY);
            return Durable::default();
        }
        if self.refusal.take().is_some() {
            info!("the ledger can be written again");
        }
        let next = self.sync_at.filter(|_| !due).unwrap_or(now + SYNC_WITHIN);
        self.sync_at = ledger.dirty().then_some(next);
        self.untold = false;
        Durable { plan: std::mem::take(&mut self.behind), ends: std::mem::take(&mut self.ends) }
    }
}

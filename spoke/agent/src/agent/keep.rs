//! The ledger's part of a turn, and what is told of it.
//!
//! Guarantees:
//! - a plan is acknowledged after it is durable, never before (`a_plan_is_not_acknowledged_while_the_disk_is_full`);
//! - a ledger that could not be read as it was written is a condition of the node until the hub's whole plan has
//!   replaced it (`a_damaged_ledger_runs_on_is_told_and_asks_for_the_whole_plan`).

use std::collections::BTreeSet;
use std::time::Duration;

use freewheel_link::generation::Generation;
use freewheel_link::plan::Kind;
use tracing::{error, info, warn};

use super::{Agent, orphans};

/// Pod states reach the disk's platters within this: it bounds what a power cut forgets, and spares flash.
pub(super) const SYNC_WITHIN: Duration = Duration::from_secs(2);
/// A full or failing disk is tried again this often.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(5);
/// Condition of a node whose ledger was damaged.
const LEDGER_DAMAGED: &str = "LedgerDamaged";

impl Agent {
    /// Says what the ledger was found to be.
    pub(super) fn tell_ledger(&mut self) {
        let found = self.ledger.found();
        self.doubtful = found.is_doubtful();
        match found.explain() {
            Some(why) if self.doubtful => {
                error!(
                    why,
                    "pods run from what is left of the ledger; the hub is asked for its plan"
                );
            }
            Some(why) => warn!(why, "the ledger's end is torn"),
            None => {}
        }
        self.tell_node();
    }

    /// Tells the device's state, as the binary and the agent see it.
    pub(super) fn tell_node(&mut self) {
        let mut node = self.config.node.clone();
        node.pressure
            .extend(self.pressure.conditions().iter().map(|&condition| condition.to_owned()));
        if self.doubtful {
            node.pressure.push(LEDGER_DAMAGED.to_owned());
        }
        self.outbox.node(node);
    }

    /// A plan at once and acknowledged, the rest within [`SYNC_WITHIN`].
    pub(super) fn store(&mut self) {
        let now = self.ports.clock.now();
        let due = self.sync_at.is_some_and(|at| at <= now);
        if self.disk_failed && !due {
            return;
        }
        let outcome =
            if self.unacknowledged || due { self.ledger.flush() } else { self.ledger.write() };
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.disk_failed) {
                    info!("the ledger can be written again");
                }
                if std::mem::take(&mut self.unacknowledged) {
                    self.acknowledge();
                    self.sweep();
                }
                let next = self.sync_at.filter(|_| !due).unwrap_or(now + SYNC_WITHIN);
                self.sync_at = self.ledger.dirty().then_some(next);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.disk_failed, true) {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "the ledger cannot be written"
                    );
                }
                self.sync_at = Some(now + DISK_RETRY);
            }
        }
    }

    /// Tells the hub what is durable. Not before it is.
    pub(super) fn acknowledge(&mut self) {
        if self.unacknowledged {
            return;
        }
        self.ports.uplink.took(self.ledger.generation(), self.ledger.digest());
        if self.ledger.generation() != Generation::NONE && std::mem::take(&mut self.doubtful) {
            info!("the hub's plan has replaced what was left of the ledger");
            self.tell_node();
        }
    }

    /// What is held is durable: what pods left that are not in it goes.
    fn sweep(&mut self) {
        if self.ledger.generation() == Generation::NONE || !self.sweep.begin() {
            return;
        }
        let records = self.ledger.records().iter().map(|record| &record.key);
        let planned: BTreeSet<&str> =
            records.filter(|key| key.kind == Kind::POD_V1).map(|key| key.key.as_str()).collect();
        orphans::remove(&*self.config.files, &self.config.data, |uid| {
            planned.contains(uid)
                || self.pods.contains_key(uid)
                || self.ledger.pods().contains_key(uid)
        });
    }

    /// The last words of a life that ends in order.
    pub(super) fn rest(&mut self) {
        if let Err(error) = self.ledger.rest().and_then(|()| self.ledger.flush()) {
            error!(error = &error as &dyn std::error::Error, "the last states are not on disk");
        }
    }
}

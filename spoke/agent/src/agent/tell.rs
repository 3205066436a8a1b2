//! What the ledger holds and how the device is: made durable, and told.
//!
//! Guarantees:
//! - a plan is acknowledged after it is durable, never before (`a_plan_is_not_acknowledged_while_the_disk_is_full`);
//! - a ledger that could not be read as it was written is a condition of the node until the hub's whole plan has
//!   replaced it (`a_damaged_ledger_runs_on_is_told_and_asks_for_the_whole_plan`);
//! - so is a disk that takes no writes, until it takes some again
//!   (`a_device_whose_disk_takes_no_writes_runs_what_it_can_read`).

use std::collections::BTreeSet;

use freewheel_link::generation::Generation;
use tracing::{error, info};

use super::Agent;
use super::persist::{REFUSAL, Refusal};

/// Condition of a node whose ledger was damaged.
const LEDGER_DAMAGED: &str = "LedgerDamaged";

impl Agent {
    /// Tells the device's state, as the binary and the agent see it.
    pub(super) fn tell_node(&mut self) {
        let damaged = self.keep.is_doubtful().then_some(LEDGER_DAMAGED);
        let refusal = self.keep.refusal().map(Refusal::condition);
        let conditions = self.pressure.conditions().iter().copied();
        self.status.device(conditions.chain(damaged).chain(refusal));
    }

    /// Says at the Node that the disk takes no writes.
    pub(super) fn tell_refusal(&mut self) {
        if let Some(refusal) = self.keep.refusal() {
            self.status.node_warning(refusal.condition(), REFUSAL.to_owned());
        }
    }

    /// Brings the ledger's file up to date.
    pub(super) fn store(&mut self) {
        let before = self.keep.refusal();
        let durable = self.keep.store(&mut self.ledger, self.ports.clock.now());
        if self.keep.refusal() != before {
            self.tell_refusal();
            self.tell_node();
        }
        for uid in durable.ends {
            self.tell_pod(&uid);
        }
        if durable.plan {
            self.acknowledge();
            self.sweep();
        } else if self.keep.owes_word() {
            self.tell_what_runs();
        }
    }

    /// Tells the hub what runs while the disk does not take it, so that it can go on from there.
    pub(super) fn tell_what_runs(&self) {
        self.ports.uplink.runs(self.ledger.generation(), self.ledger.digest());
    }

    /// Tells the hub what is durable. Not before it is.
    pub(super) fn acknowledge(&mut self) {
        if !self.keep.is_durable() {
            return;
        }
        self.ports.uplink.took(self.ledger.generation(), self.ledger.digest());
        if self.ledger.generation() != Generation::NONE && self.keep.trust() {
            info!("the hub's plan has replaced what was left of the ledger");
            self.tell_node();
        }
    }

    /// Tells how a pod is, when that has changed.
    pub(super) fn tell_pod(&mut self, uid: &str) {
        if let Some(pod) = self.pods.get_mut(uid) {
            self.status.pod(pod, self.images.known());
        }
    }

    /// What is held is durable: what pods left that are not in it goes.
    fn sweep(&mut self) {
        if self.ledger.generation() == Generation::NONE || !self.sweep.begin() {
            return;
        }
        let wanted: BTreeSet<&str> = self.wanted().collect();
        self.sandboxes.remove_orphans(|uid| {
            wanted.contains(uid)
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

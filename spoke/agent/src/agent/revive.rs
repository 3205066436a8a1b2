//! Brings pods back when their turn has come.
//!
//! Guarantees:
//! - which pod is tried is in the ledger before it starts (`the_pod_that_was_tried_when_the_agent_died_comes_last`);
//! - a pod that waits says so, and can be deleted (`what_killed_the_agent_three_times_does_not_come_back_at_once`).

use std::time::Duration;

use tracing::{info, warn};

use super::Agent;
use super::recovery::{BadEnds, Recovery, Returning, Turn};
use crate::ledger::LedgerError;
use crate::pods::status::held_text;
use crate::pods::{Pod, backoff};

impl Agent {
    /// At the start, when all pods are known and none runs.
    pub(super) fn begin_recovery(&mut self) {
        let (crashes, now) = (self.ledger.crashes(), self.ports.clock.now());
        if 0 < crashes {
            warn!(crashes, "the agent did not end in order");
        }
        let cuts = self.ledger.cuts();
        if 0 < cuts {
            warn!(cuts, "the machine went while the agent ran");
        }
        let suspects = self.ledger.suspects();
        let pods = self.pods.values().filter(|pod| pod.stays()).map(|pod| {
            let place = suspects.iter().position(|suspect| *suspect == pod.spec.uid);
            (place, pod.started, pod.spec.uid.clone())
        });
        let pods: Vec<Returning> = pods.collect();
        let blamed_again = self.ledger.blamed_again();
        let one_more = self.ledger.one_more() || pods.iter().all(|(suspect, ..)| suspect.is_none());
        let ends = BadEnds { count: crashes, blamed_again, one_more, cut: 0 < cuts };
        self.recovery = Recovery::begin(ends, pods, now);
        if !one_more {
            self.try_rest();
        }
        for (uid, back_off) in self.recovery.waiting(now) {
            self.hold(&uid, back_off);
        }
    }

    /// `back_off`: how long it waits, if it is suspected.
    fn hold(&mut self, uid: &str, back_off: Option<Duration>) {
        let crashes = self.ledger.crashes();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.held = Some(crashes);
        let mut text = held_text(crashes);
        if let Some(back_off) = back_off {
            let back_off = backoff::go_text(back_off);
            text = format!("{text}; it was this pod's turn when it did, back-off {back_off}");
        }
        self.event(uid, None, true, "BackOff", text);
        self.turns.touch(uid);
    }

    /// A pod is new.
    pub(super) fn hold_new(&mut self, uid: &str) {
        if !self.pods.get(uid).is_some_and(Pod::stays) {
            return;
        }
        if self.recovery.queue(uid, self.ports.clock.now()) {
            self.hold(uid, None);
        } else if self.recovery != Recovery::Well {
            self.try_rest();
        }
    }

    /// Brings the next pod back when its time has come.
    pub(super) fn recover(&mut self) {
        let held =
            |uid: &String| self.pods.get(uid).is_some_and(|pod| pod.held.is_some() && pod.stays());
        match self.recovery.next(self.ports.clock.now(), held) {
            Turn::Nobody => {}
            Turn::Of(uid, well) => self.bring_back(&uid, well),
            Turn::Well => {
                info!("the agent has been well for a while");
                if let Err(error) = self.ledger.forgive() {
                    warn!(error = &error as &dyn std::error::Error, "the good while is not kept");
                }
            }
        }
    }

    /// `well`: who was suspected and has had its turn.
    fn bring_back(&mut self, uid: &str, well: Option<String>) {
        // Before it starts: it may be the last thing that this life does.
        let cleared = well.map_or(Ok(()), |well| self.ledger.clear(&well));
        let tried = cleared.and_then(|()| self.ledger.try_pod(uid));
        self.keep_trial(tried);
        info!(pod = uid, "pod is brought back");
        self.change(uid, |pod: &mut Pod| pod.held = None);
        self.turns.touch(uid);
    }

    /// Pods start without a turn.
    fn try_rest(&mut self) {
        let tried = self.ledger.try_rest();
        self.keep_trial(tried);
    }

    fn keep_trial(&mut self, tried: Result<(), LedgerError>) {
        if let Err(error) = tried.and_then(|()| self.ledger.write()) {
            warn!(error = &error as &dyn std::error::Error, "who is tried is not kept");
        }
    }
}

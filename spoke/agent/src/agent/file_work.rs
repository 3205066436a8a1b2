//! What pods' files need is done beside the agent, whose thread waits for no card: volumes are made and brought up to
//! date, what a container mounts is opened.
//!
//! ```text
//! decide: MakeVolumes, Start ─▶ asked ─▶ at work ─▶ its outcome is taken like an input ─▶ decide
//! configuration is another ──────┘
//! ```
//!
//! Guarantees:
//! - a neighbour's exit, probe or stop waits for nobody's files (`a_slow_card_holds_no_neighbour_up`);
//! - a pod that goes, or whose sandbox does, waits for what is at work for it: nothing is made anew in what was taken away
//!   (`a_pod_that_goes_waits_for_what_is_at_work_for_it`);
//! - what comes while a pod's volumes are made is in them in the end
//!   (`configuration_that_comes_while_volumes_are_made_is_in_them_in_the_end`);
//! - nothing of this is remembered over the agent's end: the next life looks at the disk, whatever the last was about to
//!   do (`volumes_that_were_being_made_when_the_agent_died_are_made_by_the_next`).

use tracing::warn;

use super::Agent;
use super::sandboxes::{FileJob, FileOutcome, Mounts};
use crate::pods::backoff::MOUNT_PATIENCE;
use crate::pods::{Volumes, Which};
use crate::ports::Opened;
use crate::volumes;

impl Agent {
    /// A pod is to have its volumes.
    pub(super) fn add_volumes(&mut self, uid: &str) -> bool {
        let asked = self.change(uid, |pod| pod.volumes_asked = true);
        self.sandboxes.jobs.want(uid, FileJob::Volumes, true);
        self.do_file_jobs();
        asked
    }

    /// Brings mounted configuration up to date. What cannot be made stays as it was.
    pub(super) fn refresh_volumes(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        let (made, asked) = (pod.sandbox.is_ready(), pod.volumes_asked);
        if !(made || asked) || pod.termination.is_some() || !volumes::shows_config(&pod.spec) {
            return;
        }
        self.sandboxes.jobs.want(uid, FileJob::Volumes, !made);
        self.do_file_jobs();
    }

    /// What a container mounts; `None`: it is being opened.
    pub(super) fn mounts(&mut self, uid: &str, which: Which) -> Option<Mounts> {
        if let Some(opened) = self.sandboxes.jobs.take_opened(uid, which) {
            return Some(opened);
        }
        let (_, spec) = self.pods.get(uid)?.at(which)?;
        if spec.mounts.is_empty() {
            let places = self.sandboxes.file_permits(uid, 0);
            return Some(Ok(places.map(|places| Opened { dirs: Vec::new(), places })));
        }
        self.set_opening(uid, which, true);
        self.sandboxes.jobs.want(uid, FileJob::Mounts(which), true);
        self.do_file_jobs();
        self.sandboxes.jobs.take_opened(uid, which)
    }

    /// Takes what has ended, and begins what there is room for.
    pub(super) fn do_file_jobs(&mut self) {
        loop {
            if let Some(job) = self.sandboxes.jobs.take_finished() {
                self.change(&job.uid, |pod| {
                    pod.files_at_work = pod.files_at_work.saturating_sub(1);
                });
                match job.outcome {
                    FileOutcome::Volumes(outcome) => self.volumes_tried(&job.uid, outcome),
                    FileOutcome::Mounts(which, opened) => self.take_mounts(&job.uid, which, opened),
                }
                continue;
            }
            match self.sandboxes.jobs.next() {
                Some((uid, FileJob::Volumes)) => self.begin_volumes(&uid),
                Some((uid, FileJob::Mounts(which))) => self.begin_mounts(&uid, which),
                None => return,
            }
        }
    }

    fn begin_volumes(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).filter(|pod| pod.may_have_volumes()) else {
            self.change(uid, |pod| pod.volumes_asked = false);
            return self.turns.touch(uid);
        };
        let planned = self.with_around(pod, volumes::plan);
        let (files, data) = self.sandboxes.shared_place();
        if planned.is_empty() {
            // Nothing waits for the disk.
            return self.volumes_tried(uid, planned.write(&*files, &data));
        }
        self.change(uid, |pod| pod.files_at_work += 1);
        let bytes = planned.bytes();
        let work = move || FileOutcome::Volumes(planned.write(&*files, &data));
        self.sandboxes.jobs.begin(uid, bytes, work);
    }

    fn begin_mounts(&mut self, uid: &str, which: Which) {
        let pod = self.pods.get(uid).filter(|pod| pod.may_have_volumes());
        let found = pod.filter(|pod| pod.sandbox.is_ready()).and_then(|pod| {
            let (_, container) = pod.at(which)?;
            Some((pod.spec.clone(), container.clone()))
        });
        let Some((pod, container)) = found else {
            self.set_opening(uid, which, false);
            return self.turns.touch(uid);
        };
        let places = self.sandboxes.file_permits(uid, container.mounts.len());
        let Some(mut places) = places else { return self.take_mounts(uid, which, Ok(None)) };
        let (files, data) = self.sandboxes.shared_place();
        self.change(uid, |pod| pod.files_at_work += 1);
        let work = move || {
            let opened = volumes::mounts(&*files, &data, &pod, &container).map(|dirs| {
                places.keep(dirs.len());
                Some(Opened { dirs, places })
            });
            FileOutcome::Mounts(which, opened)
        };
        self.sandboxes.jobs.begin(uid, 0, work);
    }

    /// A pod's volumes were made or brought up to date, or not.
    fn volumes_tried(&mut self, uid: &str, outcome: Result<(), String>) {
        let at = self.ports.clock.now();
        let again = self.sandboxes.jobs.waits(uid, FileJob::Volumes);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let made = pod.sandbox.is_ready();
        pod.volumes_asked = again && !made;
        self.turns.touch(uid);
        match (outcome, made) {
            (Ok(()), true) => {}
            (Err(error), true) => {
                warn!(pod = uid, error, "mounted configuration is not up to date");
            }
            (outcome, false) => {
                // What a pod names may come a moment after it.
                let late = matches!(pod.sandbox.volumes(), Volumes::Failed { at: before, .. } if *before + MOUNT_PATIENCE <= at);
                let failure = outcome.as_ref().err().filter(|_| late).cloned();
                pod.sandbox.volumes_tried(outcome, at);
                if let Some(message) = failure {
                    self.event(uid, None, true, "FailedMount", message);
                }
            }
        }
    }

    /// What a container mounts was opened, or cannot be.
    fn take_mounts(&mut self, uid: &str, which: Which, opened: Mounts) {
        self.set_opening(uid, which, false);
        self.sandboxes.jobs.keep_opened(uid, which, opened);
        self.turns.touch(uid);
    }

    fn set_opening(&mut self, uid: &str, which: Which, now: bool) {
        if let Some(container) = self.pods.get_mut(uid).and_then(|pod| pod.at_mut(which)) {
            container.opening = now;
        }
    }
}

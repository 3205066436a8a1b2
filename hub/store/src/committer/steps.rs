//! What is done between two batches, for somebody who waits for it: values are sealed anew, pages are counted.

use super::{Failure, Log, ResealStep, Shared, bytes_of};
use crate::CommitError;

impl Shared {
    /// Does all that somebody waits for.
    pub(super) fn take_steps(&self, log: &mut impl Log) {
        self.reseal_one(log);
        self.count_spare(log);
    }

    fn reseal_one(&self, log: &mut impl Log) {
        let Some(ResealStep { from, caller }) = self.inbox.lock().reseal.take() else { return };
        let answer = match log.reseal(&from) {
            Ok(done) => {
                self.inbox.lock().held.doubtful = 0;
                Ok(done)
            }
            Err(failure) => Err(self.step_failed(failure, log)),
        };
        // Who asked may have gone meanwhile.
        let _ = caller.send(answer);
    }

    fn count_spare(&self, log: &mut impl Log) {
        let callers = std::mem::take(&mut self.inbox.lock().counts);
        if callers.is_empty() {
            return;
        }
        let answer = log.count_spare().map_err(|failure| self.step_failed(failure, log));
        for caller in callers {
            let _ = caller.send(answer.clone());
        }
    }

    fn step_failed(&self, failure: Failure, log: &impl Log) -> CommitError {
        match failure {
            Failure::Refused(why) => CommitError::Unavailable(why),
            found @ Failure::Found(_) => {
                // What is in line was built without it.
                self.fail(found, bytes_of(log.doubtful()), Vec::new());
                CommitError::Unavailable("the disk has just come back".to_owned())
            }
        }
    }
}

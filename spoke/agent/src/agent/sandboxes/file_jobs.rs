//! What is to be done to pods' files: whose turn it is, what is at work, and what has come of it.
//!
//! ```text
//! want ─▶ waiting: urgent, then the rest ─▶ next ─ begin ─▶ at work, beside the agent ─▶ finished ─▶ take_finished
//! ```
//!
//! What a container waits for is urgent; volumes of pods that run are only brought up to date.
//!
//! Guarantees:
//! - of one pod things are done in the order in which they were wanted, and nothing of it waits twice
//!   (`what_a_pod_wants_is_done_in_its_order_and_once`);
//! - little is at work at a time, so that what is urgent waits for little (`little_is_at_work_at_a_time`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::files::Files;
use crate::pods::Which;
use crate::ports::Opened;

/// Jobs that are at work at a time: the next one is there when one ends, and what is urgent comes soon.
const AT_WORK_MAX: usize = 4;
/// Bytes of configuration that may be at work where another job begins. It may have as many as a pod may show.
const BYTES_AT_WORK: usize = 4 << 20;

/// What is to be done for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileJob {
    /// Its volumes are made, or brought up to date.
    Volumes,
    /// What this container mounts is opened.
    Mounts(Which),
}

/// What a container mounts, opened; `None`: its pod may open no more files.
pub(crate) type Mounts = Result<Option<Opened>, String>;

/// What has come of a job.
pub(crate) enum FileOutcome {
    Volumes(Result<(), String>),
    Mounts(Which, Mounts),
}

/// A job that has ended.
pub(crate) struct FinishedJob {
    pub(crate) uid: String,
    pub(crate) outcome: FileOutcome,
    bytes: usize,
}

/// What has ended, and who hears of it.
#[derive(Default)]
pub(crate) struct Finished {
    jobs: Mutex<VecDeque<FinishedJob>>,
    pub(crate) news: Notify,
}

type OfPod = (String, FileJob);

/// All of the device's.
pub(crate) struct FileJobs {
    files: Arc<dyn Files>,
    urgent: VecDeque<OfPod>,
    rest: VecDeque<OfPod>,
    /// All of those, and whether each is urgent.
    waiting: BTreeMap<OfPod, bool>,
    at_work: usize,
    bytes: usize,
    finished: Arc<Finished>,
    /// What was opened for a start that has not been looked at yet.
    opened: BTreeMap<(String, Which), Mounts>,
}

impl FileJobs {
    pub(super) fn new(files: Arc<dyn Files>) -> Self {
        let (urgent, rest, waiting, finished, opened) = Default::default();
        Self { files, urgent, rest, waiting, at_work: 0, bytes: 0, finished, opened }
    }

    /// Tells when something has ended.
    pub(crate) fn finished(&self) -> Arc<Finished> {
        self.finished.clone()
    }

    /// This is to be done, behind what was wanted for the pod before.
    pub(crate) fn want(&mut self, uid: &str, job: FileJob, urgent: bool) {
        let volumes = (uid.to_owned(), FileJob::Volumes);
        if urgent && self.waiting.get(&volumes) == Some(&false) {
            self.rest.retain(|waits| *waits != volumes);
            self.waiting.insert(volumes.clone(), true);
            self.urgent.push_back(volumes);
        }
        let of = (uid.to_owned(), job);
        if !self.waiting.contains_key(&of) {
            self.waiting.insert(of.clone(), urgent);
            let line = if urgent { &mut self.urgent } else { &mut self.rest };
            line.push_back(of);
        }
    }

    /// Whether this waits still.
    pub(crate) fn waits(&self, uid: &str, job: FileJob) -> bool {
        self.waiting.contains_key(&(uid.to_owned(), job))
    }

    /// The next one, when there is room: it is to begin now, or is not wanted any more.
    pub(crate) fn next(&mut self) -> Option<(String, FileJob)> {
        if AT_WORK_MAX <= self.at_work || BYTES_AT_WORK <= self.bytes {
            return None;
        }
        let next = self.urgent.pop_front().or_else(|| self.rest.pop_front())?;
        self.waiting.remove(&next);
        Some(next)
    }

    /// Has this done, which holds so many bytes.
    pub(crate) fn begin(
        &mut self,
        uid: &str,
        bytes: usize,
        work: impl FnOnce() -> FileOutcome + Send + 'static,
    ) {
        self.at_work += 1;
        self.bytes += bytes;
        let (finished, uid) = (self.finished.clone(), uid.to_owned());
        self.files.beside(Box::new(move || {
            let outcome = work();
            finished.jobs.lock().push_back(FinishedJob { uid, outcome, bytes });
            finished.news.notify_one();
        }));
    }

    /// The next one that has ended.
    pub(crate) fn take_finished(&mut self) -> Option<FinishedJob> {
        let job = self.finished.jobs.lock().pop_front()?;
        self.at_work = self.at_work.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(job.bytes);
        Some(job)
    }

    /// Keeps what was opened until the pod is looked at.
    pub(crate) fn keep_opened(&mut self, uid: &str, which: Which, mounts: Mounts) {
        self.opened.insert((uid.to_owned(), which), mounts);
    }

    /// What was opened for a start.
    pub(crate) fn take_opened(&mut self, uid: &str, which: Which) -> Option<Mounts> {
        self.opened.remove(&(uid.to_owned(), which))
    }

    /// The pod was looked at: what it has not taken, it does not start with.
    pub(crate) fn drop_opened(&mut self, uid: &str) {
        if !self.opened.is_empty() {
            self.opened.retain(|(of, _), _| of != uid);
        }
    }

    /// The pod is gone. Nothing of it is at work.
    pub(super) fn forget(&mut self, uid: &str) {
        self.drop_opened(uid);
        let before = self.waiting.len();
        self.waiting.retain(|of, _| of.0 != uid);
        if self.waiting.len() < before {
            self.urgent.retain(|of| of.0 != uid);
            self.rest.retain(|of| of.0 != uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeFiles;

    fn jobs() -> (Arc<FakeFiles>, FileJobs) {
        let files = Arc::new(FakeFiles::default());
        (files.clone(), FileJobs::new(files))
    }

    fn order(jobs: &mut FileJobs) -> Vec<(String, FileJob)> {
        std::iter::from_fn(|| jobs.next()).collect()
    }

    #[test]
    fn what_a_pod_wants_is_done_in_its_order_and_once() {
        let (_, mut jobs) = jobs();
        let mounts = FileJob::Mounts(Which::Main(0));
        for _ in 0..2 {
            for uid in ["a", "b", "c"] {
                jobs.want(uid, FileJob::Volumes, false);
            }
        }
        jobs.want("d", FileJob::Volumes, true);
        jobs.want("b", mounts, true);
        jobs.want("b", FileJob::Volumes, false);
        let of = |uid: &str, job| (uid.to_owned(), job);
        let expected = [
            of("d", FileJob::Volumes),
            of("b", FileJob::Volumes),
            of("b", mounts),
            of("a", FileJob::Volumes),
            of("c", FileJob::Volumes),
        ];
        assert_eq!(order(&mut jobs), expected);
        jobs.want("a", FileJob::Volumes, false);
        jobs.want("b", mounts, true);
        jobs.forget("b");
        assert!(jobs.waits("a", FileJob::Volumes) && !jobs.waits("b", mounts));
        assert_eq!(order(&mut jobs), [of("a", FileJob::Volumes)]);
        assert!(jobs.waiting.is_empty());
    }

    #[test]
    fn little_is_at_work_at_a_time() {
        let (files, mut jobs) = jobs();
        *files.held.lock() = Some(Vec::new());
        for number in 0..2 * AT_WORK_MAX {
            jobs.want(&number.to_string(), FileJob::Volumes, false);
        }
        let mut begun = 0;
        while let Some((uid, _)) = jobs.next() {
            jobs.begin(&uid, 1, || FileOutcome::Volumes(Ok(())));
            begun += 1;
        }
        assert_eq!(begun, AT_WORK_MAX);
        files.let_go();
        while jobs.take_finished().is_some() {}
        let (uid, _) = jobs.next().unwrap();
        jobs.begin(&uid, BYTES_AT_WORK, || FileOutcome::Volumes(Ok(())));
        assert!(jobs.next().is_none(), "one that is large is alone");
        files.let_go();
        assert!(jobs.take_finished().is_some() && jobs.next().is_some());
    }
}

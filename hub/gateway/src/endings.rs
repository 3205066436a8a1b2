//! Ends of sessions that the store does not know of yet: who waits to write one.
//!
//! Guarantees:
//! - of one ManagedCluster one end waits, the newest, and none of a session before the one that is in force: a device that
//!   comes and goes while the disk is full costs no more than one that went once
//!   (`a_device_that_comes_and_goes_while_the_disk_is_full_has_one_end_to_be_written`).

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::select;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::departures::Gone;
use crate::papers::Papers;
use crate::records::{self, AGAIN, Begun};

/// By the UID of their ManagedCluster, with the session's number.
#[derive(Debug, Default)]
pub(crate) struct Endings(Mutex<BTreeMap<String, (u64, oneshot::Sender<()>)>>);

impl Endings {
    /// A place for the end of this session, until what is answered resolves; none where a newer one has it.
    fn wait(&self, papers: &Papers, epoch: u64) -> Option<oneshot::Receiver<()>> {
        let mut all = self.0.lock();
        if all.get(&papers.uid).is_some_and(|(newest, _)| epoch < *newest) {
            return None;
        }
        let (place, lost) = oneshot::channel();
        // Whoever had it sees it dropped.
        all.insert(papers.uid.clone(), (epoch, place));
        Some(lost)
    }

    /// It is written, or need not be any more.
    fn done(&self, papers: &Papers, epoch: u64) {
        let mut all = self.0.lock();
        if all.get(&papers.uid).is_some_and(|(held, _)| *held == epoch) {
            all.remove(&papers.uid);
        }
    }

    /// A cluster that is gone leaves nothing behind: nobody writes its ends any more.
    pub(crate) fn forget(&self, gone: &Gone<'_>) {
        gone.take_from(&mut self.0.lock());
    }
}

/// Writes that a session is over as soon as the store can: a node is not ready for ever because a disk was full.
/// Unless a newer session has something to say, whose word is all that matters then.
pub(crate) async fn write(inner: &Inner, papers: &Papers, begun: &Begun, stop: &CancellationToken) {
    let epoch = begun.session.epoch;
    let Some(lost) = inner.endings.wait(papers, epoch) else { return };
    let newer_is_up = || {
        let links = inner.links.lock();
        links.get(&papers.cluster).is_some_and(|it| it.uid == papers.uid && epoch < it.epoch)
    };
    let again = async {
        loop {
            sleep(AGAIN).await;
            if newer_is_up() {
                return;
            }
            let reported = inner.reported.of(papers);
            let ended = records::end_session(&inner.objects, papers, begun, reported.as_ref());
            if ended.await.is_ok() {
                return;
            }
        }
    };
    select! {
        biased;
        // The next start of this hub ends the sessions of the one before.
        () = stop.cancelled() => {}
        // A newer one waits in its place, or its cluster is gone.
        _ = lost => {}
        () = again => {}
    }
    inner.endings.done(papers, epoch);
}

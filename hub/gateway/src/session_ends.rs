//! Ends of sessions that the store does not know of yet: who waits to write one.
//!
//! Guarantees:
//! - of one ManagedCluster one end waits, the newest, and none of a session before the one that is in force: a device
//!   that comes and goes while the disk is full costs no more than one that went once
//!   (`a_device_that_comes_and_goes_while_the_disk_is_full_has_one_end_to_be_written`).

use std::collections::BTreeMap;

use freewheel_hub_objects::Objects;
use parking_lot::Mutex;
use tokio::select;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::deleted_clusters::DeletedClusters;
use crate::links::Links;
use crate::reported::AllReported;
use crate::session_records::{self, Begun, WRITE_RETRY_EVERY};
use crate::spoke_identity::SpokeIdentity;

/// By the UID of their ManagedCluster, with the session's number.
#[derive(Debug, Default)]
pub(crate) struct SessionEnds(Mutex<BTreeMap<String, (u64, oneshot::Sender<()>)>>);

impl SessionEnds {
    /// A place for the end of this session, until what is answered resolves; none where a newer one has it.
    fn wait(&self, identity: &SpokeIdentity, epoch: u64) -> Option<oneshot::Receiver<()>> {
        let mut all = self.0.lock();
        if all.get(&identity.uid).is_some_and(|(newest, _)| epoch < *newest) {
            return None;
        }
        let (place, lost) = oneshot::channel();
        // Whoever had it sees it dropped.
        all.insert(identity.uid.clone(), (epoch, place));
        Some(lost)
    }

    /// It is written, or need not be any more.
    fn done(&self, identity: &SpokeIdentity, epoch: u64) {
        let mut all = self.0.lock();
        if all.get(&identity.uid).is_some_and(|(held, _)| *held == epoch) {
            all.remove(&identity.uid);
        }
    }

    /// A cluster that is gone leaves nothing behind: nobody writes its ends any more.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.0.lock());
    }
}

/// Writes that a session is over as soon as the store can: a node is not ready for ever because a disk was full.
/// Unless a newer session has something to say, whose word is all that matters then.
pub(crate) async fn write(
    ends: &SessionEnds,
    links: &Links,
    reported: &AllReported,
    objects: &Objects,
    identity: &SpokeIdentity,
    begun: &Begun,
    stop: &CancellationToken,
) {
    let epoch = begun.session.epoch;
    let Some(lost) = ends.wait(identity, epoch) else { return };
    let newer_is_up = || {
        let links = links.lock();
        links.get(&identity.cluster).is_some_and(|it| it.uid == identity.uid && epoch < it.epoch)
    };
    let again = async {
        loop {
            sleep(WRITE_RETRY_EVERY).await;
            if newer_is_up() {
                return;
            }
            let durable = reported.of(identity);
            let ended = session_records::end_session(objects, identity, begun, durable.as_ref());
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
    ends.done(identity, epoch);
}

//! The contract of all backends.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{self, BoxFuture, Either, Ready};

use crate::{CommitError, Committed, Compacted, Operation, Revision, Scope, Snapshot, Txn, Watch};

/// A read that may have to ask how far others are.
pub type Fresh<'a> = Either<Ready<Arc<dyn Snapshot>>, BoxFuture<'a, Arc<dyn Snapshot>>>;

/// The store. Reads are in memory and never wait; commits wait for the disk.
///
/// Whoever was answered by [`Store::commit`] finds what it wrote in every snapshot that it takes afterwards, and in
/// every watch from an earlier revision, without being called first.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Random and constant for the life of this data; a restore makes a new one.
    fn incarnation(&self) -> u64;
    /// Revisions that this life of the store left out when it began. Nobody has seen one of them in it: who has seen one
    /// comes from another life of the same data, in a future that is lost.
    fn left_out(&self) -> Range<Revision>;
    /// Lets the next commit that changes something have a revision beyond this one and do `mark` as well, whosever it is;
    /// nobody goes on from an earlier revision then, who is watching neither: it may be one of a future that is lost.
    /// Durable with that commit.
    fn skip_to(&self, beyond: Revision, mark: Operation);
    /// Commits, durably, before it returns. Who drops the future does not take the transaction back.
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError>;
    /// The newest durable state that is known here.
    fn snapshot(&self) -> Arc<dyn Snapshot>;
    /// A state that has everything that anybody was answered before this call, at whichever hub. Where this one alone
    /// writes, that is at hand.
    fn fresh(&self) -> Fresh<'_> {
        Either::Left(future::ready(self.snapshot()))
    }
    /// The state at this revision or a later one, once there is one: a client may have seen it at another hub. Waits as
    /// long as its caller does; cancel safe.
    async fn wait_for(&self, revision: Revision) -> Arc<dyn Snapshot>;
    /// One scope at exactly this revision, older ones as far back as a watch of it can start (for `continue` and
    /// exact lists). Nothing else of the snapshot is to be looked at. A revision that is not reached yet is an error
    /// too.
    fn snapshot_at(&self, of: &Scope, revision: Revision) -> Result<Arc<dyn Snapshot>, Compacted>;
    /// Gives back memory of the past. To be called every few minutes: what was there at the call before may go.
    fn compact_idle(&self) {}
    /// Events after `after` in any of the scopes; no scopes: of all API objects. Records of `internal` resources have
    /// no past: who follows them begins with [`Store::follow`].
    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted>;
    /// The newest state, and everything in the scopes that comes after it.
    fn follow(&self, scopes: Vec<Scope>) -> (Arc<dyn Snapshot>, Box<dyn Watch>) {
        loop {
            let snapshot = self.snapshot();
            // Whenever the past is not kept from there on, something newer is there already.
            if let Ok(watch) = self.watch(scopes.clone(), snapshot.revision()) {
                return (snapshot, watch);
            }
        }
    }
}

/// A number that no other life of any data has, by chance.
pub(crate) fn random_incarnation() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

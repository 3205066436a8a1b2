//! How the gateway writes what it keeps in the store beside API objects: sessions and leased pod ranges
//! ([`freewheel_hub_objects::internal`]).
//!
//! They go with the ManagedCluster: a controller deletes them, and `uid` says which one they were written for.
//!
//! Guarantees:
//! - a session that has ended is not called up by what comes late of its beginning
//!   (`a_session_whose_beginning_is_in_line_when_it_ends_is_over`,
//!   `a_session_whose_beginning_turns_up_in_the_file_after_its_end_is_over`).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_objects::Objects;
use freewheel_hub_objects::internal::{Reported, SessionRecord, pod_cidrs, session_key, sessions};
use freewheel_hub_schema::object::{Key, Object};
use freewheel_hub_store::{
    CommitError, Expect, Operation, Revision, Scope, Snapshot, Store, Stored, Txn,
};
use freewheel_link::message::is_pod_address;
use freewheel_link::names::ClusterName;
use tokio::time::timeout;
use tracing::warn;

use crate::epochs::Epochs;
use crate::spoke_identity::SpokeIdentity;

/// First address of the pod network, 10.64.0.0/10.
pub(crate) const POD_NETWORK_BASE: u32 = 0x0a40_0000;
/// /24 ranges in it.
pub(crate) const POD_CIDR_COUNT: u32 = 1 << 14;
/// Last part of the address that a range keeps for its node; pods begin behind it.
const NODE_HOST_PART: u8 = 1;
/// How often a write is tried while the store cannot.
pub(crate) const WRITE_RETRY_EVERY: Duration = Duration::from_secs(2);
/// Times that a write is tried against somebody else's.
const WRITE_TRIES_MAX: usize = 16;
/// What a device waits for is not held up for longer than this by a disk that stands still.
pub(crate) const DISK_WAIT_MAX: Duration = Duration::from_secs(1);

fn put(key: Key, found: Option<&Stored>, object: Object) -> Txn {
    let expect = match found {
        Some(stored) => Expect::Revision(key.clone(), stored.revision),
        None => Expect::Absent(key.clone()),
    };
    Txn { expect: vec![expect], operations: vec![Operation::Put(key, object)] }
}

/// The same, if the name is still the spoke's.
fn put_for(
    (state, identity): (&dyn Snapshot, &SpokeIdentity),
    key: Key,
    found: Option<&Stored>,
    object: Object,
) -> Txn {
    let mut txn = put(key, found, object);
    txn.expect.push(identity.hold(state));
    txn
}

/// A session with the next epoch.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) session: SessionRecord,
    /// Whether the store knows of it. Otherwise it may still hear of it: what was asked for is in line, or in the file
    /// behind a failure.
    pub(crate) written: bool,
}

/// What comes of a write that somebody waits for, when it comes soon. One that does not stays in line, and may be
/// written later.
pub(crate) async fn in_time<T>(
    written: impl Future<Output = Result<T, CommitError>>,
) -> Result<T, CommitError> {
    let late = |_| Err(CommitError::Unavailable("the disk takes its time".into()));
    timeout(DISK_WAIT_MAX, written).await.unwrap_or_else(late)
}

/// Opens a session with the next epoch. A store that cannot write now hears of it later: [`write_session`].
///
/// # Errors
/// When others open one again and again, when the name is another's by now, and when the store's writer has ended.
pub(crate) async fn open_session(
    store: &Arc<dyn Store>,
    epochs: &Epochs,
    identity: &SpokeIdentity,
    hub: &str,
    now: i64,
) -> Result<Begun, CommitError> {
    let mut last = CommitError::Unavailable("too many sessions of one spoke at once".into());
    for _ in 0..WRITE_TRIES_MAX {
        let key = session_key(identity.cluster.as_str());
        let found = store.snapshot().get(&key);
        let before = found.as_deref().and_then(SessionRecord::read);
        let stored = before.as_ref().map_or(0, |session| session.epoch);
        let reported = before.and_then(|session| session.reported);
        let session = SessionRecord {
            hub: hub.to_owned(),
            epoch: epochs.next(&identity.uid, stored),
            connected: true,
            since: now * 1000,
            uid: identity.uid.clone(),
            life: (identity.life.from, identity.life.to),
            late: false,
            reported: reported.filter(|reported| reported.uid == identity.uid),
        };
        let txn =
            put_for((&*store.snapshot(), identity), key, found.as_deref(), session.to_object());
        match in_time(store.commit(txn)).await {
            Ok(_) => return Ok(Begun { session, written: true }),
            Err(error @ CommitError::Unmet { index: 0, .. }) => last = error,
            Err(error @ (CommitError::Unavailable(_) | CommitError::Busy)) => {
                warn!(cluster = %identity.cluster, %error, "a session opens that cannot be written yet");
                return Ok(Begun { session, written: false });
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Writes a session that could not be written when it opened, unless the store knows of it or of a newer one.
pub(crate) async fn write_session(
    store: &Arc<dyn Store>,
    identity: &SpokeIdentity,
    session: &SessionRecord,
) -> Result<(), CommitError> {
    let key = session_key(identity.cluster.as_str());
    let found = store.snapshot().get(&key);
    let stored = found.as_deref().and_then(SessionRecord::read);
    if stored.is_some_and(|s| s.uid == session.uid && session.epoch <= s.epoch) {
        return Ok(());
    }
    // Whoever was faster is looked at by the next try.
    store
        .commit(put_for((&*store.snapshot(), identity), key, found.as_deref(), session.to_object()))
        .await
        .map(drop)
}

/// Says that a session is over, unless a newer one is in force.
///
/// # Errors
/// When the store cannot write.
async fn close_session(
    store: &Arc<dyn Store>,
    spoke: &ClusterName,
    which: (u64, &str),
    reported: Option<&Reported>,
    now: i64,
) -> Result<(), CommitError> {
    change_session(store, spoke, |session| {
        let ours = is_up(session, which);
        if ours {
            (session.connected, session.since) = (false, now * 1000);
            session.reported = reported.cloned().or_else(|| session.reported.take());
        }
        ours
    })
    .await
}

/// Says that a session is over that this hub has opened, unless a newer one is in force. Where the store knows nothing
/// of it the end is written all the same, so that its beginning finds it when it comes.
///
/// # Errors
/// When the store cannot write.
pub(crate) async fn end_session(
    objects: &Objects,
    identity: &SpokeIdentity,
    begun: &Begun,
    reported: Option<&Reported>,
) -> Result<(), CommitError> {
    let (store, session) = (objects.store(), &begun.session);
    let now = objects.clock().unix_seconds();
    if begun.written {
        let which = (session.epoch, &*session.uid);
        return close_session(store, &identity.cluster, which, reported, now).await;
    }
    let over = SessionRecord {
        connected: false,
        since: now * 1000,
        reported: reported.or(session.reported.as_ref()).cloned(),
        ..session.clone()
    };
    let over = over.to_object();
    let mut last = CommitError::Unavailable("too many sessions of one spoke at once".into());
    for _ in 0..WRITE_TRIES_MAX {
        let key = session_key(identity.cluster.as_str());
        let found = store.snapshot().get(&key);
        let said = found.as_deref().and_then(SessionRecord::read).is_some_and(|stored| {
            let ended = session.epoch == stored.epoch && !stored.connected;
            stored.uid == session.uid && (ended || session.epoch < stored.epoch)
        });
        // What is left of a ManagedCluster that is gone, or another's by now, is not this session's to write.
        if said || !identity.are_known(objects) {
            return Ok(());
        }
        match store
            .commit(put_for((&*store.snapshot(), identity), key, found.as_deref(), over.clone()))
            .await
        {
            Ok(_) => return Ok(()),
            Err(error @ CommitError::Unmet { .. }) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Says whether a session that is up takes plans.
pub(crate) async fn write_late(
    store: &Arc<dyn Store>,
    identity: &SpokeIdentity,
    epoch: u64,
    late: bool,
) -> Result<(), CommitError> {
    change_session(store, &identity.cluster, |session| {
        let news = is_up(session, (epoch, &identity.uid)) && session.late != late;
        if news {
            session.late = late;
        }
        news
    })
    .await
}

/// Remembers how long a spoke's new certificate is good for.
///
/// # Errors
/// When the store cannot write.
pub(crate) async fn note_certificate(
    store: &Arc<dyn Store>,
    new: &SpokeIdentity,
) -> Result<(), CommitError> {
    change_session(store, &new.cluster, |session| {
        let life = (new.life.from, new.life.to);
        let news = session.uid == new.uid && session.life != life;
        if news {
            session.life = life;
        }
        news
    })
    .await
}

fn is_up(session: &SessionRecord, (epoch, uid): (u64, &str)) -> bool {
    session.epoch == epoch && session.uid == uid && session.connected
}

/// Changes a session's record while `change` says that there is something to write.
async fn change_session(
    store: &Arc<dyn Store>,
    spoke: &ClusterName,
    change: impl Fn(&mut SessionRecord) -> bool + Send + Sync,
) -> Result<(), CommitError> {
    let mut last = CommitError::Unavailable("too many sessions of one spoke at once".into());
    for _ in 0..WRITE_TRIES_MAX {
        let key = session_key(spoke.as_str());
        let found = store.snapshot().get(&key);
        let Some(mut session) = found.as_deref().and_then(SessionRecord::read) else {
            return Ok(());
        };
        if !change(&mut session) {
            return Ok(());
        }
        match store.commit(put(key, found.as_deref(), session.to_object())).await {
            Ok(_) => return Ok(()),
            Err(error @ CommitError::Unmet { .. }) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// At which revision this spoke's session was last written.
pub(crate) fn session_revision(snapshot: &dyn Snapshot, spoke: &ClusterName) -> Option<Revision> {
    snapshot.get(&session_key(spoke.as_str())).map(|stored| stored.revision)
}

/// All sessions of this hub that say they are up.
pub(crate) fn up(snapshot: &dyn Snapshot, hub: &str) -> Vec<Arc<Stored>> {
    let scope = Scope { resource: sessions(), cluster: None, namespace: None };
    let up = |stored: &Arc<Stored>| {
        SessionRecord::read(stored).is_some_and(|session| session.connected && session.hub == hub)
    };
    snapshot.range(&scope, None).filter(up).collect()
}

/// The end of these sessions in one transaction, each as it was read.
pub(crate) fn ends<'a>(sessions: impl IntoIterator<Item = &'a Arc<Stored>>, now: i64) -> Txn {
    let mut txn = Txn::default();
    for stored in sessions {
        let Some(session) = SessionRecord::read(stored) else { continue };
        let over = SessionRecord { connected: false, since: now * 1000, ..session };
        let one = put(stored.key.clone(), Some(stored), over.to_object());
        txn.expect.extend(one.expect);
        txn.operations.extend(one.operations);
    }
    txn
}

/// Who serves this pod address in a realm.
#[must_use]
pub(crate) fn owner_of(
    snapshot: &dyn Snapshot,
    realm: &ClusterName,
    address: Ipv4Addr,
) -> Option<ClusterName> {
    let base = Ipv4Addr::from(u32::from(address) & 0xffff_ff00).to_string();
    lessee(&*snapshot.get(&Key::new(&pod_cidrs(), realm, "", &base))?)
}

/// Whose a leased range is.
pub(crate) fn lessee(lease: &Stored) -> Option<ClusterName> {
    ClusterName::try_from(std::str::from_utf8(&lease.object.body).ok()?).ok()
}

/// The address that the node with this range has in the realm, for others than its own pods.
pub(crate) fn node_address(range: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = range.octets();
    Ipv4Addr::new(a, b, c, NODE_HOST_PART)
}

/// Whether an address is a node's own in its realm.
pub(crate) fn is_node_address(address: Ipv4Addr) -> bool {
    is_pod_address(address) && address.octets()[3] == NODE_HOST_PART
}

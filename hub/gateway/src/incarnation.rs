//! Which life of the store this is, and how it is found out that its folder was put back from a copy.
//!
//! ```text
//! lives.internal  root/hub   {"incarnation","beyond","since"}: only after a roll-back
//!
//! a spoke holds revision 5000 of this life, the store stands at 4000
//!   ─▶ what came after 4000 is lost: a new life, from a revision that the lost one cannot have reached
//! ```
//!
//! Guarantees:
//! - revisions of the lost future are never used again, and who watches from one of them is told to list anew; a spoke
//!   that holds more than there ever was gets all of its plan, whether it is believed or not; it is said as an event
//!   (`a_spoke_from_a_lost_future_proves_the_roll_back_and_does_what_the_hub_wants`);
//! - what a spoke says that it holds keeps no other from its session, whatever the disk does
//!   (`a_spoke_from_a_lost_future_keeps_nobody_waiting_while_the_disk_stands_still`), nor that spoke itself
//!   (`a_spoke_from_a_lost_future_has_its_session_while_the_disk_is_full`).
//!
//! Assumes: one roll-back per life of the process. Nothing proves what a device says: one that lies can cost the fleet
//! one snapshot, and its watchers a list, once in that life.

use freewheel_hub_objects::Objects;
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::{Expect, Operation, Revision, Snapshot, Store, Txn};
use freewheel_link::digest::Digest;
use freewheel_link::generation::Generation;
use freewheel_link::names::ClusterName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use crate::object_refs::{CLUSTERS, object_ref, stamp};
use crate::session_records::{DISK_WAIT_MAX, in_time};
use crate::spoke_identity::{SpokeIdentity, how};

/// How far beyond what a spoke holds the lost future may have gone: weeks of writes.
const LOST_REVISIONS: u64 = 1 << 24;
/// Who claims to be further ahead than this is not believed.
const BELIEVED_AHEAD_REVISIONS: u64 = 1 << 32;

#[derive(Debug, Serialize, Deserialize)]
struct StoreIncarnation {
    incarnation: u64,
    beyond: u64,
    since: i64,
}

/// The incarnation that this process found first: another one now means that it has found a roll-back.
#[derive(Default)]
pub(crate) struct RollbackGuard(Mutex<Option<u64>>);

fn key() -> Key {
    Key::new(&Resource::new("internal", "lives"), &ClusterName::root(), "", "hub")
}

/// The incarnation of what this snapshot shows.
pub(crate) fn incarnation(store: &dyn Store, at: &dyn Snapshot) -> u64 {
    let life = at.get(&key()).and_then(|life| serde_json::from_slice(&life.object.body).ok());
    life.map_or_else(|| store.incarnation(), |life: StoreIncarnation| life.incarnation)
}

/// What is to be made of what a spoke holds: nothing, when it is of a future that this store does not have, unless it
/// begins another life of it. A disk that does not answer makes nobody wait for longer than a moment.
pub(crate) async fn known(
    rollback_guard: &RollbackGuard,
    objects: &Objects,
    identity: &SpokeIdentity,
    held: Generation,
) -> Generation {
    if !is_ahead(objects, held) {
        return held;
    }
    // Others may be ahead as well, and one of them begins the new life for all.
    let guard = timeout(DISK_WAIT_MAX, rollback_guard.0.lock()).await;
    let begun = match guard {
        Ok(mut first) => begin(&mut first, objects, identity, held).await,
        Err(_) => None,
    };
    match begun {
        Some(Begun::Now(copy)) => {
            // An event is no reason to wait, either.
            let _ = timeout(DISK_WAIT_MAX, tell(objects, identity, held.revision, copy)).await;
            held
        }
        Some(Begun::Before) => held,
        None => {
            warn!(
                cluster = %identity.cluster, generation = held.revision,
                "a spoke holds a plan that this hub has never made; it is sent everything anew"
            );
            Generation::NONE
        }
    }
}

/// Whether this is of the life that there is, and was never reached in it.
fn is_ahead(objects: &Objects, held: Generation) -> bool {
    let snapshot = objects.store().snapshot();
    let ours = incarnation(&**objects.store(), &*snapshot);
    held.incarnation == ours && snapshot.revision() < held.revision
}

/// A new life of the store.
enum Begun {
    /// By this spoke's word, and the revision at which the copy ended.
    Now(Revision),
    /// What the spoke holds is of the life before.
    Before,
}

/// Begins a new life of the store, the first time that a spoke is ahead of it in this life of the process.
async fn begin(
    first: &mut Option<u64>,
    objects: &Objects,
    identity: &SpokeIdentity,
    held: Generation,
) -> Option<Begun> {
    let store = objects.store();
    let snapshot = store.snapshot();
    let (ours, now) = (incarnation(&**store, &*snapshot), snapshot.revision());
    let first = *first.get_or_insert(ours);
    if held.incarnation != ours || held.revision <= now {
        return Some(Begun::Before);
    }
    if first != ours || BELIEVED_AHEAD_REVISIONS < held.revision - now {
        return None;
    }
    let mut seed = ours.to_be_bytes().to_vec();
    seed.extend(held.revision.to_be_bytes());
    seed.extend(now.to_be_bytes());
    let bytes: [u8; 8] = Digest::of(&seed).0[..8].try_into().unwrap_or_default();
    let since = objects.clock().unix_seconds();
    let beyond = held.revision + LOST_REVISIONS;
    let life = StoreIncarnation { incarnation: u64::from_be_bytes(bytes) | 1, beyond, since };
    let body = serde_json::to_vec(&life).unwrap_or_default();
    let object = Object { header: Header::default(), body: body.into() };
    // One that is in line behind a disk that stands still is not begun a second time.
    let expect = match snapshot.get(&key()) {
        Some(before) => Expect::Revision(key(), before.revision),
        None => Expect::Absent(key()),
    };
    store.skip_to(beyond);
    let operations = vec![Operation::Put(key(), object)];
    let written = in_time(store.commit(Txn { expect: vec![expect], operations })).await;
    if let Err(error) = written {
        warn!(cluster = %identity.cluster, %error, "a new life of the store cannot be written yet");
        return None;
    }
    error!(
        cluster = %identity.cluster, generation = held.revision, now,
        "a device says that it has taken a later plan than this hub's store can have made: the store is an older copy, \
         unless the device is wrong. What was written after the copy is lost; all devices are sent what is here, and \
         pods that are not here end"
    );
    Some(Begun::Now(now))
}

/// Says it where its user looks: at the cluster that has proven it.
async fn tell(objects: &Objects, identity: &SpokeIdentity, held: u64, now: u64) {
    let spoke = &identity.cluster;
    let at = objects.clock().unix_seconds();
    let at = stamp(u64::try_from(at).unwrap_or_default() * 1000);
    let (group, version, _) = CLUSTERS;
    let name = format!("{spoke}.rolled-back-{now:x}");
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {
            "apiVersion": format!("{group}/{version}"), "kind": "ManagedCluster", "name": spoke.as_str(),
            "uid": identity.uid,
        },
        "reason": "HubRolledBack", "type": "Warning",
        "message": format!(
            "This device says that it has taken a plan of revision {held}, and the hub's store ends at {now}: the store is \
             an older copy, unless the device is wrong. What was written in between is lost; pods that the copy does \
             not know end."
        ),
        "source": {"component": "hub"}, "reportingComponent": "hub", "reportingInstance": "hub",
        "firstTimestamp": at, "lastTimestamp": at, "count": 1,
    });
    let written = async {
        let place = object_ref(("", "v1", "events"), &ClusterName::root(), "default", &name)?;
        objects.create(&how(objects, identity), &place, event).await
    };
    if let Err(error) = written.await {
        debug!(%error, "the event about the older copy cannot be written");
    }
}

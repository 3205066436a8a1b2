//! Which life of the store this is, and how it is found out that its folder was put back from a copy.
//!
//! ```text
//! lives.internal  root/hub   {"incarnation","beyond","since"}: only after a roll-back
//!
//! a spoke holds revision 5000 of this life, the store stands at 4000, or has begun beyond 9000
//!   ─▶ what came after 4000 is lost: a new life, from a revision that the lost one cannot have reached
//! ```
//!
//! Each start begins beyond revisions of its own (`Store::left_out`), so that until that is known no number is used again
//! but by chance.
//!
//! Guarantees:
//! - once it is known, revisions of the lost future are not used any more, and whoever watches, or goes on from before, is
//!   told to list anew; a spoke that holds more than there ever was gets all of its plan, whether it is believed or not
//!   (`a_spoke_from_a_lost_future_proves_the_roll_back_and_does_what_the_hub_wants`);
//! - the first write beyond it is the new life's, whosever it is and whatever ends the process then: who comes when the hub
//!   has passed what he holds is believed nothing (`a_new_life_is_in_the_first_write_beyond_the_lost_one`);
//! - it is said as an event, and what a spoke says that it holds keeps no other from its session, whatever the disk does
//!   (`a_spoke_from_a_lost_future_keeps_nobody_waiting_while_the_disk_stands_still`), nor that spoke itself
//!   (`a_spoke_from_a_lost_future_has_its_session_while_the_disk_is_full`);
//! - nobody of a lost future is believed in the life of the process that has found it, though the new life is not written
//!   yet and however far others have written meanwhile; and it is written and told of soon after there is room
//!   (`a_roll_back_that_a_full_disk_held_up_is_told_when_there_is_room`);
//! - who lives in the new life goes on with what it holds (`who_lives_in_the_new_life_goes_on_with_what_it_holds`);
//! - who holds what this life left out at its beginning proves it, however far the hub has written since
//!   (`what_a_life_left_out_proves_a_roll_back_whatever_was_written_since`).
//!
//! Assumes: one roll-back per life of the process. Nothing proves what a device says: one that lies can cost the fleet
//! one snapshot, and its watchers a list, once in that life. A kill between the new life and its event loses the event;
//! the log has it. A spoke whose revision this life has used as well, by chance, or that comes after a second start from
//! the copy, proves nothing: it is sent what is otherwise here, by digest, as after each start.

use std::sync::OnceLock;

use freewheel_hub_objects::Objects;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::{CommitError, Expect, Operation, Revision, Snapshot, Store, Txn};
use freewheel_link::digest::Digest;
use freewheel_link::generation::Generation;
use freewheel_link::names::ClusterName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, error, warn};

use crate::object_refs::{CLUSTERS, object_ref, stamp};
use crate::session_records::{DISK_WAIT_MAX, WRITE_RETRY_EVERY};
use crate::spoke_identity::{SpokeIdentity, how};

/// How far beyond what a spoke holds the lost future may have gone: weeks of writes, and a dozen starts.
const LOST_REVISIONS_MAX: u64 = 1 << 36;
/// Who claims to be further ahead than this is not believed.
const BELIEVED_AHEAD_REVISIONS_MAX: u64 = 1 << 40;

#[derive(Debug, Serialize, Deserialize)]
struct StoreIncarnation {
    incarnation: u64,
    beyond: u64,
    since: i64,
}

/// One roll-back is found at most.
#[derive(Default)]
pub(crate) struct RollbackGuard {
    rollback: Mutex<Rollback>,
    /// Which life is over, and since when: what comes after that revision may be of the future that is lost, and what
    /// others write before the new life is there is beyond it.
    ended: OnceLock<Generation>,
}

#[derive(Default)]
struct Rollback {
    /// The incarnation that this process found first: another one now means that it has found a roll-back.
    first: Option<u64>,
    /// The new life is written and told of, however long the disk takes and whoever waits for it.
    beginning: Option<JoinHandle<()>>,
}

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
    if !rollback_guard.is_ahead(objects, held) {
        return held;
    }
    // Others may be ahead as well, and one of them begins the new life for all.
    if let Ok(mut rollback) = timeout(DISK_WAIT_MAX, rollback_guard.rollback.lock()).await {
        begin(&mut rollback, &rollback_guard.ended, objects, identity, held).await;
    }
    if !rollback_guard.is_ahead(objects, held) {
        return held;
    }
    warn!(
        cluster = %identity.cluster, generation = held.revision,
        "a spoke holds a plan that this hub has never made; it is sent everything anew"
    );
    Generation::NONE
}

impl RollbackGuard {
    /// Whether this is of the life that there is, and was never reached in it.
    fn is_ahead(&self, objects: &Objects, held: Generation) -> bool {
        let snapshot = objects.store().snapshot();
        let ours = incarnation(&**objects.store(), &*snapshot);
        let ended = self.ended.get().filter(|ended| ended.incarnation == ours);
        let reached = ended.map_or_else(|| snapshot.revision(), |ended| ended.revision);
        let is_left_out = || objects.store().left_out().contains(&held.revision);
        held.incarnation == ours && (reached < held.revision || is_left_out())
    }
}

/// Begins a new life of the store, the first time that a spoke is ahead of it in this life of the process. Returns when
/// it has begun, or after a moment.
async fn begin(
    rollback: &mut Rollback,
    ended: &OnceLock<Generation>,
    objects: &Objects,
    identity: &SpokeIdentity,
    held: Generation,
) {
    let store = objects.store();
    let snapshot = store.snapshot();
    let (ours, now) = (incarnation(&**store, &*snapshot), snapshot.revision());
    let first = *rollback.first.get_or_insert(ours);
    // What was left out begins where the store was opened.
    let left_out = store.left_out();
    let is_left_out = left_out.contains(&held.revision);
    let reached = if is_left_out { left_out.start.saturating_sub(1) } else { now };
    let ahead = held.revision.saturating_sub(reached);
    if held.incarnation != ours
        || first != ours
        || !(1..=BELIEVED_AHEAD_REVISIONS_MAX).contains(&ahead)
    {
        return;
    }
    let beginning = rollback.beginning.get_or_insert_with(|| {
        // Before anybody writes beyond it.
        let life = Generation { incarnation: ours, revision: now };
        let now = reached.min(ended.get_or_init(|| life).revision);
        let txn = new_incarnation(objects, &*snapshot, held);
        let (objects, identity) = (objects.clone(), identity.clone());
        let write = async move { write(&objects, &identity, txn, (held.revision, now)).await };
        tokio::spawn(write.in_current_span())
    });
    // It has said itself what came of it.
    let _ = timeout(DISK_WAIT_MAX, beginning).await;
}

/// What makes it one, from a revision that the lost future cannot have reached. Whoever writes next writes it.
fn new_incarnation(objects: &Objects, snapshot: &dyn Snapshot, held: Generation) -> Txn {
    let mut seed = held.incarnation.to_be_bytes().to_vec();
    seed.extend(held.revision.to_be_bytes());
    seed.extend(snapshot.revision().to_be_bytes());
    let bytes: [u8; 8] = Digest::of(&seed).0[..8].try_into().unwrap_or_default();
    let since = objects.clock().unix_seconds();
    let beyond = held.revision.max(snapshot.revision()) + LOST_REVISIONS_MAX;
    let life = StoreIncarnation { incarnation: u64::from_be_bytes(bytes) | 1, beyond, since };
    let body = serde_json::to_vec(&life).unwrap_or_default();
    let object = Object { header: Header::default(), body: body.into() };
    let expect = match snapshot.get(&key()) {
        Some(before) => Expect::Revision(key(), before.revision),
        None => Expect::Absent(key()),
    };
    let life = Operation::Put(key(), object);
    objects.store().skip_to(beyond, life.clone());
    Txn { expect: vec![expect], operations: vec![life] }
}

/// Whether it is there: another's write has taken it along, or it was written though the disk did not say so.
fn is_written(store: &dyn Store, life: &Txn) -> bool {
    let there = store.snapshot().get(&key());
    life.operations.iter().any(|it| {
        matches!((it, &there), (Operation::Put(_, life), Some(there)) if *life == there.object)
    })
}

/// Writes it, and tells of it as soon as that is so, each as often as the disk refuses it.
async fn write(
    objects: &Objects,
    identity: &SpokeIdentity,
    txn: Txn,
    (held, now): (Revision, Revision),
) {
    let store = objects.store();
    while let Err(error) = store.commit(txn.clone()).await {
        if is_written(&**store, &txn) {
            break;
        }
        if matches!(error, CommitError::Unmet { .. }) {
            // Somebody else has begun another one.
            return;
        }
        warn!(cluster = %identity.cluster, %error, "a new life of the store cannot be written yet");
        sleep(WRITE_RETRY_EVERY).await;
    }
    error!(
        cluster = %identity.cluster, generation = held, now,
        "a device says that it has taken a later plan than this hub's store can have made: the store is an older copy, \
         unless the device is wrong. What was written after the copy is lost; all devices are sent what is here, and \
         pods that are not here end"
    );
    while let Err(error) = record_rollback(objects, identity, held, now).await {
        warn!(cluster = %identity.cluster, %error, "the event about the older copy cannot be written yet");
        if error.code < 500 && error.code != 429 {
            return;
        }
        sleep(WRITE_RETRY_EVERY).await;
    }
}

/// Says it where its user looks: at the cluster that has proven it.
async fn record_rollback(
    objects: &Objects,
    identity: &SpokeIdentity,
    held: u64,
    now: u64,
) -> Result<(), ApiError> {
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
    let place = object_ref(("", "v1", "events"), &ClusterName::root(), "default", &name)?;
    objects.create(&how(objects, identity), &place, event).await.map(drop)
}

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
//!   (`a_spoke_from_a_lost_future_proves_the_roll_back_and_does_what_the_hub_wants`).
//!
//! Assumes: one roll-back per life of the process. A device that lies can cost the fleet one snapshot.

use freewheel_hub_objects::Objects;
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_hub_store::{CommitError, Operation, Snapshot, Store, Txn};
use freewheel_link::digest::Digest;
use freewheel_link::generation::Generation;
use freewheel_link::names::ClusterName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::{debug, error, warn};

use crate::object_refs::{CLUSTERS, object_ref, stamp};
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

/// Whether a roll-back was found in this life of the process.
#[derive(Default)]
pub(crate) struct RollbackGuard(Mutex<bool>);

fn key() -> Key {
    Key::new(&Resource::new("internal", "lives"), &ClusterName::root(), "", "hub")
}

/// The incarnation of what this snapshot shows.
pub(crate) fn incarnation(store: &dyn Store, at: &dyn Snapshot) -> u64 {
    let life = at.get(&key()).and_then(|life| serde_json::from_slice(&life.object.body).ok());
    life.map_or_else(|| store.incarnation(), |life: StoreIncarnation| life.incarnation)
}

/// What is to be made of what a spoke holds: nothing, when it is of a future that this store does not have.
pub(crate) async fn known(
    rollback_guard: &RollbackGuard,
    objects: &Objects,
    identity: &SpokeIdentity,
    held: Generation,
) -> Result<Generation, CommitError> {
    let spoke = &identity.cluster;
    let store = objects.store();
    let mut found = rollback_guard.0.lock().await;
    let snapshot = store.snapshot();
    let (ours, now) = (incarnation(&**store, &*snapshot), snapshot.revision());
    if held.incarnation != ours || held.revision <= now {
        return Ok(held);
    }
    if *found || BELIEVED_AHEAD_REVISIONS < held.revision - now {
        warn!(
            cluster = %spoke, generation = held.revision, now,
            "a spoke holds a plan that this hub has never made; it is sent everything anew"
        );
        return Ok(Generation::NONE);
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
    store.skip_to(beyond);
    let operations = vec![Operation::Put(key(), object)];
    store.commit(Txn { expect: Vec::new(), operations }).await?;
    *found = true;
    error!(
        cluster = %spoke, generation = held.revision, now,
        "this hub's store is an older copy: a device has taken a later plan. What was written after the copy is \
         lost; all devices are sent what is here, and pods that are not here end"
    );
    tell(objects, identity, held.revision, now).await;
    Ok(held)
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
            "The hub's store is an older copy: this device has taken a plan of revision {held}, and the copy ends \
             at {now}. What was written in between is lost; pods that the copy does not know end."
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

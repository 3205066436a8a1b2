//! Two devices with one identity: a copied data directory, started twice.
//!
//! ```text
//! A in session, B comes ─▶ does A answer? ─┬─ yes: there are two, and B is turned away
//!                                          └─ no: A has died or its link is cut, and B has the session
//! ```
//!
//! Nobody can know which of two is the right one: who has the session keeps it, until a person says which goes.
//!
//! Guarantees:
//! - a restart is never taken for a duplicate, whatever was before it: a process that has died acknowledges nothing, and
//!   its next one is in session within seconds (`a_device_that_was_started_again_is_let_in_within_seconds`), also when
//!   what it had sent arrives after it (`what_a_dead_process_had_on_its_way_is_no_answer`);
//! - while both run, the one in session stays, the other is told why, and the hub's people find an event and the
//!   condition [`CLUSTER_DUPLICATE`], which name both (`two_devices_with_one_identity_are_told_apart_and_told_of`);
//! - once the one in session is gone the other has it at its next try
//!   (`a_copied_data_directory_is_noticed_and_the_two_do_not_fight`), and however often it tries until then, little is
//!   written (`who_comes_again_and_again_is_told_of_now_and_then`);
//! - however many copies there are, they do not take turns (`many_copies_do_not_take_turns`), and one that comes in a loop
//!   costs the one in session little (`who_comes_in_a_loop_has_nobody_asked`);
//! - who never had a session is nobody's duplicate (`a_process_whose_session_never_opened_is_no_twin`);
//! - people hear that all is well once it has been calm for a while, and then nothing is remembered of the identity
//!   (`all_is_well_once_it_was_calm_for_a_while`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::{CLUSTER_DUPLICATE, Condition};
use freewheel_hub_objects::Objects;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_link::message::HubToSpoke;
use freewheel_link::names::ClusterName;
use freewheel_link::report::UnixMillis;
use freewheel_link::transport::Transport;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, interval, timeout};
use tracing::{debug, warn};

use crate::deleted_clusters::DeletedClusters;
use crate::links::Holder;
use crate::object_refs::{CLUSTERS, object_ref};
use crate::spoke_identity::{SpokeIdentity, how};

/// So long who is in session has to acknowledge what it is sent while another one waits: some round trips of a slow uplink
/// that loses packets. A device that died and was started again waits as long.
const HOLDER_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How often is looked whether it has.
const HOLDER_LOOKED_AT_EVERY: Duration = Duration::from_millis(50);
/// What the holder had on its way when it died has come by then.
const HOLDER_ASKED_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Openings for which the holder of one identity is asked, in a row and per second after that: each costs its uplink two
/// datagrams and what acknowledges them.
pub(crate) const HOLDER_ASKED_RATE: (u32, f64) = (256, 0.2);
/// A duplicate that was told comes back within two minutes: after several times that it is gone.
const DUPLICATE_CALM_AFTER: Duration = Duration::from_secs(600);
/// People are told no more often than this.
const DUPLICATE_TOLD_EVERY: Duration = Duration::from_secs(60);
/// And of the same one no more often than this: it tries several times a minute, and each word is two writes.
const DUPLICATE_TOLD_AGAIN_EVERY: Duration = Duration::from_secs(600);
const REASON: &str = "TwoDevicesOneIdentity";

/// What people hear of an identity that two devices use, or have used a while ago.
#[derive(Debug)]
struct Duplicate {
    /// Since when nobody has been turned away.
    calm_since: Instant,
    /// When people were last told, and of which process that was turned away.
    told: Option<(Instant, u64)>,
}

impl Default for Duplicate {
    fn default() -> Self {
        Self { calm_since: Instant::now(), told: None }
    }
}

/// Those of which people hear, by the UID of the ManagedCluster. Who has a session, and by which process, says its link
/// alone: nothing that is remembered here lets anybody in or keeps them out.
#[derive(Debug, Default)]
pub(crate) struct DuplicateIdentities(Mutex<BTreeMap<String, Duplicate>>);

impl DuplicateIdentities {
    /// Notes that this process was turned away; whether people are to hear of it now.
    pub(crate) fn turned_away(&self, uid: &str, instance: u64) -> bool {
        let mut all = self.0.lock();
        let found = all.entry(uid.to_owned()).or_default();
        let now = Instant::now();
        found.calm_since = now;
        let tell = found.told.is_none_or(|(at, away)| {
            let again = away == instance;
            let every = if again { DUPLICATE_TOLD_AGAIN_EVERY } else { DUPLICATE_TOLD_EVERY };
            at + every <= now
        });
        if tell {
            found.told = Some((now, instance));
        }
        tell
    }

    /// A cluster that is gone leaves nothing behind.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.0.lock());
    }

    /// How much longer it must be calm around this identity, of which something is said, to be called well; from now
    /// on where a hub that was started meanwhile remembers nothing.
    fn calm_in(&self, uid: &str) -> Duration {
        let mut all = self.0.lock();
        let found = all.entry(uid.to_owned()).or_default();
        DUPLICATE_CALM_AFTER.saturating_sub(found.calm_since.elapsed())
    }

    /// It was said that all is well. Whoever was turned away while that was written is told of anew at its next try, as
    /// the word of it may have been written over.
    fn said_well(&self, uid: &str) {
        let mut all = self.0.lock();
        let Some(found) = all.get_mut(uid) else { return };
        if DUPLICATE_CALM_AFTER <= found.calm_since.elapsed() {
            all.remove(uid);
        } else {
            found.told = None;
        }
    }
}

/// Whether the process in session acknowledges what it is sent now. It is asked twice: what was on its way when it died may
/// come after the first time, and nothing comes after the second.
pub(crate) async fn answers(objects: &Objects, holder: &Holder) -> bool {
    let link = &holder.transport;
    let twice = async {
        acknowledges(objects, link).await;
        tokio::time::sleep(HOLDER_ASKED_AGAIN_AFTER).await;
        acknowledges(objects, link).await;
    };
    tokio::select! {
        biased;
        _ = link.closed() => false,
        twice = timeout(HOLDER_ANSWERS_WITHIN, twice) => twice.is_ok(),
    }
}

/// Until something is acknowledged after this was sent. Spokes make nothing of the hub's time in a datagram.
async fn acknowledges(objects: &Objects, link: &Arc<dyn Transport>) {
    let before = link.acknowledged();
    let sent = postcard::to_stdvec(&HubToSpoke::Now(objects.clock().unix_millis()));
    link.send_datagram(sent.unwrap_or_default().into());
    let mut look = interval(HOLDER_LOOKED_AT_EVERY);
    while link.acknowledged() == before {
        look.tick().await;
    }
}

/// Tells the hub's people which two there are. Which of them has the copy it cannot know.
pub(crate) async fn report_duplicate(
    objects: &Objects,
    hub: &str,
    identity: &SpokeIdentity,
    holder: &Holder,
    away: SocketAddr,
) {
    let cluster = &identity.cluster;
    warn!(%cluster, peer = %away, "two devices use one identity: this one is turned away");
    let at = |millis: UnixMillis| time::from_unix(i64::try_from(millis / 1000).unwrap_or(i64::MAX));
    let message = format!(
        "two devices use the identity of {cluster}: the one at {} is in session since {} and was last heard at {}; the \
         one at {away} was turned away at {}. One of them has a copy of the other's data directory. The one in \
         session stays, and the other is let in when it is gone. On the copy remove DIR/identity and let it join \
         under a name of its own. This is said until only one has come for {} minutes",
        holder.transport.peer().address,
        at(holder.since),
        at(holder.heard),
        at(objects.clock().unix_millis()),
        DUPLICATE_CALM_AFTER.as_secs() / 60,
    );
    let told = async {
        write(objects, identity, true, REASON, &message).await?;
        event(objects, hub, identity, &message).await
    };
    if let Err(error) = told.await {
        warn!(%cluster, %error, "cannot say that two devices have one identity");
    }
}

/// Never ends by itself; says that all is well once no duplicate has come for a while.
pub(crate) async fn watch(
    duplicates: &DuplicateIdentities,
    objects: &Objects,
    identity: &SpokeIdentity,
) -> Infallible {
    loop {
        let mut wait = DUPLICATE_CALM_AFTER;
        if is_said(objects, identity) {
            let rest = duplicates.calm_in(&identity.uid);
            if rest.is_zero() {
                let text = "One device uses this identity";
                match Box::pin(write(objects, identity, false, "OneDevice", text)).await {
                    Ok(()) => duplicates.said_well(&identity.uid),
                    Err(error) => {
                        debug!(cluster = %identity.cluster, %error, "cannot say that one device has this identity");
                        wait = DUPLICATE_TOLD_EVERY;
                    }
                }
            } else {
                wait = rest;
            }
        }
        tokio::time::sleep(wait).await;
    }
}

fn is_said(objects: &Objects, identity: &SpokeIdentity) -> bool {
    let found = object_ref(CLUSTERS, &ClusterName::root(), "", identity.cluster.as_str())
        .and_then(|place| objects.get(&place)?.object.value());
    let Ok(found) = found else { return false };
    CLUSTER_DUPLICATE.holds(&found)
}

async fn write(
    objects: &Objects,
    identity: &SpokeIdentity,
    status: bool,
    reason: &str,
    message: &str,
) -> Result<(), ApiError> {
    let place = object_ref(CLUSTERS, &ClusterName::root(), "", identity.cluster.as_str())?;
    let now = time::from_unix(objects.clock().unix_seconds());
    let change = |mut value: Value| {
        if !identity.are_of(&value) {
            return Err(ApiError::new(409, "Conflict", "it is another cluster by now"));
        }
        let condition = Condition::new(&CLUSTER_DUPLICATE, status, reason, message);
        condition.put(&mut value["status"]["conditions"], &now);
        Ok(value)
    };
    objects.modify(&how(objects, identity), &place, Some("status"), change).await.map(drop)
}

/// One Event that counts up.
async fn event(
    objects: &Objects,
    hub: &str,
    identity: &SpokeIdentity,
    message: &str,
) -> Result<(), ApiError> {
    let now = time::from_unix(objects.clock().unix_seconds());
    let cluster = &identity.cluster;
    let name = format!("{cluster}.duplicate-identity");
    let place = object_ref(("", "v1", "events"), &ClusterName::root(), "default", &name)?;
    let value = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {
            "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
            "name": cluster.as_str(), "uid": identity.uid,
        },
        "reason": REASON, "message": message, "type": "Warning",
        "source": {"component": "freewheel-gateway"},
        "reportingComponent": "freewheel-gateway", "reportingInstance": hub,
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    });
    let count = |old: Option<Value>| {
        let Some(mut old) = old else { return Ok(value.clone()) };
        old["count"] = json!(old["count"].as_i64().unwrap_or(1).saturating_add(1));
        old["lastTimestamp"] = json!(now);
        old["message"] = json!(message);
        Ok(old)
    };
    objects.create_or_modify(&how(objects, identity), &place, count).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI: &str = "uid-of-pi-7";

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_and_again_is_told_of_now_and_then() {
        let duplicates = DuplicateIdentities::default();
        let mut told = 0;
        for _ in 0..360 {
            told += usize::from(duplicates.turned_away(PI, 1));
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(told, 6, "in an hour");
        assert!(duplicates.turned_away(PI, 2), "it is another one that is turned away");
        assert!(!duplicates.turned_away(PI, 2));
        duplicates.forget(&DeletedClusters::One(PI));
        assert!(duplicates.turned_away(PI, 2), "that was another cluster's");
    }

    #[tokio::test(start_paused = true)]
    async fn all_is_well_once_it_was_calm_for_a_while() {
        let duplicates = DuplicateIdentities::default();
        assert_eq!(duplicates.calm_in(PI), DUPLICATE_CALM_AFTER, "whatever the hub before it knew");
        let minute = Duration::from_secs(60);
        tokio::time::advance(minute).await;
        assert_eq!(duplicates.calm_in(PI), DUPLICATE_CALM_AFTER - minute);
        assert!(duplicates.turned_away(PI, 1));
        assert_eq!(duplicates.calm_in(PI), DUPLICATE_CALM_AFTER, "it begins anew");
        tokio::time::advance(DUPLICATE_CALM_AFTER).await;
        assert_eq!(duplicates.calm_in(PI), Duration::ZERO);

        // One comes while that is written.
        assert!(duplicates.turned_away(PI, 1) && !duplicates.turned_away(PI, 1));
        duplicates.said_well(PI);
        assert!(duplicates.turned_away(PI, 1), "its word may have been written over");
        tokio::time::advance(DUPLICATE_CALM_AFTER).await;
        duplicates.said_well(PI);
        assert!(duplicates.0.lock().is_empty());
    }
}

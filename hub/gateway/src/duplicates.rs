//! Two devices with one identity: a copied data directory, started twice.
//!
//! ```text
//! A in session ─▶ B comes, A is pushed out (a restart looks the same) ─▶ A comes back: two of them
//! ```
//!
//! Guarantees:
//! - a restart is never taken for a duplicate, for the process before it does not come back
//!   (`a_restart_is_no_twin_and_a_twin_is_one_when_it_comes_back`);
//! - while both run, the one in session stays, the other is told why, and the hub's people find an event and the
//!   condition [`CLUSTER_DUPLICATE`], which name both (`two_devices_with_one_identity_are_told_apart_and_told_of`);
//! - once the one in session is gone the other has it at its next try
//!   (`a_copied_data_directory_is_noticed_and_the_two_do_not_fight`), and however often it tries until then, little is
//!   written (`who_comes_again_and_again_is_told_of_now_and_then`);
//! - however many copies there are, they do not take turns (`many_copies_do_not_take_turns`);
//! - who never had a session is nobody's duplicate (`a_process_whose_session_never_opened_is_no_twin`);
//! - what is remembered of one identity has a bound (`many_restarts_are_not_remembered_for_ever`).

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use freewheel_hub_api::conditions::{CLUSTER_DUPLICATE, Condition};
use freewheel_hub_objects::Objects;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_link::names::ClusterName;
use freewheel_link::report::UnixMillis;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::deleted_clusters::DeletedClusters;
use crate::links::Holder;
use crate::object_refs::{CLUSTERS, object_ref};
use crate::spoke_identity::{SpokeIdentity, how};

/// Processes of one identity that are remembered: thousands of devices may have been made from one disk.
const PROCESSES_REMEMBERED: usize = 128;
/// For so long after one was turned away nobody new takes the session of who has it: a device that was started again comes
/// in when its former connection is found dead.
const DUPLICATE_CONTESTED_FOR: Duration = Duration::from_secs(300);
/// A duplicate that was told comes back within two minutes: after several times that it is gone.
const DUPLICATE_CALM_AFTER: Duration = Duration::from_secs(600);
/// People are told no more often than this.
const DUPLICATE_TOLD_EVERY: Duration = Duration::from_secs(60);
/// And of the same one no more often than this: it tries several times a minute, and each word is two writes.
const DUPLICATE_TOLD_AGAIN_EVERY: Duration = Duration::from_secs(600);
const REASON: &str = "TwoDevicesOneIdentity";

#[derive(Debug)]
struct SeenProcesses {
    current: u64,
    gone: VecDeque<u64>,
    contested: Option<Instant>,
    /// When people were last told, and of which one that was turned away.
    told: Option<(Instant, u64)>,
}

/// Which processes have come with which identity, by the UID of its ManagedCluster.
#[derive(Debug, Default)]
pub(crate) struct DuplicateIdentities(Mutex<BTreeMap<String, SeenProcesses>>);

/// What the hub makes of a process that comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It may have the session.
    Unique,
    /// Another one has it, and both are alive.
    Duplicate {
        /// People have not heard of it for a while.
        report: bool,
    },
}

impl DuplicateIdentities {
    /// A process comes; `busy` says whether another connection of the identity is up.
    pub(crate) fn arrives(&self, uid: &str, instance: u64, busy: bool) -> Arrival {
        let mut all = self.0.lock();
        let other = all.get_mut(uid).filter(|seen| busy && seen.current != instance);
        let Some(seen) = other else { return Arrival::Unique };
        let now = Instant::now();
        let is_back = seen.gone.contains(&instance);
        let is_contested = seen.contested.is_some_and(|at| now < at + DUPLICATE_CONTESTED_FOR);
        if !is_back && !is_contested {
            return Arrival::Unique;
        }
        seen.contested = Some(now);
        let report = seen.told.is_none_or(|(at, away)| {
            let again = away == instance;
            let every = if again { DUPLICATE_TOLD_AGAIN_EVERY } else { DUPLICATE_TOLD_EVERY };
            at + every <= now
        });
        if report {
            seen.told = Some((now, instance));
        }
        Arrival::Duplicate { report }
    }

    /// The session of a process has opened: the one before it is gone.
    pub(crate) fn opened(&self, uid: &str, instance: u64) {
        let mut all = self.0.lock();
        let Some(seen) = all.get_mut(uid) else {
            let gone = VecDeque::new();
            let seen = SeenProcesses { current: instance, gone, contested: None, told: None };
            all.insert(uid.to_owned(), seen);
            return;
        };
        if seen.current == instance {
            return;
        }
        seen.gone.retain(|known| *known != instance);
        seen.gone.push_back(std::mem::replace(&mut seen.current, instance));
        if PROCESSES_REMEMBERED < seen.gone.len() {
            seen.gone.pop_front();
        }
    }

    /// A cluster that is gone leaves nothing behind.
    pub(crate) fn forget(&self, gone: &DeletedClusters<'_>) {
        gone.take_from(&mut self.0.lock());
    }

    /// How much longer it must be quiet around this identity to be called well; from now on where a hub
    /// that was started meanwhile remembers nothing.
    fn calm_in(&self, uid: &str) -> Duration {
        let mut all = self.0.lock();
        let Some(seen) = all.get_mut(uid) else { return Duration::ZERO };
        let since = *seen.contested.get_or_insert_with(Instant::now);
        DUPLICATE_CALM_AFTER.saturating_sub(since.elapsed())
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
        holder.address,
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
                let written = Box::pin(write(objects, identity, false, "OneDevice", text)).await;
                if let Err(error) = written {
                    debug!(cluster = %identity.cluster, %error, "cannot say that one device has this identity");
                    wait = DUPLICATE_TOLD_EVERY;
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

    impl DuplicateIdentities {
        /// Comes, and its session opens if it may.
        fn arrive(&self, uid: &str, instance: u64, busy: bool) -> Arrival {
            let arrival = self.arrives(uid, instance, busy);
            if arrival == Arrival::Unique {
                self.opened(uid, instance);
            }
            arrival
        }
    }

    #[test]
    fn a_restart_is_no_twin_and_a_twin_is_one_when_it_comes_back() {
        let duplicates = DuplicateIdentities::default();
        assert_eq!(duplicates.arrive(PI, 1, false), Arrival::Unique);
        assert_eq!(duplicates.arrive(PI, 1, true), Arrival::Unique, "its link was cut");
        assert_eq!(duplicates.arrive(PI, 2, true), Arrival::Unique, "it was started again");
        assert_eq!(duplicates.arrive(PI, 1, true), Arrival::Duplicate { report: true });
        assert_eq!(duplicates.arrive(PI, 1, true), Arrival::Duplicate { report: false });
        assert_eq!(duplicates.arrive(PI, 2, true), Arrival::Unique, "who is in session stays");
        assert_eq!(duplicates.arrive(PI, 1, false), Arrival::Unique, "the other one is off");
        assert_eq!(duplicates.arrive(PI, 2, true), Arrival::Duplicate { report: false });
        duplicates.forget(&DeletedClusters::One(PI));
        assert_eq!(duplicates.arrive(PI, 2, true), Arrival::Unique);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_and_again_is_told_of_now_and_then() {
        let duplicates = DuplicateIdentities::default();
        for instance in [1, 2] {
            assert_eq!(duplicates.arrive(PI, instance, true), Arrival::Unique);
        }
        let mut told = 0;
        for _ in 0..360 {
            if duplicates.arrive(PI, 1, true) == (Arrival::Duplicate { report: true }) {
                told += 1;
            }
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(told, 6, "in an hour");
        assert_eq!(duplicates.arrive(PI, 1, false), Arrival::Unique, "the other one is off");
        let swapped = duplicates.arrive(PI, 2, true);
        assert_eq!(
            swapped,
            Arrival::Duplicate { report: true },
            "it is another one that is turned away"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn many_copies_do_not_take_turns() {
        let duplicates = DuplicateIdentities::default();
        let all = 0..100;
        let mut opened = 0;
        for _ in 0..60 {
            for instance in all.clone() {
                opened += usize::from(duplicates.arrive(PI, instance, true) == Arrival::Unique);
            }
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        // Each once, until the first is back; and who has the session.
        assert_eq!(opened, 100 + 60 - 1);
        let new = all.end;
        assert!(matches!(duplicates.arrive(PI, new, true), Arrival::Duplicate { .. }));
        assert_eq!(duplicates.arrive(PI, new, false), Arrival::Unique, "nobody is there");
    }

    #[test]
    fn many_restarts_are_not_remembered_for_ever() {
        let duplicates = DuplicateIdentities::default();
        for instance in 0..1000 {
            assert_eq!(duplicates.arrive(PI, instance, true), Arrival::Unique);
        }
        assert_eq!(duplicates.0.lock()[PI].gone.len(), PROCESSES_REMEMBERED);
    }
}

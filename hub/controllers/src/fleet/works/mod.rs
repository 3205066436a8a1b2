//! ManifestWorks: what lies in a cluster's namespace is applied in that cluster, and what becomes of it is told. The
//! cluster's own API is served by this hub, so that the agent that does this upstream on the device is a controller here.
//!
//! ```text
//! ManifestWork ─▶ apply, in order ─▶ AppliedManifestWork owns what was applied
//!      ▲                                    │ changed, gone
//!      └── status: conditions, feedback ◀───┘
//!  deleted ─▶ remove what it alone owns ─▶ AppliedManifestWork goes ─▶ it goes
//! ```
//!
//! Guarantees:
//! - what others change of an owned object is set right at once, and after that once in ten seconds, so that two who
//!   disagree do not fight (`what_others_change_is_set_right`); of one with `ignoreFields` only when its manifest changes,
//!   as upstream (`fields_that_are_left_to_others_stay`);
//! - what could not be applied is tried again, without an end (`what_could_not_be_applied_is_tried_again`);
//! - it is applied as soon as the kind that it waits for is there
//!   (`a_work_that_waits_for_a_kind_is_applied_as_soon_as_it_is_there`), and another of its name begins anew
//!   (`a_work_that_is_made_anew_begins_anew`);
//! - works of one cluster hold up none of another's (`works_of_one_cluster_hold_up_no_other`,
//!   `works_of_some_clusters_hold_up_no_other`);
//! - what is complete stays so when it is tidied away, and a complete work is left as it is
//!   (`what_is_complete_and_gone_is_not_made_again`);
//! - what a work no longer names goes, unless another work owns it, too (`what_a_work_no_longer_names_goes`),
//!   also what an unfinished round has applied (`what_a_long_round_has_applied_goes_with_the_rest`);
//! - a work goes after what it owns, and leaves what it orphans (`a_work_goes_after_what_it_owns`);
//! - what cannot be removed is told of, and holds up nothing else
//!   (`what_cannot_be_removed_is_told_and_holds_up_nothing_else`), and so is what waits for a finalizer
//!   (`a_work_goes_after_what_it_owns`, `what_holds_an_object_that_a_work_no_longer_names_is_told`);
//! - of a work with an executor only what that account may do itself is applied
//!   (`an_executor_applies_what_it_may_and_nothing_else`, `an_executor_gives_away_nothing_by_another_way`);
//! - a manifest is written as its kind is stored, and as nothing else (`a_manifest_is_written_as_its_kind_is_stored`,
//!   `a_kind_that_nobody_writes_is_written_by_no_work`, `nothing_is_taken_away_by_a_name_that_nobody_writes`);
//! - fields that are left to others stay as others have them (`fields_that_are_left_to_others_stay`);
//! - a work whose cluster goes holds nobody up (`works_of_a_cluster_go_with_it`).

mod apply;
mod asked;
mod end;
mod executor;
mod fault;
mod ignored;
mod leaving;
mod manifest;
mod result;
mod status;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_fleet::work::Work;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::registry::Registries;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::result::{Unfinished, Version};
use self::turns::Turns;
use super::api_group::{CLUSTER_GROUP, WORK_GROUP};
use crate::engine::client::{all_of, in_namespace, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;
use crate::rights::Rights;

/// Holds a work until what it owns is gone.
const FINALIZER: &str = "cluster.open-cluster-management.io/manifest-work-cleanup";
/// Between two looks at objects that nobody tells of: those that the work does not own.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Between two times that what others change is set right.
const SET_RIGHT_EVERY: Duration = Duration::from_secs(10);
/// Longest time between two tries of what could not be applied, about that of upstream's looks at all there is.
const LONGEST_BACKOFF: Duration = Duration::from_mins(4);
/// Works that are worked on at a time, of all clusters.
const WORKERS: usize = 64;
/// How long a work is worked on before others have their turn.
const ROUND_MAX: Duration = Duration::from_secs(2);

/// The controller.
pub struct Works {
    client: Client,
    works: Arc<Kind>,
    applied: Arc<Kind>,
    clusters: Arc<Kind>,
    /// What tells this hub from others that apply in the same cluster.
    hub_hash: String,
    /// When what was set right last.
    set_right: Mutex<HashMap<Key, (Version, Instant)>>,
    /// Rounds that took longer than their time.
    unfinished: Mutex<HashMap<Key, Unfinished>>,
    turns: Turns,
    rights: Arc<dyn Rights>,
}

impl Works {
    /// Writes through this client; the hub is known by its CA, and others know what callers may do.
    pub fn new(client: Client, ca_pem: &str, rights: Arc<dyn Rights>) -> Result<Self, Error> {
        Ok(Self {
            rights,
            client,
            works: kind(WORK_GROUP, "v1", "manifestworks")?,
            applied: kind(WORK_GROUP, "v1", "appliedmanifestworks")?,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            hub_hash: Digest::of(ca_pem.as_bytes()).hex(),
            set_right: Mutex::default(),
            unfinished: Mutex::default(),
            turns: Turns::default(),
        })
    }

    fn applied_key(&self, cluster: &ClusterName, work: &str) -> Key {
        key_of(&self.applied, cluster, "", &format!("{}-{work}", self.hub_hash))
    }

    /// The work that an AppliedManifestWork of a cluster is of.
    fn work_of(&self, cluster: &ClusterName, applied: &str) -> Option<Key> {
        let name = applied.strip_prefix(&self.hub_hash)?.strip_prefix('-')?;
        Some(key_of(&self.works, &ClusterName::root(), cluster.as_str(), name))
    }

    /// Works of a cluster that comes or goes.
    fn of_cluster(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let turns = |side: &Option<Arc<Stored>>| side.as_ref().map(|it| is_accepted(it));
        if turns(&event.before) == turns(&event.now) {
            return Vec::new();
        }
        let scope = in_namespace(&self.works, &ClusterName::root(), &key.name);
        now.range(&scope, None).map(|work| work.key.clone()).collect()
    }

    async fn sync(
        &self,
        stored: &Arc<Stored>,
        cluster: &Stored,
    ) -> Result<Option<Duration>, Error> {
        let object = stored.object.value().map_err(Error::api("read a ManifestWork"))?;
        let work = Work::read(&object).map_err(|error| Error::Refused(error.to_string()))?;
        let work = Arc::new(work);
        if !has_finalizer(&object) {
            let hold = |mut value: Value| {
                let list = &mut value["metadata"]["finalizers"];
                match list.as_array_mut() {
                    Some(list) => list.push(json!(FINALIZER)),
                    None => *list = json!([FINALIZER]),
                }
                Ok(value)
            };
            let held = self.client.modify_this(&self.works, stored, None, hold).await;
            held.map_err(Error::api("hold a ManifestWork"))?;
            // It comes once more by that.
            return Ok(None);
        }
        if let Some(later) = self.end_when_complete(stored, &object, &work).await? {
            return Ok(later);
        }
        let client = self.client.while_there(cluster);
        let Some(mut outcome) = self.apply(&client, stored, &object, &work).await? else {
            // After all others that wait.
            return Ok(Some(Duration::ZERO));
        };
        let (look_again, left) = (outcome.look_again, outcome.left.take());
        let still_there = left.as_ref().map(Error::chain).or(outcome.held.take());
        let has_faults = outcome.results.iter().any(|it| it.fault.is_some());
        self.write_status(stored, &work, outcome, still_there.as_deref()).await?;
        if let Some(left) = left {
            return Err(Error::Left { left: Box::new(left), look_again });
        }
        if has_faults {
            let why = "not all manifests could be applied";
            return Err(Error::Partly { why, look_again });
        }
        Ok(look_again)
    }
}

fn has_finalizer(object: &Value) -> bool {
    let all = object["metadata"]["finalizers"].as_array();
    all.is_some_and(|all| all.iter().any(|it| it == FINALIZER))
}

#[async_trait]
impl Controller for Works {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let content = self.client.objects().kinds().stored().storages(|_| true);
        content.into_iter().map(all_of).collect()
    }

    fn kinds(&self) -> Option<&Registries> {
        Some(self.client.objects().kinds())
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.cluster.is_root() {
            return match &key.resource {
                one if *one == *self.works.storage() => vec![key.clone()],
                one if *one == *self.clusters.storage() => self.of_cluster(event, now),
                _ => Vec::new(),
            };
        }
        if key.resource == *self.applied.storage() {
            return self.work_of(&key.cluster, &key.name).into_iter().collect();
        }
        let sides = event.now.iter().chain(event.before.iter());
        let owners = sides.flat_map(|side| side.object.header.owners.iter());
        let ours = owners.filter(|owner| owner.kind == self.applied.kind());
        let mut keys: Vec<Key> =
            ours.filter_map(|owner| self.work_of(&key.cluster, &owner.name)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Works that may have waited for it.
    fn of_new_storage(&self, cluster: &ClusterName, now: &dyn Snapshot) -> Vec<Key> {
        let scope = in_namespace(&self.works, &ClusterName::root(), cluster.as_str());
        now.range(&scope, None).map(|work| work.key.clone()).collect()
    }

    /// What stands in the way may be gone at any time, and nobody tells of it.
    fn longest_backoff(&self) -> Duration {
        LONGEST_BACKOFF
    }

    /// Each of them may wait for somebody: a webhook, a disk. They are tasks, and cost little while they do.
    fn workers(&self) -> usize {
        WORKERS
    }

    async fn outside(&self) -> Vec<Key> {
        self.turns.freed().await
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        // What lies in a namespace that cannot be a cluster's is nobody's work.
        let Ok(cluster) = ClusterName::try_from(&*key.namespace) else { return Ok(None) };
        let Some(_turn) = self.turns.begin(&cluster, key) else { return Err(Error::Later) };
        let snapshot = self.client.snapshot();
        let managed =
            snapshot.get(&key_of(&self.clusters, &ClusterName::root(), "", &key.namespace));
        let managed = managed.filter(|it| !it.object.header.deleting);
        let Some(work) = snapshot.get(key) else {
            self.set_right.lock().remove(key);
            self.unfinished.lock().remove(key);
            return self.evict(&cluster, &key.name).await;
        };
        if work.object.header.deleting {
            return self.end(&work, managed.is_some().then_some(&cluster)).await;
        }
        match managed.filter(|it| is_accepted(it)) {
            Some(managed) => self.sync(&work, &managed).await,
            None => Ok(None),
        }
    }
}

//! Says of each FlowSchema whether the level that it names is there and acts: one whose level does not decides nothing.
//!
//! Guarantees:
//! - the condition follows the level, also one that comes later or goes, in every cluster; levels that are suggested are
//!   there for all (`a_flow_schema_says_whether_its_level_is_there`);
//! - a level that is one too many is no level, and becomes one when there is room, whatever else its schema says
//!   (`a_flow_schema_says_that_its_level_is_one_too_many`);
//! - what comes of a level costs those that name it, or one that acts by that or does not any more
//!   (`a_level_costs_the_schemas_that_it_concerns`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{Condition, SCHEMA_DANGLING};
use freewheel_hub_api::kinds::flow_control::mandatory;
use freewheel_hub_fairness::{LEVELS_MAX, levels_that_act};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::Value;

use crate::engine::client::{everywhere, in_cluster, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::index::{IndexTerm, Indexes, level_of};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Why a level that is there does not act.
const TOO_MANY: &str = "TooManyLevels";

/// The controller.
pub struct FlowSchemas {
    client: Client,
    schemas: Arc<Kind>,
    levels: Arc<Kind>,
    /// Those that every cluster has.
    suggested: BTreeSet<String>,
    indexes: Indexes,
    /// Which of its own levels act in a cluster, as it was when one came or went.
    acting: Mutex<HashMap<ClusterName, BTreeSet<Arc<str>>>>,
}

impl FlowSchemas {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        let name = |level: &Value| level["metadata"]["name"].as_str().map(str::to_owned);
        let suggested = mandatory::levels().iter().filter_map(name).collect();
        let (schemas, levels) =
            (kind(GROUP, "v1", "flowschemas")?, kind(GROUP, "v1", "prioritylevelconfigurations")?);
        let acting = Mutex::default();
        Ok(Self { client, schemas, levels, suggested, indexes, acting })
    }

    fn condition(&self, snapshot: &dyn Snapshot, schema: &Key, level: &str) -> Condition<'static> {
        let key = key_of(&self.levels, &schema.cluster, "", level);
        let is_suggested = self.suggested.contains(level);
        let there = is_suggested || snapshot.get(&key).is_some();
        let named = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?}"
        );
        let acts = || is_suggested || self.acting(snapshot, &schema.cluster).contains(level);
        if there && !acts() {
            let text = format!(
                "{named} and it exists, but it does not act: of a cluster's levels {LEVELS_MAX} do, the suggested \
                 ones and then those that come first by their names"
            );
            Condition::new(&SCHEMA_DANGLING, true, TOO_MANY, text)
        } else if there {
            Condition::new(&SCHEMA_DANGLING, false, "Found", format!("{named} and it exists"))
        } else {
            let text = format!("{named} but there is no such object");
            Condition::new(&SCHEMA_DANGLING, true, "NotFound", text)
        }
    }
}

impl FlowSchemas {
    /// Levels of a cluster that requests are told apart by, and that are not left out as one too many, beside the suggested
    /// ones. No more are looked at than may act.
    fn acting(&self, snapshot: &dyn Snapshot, cluster: &ClusterName) -> BTreeSet<Arc<str>> {
        let is_own = |name: &Arc<str>| !self.suggested.contains(&**name);
        let all = snapshot.range(&in_cluster(&self.levels, cluster), None);
        let own = all.map(|level| level.key.name.clone()).filter(is_own).take(LEVELS_MAX);
        let suggested = self.suggested.iter().map(|name| Arc::<str>::from(name.as_str()));
        levels_that_act(suggested.chain(own)).filter(is_own).collect()
    }

    /// Levels that act now and did not when this was asked last, and those that did.
    fn turned(&self, snapshot: &dyn Snapshot, cluster: &ClusterName) -> Vec<Arc<str>> {
        let now = self.acting(snapshot, cluster);
        let mut all = self.acting.lock();
        let before = if now.is_empty() {
            all.remove(cluster)
        } else {
            all.insert(cluster.clone(), now.clone())
        };
        // At start each schema is looked at anyhow.
        before.map_or_else(Vec::new, |before| before.symmetric_difference(&now).cloned().collect())
    }
}

#[async_trait]
impl Controller for FlowSchemas {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.schemas), everywhere(&self.levels)]
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.schemas.storage() {
            return event.now.iter().map(|stored| stored.key.clone()).collect();
        }
        // One that has changed is as there as it was.
        if event.before.is_some() && event.now.is_some() {
            return Vec::new();
        }
        let mut levels = self.turned(now, &key.cluster);
        levels.push(key.name.clone());
        levels.sort_unstable();
        levels.dedup();
        let of = |level: &Arc<str>| {
            let term = IndexTerm::Level(&key.cluster, level);
            self.indexes.flow_schemas.find(term)
        };
        levels.iter().flat_map(of).map(|schema| schema.stored.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(stored) = snapshot.get(key) else { return Ok(None) };
        if stored.object.header.deleting {
            return Ok(None);
        }
        let doing = "say whether a FlowSchema's level is there";
        let mut schema = stored.object.value().map_err(Error::api(doing))?;
        let condition = self.condition(&*snapshot, key, level_of(&schema));
        let now = rfc3339(self.client.clock.now());
        if !condition.put(&mut schema["status"]["conditions"], &now) {
            return Ok(None);
        }
        let change = |mut value: Value| {
            condition.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        self.client
            .modify_this(&self.schemas, &stored, Some("status"), change)
            .await
            .map_err(Error::api(doing))?;
        Ok(None)
    }
}

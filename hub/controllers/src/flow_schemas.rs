//! Says of each FlowSchema whether the level that it names is there and acts: one whose level does not decides nothing.
//!
//! Guarantees:
//! - the condition follows the level, also one that comes later or goes, in every cluster; levels that are suggested are
//!   there for all (`a_flow_schema_says_whether_its_level_is_there`);
//! - a level that is one too many is no level, and becomes one when there is room
//!   (`a_flow_schema_says_that_its_level_is_one_too_many`).

use std::collections::BTreeSet;
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
use serde_json::Value;

use crate::engine::client::{everywhere, in_cluster, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};

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
}

impl FlowSchemas {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let name = |level: &Value| level["metadata"]["name"].as_str().map(str::to_owned);
        let suggested = mandatory::levels().iter().filter_map(name).collect();
        let (schemas, levels) =
            (kind(GROUP, "v1", "flowschemas")?, kind(GROUP, "v1", "prioritylevelconfigurations")?);
        Ok(Self { client, schemas, levels, suggested })
    }

    fn condition(&self, snapshot: &dyn Snapshot, schema: &Key, level: &str) -> Condition<'static> {
        let key = key_of(&self.levels, &schema.cluster, "", level);
        let is_suggested = self.suggested.contains(level);
        let there = is_suggested || snapshot.get(&key).is_some();
        let named = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?}"
        );
        if there && !is_suggested && !self.acts(snapshot, &schema.cluster, level) {
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
    /// Levels that a cluster has beside the suggested ones, by name.
    fn own(&self, snapshot: &dyn Snapshot, cluster: &ClusterName) -> Vec<Arc<str>> {
        let all = snapshot.range(&in_cluster(&self.levels, cluster), None);
        let names = all.map(|level| level.key.name.clone());
        names.filter(|name| !self.suggested.contains(&**name)).collect()
    }

    /// Whether a level is one of those that requests are told apart by, and not left out as one too many.
    fn acts(&self, snapshot: &dyn Snapshot, cluster: &ClusterName, level: &str) -> bool {
        let own = self.own(snapshot, cluster);
        let suggested = self.suggested.iter().map(String::as_str);
        levels_that_act(suggested.chain(own.iter().map(|name| &**name))).any(|name| name == level)
    }
}

/// The level that a schema names.
fn level_of(schema: &Value) -> &str {
    let name = schema.pointer("/spec/priorityLevelConfiguration/name");
    name.and_then(Value::as_str).unwrap_or_default()
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
        let all = now.range(&in_cluster(&self.schemas, &key.cluster), None);
        // Where there are as many as may act, one that comes changes which others do. One that goes makes room for those
        // that were told that there is none: how many there were then is not known any more.
        let levels = self.suggested.len() + self.own(now, &key.cluster).len();
        let is_crowded = event.now.is_some() && LEVELS_MAX <= levels;
        let concerns = all.filter(|schema| {
            let concerns = |schema: Value| {
                let level = level_of(&schema);
                let waits = schema["status"]["conditions"][0]["reason"] == TOO_MANY;
                level == &*key.name || waits || is_crowded && !self.suggested.contains(level)
            };
            schema.object.value().is_ok_and(concerns)
        });
        concerns.map(|schema| schema.key.clone()).collect()
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

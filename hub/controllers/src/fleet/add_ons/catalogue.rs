//! ClusterManagementAddOns: a ManagedClusterAddOn on each cluster that their placements choose, and what it is set up by.
//!
//! Guarantees:
//! - an add-on is on the clusters that are chosen, and on no others, whatever becomes of decisions that are not whole
//!   (`an_add_on_follows_its_placements`);
//! - a configuration goes on only as far as its rollout says (`a_configuration_goes_on_as_far_as_those_that_have_it`);
//! - who says that he looks after an add-on himself does (`an_add_on_that_looks_after_itself_is_left_alone`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::ADD_ON_PROGRESSING;
use freewheel_hub_fleet::add_on::configs::{Config, Desired, Reference};
use freewheel_hub_fleet::rollout::Strategy;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::super::api_group::{ADD_ON_GROUP, CLUSTER_GROUP};
use super::super::choice::{Choice, choice};
use super::asked::{asked_placements, is_by_placements, is_managed, put_concurrency, said_of};
use super::config_object::{ConfigKinds, may_name};
use super::progression::{Instance, Placement, Plan, plan};
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error, Faults};
use crate::index::{ADD_ON_NAME, AddOnEntry, IndexTerm, Indexes};

/// The controller.
pub struct AddOns {
    pub(super) client: Client,
    indexes: Indexes,
    pub(super) add_ons: Arc<Kind>,
    pub(super) instances: Arc<Kind>,
    pub(super) clusters: Arc<Kind>,
    placements: Arc<Kind>,
    decisions: Arc<Kind>,
    pub(super) configs: ConfigKinds,
}

impl AddOns {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            add_ons: kind(ADD_ON_GROUP, "v1alpha1", "clustermanagementaddons")?,
            instances: kind(ADD_ON_GROUP, "v1alpha1", "managedclusteraddons")?,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            placements: kind(CLUSTER_GROUP, "v1beta1", "placements")?,
            decisions: kind(CLUSTER_GROUP, "v1beta1", "placementdecisions")?,
            configs: ConfigKinds::new()?,
        })
    }

    fn key(&self, name: &str) -> Key {
        key_of(&self.add_ons, &ClusterName::root(), "", name)
    }

    fn instances_of(&self, add_on: &str) -> Vec<Arc<AddOnEntry>> {
        let root = ClusterName::root();
        self.indexes.add_ons.find(IndexTerm::Label(&root, "", ADD_ON_NAME, add_on))
    }

    /// The placements by which an add-on is installed; nothing, while decisions of one are on their way.
    fn placements(
        &self,
        object: &Value,
        now: &dyn Snapshot,
    ) -> Result<Option<Vec<Placement>>, Error> {
        let mut out = Vec::new();
        for asked in asked_placements(object) {
            let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            let chosen = choice((now, &self.placements), &self.indexes, (&namespace, &name));
            let groups = match chosen.map_err(Error::api("read a Placement"))? {
                Choice::Groups(groups) => groups,
                Choice::NotFound => Vec::new(),
                Choice::Unsettled => return Ok(None),
            };
            let strategy = Strategy::read(&asked["rolloutStrategy"]);
            let mut strategy = strategy.map_err(|wrong| Error::Refused(wrong.to_string()))?;
            if strategy.kind == "Progressive" {
                let per_group = self.clusters_per_group(&namespace, &name, now)?;
                put_concurrency(&mut strategy, per_group);
            }
            let before = said_of(object, &namespace, &name);
            let configs = self.desired(&asked["configs"], &before["configReferences"], now)?;
            out.push(Placement { namespace, name, configs, strategy, groups });
        }
        Ok(Some(out))
    }

    /// How many a Placement has in a group, as it says it.
    fn clusters_per_group(
        &self,
        namespace: &str,
        name: &str,
        now: &dyn Snapshot,
    ) -> Result<Value, Error> {
        let key = key_of(&self.placements, &ClusterName::root(), namespace, name);
        let Some(stored) = now.get(&key) else { return Ok(Value::Null) };
        let object = stored.object.value().map_err(Error::api("read a Placement"))?;
        let path = "/spec/decisionStrategy/groupStrategy/clustersPerDecisionGroup";
        Ok(object.pointer(path).cloned().unwrap_or_default())
    }

    /// Configurations that a list names, as they are now.
    fn desired(
        &self,
        list: &Value,
        said: &Value,
        now: &dyn Snapshot,
    ) -> Result<Vec<Desired>, Error> {
        let all = list.as_array().into_iter().flatten().filter_map(Config::read);
        self.with_hashes(all, said, now)
    }

    fn with_hashes(
        &self,
        all: impl Iterator<Item = Config>,
        said: &Value,
        now: &dyn Snapshot,
    ) -> Result<Vec<Desired>, Error> {
        let said = Reference::all(said);
        let hash = |config: &Config| {
            let one = said.iter().find(|it| it.desired.config == *config);
            one.map_or("", |it| &*it.desired.hash)
        };
        all.map(|config| {
            let hash = hash(&config);
            self.configs.desired(now, config, hash)
        })
        .collect::<Result<_, _>>()
        .map_err(Error::api("read a configuration of an add-on"))
    }

    fn instance(&self, stored: &Stored, now: &dyn Snapshot) -> Result<Instance, Error> {
        let object = stored.object.value().map_err(Error::api("read a ManagedClusterAddOn"))?;
        let own =
            self.desired(&object["spec"]["configs"], &object["status"]["configReferences"], now)?;
        let mut references = Reference::all(&object["status"]["configReferences"]);
        for reference in &mut references {
            // Its own are given to it as they are: they are nobody's rollout.
            if let Some(own) = own.iter().find(|own| own.config == reference.desired.config) {
                reference.desired.hash.clone_from(&own.hash);
            }
        }
        let said = ADD_ON_PROGRESSING.find(&object);
        let text = |key: &str| said.and_then(|it| it[key].as_str()).unwrap_or_default();
        let progress = (text("reason").to_owned(), text("lastTransitionTime").parse().ok());
        Ok(Instance { cluster: stored.key.namespace.to_string(), own, references, progress })
    }

    async fn sync(&self, stored: &Arc<Stored>, object: &Value) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let Some(placements) = self.placements(object, &*now)? else { return Ok(None) };
        let instances = self.instances_of(&stored.key.name);
        let mut faults = Faults::default();
        if is_by_placements(object) {
            self.install(stored, &placements, &instances, &mut faults).await;
        }
        let defaults = object["spec"]["supportedConfigs"].as_array().into_iter().flatten();
        let said = &object["status"]["defaultconfigReferences"];
        let defaults = self.with_hashes(defaults.filter_map(Config::default_of), said, &*now)?;
        let there = instances.iter().filter(|it| !it.stored.object.header.deleting);
        let there: Vec<Instance> =
            there.map(|it| self.instance(&it.stored, &*now)).collect::<Result<_, _>>()?;
        let said = (&object["status"]["installProgressions"], self.client.clock.now());
        let plan = plan(&defaults, &placements, &there, said);
        let plan = plan.map_err(|wrong| Error::Refused(wrong.to_string()))?;
        let told = self.write_status(stored, &defaults, &plan).await;
        faults.note(told);
        for entry in &instances {
            let instance = there.iter().find(|it| it.cluster == *entry.stored.key.namespace);
            let Some(instance) = instance else { continue };
            let change = plan.changes.get(&instance.cluster);
            faults.note(self.own(&entry.stored, stored).await);
            faults.note(self.configure(&entry.stored, instance, change, &*now).await);
        }
        faults.end()?;
        let rest = plan.look_again.map(|at| at.duration_since(self.client.clock.now()));
        Ok(rest.map(|rest| Duration::try_from(rest).unwrap_or_default()))
    }

    async fn write_status(
        &self,
        stored: &Arc<Stored>,
        defaults: &[Desired],
        plan: &Plan,
    ) -> Result<(), Error> {
        let defaults: Vec<Value> = defaults.iter().map(Desired::reference).collect();
        let change = |mut value: Value| {
            value["status"]["defaultconfigReferences"] = json!(defaults);
            value["status"]["installProgressions"] = json!(plan.progressions);
            Ok(value)
        };
        let said = self.client.modify_this(&self.add_ons, stored, Some("status"), change).await;
        said.map(drop).map_err(Error::api("write the status of a ClusterManagementAddOn"))
    }

    /// Add-ons that may be set up by this object.
    fn set_up_by(&self, config: &Key, now: &dyn Snapshot) -> Vec<Key> {
        let named = now.range(&everywhere(&self.add_ons), None).filter(|it| may_name(it, config));
        let mut keys: BTreeSet<Key> = named.map(|it| it.key.clone()).collect();
        let own = now.range(&everywhere(&self.instances), None).filter(|it| may_name(it, config));
        keys.extend(own.map(|it| self.key(&it.key.name)));
        keys.into_iter().collect()
    }

    /// Add-ons that are installed by this Placement.
    fn installed_by(&self, namespace: &str, name: Option<&str>, now: &dyn Snapshot) -> Vec<Key> {
        let names = |stored: &Arc<Stored>| {
            let object = stored.object.value().unwrap_or_default();
            asked_placements(&object).any(|it| {
                it["namespace"] == namespace && name.is_none_or(|name| it["name"] == name)
            })
        };
        let all = now.range(&everywhere(&self.add_ons), None);
        all.filter(names).map(|it| it.key.clone()).collect()
    }
}

#[async_trait]
impl Controller for AddOns {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let ConfigKinds { templates, deployment_configs } = &self.configs;
        let (placements, decisions) = (&self.placements, &self.decisions);
        [&self.add_ons, &self.instances, placements, decisions, templates, deployment_configs]
            .map(|kind| everywhere(kind))
            .into()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        match &key.resource {
            one if *one == *self.add_ons.storage() => vec![key.clone()],
            one if *one == *self.instances.storage() => vec![self.key(&key.name)],
            one if self.configs.are_in(one) => self.set_up_by(key, now),
            one if *one == *self.placements.storage() => {
                self.installed_by(&key.namespace, Some(&key.name), now)
            }
            _ => self.installed_by(&key.namespace, None, now),
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let stored = self.client.snapshot().get(key);
        let Some(stored) = stored.filter(|it| !it.object.header.deleting) else { return Ok(None) };
        let object = stored.object.value().map_err(Error::api("read a ClusterManagementAddOn"))?;
        if !is_managed(&object) {
            return Ok(None);
        }
        self.sync(&stored, &object).await
    }
}

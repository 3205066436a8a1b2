//! ClusterManagementAddOns: a ManagedClusterAddOn on each cluster that their placements choose, and what it is set up by.
//!
//! Guarantees:
//! - an add-on is on the clusters that are chosen, and on no others, whatever becomes of decisions that are not whole
//!   (`an_add_on_follows_its_placements`), also where a cluster comes after it was chosen
//!   (`a_cluster_that_comes_late_gets_its_add_on`);
//! - a configuration goes on only as far as its rollout says (`a_configuration_goes_on_as_far_as_those_that_have_it`);
//! - who says that he looks after an add-on himself does (`an_add_on_that_looks_after_itself_is_left_alone`);
//! - what changes on one cluster costs what is of it there, on however many clusters the add-on is
//!   (`what_changes_on_a_cluster_costs_that_cluster`), also while another one resists
//!   (`a_cluster_that_resists_costs_that_cluster`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_fleet::add_on::configs::{Config, Desired, Reference};
use freewheel_hub_fleet::rollout::{Group, Strategy};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::api_group::{ADD_ON_GROUP, CLUSTER_GROUP};
use super::super::choice::{Choice, choice};
use super::asked::{
    asked_placements, asks_for_something_else, is_by_placements, is_managed, put_concurrency,
    said_of,
};
use super::config_object::{ConfigKinds, config_of, may_name};
use super::known::{Known, KnownAddOns, Touched};
use super::progression::{Placement, Plan, plan};
use super::waits::note;
use crate::engine::client::{everywhere, in_cluster, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::index::{Indexes, PLACEMENT_LABEL};

/// The controller.
pub struct AddOns {
    pub(super) client: Client,
    pub(super) indexes: Indexes,
    pub(super) add_ons: Arc<Kind>,
    pub(super) instances: Arc<Kind>,
    pub(super) clusters: Arc<Kind>,
    namespaces: Arc<Kind>,
    placements: Arc<Kind>,
    decisions: Arc<Kind>,
    pub(super) configs: ConfigKinds,
    known: KnownAddOns,
}

/// What came of a look.
enum Looked {
    /// It is done; to be done again then, though nothing changes.
    Done(Option<Duration>),
    /// Decisions of a placement are on their way.
    Unsettled,
    /// What came of it could not be said.
    Untold(Error),
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
            namespaces: kind("", "v1", "namespaces")?,
            placements: kind(CLUSTER_GROUP, "v1beta1", "placements")?,
            decisions: kind(CLUSTER_GROUP, "v1beta1", "placementdecisions")?,
            configs: ConfigKinds::new()?,
            known: KnownAddOns::default(),
        })
    }

    fn key(&self, name: &str) -> Key {
        key_of(&self.add_ons, &ClusterName::root(), "", name)
    }

    pub(super) fn instance_key(&self, add_on: &str, cluster: &str) -> Key {
        key_of(&self.instances, &ClusterName::root(), cluster, add_on)
    }

    /// The placements by which an add-on is installed; nothing, while decisions of one are on their way.
    fn placements(
        &self,
        object: &Value,
        known: &mut Known,
        now: &dyn Snapshot,
    ) -> Result<Option<Vec<Placement>>, Error> {
        let mut out = Vec::new();
        for asked in asked_placements(object) {
            let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            let Some(groups) = self.groups((&namespace, &name), known, now)? else {
                return Ok(None);
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

    /// Whom a Placement chooses.
    fn groups(
        &self,
        (namespace, name): (&str, &str),
        known: &mut Known,
        now: &dyn Snapshot,
    ) -> Result<Option<Arc<[Group]>>, Error> {
        let place = (namespace.to_owned(), name.to_owned());
        if let Some(groups) = known.choices.get(&place) {
            return Ok(Some(groups.clone()));
        }
        let chosen = choice((now, &self.placements), &self.indexes, (namespace, name));
        let groups: Arc<[Group]> = match chosen.map_err(Error::api("read a Placement"))? {
            Choice::Groups(groups) => groups.into(),
            Choice::NotFound => Arc::default(),
            Choice::Unsettled => return Ok(None),
        };
        known.choices.insert(place, groups.clone());
        Ok(Some(groups))
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
    pub(super) fn desired(
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

    async fn look(
        &self,
        (stored, object): (&Arc<Stored>, &Value),
        known: &mut Known,
        (touched, began): (&Touched, Instant),
    ) -> Result<Looked, Error> {
        let now = self.client.snapshot();
        self.read(stored, known, (touched, &*now))?;
        known.waits.wake(touched.everything || touched.choice, &touched.clusters, began);
        let Some(placements) = self.placements(object, known, &*now)? else {
            return Ok(Looked::Unsettled);
        };
        if is_by_placements(object) {
            self.install(stored, &placements, known, (touched, began)).await;
        }
        let defaults = object["spec"]["supportedConfigs"].as_array().into_iter().flatten();
        let said = &object["status"]["defaultconfigReferences"];
        let defaults = self.with_hashes(defaults.filter_map(Config::default_of), said, &*now)?;
        let there = known.members.values().filter(|it| !it.deleting).map(|it| &it.instance);
        let said = (&object["status"]["installProgressions"], self.client.clock.now());
        let plan = plan(&defaults, &placements, there, said);
        let plan = plan.map_err(|wrong| Error::Refused(wrong.to_string()))?;
        let told = self.write_status(stored, &defaults, &plan).await;
        self.settle(stored, known, &plan, (began, &*now)).await;
        if let Err(failed) = told {
            return Ok(Looked::Untold(failed));
        }
        let rest = plan.look_again.map(|at| at.duration_since(self.client.clock.now()));
        let rest = rest.map(|rest| Duration::try_from(rest).unwrap_or_default());
        Ok(Looked::Done(rest.into_iter().chain(known.waits.after(began)).min()))
    }

    /// Brings to what is planned who is not there yet.
    async fn settle(
        &self,
        add_on: &Stored,
        known: &mut Known,
        plan: &Plan,
        (began, now): (Instant, &dyn Snapshot),
    ) {
        let Known { members, waits, .. } = known;
        for (cluster, member) in members.iter_mut().filter(|(_, it)| !it.deleting) {
            let change = plan.changes.get(cluster).cloned().unwrap_or_default();
            if member.settled.as_ref() == Some(&change) || waits.is_put_off(cluster, began) {
                continue;
            }
            // Who is gone by now is touched by that.
            let key = self.instance_key(&add_on.key.name, cluster);
            let Some(instance) = now.get(&key) else { continue };
            let owned = if member.is_owned { Ok(()) } else { self.own(&instance, add_on).await };
            let configured = self.configure(&instance, &member.instance, &change, now).await;
            if note(waits, (add_on, cluster), owned.and(configured), began) {
                member.settled = Some(change);
            }
        }
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
        let mut names: BTreeSet<String> = named.map(|it| it.key.name.to_string()).collect();
        for name in &names {
            self.known.touch(name, Touched { everything: true, ..Touched::default() });
        }
        names.extend(self.known.touch_named(&config_of(config)));
        names.iter().map(|name| self.key(name)).collect()
    }

    /// Add-ons that are installed by this Placement, whose choice may be another now.
    fn installed_by(&self, namespace: &str, name: Option<&str>, now: &dyn Snapshot) -> Vec<Key> {
        let names = |stored: &Arc<Stored>| {
            let object = stored.object.value().unwrap_or_default();
            asked_placements(&object).any(|it| {
                it["namespace"] == namespace && name.is_none_or(|name| it["name"] == name)
            })
        };
        let all = now.range(&everywhere(&self.add_ons), None).filter(names);
        let keys: Vec<Key> = all.map(|it| it.key.clone()).collect();
        for key in &keys {
            self.known.touch(&key.name, Touched { choice: true, ..Touched::default() });
        }
        keys
    }
}

/// Whether an object is there now that was not there before, or was another of its name.
fn has_come(event: &Event) -> bool {
    let uid = |stored: &Option<Arc<Stored>>| stored.as_ref().map(|it| it.object.header.uid.clone());
    event.now.is_some() && uid(&event.now) != uid(&event.before)
}

#[async_trait]
impl Controller for AddOns {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let ConfigKinds { templates, deployment_configs } = &self.configs;
        let (placements, decisions) = (&self.placements, &self.decisions);
        let own: [&Kind; 6] =
            [&self.add_ons, &self.instances, placements, decisions, templates, deployment_configs];
        let clusters =
            [everywhere(&self.clusters), in_cluster(&self.namespaces, &ClusterName::root())];
        own.into_iter().map(everywhere).chain(clusters).collect()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        match &key.resource {
            one if *one == *self.add_ons.storage() => {
                // Read anew, it may have changed before.
                let everything = event.before.is_none() || asks_for_something_else(event);
                self.known.touch(&key.name, Touched { everything, ..Touched::default() });
                vec![key.clone()]
            }
            one if *one == *self.instances.storage() => {
                let clusters = [key.namespace.to_string()].into();
                self.known.touch(&key.name, Touched { clusters, ..Touched::default() });
                vec![self.key(&key.name)]
            }
            one if *one == *self.clusters.storage() || *one == *self.namespaces.storage() => {
                let names =
                    if has_come(event) { self.known.touch_waiting(&key.name) } else { Vec::new() };
                names.iter().map(|name| self.key(name)).collect()
            }
            one if self.configs.are_in(one) => self.set_up_by(key, now),
            one if *one == *self.placements.storage() => {
                self.installed_by(&key.namespace, Some(&key.name), now)
            }
            _ => {
                let sides = event.now.iter().chain(event.before.iter());
                let names: BTreeSet<&String> =
                    sides.filter_map(|it| it.object.header.labels.get(PLACEMENT_LABEL)).collect();
                let of = |name: &String| self.installed_by(&key.namespace, Some(name), now);
                names.into_iter().flat_map(of).collect()
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let name = &key.name;
        // Before anything is read: what comes from here on is looked at once more.
        let (mut known, touched) = self.known.take(name);
        let stored = self.client.snapshot().get(key);
        let Some(stored) = stored.filter(|it| !it.object.header.deleting) else {
            self.known.forget(name);
            return Ok(None);
        };
        let object = stored.object.value().map_err(Error::api("read a ClusterManagementAddOn"))?;
        if !is_managed(&object) {
            self.known.forget(name);
            return Ok(None);
        }
        let began = Instant::now();
        match self.look((&stored, &object), &mut known, (&touched, began)).await {
            Ok(Looked::Done(again)) => {
                self.known.put(name, known, Touched::default());
                Ok(again)
            }
            Ok(Looked::Unsettled) => {
                self.known.put(name, known, touched);
                Ok(None)
            }
            Ok(Looked::Untold(failed)) => {
                self.known.put(name, known, Touched::default());
                Err(failed)
            }
            // It is as it was read, and waits for somebody to ask for something else. Where something of it could not be
            // done, that is tried again.
            Err(Error::Refused(why)) => {
                let again = known.waits.after(began);
                self.known.put(name, known, Touched::default());
                again.map_or(Err(Error::Refused(why)), |again| Ok(Some(again)))
            }
            Err(failed) => Err(failed),
        }
    }
}

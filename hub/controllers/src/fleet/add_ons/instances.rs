//! ManagedClusterAddOns: the work that the template of each comes to, and what is said of it.
//!
//! ```text
//! AddOnTemplate + AddOnDeploymentConfig ─▶ manifests ─▶ ManifestWork addon-NAME-deploy-0
//!        ▲ as the instance is to be set up by now            │ Applied, Available, feedback
//!        └──────────── status: lastAppliedConfig ◀───────────┘
//! ```
//!
//! Guarantees:
//! - what a template comes to is on the cluster, and follows what it is set up by
//!   (`a_template_is_applied_as_it_is_set_up`, `an_instance_is_set_up_by_what_it_names_itself`);
//! - a template that changes goes on only as its rollout says (`a_configuration_goes_on_as_far_as_those_that_have_it`);
//! - what cannot be made is told (`a_template_that_comes_to_nothing_is_told_of`,
//!   `an_add_on_whose_name_is_too_long_for_its_work_says_so_and_can_go`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{
    ADD_ON_AVAILABLE, ADD_ON_CONFIGURED, ADD_ON_MANIFESTS_APPLIED, CLUSTER_AVAILABLE, Condition,
    ConditionStatus,
};
use freewheel_hub_fleet::add_on::health::of_work;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::name::LABEL_MAX;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::super::api_group::{ADD_ON_GROUP, CLUSTER_GROUP, WORK_GROUP};
use super::agent::{Agent, Made, NoAgent, is_by_template, template_now};
use super::asked::{asks_for_something_else, is_managed};
use super::config_object::{ConfigKinds, DEPLOYMENT_CONFIGS, TEMPLATES};
use super::health::{namespace, of_lease, of_silent};
use super::manifest_works::{NAME_LABEL, applied};
use super::register::Registered;
use super::registrar::{HubAccess, Registrar};
use crate::engine::client::{everywhere, in_namespace, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::index::{ADD_ON_NAME, IndexTerm, Indexes, granted_to};

/// The controller.
pub struct AddOnInstances {
    pub(super) client: Client,
    indexes: Indexes,
    add_ons: Arc<Kind>,
    pub(super) instances: Arc<Kind>,
    clusters: Arc<Kind>,
    pub(super) works: Arc<Kind>,
    leases: Arc<Kind>,
    pub(super) configs: ConfigKinds,
    registrar: Registrar,
}

/// What is to be said of an instance.
#[derive(Default)]
struct StatusUpdate {
    conditions: Vec<Condition<'static>>,
    /// Fields of the status.
    fields: Vec<(&'static str, Value)>,
    look_again: Option<Duration>,
}

impl StatusUpdate {
    fn take(&mut self, registered: Registered) {
        self.conditions.extend(registered.conditions);
        self.fields.extend(registered.fields);
        self.look_again = self.look_again.into_iter().chain(registered.look_again).min();
    }
}

impl AddOnInstances {
    /// Writes through this client; agents are registered at this hub.
    pub fn new(client: Client, indexes: Indexes, hub: HubAccess) -> Result<Self, Error> {
        Ok(Self {
            registrar: Registrar::new(client.clone(), indexes.clone(), hub)?,
            client,
            indexes,
            add_ons: kind(ADD_ON_GROUP, "v1alpha1", "clustermanagementaddons")?,
            instances: kind(ADD_ON_GROUP, "v1alpha1", "managedclusteraddons")?,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            works: kind(WORK_GROUP, "v1", "manifestworks")?,
            leases: kind("coordination.k8s.io", "v1", "leases")?,
            configs: ConfigKinds::new()?,
        })
    }

    async fn sync(
        &self,
        stored: &Arc<Stored>,
        (object, cluster, add_on): (&Value, &Value, Option<&Value>),
    ) -> Result<Option<Duration>, Error> {
        let mut said = StatusUpdate::default();
        let is_known = add_on.is_some();
        let add_on = add_on.filter(|it| is_managed(it));
        if add_on.is_some_and(is_by_template) {
            if !self.set_up(stored, (object, cluster), &mut said).await? {
                return Ok(None);
            }
        } else {
            if object["status"]["healthCheck"]["mode"] != "Customized" {
                self.by_lease(stored, object, &mut said)?;
            }
            self.follow(stored, (object, is_known), &mut said).await?;
        }
        if let Some(silent) = of_silent(cluster) {
            said.conditions.retain(|it| it.kind != &ADD_ON_AVAILABLE);
            said.conditions.push(silent);
        }
        let look_again = said.look_again;
        let is_managed = add_on.is_some();
        let stored = self.write_status(stored, &said).await?;
        if is_managed {
            self.tell_progress(&stored).await?;
        }
        Ok(look_again)
    }

    /// Registers an agent as the add-on's own controller says it; of one that nobody knows nothing is kept.
    async fn follow(
        &self,
        stored: &Arc<Stored>,
        (object, is_known): (&Value, bool),
        said: &mut StatusUpdate,
    ) -> Result<(), Error> {
        if !is_known || LABEL_MAX < stored.key.name.len() {
            return self.registrar.forget(&stored.key).await;
        }
        said.take(self.registrar.follow((stored, object), namespace(object)).await?);
        Ok(())
    }

    fn by_lease(
        &self,
        stored: &Stored,
        object: &Value,
        said: &mut StatusUpdate,
    ) -> Result<(), Error> {
        let Ok(cluster) = ClusterName::try_from(&*stored.key.namespace) else { return Ok(()) };
        let name = &stored.key.name;
        let lease = key_of(&self.leases, &cluster, namespace(object), name);
        let lease = self.client.snapshot().get(&lease).map(|it| it.object.value());
        let lease = lease.transpose().map_err(Error::api("read the lease of an add-on"))?;
        let (condition, rest) = of_lease(name, lease.as_ref(), self.client.clock.now());
        said.conditions.push(condition);
        said.look_again = said.look_again.into_iter().chain(rest).min();
        Ok(())
    }

    /// Brings what a template comes to onto the cluster; whether there is something to say of that now.
    async fn set_up(
        &self,
        stored: &Arc<Stored>,
        (object, cluster): (&Value, &Value),
        said: &mut StatusUpdate,
    ) -> Result<bool, Error> {
        let kinds = [DEPLOYMENT_CONFIGS, TEMPLATES]
            .map(|it| json!({"group": ADD_ON_GROUP, "resource": it}));
        said.fields.push(("supportedConfigs", json!(kinds)));
        said.fields.push(("healthCheck", json!({"mode": "Customized"})));
        // Nothing could ever be made for it, hooks included: it is not held, so that it can go.
        if LABEL_MAX < stored.key.name.len() {
            let text = format!(
                "failed to apply manifestWork: the name of the add-on is a label of its work, of {LABEL_MAX} bytes at most"
            );
            said.conditions.push(applied(false, "ManifestWorkApplyFailed", text));
            return Ok(true);
        }
        let now = self.client.snapshot();
        let agent = match Agent::of((object, cluster), Made::AsGiven, (&self.configs, &*now)) {
            Ok(agent) => agent,
            // Of what it was made of nothing changes until then.
            Err(NoAgent::Later) => return self.renew(stored, object, said).await,
            Err(NoAgent::NoTemplate(why) | NoAgent::Wrong(why)) => {
                self.keep(stored, object, (&why, said)).await?;
                if ADD_ON_CONFIGURED.holds(object) {
                    let text = format!("failed to get manifest from agent interface: {why}");
                    said.conditions.push(applied(false, "ManifestWorkApplyFailed", text));
                }
                return Ok(true);
            }
            Err(NoAgent::Api(error)) => return Err(Error::api("read a template")(error)),
        };
        said.fields.push(("namespace", json!(agent.namespace)));
        let asked = (&agent.template, &*agent.namespace);
        said.take(self.registrar.register((stored, object), asked).await?);
        if !ADD_ON_CONFIGURED.holds(object) {
            return Ok(true);
        }
        if !self.hold(stored, &agent).await? {
            // It comes once more by that.
            return Ok(false);
        }
        let (work, told) = self.deploy(stored, &agent).await?;
        said.conditions.extend(told);
        let was_applied = ADD_ON_MANIFESTS_APPLIED.find(object).is_some();
        let is_applied = said.conditions.iter().any(|it| it.kind == &ADD_ON_MANIFESTS_APPLIED);
        if was_applied || is_applied {
            let health = of_work(&stored.key.name, &agent.manifests, work.as_ref());
            let status = ConditionStatus::read(health.status);
            let health = Condition::new(&ADD_ON_AVAILABLE, status, health.reason, health.message);
            said.conditions.push(health);
        }
        Ok(true)
    }

    /// Credentials end in their time, however long a change waits for its rollout.
    async fn renew(
        &self,
        stored: &Arc<Stored>,
        object: &Value,
        said: &mut StatusUpdate,
    ) -> Result<bool, Error> {
        let template = template_now(object, (&self.configs, &*self.client.snapshot()));
        let asked = (template.as_ref(), namespace(object));
        said.take(self.registrar.renew((stored, object), asked).await?);
        Ok(true)
    }

    /// The same of what can be made of nothing: who was registered once is so until that is mended.
    async fn keep(
        &self,
        stored: &Arc<Stored>,
        object: &Value,
        (why, said): (&str, &mut StatusUpdate),
    ) -> Result<(), Error> {
        if object["status"]["registrations"].is_null() {
            return Ok(());
        }
        let template = template_now(object, (&self.configs, &*self.client.snapshot()));
        let asked = (template.as_ref(), namespace(object));
        said.take(self.registrar.keep((stored, object), asked, why).await?);
        Ok(())
    }

    async fn write_status(
        &self,
        stored: &Arc<Stored>,
        said: &StatusUpdate,
    ) -> Result<Arc<Stored>, Error> {
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            for (field, told) in &said.fields {
                value["status"][*field] = told.clone();
            }
            for condition in &said.conditions {
                condition.put(&mut value["status"]["conditions"], &now);
            }
            Ok(value)
        };
        let told = self.client.modify_this(&self.instances, stored, Some("status"), change).await;
        Ok(told.map_err(Error::api("write the status of a ManagedClusterAddOn"))?.stored)
    }

    /// Instances of an add-on that asks for something else now. How far it says that it is concerns none of them.
    fn named(&self, event: &Event, name: &str) -> Vec<Key> {
        if event.before.is_some() && !asks_for_something_else(event) {
            return Vec::new();
        }
        let root = ClusterName::root();
        let all = self.indexes.add_ons.find(IndexTerm::Label(&root, "", ADD_ON_NAME, name));
        all.iter().map(|it| it.stored.key.clone()).collect()
    }

    /// Whose agent was given this.
    fn granted(&self, event: &Event) -> Vec<Key> {
        let sides = event.now.iter().chain(event.before.iter());
        let mut keys: Vec<Key> = sides.filter_map(|it| self.whose(it)).collect();
        keys.dedup();
        keys
    }

    /// The instance whose agent was given this.
    fn whose(&self, given: &Stored) -> Option<Key> {
        let (cluster, add_on) = granted_to(given).filter(|_| self.registrar.is_granted(given))?;
        Some(key_of(&self.instances, &ClusterName::root(), cluster, add_on))
    }

    /// Instances whose agents are in a namespace that came, goes or has gone: then it is made anew.
    fn of_namespace(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let stays =
            |side: &Option<Arc<Stored>>| side.as_ref().is_some_and(|it| !it.object.header.deleting);
        let is_same = stays(&event.before) == stays(&event.now) && event.now.is_some();
        if key.cluster.is_root() || is_same {
            return Vec::new();
        }
        let scope = in_namespace(&self.instances, &ClusterName::root(), key.cluster.as_str());
        let is_in = |it: &Arc<Stored>| {
            it.object.value().is_ok_and(|object| namespace(&object) == &*key.name)
        };
        now.range(&scope, None).filter(is_in).map(|it| it.key.clone()).collect()
    }

    /// Instances of a cluster of which something is another now that matters to them.
    fn of_cluster(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let facts = |side: &Option<Arc<Stored>>| {
            let object = side.as_ref()?.object.value().ok()?;
            let meta = &object["metadata"];
            let available = CLUSTER_AVAILABLE.find(&object).cloned();
            let accepts = object["spec"]["hubAcceptsClient"].clone();
            Some((
                meta["annotations"].clone(),
                meta["deletionTimestamp"].clone(),
                accepts,
                available,
            ))
        };
        if facts(&event.before) == facts(&event.now) {
            return Vec::new();
        }
        let scope = in_namespace(&self.instances, &ClusterName::root(), &key.name);
        let mut keys: Vec<Key> = now.range(&scope, None).map(|it| it.key.clone()).collect();
        if event.before.is_none() {
            // Agents of others have no rights any more in what is a cluster's now.
            let scope = in_namespace(&self.registrar.bindings, &ClusterName::root(), &key.name);
            keys.extend(now.range(&scope, None).filter_map(|it| self.whose(&it)));
        }
        keys
    }
}

#[async_trait]
impl Controller for AddOnInstances {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let own = [&self.add_ons, &self.instances, &self.clusters, &self.works, &self.leases];
        let Registrar { secrets, bindings, namespaces, .. } = &self.registrar;
        own.into_iter()
            .chain([secrets, bindings, namespaces])
            .map(|kind| everywhere(kind))
            .collect()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let root = ClusterName::root();
        match &key.resource {
            one if *one == *self.instances.storage() => vec![key.clone()],
            one if *one == *self.add_ons.storage() => self.named(event, &key.name),
            one if *one == *self.clusters.storage() => self.of_cluster(event, now),
            one if *one == *self.works.storage() => {
                let sides = event.now.iter().chain(event.before.iter());
                let names = sides.filter_map(|it| it.object.header.labels.get(NAME_LABEL));
                let mut keys: Vec<Key> =
                    names.map(|it| key_of(&self.instances, &root, &key.namespace, it)).collect();
                keys.dedup();
                keys
            }
            one if *one == *self.registrar.secrets.storage() => {
                let mut keys = self.granted(event);
                keys.extend(self.registrar.signed_by(event));
                keys
            }
            one if *one == *self.registrar.bindings.storage() => self.granted(event),
            one if *one == *self.registrar.namespaces.storage() => self.of_namespace(event, now),
            // A lease of a cluster: it has the name of its add-on.
            _ if key.cluster.is_root() => Vec::new(),
            _ => {
                let instance = key_of(&self.instances, &root, key.cluster.as_str(), &key.name);
                now.get(&instance).map(|it| it.key.clone()).into_iter().collect()
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let root = ClusterName::root();
        let Some(stored) = now.get(key) else {
            return self.registrar.forget(key).await.map(|()| None);
        };
        let value = |key: &Key| now.get(key).map(|it| it.object.value()).transpose();
        let object = stored.object.value().map_err(Error::api("read a ManagedClusterAddOn"))?;
        let cluster = value(&key_of(&self.clusters, &root, "", &key.namespace));
        let cluster = cluster.map_err(Error::api("read a ManagedCluster"))?;
        let cluster = cluster.filter(|it| it["metadata"]["deletionTimestamp"].is_null());
        if stored.object.header.deleting {
            return match cluster {
                Some(cluster) => self.end(&stored, (&object, &cluster)).await,
                None => self.let_go(&stored).await,
            };
        }
        let Some(cluster) = cluster else { return Ok(None) };
        let add_on = value(&key_of(&self.add_ons, &root, "", &key.name));
        let add_on = add_on.map_err(Error::api("read a ClusterManagementAddOn"))?;
        let owned = |it: &Value| {
            let uid = it["metadata"]["uid"].as_str().unwrap_or_default();
            stored.object.header.owners.iter().any(|owner| *owner.uid == *uid)
        };
        let add_on = add_on.filter(owned);
        self.sync(&stored, (&object, &cluster, add_on.as_ref())).await
    }
}

//! CustomResourceDefinitions become kinds of their clusters, and go with all objects of them.
//!
//! ```text
//! names free? ─▶ kinds into the registry ─▶ status: NamesAccepted, Established
//! deleted ─▶ Terminating ─▶ its objects ─▶ finalizer off ─▶ gone ─▶ kinds out of the registry
//! ```
//!
//! One of a kind that is built in makes nothing and takes nothing with it: what it is about is served as it is.
//!
//! Guarantees:
//! - who reads that a definition is established finds its objects served
//!   (`a_definition_makes_a_kind_of_its_cluster`);
//! - what is established is served again before anybody is answered after a restart
//!   (`what_is_established_is_served_from_the_start`);
//! - a definition goes after its objects (`a_definition_goes_after_its_objects`);
//! - what is built in is established and stays (`what_is_built_in_has_definitions_that_stay`).

mod names;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{
    Condition, DEFINITION_APPROVED, DEFINITION_ESTABLISHED, DEFINITION_NAMES_ACCEPTED,
    DEFINITION_TERMINATING,
};
use freewheel_hub_api::kinds;
use freewheel_hub_api::kinds::custom_resource_definition::CLEANUP_FINALIZER;
use freewheel_hub_custom::definition::{self, text};
use freewheel_hub_objects::{Objects, Propagation};
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::registry::Registry;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;
use tracing::warn;

use crate::engine::client::{everywhere, in_cluster, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use names::Names;

/// Deleted at the same time.
const DELETES_AT_ONCE: usize = 64;
/// How soon a definition that goes is looked at again, while objects of it are left.
const OBJECTS_LEFT_RECHECK: Duration = Duration::from_millis(250);
/// How soon a definition is looked at again whose names are another's: that one may take other names.
const NAMES_TAKEN_RECHECK: Duration = Duration::from_secs(5);

/// The controller.
pub struct Definitions {
    client: Client,
    definitions: Arc<Kind>,
    /// Names are looked at and taken by one worker at a time: two could give one to both. A definition is a tree meanwhile,
    /// many times its text, of which there is one.
    naming: Mutex<()>,
}

/// Serves what is established already. Whoever starts a hub does so before it answers anybody.
pub fn serve_established(objects: &Objects) {
    let found = kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let Some(definitions) = found else { return };
    let snapshot = objects.store().snapshot();
    for stored in snapshot.range(&everywhere(definitions), None) {
        let Ok(value) = stored.object.value() else { continue };
        if !DEFINITION_ESTABLISHED.holds(&value) {
            continue;
        }
        let cluster = &stored.key.cluster;
        let storage = definition::storage(&value);
        if is_built_in(&objects.kinds().of(cluster), &storage) {
            continue;
        }
        let converter = objects.conversions().and_then(|all| all.of(cluster, &value));
        let kinds = definition::kinds(&value, converter.as_ref());
        if let Err(taken) = objects.kinds().put(&stored.key.cluster, &storage, kinds) {
            warn!(cluster = %stored.key.cluster, name = %stored.key.name, error = %taken,
                "a definition is established and not served");
        }
    }
}

/// Whether a cluster serves what is stored there without a definition.
fn is_built_in(registry: &Registry, storage: &Resource) -> bool {
    registry.by_storage(storage).is_some_and(|kind| kind.has(Trait::HasDefinition))
}

/// Where the objects of a definition are, by its own key.
fn storage_of(key: &Key) -> Resource {
    let (plural, group) = key.name.split_once('.').unwrap_or((&key.name, ""));
    Resource::new(group, plural)
}

impl Definitions {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let definitions = kind("apiextensions.k8s.io", "v1", "customresourcedefinitions")?;
        Ok(Self { client, definitions, naming: Mutex::default() })
    }

    /// Accepts names, and serves what has them.
    async fn establish(&self, stored: &Stored) -> Result<Option<Duration>, Error> {
        let Taken { names, said, is_news } = self.take_names(stored)?;
        if is_news {
            self.write_status(stored, &said, Some(&names.accepted), false).await?;
        }
        Ok(names.conflict.map(|_| NAMES_TAKEN_RECHECK))
    }

    /// Which of its names are another's; what has names that are nobody's is served by them. The definition is a tree in
    /// here alone.
    fn take_names(&self, stored: &Stored) -> Result<Taken, Error> {
        let _alone = self.naming.lock();
        let mut value = stored.object.value().map_err(Error::api("read a definition"))?;
        let status = value["status"].clone();
        let registry = self.client.registry(&stored.key.cluster);
        let mut names = Names::decide(&value, registry.own());
        let storage = definition::storage(&value);
        if names.conflict.is_none() && !is_built_in(&registry, &storage) {
            value["status"]["acceptedNames"] = names.accepted.clone();
            names.conflict = self.serve(&stored.key.cluster, &storage, &value, registry.own());
        }
        let said = conditions(&value, &names);
        let is_news = is_news(&status, &names.accepted, &said);
        Ok(Taken { names, said, is_news })
    }

    /// Serves it under the names that it says it has, unless it is: who else has one of them.
    fn serve(
        &self,
        cluster: &ClusterName,
        storage: &Resource,
        definition: &Value,
        own: &[Arc<Kind>],
    ) -> Option<(&'static str, String)> {
        if definition::is_made(definition, own) {
            return None;
        }
        let objects = self.client.objects();
        let converter = objects.conversions().and_then(|all| all.of(cluster, definition));
        let kinds = definition::kinds(definition, converter.as_ref());
        let taken = objects.kinds().put(cluster, storage, kinds).err()?;
        Some(("PluralConflict", taken.to_string()))
    }

    async fn write_status(
        &self,
        stored: &Stored,
        said: &[Condition<'_>],
        accepted: Option<&Value>,
        let_go: bool,
    ) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            if let Some(accepted) = accepted {
                value["status"]["acceptedNames"] = accepted.clone();
            }
            for condition in said {
                condition.put(&mut value["status"]["conditions"], &now);
            }
            if let_go && let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
                list.retain(|name| name != CLEANUP_FINALIZER);
            }
            Ok(value)
        };
        let written =
            self.client.modify_this(&self.definitions, stored, Some("status"), change).await;
        match written {
            // It is gone, which is news of its own.
            Err(error) if error.code != 404 => {
                Err(Error::api("write the status of a definition")(error))
            }
            _ => Ok(()),
        }
    }

    /// Deletes the objects of a definition that goes, and lets it go after them.
    async fn clean(&self, stored: &Stored, served: bool) -> Result<Option<Duration>, Error> {
        let terminating = |going, reason, message| {
            [Condition::new(&DEFINITION_TERMINATING, going, reason, message)]
        };
        if is_built_in(&self.client.registry(&stored.key.cluster), &storage_of(&stored.key)) {
            // Its objects are the hub's.
            let said = terminating(false, "BuiltIn", "the hub serves its objects itself");
            return self.write_status(stored, &said, None, true).await.map(|()| None);
        }
        if !served {
            let said = terminating(false, "NeverEstablished", "resource was never established");
            return self.write_status(stored, &said, None, true).await.map(|()| None);
        }
        let (reason, message) =
            ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
        self.write_status(stored, &terminating(true, reason, message), None, false).await?;
        if let Err(why) = self.delete_objects(stored).await {
            let message = format!("could not issue all deletes: {why}");
            let said =
                [Condition::new(&DEFINITION_TERMINATING, true, "InstanceDeletionFailed", message)];
            self.write_status(stored, &said, None, false).await?;
        }
        if self.objects_of(&stored.key).next().is_some() {
            return Ok(Some(OBJECTS_LEFT_RECHECK));
        }
        let said = terminating(false, "InstanceDeletionCompleted", "removed all instances");
        self.write_status(stored, &said, None, true).await.map(|()| None)
    }

    fn objects_of(&self, definition: &Key) -> impl Iterator<Item = Arc<Stored>> + use<> {
        let (resource, cluster) = (storage_of(definition), Some(definition.cluster.clone()));
        let scope = Scope { resource, cluster, namespace: None };
        let found: Vec<_> = self.client.snapshot().range(&scope, None).collect();
        found.into_iter()
    }

    async fn delete_objects(&self, definition: &Stored) -> Result<(), String> {
        let key = &definition.key;
        let registry = self.client.registry(&key.cluster);
        let Some(kind) = registry.by_storage(&storage_of(key)) else { return Ok(()) };
        let left: Vec<_> =
            self.objects_of(key).filter(|stored| !stored.object.header.deleting).collect();
        for batch in left.chunks(DELETES_AT_ONCE) {
            let deletes = batch.iter().map(|stored| {
                let uid = &stored.object.header.uid;
                self.client.delete(kind, &stored.key, uid, Propagation::Background)
            });
            let failed = join_all(deletes).await.into_iter().find_map(Result::err);
            if let Some(why) = failed {
                return Err(why.to_string());
            }
        }
        Ok(())
    }

    /// A definition has gone: what it made goes, and its names are free.
    fn forget(&self, key: &Key) {
        // Of nothing, nothing can be taken.
        let _ = self.client.objects().kinds().put(&key.cluster, &storage_of(key), Vec::new());
    }
}

/// What comes of the names that a definition asks for.
struct Taken {
    names: Names,
    said: Vec<Condition<'static>>,
    /// Its status does not say so yet.
    is_news: bool,
}

/// Whether a status says something else than this.
fn is_news(status: &Value, accepted: &Value, said: &[Condition<'_>]) -> bool {
    let conditions = &mut status["conditions"].clone();
    // When it would be written is no news.
    let changes = said.iter().filter(|condition| condition.put(conditions, "")).count();
    0 < changes || status["acceptedNames"] != *accepted
}

/// What a definition's status says, with names as they are now.
fn conditions(definition: &Value, names: &Names) -> Vec<Condition<'static>> {
    let mut said = Vec::new();
    let group = text(definition, "/spec/group");
    if definition::is_protected(group) {
        let (conforms, reason, message) = definition::approval(definition).condition();
        said.push(Condition::new(&DEFINITION_APPROVED, conforms, reason, message));
    }
    let established = DEFINITION_ESTABLISHED.holds(definition);
    match &names.conflict {
        None => {
            let accepted = (true, "NoConflicts", "no conflicts found");
            let (holds, reason, message) = accepted;
            said.push(Condition::new(&DEFINITION_NAMES_ACCEPTED, holds, reason, message));
            let (reason, message) =
                ("InitialNamesAccepted", "the initial names have been accepted");
            said.push(Condition::new(&DEFINITION_ESTABLISHED, true, reason, message));
        }
        Some((reason, why)) => {
            let why = why.clone();
            said.push(Condition::new(&DEFINITION_NAMES_ACCEPTED, false, *reason, why));
            if !established {
                let (reason, message) = ("NotAccepted", "not all names are accepted");
                said.push(Condition::new(&DEFINITION_ESTABLISHED, false, reason, message));
            }
        }
    }
    said
}

#[async_trait]
impl Controller for Definitions {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.definitions)]
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let mut keys = vec![key.clone()];
        if event.now.is_none() {
            // What it was called, another may be called.
            let group = |key: &Key| storage_of(key).group().to_owned();
            let all = now.range(&in_cluster(&self.definitions, &key.cluster), None);
            keys.extend(
                all.map(|stored| stored.key.clone()).filter(|other| group(other) == group(key)),
            );
        }
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else {
            self.forget(key);
            return Ok(None);
        };
        let header = &stored.object.header;
        let held = header.finalizers.iter().any(|name| name == CLEANUP_FINALIZER);
        match header.deleting {
            true if held => {
                let value = stored.object.value().map_err(Error::api("read a definition"))?;
                let served = DEFINITION_ESTABLISHED.holds(&value);
                drop(value);
                self.clean(&stored, served).await
            }
            // Somebody else's finalizer holds it: its objects are gone, and none comes.
            true => Ok(None),
            false => self.establish(&stored).await,
        }
    }
}

//! One controller's way to read and write: the pipeline, under the controller's own name.

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{
    Actor, DeleteOptions, Deleted, FieldValidation, ObjectRef, Objects, Propagation, Wanted,
    WriteOptions, Written,
};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::registry::Registry;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Expect, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Clock, Error};
use crate::events::Recorder;

/// Reads from the store, writes through the pipeline.
#[derive(Clone)]
pub struct Client {
    objects: Objects,
    how: WriteOptions,
    name: &'static str,
    /// The wall clock.
    pub clock: Clock,
    /// Where events go.
    pub recorder: Recorder,
}

impl Client {
    /// The client of the controller called `name` (`deployment-controller`).
    #[must_use]
    pub fn new(objects: Objects, name: &'static str, recorder: Recorder) -> Self {
        let field_validation = FieldValidation::Ignore;
        let how = WriteOptions { field_validation, ..WriteOptions::by(Actor::Controller(name)) };
        let clock = Clock::new(objects.clock().clone());
        Self { objects, how, name, clock, recorder }
    }

    /// The controller's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The pipeline beneath.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// How this controller writes.
    #[must_use]
    pub fn how(&self) -> &WriteOptions {
        &self.how
    }

    /// The same client, for what is only to be written while this holds: what was looked at before.
    #[must_use]
    pub fn while_holds(&self, expect: Expect) -> Self {
        let mut client = self.clone();
        client.how.expect.push(expect);
        client
    }

    /// The same client, for what is only to be written while this very object is there.
    #[must_use]
    pub fn while_there(&self, object: &Stored) -> Self {
        self.while_holds(Expect::still(object))
    }

    /// The newest state, this controller's own writes included.
    #[must_use]
    pub fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.objects.store().snapshot()
    }

    /// The kinds that a cluster serves now.
    #[must_use]
    pub fn registry(&self, cluster: &ClusterName) -> Registry {
        self.objects.kinds().of(cluster)
    }

    /// Whether this very object is still there and is to stay: who is on its way out adopts nobody.
    #[must_use]
    pub fn stays(&self, object: &Stored) -> bool {
        let now = self.snapshot().get(&object.key);
        now.is_some_and(|now| {
            let header = &now.object.header;
            header.uid == object.object.header.uid && !header.deleting
        })
    }

    /// Creates an object.
    pub async fn create<T: Serialize + Sync>(
        &self,
        kind: &Arc<Kind>,
        cluster: &ClusterName,
        namespace: &str,
        object: &T,
    ) -> Result<Arc<Stored>, ApiError> {
        let mut value = serde_json::to_value(object).map_err(ApiError::internal)?;
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.kind().into();
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (kind, cluster, namespace) = (kind.clone(), cluster.clone(), namespace.into());
        let place = ObjectRef { kind, cluster, namespace, name };
        Ok(self.objects.create(&self.how, &place, value).await?.stored)
    }

    /// Changes what is there, or makes what is not, again when somebody else was faster.
    pub async fn create_or_modify<F>(
        &self,
        kind: &Arc<Kind>,
        key: &Key,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Option<Value>) -> Result<Value, ApiError> + Send + Sync,
    {
        self.objects.create_or_modify(&self.how, &object_ref(kind, key), change).await
    }

    /// The same of what is the hub's own, as kube-apiserver does with what has become too long: where a change is refused,
    /// because somebody has made it immutable or filled it, it is made anew.
    pub async fn insist<F>(
        &self,
        kind: &Arc<Kind>,
        key: &Key,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Option<Value>) -> Result<Value, ApiError> + Send + Sync,
    {
        let refused = match self.create_or_modify(kind, key, &change).await {
            Err(refused) if [413, 422].contains(&refused.code) => refused,
            outcome => return outcome,
        };
        let Some(there) = self.snapshot().get(key) else { return Err(refused) };
        self.delete(kind, key, &there.object.header.uid, Propagation::Background).await?;
        self.create_or_modify(kind, key, change).await
    }

    /// Changes an object, again when somebody else was faster.
    pub async fn modify<F>(
        &self,
        kind: &Arc<Kind>,
        key: &Key,
        subresource: Option<&str>,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Value) -> Result<Value, ApiError> + Send + Sync,
    {
        self.objects.modify(&self.how, &object_ref(kind, key), subresource, change).await
    }

    /// Makes several objects what they are to be, all at one revision.
    pub async fn write_together(&self, wanted: &[Wanted<'_>]) -> Result<Vec<Written>, ApiError> {
        self.objects.write_together(&self.how, wanted).await
    }

    /// Changes this very object, again when somebody else was faster: 404 when its name is another one's by now.
    pub async fn modify_this<F>(
        &self,
        kind: &Arc<Kind>,
        stored: &Stored,
        subresource: Option<&str>,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Value) -> Result<Value, ApiError> + Send + Sync,
    {
        let (key, uid) = (&stored.key, stored.object.header.uid.as_str());
        let change = |value: Value| {
            if value["metadata"]["uid"].as_str() != Some(uid) {
                return Err(ApiError::not_found(kind.group(), kind.plural(), &key.name));
            }
            change(value)
        };
        self.modify(kind, key, subresource, change).await
    }

    /// Changes an object only as it was read: 409 when it has changed since.
    pub async fn modify_at<F>(
        &self,
        kind: &Arc<Kind>,
        stored: &Stored,
        subresource: Option<&str>,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Value) -> Result<Value, ApiError> + Send + Sync,
    {
        let version = stored.revision.to_string();
        let mut value = stored.object.value()?;
        value["metadata"]["resourceVersion"] = version.into();
        let value = change(value)?;
        self.objects.update(&self.how, &object_ref(kind, &stored.key), subresource, value).await
    }

    /// Deletes the object with this UID; that it is gone already is fine.
    pub async fn delete(
        &self,
        kind: &Arc<Kind>,
        key: &Key,
        uid: &Uid,
        propagation: Propagation,
    ) -> Result<Option<Deleted>, ApiError> {
        let options = DeleteOptions {
            uid: (!uid.is_empty()).then(|| uid.clone()),
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        match self.objects.delete(&self.how, &object_ref(kind, key), &options).await {
            Ok(deleted) => Ok(Some(deleted)),
            Err(gone) if gone.code == 404 => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// The place that a key names.
#[must_use]
pub fn object_ref(kind: &Arc<Kind>, key: &Key) -> ObjectRef {
    ObjectRef {
        kind: kind.clone(),
        cluster: key.cluster.clone(),
        namespace: key.namespace.clone(),
        name: key.name.to_string(),
    }
}

/// A built-in kind, without which the controllers do not work.
pub fn kind(group: &str, version: &str, plural: &'static str) -> Result<Arc<Kind>, Error> {
    kinds::find(group, version, plural).cloned().ok_or(Error::NoSuchKind(plural))
}

/// All objects of a kind, everywhere.
#[must_use]
pub fn everywhere(kind: &Kind) -> Scope {
    all_of(kind.storage().clone())
}

/// All that is stored there.
#[must_use]
pub fn all_of(resource: Resource) -> Scope {
    Scope { resource, cluster: None, namespace: None }
}

/// All objects of a kind in one cluster.
#[must_use]
pub fn in_cluster(kind: &Kind, cluster: &ClusterName) -> Scope {
    Scope { resource: kind.storage().clone(), cluster: Some(cluster.clone()), namespace: None }
}

/// All objects of a kind in one namespace.
#[must_use]
pub fn in_namespace(kind: &Kind, cluster: &ClusterName, namespace: &str) -> Scope {
    Scope {
        resource: kind.storage().clone(),
        cluster: Some(cluster.clone()),
        namespace: Some(namespace.into()),
    }
}

/// The key of an object of this kind.
#[must_use]
pub fn key(kind: &Kind, cluster: &ClusterName, namespace: &str, name: &str) -> Key {
    Key::new(kind.storage(), cluster, namespace, name)
}

/// Reads an object as a typed struct.
pub fn typed<T: DeserializeOwned>(stored: &Stored) -> Result<T, Error> {
    stored.object.typed().map_err(Error::api("read a stored object"))
}

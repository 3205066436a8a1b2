//! Objects that add-ons are set up by: AddOnDeploymentConfigs and AddOnTemplates. Of other kinds the controllers of the
//! add-ons that know them tell the digests.

use std::sync::Arc;

use freewheel_hub_fleet::add_on::configs::{Config, Desired};
use freewheel_hub_fleet::go_json;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::super::api_group::ADD_ON_GROUP;
use crate::engine::Error;
use crate::engine::client::{key, kind};

pub(super) const TEMPLATES: &str = "addontemplates";
pub(super) const DEPLOYMENT_CONFIGS: &str = "addondeploymentconfigs";

/// The kinds that are known here.
pub(super) struct ConfigKinds {
    pub templates: Arc<Kind>,
    pub deployment_configs: Arc<Kind>,
}

/// One of those objects.
pub(super) struct ConfigObject {
    /// The object.
    pub value: Value,
    /// The digest of what it says.
    pub hash: String,
}

impl ConfigKinds {
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            templates: kind(ADD_ON_GROUP, "v1alpha1", TEMPLATES)?,
            deployment_configs: kind(ADD_ON_GROUP, "v1alpha1", DEPLOYMENT_CONFIGS)?,
        })
    }

    /// Whether objects of one of these kinds are stored there.
    pub fn are_in(&self, resource: &Resource) -> bool {
        resource == self.templates.storage() || resource == self.deployment_configs.storage()
    }

    fn kind_of(&self, config: &Config) -> Option<&Kind> {
        if config.is(ADD_ON_GROUP, TEMPLATES) {
            return Some(&self.templates);
        }
        config.is(ADD_ON_GROUP, DEPLOYMENT_CONFIGS).then_some(&*self.deployment_configs)
    }

    /// The object; nothing, when its kind is none of these, or there is none.
    pub fn get(
        &self,
        now: &dyn Snapshot,
        config: &Config,
    ) -> Result<Option<ConfigObject>, ApiError> {
        let Some(kind) = self.kind_of(config) else { return Ok(None) };
        let key = key(kind, &ClusterName::root(), &config.namespace, &config.name);
        now.get(&key).map(|stored| ConfigObject::of(&stored)).transpose()
    }

    /// Its generation, which is known without reading what it says: each of its instances is told it, and it may be large.
    pub fn generation(&self, now: &dyn Snapshot, config: &Config) -> Option<i64> {
        let kind = self.kind_of(config)?;
        let stored = now.get(&key(kind, &ClusterName::root(), &config.namespace, &config.name))?;
        Some(stored.object.header.generation)
    }

    /// What is wanted of an object now. Of a kind that others know it is what they said.
    pub fn desired(
        &self,
        now: &dyn Snapshot,
        config: Config,
        said: &str,
    ) -> Result<Desired, ApiError> {
        let hash = match self.kind_of(&config) {
            Some(_) => self.get(now, &config)?.map(|object| object.hash).unwrap_or_default(),
            None => said.to_owned(),
        };
        Ok(Desired { config, hash })
    }
}

impl ConfigObject {
    fn of(stored: &Stored) -> Result<Self, ApiError> {
        let value = stored.object.value()?;
        let hash = spec_hash(&value);
        Ok(Self { value, hash })
    }
}

/// The digest of what an object says beside its type, its metadata and its status, as upstream has it: of JSON as Go
/// writes it.
fn spec_hash(object: &Value) -> String {
    let mut said = object.as_object().cloned().unwrap_or_default();
    said.retain(|key, _| !["apiVersion", "kind", "metadata", "status"].contains(&&**key));
    Digest::of(go_json::text(&Value::Object(said)).as_bytes()).hex()
}

/// How add-ons name this object.
pub(super) fn config_of(key: &Key) -> Config {
    Config {
        group: key.resource.group().to_owned(),
        resource: key.resource.plural().to_owned(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}

/// Whether an object's text has this name in quotes: it may be one that names it.
pub(super) fn may_name(stored: &Stored, config: &Key) -> bool {
    let name = format!("\"{}\"", config.name);
    memchr::memmem::find(&stored.object.body, name.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::{Header, Object};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Operation, Store as _, Txn};
    use serde_json::json;

    /// What addon-framework's GetSpecHash says of the same objects.
    #[test]
    fn digests_are_upstreams() {
        let object = json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "a"}, "status": {"x": 1},
            "spec": {"b": "<&>", "a": [1, true, null]}});
        assert_eq!(
            spec_hash(&object),
            Digest::of(br#"{"spec":{"a":[1,true,null],"b":"\u003c\u0026\u003e"}}"#).hex()
        );
        assert_eq!(spec_hash(&json!({"metadata": {}})), Digest::of(b"{}").hex());
    }

    #[tokio::test]
    async fn a_generation_is_known_without_reading_the_object() {
        let store = MemoryStore::with_incarnation(1);
        let kinds = ConfigKinds::new().unwrap();
        let place = key(&kinds.templates, &ClusterName::root(), "", "web");
        let header = Header { generation: 7, ..Header::default() };
        let object = Object { header, body: b"nobody reads this".as_slice().into() };
        let operations = vec![Operation::Put(place, object)];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        let config = |name: &str| Config {
            group: ADD_ON_GROUP.to_owned(),
            resource: TEMPLATES.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
        };
        let now = store.snapshot();
        assert_eq!(kinds.generation(&*now, &config("web")), Some(7));
        assert_eq!(kinds.generation(&*now, &config("other")), None);
        let other = Config { resource: "configmaps".to_owned(), ..config("web") };
        assert_eq!(kinds.generation(&*now, &other), None);
    }
}

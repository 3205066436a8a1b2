//! What the store holds: a key, a parsed header, and canonical JSON without `resourceVersion`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_link::names::ClusterName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ApiError;
use crate::namespace::NamespaceName;
use crate::uid::Uid;

/// A storage resource: `pods`, `deployments.apps`. Also used for what is no API object and lives
/// beside them in the same transactions, under the group `internal` (`clusterips.internal`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource(Arc<str>);

impl Resource {
    /// `resource` plural and `group`, empty for core.
    #[must_use]
    pub fn new(group: &str, resource: &str) -> Self {
        if group.is_empty() {
            Self(resource.into())
        } else {
            Self(format!("{resource}.{group}").into())
        }
    }

    /// `pods`, `deployments.apps`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The plural: `deployments`.
    #[must_use]
    pub fn plural(&self) -> &str {
        self.0.split_once('.').map_or(&*self.0, |(plural, _)| plural)
    }

    /// The group, empty for core.
    #[must_use]
    pub fn group(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, group)| group)
    }

    /// Whether it is no API object's.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.group() == "internal"
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The store's key, frozen: resource first, so that "all pods of all clusters" is one range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Storage resource.
    pub resource: Resource,
    /// Logical cluster.
    pub cluster: ClusterName,
    /// Namespace, empty for what has none.
    pub namespace: NamespaceName,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its parts.
    #[must_use]
    pub fn new(resource: &Resource, cluster: &ClusterName, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.clone(),
            cluster: cluster.clone(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// What is read of an object without parsing its body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// metadata.uid
    pub uid: Uid,
    /// metadata.generation, 0 when absent.
    pub generation: i64,
    /// metadata.labels
    pub labels: BTreeMap<String, String>,
    /// metadata.ownerReferences
    pub owners: Vec<Owner>,
    /// metadata.finalizers
    pub finalizers: Vec<String>,
    /// metadata.deletionTimestamp is set.
    pub deleting: bool,
    /// Values of the kind's selectable fields (`spec.nodeName`, `status.phase`, …) beside
    /// `metadata.name` and `metadata.namespace`, which come from the key.
    pub fields: BTreeMap<String, String>,
}

/// One ownerReference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// apiVersion
    pub api_version: String,
    /// kind
    pub kind: String,
    /// name
    pub name: String,
    /// uid
    pub uid: Uid,
    /// controller
    pub controller: bool,
    /// blockOwnerDeletion
    pub block_deletion: bool,
}

/// An object ready to be stored: header and canonical JSON (sorted keys, no nulls, no
/// `metadata.resourceVersion`, storage version).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Parsed from the body.
    pub header: Header,
    /// Canonical JSON; for `internal` resources any bytes.
    pub body: Bytes,
}

impl Object {
    /// Takes canonical JSON apart; `fields` are the selectable ones that the kind's strategy read.
    ///
    /// # Errors
    /// When the value is no object with metadata.
    pub fn from_value(
        mut value: Value,
        fields: BTreeMap<String, String>,
    ) -> Result<Self, ApiError> {
        let meta = value
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .ok_or_else(|| ApiError::bad_request("metadata: Required value"))?;
        meta.remove("resourceVersion");
        let text = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let strings = |key: &str| -> Vec<String> {
            let list = meta.get(key).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let labels = meta.get("labels").and_then(Value::as_object);
        let header = Header {
            uid: text("uid").into(),
            generation: meta.get("generation").and_then(Value::as_i64).unwrap_or_default(),
            labels: labels
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
                .collect(),
            owners: meta
                .get("ownerReferences")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(owner)
                .collect(),
            finalizers: strings("finalizers"),
            deleting: meta.contains_key("deletionTimestamp"),
            fields,
        };
        let mut body = serde_json::to_vec(&value).map_err(ApiError::internal)?;
        // Bodies stay in memory: what the writer's growth left over would stay with them.
        body.shrink_to_fit();
        Ok(Self { header, body: body.into() })
    }

    /// The body as JSON, still without `resourceVersion`.
    ///
    /// # Errors
    /// When the store held something that is no JSON: an internal error.
    pub fn value(&self) -> Result<Value, ApiError> {
        serde_json::from_slice(&self.body).map_err(ApiError::internal)
    }

    /// The body as a typed struct of k8s-openapi.
    ///
    /// # Errors
    /// When the body does not fit the type: an internal error.
    pub fn typed<T: serde::de::DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).or_else(|error| {
            let mut value = self.value()?;
            if !end_of_time(&mut value) {
                return Err(ApiError::internal(error));
            }
            serde_json::from_value(value).map_err(ApiError::internal)
        })
    }
}

/// The latest moment that typed structs can hold: the year 9999 goes on for 26 hours.
const LATEST: &str = "9999-12-30T22:00:00Z";

/// Makes times after [`LATEST`] that one; whether there are any. They are kept as they were written, and
/// nobody who reads them typed can tell the difference.
fn end_of_time(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let late = LATEST < text.as_str()
                && text.starts_with("9999-12-3")
                && crate::time::read_rfc3339(text).is_some();
            if late {
                *text = LATEST.to_owned();
            }
            late
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| end_of_time(item) | any),
        Value::Object(map) => map.values_mut().fold(false, |any, item| end_of_time(item) | any),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn owner(value: &Value) -> Owner {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
    Owner {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        uid: text("uid").into(),
        controller: flag("controller"),
        block_deletion: flag("blockOwnerDeletion"),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_at_the_end_of_time_keeps_nobody_from_reading() {
        let pod =
            json!({"metadata": {"name": "p"}, "status": {"startTime": "9999-12-31T23:59:59Z"}});
        let object = Object::from_value(pod, BTreeMap::new()).unwrap();
        assert!(object.typed::<Pod>().unwrap().status.unwrap().start_time.is_some());
        let wrong = json!({"metadata": {"name": "p"}, "status": {"startTime": "never"}});
        let object = Object::from_value(wrong, BTreeMap::new()).unwrap();
        assert_eq!(object.typed::<Pod>().unwrap_err().code, 500);
    }
}

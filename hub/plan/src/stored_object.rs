//! An object as the store holds it, and how it is read.

use bytes::Bytes;
use freewheel_link::names::ClusterName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::refused::{Fault, Refused};

/// An object as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Canonical JSON.
    pub body: Bytes,
    /// Revision that wrote it.
    pub revision: u64,
    /// Revision that created it.
    pub created: u64,
}

/// Reads an object as its type. A body that does not fit names what it can of itself.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    realm: &ClusterName,
    resource: &'static str,
    found: &StoredObject,
) -> Result<T, Refused> {
    serde_json::from_slice(&found.body).map_err(|error| {
        let value: serde_json::Value = serde_json::from_slice(&found.body).unwrap_or_default();
        let text = |key: &str| value["metadata"][key].as_str().map(str::to_owned);
        let meta = ObjectMeta {
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            ..ObjectMeta::default()
        };
        Fault::malformed(error).of(realm, resource, &meta)
    })
}

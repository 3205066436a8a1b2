//! ConfigMap and Secret → their data, decoded.

use std::collections::BTreeMap;

use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{ConfigV1, Kind, Record, RecordKey};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::refused::{Fault, Refused};
use super::stored_object::{StoredObject, parse};

/// The record of a ConfigMap: `data` and `binaryData` in one.
///
/// # Errors
/// When the object is no ConfigMap.
pub fn config_map_record(realm: &ClusterName, found: &StoredObject) -> Result<Record, Refused> {
    let object: ConfigMap = parse(realm, "configmaps", found)?;
    let text = object.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
    let binary = object.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
    let data: BTreeMap<_, _> = text.chain(binary).collect();
    record(realm, "configmaps", Kind::CONFIG_MAP_V1, &object.metadata, found, data)
}

/// The record of a Secret: `data`, out of base64.
///
/// # Errors
/// When the object is no Secret.
pub fn secret_record(realm: &ClusterName, found: &StoredObject) -> Result<Record, Refused> {
    let object: Secret = parse(realm, "secrets", found)?;
    let data = object.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect();
    record(realm, "secrets", Kind::SECRET_V1, &object.metadata, found, data)
}

/// Where the record of this object is, if it is a ConfigMap or a Secret.
#[must_use]
pub fn config_record_key(object: &Key) -> Option<RecordKey> {
    let kind = match object.resource.as_str() {
        "configmaps" => Kind::CONFIG_MAP_V1,
        "secrets" => Kind::SECRET_V1,
        _ => return None,
    };
    Some(key(&object.cluster, kind, &object.namespace, &object.name))
}

/// Where the record of a ConfigMap or Secret is.
pub(super) fn key(realm: &ClusterName, kind: Kind, namespace: &str, name: &str) -> RecordKey {
    RecordKey { realm: realm.clone(), kind, key: format!("{namespace}/{name}") }
}

fn record(
    realm: &ClusterName,
    resource: &'static str,
    kind: Kind,
    meta: &ObjectMeta,
    found: &StoredObject,
    data: BTreeMap<String, Vec<u8>>,
) -> Result<Record, Refused> {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let key = key(realm, kind, &text(&meta.namespace), &text(&meta.name));
    let body = ConfigV1 { data: data.into_iter().collect() };
    Record::new(key, found.revision, 0, &body)
        .map_err(|error| Fault::malformed(error).of(realm, resource, meta))
}

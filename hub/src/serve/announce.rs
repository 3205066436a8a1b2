//! Where clients find out how to reach this hub: ConfigMap `kube-public/freewheel-hub`.

use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{Actor, ObjectRef, Objects, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use serde_json::json;

use crate::token::HUB_INFO;

/// Namespaces are made by their controller, which has just been started.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(10);
const ANNOUNCE_RETRY_EVERY: Duration = Duration::from_millis(20);

/// Writes the address of the link, once kube-public is there.
///
/// # Errors
/// When it cannot be written in time.
pub async fn write(objects: &Objects, link: &str) -> Result<(), ApiError> {
    let deadline = tokio::time::Instant::now() + ANNOUNCE_TIMEOUT;
    loop {
        match once(objects, link).await {
            Err(error) if error.code == 404 && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(ANNOUNCE_RETRY_EVERY).await;
            }
            other => return other,
        }
    }
}

async fn once(objects: &Objects, link: &str) -> Result<(), ApiError> {
    let kind = kinds::find("", "v1", "configmaps")
        .ok_or_else(|| ApiError::internal("there are no ConfigMaps"))?;
    let place = ObjectRef {
        kind: kind.clone(),
        cluster: ClusterName::root(),
        namespace: "kube-public".into(),
        name: HUB_INFO.into(),
    };
    let how = WriteOptions::by(Actor::Hub);
    let change = |old: Option<serde_json::Value>| {
        let mut value = old.unwrap_or_else(|| json!({}));
        value["data"] = json!({"link": link});
        Ok(value)
    };
    objects.create_or_modify(&how, &place, change).await.map(drop)
}

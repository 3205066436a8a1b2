//! Where clients find out how to reach this hub: ConfigMap `kube-public/freewheel-hub`.
//!
//! Guarantees:
//! - whatever keeps it from being written, the hub runs and tries again, and says what it is
//!   (`a_hub_that_starts_on_a_full_disk_serves_reads_and_heals`).

use std::io;
use std::time::Duration;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{Actor, ObjectRef, Objects, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::names::Names;
use super::tasks::Flag;
use crate::token::HUB_INFO;

/// Before another try, at first and at most. Namespaces are made by their controller, which has just been started.
const ANNOUNCE_RETRY_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_secs(5));
/// What lasts longer than the first tries is no matter of starting.
const ANNOUNCE_TOLD_AFTER: Duration = Duration::from_secs(1);

/// Writes the address of the link as soon as it can be; from then on `written` holds.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn keep(
    objects: Objects,
    names: Names,
    written: Flag,
    stop: CancellationToken,
) -> io::Result<()> {
    let announced = async {
        until_written(&objects, &names.link).await;
        written.set(true);
        names.log_addresses();
        stop.cancelled().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = announced => {}
    }
    Ok(())
}

async fn until_written(objects: &Objects, link: &str) {
    let (mut pause, mut warned) = (ANNOUNCE_RETRY_FIRST_AND_MAX.0, false);
    while let Err(error) = once(objects, link).await {
        if ANNOUNCE_TOLD_AFTER <= pause && !warned {
            warn!(%error, "what clients need to find the hub cannot be written; trying again");
            warned = true;
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(ANNOUNCE_RETRY_FIRST_AND_MAX.1);
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

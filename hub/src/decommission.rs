//! `hub decommission`: devices that are never let in again and wipe what they hold, and what has become of them.
//!
//! The order comes first and the ManagedCluster goes after it, so that who is killed in between has only to say it again.

use freewheel_hub_api::device_orders::Wipe;

use crate::cli::DecommissionOptions;
use crate::client::Client;
use crate::devices::{self, DeviceError};

/// Decommissions every name; without any, says what became of all that were.
///
/// # Errors
/// When there is no such device, or the hub refuses.
pub async fn run(options: DecommissionOptions) -> Result<(), DeviceError> {
    let client = Client::new(options.kubeconfig.as_deref())?;
    if options.names.is_empty() {
        say(devices::wipes(&client, None).await?);
    }
    for name in &options.names {
        say(decommission(&client, name).await?);
    }
    Ok(())
}

async fn decommission(client: &Client, name: &str) -> Result<Vec<Wipe>, DeviceError> {
    let Some(device) = devices::find(client, name).await? else {
        let known = devices::wipes(client, Some(name)).await?;
        let unknown = || DeviceError::Unknown(name.to_owned());
        return if known.is_empty() { Err(unknown()) } else { Ok(known) };
    };
    let key = device.key.as_ref().ok_or_else(|| DeviceError::Unjoined(name.to_owned()))?;
    let wipe = devices::wipe(client, name, key).await?;
    if !device.going {
        devices::delete(client, &device).await?;
    }
    Ok(vec![wipe])
}

fn say(mut wipes: Vec<Wipe>) {
    wipes.sort_by(|a, b| (&a.cluster, &a.ordered_at).cmp(&(&b.cluster, &b.ordered_at)));
    wipes.iter().for_each(|wipe| println!("{}", wipe.standing()));
}

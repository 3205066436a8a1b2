//! The last word of a device that is decommissioned: all that it held is wiped, but for what is not its own.
//!
//! Guarantees:
//! - a receipt is of the key that the order is for, and of no other word that it has ever signed
//!   (`a_receipt_is_signed_by_the_key_for_this_very_order`).

use freewheel_hub_api::device_orders::Order;
use freewheel_hub_objects::Objects;
use freewheel_hub_pki::{Request, VerifiedRequest};
use freewheel_link::join::{JoinRefusal, WipedV1};
use tracing::info;

use crate::device_orders;
use crate::joining::Refusal;

/// Keeps the receipt of a device that has wiped what it held.
pub(crate) async fn take(objects: &Objects, receipt: &WipedV1) -> Result<(), Refusal> {
    let odd = |text: &str| Refusal(JoinRefusal::Request, text.to_owned());
    let request = VerifiedRequest::read(&receipt.csr).map_err(|error| odd(&error.to_string()))?;
    let key = request.fingerprint();
    let Some(Order::Wipe(wipe)) = device_orders::find(objects, &key) else {
        let text = "there is no order for this key".to_owned();
        return Err(Refusal(JoinRefusal::Unknown, text));
    };
    let request = Request::read(&receipt.csr).map_err(|error| odd(&error.to_string()))?;
    let (names, _) = request.claims().map_err(|error| odd(&error.to_string()))?;
    if names != [WipedV1::statement(&wipe.id, &receipt.left)] {
        return Err(odd("what is signed is no receipt of this key's order"));
    }
    device_orders::note_wiped(objects, &key, &receipt.left).await?;
    let (cluster, left) = (wipe.cluster, &receipt.left);
    info!(cluster, %key, left, "a decommissioned device has wiped what it held");
    Ok(())
}

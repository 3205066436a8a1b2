//! Taking objects under control and letting them go.
//!
//! Guarantees:
//! - who is on its way out adopts nobody (`claims`);
//! - an object keeps its other owners when it is adopted (`an_adopted_set_keeps_its_other_owners`).
//!
//! An object is adopted only as it was read.

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Owner;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use crate::engine::Client;

/// Whether a reference names an object of this kind, of whichever version.
pub(crate) fn is_a(owner: &Owner, kind: &Kind) -> bool {
    let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    owner.kind == kind.kind() && group == kind.group()
}

/// The reference of an object to its controller.
pub(crate) fn owner_reference(kind: &Kind, owner: &Stored) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.kind(), "name": &*owner.key.name,
        "uid": owner.object.header.uid, "controller": true, "blockOwnerDeletion": true,
    })
}

/// Makes the owner the orphan's controller; the orphan as it is then, `None` when the owner is on its way out.
///
/// # Errors
/// 404 and 409 when the orphan went or changed meanwhile.
pub(crate) async fn adopt(
    client: &Client,
    (owner_kind, owner): (&Kind, &Stored),
    (kind, orphan): (&Arc<Kind>, &Stored),
) -> Result<Option<Arc<Stored>>, ApiError> {
    if !client.stays(owner) {
        return Ok(None);
    }
    let reference = owner_reference(owner_kind, owner);
    let adopted = client
        .modify_at(kind, orphan, None, |mut value| {
            match &mut value["metadata"]["ownerReferences"] {
                Value::Array(list) => list.push(reference.clone()),
                other => *other = json!([reference.clone()]),
            }
            Ok(value)
        })
        .await;
    adopted.map(|written| Some(written.stored))
}

/// Takes the owner with this UID off an object that is no longer its own; that it is gone is fine.
pub(crate) async fn release(
    client: &Client,
    uid: &Uid,
    (kind, object): (&Arc<Kind>, &Stored),
) -> Result<(), ApiError> {
    let released = client
        .modify_this(kind, object, None, |mut value| {
            if let Some(list) = value["metadata"]["ownerReferences"].as_array_mut() {
                list.retain(|o| o["uid"] != *uid);
            }
            Ok(value)
        })
        .await;
    match released {
        Err(gone) if gone.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

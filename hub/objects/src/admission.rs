//! Admission: what else must be there for an object to be let in, whoever writes it.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::object::{Key, Resource};
use serde_json::Value;

use super::{Place, meta, namespace, refusal};
use freewheel_hub_store::{Snapshot, Store};

/// The account that a controller gives to every namespace. It may come a moment after the namespace, so
/// nobody waits for it.
const EVERYWHERE: &str = "default";

/// Lets a new object in.
pub(super) fn of_new(store: &dyn Store, place: &Place, new: &mut Value) -> Result<(), ApiError> {
    if let Some(account) = place.kind.strategy.account(new) {
        let snapshot = store.snapshot();
        namespace::admit(&*snapshot, place)?;
        find_account(&*snapshot, place, account).map_err(|why| forbidden(place, new, &why))?;
    }
    place.kind.strategy.admit(new, None).map_err(|why| forbidden(place, new, &why))
}

/// Lets a change through the main door in.
pub(super) fn of_change(place: &Place, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    place.kind.strategy.admit(new, Some(old)).map_err(|why| forbidden(place, new, &why))
}

fn find_account(snapshot: &dyn Snapshot, place: &Place, account: &str) -> Result<(), String> {
    let accounts = Resource::new("", "serviceaccounts");
    let key = Key::new(&accounts, &place.cluster, &place.namespace, account);
    if account == EVERYWHERE || snapshot.get(&key).is_some() {
        return Ok(());
    }
    let namespace = &place.namespace;
    Err(format!(
        "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
    ))
}

/// 403 about an object that may have no name yet.
fn forbidden(place: &Place, object: &Value, why: &str) -> ApiError {
    let names =
        [place.name.as_str(), meta::text(object, "name"), meta::text(object, "generateName")];
    let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
    refusal::forbidden(&Place { name: name.to_owned(), ..place.clone() }, why)
}

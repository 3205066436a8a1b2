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

use crate::engine::{Client, Error};
use crate::index::{Entry, Index, controlled_or_adoptable};
use crate::pods::controller_of;
use crate::selector::Selector;

/// What to do about an object of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the owner's.
    Mine,
    /// It matches and nobody controls it.
    Adopt,
    /// It is the owner's but does not match any more.
    Release,
    /// None of the owner's business.
    Ignore,
}

/// Whose object is it?
#[must_use]
pub(crate) fn claim(
    controller: Option<&Uid>,
    deleting: bool,
    matches: bool,
    uid: &Uid,
    owner_deleting: bool,
) -> Claim {
    match controller {
        Some(owner) if owner != uid => Claim::Ignore,
        Some(_) if matches => Claim::Mine,
        Some(_) if owner_deleting || deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if matches && !owner_deleting && !deleting => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// For those whose name says nothing.
pub(crate) fn any(_: &Stored) -> bool {
    true
}

/// The owner's objects of an index at this moment, after adopting and releasing; its own match its selector and may
/// be its own by `belongs`, which most are.
///
/// # Errors
/// When one cannot be written, unless it changed or went meanwhile: its event brings the owner back.
pub(crate) async fn claimed<C: Entry>(
    client: &Client,
    (owner_kind, owner): (&Kind, &Stored),
    (kind, index): (&Arc<Kind>, &Index<C>),
    selector: &Selector,
    belongs: impl Fn(&Stored) -> bool + Send,
) -> Result<Vec<Arc<C>>, Error> {
    let (uid, going) = (&owner.object.header.uid, owner.object.header.deleting);
    let mut mine = Vec::new();
    for entry in controlled_or_adoptable(index, owner, selector) {
        let stored: &Stored = entry.stored();
        let header = &stored.object.header;
        let matches = selector.matches(&header.labels) && belongs(stored);
        match claim(controller_of(stored), header.deleting, matches, uid, going) {
            Claim::Mine => mine.push(entry),
            Claim::Ignore => {}
            Claim::Adopt => match adopt(client, (owner_kind, owner), (kind, stored)).await {
                Ok(adopted) => mine.extend(adopted.map(|stored| Arc::new(C::read(stored)))),
                Err(race) if race.code == 404 || race.code == 409 => {}
                Err(other) => return Err(Error::api("adopt an object")(other)),
            },
            Claim::Release => {
                let released = release(client, uid, (kind, stored)).await;
                released.map_err(Error::api("release an object"))?;
            }
        }
    }
    Ok(mine)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let (u, v) = (&Uid::from("u"), &Uid::from("v"));
        assert_eq!(claim(None, false, true, u, false), Claim::Adopt);
        assert_eq!(claim(None, false, true, u, true), Claim::Ignore, "a dying set adopts nothing");
        assert_eq!(claim(None, true, true, u, false), Claim::Ignore, "a dying pod is not adopted");
        assert_eq!(claim(None, false, false, u, false), Claim::Ignore);
        assert_eq!(claim(Some(u), false, true, u, false), Claim::Mine);
        assert_eq!(claim(Some(u), false, false, u, false), Claim::Release);
        assert_eq!(claim(Some(v), false, true, u, false), Claim::Ignore);
    }
}

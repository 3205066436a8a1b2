//! How many pods the controllers of some pods ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Owner;
use freewheel_hub_store::Stored;

use crate::control::is_a;
use crate::engine::Client;
use crate::engine::client::key as key_of;
use crate::index::PodEntry;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    /// Of all controllers together.
    pub(super) wanted: i32,
    /// Whether there are pods without a controller, which count nowhere.
    pub(super) has_unmanaged: bool,
}

/// Asks each controller once.
///
/// # Errors
/// Why it cannot be told, for people: a controller that is gone, or of a kind without a scale.
pub(super) fn of_pods(client: &Client, pods: &[Arc<PodEntry>]) -> Result<Scale, String> {
    let (mut scale, mut known) = (Scale::default(), BTreeMap::new());
    for pod in pods {
        let header = &pod.stored.object.header;
        let Some(owner) = header.owners.iter().find(|owner| owner.controller) else {
            scale.has_unmanaged = true;
            continue;
        };
        if known.contains_key(&owner.uid) {
            continue;
        }
        let name = &pod.stored.key.name;
        let found = top(client, &pod.stored, owner)?;
        let (kind, controller) =
            found.ok_or_else(|| format!("found no controllers for pod {name:?}"))?;
        let uid = controller.object.header.uid.clone();
        // Several sets may be one Deployment's.
        known.insert(owner.uid.clone(), 0);
        known.insert(uid, replicas(&kind, &controller));
    }
    scale.wanted = known.into_values().fold(0, i32::saturating_add);
    Ok(scale)
}

/// An object with its kind.
type Found = (Arc<Kind>, Arc<Stored>);

/// The controller that says how many, with its kind: a set's Deployment in place of the set.
fn top(client: &Client, owned: &Stored, owner: &Owner) -> Result<Option<Found>, String> {
    let Some((kind, set)) = find(client, owned, owner)? else { return Ok(None) };
    let above = set.object.header.owners.iter().find(|owner| owner.controller);
    let above = above.filter(|above| kind.scaled_by.is_some_and(|by| above.kind == by));
    if let Some(above) = above
        && let Ok(Some((kind, deployment))) = find(client, &set, above)
        && is_a(above, &kind)
    {
        return Ok(Some((kind, deployment)));
    }
    Ok(Some((kind, set)))
}

/// What a reference of this object names, if it is that very one.
fn find(client: &Client, owned: &Stored, owner: &Owner) -> Result<Option<Found>, String> {
    let registry = client.registry(&owned.key.cluster);
    let (version, name) = (&owner.api_version, &owner.kind);
    let kind = registry.by_kind(version, name);
    let kind =
        kind.ok_or_else(|| format!("no matches for kind {name:?} in version {version:?}"))?;
    if kind.subresource_named("scale").is_none() {
        let dot = if kind.group().is_empty() { "" } else { "." };
        let (plural, group) = (kind.plural(), kind.group());
        return Err(format!("{plural}{dot}{group} does not implement the scale subresource"));
    }
    let key = key_of(kind, &owned.key.cluster, &owned.key.namespace, &owner.name);
    let found = client.snapshot().get(&key);
    let found = found.filter(|found| found.object.header.uid == owner.uid);
    Ok(found.map(|found| (kind.clone(), found)))
}

fn replicas(kind: &Kind, controller: &Stored) -> i32 {
    const USUAL: &str = "/spec/replicas";
    let path = kind.strategy.scale().map_or(USUAL, |paths| &*paths.wanted);
    let value = controller.object.value().ok();
    let count = value.and_then(|value| value.pointer(path)?.as_i64());
    count.and_then(|count| i32::try_from(count).ok()).unwrap_or_default()
}

//! What a ClusterManagementAddOn asks for.

use std::sync::Arc;

use freewheel_hub_fleet::rollout::{Settings, Strategy};
use freewheel_hub_store::{Event, Stored};
use serde_json::Value;

const LIFECYCLE: &str = "addon.open-cluster-management.io/lifecycle";
const PLACEMENTS: &str = "/spec/installStrategy/placements";

/// Whether this hub looks after an add-on, and nobody else.
pub(super) fn is_managed(add_on: &Value) -> bool {
    let said = &add_on["metadata"]["annotations"][LIFECYCLE];
    said.is_null() || said == "addon-manager"
}

/// Whether it asks for something else now, or is another one. How far it says that it is changes with each of its clusters.
pub(super) fn asks_for_something_else(event: &Event) -> bool {
    let asked = |stored: &Option<Arc<Stored>>| {
        let stored = stored.as_ref()?;
        let object = stored.object.value().ok()?;
        let header = &stored.object.header;
        let annotations = object["metadata"]["annotations"].clone();
        Some((header.uid.clone(), header.generation, header.deleting, annotations))
    };
    asked(&event.before) != asked(&event.now)
}

/// Whether placements say where it is.
pub(super) fn is_by_placements(object: &Value) -> bool {
    object["spec"]["installStrategy"]["type"] == "Placements"
}

/// The placements that say it.
pub(super) fn asked_placements(object: &Value) -> impl Iterator<Item = &Value> {
    let all = object.pointer(PLACEMENTS).filter(|_| is_by_placements(object));
    all.and_then(Value::as_array).into_iter().flatten()
}

/// What was said of a placement before.
pub(super) fn said_of<'a>(object: &'a Value, namespace: &str, name: &str) -> &'a Value {
    static NOTHING: Value = Value::Null;
    let mut all = object["status"]["installProgressions"].as_array().into_iter().flatten();
    all.find(|it| it["namespace"] == namespace && it["name"] == name).unwrap_or(&NOTHING)
}

/// Who says nothing of how many at a time has as many as the Placement has in a group.
pub(super) fn put_concurrency(strategy: &mut Strategy, per_group: Value) {
    let settings = strategy.progressive.get_or_insert_with(Settings::default);
    let is_unset = matches!(&settings.max_concurrency, Value::Null)
        || settings.max_concurrency == 0
        || settings.max_concurrency == "";
    if is_unset {
        settings.max_concurrency = per_group;
    }
}

//! What an object's images stand for: looked up and written by the hub alone.
//!
//! Guarantees:
//! - who writes an object, through whichever door, changes nothing of it, and is told so
//!   (`what_images_stand_for_is_written_by_the_hub_alone`).

use freewheel_hub_api::pins::{RESOLVED, has_pins, settle, take_off};
use freewheel_hub_schema::kind::{Kind, Trait};
use serde_json::Value;

use super::WriteOptions;

/// Takes out, or puts back, what the writer has no say in; texts for `Warning:` headers.
pub(super) fn keep(
    how: &WriteOptions,
    kind: &Kind,
    new: &mut Value,
    old: Option<&Value>,
) -> Vec<String> {
    let mut wrote = Vec::new();
    let template = new.get_mut("spec").and_then(|spec| spec.get_mut("template"));
    let in_template = template.is_some_and(take_off);
    if in_template {
        wrote.push("spec.template.metadata");
    }
    if has_pins(kind) {
        if !how.actor.knows_images() && settle(new, old) {
            wrote.push("metadata");
        }
    } else if kind.has(Trait::CountsAnnotations) {
        // `kubectl rollout undo` brings it from the set; it is about that set alone.
        take_off(new);
    }
    let said = |at: &str| {
        format!(
            "{at}.annotations[{RESOLVED}]: what images stand for is looked up by the hub, and this is left out"
        )
    };
    wrote.into_iter().map(said).collect()
}

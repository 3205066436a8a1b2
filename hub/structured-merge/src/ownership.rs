//! The way in: what a write does to `metadata.managedFields`.
//!
//! ```text
//! created, updated, patched ─ tracked ─▶ the object, with who owns what
//! applied ─────────────────── applied ─▶ the object that comes of it, with who owns what, or why not
//! ```
//!
//! Guarantees:
//! - who sends back what it was sent keeps all owners, and who sends an empty list takes them all away
//!   (`owners_are_kept_and_may_be_reset`);
//! - what is applied again changes nothing (`what_is_applied_again_changes_nothing`).

use freewheel_hub_schema::types::{Typed, canonicalise};
use serde_json::{Value, json};

use crate::apply::{Applied, apply};
use crate::atom::TypeRef;
use crate::conflict::NotApplied;
use crate::last_applied;
use crate::managers::{Manager, Managers, Operation};
use crate::mistakes;
use crate::track::{Writing, track};
use crate::unset::with_unset;

/// Who owns what was there before anything was applied to an object that nobody tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// By which door an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourcePart {
    /// The object itself, whose owners may be said, too.
    Main,
    /// A part of it.
    Subresource,
}

/// Says in `new`, which was `old`, who owns what now. A new object has no `old`.
pub fn tracked(
    typed: Typed<'_>,
    part: ResourcePart,
    old: Option<&Value>,
    new: &mut Value,
    writing: &Writing<'_>,
) {
    let (said, stored) = (take_list(new), old.and_then(list));
    let managers = match said {
        // What comes back as it went out, most of all.
        Some(said) if Some(&said) == stored => Managers::stored(Some(said)),
        Some(said) if part == ResourcePart::Main && is_reset(&said) => Managers::default(),
        // Who does not know owners does not take them away.
        Some(said) if part == ResourcePart::Main => Managers::from_client(Some(said))
            .ok()
            .filter(|said| !said.is_empty())
            .unwrap_or_else(|| Managers::stored(stored.cloned())),
        Some(_) | None => Managers::stored(stored.cloned()),
    };
    // Nobody began to track it, or somebody has ended that.
    if managers.is_empty() && old.is_some() {
        return;
    }
    let managers = match old {
        Some(old) => track(old, new, root(typed), managers, writing),
        None => track(&empty(typed), new, root(typed), managers, writing),
    };
    put_list(new, managers);
}

/// The object that comes of `config` laid over `live`, with who owns what. A new object has no `live`.
///
/// # Errors
/// When it is no such object, does not fit its schema, or others own what it would change.
pub fn applied(
    typed: Typed<'_>,
    live: Option<&Value>,
    config: &Value,
    writing: &Writing<'_>,
    force: bool,
) -> Result<Value, NotApplied> {
    check(typed, config)?;
    let mut managers = Managers::stored(live.and_then(list).cloned());
    let new = live.is_none();
    let live = live.cloned().unwrap_or_else(|| empty(typed));
    if managers.is_empty() && !new {
        let manager = Manager {
            name: BEFORE_FIRST_APPLY.to_owned(),
            operation: Operation::Update,
            ..writing.manager.clone()
        };
        let before = Writing { manager: &manager, ..*writing };
        managers = track(&empty(typed), &live, root(typed), managers, &before);
    }
    check_fits(typed, config, false).map_err(|why| does_not_fit("patch", typed, config, &why))?;
    check_fits(typed, &live, true).map_err(|why| does_not_fit("live", typed, &live, &why))?;
    let held = with_unset(&live, root(typed));
    let done = apply(&held, config, root(typed), managers.clone(), writing, force);
    let is_kubectl = writing.manager.name == last_applied::KUBECTL;
    let done = match done {
        Err(conflicts) if is_kubectl => {
            let version = typed.api_version();
            let left = last_applied::conflicts_left(conflicts, &held, root(typed), &version);
            if left.is_empty() {
                apply(&held, config, root(typed), managers, writing, true)
            } else {
                Err(left)
            }
        }
        done => done,
    };
    let Applied { object, managers } = done.map_err(NotApplied::Conflicts)?;
    let mut object = object.unwrap_or(live);
    drop(take_list(&mut object));
    put_list(&mut object, managers);
    if is_kubectl {
        last_applied::follow(&mut object, config);
    }
    Ok(object)
}

/// Whether two lists of owners say the same but for when.
#[must_use]
pub fn same_but_for_times(a: Option<&Value>, b: Option<&Value>) -> bool {
    let (Some(Value::Array(a)), Some(Value::Array(b))) = (a, b) else { return a == b };
    let timeless = |entry: &Value| {
        entry.as_object().map(|map| map.len() - usize::from(map.contains_key("time")))
    };
    let same = |a: &Value, b: &Value| {
        let fields = a.as_object().into_iter().flatten().filter(|(key, _)| *key != "time");
        timeless(a) == timeless(b)
            && fields.into_iter().all(|(key, value)| b.get(key) == Some(value))
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

pub(crate) fn root(typed: Typed<'_>) -> TypeRef<'_> {
    typed.facts.map_or(TypeRef::Deduced, TypeRef::Object)
}

/// What Go makes of a kind before anything is said of it.
fn empty(typed: Typed<'_>) -> Value {
    let mut value = json!({});
    // Nothing of nothing is wrong.
    let _ = canonicalise(&mut value, typed);
    value
}

fn list(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn take_list(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

fn put_list(object: &mut Value, managers: Managers) {
    if let Some(list) = managers.write()
        && let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        meta.insert("managedFields".to_owned(), list);
    }
}

/// An empty list, or one of one empty entry.
fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(one)]) => one.is_empty(),
        Some(_) | None => false,
    }
}

fn check(typed: Typed<'_>, config: &Value) -> Result<(), NotApplied> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") != typed.api_version() || text("kind") != typed.kind {
        let version = text("apiVersion");
        let slash = if version.contains('/') { "" } else { "/" };
        let why = format!("invalid object type: {slash}{version}, Kind={}", text("kind"));
        return Err(NotApplied::BadRequest(why));
    }
    if list(config).is_some_and(|list| !list.is_null()) {
        return Err(NotApplied::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    Ok(())
}

pub(crate) fn check_fits(
    typed: Typed<'_>,
    object: &Value,
    allow_duplicates: bool,
) -> Result<(), String> {
    mistakes::of(object, root(typed), allow_duplicates).message().map_or(Ok(()), Err)
}

fn does_not_fit(which: &str, typed: Typed<'_>, object: &Value, why: &str) -> NotApplied {
    let meta = |key: &str| {
        object.get("metadata").and_then(|meta| meta.get(key)?.as_str()).unwrap_or_default()
    };
    let (namespace, name) = (meta("namespace"), meta("name"));
    let (group, version, kind) = (typed.group, typed.version, typed.kind);
    NotApplied::DoesNotFit(format!(
        "failed to create typed {which} object ({namespace}/{name}; {group}/{version}, Kind={kind}): {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: (&str, &str, &str) = ("", "v1", "ConfigMap");

    fn manager(name: &str, operation: Operation) -> Manager {
        let (name, subresource) = (name.to_owned(), String::new());
        Manager { name, operation, api_version: "v1".to_owned(), subresource }
    }

    fn write(name: &str, old: Option<&Value>, mut new: Value, second: u32) -> Value {
        let manager = manager(name, Operation::Update);
        let now = format!("2026-01-01T00:00:{second:02}Z");
        let writing = Writing { manager: &manager, reset: &[], now: &now };
        tracked(KIND.into(), ResourcePart::Main, old, &mut new, &writing);
        new
    }

    fn lay(
        name: &str,
        live: Option<&Value>,
        data: &Value,
        force: bool,
    ) -> Result<Value, NotApplied> {
        let manager = manager(name, Operation::Apply);
        let writing = Writing { manager: &manager, reset: &[], now: "2026-01-01T01:00:00Z" };
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
        applied(KIND.into(), live, &config, &writing, force)
    }

    fn config_map(data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "uid": "u"}, "data": data})
    }

    fn owned(object: &Value) -> Vec<(String, Value)> {
        let all = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let all = all.into_iter().map(|one| {
            (one["manager"].as_str().unwrap_or_default().to_owned(), one["fieldsV1"].clone())
        });
        all.collect()
    }

    #[test]
    fn who_changes_a_field_owns_it() {
        let first = write("a", None, config_map(&json!({"x": "1", "y": "1"})), 1);
        assert_eq!(
            owned(&first),
            [("a".into(), json!({"f:data": {".": {}, "f:x": {}, "f:y": {}}}))]
        );
        let mut next = first.clone();
        next["data"] = json!({"x": "2", "z": "1"});
        let second = write("b", Some(&first), next, 2);
        assert_eq!(
            owned(&second),
            [
                ("a".into(), json!({"f:data": {}})),
                ("b".into(), json!({"f:data": {"f:x": {}, "f:z": {}}})),
            ]
        );
        assert_eq!(second["metadata"]["managedFields"][1]["time"], "2026-01-01T00:00:02Z");
    }

    #[test]
    fn what_nobody_tracks_stays_untracked() {
        let untracked = config_map(&json!({"x": "1"}));
        assert!(owned(&write("a", Some(&untracked), config_map(&json!({"x": "2"})), 1)).is_empty());
        let first = write("a", None, config_map(&json!({"x": "1"})), 1);
        assert_eq!(write("b", Some(&first), first.clone(), 2), first);
    }

    #[test]
    fn owners_are_kept_and_may_be_reset() {
        let first = write("a", None, config_map(&json!({"x": "1"})), 1);
        let silent = write("b", Some(&first), config_map(&json!({"x": "1"})), 2);
        assert_eq!(owned(&silent), owned(&first));
        let mut reset = first.clone();
        reset["metadata"]["managedFields"] = json!([]);
        assert!(owned(&write("b", Some(&first), reset.clone(), 2)).is_empty());
        reset["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "no"}]);
        assert_eq!(owned(&write("b", Some(&first), reset, 2)), owned(&first));
    }

    #[test]
    fn what_others_own_is_a_conflict() {
        let first = lay("a", None, &json!({"x": "1", "y": "1"}), false).unwrap();
        let error = lay("b", Some(&first), &json!({"x": "2"}), false).unwrap_err();
        let error = freewheel_hub_schema::error::ApiError::from(error);
        assert_eq!(error.message, r#"Apply failed with 1 conflict: conflict with "a": .data.x"#);
        let forced = lay("b", Some(&first), &json!({"x": "2"}), true).unwrap();
        assert_eq!(forced["data"], json!({"x": "2", "y": "1"}));
        assert_eq!(
            owned(&forced),
            [
                ("a".into(), json!({"f:data": {"f:y": {}}})),
                ("b".into(), json!({"f:data": {"f:x": {}}})),
            ]
        );
    }

    #[test]
    fn many_conflicts_in_long_names_are_told_in_short() {
        let long = "x".repeat(10_000);
        let data = |value: &str| (0..1_000).map(|n| (format!("{long}{n}"), json!(value))).collect();
        let first = lay("a", None, &data("0"), false).unwrap();
        let error = lay("b", Some(&first), &data("1"), false).unwrap_err();
        let error = freewheel_hub_schema::error::ApiError::from(error);
        let text = &error.message;
        assert!(
            text.starts_with(
                "Apply failed with 1000 conflicts: conflicts with \"a\":\n- .data.xxx"
            )
        );
        assert!(text.ends_with("and 800 more") && text.len() < 1 << 20, "{}", text.len());
        assert_eq!(error.details.unwrap().causes.len(), 200);
    }

    #[test]
    fn what_is_left_out_goes() {
        let first = lay("a", None, &json!({"x": "1", "y": "1"}), false).unwrap();
        let second = lay("b", Some(&first), &json!({"y": "1"}), false).unwrap();
        let third = lay("a", Some(&second), &json!({}), false).unwrap();
        assert_eq!(third["data"], json!({"y": "1"}));
    }

    #[test]
    fn what_is_applied_again_changes_nothing() {
        let first = lay("a", None, &json!({"x": "1"}), false).unwrap();
        assert_eq!(lay("a", Some(&first), &json!({"x": "1"}), false).unwrap(), first);
        let second = lay("b", Some(&first), &json!({"x": "1"}), false).unwrap();
        assert!(second["metadata"]["managedFields"][0].get("time").is_none(), "{second}");
        assert!(!same_but_for_times(list(&first), list(&second)));
    }
}

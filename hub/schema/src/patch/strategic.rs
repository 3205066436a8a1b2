//! Strategic merge as apimachinery's strategicpatch does it.
//!
//! ```text
//! $patch: replace | delete             in a map or a list's element
//! $retainKeys: [..]                    every other key of the map goes
//! $setElementOrder/LIST: [..]          order of a merged list
//! $deleteFromPrimitiveList/LIST: [..]  values that go
//! ```

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::order::{arrange, identity, places};
use crate::types::TypeFacts;
use crate::types::table::{Field, Shape};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

const BAD_ORDER: &str = "invalid patch format of setElementOrder list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_PRIMITIVES: &str = "invalid patch format of primitive list";

type Object = Map<String, Value>;

/// What is known of the place where the merge is.
#[derive(Clone, Copy)]
enum MergeTarget<'a> {
    Struct(TypeFacts<'a>),
    /// A map's values are merged like any JSON.
    Free,
}

impl<'a> MergeTarget<'a> {
    fn field(self, name: &str) -> Result<Option<&'a Field>, String> {
        match self {
            Self::Free => Ok(None),
            Self::Struct(one) => one.of_type().field(name).map(Some).ok_or_else(|| {
                let name = format!("{name:?}");
                format!(
                    "unable to find api field in struct {} for the json field {name}",
                    one.short_name()
                )
            }),
        }
    }

    /// Where the value of one of its fields, or the elements of the field's list, are.
    fn inside(self, field: Option<&Field>) -> Self {
        let (Self::Struct(one), Some(field)) = (self, field) else { return Self::Free };
        let shape = match &field.shape {
            Shape::List(inner) => inner,
            shape => shape,
        };
        if let Shape::Object(id) = shape { Self::Struct(one.at(*id)) } else { Self::Free }
    }
}

/// Merges a patch into a document of the given type.
pub(crate) fn merge(original: Object, patch: Object, one: TypeFacts<'_>) -> Result<Object, String> {
    merge_map(original, patch, MergeTarget::Struct(one))
}

fn merge_map(
    mut original: Object,
    mut patch: Object,
    place: MergeTarget<'_>,
) -> Result<Object, String> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => Err(format!("unknown patch type: {directive} in map: {}", Value::Object(patch))),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, place)?;
    for (key, value) in patch {
        match key.strip_prefix(DELETE_FROM) {
            Some(list) => delete_from(&mut original, list, &value)?,
            None => merge_key(&mut original, key, value, place)?,
        }
    }
    Ok(original)
}

fn merge_key(
    original: &mut Object,
    key: String,
    value: Value,
    place: MergeTarget<'_>,
) -> Result<(), String> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let field = place.field(&key)?;
            if field.is_some_and(|field| field.merge.replace) {
                Some(Value::Object(new))
            } else {
                Some(Value::Object(merge_map(old, new, place.inside(field))?))
            }
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let field = place.field(&key)?;
            Some(Value::Array(merge_list_field(old, new, field, place)?))
        }
        // It is new, or of another type: the patch's value as it is.
        (_, value) => without_directives(without_nulls(value)),
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

fn merge_list_field(
    old: Vec<Value>,
    new: Vec<Value>,
    field: Option<&Field>,
    place: MergeTarget<'_>,
) -> Result<Vec<Value>, String> {
    match field.filter(|field| field.merge.merge) {
        Some(field) => merge_list(old, new, field.merge.key.as_deref(), place.inside(Some(field))),
        None => Ok(new),
    }
}

fn merge_list(
    old: Vec<Value>,
    new: Vec<Value>,
    key: Option<&str>,
    place: MergeTarget<'_>,
) -> Result<Vec<Value>, String> {
    let maps = old.iter().chain(&new).filter(|item| item.is_object()).count();
    if maps == 0 {
        return merge_scalars(old, new);
    }
    if maps != old.len() + new.len() {
        return Err("list element types are not identical".to_owned());
    }
    let Some(key) = key else {
        return Err("cannot merge lists without merge key".to_owned());
    };
    let (old, new) = special_elements(old, new, key)?;
    let was = old.iter().map(|item| only_key(item, key)).collect::<Vec<_>>();
    let wanted = new.iter().map(|item| only_key(item, key)).collect::<Vec<_>>();
    let mut merged = old;
    let mut at = places(&merged, Some(key)).or_else(|_| lenient_places(&merged, key))?;
    for item in new {
        let identity = identity(&item, Some(key))?;
        match (at.get(&identity).copied(), item) {
            (Some(found), Value::Object(item)) => {
                let before = merged.get_mut(found).map(Value::take);
                let Some(Value::Object(before)) = before else { continue };
                merged[found] = Value::Object(merge_map(before, item, place)?);
            }
            (_, item) => {
                at.insert(identity, merged.len());
                merged.push(item);
            }
        }
    }
    arrange(merged, &wanted, &was, Some(key))
}

/// Elements of the old list may lack the key; they match nothing.
fn lenient_places(items: &[Value], key: &str) -> Result<HashMap<String, usize>, String> {
    let found = items.iter().enumerate().filter(|(_, item)| item.get(key).is_some());
    let found = found.map(|(place, item)| Ok((identity(item, Some(key))?, place)));
    found.collect()
}

/// An element reduced to what orders it.
fn only_key(item: &Value, key: &str) -> Value {
    let mut out = Object::new();
    if let Some(value) = item.get(key) {
        out.insert(key.to_owned(), value.clone());
    }
    Value::Object(out)
}

fn merge_scalars(old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, String> {
    if old.iter().chain(&new).any(Value::is_array) {
        return Err("lists of lists are not supported".to_owned());
    }
    let (was, wanted) = (old.clone(), new.clone());
    let mut seen = HashSet::new();
    let merged = old.into_iter().chain(new).filter(|item| seen.insert(item.to_string())).collect();
    arrange(merged, &wanted, &was, None)
}

/// Carries out `$patch: delete` and `$patch: replace` among a patch's elements.
fn special_elements(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), String> {
    let mut rest = Vec::with_capacity(new.len());
    let mut deleted = HashSet::new();
    let mut replace = false;
    for item in new {
        let Some(directive) = item.get(DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                deleted.insert(identity(&item, Some(key))?);
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err("merging lists cannot yet be specified in the patch".to_owned());
            }
            _ => return Err(format!("unknown patch type: {directive} in map: {item}")),
        }
    }
    if replace {
        return Ok((rest, Vec::new()));
    }
    if !deleted.is_empty() {
        old.retain(|item| !item.get(key).is_some_and(|value| deleted.contains(&value.to_string())));
    }
    Ok((old, rest))
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), String> {
    let Some(kept) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let kept = kept.as_array().ok_or(BAD_RETAIN_KEYS)?;
    let kept: HashSet<&str> = kept.iter().filter_map(Value::as_str).collect();
    let stray = patch.iter().any(|(key, value)| {
        !value.is_null()
            && !key.starts_with(DELETE_FROM)
            && !key.starts_with(SET_ORDER)
            && !kept.contains(key.as_str())
    });
    if stray {
        return Err(BAD_RETAIN_KEYS.to_owned());
    }
    original.retain(|key, _| kept.contains(key.as_str()));
    Ok(())
}

/// Merges each list that comes with an order, together with that order, and takes both from the patch.
fn merge_ordered_lists(
    original: &mut Object,
    patch: &mut Object,
    place: MergeTarget<'_>,
) -> Result<(), String> {
    let ordered: Vec<String> =
        patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in ordered {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(BAD_ORDER.to_owned());
        };
        let name = directive.strip_prefix(SET_ORDER).unwrap_or_default();
        let as_list = |value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(format!("expected a list at {name}")),
        };
        let field = place.field(name)?;
        let key = field.and_then(|field| field.merge.key.as_deref());
        let new = as_list(patch.remove(name))?;
        let old = as_list(original.remove(name))?;
        check_order(new.as_deref().unwrap_or_default(), &order, key)?;
        // Only the keys decide about the order afterwards.
        let was: Vec<Value> = match key {
            Some(key) => old.iter().flatten().map(|item| only_key(item, key)).collect(),
            None => old.clone().unwrap_or_default(),
        };
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => {
                let Some(Value::Array(items)) = without_directives(Value::Array(new)) else {
                    continue;
                };
                items
            }
            (Some(old), Some(new)) => merge_list_field(old, new, field, place)?,
        };
        // A deletion of primitives comes before the order: what it removes is not in it.
        let merged = match patch.remove(&format!("{DELETE_FROM}{name}")) {
            Some(gone) => without(merged, &gone)?,
            None => merged,
        };
        original.insert(name.to_owned(), Value::Array(arrange(merged, &order, &was, key)?));
    }
    Ok(())
}

/// The patch's elements must come in the order that the patch asks for.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), String> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = identity(item, key)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if identity(candidate, key)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            return Err(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::from(patch.to_vec()),
                Value::from(order.to_vec())
            ));
        }
    }
    Ok(())
}

fn delete_from(original: &mut Object, list: &str, gone: &Value) -> Result<(), String> {
    match original.remove(list) {
        Some(Value::Array(items)) => {
            original.insert(list.to_owned(), Value::Array(without(items, gone)?));
        }
        Some(other) => {
            original.insert(list.to_owned(), other);
        }
        None => {}
    }
    Ok(())
}

fn without(items: Vec<Value>, gone: &Value) -> Result<Vec<Value>, String> {
    let gone = gone.as_array().ok_or(BAD_PRIMITIVES)?;
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    Ok(items.into_iter().filter(|item| !gone.contains(&item.to_string())).collect())
}

/// A value that is taken over as it is must not carry directives along.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(
            map.into_iter()
                .filter_map(|(key, value)| Some((key, without_directives(value)?)))
                .collect(),
        )),
        Value::Array(items) => {
            Some(Value::Array(items.into_iter().filter_map(without_directives).collect()))
        }
        other => Some(other),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

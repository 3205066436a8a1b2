//! Reading JSON objects by pointer, for strategies. What is absent reads as empty.

use std::borrow::Cow;
use std::collections::BTreeMap;

use freewheel_hub_schema::kind::Column;
use freewheel_hub_schema::quantity::Quantity;
use freewheel_hub_schema::time;
use serde_json::{Map, Value};

/// The Name column.
pub(super) const NAME: Column = Column {
    name: Cow::Borrowed("Name"),
    kind: Cow::Borrowed("string"),
    format: Cow::Borrowed("name"),
    description: Cow::Borrowed("Unique within its namespace."),
    priority: 0,
};
/// The Age column.
pub(super) const AGE: Column = column("Age", "string", "Time since its creation.");

/// The Created At column, of kinds that nothing else is shown of.
pub(super) const CREATED_AT: Column = column("Created At", "date", "When it was created.");

/// A column that is always shown.
pub(super) const fn column(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
) -> Column {
    let (name, kind) = (Cow::Borrowed(name), Cow::Borrowed(kind));
    let (format, description) = (Cow::Borrowed(""), Cow::Borrowed(description));
    Column { name, kind, format, description, priority: 0 }
}

/// A column of `-o wide`.
pub(super) const fn wide(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
) -> Column {
    let (name, kind) = (Cow::Borrowed(name), Cow::Borrowed(kind));
    let (format, description) = (Cow::Borrowed(""), Cow::Borrowed(description));
    Column { name, kind, format, description, priority: 1 }
}

/// Text at the pointer.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Text at the pointer, or `instead` when it is empty.
pub(super) fn text_or<'a>(value: &'a Value, pointer: &str, instead: &'a str) -> &'a str {
    let found = text(value, pointer);
    if found.is_empty() { instead } else { found }
}

/// Number at the pointer.
pub(super) fn int(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Flag at the pointer.
pub(super) fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// Items of the list at the pointer.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Entries of the map at the pointer.
pub(super) fn map<'a>(
    value: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// How many entries the map at the pointer has.
pub(super) fn map_len(value: &Value, pointer: &str) -> usize {
    value.pointer(pointer).and_then(Value::as_object).map_or(0, Map::len)
}

/// The map at the pointer as strings.
pub(super) fn strings(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    map(value, pointer)
        .filter_map(|(key, value)| Some((key.to_owned(), value.as_str()?.to_owned())))
        .collect()
}

/// The condition of this type in status.conditions.
pub(super) fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    list(value, "/status/conditions").iter().find(|c| text(c, "/type") == kind)
}

/// metadata.name
pub(super) fn name(value: &Value) -> Value {
    text(value, "/metadata/name").into()
}

/// The Created At cell.
pub(super) fn created_at(value: &Value) -> Value {
    text(value, "/metadata/creationTimestamp").into()
}

/// The Age cell.
pub(super) fn age(value: &Value, now: i64) -> Value {
    time::age(text(value, "/metadata/creationTimestamp"), now).into()
}

/// The object at `key`, made when it is not there; `None` when something else is.
pub(super) fn child<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.as_object_mut()?.entry(key).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Sets `key` unless it is there.
pub(super) fn set_default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), value.into());
    }
}

/// The mutable items of the list under `key`.
pub(super) fn items<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// Items of the list under `key` with their index.
pub(super) fn items_of<'a>(
    value: &'a Value,
    key: &str,
) -> impl Iterator<Item = (usize, &'a Value)> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// Rounds the amounts of the resource list under `key` up to thousandths, as Go's defaults do.
pub(super) fn round_amounts(map: &mut Map<String, Value>, key: &str) {
    let amounts = map.get_mut(key).and_then(Value::as_object_mut);
    for (_, amount) in amounts.into_iter().flatten() {
        if let Some(parsed) = amount.as_str().and_then(|a| a.parse::<Quantity>().ok()) {
            *amount = parsed.rounded_to_milli().to_string().into();
        }
    }
}

//! An object as Go holds it, where what was never set is null or 0: what is stored leaves that out.
//!
//! An apply lays what somebody wrote over what Go holds, and of what is owned as a whole each null counts.

use serde_json::{Map, Value};

use crate::atom::{Form, MapAtom, TypeRef};

/// The object with what Go writes of fields that were never set.
pub(crate) fn with_unset(value: &Value, typed: TypeRef<'_>) -> Value {
    match (typed.resolve().deduce(Some(value)).form(), value) {
        (Form::Map(atom), Value::Object(map)) => Value::Object(of_map(map, &atom)),
        (Form::List(atom), Value::Array(items)) => {
            items.iter().map(|item| with_unset(item, atom.element)).collect()
        }
        (Form::Map(_) | Form::List(_) | Form::Scalar(_) | Form::Nothing, value) => value.clone(),
    }
}

fn of_map(map: &Map<String, Value>, atom: &MapAtom<'_>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, inner) in map {
        // A list that is there in any case, and empty, is none.
        let is_none = inner.as_array().is_some_and(Vec::is_empty) && atom.is_always_there(key);
        let inner = if is_none { Value::Null } else { with_unset(inner, atom.at(key)) };
        out.insert(key.clone(), inner);
    }
    for (key, unset) in atom.unset() {
        if !out.contains_key(key) {
            out.insert(key.to_owned(), unset.clone());
        }
    }
    out
}
